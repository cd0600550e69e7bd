"""What was drawn over plates: does it hold them, and did it arrive? The proof's first questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.arrival import Difference, difference, tolerance
from platehide.cover import Covered
from platehide.geometry import area, clip_convex, coverage, hull_box, is_convex, signed_area
from platehide.pixels import Box, PixelSource
from platehide.types import Detection, FloatArray, ImageArray

_LEAST_COVERED = 0.995

Inside = tuple[NDArray[np.bool_], Box]
"""Pixels that belong, and the box which that mask spans."""


@dataclass(frozen=True)
class CoveredPlate:
    """A plate and what was drawn over it.

    Attributes:
        frame: index of the frame.
        plate: what the detector found (or the grown quad of a second attempt).
        covered: patch and painted polygon.
    """

    frame: int
    plate: Detection
    covered: Covered


def not_drawn(
    covers: Sequence[CoveredPlate],
    index: int,
    inside: Inside,
    sizes_wh: Sequence[tuple[int, int]],
) -> list[str]:
    """Whether the drawn pixels hold the plate of cover ``index``: reasons why not, in words.

    Args:
        inside: see ``pixels_inside``, of its painted polygon. sizes_wh: px, of each frame.
    """
    item = covers[index]
    width, height = sizes_wh[item.frame]
    picture = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    quad = item.plate.quad
    visible = clip_convex(quad, picture) if is_convex(quad) else np.empty((0, 2))
    painted = [c.covered.painted for c in covers if c.frame == item.frame]
    if area(visible) > 0 and coverage(visible, painted) < _LEAST_COVERED:
        return [f"plate {index + 1} lies outside what was painted"]
    patch = item.covered.patch
    mask, box = inside
    drawn = np.zeros(mask.shape, np.bool_)
    _paste(drawn, box, patch.changed, patch.box)
    if (mask & ~drawn).any():
        return [f"a pixel of cover {index + 1} was not drawn"]
    return []


def pixels_inside(polygon: FloatArray, size_wh: tuple[int, int]) -> Inside:
    """Pixels whose centre lies inside the convex ``polygon``, and the box that the mask spans."""
    x0, y0, x1, y1 = hull_box(polygon)
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(size_wh[0], int(np.ceil(x1))), min(size_wh[1], int(np.ceil(y1)))
    xs, ys = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    # Each row of a convex polygon is one run: from the rightmost of its left edges to the leftmost
    # of its right edges.
    low, high = np.full(len(ys), -np.inf), np.full(len(ys), np.inf)
    ring = polygon if signed_area(polygon) >= 0 else polygon[::-1]
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        dx, dy = b - a
        if dy == 0:
            high[dx * (ys - a[1]) < 0] = -np.inf
            continue
        bound = a[0] + dx * (ys - a[1]) / dy
        low, high = (low, np.minimum(high, bound)) if dy > 0 else (np.maximum(low, bound), high)
    mask = (xs >= low[:, None]) & (xs <= high[:, None])
    return mask, (left, top, right, bottom)


def _paste(target: NDArray[np.bool_], at: Box, source: NDArray[np.bool_], box: Box) -> None:
    """``target |= source`` where their boxes meet."""
    x0, y0, x1, y1 = max(at[0], box[0]), max(at[1], box[1]), min(at[2], box[2]), min(at[3], box[3])
    if x0 < x1 and y0 < y1:
        part = source[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
        target[y0 - at[1] : y1 - at[1], x0 - at[0] : x1 - at[0]] |= part


def not_shown(
    finished: bytes,
    frames: Sequence[PixelSource],
    covers: Sequence[CoveredPlate],
    inside: Sequence[Inside],
) -> list[str]:
    """Whether the finished photo shows what was drawn: reasons why not, in words.

    Args:
        finished: its bytes. frames: what they show. inside: of each cover's painted polygon.
    """
    allowed = tolerance(finished) if covers else Difference(0.0, 0.0)
    failures = []
    for index, item in enumerate(covers):
        frame = frames[item.frame]
        mask, box = inside[index]
        if not mask.any():
            failures.append(f"cover {index + 1} has no pixel")
            continue
        expected = np.zeros((*mask.shape, 3), np.uint8)
        for later in covers[index:]:  # what is drawn later lies on top
            if later.frame == item.frame:
                _draw(expected, box, later)
        shown = frame.region(box)
        off = difference(shown, expected, mask)
        if off.rms > allowed.rms or off.cell > allowed.cell:
            failures.append(
                f"cover {index + 1} did not arrive as drawn (off by {off.rms:.0f} grey levels,"
                f" {off.cell:.0f} at worst)"
            )
    return failures


def _draw(target: ImageArray, at: Box, item: CoveredPlate) -> None:
    patch = item.covered.patch
    px0, py0, px1, py1 = patch.box
    x0, y0, x1, y1 = max(at[0], px0), max(at[1], py0), min(at[2], px1), min(at[3], py1)
    if x0 < x1 and y0 < y1:
        part = np.s_[y0 - py0 : y1 - py0, x0 - px0 : x1 - px0]
        there = np.s_[y0 - at[1] : y1 - at[1], x0 - at[0] : x1 - at[0]]
        mask = np.ascontiguousarray(patch.changed[part]).view(np.uint8)
        # By OpenCV: NumPy's selection takes ten times as long.
        target[there] = cv2.copyTo(
            np.ascontiguousarray(patch.pixels[part]), mask, np.ascontiguousarray(target[there])
        )
