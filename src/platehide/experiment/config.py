"""What an experiment is: read from YAML, checked key by key, fixed before the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from platehide.assignment import check_variants
from platehide.errors import UsageError

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Covariate:
    """Where a CUPED covariate comes from.

    Attributes:
        numerator, denominator: columns of the outcomes that hold one value a seller, known before
            the exposure; both ``None`` means the metric itself, on rows before the start.
    """

    numerator: str | None = None
    denominator: str | None = None

    @property
    def pre_period(self) -> bool:
        """Whether the rows before the start are the covariate."""
        return self.numerator is None


@dataclass(frozen=True)
class Metric:
    """One number a seller's rows add up to.

    Attributes:
        numerator: column that is summed; for a quantile the column itself.
        denominator: column that is summed; ``None`` divides by the number of sellers.
        quantile: 0…1 for a quantile over rows instead of a ratio.
        better: which way is good.
        margin: relative change (share of control) towards worse that is tolerated.
        margin_absolute: the same in units of the metric; at most one of the two.
    """

    name: str
    numerator: str
    denominator: str | None = None
    quantile: float | None = None
    better: Better = "higher"
    margin: float | None = None
    margin_absolute: float | None = None
    covariate: Covariate | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the outcomes that the metric itself needs."""
        return tuple(c for c in (self.numerator, self.denominator) if c is not None)


@dataclass(frozen=True)
class Quality:
    """Limits beyond which there is no verdict.

    Attributes:
        min_units: sellers an arm, below which normal approximations are not trusted.
        sample_ratio_alpha: level of the sample-ratio check.
        max_mixed_units: share of sellers seen in more than one variant.
        max_missing: share of a metric's values that may be null.
        max_without_outcomes: share of exposed sellers that may have no outcome row.
    """

    min_units: int = 100
    sample_ratio_alpha: float = 0.001
    max_mixed_units: float = 0.01
    max_missing: float = 0.05
    max_without_outcomes: float = 0.10


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment as it was declared before its start; see docs/experiment.md."""

    experiment: str
    variants: Mapping[str, float]
    control: str
    treatment: str
    primary: Metric
    secondary: tuple[Metric, ...] = ()
    guardrails: tuple[Metric, ...] = ()
    salt: str = ""
    traffic: float = 1.0
    start: datetime | None = None
    end: datetime | None = None
    units: int | None = None
    alpha: float = 0.05
    power: float = 0.8
    peeking: bool = False
    check_assignment: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)
    bootstrap: int = 1000

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics, the primary one first."""
        return (self.primary, *self.secondary, *self.guardrails)


class _Section:
    """A YAML mapping that is read key by key; what is left over is an error."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is a mapping, got {type(value).__name__}")
        self._values = {str(key): item for key, item in value.items()}
        self._where = where

    def name(self, key: str) -> str:
        return f"{self._where}: {key}"

    def take(self, key: str, default: Any = None) -> Any:
        return self._values.pop(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{self.name(key)} is a text, got {value!r}")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if self._values.get(key) is not None else self.take(key)

    def number(
        self, key: str, default: float | None, low: float, high: float, *, ends: bool = True
    ) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{self.name(key)} is a number, got {value!r}")
        inside = low <= value <= high if ends else low < value < high
        if not inside:
            raise UsageError(f"{self.name(key)} lies in {low:g}…{high:g}, got {value!r}")
        return float(value)

    def optional_number(self, key: str, low: float, high: float) -> float | None:
        if self._values.get(key) is None:
            self.take(key)
            return None
        return self.number(key, None, low, high)

    def count(self, key: str, default: int | None, low: int) -> int:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise UsageError(f"{self.name(key)} is a whole number of at least {low}, got {value!r}")
        return value

    def flag(self, key: str) -> bool:
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.name(key)} is true or false, got {value!r}")
        return value

    def moment(self, key: str) -> datetime | None:
        value = self.take(key)
        return None if value is None else as_utc(value, self.name(key))

    def texts(self, key: str) -> dict[str, str]:
        value = self.take(key, {})
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise UsageError(f"{self.name(key)} maps names to texts, got {value!r}")
        return {str(k): v for k, v in value.items()}

    def finish(self) -> None:
        if self._values:
            unknown = ", ".join(sorted(self._values))
            raise UsageError(f"{self._where}: unknown key {unknown}")


def as_utc(value: object, where: str) -> datetime:
    """``value`` (ISO text, date or datetime) as an aware UTC moment; no zone means UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(f"{where} is a date (ISO 8601), got {value!r}") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise UsageError(f"{where} is a date (ISO 8601), got {value!r}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _metric(value: object, where: str, *, guardrail: bool = False) -> Metric:
    section = _Section(value, where)
    quantile = section.optional_number("quantile", 0.0, 1.0)
    column = section.optional_text("column")
    numerator = section.optional_text("numerator")
    if (column is None) == (numerator is None):
        raise UsageError(f"{where} needs numerator (a ratio) or quantile and column")
    if (quantile is None) != (column is None):
        raise UsageError(f"{where}: quantile and column go together")
    denominator = section.optional_text("denominator")
    if quantile is not None and (denominator is not None or not 0.0 < quantile < 1.0):
        raise UsageError(f"{where}: a quantile lies between 0 and 1 and has no denominator")
    better = section.text("better", "lower" if guardrail else "higher")
    if better not in ("higher", "lower"):
        raise UsageError(f"{where}: better is higher or lower, got {better!r}")
    margin = section.optional_number("max_harm" if guardrail else "margin", 0.0, 10.0)
    absolute = section.optional_number(
        "max_harm_absolute" if guardrail else "margin_absolute", 0.0, 1e12
    )
    if margin is not None and absolute is not None:
        raise UsageError(f"{where}: one margin, relative or absolute, not both")
    if guardrail and margin is None and absolute is None:
        raise UsageError(f"{where} needs max_harm (relative) or max_harm_absolute")
    covariate = _covariate(section.take("cuped"), f"{where}: cuped")
    if covariate is not None and quantile is not None:
        raise UsageError(f"{where}: CUPED is for ratios, not for quantiles")
    metric = Metric(
        name=section.text("name", column or numerator),
        numerator=numerator or column or "",
        denominator=denominator,
        quantile=quantile,
        better="higher" if better == "higher" else "lower",
        margin=margin,
        margin_absolute=absolute,
        covariate=covariate,
    )
    section.finish()
    return metric


def _covariate(value: object, where: str) -> Covariate | None:
    if value is None or value is False:
        return None
    if value == "pre_period":
        return Covariate()
    section = _Section(value, f"{where} (pre_period or a mapping)")
    covariate = Covariate(section.text("numerator"), section.optional_text("denominator"))
    section.finish()
    return covariate


def _metrics(value: object, where: str, *, guardrail: bool = False) -> tuple[Metric, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UsageError(f"{where} is a list of metrics, got {type(value).__name__}")
    return tuple(_metric(v, f"{where}[{i}]", guardrail=guardrail) for i, v in enumerate(value))


def parse_config(value: object, source: str = "config") -> ExperimentConfig:
    """An experiment from the mapping that a YAML file holds.

    Raises:
        UsageError: a key is missing, unknown or does not make sense; the text names it.
    """
    top = _Section(value, source)
    variants = check_variants(_Section(top.take("variants"), f"{source}: variants")._values)
    control = top.text("control", "control")
    others = [name for name in variants if name != control]
    if control not in variants:
        raise UsageError(f"{source}: control {control!r} is not a variant ({', '.join(variants)})")
    treatment = top.text("treatment", others[0] if len(others) == 1 else None)
    if treatment not in others:
        raise UsageError(f"{source}: treatment {treatment!r} is not among {', '.join(others)}")
    for name in (control, treatment):
        if variants[name] == 0.0:
            raise UsageError(f"{source}: variant {name} has no share, nothing can be compared")
    start = top.moment("start")
    horizon = _Section(top.take("horizon", {}), f"{source}: horizon")
    end = horizon.moment("end")
    days = horizon.optional_number("days", 0.01, 3650.0)
    units = None if horizon._values.get("units") is None else horizon.count("units", None, 2)
    horizon.take("units")
    horizon.finish()
    if days is not None:
        if start is None or end is not None:
            raise UsageError(f"{source}: horizon: days needs a start and no end")
        end = start + timedelta(days=days)
    if start is not None and end is not None and end <= start:
        raise UsageError(f"{source}: horizon ends ({end:%Y-%m-%d}) before its start")
    if end is None and units is None:
        raise UsageError(
            f"{source}: horizon needs end, days or units, fixed before the start "
            "(platehide experiment plan says how many)"
        )
    peeking = top.flag("peeking")
    if peeking and units is None:
        raise UsageError(f"{source}: peeking needs horizon: units, the sellers planned")
    quality = _Section(top.take("quality", {}), f"{source}: quality")
    limits = Quality(
        min_units=quality.count("min_units", 100, 2),
        sample_ratio_alpha=quality.number("sample_ratio_alpha", 0.001, 0.0, 1.0, ends=False),
        max_mixed_units=quality.number("max_mixed_units", 0.01, 0.0, 1.0),
        max_missing=quality.number("max_missing", 0.05, 0.0, 1.0),
        max_without_outcomes=quality.number("max_without_outcomes", 0.10, 0.0, 1.0),
    )
    quality.finish()
    salt = top.take("salt", "")
    if not isinstance(salt, str):
        raise UsageError(f"{source}: salt is a text, got {salt!r}")
    config = ExperimentConfig(
        experiment=top.text("experiment"),
        variants=variants,
        control=control,
        treatment=treatment,
        primary=_metric(top.take("primary"), f"{source}: primary"),
        secondary=_metrics(top.take("secondary"), f"{source}: secondary"),
        guardrails=_metrics(top.take("guardrails"), f"{source}: guardrails", guardrail=True),
        salt=salt,
        traffic=top.number("traffic", 1.0, 0.0, 1.0),
        start=start,
        end=end,
        units=units,
        alpha=top.number("alpha", 0.05, 0.0, 0.5, ends=False),
        power=top.number("power", 0.8, 0.0, 1.0, ends=False),
        peeking=peeking,
        check_assignment=top.flag("check_assignment"),
        columns=top.texts("columns"),
        models=top.texts("models"),
        quality=limits,
        bootstrap=top.count("bootstrap", 1000, 100),
    )
    top.finish()
    _check_together(config, source)
    return config


def _check_together(config: ExperimentConfig, source: str) -> None:
    unknown = set(config.columns) - {"unit", "variant", "time", "experiment", "model"}
    if unknown:
        raise UsageError(f"{source}: columns: unknown key {', '.join(sorted(unknown))}")
    if set(config.models) - set(config.variants):
        raise UsageError(f"{source}: models names a variant that does not exist")
    names = [m.name for m in config.metrics]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise UsageError(f"{source}: two metrics are called {', '.join(sorted(twice))}")
    if config.start is None and any(
        m.covariate is not None and m.covariate.pre_period for m in config.metrics
    ):
        raise UsageError(f"{source}: cuped: pre_period needs a start")


def load_config(path: Path) -> ExperimentConfig:
    """Read ``path``.

    Raises:
        UsageError: it cannot be read, is not YAML, or does not make sense.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1})" if place is not None else ""
        raise UsageError(f"{path}: not YAML{where}") from None
    return parse_config(value, str(path))
