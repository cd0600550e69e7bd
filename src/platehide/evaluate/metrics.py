"""The metrics of docs/metrics.md. One definition for everyone; NumPy only.

Polygons are px of the photo as displayed. Nothing here rasterises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from platehide.evaluate.dataset import PhotoRecord, PlateLabel
from platehide.geometry import (
    area,
    box_iou,
    box_to_quad,
    clip_convex,
    coverage,
    hull_box,
    plate_height,
    polygon_iou,
    union_area_within,
    vertex_distance,
)
from platehide.types import FloatArray

LEAK_COVERAGE = 0.95
WIDTH_BANDS: tuple[tuple[str, float, float], ...] = (
    ("<32", 0.0, 32.0),
    ("32-64", 32.0, 64.0),
    ("64-128", 64.0, 128.0),
    (">128", 128.0, math.inf),
)


@dataclass(frozen=True)
class Prediction:
    """What came out for one photo: reported plates and what was painted.

    Attributes:
        quads: ``(n, 4, 2)`` of the reported plates that were painted.
        confidences: ``(n,)``.
        painted: one polygon ``(m, 2)`` per plate, margin included.
        status: hidden / none / unsure / error.
        ms: time of detection in ms, or NaN.
    """

    quads: FloatArray
    confidences: FloatArray
    painted: tuple[FloatArray, ...]
    status: str = "hidden"
    ms: float = math.nan


@dataclass(frozen=True)
class PlateOutcome:
    """One true plate and what happened to it."""

    set_name: str
    photo: str
    index: int
    width_px: float
    exact: bool
    iou: float
    iou_quad: float
    matched: bool
    matched75: bool
    corner_error: float
    covered: float

    @property
    def leaked(self) -> bool:
        """Coverage below 0.95."""
        return self.covered < LEAK_COVERAGE


@dataclass(frozen=True)
class PhotoOutcome:
    """One photo: its plates' outcomes and the photo's own figures."""

    set_name: str
    photo: str
    plates: tuple[PlateOutcome, ...]
    reported: int
    painted: int
    matched: int
    complete: bool
    over_cover: float
    status: str
    ms: float
    confidences: tuple[float, ...] = ()
    hits: tuple[bool, ...] = ()


def label_iou(quad: FloatArray, label: PlateLabel) -> float:
    """IoU of a predicted quad with a label: exact quads by polygons, boxes by the hull."""
    if label.quad is not None:
        return polygon_iou(quad, label.quad)
    return box_iou(hull_box(quad), label.box)


def core_of_box(box: FloatArray) -> FloatArray:
    """Quad of the central 90 % × 80 % of a box (what must be covered where no quad is known)."""
    x0, y0, x1, y1 = box
    dx, dy = 0.05 * (x1 - x0), 0.10 * (y1 - y0)
    return box_to_quad([x0 + dx, y0 + dy, x1 - dx, y1 - dy])


def region_of(label: PlateLabel) -> FloatArray:
    """What of a plate must be covered, ``(4, 2)``: its quad, or the core of its box."""
    return label.quad if label.quad is not None else core_of_box(label.box)


def match_plates(
    prediction: Prediction, labels: Sequence[PlateLabel], threshold: float
) -> dict[int, int]:
    """One-to-one matches label index → prediction index, by descending confidence."""
    taken: dict[int, int] = {}
    for p in np.argsort(-prediction.confidences, kind="stable"):
        best, best_iou = -1, threshold
        for k, label in enumerate(labels):
            if k in taken:
                continue
            iou = label_iou(prediction.quads[p], label)
            if iou >= best_iou:
                best, best_iou = k, iou
        if best >= 0:
            taken[best] = int(p)
    return taken


def score_photo(record: PhotoRecord, prediction: Prediction) -> PhotoOutcome:
    """Judge one photo against its labels."""
    labels = record.plates
    picture = box_to_quad([0, 0, record.width, record.height])
    at50 = match_plates(prediction, labels, 0.5)
    at75 = match_plates(prediction, labels, 0.75)
    plates = []
    for k, label in enumerate(labels):
        p = at50.get(k)
        quad = None if p is None else prediction.quads[p]
        iou = 0.0 if quad is None else label_iou(quad, label)
        error = math.nan
        if quad is not None and label.quad is not None:
            error = vertex_distance(quad, label.quad) / max(plate_height(label.quad), 1e-6)
        region = region_of(label)
        plates.append(
            PlateOutcome(
                set_name=record.set_name,
                photo=record.name,
                index=k,
                width_px=label.width_px,
                exact=label.quad is not None,
                iou=iou,
                iou_quad=iou if label.quad is not None else math.nan,
                matched=k in at50,
                matched75=k in at75,
                corner_error=error,
                # What lies beyond the frame is neither read nor painted.
                covered=coverage(clip_convex(region, picture), prediction.painted),
            )
        )
    over = math.nan
    if labels and (record.complete or len(labels) == 1) and prediction.painted:
        over = _over_cover(labels, prediction, only_matched=not record.complete)
    hit = set(at50.values())
    return PhotoOutcome(
        set_name=record.set_name,
        photo=record.name,
        plates=tuple(plates),
        reported=len(prediction.quads),
        painted=len(prediction.painted),
        matched=len(at50),
        complete=record.complete,
        over_cover=over,
        status=prediction.status,
        ms=prediction.ms,
        confidences=tuple(float(c) for c in prediction.confidences),
        hits=tuple(i in hit for i in range(len(prediction.quads))),
    )


def _over_cover(
    labels: Sequence[PlateLabel], prediction: Prediction, *, only_matched: bool
) -> float:
    """Painted area outside every true polygon, per area of the true polygons.

    Where background plates are unlabelled only covers that touch a labelled plate count.
    """
    truths = [label.polygon for label in labels]
    kept = [p for p in prediction.painted if not only_matched or union_area_within(p, truths) > 0.0]
    if not kept:
        return 0.0
    frame = box_to_quad(hull_box(np.vstack(kept)))
    inside = [clip_convex(p, t) for p in kept for t in truths]
    outside = union_area_within(frame, kept) - union_area_within(frame, inside)
    return max(0.0, outside) / max(sum(area(t) for t in truths), 1e-6)


def wilson(successes: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval (Wilson 1927) of a share; (0, 1) for nothing observed."""
    if total == 0:
        return 0.0, 1.0
    p = successes / total
    denominator = 1 + z * z / total
    centre = (p + z * z / (2 * total)) / denominator
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Share:
    """A counted share with its Wilson 95 % interval."""

    count: int
    total: int

    def to_json(self) -> dict[str, Any]:
        """count, total, value and interval (``None`` where nothing was counted)."""
        low, high = wilson(self.count, self.total)
        return {
            "count": self.count,
            "total": self.total,
            "value": self.count / self.total if self.total else None,
            "low": round(low, 5),
            "high": round(high, 5),
        }


def _share(flags: Iterable[bool]) -> dict[str, Any]:
    values = list(flags)
    return Share(sum(values), len(values)).to_json()


def _percentile(values: Sequence[float], q: float) -> float | None:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.percentile(finite, q)) if finite else None


def _mean(values: Iterable[float]) -> float | None:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else None


RESAMPLES = 200


def bootstrap(
    values: Sequence[float], statistic: Callable[[FloatArray], Any]
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval (Efron 1979) of a statistic over the finite values;
    the same values give the same interval. ``None`` where nothing is finite.

    Args:
        statistic: reduces the last axis, as ``numpy.mean(…, axis=-1)`` does.
    """
    finite = np.array([v for v in values if math.isfinite(v)], dtype=np.float64)
    if not len(finite):
        return None
    rng = np.random.default_rng(0)
    drawn = finite[rng.integers(0, len(finite), (RESAMPLES, len(finite)))]
    low, high = np.percentile(statistic(drawn), [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


def _means(values: FloatArray) -> Any:
    return values.mean(axis=-1)


def _medians(values: FloatArray) -> Any:
    return np.median(values, axis=-1)


def summarise(photos: Sequence[PhotoOutcome]) -> dict[str, Any]:
    """All metrics of metrics.md over a group of photos, JSON-ready."""
    plates = [p for photo in photos for p in photo.plates]
    wide = [p for p in plates if p.width_px >= 32.0]
    complete = [p for p in photos if p.complete]
    empty = [p for p in photos if not p.plates]
    errors = [p.corner_error for p in plates]
    overlaps = [p.iou_quad for p in plates if p.exact]
    over = [p.over_cover for p in photos]
    reported = sum(p.reported for p in complete)
    return {
        "photos": len(photos),
        "plates": len(plates),
        "recall50": _share(p.matched for p in plates),
        "recall75": _share(p.matched75 for p in plates),
        "recall50_ge32": _share(p.matched for p in wide),
        "precision50": Share(sum(p.matched for p in complete), reported).to_json(),
        "quad_iou": _mean(overlaps),
        "quad_iou_interval": bootstrap(overlaps, _means),
        "corner_error_median": _percentile(errors, 50),
        "corner_error_median_interval": bootstrap(errors, _medians),
        "corner_error_p95": _percentile(errors, 95),
        "leak": _share(p.leaked for p in plates),
        "leak_ge32": _share(p.leaked for p in wide),
        "leak_ge32_quads": _share(p.leaked for p in wide if p.exact),
        "leak_by_width": {
            name: _share(p.leaked for p in plates if low <= p.width_px < high)
            for name, low, high in WIDTH_BANDS
        },
        "recall50_by_width": {
            name: _share(p.matched for p in plates if low <= p.width_px < high)
            for name, low, high in WIDTH_BANDS
        },
        "over_cover": _mean(over),
        "over_cover_interval": bootstrap(over, _means),
        "false_covers": _share(p.painted > 0 for p in empty),
        "unsure": _share(p.status == "unsure" for p in photos),
        "errors": _share(p.status == "error" for p in photos),
        "ms_p50": _percentile([p.ms for p in photos], 50),
        "ms_p95": _percentile([p.ms for p in photos], 95),
        "ms_p99": _percentile([p.ms for p in photos], 99),
    }
