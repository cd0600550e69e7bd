"""Exposures and outcomes from JSONL, CSV or Parquet, joined by unit. Bad rows name their line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from platehide.assignment import assign
from platehide.errors import PlateHideError, UsageError
from platehide.experiment.config import ExperimentConfig

# The service's own exposure log writes ts, unit, arm and model.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "unit": ("unit", "unit_id"),
    "variant": ("variant", "arm"),
    "time": ("time", "ts", "timestamp"),
    "experiment": ("experiment",),
    "model": ("model", "model_version"),
}


class DataError(PlateHideError):
    """A file of exposures or outcomes cannot be used; the text names file, line and column."""

    code = "bad_data"


@dataclass(frozen=True)
class Table:
    """Rows of one file, and the line of each where the format has lines."""

    path: Path
    frame: pd.DataFrame
    lines: Sequence[int] | None = None

    def place(self, row: int) -> str:
        """Where ``row`` (0…) stands, for messages."""
        if self.lines is None:
            return f"{self.path} row {row + 1}"
        return f"{self.path}:{self.lines[row]}"


def read_table(path: Path) -> Table:
    """Read ``path``; the suffix says how (``.jsonl``, ``.ndjson``, ``.csv``, ``.parquet``).

    A folder is what the service writes with ``--exposure-format parquet``: its Parquet files, and
    those of its JSON lines that are not Parquet yet.

    Raises:
        UsageError: there is no such file, or its suffix is none of these.
        DataError: its content is not what the suffix says.
    """
    if path.is_dir():
        return _read_folder(path)
    suffix = path.suffix.lower()
    if suffix not in {".jsonl", ".ndjson", ".csv", ".parquet"}:
        raise UsageError(f"{path}: not .jsonl, .ndjson, .csv or .parquet")
    try:
        if suffix == ".parquet":
            return Table(path, pq.read_table(path).to_pandas().reset_index(drop=True))
        return _read_csv(path) if suffix == ".csv" else _read_json_lines(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except pa.ArrowException as error:
        raise DataError(f"{path}: not Parquet: {str(error).splitlines()[0]}") from None


def parts(folder: Path) -> list[Path]:
    """The files of a folder of exposures, sorted; an open file only if it is not Parquet yet."""
    done = {p.stem for p in folder.glob("*.parquet")}
    still_open = [
        p for p in folder.glob("*.open.jsonl") if p.name.removesuffix(".open.jsonl") not in done
    ]
    return sorted([*folder.glob("*.parquet"), *still_open])


def _read_folder(folder: Path) -> Table:
    files = parts(folder)
    if not files:
        raise UsageError(f"{folder}: no .parquet files in this folder")
    frames = []
    for path in files:
        table = read_table(path)
        if table.frame.empty:
            continue
        time = _column(table, {}, "time")
        if time is not None:  # text in one kind of file, timestamps in the other
            table.frame[time] = _times(table, time)
        frames.append(table.frame)
    return Table(folder, pd.concat(frames, ignore_index=True) if frames else pd.DataFrame())


def _read_json_lines(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    numbers_of_lines: list[int] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: a row is an object, got {type(row).__name__}")
            rows.append(row)
            numbers_of_lines.append(number)
    return Table(path, pd.DataFrame(rows), numbers_of_lines)


def _read_csv(path: Path) -> Table:
    # Text first: a seller "007" must not become 7, and a bad number must name its line.
    try:
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, skip_blank_lines=False, index_col=False
        )
    except pd.errors.EmptyDataError:
        return Table(path, pd.DataFrame(), [])
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: {str(error).strip()}") from None
    # A row that is too short is filled with NaN, one that is a blank line is nothing but that.
    frame = frame[~(frame.fillna("") == "").all(axis=1)]
    lines = [int(i) + 2 for i in frame.index]
    return Table(path, frame.reset_index(drop=True), lines)


def _column(table: Table, columns: Mapping[str, str], role: str) -> str | None:
    named = columns.get(role)
    if named is not None:
        return named if named in table.frame.columns else None
    return next((c for c in ALIASES[role] if c in table.frame.columns), None)


def _required(table: Table, columns: Mapping[str, str], role: str) -> str:
    column = _column(table, columns, role)
    if column is None:
        wanted = columns.get(role) or " or ".join(ALIASES[role])
        have = ", ".join(map(str, table.frame.columns)) or "none"
        raise DataError(f"{table.path}: no column {wanted} (there are: {have})")
    return column


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _first(bad: pd.Series) -> int:
    return int(np.flatnonzero(bad.to_numpy())[0])


def _texts(table: Table, column: str) -> pd.Series:
    values = table.frame[column]
    bad = values.isna() | (values.astype(str).str.strip() == "")
    if bad.any():
        raise DataError(f"{table.place(_first(bad))}: {column} is empty")
    odd = values.map(lambda v: isinstance(v, float | dict | list | bool))
    if odd.any():
        row = _first(odd)
        raise DataError(f"{table.place(row)}: {column} is an id, got {_shown(values.iloc[row])}")
    return values.astype(str)


def _times(table: Table, column: str) -> pd.Series:
    values = table.frame[column]
    if pd.api.types.is_datetime64_any_dtype(values):
        times = pd.to_datetime(values, utc=True)
    elif pd.api.types.is_numeric_dtype(values):
        times = pd.to_datetime(values, unit="s", utc=True, errors="coerce")
    else:
        times = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601")
    bad = times.isna()
    if bad.any():
        row = _first(bad)
        raise DataError(
            f"{table.place(row)}: {column} is a time (ISO 8601 or Unix seconds), "
            f"got {_shown(values.iloc[row])}"
        )
    return times


def numbers(table: Table, column: str) -> pd.Series:
    """``column`` as floats; null and empty stay NaN.

    Raises:
        DataError: a value is not a finite number, or the column does not exist.
    """
    if column not in table.frame.columns:
        have = ", ".join(map(str, table.frame.columns))
        raise DataError(f"{table.path}: no column {column} (there are: {have})")
    values = table.frame[column]
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype(object)
        empty = values.isna() | values.map(lambda v: isinstance(v, str) and not v.strip())
        words = {"true": 1.0, "false": 0.0}
        clean = values.map(lambda v: words.get(v.strip().lower(), v) if isinstance(v, str) else v)
        result = pd.to_numeric(clean.where(~empty), errors="coerce")
        bad = (result.isna() & ~empty) | np.isinf(result.astype(float))
    else:
        result = values.astype(float)
        bad = pd.Series(np.isinf(result), index=values.index)
    if bad.any():
        row = _first(bad)
        raise DataError(f"{table.place(row)}: {column} is a number, got {_shown(values.iloc[row])}")
    return result.astype(float)


@dataclass(frozen=True)
class Prepared:
    """What is left to judge.

    Attributes:
        units: index unit; ``variant`` and, where exposures carry a time, ``first`` exposure.
        rows: outcome rows inside the window of exposed units: ``unit``, ``variant``, ``time``
            where there is one, and the metrics' columns.
        before: rows of exposed units from before the start (for CUPED), same columns.
        counts: how many rows and units were left out, by reason.
        mixed_units: units seen in more than one variant (left out).
        wrong_units: units whose variant is not what the assignment function says.
        models: variant → model version → exposures.
        data_end: latest moment in either file; ``None`` without times.
    """

    units: pd.DataFrame
    rows: pd.DataFrame
    before: pd.DataFrame
    counts: Mapping[str, int]
    mixed_units: int
    wrong_units: int
    models: Mapping[str, Mapping[str, int]]
    data_end: datetime | None


def prepare(exposures: Table, outcomes: Table, config: ExperimentConfig) -> Prepared:
    """Join the two files.

    A unit counts from its first exposure, whether or not it has outcomes (intention to treat);
    rows before a unit's first exposure, and rows after the horizon's end, do not count.

    Raises:
        DataError: a needed column is missing or a value cannot be read.
    """
    counts: dict[str, int] = {}
    seen, models = _exposures(exposures, config, counts)
    variants_a_unit = seen.groupby("unit")["variant"].nunique()
    mixed = variants_a_unit.index[variants_a_unit > 1]
    units = seen[~seen["unit"].isin(mixed)].groupby("unit", sort=True)
    frame = units.agg(variant=("variant", "first"), first=("time", "min"))
    rows, before = _outcomes(outcomes, config, frame, set(mixed), counts)
    ends = [t.max() for t in (seen["time"], rows["time"]) if len(t) and t.notna().any()]
    return Prepared(
        units=frame,
        rows=rows,
        before=before,
        counts=counts,
        mixed_units=len(mixed),
        wrong_units=_wrong(frame, config) if config.check_assignment else 0,
        models=models,
        data_end=max(ends).floor("us").to_pydatetime() if ends else None,
    )


def _no_time(length: int) -> pd.Series:
    return pd.Series(pd.NaT, index=range(length)).dt.tz_localize("UTC")


def _exposures(
    table: Table, config: ExperimentConfig, counts: dict[str, int]
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    if table.frame.empty:
        empty = pd.DataFrame({"unit": [], "variant": []}, dtype=str).assign(time=_no_time(0))
        return empty, {}
    frame = pd.DataFrame(
        {
            "unit": _texts(table, _required(table, config.columns, "unit")),
            "variant": _texts(table, _required(table, config.columns, "variant")),
        }
    )
    time = _column(table, config.columns, "time")
    frame["time"] = _no_time(len(frame)) if time is None else _times(table, time)
    name = _column(table, config.columns, "experiment")
    if name is not None:
        other = _texts(table, name) != config.experiment
        counts["exposures of another experiment"] = int(other.sum())
        if other.all():
            raise DataError(f"{table.path}: no exposure of experiment {config.experiment!r}")
        frame = frame[~other]
    unknown = ~frame["variant"].isin(list(config.variants))
    if unknown.any():
        row = int(frame.index[_first(unknown)])
        raise DataError(
            f"{table.place(row)}: variant {frame['variant'][row]!r} is not one of "
            f"{', '.join(config.variants)}"
        )
    frame = _window(frame, config, counts, "exposures")
    model = _column(table, config.columns, "model")
    models: dict[str, dict[str, int]] = {}
    if model is not None:
        versions = table.frame[model].loc[frame.index].astype(str)
        for (variant, version), number in frame.groupby(["variant", versions]).size().items():
            models.setdefault(str(variant), {})[str(version)] = int(number)
    return frame.reset_index(drop=True), models


def _window(
    frame: pd.DataFrame, config: ExperimentConfig, counts: dict[str, int], what: str
) -> pd.DataFrame:
    if config.start is not None:
        early = frame["time"] < config.start
        counts[f"{what} before the start"] = int(early.sum())
        frame = frame[~early]
    if config.end is not None:
        late = frame["time"] >= config.end
        counts[f"{what} after the end"] = int(late.sum())
        frame = frame[~late]
    return frame


def _outcomes(
    table: Table,
    config: ExperimentConfig,
    units: pd.DataFrame,
    mixed: set[str],
    counts: dict[str, int],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    needed = _needed_columns(config)
    if table.frame.empty:
        empty = pd.DataFrame({c: pd.Series(dtype=float) for c in needed})
        empty = empty.assign(unit="", variant="", time=_no_time(0))
        return empty, empty
    frame = pd.DataFrame({"unit": _texts(table, _required(table, config.columns, "unit"))})
    time = _column(table, config.columns, "time")
    frame["time"] = _no_time(len(frame)) if time is None else _times(table, time)
    for column in needed:
        frame[column] = numbers(table, column)
    frame["variant"] = frame["unit"].map(units["variant"])
    stranger = frame["variant"].isna()
    of_mixed = frame["unit"].isin(mixed)
    counts["outcomes of units never exposed"] = int((stranger & ~of_mixed).sum())
    counts["outcomes of units in several variants"] = int(of_mixed.sum())
    frame = frame[~stranger]
    before = frame.iloc[:0]
    if config.start is not None:
        early = frame["time"] < config.start
        before, frame = frame[early], frame[~early]
    first = frame["unit"].map(units["first"])
    ahead = frame["time"] < first
    counts["outcomes before the unit's first exposure"] = int(ahead.sum())
    frame = frame[~ahead]
    if config.end is not None:
        late = frame["time"] >= config.end
        counts["outcomes after the end"] = int(late.sum())
        frame = frame[~late]
    return frame.reset_index(drop=True), before.reset_index(drop=True)


def _needed_columns(config: ExperimentConfig) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for metric in config.metrics:
        names.update(dict.fromkeys(metric.columns))
        covariate = metric.covariate
        if covariate is not None and not covariate.pre_period:
            pair = (covariate.numerator, covariate.denominator)
            names.update(dict.fromkeys(c for c in pair if c is not None))
    return tuple(names)


def _wrong(units: pd.DataFrame, config: ExperimentConfig) -> int:
    def expected(unit: str) -> str | None:
        return assign(
            config.experiment, unit, config.variants, salt=config.salt, traffic=config.traffic
        )

    pairs: Iterable[tuple[str, str]] = units["variant"].items()
    return sum(expected(unit) != variant for unit, variant in pairs)


def read_pilot(
    path: Path, numerator: str, denominator: str | None, columns: Mapping[str, str]
) -> tuple[pd.DataFrame, float | None]:
    """Sums by unit of past outcomes, and the new units a day where rows carry a time.

    Raises:
        DataError: a column is missing or a value cannot be read.
    """
    table = read_table(path)
    if table.frame.empty:
        raise DataError(f"{path}: no rows")
    frame = pd.DataFrame({"unit": _texts(table, _required(table, columns, "unit"))})
    frame["numerator"] = numbers(table, numerator)
    frame["denominator"] = numbers(table, denominator) if denominator is not None else 1.0
    sums = frame.dropna().groupby("unit")[["numerator", "denominator"]].sum()
    if denominator is None:
        sums["denominator"] = 1.0
    time = _column(table, columns, "time")
    if time is None:
        return sums, None
    times = _times(table, time)
    first = times.groupby(frame["unit"]).min()
    days = (times.max() - times.min()) / np.timedelta64(1, "D")
    return sums, float(len(first) / days) if days >= 1.0 else None
