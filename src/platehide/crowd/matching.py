"""When two answers say the same: the bijective vertex-neighbourhood check.

A vertex is right inside a neighbourhood of the true one instead of by IoU, which lets 97.5 % of
sloppy answers through. Checking only that every true vertex has *some* drawn vertex near can be
gamed by a grid of points, so exactly four vertices are matched one-to-one after cyclic alignment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platehide.geometry import order_corners
from platehide.types import FloatArray

RADIUS_SHARE = 0.25
"""Neighbourhood of a vertex as a share of the plate's height."""

RADIUS_MIN_PX = 3.0
"""Smallest neighbourhood: nobody clicks better than this on a tiny plate."""

PAIR_FACTOR = 2.0**0.5
"""Two workers scatter independently, so their distance is sqrt(2) times one worker's error."""

_SHIFTS = (np.arange(4)[:, None] + np.arange(4)) % 4


def ring(points: ArrayLike) -> FloatArray:
    """Corners ``(4, 2)`` clockwise on screen round their centroid, whatever order they came in."""
    return order_corners(points)


def ordered_heights(quads: FloatArray) -> FloatArray:
    """Plate heights ``(n,)`` in px of quads ``(n, 4, 2)`` in the order TL, TR, BR, BL.

    The mean of the left and right side (metrics.md); where that is at least twice the mean of
    top and bottom, the latter: the plate lies on its side, for none is twice as high as wide.
    """
    edge = np.roll(quads, -1, axis=1) - quads
    length = np.hypot(edge[..., 0], edge[..., 1])
    top, side = 0.5 * (length[:, 0] + length[:, 2]), 0.5 * (length[:, 1] + length[:, 3])
    return np.where(side >= 2.0 * top, top, side)


def reference_height(quad: ArrayLike) -> float:
    """Plate height in px of one quad with its corners in any order (see ``ordered_heights``)."""
    return float(ordered_heights(order_corners(quad)[None])[0])


def radius_px(quad: ArrayLike) -> float:
    """Radius of a vertex neighbourhood: ``max(0.25 x plate height, 3 px)``."""
    return max(RADIUS_SHARE * reference_height(quad), RADIUS_MIN_PX)


def pair_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Largest vertex distance in px of each pair of quads, smallest over cyclic shifts.

    Args:
        a: ``(n, 4, 2)`` clockwise rings (see ``ring``).
        b: ``(n, 4, 2)`` clockwise rings.

    Returns:
        ``(n,)``.
    """
    best = np.full(len(a), np.inf)
    for shift in range(4):
        d = a - np.roll(b, shift, axis=1)
        best = np.minimum(best, np.hypot(d[..., 0], d[..., 1]).max(axis=1))
    return best


def aligned(quad: FloatArray, reference: FloatArray) -> FloatArray:
    """``quad`` (a ring) started at the corner that fits ``reference`` (a ring) best."""
    return np.asarray(aligned_all(quad[None], reference)[0])


def aligned_all(quads: FloatArray, reference: FloatArray) -> FloatArray:
    """Rings ``(n, 4, 2)``, each started at the corner that fits ``reference`` ``(4, 2)`` best."""
    shifts = quads[:, _SHIFTS]
    costs = ((shifts - reference) ** 2).sum(axis=(2, 3))
    return np.asarray(shifts[np.arange(len(quads)), np.argmin(costs, axis=1)])


def plate_right(drawn: ArrayLike, true: ArrayLike) -> bool:
    """True when exactly four drawn vertices match the four true ones one-to-one.

    Each within ``radius_px(true)``, for one cyclic alignment in one direction. Anything but four
    finite drawn vertices is wrong, never an error.
    """
    try:
        points = np.asarray(drawn, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    if points.shape != (4, 2) or not np.isfinite(points).all():
        return False
    truth = ring(true)[None]
    radius = max(RADIUS_SHARE * float(ordered_heights(truth)[0]), RADIUS_MIN_PX)
    return bool(pair_distances(ring(points)[None], truth)[0] <= radius)


def answer_right(drawn: Sequence[ArrayLike], true: Sequence[ArrayLike]) -> bool:
    """True when the drawn plates and the true plates match one-to-one (see ``plate_right``).

    A missing plate and an extra one are both wrong; no plate drawn is right only where there is
    none.
    """
    if len(drawn) != len(true):
        return False
    fits = np.array([[plate_right(d, t) for t in true] for d in drawn], dtype=bool)
    return len(drawn) == 0 or match_bijective(fits)


def match_bijective(allowed: NDArray[np.bool_]) -> bool:
    """True when the rows of a square boolean table can be matched one-to-one to its columns.

    Kuhn's augmenting paths; the tables are a handful of plates.
    """
    owner: dict[int, int] = {}

    def augment(row: int, seen: set[int]) -> bool:
        for column in np.flatnonzero(allowed[row]):
            c = int(column)
            if c in seen:
                continue
            seen.add(c)
            if c not in owner or augment(owner[c], seen):
                owner[c] = row
                return True
        return False

    return all(augment(row, set()) for row in range(len(allowed)))
