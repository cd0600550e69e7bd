"""The promises of the verdict, held by simulation. Seeds are fixed: a failure is a change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from platehide.experiment.plan import from_assumptions, make_plan
from platehide.experiment.stats import (
    Moments,
    fixed_critical,
    fixed_p_value,
    quantile_bootstrap,
    ratio_effect,
    sample_ratio_p_value,
    sequence_critical,
    sequence_p_value,
)

ALPHA = 0.05
BASELINE, ICC, PHOTOS = 0.2, 0.05, 20
Array = NDArray[np.float64]


def sellers(rng: np.random.Generator, shape: tuple[int, ...], p: float = BASELINE) -> Array:
    """``(*shape, 4)``: contacts and views now, and the same before, of correlated sellers.

    The sellers' own rates follow a beta distribution with mean ``p`` and the given ICC; views
    vary too. Before, the same sellers were at the baseline.
    """
    strength = (1.0 - ICC) / ICC
    rate = rng.beta(p * strength, (1.0 - p) * strength, shape)
    views = 1 + rng.poisson(rng.gamma(4.0, (PHOTOS - 1) / 4.0, shape))
    before = 1 + rng.poisson(rng.gamma(4.0, (PHOTOS - 1) / 4.0, shape))
    contacts = rng.binomial(views, rate)
    earlier = rng.binomial(before, rate * (BASELINE / p))
    return np.stack([contacts, views, earlier, before], axis=-1).astype(float)


CLUSTER_CV = float(np.sqrt((PHOTOS - 1) + (PHOTOS - 1) ** 2 / 4.0) / PHOTOS)


def expected_range(runs: int, rate: float) -> tuple[int, int]:
    low, high = binom.interval(0.999, runs, rate)
    return int(low), int(high)


@pytest.mark.parametrize("covariate", [False, True])
@pytest.mark.parametrize(("n_control", "n_treatment"), [(300, 300), (480, 120)])
def test_false_positives_stay_in_the_binomial_interval(
    n_control: int, n_treatment: int, covariate: bool
) -> None:
    runs = 2000
    rng = np.random.default_rng(20261121)
    a = Moments.of(sellers(rng, (runs, n_control)))
    b = Moments.of(sellers(rng, (runs, n_treatment)))
    effect = ratio_effect(a, b, covariate=covariate)
    p = fixed_p_value(effect.difference / effect.se, effect.df)
    low, high = expected_range(runs, ALPHA)
    assert low <= int((p < ALPHA).sum()) <= high
    # the relative interval, on which margins are judged, misses as often
    z = np.log(effect.treatment / effect.control) / effect.log_se
    assert low <= int((np.abs(z) > fixed_critical(ALPHA, effect.df)).sum()) <= high


def test_a_naive_test_over_photos_would_not_hold_the_level() -> None:
    """Why the unit is the seller: photos taken as independent reject far too often."""
    runs = 1000
    rng = np.random.default_rng(1)
    a, b = sellers(rng, (runs, 300)), sellers(rng, (runs, 300))
    p = [x[..., 0].sum(1) / x[..., 1].sum(1) for x in (a, b)]
    var = [q * (1 - q) / x[..., 1].sum(1) for q, x in zip(p, (a, b), strict=True)]
    z = (p[1] - p[0]) / np.sqrt(var[0] + var[1])
    assert (np.abs(z) > 1.96).mean() > 0.15


def test_power_is_as_planned() -> None:
    population = from_assumptions(BASELINE, photos_per_unit=PHOTOS, icc=ICC, cluster_cv=CLUSTER_CV)
    plan = make_plan(population, effect_relative=0.10, power=0.8)
    runs, rng = 1500, np.random.default_rng(2)
    a = Moments.of(sellers(rng, (runs, plan.units_control)))
    b = Moments.of(sellers(rng, (runs, plan.units_treatment), p=BASELINE * 1.1))
    effect = ratio_effect(a, b)
    shown = fixed_p_value(effect.difference / effect.se, effect.df) < ALPHA
    low, high = expected_range(runs, 0.8)
    assert low <= int(shown.sum()) <= high
    # CUPED on the same sellers shows it more often, by as much as the plan says.
    adjusted = ratio_effect(a, b, covariate=True)
    saved = float(adjusted.variance_reduction.mean())
    smaller = make_plan(population, effect_relative=0.10, variance_reduction=saved)
    assert 0.15 < saved < 0.6
    assert smaller.units == pytest.approx(plan.units * (1 - saved), rel=0.01)
    assert (fixed_p_value(adjusted.difference / adjusted.se, adjusted.df) < ALPHA).mean() > 0.85


def cumulative(values: Array) -> Moments:
    """Moments of one arm at each look, ``values`` ``(runs, looks, new sellers, 4)``."""
    looks, new = values.shape[1:3]
    count = np.broadcast_to(new * np.arange(1, looks + 1), values.shape[:2]).astype(float)
    total = values.sum(2).cumsum(1)
    products = (np.swapaxes(values, -1, -2) @ values).cumsum(1)
    return Moments.of_sums(count, total, products)


def looks_at(runs: int, looks: int, new: int, seed: int, lift: float = 1.0) -> tuple[Array, Array]:
    """``z`` and the fraction of the horizon, each ``(runs, looks)``."""
    rng = np.random.default_rng(seed)
    a = cumulative(sellers(rng, (runs, looks, new)))
    b = cumulative(sellers(rng, (runs, looks, new), p=BASELINE * lift))
    effect = ratio_effect(a, b)
    return effect.difference / effect.se, effect.units / (2.0 * looks * new)


def test_peeking_does_not_inflate() -> None:
    runs, looks, new, min_units = 1000, 50, 25, 100
    z, fraction = looks_at(runs, looks, new, seed=3)
    seen = np.arange(1, looks + 1) * new >= min_units
    crossed = (np.abs(z) > sequence_critical(ALPHA, fraction))[:, seen].any(1)
    assert crossed.sum() <= expected_range(runs, ALPHA)[1]
    # The same data judged at every look by the fixed-horizon rule: this is what is avoided.
    naive = (np.abs(z) > 1.96)[:, seen].any(1)
    assert naive.mean() > 3 * ALPHA


def test_peeking_beyond_the_horizon_does_not_inflate() -> None:
    z, fraction = looks_at(1000, 80, 25, seed=4)
    crossed = (np.abs(z) > sequence_critical(ALPHA, fraction * 4.0))[:, 4:].any(1)
    assert crossed.sum() <= expected_range(1000, ALPHA)[1]


def test_peeking_does_not_inflate_when_sellers_come_back() -> None:
    """Sellers stay and go on selling: each look sees more photos of the same sellers."""
    runs, looks, new = 400, 20, 60
    rng = np.random.default_rng(5)

    def arm() -> Moments:
        strength = (1.0 - ICC) / ICC
        n = looks * new
        rate = rng.beta(BASELINE * strength, (1.0 - BASELINE) * strength, (runs, 1, n))
        active = np.arange(looks)[:, None] >= np.repeat(np.arange(looks), new)[None, :]
        views = (1 + rng.poisson(4.0, (runs, looks, n))) * active
        contacts = rng.binomial(views, np.broadcast_to(rate, views.shape))
        values = np.zeros((runs, looks, n, 2))
        values[..., 0], values[..., 1] = contacts.cumsum(1), views.cumsum(1)
        count = np.broadcast_to(new * np.arange(1, looks + 1), (runs, looks)).astype(float)
        total, products = values.sum(2), np.swapaxes(values, -1, -2) @ values
        return Moments.of_sums(count, total, products)

    effect = ratio_effect(arm(), arm())
    z, fraction = effect.difference / effect.se, effect.units / effect.units[:, -1:]
    crossed = (np.abs(z) > sequence_critical(ALPHA, fraction))[:, 1:].any(1)
    assert crossed.sum() <= expected_range(runs, ALPHA)[1]


def test_planned_power_with_peeking_and_earlier_stops() -> None:
    population = from_assumptions(BASELINE, photos_per_unit=PHOTOS, icc=ICC, cluster_cv=CLUSTER_CV)
    plan = make_plan(population, effect_relative=0.10, peeking=True)
    looks = 25
    new = -(-plan.units_control // looks)
    runs = 600
    z, fraction = looks_at(runs, looks, new, seed=6, lift=1.1)
    crossed = np.abs(z) > sequence_critical(ALPHA, fraction)
    assert crossed.any(1).sum() >= expected_range(runs, 0.8)[0]
    stopped = np.where(crossed.any(1), crossed.argmax(1) + 1, looks)
    assert stopped.mean() < 0.85 * looks


def test_always_valid_p_value_and_interval_agree() -> None:
    z, fraction = looks_at(50, 40, 25, seed=7, lift=1.1)
    outside = np.abs(z) > sequence_critical(ALPHA, fraction)
    assert np.array_equal(outside, sequence_p_value(z, ALPHA, fraction) < ALPHA)
    assert outside.any() and not outside.all()


def test_sample_ratio_check_holds_its_level() -> None:
    rng = np.random.default_rng(8)
    runs = 2000
    fixed = [
        sample_ratio_p_value([int(n), 1000 - int(n)], [0.3, 0.7]) < ALPHA
        for n in rng.binomial(1000, 0.3, runs)
    ]
    low, high = expected_range(runs, ALPHA)
    assert low <= sum(fixed) <= high
    walks = rng.binomial(50, 0.5, (500, 40)).cumsum(1)
    crossed = [
        any(
            sample_ratio_p_value([int(n), 50 * (k + 1) - int(n)], [0.5, 0.5], peeking=True) < ALPHA
            for k, n in enumerate(walk)
        )
        for walk in walks
    ]
    assert sum(crossed) <= expected_range(500, ALPHA)[1]
    assert sample_ratio_p_value([5300, 4700], [0.5, 0.5], peeking=True) < 1e-4


def test_bootstrapped_quantile_covers() -> None:
    """p95 of latencies that share their seller's photo size: the 95 % interval misses 5 %."""
    rng = np.random.default_rng(9)
    runs, n, rows = 300, 150, 8
    owner = np.repeat(np.arange(n), rows)
    missed = 0
    for _ in range(runs):
        arms = [
            (
                np.exp(rng.normal(0, 0.3, n)[owner] + rng.normal(0, 0.3, n * rows)),
                owner,
            )
            for _ in range(2)
        ]
        found = quantile_bootstrap(arms[0], arms[1], 0.95, replicates=200, rng=rng)
        low, high = np.quantile(found.log_ratios, [0.025, 0.975])
        missed += not low <= 0.0 <= high
    low_count, high_count = expected_range(runs, ALPHA)
    assert low_count <= missed <= high_count
