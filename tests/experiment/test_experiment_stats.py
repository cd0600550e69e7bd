from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from platehide.errors import UsageError
from platehide.experiment.plan import from_assumptions, from_pilot, make_plan
from platehide.experiment.stats import (
    Moments,
    fixed_critical,
    fixed_p_value,
    holm,
    quantile,
    quantile_bootstrap,
    ratio_effect,
    sample_ratio_p_value,
    sequence_critical,
    sequence_p_value,
)


def two_arms(seed: int = 0, n: tuple[int, int] = (400, 300)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = []
    for size, lift in zip(n, (1.0, 1.2), strict=True):
        rate = rng.beta(4, 16, size)
        before, views = rng.integers(1, 40, size), rng.integers(1, 40, size)
        columns = (rng.binomial(views, rate * lift), views, rng.binomial(before, rate), before)
        out.append(np.stack(columns, axis=-1).astype(float))
    return out[0], out[1]


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_tea_tasting() -> None:
    """An independent implementation gives the same numbers, plain and with CUPED."""
    tt = pytest.importorskip("tea_tasting", reason="needs tea-tasting")
    control, treatment = two_arms()
    names = ["num", "den", "num_before", "den_before"]
    frame = pd.concat(
        pd.DataFrame(values, columns=names).assign(variant=i)
        for i, values in enumerate((control, treatment))
    )
    other = tt.Experiment(
        plain=tt.RatioOfMeans("num", "den"),
        cuped=tt.RatioOfMeans("num", "den", "num_before", "den_before"),
        ratio=tt.SampleRatio({0: 0.5, 1: 0.5}, method="norm", correction=False),
    ).analyze(frame)
    for name, covariate, rel in (("plain", False, 1e-9), ("cuped", True, 2e-3)):
        mine = ratio_effect(Moments.of(control), Moments.of(treatment), covariate=covariate)
        theirs = other[name]
        assert float(mine.difference) == pytest.approx(theirs.effect_size, rel=rel)
        c = float(fixed_critical(0.05, mine.df))
        low = float(mine.difference - c * mine.se)
        assert low == pytest.approx(theirs.effect_size_ci_lower, rel=max(rel, 1e-7) * 3)
        if not covariate:
            p = float(fixed_p_value(mine.difference / mine.se, mine.df))
            assert p == pytest.approx(theirs.pvalue, rel=1e-6)
    # one degree of freedom: the chi-squared test is the normal one, squared
    assert sample_ratio_p_value([400, 300], [0.5, 0.5]) == pytest.approx(
        other["ratio"].pvalue, rel=1e-9
    )


def test_delta_method_against_the_jackknife() -> None:
    control, treatment = two_arms(3)
    effect = ratio_effect(Moments.of(control), Moments.of(treatment))
    variance = 0.0
    for arm in (control, treatment):
        n, num, den = len(arm), arm[:, 0].sum(), arm[:, 1].sum()
        left = (num - arm[:, 0]) / (den - arm[:, 1])
        variance += (n - 1) / n * ((left - left.mean()) ** 2).sum()
    assert float(effect.se) == pytest.approx(np.sqrt(variance), rel=0.02)


def test_sums_give_the_same_moments() -> None:
    values, _ = two_arms(4)
    a = Moments.of(values)
    b = Moments.of_sums(np.array(400.0), values.sum(0), values.T @ values)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12)
    np.testing.assert_allclose(a.cov, b.cov, rtol=1e-9)


def test_a_constant_covariate_changes_nothing() -> None:
    control, treatment = two_arms(5)
    for arm in (control, treatment):
        arm[:, 2:] = 1.0
    plain = ratio_effect(Moments.of(control), Moments.of(treatment))
    adjusted = ratio_effect(Moments.of(control), Moments.of(treatment), covariate=True)
    assert float(adjusted.difference) == float(plain.difference)
    assert float(adjusted.se) == pytest.approx(float(plain.se), rel=1e-12)


def test_sequence_is_tightest_near_its_horizon_and_wider_than_one_look() -> None:
    fractions = np.linspace(0.02, 4, 200)
    widths = sequence_critical(0.05, fractions) / np.sqrt(fractions)
    at_one = float(sequence_critical(0.05, 1.0))
    assert at_one == pytest.approx(3.0354, abs=1e-3)
    assert (sequence_critical(0.05, fractions) > float(fixed_critical(0.05))).all()
    assert (np.diff(widths) < 0).all()
    assert float(sequence_p_value(at_one, 0.05, 1.0)) == pytest.approx(0.05, rel=1e-9)
    assert float(sequence_p_value(0.0, 0.05, 1.0)) == 1.0


def test_sample_ratio() -> None:
    assert sample_ratio_p_value([5000, 5000], [0.5, 0.5]) == 1.0
    assert sample_ratio_p_value([0, 0], [0.5, 0.5]) == 1.0
    assert sample_ratio_p_value([5200, 4800], [0.5, 0.5]) < 1e-4
    assert sample_ratio_p_value([5200, 4800], [0.52, 0.48]) == 1.0
    assert sample_ratio_p_value([10, 10, 1], [0.5, 0.5, 0.0]) == 0.0
    assert sample_ratio_p_value([10, 10, 0], [0.5, 0.5, 0.0]) == 1.0


def test_quantile_is_a_value_that_was_seen() -> None:
    values = np.array([4.0, 1.0, 3.0, 2.0])
    assert [quantile(values, q) for q in (0.25, 0.5, 0.51, 0.75, 0.95)] == [1, 2, 3, 3, 4]


def test_cluster_bootstrap_is_wider_than_one_over_rows() -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(100), 20)
    values = np.repeat(rng.lognormal(0, 0.5, 100), 20) * rng.lognormal(0, 0.05, 2000)
    alone = np.arange(2000)
    by_seller = quantile_bootstrap(
        (values, owner), (values, owner), 0.95, replicates=300, rng=np.random.default_rng(1)
    )
    by_row = quantile_bootstrap(
        (values, alone), (values, alone), 0.95, replicates=300, rng=np.random.default_rng(1)
    )
    assert by_seller.differences.std() > 2.5 * by_row.differences.std()
    assert by_seller.control == by_seller.treatment


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_plan_against_the_textbook() -> None:
    # Two proportions, one photo a seller: 20 % → 22 %, alpha 5 %, power 80 %.
    population = from_assumptions(0.2, photos_per_unit=1, icc=0.0)
    plan = make_plan(population, effect=0.02, units_per_day=1000)
    z = 1.959964 + 0.841621
    expected = z**2 * (0.2 * 0.8 + 0.22 * 0.78) / 0.02**2
    assert plan.units_control == plan.units_treatment == int(np.ceil(expected))
    assert plan.days == 14 and plan.weeks == 2
    exact = make_plan(population, effect=0.02, units_per_day=1000, whole_weeks=False)
    assert exact.days == -(-plan.units // 1000)


def test_plan_design_effect_and_uneven_arms() -> None:
    flat = from_assumptions(0.2, photos_per_unit=10, icc=0.0)
    lumpy = from_assumptions(0.2, photos_per_unit=10, icc=0.1, cluster_cv=1.0)
    assert lumpy.design_effect == pytest.approx(1 + (2 * 10 - 1) * 0.1)
    assert lumpy.unit_variance == pytest.approx(flat.unit_variance * lumpy.design_effect)
    even = make_plan(lumpy, effect_relative=0.05)
    uneven = make_plan(lumpy, effect_relative=0.05, treatment_share=0.1)
    assert uneven.units > 2.5 * even.units
    assert uneven.units_treatment == pytest.approx(uneven.units * 0.1, abs=1)
    assert make_plan(lumpy, effect_relative=0.05, peeking=True).units > 1.8 * even.units


def test_plan_from_a_pilot_measures_the_variance() -> None:
    control, _ = two_arms(6, (2000, 2))
    frame = pd.DataFrame(
        control,
        columns=["numerator", "denominator", "covariate_numerator", "covariate_denominator"],
    )
    population = from_pilot(frame[["numerator", "denominator"]])
    num, den = control[:, 0], control[:, 1]
    ratio = num.sum() / den.sum()
    expected = np.var((num - ratio * den) / den.mean(), ddof=1)
    assert population.baseline == pytest.approx(ratio)
    assert population.unit_variance == pytest.approx(expected, rel=1e-9)
    assert from_pilot(frame).unit_variance < expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"effect": None}, "once"),
        ({"effect_relative": 0.1}, "once"),
        ({"effect": 0.0}, "effect of 0"),
        ({"alpha": 0.0}, "alpha"),
        ({"power": 1.0}, "power"),
        ({"treatment_share": 1.0}, "share"),
        ({"variance_reduction": 1.0}, "reduction"),
        ({"units_per_day": 0.0}, "a day"),
        ({"effect": 0.9}, "outside 0…1"),
    ],
)
def test_plan_refuses(change: dict[str, float | None], says: str) -> None:
    population = from_assumptions(0.2, photos_per_unit=10, icc=0.1)
    with pytest.raises(UsageError, match=says):
        make_plan(population, **({"effect": 0.02} | change))


def test_population_refuses() -> None:
    for change in (
        {"baseline": 1.2},
        {"photos_per_unit": 0},
        {"icc": 1.5},
        {"cluster_cv": -1},
        {"sd": -1},
    ):
        with pytest.raises(UsageError):
            from_assumptions(**({"baseline": 0.2, "photos_per_unit": 5, "icc": 0.1} | change))
    with pytest.raises(UsageError, match="at least 30"):
        from_pilot(pd.DataFrame({"numerator": [1.0] * 5, "denominator": [1.0] * 5}))
    with pytest.raises(UsageError, match="does not vary"):
        from_pilot(pd.DataFrame({"numerator": [1.0] * 50, "denominator": [2.0] * 50}))
