"""From a network's raw outputs to plates. The ONE copy, NumPy only."""

from __future__ import annotations

import numpy as np

from platehide.geometry import box_iou, convex_hull, hull_box, is_convex, polygon_iou, signed_area
from platehide.types import FloatArray


def sigmoid(logit: FloatArray) -> FloatArray:
    """Logistic function, safe for large magnitudes."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logit, dtype=np.float64))))


def top_candidates(
    logits: FloatArray, quads: FloatArray, *, least: float, most: int
) -> tuple[FloatArray, FloatArray]:
    """Cells with a probability of at least ``least``, best first, ``most`` at the most.

    Args:
        logits: ``(N,)``. quads: ``(N, 4, 2)``.

    Returns:
        probabilities ``(k,)`` and quads ``(k, 4, 2)``.
    """
    probability = sigmoid(logits)
    index = np.flatnonzero(probability >= least)
    index = index[np.argsort(-probability[index], kind="stable")][:most]
    return probability[index], np.asarray(quads[index], dtype=np.float64)


def suppress(scores: FloatArray, quads: FloatArray, *, iou_threshold: float) -> list[list[int]]:
    """Greedy non-maximum suppression on polygon IoU; best first.

    A candidate that lies mostly inside a kept one (or the other way round) belongs to it too:
    two covers over one plate help nobody.

    Args:
        scores: ``(k,)`` in descending order. quads: ``(k, 4, 2)``.

    Returns:
        Groups of indices; the first of each is the one that is kept.
    """
    boxes = [hull_box(q) for q in quads]
    sizes = [max((b[2] - b[0]) * (b[3] - b[1]), 1e-6) for b in boxes]
    groups: list[list[int]] = []
    for i in range(len(scores)):
        home: list[int] | None = None
        for group in groups:
            k = group[0]
            width = min(boxes[i][2], boxes[k][2]) - max(boxes[i][0], boxes[k][0])
            height = min(boxes[i][3], boxes[k][3]) - max(boxes[i][1], boxes[k][1])
            if width <= 0 or height <= 0:
                continue
            inside = width * height / min(sizes[i], sizes[k])
            overlap = box_iou(boxes[i], boxes[k])
            if overlap > iou_threshold or (
                inside > 0.7 and polygon_iou(quads[i], quads[k]) > 0.5 * iou_threshold
            ):
                home = group
                break
        if home is None:
            groups.append([i])
        else:
            home.append(i)
    return groups


def merge_group(
    scores: FloatArray, quads: FloatArray, group: list[int], *, share: float
) -> FloatArray:
    """Score-weighted mean ``(4, 2)`` of a group's quads that are nearly as sure as its best."""
    best = scores[group[0]]
    near = [i for i in group if scores[i] >= share * best]
    weight = scores[near] ** 2
    return np.asarray(np.einsum("k,kij->ij", weight / weight.sum(), quads[near]))


def tidy_quad(quad: FloatArray, width: int, height: int) -> FloatArray | None:
    """A usable quad, or ``None`` where there is no area.

    Points far outside the photo are pulled to half a photo's size beyond its border; a quad that
    crosses itself is replaced by the upright hull of its points (fail closed: more is covered).
    """
    low, high = np.array([-0.5 * width, -0.5 * height]), np.array([1.5 * width, 1.5 * height])
    q = np.clip(quad, low, high)
    if not np.isfinite(q).all():
        return None
    if is_convex(q) and signed_area(q) > 0:
        return q
    hull = convex_hull(q)
    if len(hull) < 3:
        return None
    x0, y0, x1, y1 = hull_box(hull)
    if x1 - x0 < 1.0 or y1 - y0 < 1.0:
        return None
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
