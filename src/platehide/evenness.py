"""Is there anything on this plate at all? A plain cover has no design to compare with, but on it
nothing is written.

All is judged on a canvas on which what was found lies in the middle: how far its inside is from one
light that falls evenly on one paint. Whatever is that even holds no character, so this errs on one
side only: faint letters, shadows and dirt make it say no, and the plate is covered (again).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover.views import FloatPicture, Rect
from platehide.geometry import plate_height, plate_width, transform_points
from platehide.likeness import UNIT
from platehide.nearby import Near, share_of, warped
from platehide.pixels import PixelSource
from platehide.types import FloatArray

_W, _H = 80, 40
"""px of the canvas that what was found takes; characters are some ten times as wide as a pixel."""
_REACH_X, _REACH_Y = 12, 14  # px of the canvas beyond it on each side
_INSIDE_X, _INSIDE_X_OF_SMALL, _INSIDE_Y = 0.8, 0.76, 0.5
"""The share that must be even. Less than all: found corners are up to a fifth of the height off,
and what lies beyond a cover is anything. Characters of a plate reach into its middle."""
_SMALL_PX = 48.0
_STROKE = 5  # px of the canvas: noise is averaged out over about the width of a stroke
_MOST_SPREAD, _MOST_SPREAD_SHARE = 1.2, 0.002
_MOST_OFF, _MOST_OFF_SHARE = 5.2, 0.008
_OF_SMALL = 1.4  # times as far at worst: blocks of a JPEG and the rim reach into small ones
_BURNT_OUT = 251.0  # no cover is drawn as bright; what is burnt out is even whatever it was
_MOST_CAST = 0.2
_DARKEST, _BRIGHTEST = 0.2, 1.12  # times the paint
_SAME, _SAME_SHARE = 7.0, 0.07
_EDGE = 0.05  # of the height: a plain cover's rim is toned or framed


class Panel(NamedTuple):
    """An even part of a picture.

    Attributes:
        quad: where it ends, ``(4, 2)`` px of the picture.
        cast: the colour of the light on it, as the largest logarithm of a channel's share.
    """

    quad: FloatArray
    cast: float


def even_panel(source: PixelSource, quad: FloatArray, paint: FloatArray) -> Panel | None:
    """The panel of ``paint`` (RGB, code values) that ``quad`` ``(4, 2)`` was found on; ``None``
    where something is on it, or it has another colour."""
    to_quad = np.asarray(
        cv2.getPerspectiveTransform(UNIT.astype(np.float32), quad.astype(np.float32)), np.float64
    )
    shrink = max(plate_height(quad) / _H, plate_width(quad) / _W)
    first = Near.of(source, [quad])
    if first is None:
        return None
    small = plate_width(quad) < _SMALL_PX
    x, y, w, h = part = _inside(small)
    level, move = first.level_for(shrink)
    to_inside = share_of((-x, -y, _W, _H))
    inside = warped(level, move @ to_quad @ to_inside, (w, h)).astype(np.float32)
    light = _light_on(inside, _OF_SMALL if small else 1.0)
    if light is None:
        return None
    cast = _cast(light[0], paint)
    if cast is None:
        return None
    canvas = Near.of(source, [transform_points(to_quad, _reached())])
    if canvas is None:
        return None
    level, move = canvas.level_for(shrink)
    size = _W + 2 * _REACH_X, _H + 2 * _REACH_Y
    around = warped(level, move @ to_quad @ share_of((_REACH_X, _REACH_Y, _W, _H)), size)
    return Panel(transform_points(to_quad, _extent(around.astype(np.float32), light, part)), cast)


def _inside(small: bool) -> Rect:
    """Where the inside of what was found lies on its part of the canvas."""
    w, h = round(_W * (_INSIDE_X_OF_SMALL if small else _INSIDE_X)), round(_H * _INSIDE_Y)
    return (_W - w) // 2, (_H - h) // 2, w, h


def _reached() -> FloatArray:
    """Corners of the canvas, as shares of what was found."""
    share = np.array([_REACH_X / _W, _REACH_Y / _H])
    return np.asarray(UNIT * (1 + 2 * share) - share, np.float64)


@functools.cache
def _even_light(w: int, h: int) -> tuple[FloatPicture, FloatPicture]:
    """How light may fall: a plane and a bend across; one row a pixel, and the way back from pixels
    to its four numbers."""
    v, u = ((a.ravel() + 0.5) / n - 0.5 for a, n in zip(np.mgrid[0:h, 0:w], (h, w), strict=True))
    terms = np.stack([np.ones(h * w), u, v, u * u - 1 / 12], axis=1)
    return terms.astype(np.float32), np.linalg.pinv(terms).astype(np.float32)


def _light_on(inside: FloatPicture, lenience: float) -> FloatPicture | None:
    """The light on it ``(4, 3)``, or ``None`` where that is not all there is to see."""
    h, w = inside.shape[:2]
    pixels = inside.reshape(h * w, 3)
    brightness = float(pixels.mean())
    spread = _MOST_SPREAD + _MOST_SPREAD_SHARE * brightness
    terms, inverse = _even_light(w, h)
    light: FloatPicture = inverse @ pixels
    if float(np.abs(light[1:]).max()) > 0.5 * brightness:
        return None
    off = pixels - terms @ light
    most = lenience * (_MOST_OFF + _MOST_OFF_SHARE * brightness)
    if _nothing(off, (w, h), spread, most):
        return light
    if float(np.sqrt(np.mean(np.square(off)))) > 0.25 * brightness:
        return None
    # One straight edge, as a hard shadow has it and no writing does.
    edges = _shadows(w, h)
    found = edges @ off
    best = edges[int(np.argmax(np.square(found).sum(axis=1)))]
    return light if _nothing(off - np.outer(best, best @ off), (w, h), spread, most) else None


def _nothing(off: FloatPicture, size_wh: tuple[int, int], spread: float, most: float) -> bool:
    """Whether what is left ``(w·h, 3)`` is noise."""
    w, h = size_wh
    strokes = np.asarray(cv2.blur(off.reshape(h, w, 3), (_STROKE, _STROKE)))
    if float(np.sqrt(np.mean(np.square(strokes)))) > spread:
        return False
    return float(np.abs(strokes).max()) < most


@functools.cache
def _shadows(w: int, h: int) -> FloatPicture:
    """Soft straight edges ``(n, w·h)``, of length 1 and beside all even light."""
    v, u = ((a.ravel() + 0.5) / n - 0.5 for a, n in zip(np.mgrid[0:h, 0:w], (h, w), strict=True))
    terms, inverse = _even_light(w, h)
    edges = []
    for angle in np.radians(np.arange(0, 180, 15)):
        across = np.cos(angle) * u + np.sin(angle) * v
        for offset in np.linspace(across.min(), across.max(), 15)[1:-1]:
            step = 1 / (1 + np.exp(-np.clip((across - offset) / 0.03, -30, 30)))
            rest = step - terms @ (inverse @ step)
            length = float(np.linalg.norm(rest))
            if length > 1:
                edges.append(rest / length)
    return np.asarray(edges, np.float32)


def _cast(colour: NDArray[np.float32], paint: FloatArray) -> float | None:
    """How far light that makes ``paint`` look like ``colour`` is coloured; ``None`` where it is
    not that paint, or burnt out."""
    if float(colour.mean()) > _BURNT_OUT:
        return None
    gains = np.maximum(colour.astype(np.float64), 1.0) / np.maximum(paint, 1.0)
    middle = float(np.exp(np.log(gains).mean()))
    cast = float(np.abs(np.log(gains / middle)).max())
    return cast if _DARKEST < middle < _BRIGHTEST and cast <= _MOST_CAST else None


def _extent(canvas: FloatPicture, light: FloatPicture, inside: Rect) -> FloatArray:
    """How far the panel goes on, ``(4, 2)`` as shares of what was found: line by line outwards,
    while most of a line's middle is in the same light."""
    h, w = canvas.shape[:2]
    v, u = np.mgrid[0:h, 0:w].astype(np.float32)
    x, y, iw, ih = inside
    u = (u + 0.5 - _REACH_X - _W / 2) / iw
    v = (v + 0.5 - _REACH_Y - _H / 2) / ih
    there = light[0] + u[..., None] * light[1] + v[..., None] * light[2]
    limit = _SAME + _SAME_SHARE * float(light[0].mean())
    same = np.abs(canvas - there).max(axis=2) < limit
    x, y = x + _REACH_X, y + _REACH_Y
    across = same[y : y + ih].mean(axis=0) > 0.7
    down = same[:, x : x + iw].mean(axis=1) > 0.7
    left, right = _run(across, x, x + iw)
    top, bottom = _run(down, y, y + ih)
    edge = _EDGE * (bottom - top)
    low = np.array([(left - edge - _REACH_X) / _W, (top - edge - _REACH_Y) / _H])
    high = np.array([(right + edge - _REACH_X) / _W, (bottom + edge - _REACH_Y) / _H])
    return np.asarray(low + UNIT * (high - low), np.float64)


def _run(line: NDArray[np.bool_], low: int, high: int) -> tuple[int, int]:
    """``low`` … ``high`` drawn out both ways while ``line`` is true."""
    while low > 0 and line[low - 1]:
        low -= 1
    while high < len(line) and line[high]:
        high += 1
    return low, high
