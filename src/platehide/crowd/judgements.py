"""The raw answers of a crowd: the JSONL contract, checked line by line.

One line is one judgement of one worker on one task::

    {"task": "t1", "worker": "w7", "width": 1280, "height": 960,
     "submitted_at": 1767225600.0, "seconds": 9.4,
     "answer": {"plates": [[[x, y], [x, y], [x, y], [x, y]]]} | {"skip": true},
     "golden": {"plates": [...]}}          # only on control tasks

Coordinates are pixels of the displayed photo; a plate may reach outside it. Corners come in any
start and direction. ``{"plates": []}`` means "there is no plate"; ``skip`` means "I cannot say"
and counts for nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from platehide.errors import UsageError
from platehide.geometry import order_corners
from platehide.types import FloatArray, as_quad

MAX_COORDINATE_PX = 1e6
"""Farther out than any photo: a larger number is a broken file, not a plate."""

MAX_PLATES = 256
"""More plates than this in one answer is a broken file or an attack on the matching."""

_GOLDEN_TOLERANCE_PX = 0.01


class JudgementError(UsageError):
    """A judgement breaks the contract; the message names the file, the line and the reason."""

    code = "judgement"


@dataclass(frozen=True)
class Judgement:
    """One answer of one worker.

    Attributes:
        task: the photo's identity.
        worker: who answered.
        width: of the displayed photo in px.
        height: of the displayed photo in px.
        submitted_at: Unix seconds.
        seconds: time the worker held the task; ``None`` where it is not known.
        plates: each ``(4, 2)`` px, TL, TR, BR, BL; empty means "no plate" unless ``skip``.
        skip: the worker could not say.
        golden: the known truth of a control task, ``None`` on all others.
    """

    task: str
    worker: str
    width: int
    height: int
    submitted_at: float
    seconds: float | None = None
    plates: tuple[FloatArray, ...] = ()
    skip: bool = False
    golden: tuple[FloatArray, ...] | None = None

    def row(self) -> dict[str, Any]:
        """The judgement as a row of the JSONL contract."""
        drawn = {"plates": [_points(q) for q in self.plates]}
        row: dict[str, Any] = {
            "task": self.task,
            "worker": self.worker,
            "width": self.width,
            "height": self.height,
            "submitted_at": self.submitted_at,
            "seconds": self.seconds,
            "answer": {"skip": True} if self.skip else drawn,
        }
        if self.golden is not None:
            row["golden"] = {"plates": [_points(q) for q in self.golden]}
        return row


def _points(quad: FloatArray) -> list[list[float]]:
    return [[round(float(x), 4), round(float(y), 4)] for x, y in quad]


def _fail(where: str, reason: str) -> NoReturn:
    raise JudgementError(f"{where}: {reason}")


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    if key not in row:
        _fail(where, f"'{key}' is missing")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        _fail(where, f"'{key}' must be a non-empty text, got {value!r}")
    return str(value)


def _number(value: object, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(where, f"'{name}' must be a number, got {value!r}")
    # An integer literal may be too long for a float.
    if not -sys.float_info.max <= value <= sys.float_info.max:
        _fail(where, f"'{name}' must be finite, got {str(value)[:40]}")
    return float(value)


def _size(row: Mapping[str, Any], key: str, where: str) -> int:
    if key not in row:
        _fail(where, f"'{key}' is missing")
    number = _number(row[key], key, where)
    if number != int(number) or not 1 <= number <= MAX_COORDINATE_PX:
        _fail(where, f"'{key}' must be a whole number of pixels from 1, got {row[key]!r}")
    return int(number)


def parse_plates(value: object, name: str, where: str) -> tuple[FloatArray, ...]:
    """Check a list of plates, each four ``[x, y]`` in any order; return them TL, TR, BR, BL.

    Raises:
        JudgementError: not a list of four finite points each; says which plate and point.
    """
    if not isinstance(value, list):
        _fail(where, f"'{name}' must be a list of plates, got {value!r}")
    if len(value) > MAX_PLATES:
        _fail(where, f"'{name}' has {len(value)} plates, at most {MAX_PLATES} are allowed")
    quads = []
    for index, plate in enumerate(value, start=1):
        if not isinstance(plate, list) or len(plate) != 4:
            found = len(plate) if isinstance(plate, list) else repr(plate)
            _fail(where, f"plate {index} of '{name}' must have four corners, got {found}")
        corners = []
        for corner in plate:
            if not isinstance(corner, list) or len(corner) != 2:
                _fail(where, f"a corner of plate {index} of '{name}' must be [x, y], got {corner}")
            xy = [_number(c, f"{name}: plate {index}", where) for c in corner]
            if max(abs(c) for c in xy) > MAX_COORDINATE_PX:
                _fail(where, f"a corner of plate {index} of '{name}' is not on any photo: {corner}")
            corners.append(xy)
        quads.append(as_quad(order_corners(np.array(corners))))
    return tuple(quads)


def parse_judgement(row: object, where: str) -> Judgement:
    """Check one row of the contract. ``where`` names file and line in error messages.

    Raises:
        JudgementError: a field is missing or wrong. Unknown fields are ignored.
    """
    if not isinstance(row, Mapping):
        _fail(where, f"a judgement must be a JSON object, got {type(row).__name__}")
    task, worker = _text(row, "task", where), _text(row, "worker", where)
    width, height = _size(row, "width", where), _size(row, "height", where)
    if "submitted_at" not in row:
        _fail(where, "'submitted_at' is missing")
    submitted_at = _number(row["submitted_at"], "submitted_at", where)
    seconds = row.get("seconds")
    if seconds is not None:
        seconds = _number(seconds, "seconds", where)
        if seconds < 0:
            _fail(where, f"'seconds' must not be negative, got {seconds}")
    if "answer" not in row:
        _fail(where, "'answer' is missing")
    answer = row["answer"]
    if not isinstance(answer, Mapping) or not ({"plates", "skip"} & set(answer)):
        _fail(where, f"'answer' must hold 'plates' or 'skip', got {answer!r}")
    skip = answer.get("skip", False)
    if not isinstance(skip, bool):
        _fail(where, f"'skip' must be true or false, got {skip!r}")
    if not skip and "plates" not in answer:
        _fail(where, "'answer' neither skips nor has 'plates'")
    plates = () if skip else parse_plates(answer["plates"], "plates", where)
    golden = None
    if row.get("golden") is not None:
        truth = row["golden"]
        if not isinstance(truth, Mapping) or "plates" not in truth:
            _fail(where, f"'golden' must hold 'plates', got {truth!r}")
        golden = parse_plates(truth["plates"], "golden", where)
    return Judgement(task, worker, width, height, submitted_at, seconds, plates, bool(skip), golden)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def parse_line(line: str, where: str) -> Judgement:
    """Parse one JSONL line. Raises ``JudgementError`` (NaN and Infinity are refused too)."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise JudgementError(f"{where}: not JSON: {error}") from error
    return parse_judgement(row, where)


def iter_judgements(lines: Iterable[str], name: str) -> Iterator[tuple[str, Judgement]]:
    """Yield ``(where, judgement)`` for each line that is not blank; ``where`` is ``name:line``."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{name}:{number}"
            yield where, parse_line(line, where)


def same_plates(a: Sequence[FloatArray], b: Sequence[FloatArray], tolerance_px: float) -> bool:
    """True when two lists hold the same plates in any order, corners within ``tolerance_px``."""
    rest = list(b)
    for quad in a:
        index = next(
            (i for i, other in enumerate(rest) if np.abs(quad - other).max() <= tolerance_px), None
        )
        if index is None:
            return False
        rest.pop(index)
    return not rest


def check_consistent(located: Iterable[tuple[str, Judgement]]) -> list[Judgement]:
    """Check that all judgements of one task speak of one photo and one golden truth.

    Raises:
        JudgementError: two lines give a task different sizes or different control answers;
            the message names both lines.
    """
    seen: dict[str, tuple[str, Judgement]] = {}
    truth: dict[str, tuple[str, tuple[FloatArray, ...]]] = {}
    judgements = []
    for where, j in located:
        first_where, first = seen.setdefault(j.task, (where, j))
        if (first.width, first.height) != (j.width, j.height):
            _fail(
                where,
                f"task {j.task!r} is {j.width}x{j.height} here but "
                f"{first.width}x{first.height} at {first_where}",
            )
        if j.golden is not None:
            golden_where, golden = truth.setdefault(j.task, (where, j.golden))
            if not same_plates(golden, j.golden, _GOLDEN_TOLERANCE_PX):
                _fail(where, f"task {j.task!r} has another golden answer at {golden_where}")
        judgements.append(j)
    return judgements


def read_judgements(path: Path) -> list[Judgement]:
    """Read and check a judgements file, in file order.

    Raises:
        JudgementError: a line breaks the contract (names the line).
        UsageError: the file cannot be read as UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return check_consistent(iter_judgements(lines, str(path)))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text: {error.reason}") from error


def _rank(j: Judgement) -> tuple[float, str]:
    # The canonical text breaks ties, so that the order of the lines never matters.
    return j.submitted_at, json.dumps(j.row(), sort_keys=True)


def latest(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Keep one judgement a (task, worker): the last submitted; sorted by task, then worker.

    A worker may correct an answer; the newest stands. Equal times are broken by content, so
    the result does not depend on the order of the input (see docs/adr/0041).
    """
    kept: dict[tuple[str, str], Judgement] = {}
    for j in judgements:
        key = (j.task, j.worker)
        old = kept.get(key)
        if old is None or (j.submitted_at >= old.submitted_at and _rank(j) > _rank(old)):
            kept[key] = j
    return [kept[key] for key in sorted(kept)]


def golden_of(judgements: Iterable[Judgement]) -> dict[str, tuple[FloatArray, ...]]:
    """The control truth of every task on which any judgement carries one."""
    return {j.task: j.golden for j in judgements if j.golden is not None}
