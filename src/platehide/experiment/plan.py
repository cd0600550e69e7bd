"""How many sellers an experiment needs, and how long that takes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from scipy import stats

from platehide.errors import UsageError
from platehide.experiment.stats import COLUMNS, Moments, ratio_effect, sequence_critical


@dataclass(frozen=True)
class Population:
    """What is known about sellers before the start.

    Attributes:
        baseline: the ratio metric today.
        unit_variance: variance between sellers of the linearised metric
            ``(numerator − baseline · denominator) / mean(denominator)``: ``n`` sellers give the
            metric a variance of ``unit_variance / n``.
        design_effect: variance inflation against independent photos, where it is known.
        share: whether photos are yes or no, so that the variance follows the baseline.
        source: how the variance was come by, in words.
        units_per_day: new sellers a day, where the pilot tells.
    """

    baseline: float
    unit_variance: float
    source: str
    design_effect: float | None = None
    units_per_day: float | None = None
    share: bool = False


def from_assumptions(
    baseline: float,
    *,
    photos_per_unit: float,
    icc: float,
    cluster_cv: float = 0.0,
    sd: float | None = None,
) -> Population:
    """Population of a ratio metric from the usual three numbers.

    The variance of one photo (``sd²``, or ``p(1 − p)`` for a share) is inflated by the design
    effect ``1 + ((cv² + 1) · m − 1) · icc`` of unequal clusters (Eldridge, Ashby and Kerry,
    International Journal of Epidemiology 2006).

    Args:
        baseline: the metric today.
        photos_per_unit: mean number of photos (denominator) a seller, m.
        icc: intra-cluster correlation, 0…1.
        cluster_cv: coefficient of variation of the photos a seller.
        sd: standard deviation of one photo's value; ``None`` for a share.

    Raises:
        UsageError: a number is out of range.
    """
    if photos_per_unit <= 0:
        raise UsageError(f"photos per seller is positive, got {photos_per_unit:g}")
    if not 0.0 <= icc <= 1.0:
        raise UsageError(f"the ICC lies in 0…1, got {icc:g}")
    if cluster_cv < 0:
        raise UsageError(f"the coefficient of variation is not negative, got {cluster_cv:g}")
    if sd is None and not 0.0 < baseline < 1.0:
        raise UsageError(f"a share lies between 0 and 1, got {baseline:g}; else give --sd")
    if sd is not None and sd <= 0:
        raise UsageError(f"the standard deviation is positive, got {sd:g}")
    photo_variance = baseline * (1.0 - baseline) if sd is None else sd * sd
    # A single photo a seller has no inflation, however its count varies by assumption.
    effect = max(1.0, 1.0 + ((cluster_cv**2 + 1.0) * photos_per_unit - 1.0) * icc)
    return Population(
        baseline=baseline,
        unit_variance=photo_variance * effect / photos_per_unit,
        source=f"ICC {icc:g}, {photos_per_unit:g} photos a seller (CV {cluster_cv:g})",
        design_effect=effect,
        share=sd is None,
    )


def from_pilot(sums: pd.DataFrame, units_per_day: float | None = None) -> Population:
    """Population measured on a pilot.

    Args:
        sums: one row a seller with the columns ``numerator`` and ``denominator``; where
            ``covariate_numerator`` and ``covariate_denominator`` are there too, the variance is
            the one that CUPED leaves.
        units_per_day: new sellers a day, if the pilot tells.

    Raises:
        UsageError: too few sellers, or nothing varies.
    """
    if len(sums) < 30:
        raise UsageError(f"the pilot has {len(sums)} sellers; at least 30 are needed")
    adjusted = "covariate_numerator" in sums.columns
    full = sums.reindex(columns=list(COLUMNS), fill_value=1.0).to_numpy(dtype=float)
    if full[:, 1].sum() <= 0:
        raise UsageError("the pilot's denominator adds up to 0")
    moments = Moments.of(full)
    # Two arms like the pilot: the difference has twice the variance of one.
    effect = ratio_effect(moments, moments, covariate=adjusted)
    variance = float(effect.se) ** 2 / 2.0 * len(sums)
    if not variance > 0:
        raise UsageError("the pilot's metric does not vary between sellers")
    words = f"pilot of {len(sums):,} sellers"
    if adjusted:
        words += f", CUPED takes away {float(effect.variance_reduction):.0%} of the variance"
    return Population(float(effect.control), variance, words, None, units_per_day)


@dataclass(frozen=True)
class Plan:
    """Sample size and duration. ``units`` counts the sellers of both compared arms."""

    baseline: float
    effect: float
    effect_relative: float
    alpha: float
    power: float
    treatment_share: float
    peeking: bool
    units: int
    units_control: int
    units_treatment: int
    days: int | None
    weeks: int | None
    source: str
    design_effect: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def make_plan(
    population: Population,
    *,
    effect: float | None = None,
    effect_relative: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    treatment_share: float = 0.5,
    peeking: bool = False,
    variance_reduction: float = 0.0,
    units_per_day: float | None = None,
    whole_weeks: bool = True,
) -> Plan:
    """Sellers that show an effect of the given size with the given power (two-sided test).

    ``n = (c + z_power)² · (v_t/s + v_c/(1 − s)) / effect²`` with the arms' variances between
    sellers and ``c = z_(1−α/2)``, or, when peeking is declared, the always-valid interval's
    multiplier at the horizon; then the power is a lower bound, as the test may stop earlier.

    Args:
        population: what is known about sellers.
        effect: smallest difference to be shown, in units of the metric; or
        effect_relative: the same as a share of the baseline.
        alpha: level of the two-sided test.
        power: probability to show an effect of that size.
        treatment_share: share of the sellers in the treatment arm, both arms making 1.
        peeking: plan for the always-valid interval.
        variance_reduction: share of the variance that CUPED is expected to take away.
        units_per_day: new sellers a day; the population's own where ``None``.
        whole_weeks: round the duration up to whole weeks, as weekdays differ.

    Raises:
        UsageError: a number is out of range.
    """
    if (effect is None) == (effect_relative is None):
        raise UsageError("give the smallest effect once, absolute or relative")
    size = effect if effect is not None else population.baseline * (effect_relative or 0.0)
    if size == 0 or not math.isfinite(size):
        raise UsageError("an effect of 0 cannot be planned for")
    for name, value in (("alpha", alpha), ("power", power), ("the share", treatment_share)):
        if not 0.0 < value < 1.0:
            raise UsageError(f"{name} lies between 0 and 1, got {value:g}")
    if not 0.0 <= variance_reduction < 1.0:
        raise UsageError(f"the variance reduction lies in 0…1, got {variance_reduction:g}")
    rate = units_per_day if units_per_day is not None else population.units_per_day
    if rate is not None and rate <= 0:
        raise UsageError(f"sellers a day is positive, got {rate:g}")
    critical = (
        float(sequence_critical(alpha, 1.0))
        if peeking
        else float(stats.norm.ppf(1.0 - alpha / 2.0))
    )
    z = critical + float(stats.norm.ppf(power))
    variance = population.unit_variance * (1.0 - variance_reduction)
    moved = variance * _variance_ratio(population, size)
    n = z * z * (moved / treatment_share + variance / (1.0 - treatment_share)) / size**2
    treatment = max(2, math.ceil(n * treatment_share))
    control = max(2, math.ceil(n * (1.0 - treatment_share)))
    days = None if rate is None else math.ceil((treatment + control) / rate)
    if days is not None and whole_weeks:
        days = 7 * math.ceil(days / 7)
    return Plan(
        baseline=population.baseline,
        effect=size,
        effect_relative=size / population.baseline if population.baseline else math.nan,
        alpha=alpha,
        power=power,
        treatment_share=treatment_share,
        peeking=peeking,
        units=treatment + control,
        units_control=control,
        units_treatment=treatment,
        days=days,
        weeks=None if days is None else math.ceil(days / 7),
        source=population.source,
        design_effect=population.design_effect,
    )


def _variance_ratio(population: Population, effect: float) -> float:
    """Variance of a seller in the treatment arm ÷ in the control arm."""
    if not population.share:
        return 1.0
    p, moved = population.baseline, population.baseline + effect
    if not 0.0 < moved < 1.0:
        raise UsageError(f"the effect moves the share to {moved:g}, outside 0…1")
    return moved * (1.0 - moved) / (p * (1.0 - p))
