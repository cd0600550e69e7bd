"""Ship, hold or no verdict: the rules, applied to prepared data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from scipy import stats as scipy_stats

from platehide.experiment.config import ExperimentConfig, Metric
from platehide.experiment.data import Prepared
from platehide.experiment.measure import MetricResult, Role, measure
from platehide.experiment.stats import holm, sample_ratio_p_value

Verdict = Literal["ship", "hold", "no verdict"]

# Exports of a day's log end a little before midnight: the last day may be this much short.
_END_SLACK = timedelta(days=1)


@dataclass(frozen=True)
class Check:
    """One thing that must hold before anything is judged."""

    name: str
    passed: bool
    text: str
    p_value: float | None = None


@dataclass(frozen=True)
class Analysis:
    """The verdict and everything it rests on."""

    experiment: str
    verdict: Verdict
    reasons: tuple[str, ...]
    method: str
    checks: tuple[Check, ...]
    metrics: tuple[MetricResult, ...]
    units: Mapping[str, int]
    planned_units: int | None
    horizon_reached: bool
    left_out: Mapping[str, int]
    models: Mapping[str, Mapping[str, int]]
    data_end: datetime | None
    notes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; a number that could not be computed is ``null``."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def analyze(
    data: Prepared,
    config: ExperimentConfig,
    *,
    now: datetime,
    inputs: Mapping[str, str] | None = None,
) -> Analysis:
    """Judge ``data`` by the rules that ``config`` fixed before the start.

    Args:
        data: exposures and outcomes, joined.
        config: the experiment.
        now: the moment of the analysis; decides whether the horizon has come where the data
            carry no times.
        inputs: file → SHA-256, kept in the answer.
    """
    counts = {name: int((data.units["variant"] == name).sum()) for name in config.variants}
    compared = counts[config.control] + counts[config.treatment]
    fraction = compared / config.units if config.units else 1.0
    early = _too_early(data, config, compared, now)
    checks = _checks(data, config, counts)
    metrics = tuple(
        measure(data, config, metric, role, fraction)
        for role, group in _roles(config)
        for metric in group
    )
    metrics = _adjust_secondary(metrics)
    if early is not None and not config.peeking:
        checks.append(Check("horizon", False, early))
    verdict, reasons = _judge(checks, metrics, config, early)
    return Analysis(
        experiment=config.experiment,
        verdict=verdict,
        reasons=reasons,
        method=_method(config),
        checks=tuple(checks),
        metrics=metrics,
        units=counts,
        planned_units=config.units,
        horizon_reached=early is None,
        left_out={reason: n for reason, n in data.counts.items() if n},
        models=data.models,
        data_end=data.data_end,
        notes=_notes(data, config),
        inputs=dict(inputs or {}),
    )


def _roles(config: ExperimentConfig) -> tuple[tuple[Role, tuple[Metric, ...]], ...]:
    return (
        ("primary", (config.primary,)),
        ("secondary", config.secondary),
        ("guardrail", config.guardrails),
    )


def _method(config: ExperimentConfig) -> str:
    level = f"{1 - config.alpha:.4g}"
    if config.peeking:
        return (
            f"always-valid: asymptotic confidence sequence (Waudby-Smith et al. 2024), level "
            f"{level}, tightest at {config.units:,} sellers"
        )
    return f"one look at a fixed horizon, level {level}, delta method over sellers"


def _too_early(
    data: Prepared, config: ExperimentConfig, compared: int, now: datetime
) -> str | None:
    reasons = []
    if config.units is not None and compared < config.units:
        reasons.append(f"{compared:,} of {config.units:,} planned sellers so far")
    if config.end is not None:
        reached = now if data.data_end is None else data.data_end + _END_SLACK
        if reached < config.end:
            upto = "today is" if data.data_end is None else "the data end at"
            moment = now if data.data_end is None else data.data_end
            reasons.append(
                f"{upto} {moment:%Y-%m-%d %H:%M} UTC, the horizon is {config.end:%Y-%m-%d %H:%M}"
            )
    return "too early: " + "; ".join(reasons) if reasons else None


def _checks(data: Prepared, config: ExperimentConfig, counts: Mapping[str, int]) -> list[Check]:
    limits = config.quality
    names = list(config.variants)
    smallest = min(counts[config.control], counts[config.treatment])
    total = sum(counts.values())
    checks = [
        Check(
            "sellers",
            smallest >= limits.min_units,
            f"{smallest:,} sellers in the smaller arm; {limits.min_units:,} or more are needed",
        )
    ]
    p = sample_ratio_p_value(
        [counts[n] for n in names],
        [config.variants[n] for n in names],
        peeking=config.peeking,
    )
    seen = ", ".join(
        f"{n} {counts[n]:,} ({counts[n] / total if total else 0:.1%}, "
        f"planned {config.variants[n]:.1%})"
        for n in names
    )
    fine = p >= limits.sample_ratio_alpha
    text = f"{seen}; p = {p:.2g}" + ("" if fine else ": the sample ratio is broken")
    checks.append(Check("sample ratio", fine, text, p))
    mixed = data.mixed_units / max(1, data.mixed_units + total)
    checks.append(
        Check(
            "one variant a seller",
            mixed <= limits.max_mixed_units,
            f"{data.mixed_units:,} sellers ({mixed:.2%}) were seen in several variants; "
            f"{limits.max_mixed_units:.2%} are allowed",
        )
    )
    if config.check_assignment:
        checks.append(
            Check(
                "assignment",
                data.wrong_units == 0,
                f"{data.wrong_units:,} of {total:,} sellers are not in the variant that the "
                "assignment function gives",
            )
        )
    for variant, version in config.models.items():
        others = {m: n for m, n in data.models.get(variant, {}).items() if m != version}
        checks.append(
            Check(
                f"model of {variant}",
                bool(data.models.get(variant)) and not others,
                f"{variant} was to be served by {version} alone"
                + (f", but there are exposures by {', '.join(others)}" if others else "")
                + ("" if data.models.get(variant) else ", but no exposure names a model"),
            )
        )
    return checks + _outcome_checks(data, config, counts)


def _outcome_checks(
    data: Prepared, config: ExperimentConfig, counts: Mapping[str, int]
) -> list[Check]:
    arms = (config.control, config.treatment)
    with_rows = data.rows.groupby("variant")["unit"].nunique()
    have = [int(with_rows.get(arm, 0)) for arm in arms]
    total = [counts[arm] for arm in arms]
    if not all(have):
        empty = ", ".join(arm for arm, n in zip(arms, have, strict=True) if not n)
        return [Check("outcomes", False, f"missing outcomes: none for {empty}")]
    share = 1.0 - sum(have) / sum(total)
    limit = config.quality.max_without_outcomes
    words = ", ".join(
        f"{arm} {t - h:,} of {t:,}" for arm, h, t in zip(arms, have, total, strict=True)
    )
    checks = [
        Check(
            "outcomes",
            share <= limit,
            f"sellers without any outcome: {words} ({share:.1%}; {limit:.1%} are allowed)",
        )
    ]
    if 0 < sum(have) < sum(total):
        table = [[h, t - h] for h, t in zip(have, total, strict=True)]
        p = float(scipy_stats.chi2_contingency(table, correction=False).pvalue)
        checks.append(
            Check(
                "outcomes alike",
                p >= config.quality.sample_ratio_alpha,
                f"share of sellers without outcomes differs between the arms with p = {p:.2g}",
                p,
            )
        )
    return checks


def _adjust_secondary(metrics: tuple[MetricResult, ...]) -> tuple[MetricResult, ...]:
    usable = [m for m in metrics if m.role == "secondary" and m.problem is None]
    adjusted = dict(zip((m.name for m in usable), holm([m.p_value for m in usable]), strict=True))
    return tuple(
        replace(m, p_adjusted=adjusted[m.name]) if m.name in adjusted else m for m in metrics
    )


def _judge(
    checks: list[Check],
    metrics: tuple[MetricResult, ...],
    config: ExperimentConfig,
    early: str | None,
) -> tuple[Verdict, tuple[str, ...]]:
    """The rules, in order; see docs/experiment.md."""
    broken = [f"{c.name}: {c.text}" for c in checks if not c.passed]
    broken += [m.problem for m in metrics if m.problem is not None and m.role != "secondary"]
    if broken:
        return "no verdict", tuple(broken)
    primary = metrics[0]
    guardrails = [m for m in metrics if m.role == "guardrail"]
    good = [_sentence(m) for m in metrics if m.finding in ("better", "within margin")]
    bad = [_sentence(m) for m in metrics if m.finding in ("worse", "harmed")]
    open_ones = [_sentence(m) for m in metrics if m.finding == "not shown"]
    if primary.finding in ("better", "within margin") and all(
        m.finding == "within margin" for m in guardrails
    ):
        return "ship", tuple(good)
    if bad:
        return "hold", tuple(bad + open_ones)
    if early is not None:
        return "no verdict", (early, *open_ones, "nothing is decided yet; go on")
    return "hold", tuple(open_ones)


def _sentence(m: MetricResult) -> str:
    margin = ""
    if m.margin is not None:
        margin = f", margin {m.margin:.1%}"
    elif m.margin_absolute is not None:
        margin = f", margin {m.margin_absolute:.4g}"
    size = f"{m.difference:+.4g} [{m.low:+.4g}, {m.high:+.4g}]"
    if math.isfinite(m.relative):
        size += f" = {m.relative:+.2%} [{m.relative_low:+.2%}, {m.relative_high:+.2%}]"
    return f"{m.name} ({m.role}): {m.finding}, {m.control:.4g} → {m.treatment:.4g}, {size}{margin}"


def _notes(data: Prepared, config: ExperimentConfig) -> tuple[str, ...]:
    notes = []
    if data.data_end is None:
        notes.append("the files carry no times: outcomes before the exposure cannot be left out")
    for variant, versions in data.models.items():
        if len(versions) > 1:
            listed = ", ".join(f"{m} ({n:,})" for m, n in sorted(versions.items()))
            notes.append(f"{variant} was served by several models: {listed}")
    if not config.guardrails:
        notes.append("no guardrail was declared")
    return tuple(notes)
