"""Results of other detectors, read from a file: anything that yields boxes or quads can be
evaluated and compared (format: docs/evaluation-formats.md).
"""

from __future__ import annotations

import importlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import PhotoOutcome, Prediction, score_photo
from platehide.evaluate.runner import Predictor
from platehide.evaluate.shapes import quad_of_box, quad_of_matrix, quad_of_rotated
from platehide.geometry import area, box_to_quad, clip_convex, convex_hull, is_convex
from platehide.pixels import PixelSource
from platehide.types import FloatArray, as_quad

SHAPES: dict[str, Callable[[Any], FloatArray]] = {
    "quads": as_quad,
    "boxes": quad_of_box,
    "rotated": quad_of_rotated,
    "matrices": quad_of_matrix,
}
"""Key of a row → how one entry of its list becomes a quad."""

STATUSES = ("hidden", "none", "unsure", "error")


@dataclass(frozen=True)
class Answer:
    """One photo's row: ``quads`` ``(n, 4, 2)`` px, ``scores`` ``(n,)``, what was painted where the
    row says so, the status and the time."""

    quads: FloatArray
    scores: FloatArray
    painted: tuple[FloatArray, ...] | None
    status: str
    ms: float


def grown(quad: FloatArray, share: float) -> FloatArray:
    """The quad scaled about its centre by ``1 + share``."""
    centre = quad.mean(axis=0)
    return np.asarray(centre + (quad - centre) * (1.0 + share), dtype=np.float64)


def _milliseconds(value: Any) -> float:
    if isinstance(value, dict):  # a row of ``platehide detect``
        value = value.get("detect")
    if value is None:
        return math.nan
    number = float(value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"ms is {value!r}")
    return number


def _polygon(points: Any) -> FloatArray:
    """A painted polygon ``(m, 2)``; where it is not convex, its hull."""
    polygon = np.array(points, dtype=np.float64).reshape(-1, 2)
    if len(polygon) < 3 or not np.isfinite(polygon).all():
        raise ValueError(f"a painted polygon has three or more finite points, got {points}")
    return polygon if is_convex(polygon) else convex_hull(polygon)


def _answer(row: dict[str, Any]) -> Answer:
    quads: list[FloatArray] = []
    scores: list[float] = []
    if "plates" in row:  # a row of ``platehide detect`` or ``platehide hide``
        for plate in row["plates"]:
            quads.append(as_quad(plate["quad"]) if plate.get("quad") else quad_of_box(plate["box"]))
            scores.append(float(plate.get("confidence", 1.0)))
    given = [key for key in SHAPES if key in row]
    if not given and "plates" not in row and row.get("status") not in ("unsure", "error"):
        raise ValueError(f"a row needs one of {', '.join(SHAPES)}")
    for key in given:
        if not isinstance(row[key], list | tuple | np.ndarray):
            raise ValueError(f"{key} is a list, one entry a plate, got {row[key]!r}")
        quads += [SHAPES[key](entry) for entry in row[key]]
    if given:
        listed = row.get("scores")
        scores += [1.0] * (len(quads) - len(scores)) if listed is None else map(float, listed)
    if len(scores) != len(quads):
        raise ValueError(f"{len(quads)} plates, {len(scores)} scores")
    if not all(math.isfinite(s) for s in scores):
        raise ValueError("a score is not a number")
    painted = row.get("painted")
    status = str(row.get("status") or ("hidden" if quads else "none"))
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    return Answer(
        np.array(quads, dtype=np.float64).reshape(-1, 4, 2),
        np.array(scores, dtype=np.float64),
        None if painted is None else tuple(_polygon(p) for p in painted),
        status,
        _milliseconds(row.get("ms")),
    )


def read_predictions(path: Path) -> dict[str, Answer]:
    """Read a JSONL file of predictions by image name.

    Raises:
        UsageError: missing, broken (the message names file and line), or an image twice.
    """
    found: dict[str, Answer] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    name = str(row["image"]).replace("\\", "/").removeprefix("./")
                    answer = _answer(row)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                    raise UsageError(f"{path}:{number}: {what}") from error
                if name in found:
                    raise UsageError(f"{path}:{number}: {name} a second time")
                found[name] = answer
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text") from error
    return found


def by_record(
    answers: dict[str, Answer], records: Sequence[PhotoRecord], where: str
) -> dict[str, Answer]:
    """Answers by record name. An image may be named ``set/images/file`` (with folders before it),
    or by a shorter end of that where it is the only one of that name.

    Raises:
        UsageError: a photo has no answer: a photo that was not looked at is not one without a
            plate.
    """
    whole: dict[str, list[str]] = {}
    for name in answers:
        whole.setdefault("/".join(name.split("/")[-3:]), []).append(name)
    count = Counter("/".join(r.name.split("/")[-k:]) for r in records for k in (1, 2))
    out, missing = {}, []
    for r in records:
        parts = r.name.split("/")
        short = ["/".join(parts[-k:]) for k in (2, 1)]
        named = whole.get(r.name, []) or [s for s in short if s in answers and count[s] == 1]
        if len(named) == 1:
            out[r.name] = answers[named[0]]
        else:
            missing.append(r.name)
    if missing:
        raise UsageError(
            f"{where}: no row for {len(missing)} of {len(records)} photos, e.g. {missing[0]}"
            " (a photo in which nothing was found has an empty list)"
        )
    return out


def to_prediction(
    answer: Answer, size_wh: tuple[int, int], *, conf: float = 0.0, grow: float = 0.0
) -> Prediction:
    """What an answer paints: its own polygons where it names them, else its quads, grown by a
    share of their size (the hull of corners that do not run round a plate). A plate outside the
    picture is not painted and so does not count as reported."""
    if answer.status in ("unsure", "error"):
        return Prediction(np.empty((0, 4, 2)), np.empty(0), (), answer.status, answer.ms)
    keep = np.flatnonzero(answer.scores >= conf)
    if answer.painted is not None and not grow and len(keep) == len(answer.quads):
        painted = answer.painted
    else:
        picture = box_to_quad([0, 0, *size_wh])
        shapes = [clip_convex(_polygon(grown(answer.quads[i], grow)), picture) for i in keep]
        keep = np.array([i for i, s in zip(keep, shapes, strict=True) if area(s) > 0.0], np.intp)
        painted = tuple(s for s in shapes if area(s) > 0.0)
    status = "hidden" if len(keep) else "none"
    return Prediction(answer.quads[keep], answer.scores[keep], painted, status, answer.ms)


def judge_predictions(
    records: Sequence[PhotoRecord],
    answers: dict[str, Answer],
    where: str,
    *,
    conf: float = 0.0,
    grow: float = 0.0,
) -> list[PhotoOutcome]:
    """Score a file of predictions like a model that runs here."""
    mine = by_record(answers, records, where)
    return [
        score_photo(r, to_prediction(mine[r.name], (r.width, r.height), conf=conf, grow=grow))
        for r in records
    ]


def load_function(name: str, *, conf: float = 0.0, grow: float = 0.0) -> Predictor:
    """A predictor from ``module:function``: the function takes a picture, uint8 ``(H, W, 3)`` RGB,
    and returns a dictionary with one of ``quads``, ``boxes``, ``rotated``, ``matrices`` and, where
    it knows them, ``scores``.

    Raises:
        UsageError: there is no such function.
    """
    module, sign, attribute = name.partition(":")
    try:
        if not sign:
            raise ValueError("expected MODULE:FUNCTION")
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--predictor {name}: {error}") from error

    def predict(source: PixelSource) -> Prediction:
        width, height = source.size_wh
        picture = np.ascontiguousarray(source.region((0, 0, width, height)))
        begin = time.perf_counter()
        raw = function(picture)
        spent = (time.perf_counter() - begin) * 1e3
        try:
            answer = _answer({"ms": spent} | dict(raw))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"--predictor {name}: {error}") from error
        return to_prediction(answer, (width, height), conf=conf, grow=grow)

    return predict
