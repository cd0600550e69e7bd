"""What all formats share: the record, the checks, located JSON and whole-file writes."""

from __future__ import annotations

import json
import json.decoder
import json.scanner
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from platehide.crowd.judgements import MAX_COORDINATE_PX
from platehide.errors import UsageError
from platehide.files import write_result
from platehide.geometry import order_corners
from platehide.types import FloatArray, as_quad

Sizes = Mapping[str, tuple[int, int]]
"""Image name (or its last part) -> (width, height) px, for formats that do not carry it."""


class InterchangeError(UsageError):
    """A file cannot be read or written; the message names the file, the line and the reason."""

    code = "interchange"


@dataclass(frozen=True)
class Annotation:
    """One photo's plates, by one worker or agreed.

    Attributes:
        image: name of the photo.
        width: px.
        height: px.
        plates: each ``(4, 2)`` px, TL, TR, BR, BL; none means "no plate" unless ``skip``.
        worker: who drew it; empty for a label.
        task: identity of the task; the image's name where a format has none.
        submitted_at: Unix seconds or ``None``.
        seconds: time taken or ``None``.
        skip: the worker could not say.
        golden: truth of a control task or ``None``.
        split: ``train``, ``val``, ``test`` or empty.
    """

    image: str
    width: int
    height: int
    plates: tuple[FloatArray, ...] = ()
    worker: str = ""
    task: str = ""
    submitted_at: float | None = None
    seconds: float | None = None
    skip: bool = False
    golden: tuple[FloatArray, ...] | None = None
    split: str = ""

    @property
    def task_name(self) -> str:
        """``task``, or the image's name where it is empty."""
        return self.task or self.image


def fail(where: str, reason: str) -> NoReturn:
    """Raise ``InterchangeError``."""
    raise InterchangeError(f"{where}: {reason}")


def number(value: object, name: str, where: str) -> float:
    """A finite number, also written as text. Raises ``InterchangeError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        fail(where, f"{name} must be a number, got {value!r}")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        fail(where, f"{name} must be a number, got {value!r}")
    if not math.isfinite(found):
        fail(where, f"{name} must be finite, got {value!r}")
    return found


def pixels(value: object, name: str, where: str) -> int:
    """A photo's width or height. Raises ``InterchangeError``."""
    found = number(value, name, where)
    if found != int(found) or not 1 <= found <= MAX_COORDINATE_PX:
        fail(where, f"{name} must be a whole number of pixels from 1, got {value!r}")
    return int(found)


def make_quad(points: Sequence[Sequence[float]], where: str) -> FloatArray:
    """Four corners in any order as TL, TR, BR, BL. Raises ``InterchangeError``."""
    if len(points) != 4:
        fail(where, f"a plate needs four corners, got {len(points)}")
    quad = np.array(points, dtype=np.float64)
    if np.abs(quad).max() > MAX_COORDINATE_PX:
        fail(where, "a corner is not on any photo")
    return as_quad(order_corners(quad))


def find_size(sizes: Sizes | None, image: str, where: str) -> tuple[int, int]:
    """Size of a photo that the file does not give. Raises ``InterchangeError``."""
    known = sizes or {}
    for name in (image, PurePosixPath(image).name):
        if name in known:
            return known[name]
    fail(where, f"the width and height of {image!r} are missing and no photo of that name is known")


def one_a_photo(annotations: Sequence[Annotation], form: str) -> None:
    """Refuse what a format for labels cannot hold: skips, and two answers on one photo."""
    seen: set[str] = set()
    for a in annotations:
        if a.skip:
            fail(a.image, f"a skip is neither a plate nor 'no plate'; {form} cannot hold it")
        if a.image in seen:
            fail(a.image, f"two answers on one photo; {form} holds one (aggregate first)")
        seen.add(a.image)


def seconds_of(text: object, name: str, where: str) -> float:
    """Unix seconds of an ISO 8601 time; UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        fail(where, f"{name} must be an ISO 8601 time, got {text!r}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def iso_time(seconds: float) -> str:
    """ISO 8601 time in UTC of Unix seconds, to the microsecond."""
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="microseconds")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises ``InterchangeError``."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        fail(str(path), error.strerror or str(error))
    except UnicodeDecodeError as error:
        fail(str(path), f"not UTF-8 text: {error.reason} at byte {error.start}")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing. Raises ``InterchangeError``."""
    try:
        write_result(path, text.encode("utf-8"))
    except UnicodeEncodeError as error:
        fail(str(path), f"a name cannot be written as UTF-8: {error.object[:60]!r}")
    except OSError as error:
        fail(str(path), error.strerror or str(error))


class Located(dict[str, Any]):
    """A JSON object that knows the line on which it begins."""

    line: int = 0


def load_json(path: Path) -> tuple[Any, str]:
    """The document of a JSON file, its objects ``Located``; and the file's name.

    Raises:
        InterchangeError: not JSON; names the line. NaN and Infinity are refused.
    """
    text = read_text(path)
    breaks = [i for i, c in enumerate(text) if c == "\n"]

    class Decoder(json.JSONDecoder):
        def __init__(self) -> None:
            super().__init__(parse_constant=_refuse)
            self.parse_object = _located
            self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]

    def _located(s_and_end: tuple[str, int], *rest: Any, **named: Any) -> tuple[Located, int]:
        found, end = json.decoder.JSONObject(s_and_end, *rest, **named)  # type: ignore[attr-defined]
        row = Located(found)
        row.line = bisect_right(breaks, s_and_end[1] - 1) + 1
        return row, end

    try:
        return Decoder().decode(text), str(path)
    except json.JSONDecodeError as error:
        fail(f"{path}:{error.lineno}", f"not JSON: {error.msg}")
    except (ValueError, RecursionError) as error:
        fail(str(path), f"not JSON: {error}")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def line_of(row: object, name: str) -> str:
    """``file:line`` of a located object."""
    return f"{name}:{row.line}" if isinstance(row, Located) else name


def need(row: object, key: str, where: str) -> Any:
    """``row[key]``. Raises ``InterchangeError`` where it is missing."""
    if not isinstance(row, Mapping):
        fail(where, f"must be an object with '{key}', got {type(row).__name__}")
    if key not in row:
        fail(where, f"'{key}' is missing")
    return row[key]


def rounded(quad: FloatArray, digits: int = 4) -> list[list[float]]:
    """Corners as plain lists of rounded numbers."""
    return [[round(float(x), digits), round(float(y), digits)] for x, y in quad]
