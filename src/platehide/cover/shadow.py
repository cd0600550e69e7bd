"""A hard shadow across a plate: one straight edge, one ratio."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS, _COLUMNS = 6, 6
_CELL_H, _CELL_W = 3, 14  # of the 18 × 84 px inside the thumbnail's frame
_MIN_SIDE = 0.25
_MIN_RATIO, _MAX_RATIO = 1.5, 6.0
_GAIN = 0.65  # the step must leave less than this share of the plane's squared error
_MAX_HUE_SHIFT = 0.25
_ANGLES = np.radians([90.0, 70.0, 110.0, 50.0, 130.0, 25.0, 155.0, 0.0])
_OFFSETS = np.linspace(-0.36, 0.36, 13)


@dataclass(frozen=True)
class Shadow:
    """The edge ``normal · (u, v) = offset`` (u, v from −0.5 to 0.5 over the plate); beyond it
    light is ``ratio`` (< 1) times that before it.
    """

    normal: tuple[float, float]
    offset: float
    ratio: float


@functools.cache
def _candidates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges ``(m, 3)`` nu, nv, offset, and which of the cells lie beyond each ``(m, 36)``."""
    v, u = np.mgrid[0:_ROWS, 0:_COLUMNS]
    u, v = (u.ravel() + 0.5) / _COLUMNS - 0.5, (v.ravel() + 0.5) / _ROWS - 0.5
    edges, sides = [], []
    for angle in _ANGLES:
        nu, nv = float(np.cos(angle)), float(np.sin(angle))
        for offset in _OFFSETS * (abs(nu) + abs(nv)):
            beyond = (nu * u + nv * v > offset).astype(np.float64)
            if _MIN_SIDE <= beyond.mean() <= 1 - _MIN_SIDE:
                edges.append((nu, nv, float(offset)))
                sides.append(beyond)
    return np.array(edges), np.array(sides)


@functools.cache
def _plane_fit() -> NDArray[np.float64]:
    """Matrix ``(36, 36)`` that takes cells to the plane through them (least squares)."""
    v, u = np.mgrid[0:_ROWS, 0:_COLUMNS]
    plane = np.stack([np.ones(u.size), u.ravel() - 2.5, v.ravel() - 2.5], axis=1)
    return np.asarray(plane @ np.linalg.pinv(plane), np.float64)


def find_shadow(linear: NDArray[np.float32], luma: NDArray[np.float32]) -> Shadow | None:
    """Look for a shadow's edge on a rectified plate.

    Fitted to the 88th percentile of light in 6 × 6 cells (the ground, not the characters): of
    some fifty edges the one that leaves the least squared error in log light. It counts when it
    explains far more than a plane does, the step is a plausible one, and both sides have the same
    hue (a coloured band is part of the plate, not light).

    Args:
        linear: ``(24, 96, 3)`` linear light.
        luma: ``(24, 96)`` its luma.
    """
    inside = (slice(3, 21), slice(6, 90))
    tiles = luma[inside].reshape(_ROWS, _CELL_H, _COLUMNS, _CELL_W).transpose(0, 2, 1, 3)
    sized = tiles.reshape(_ROWS * _COLUMNS, -1)
    at = round(0.88 * (sized.shape[1] - 1))
    cells = np.partition(sized, at, axis=1)[:, at].astype(np.float64)
    x = np.log(np.maximum(cells, 2e-3))
    low, high = np.sort(x)[[2, -3]]
    if high - low < np.log(_MIN_RATIO):
        return None
    x = np.clip(x, low, high)
    edges, sides = _candidates()
    count = sides.sum(axis=1)
    total = float(len(x))
    beyond = sides @ x / count
    before = (x.sum() - sides @ x) / (total - count)
    error = (x @ x) - count * beyond**2 - (total - count) * before**2
    best = int(np.argmin(error))
    rest = x - _plane_fit() @ x
    step = float(beyond[best] - before[best])
    if error[best] > _GAIN * float(rest @ rest) or not (
        np.log(_MIN_RATIO) <= abs(step) <= np.log(_MAX_RATIO)
    ):
        return None
    nu, nv, offset = (float(value) for value in edges[best])
    if step > 0:  # turn it so that the shadow lies beyond
        nu, nv, offset, step = -nu, -nv, -offset, -step
    if _hue_shift(linear[inside], luma[inside], (nu, nv, offset)) > _MAX_HUE_SHIFT:
        return None
    return Shadow((nu, nv), offset, float(np.exp(step)))


def _hue_shift(
    linear: NDArray[np.float32], luma: NDArray[np.float32], edge: tuple[float, float, float]
) -> float:
    """Largest difference of ln(channel / luma) between the grounds of both sides."""
    h, w = luma.shape
    u = ((np.arange(w) + 0.5) / w - 0.5)[None, :]
    v = ((np.arange(h) + 0.5) / h - 0.5)[:, None]
    beyond = edge[0] * u + edge[1] * v > edge[2]
    hues = []
    for side in (beyond, ~beyond):
        bright = side & (luma >= np.percentile(luma[side], 60))
        colour = linear[bright].mean(axis=0).astype(np.float64)
        share = colour / max(float(luma[bright].mean()), 1e-3)
        hues.append(np.log(np.maximum(share, 0.04)))  # blue of a yellow plate is mere noise
    return float(np.abs(hues[0] - hues[1]).max())
