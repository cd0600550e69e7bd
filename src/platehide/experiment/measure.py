"""One metric in both arms: sums by seller, interval, and which side of its margin that lies on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from platehide.assignment import uniform
from platehide.experiment.config import ExperimentConfig, Metric
from platehide.experiment.data import Prepared
from platehide.experiment.stats import (
    COLUMNS,
    Effect,
    Floats,
    Moments,
    QuantileEffect,
    fixed_critical,
    fixed_p_value,
    quantile_bootstrap,
    ratio_effect,
    sequence_critical,
    sequence_p_value,
)

Role = Literal["primary", "secondary", "guardrail"]
Finding = Literal["better", "worse", "within margin", "harmed", "not shown"]


@dataclass(frozen=True)
class MetricResult:
    """One metric in both arms. ``low`` and ``high`` bound treatment − control.

    Attributes:
        finding: what the interval says; ``None`` where it says nothing (secondary metrics, or a
            metric that could not be computed, with the reason in ``problem``).
        p_adjusted: Holm's, over the secondary metrics.
    """

    name: str
    role: Role
    better: str
    kind: str
    control: float = math.nan
    treatment: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    relative: float = math.nan
    relative_low: float = math.nan
    relative_high: float = math.nan
    p_value: float = math.nan
    p_adjusted: float | None = None
    variance_reduction: float = 0.0
    margin: float | None = None
    margin_absolute: float | None = None
    finding: Finding | None = None
    problem: str | None = None
    missing_share: float = 0.0


def unit_sums(data: Prepared, metric: Metric, variant: str) -> tuple[pd.DataFrame, float]:
    """``COLUMNS`` for each seller of ``variant``, and the share of rows with a missing value.

    A seller without rows counts with zeros; without a denominator each seller counts as 1.
    """
    index = data.units.index[data.units["variant"] == variant]
    rows = data.rows[data.rows["variant"] == variant]
    sums, missing = _sums(rows, metric.numerator, metric.denominator)
    frame = pd.DataFrame(0.0, index=index, columns=list(COLUMNS))
    frame[["numerator", "denominator"]] = sums.reindex(index, fill_value=0.0).to_numpy()
    if metric.denominator is None:
        frame["denominator"] = 1.0
    covariate = metric.covariate
    if covariate is None:
        frame["covariate_denominator"] = 1.0
        return frame, missing
    if covariate.pre_period:
        before = data.before[data.before["variant"] == variant]
        known, _ = _sums(before, metric.numerator, metric.denominator)
        by_column = metric.denominator is not None
    else:
        columns = [c for c in (covariate.numerator, covariate.denominator) if c is not None]
        # One value a seller: the first row's; _constant has seen that the others agree.
        known = rows.groupby("unit")[columns].first().fillna(0.0)
        if covariate.denominator is None:
            known["denominator"] = 1.0
        by_column = covariate.denominator is not None
    pair = ["covariate_numerator", "covariate_denominator"]
    frame[pair] = known.reindex(index, fill_value=0.0).to_numpy()
    if not by_column:
        frame["covariate_denominator"] = 1.0
    return frame, missing


def _sums(
    rows: pd.DataFrame, numerator: str, denominator: str | None
) -> tuple[pd.DataFrame, float]:
    columns = [numerator] + ([denominator] if denominator is not None else [])
    whole = rows[["unit", *dict.fromkeys(columns)]].dropna()
    missing = 1.0 - len(whole) / len(rows) if len(rows) else 0.0
    by_unit = whole.groupby("unit")
    low = by_unit[denominator].sum() if denominator is not None else by_unit.size()
    out = pd.DataFrame({"numerator": by_unit[numerator].sum(), "denominator": low.astype(float)})
    return out, missing


def measure(
    data: Prepared, config: ExperimentConfig, metric: Metric, role: Role, fraction: float
) -> MetricResult:
    """The metric's values, interval and finding; what stands in the way is in ``problem``.

    ``fraction`` is the share of the planned sellers that have come, for always-valid intervals.
    """
    kind = "ratio" if metric.quantile is None else f"quantile {metric.quantile:g}"
    blank = MetricResult(
        name=metric.name,
        role=role,
        better=metric.better,
        kind=kind,
        margin=metric.margin,
        margin_absolute=metric.margin_absolute,
    )
    try:
        found = (
            _ratio(data, config, metric, blank, fraction)
            if metric.quantile is None
            else _quantile(data, config, metric, blank, fraction)
        )
    except _NotComputableError as error:
        return replace(blank, problem=f"{metric.name}: {error}")
    if role == "secondary":
        return found
    return replace(found, **_finding(found, role))


class _NotComputableError(Exception):
    """A metric has no value or no variance; the text says which."""


def _check_missing(share: float, config: ExperimentConfig) -> None:
    if share > config.quality.max_missing:
        raise _NotComputableError(
            f"{share:.1%} of the outcome rows have no value "
            f"({config.quality.max_missing:.1%} are allowed)"
        )


def _ratio(
    data: Prepared, config: ExperimentConfig, metric: Metric, blank: MetricResult, fraction: float
) -> MetricResult:
    _check_covariate(data, metric)
    arms, missing = [], 0.0
    for variant in (config.control, config.treatment):
        sums, share = unit_sums(data, metric, variant)
        missing = max(missing, share)
        if len(sums) < 2 or sums["denominator"].sum() <= 0:
            what = metric.denominator or "sellers"
            raise _NotComputableError(f"{variant} has no {what} to divide by")
        arms.append(Moments.of(sums.to_numpy(dtype=float)))
    _check_missing(missing, config)
    covariate = metric.covariate is not None
    if covariate and sum(float(arm.mean[3]) for arm in arms) <= 0:
        raise _NotComputableError("the CUPED covariate's denominator adds up to 0")
    effect = ratio_effect(arms[0], arms[1], covariate=covariate)
    return replace(_from_ratio(effect, config, blank, fraction), missing_share=missing)


def _check_covariate(data: Prepared, metric: Metric) -> None:
    covariate = metric.covariate
    if covariate is None:
        return
    if covariate.pre_period:
        if data.before.empty:
            raise _NotComputableError("CUPED by pre_period, but no row is from before the start")
        return
    columns = [c for c in (covariate.numerator, covariate.denominator) if c is not None]
    varying = data.rows.groupby("unit")[columns].nunique().max(axis=1) > 1
    if varying.any():
        unit = varying.index[varying.to_numpy()][0]
        raise _NotComputableError(
            f"the CUPED covariate changes within seller {unit}; it must be fixed beforehand"
        )


def critical(config: ExperimentConfig, fraction: float, df: Floats | float = math.inf) -> Floats:
    """The multiple of the standard error that the declared way of looking asks for."""
    if config.peeking:
        return sequence_critical(config.alpha, fraction)
    return fixed_critical(config.alpha, df)


def _p_value(
    config: ExperimentConfig, z: float, fraction: float, df: Floats | float = math.inf
) -> float:
    if config.peeking:
        return float(sequence_p_value(z, config.alpha, fraction))
    return float(fixed_p_value(z, df))


def _from_ratio(
    effect: Effect, config: ExperimentConfig, blank: MetricResult, fraction: float
) -> MetricResult:
    difference, se = float(effect.difference), float(effect.se)
    # Rounding leaves a trace of variance where every seller has the same value.
    if not se > 1e-12 * max(1e-300, abs(float(effect.control))):
        raise _NotComputableError("zero variance: every seller has the same value")
    c = float(critical(config, fraction, effect.df))
    c_log = c * float(effect.log_se)
    log_ratio = (
        math.log(float(effect.treatment) / float(effect.control))
        if math.isfinite(c_log)
        else math.nan
    )
    return replace(
        blank,
        control=float(effect.control),
        treatment=float(effect.treatment),
        difference=difference,
        low=difference - c * se,
        high=difference + c * se,
        relative=math.expm1(log_ratio),
        relative_low=math.expm1(log_ratio - c_log),
        relative_high=math.expm1(log_ratio + c_log),
        p_value=_p_value(config, difference / se, fraction, effect.df),
        variance_reduction=float(effect.variance_reduction),
    )


def _quantile(
    data: Prepared,
    config: ExperimentConfig,
    metric: Metric,
    blank: MetricResult,
    fraction: float,
) -> MetricResult:
    arms, missing = [], 0.0
    for variant in (config.control, config.treatment):
        rows = data.rows[data.rows["variant"] == variant]
        whole = rows.dropna(subset=[metric.numerator])
        missing = max(missing, 1.0 - len(whole) / len(rows) if len(rows) else 1.0)
        codes, _ = pd.factorize(whole["unit"], sort=True)
        if len(whole) == 0 or codes.max() + 1 < config.quality.min_units:
            raise _NotComputableError(
                f"{variant} has fewer than {config.quality.min_units} sellers with a value"
            )
        arms.append((whole[metric.numerator].to_numpy(float), codes.astype(np.int64)))
    _check_missing(missing, config)
    seed = int(uniform("bootstrap", config.experiment, metric.name) * 2**52)
    effect = quantile_bootstrap(
        arms[0],
        arms[1],
        metric.quantile or 0.5,
        replicates=config.bootstrap,
        rng=np.random.default_rng(seed),
    )
    return replace(_from_quantile(effect, config, blank, fraction), missing_share=missing)


def _from_quantile(
    effect: QuantileEffect, config: ExperimentConfig, blank: MetricResult, fraction: float
) -> MetricResult:
    difference = effect.treatment - effect.control
    se = float(effect.differences.std(ddof=1))
    if not se > 0:
        raise _NotComputableError("zero variance: no resample of sellers changes the quantile")
    logs_known = (
        bool(np.isfinite(effect.log_ratios).all()) and min(effect.control, effect.treatment) > 0
    )
    log_ratio = math.log(effect.treatment / effect.control) if logs_known else math.nan
    if config.peeking:
        # A quantile is asymptotically linear in the sellers, so the sequence holds for it with
        # the bootstrap's standard error.
        c = float(critical(config, fraction))
        low, high = difference - c * se, difference + c * se
        spread = c * float(effect.log_ratios.std(ddof=1)) if logs_known else math.nan
        log_low, log_high = log_ratio - spread, log_ratio + spread
    else:
        ends = [config.alpha / 2.0, 1.0 - config.alpha / 2.0]
        low, high = (float(v) for v in np.quantile(effect.differences, ends))
        log_low, log_high = (
            (float(v) for v in np.quantile(effect.log_ratios, ends))
            if logs_known
            else (math.nan, math.nan)
        )
    return replace(
        blank,
        control=effect.control,
        treatment=effect.treatment,
        difference=difference,
        low=low,
        high=high,
        relative=math.expm1(log_ratio),
        relative_low=math.expm1(log_low),
        relative_high=math.expm1(log_high),
        p_value=_p_value(config, difference / se, fraction),
    )


def _finding(result: MetricResult, role: Role) -> dict[str, Any]:
    """Which side of the margin (or of zero) the whole interval lies on."""
    if result.margin is not None:
        low, high, margin = result.relative_low, result.relative_high, result.margin
        if not (math.isfinite(low) and math.isfinite(high)):
            return {
                "problem": f"{result.name}: a relative margin needs positive values in both arms"
            }
    else:
        low, high, margin = result.low, result.high, result.margin_absolute or 0.0
    worst, best = (low, high) if result.better == "higher" else (-high, -low)
    if role == "guardrail":
        finding: Finding = (
            "within margin" if worst >= -margin else "harmed" if best < -margin else "not shown"
        )
    elif margin > 0 and worst > -margin:
        finding = "better" if worst > 0 else "within margin"
    else:
        finding = "better" if worst > 0 else "worse" if best < 0 else "not shown"
    return {"finding": finding}
