"""How often and how closely a dense network looks at a photo, by the photo's size. NumPy only.

A network was trained on plates of some 11 to 220 px. One look at a small picture of a large photo
would show it a readable plate of 60 px as 8 px. So a large photo is looked at closely, in tiles
(a bounded memory), and as a whole for plates that a tile would cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from platehide.types import FloatArray

FULL_LOOK_PX = 1280
"""Long side in photo px that a spec's ``input_size`` is meant for; larger photos are looked at more
closely, so that a plate has as many network px as it would have there."""
SAME_LOOK_PX = 1600
"""Up to here one look is enough: a plate is a fifth smaller than it would be."""
MOST_MAGNIFIED = 3.0
"""Beyond 3,840 px a photo is not looked at more closely: nine times the work is the limit."""
MOST_ENLARGED = 1.25
"""A small photo is not enlarged further: that shows no plate better, and much that looks like one
(on `val`, plates from 32 px the same, covers on plate-free crops 97 → 85 of 1,000)."""
TILE_PX = 832
OVERLAP_PX = 96
LEAST_PX = 16.0
"""Width in network px from which a look at the whole answers beside the tiles."""

Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in network px."""


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        long_side: of the picture of the whole photo, in network px.
        least, most: the widths in photo px of the plates that it answers for.
        tiled: whether the picture is seen in tiles.
    """

    long_side: int
    least: float
    most: float
    tiled: bool = False


def closest_side(long_px: int, input_size: int) -> int:
    """Long side in network px of the closest look at a photo whose longer side is ``long_px``."""
    if long_px > SAME_LOOK_PX:
        return round(input_size * min(MOST_MAGNIFIED, long_px / FULL_LOOK_PX) / 32) * 32
    return min(input_size, max(32, math.ceil(MOST_ENLARGED * long_px / 32) * 32))


def plan_looks(
    long_px: int, *, input_size: int, coarse_size: int, trained_width: float
) -> tuple[Look, ...]:
    """The looks at a photo whose longer side is ``long_px``, the closest first.

    Args:
        input_size, coarse_size, trained_width: see ``ModelSpec``; ``coarse_size`` 0 = no such look.
    """
    close = closest_side(long_px, input_size)
    tiled = close > max(TILE_PX, input_size)
    whole = input_size if tiled else close
    per_px = long_px / whole
    widest = trained_width * per_px if coarse_size else math.inf
    looks = [Look(whole, LEAST_PX * per_px if tiled else 0.0, widest)]
    if tiled:
        looks.insert(0, Look(close, 0.0, OVERLAP_PX * long_px / close, True))
    if coarse_size:
        looks.append(Look(min(coarse_size, whole), 0.6 * widest, math.inf))
    return tuple(looks)


def _cuts(length: int) -> list[tuple[int, int]]:
    count = max(1, math.ceil((length - OVERLAP_PX) / (TILE_PX - OVERLAP_PX)))
    if count == 1:
        return [(0, length)]
    size = min(length, math.ceil((length + (count - 1) * OVERLAP_PX) / count / 32) * 32)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    return [(start, start + size) for start in starts]


def tiles(size_wh: tuple[int, int]) -> list[Tile]:
    """Tiles of one size, of at most about ``TILE_PX``, that cover a picture of ``size_wh`` network
    px and overlap by at least ``OVERLAP_PX``."""
    across, down = _cuts(size_wh[0]), _cuts(size_wh[1])
    return [(x0, y0, x1, y1) for y0, y1 in down for x0, x1 in across]


def belongs(tile: Tile, size_wh: tuple[int, int], centres: FloatArray) -> np.ndarray:
    """Which centres ``(n, 2)`` (network px of the whole picture) a tile answers for: those at least
    half an overlap from an inner edge, so that no plate that it answers for is cut."""
    keep = np.ones(len(centres), dtype=bool)
    for axis, (low, high) in enumerate(((tile[0], tile[2]), (tile[1], tile[3]))):
        if low > 0:
            keep &= centres[:, axis] >= low + OVERLAP_PX / 2
        if high < size_wh[axis]:
            keep &= centres[:, axis] <= high - OVERLAP_PX / 2
    return keep
