"""From a network's raw outputs to plates. The ONE copy, NumPy only."""

from __future__ import annotations

import numpy as np

from platehide.geometry import convex_hull, hull_box, is_convex, polygon_iou, signed_area
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
    if len(scores) == 0:
        return []
    low, high = quads.min(axis=1), quads.max(axis=1)
    sizes = np.prod(high - low, axis=1)
    # All pairs at once: a Python loop over pairs takes longer than the arithmetic.
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    meet = (sides > 0).all(axis=2)
    common = sides[:, :, 0] * sides[:, :, 1]
    overlap = common / np.maximum(sizes[:, None] + sizes[None] - common, 1e-9)
    same = meet & (overlap > iou_threshold)
    smaller = np.maximum(np.minimum(sizes[:, None], sizes[None]), 1e-6)
    perhaps = meet & ~same & (common / smaller > 0.7)
    groups: list[list[int]] = []
    of: dict[int, list[int]] = {}
    for i in range(len(scores)):
        for k in np.flatnonzero(same[i, :i] | perhaps[i, :i]).tolist():
            home = of.get(k)
            if home is not None and (
                same[i, k] or polygon_iou(quads[i], quads[k]) > 0.5 * iou_threshold
            ):
                home.append(i)
                break
        else:
            of[i] = [i]
            groups.append(of[i])
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
