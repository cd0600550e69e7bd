"""What a finder of plates may take for one on a cover: all of it, its lettering, its mark; in each
layout that the cover may have got.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover.layout import PLAIN_PX, SMALL_PLATE_PX, Detail, small_layout, small_layouts
from platehide.cover.template import Cover, CoverOptions
from platehide.types import FloatArray, ImageArray

FloatPicture = NDArray[np.float32]
Rect = tuple[int, int, int, int]

CANVAS_W, CANVAS_H, MARGIN = 208, 64, 0.2
"""Covers are compared on a canvas of this size; the cover fills the middle of it."""
GLANCE_W, GLANCE_H = 40, 12
"""Size of the first, quick comparison."""

_FLAT = 5.0  # grey levels
_INK = 40  # grey levels between a design's ground and what stands on it


@dataclass(frozen=True, eq=False)
class View:
    """One layout of the cover.

    Attributes:
        aspect: width : height.
        boxes: what a detector may take for a plate, as shares of the width and height: all of
            the cover, and what stands on its ground. ``(n, 4)``, x0, y0, x1, y1.
        design: RGB on the canvas.
        few: a few of its pixels, ``(n, 3)``.
        glance: the same, of mean 0 for each colour and length 1.
        light: how an even fall of light makes each colour of ``few`` look, ``(3, n, 3)``: times a
            gain, times a slope across, times a slope down.
        unlit: from a colour seen ``(n,)`` to these three numbers, ``(3, 3, n)``.
        plain: only its edge can be seen.
    """

    detail: Detail
    aspect: float
    boxes: FloatArray
    design: FloatPicture
    few: FloatPicture
    glance: FloatPicture
    light: FloatPicture
    unlit: FloatPicture
    plain: bool


def prepare(cover: Cover, options: CoverOptions) -> None:
    """Lay the cover out now, so that the first photo need not wait for it."""
    if options.style != "blur":
        views(cover, options)
        paint_of(cover, options)


def views(cover: Cover, options: CoverOptions) -> tuple[View, ...]:
    """Every layout that ``cover`` may have got (cached)."""
    return _layouts(cover, replace(options, margin=0.0))


@functools.lru_cache(maxsize=32)
def _layouts(cover: Cover, options: CoverOptions) -> tuple[View, ...]:
    return tuple(_view(detail, plate.levels[0]) for detail, plate in small_layouts(cover, options))


def view_at(cover: Cover, options: CoverOptions, detail: Detail, aspect: float) -> View:
    """The layout that a cover of just that shape gets (cached)."""
    return _layout_at(cover, replace(options, margin=0.0), detail, round(aspect, 2))


@functools.lru_cache(maxsize=128)
def _layout_at(cover: Cover, options: CoverOptions, detail: Detail, aspect: float) -> View:
    return _view(detail, small_layout(cover, options, detail, aspect).levels[0])


@dataclass(frozen=True, eq=False)
class Paint:
    """What a cover with nothing on it looks like.

    Attributes:
        colour: RGB of its ground, code values.
        below_px: covers that appear narrower have nothing on them.
    """

    colour: FloatArray
    below_px: float


def paint_of(cover: Cover, options: CoverOptions) -> Paint | None:
    """The paint of those covers that have nothing on them, ``None`` where none has (cached)."""
    return _paint(cover, replace(options, margin=0.0))


@functools.lru_cache(maxsize=32)
def _paint(cover: Cover, options: CoverOptions) -> Paint | None:
    limits: tuple[tuple[Detail, float], ...] = (
        ("frame", np.inf),
        ("mark", SMALL_PLATE_PX),
        ("plain", PLAIN_PX),
    )
    for detail, below in limits:
        flat = small_layout(cover, options, detail, 4.0).levels[0]
        if _is_plain(_reduced(flat)):
            middle = flat[flat.shape[0] // 3 : -(flat.shape[0] // 3)].reshape(-1, 3)
            return Paint(np.median(middle, axis=0).astype(np.float64), below)
    return None


def _reduced(flat: ImageArray) -> ImageArray:
    few = cv2.resize(flat, (GLANCE_W, GLANCE_H), interpolation=cv2.INTER_AREA)
    return np.asarray(few, np.uint8)


def softened(few: ImageArray) -> ImageArray:
    """A glance at something, so soft that it need not lie to the pixel."""
    return np.asarray(cv2.blur(few, (3, 3)), np.uint8)


def _is_plain(few: ImageArray) -> bool:
    return float(few[2:-2, 2:-2].std(axis=(0, 1)).max()) < _FLAT


def _view(detail: Detail, flat: ImageArray) -> View:
    h, w = flat.shape[:2]
    boxes = np.array([(0, 0, w, h), *_parts(flat)]) / (w, h, w, h)
    reduced = _reduced(flat)
    few = softened(reduced).reshape(-1, 3).astype(np.float32)
    glance = few - few.mean(axis=0)
    glance /= max(1e-3, float(np.linalg.norm(glance)))
    v, u = np.mgrid[0:GLANCE_H, 0:GLANCE_W]
    falls = np.stack(
        [np.ones(u.size), u.ravel() / (GLANCE_W - 1) - 0.5, v.ravel() / (GLANCE_H - 1) - 0.5], 1
    )
    light = few.T[:, :, None] * falls
    unlit = np.stack([np.linalg.pinv(terms, rcond=1e-2) for terms in light])
    return View(
        detail,
        w / h,
        boxes,
        _on_canvas(flat),
        few,
        glance,
        light.astype(np.float32),
        unlit.astype(np.float32),
        _is_plain(reduced),
    )


def _parts(flat: ImageArray) -> list[Rect]:
    """What stands on the ground of a flat cover: each piece, and all together, x0, y0, x1, y1.

    A small cover is found by its mark, a wide one by its lettering.
    """
    h, w = flat.shape[:2]
    inset = max(1, round(0.1 * min(h, w)))
    inner = flat[inset : h - inset, inset : w - inset]
    ground = np.median(inner.reshape(-1, 3), axis=0).astype(np.int16)
    ink = (np.abs(inner.astype(np.int16) - ground).max(axis=2) > _INK).astype(np.uint8)
    if not ink.any() or ink.mean() > 0.8:
        return []
    gap = max(3, round(0.16 * h) | 1)
    joined = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((gap, gap), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    ys, xs = np.nonzero(ink)
    boxes = {(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)}
    for x, y, bw, bh, size in stats[1:].tolist():
        if size > 0.02 * ink.size:
            boxes.add((x, y, x + bw, y + bh))
    largest = sorted(boxes, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))[:4]
    return [(x0 + inset, y0 + inset, x1 + inset, y1 + inset) for x0, y0, x1, y1 in largest]


def _on_canvas(flat: ImageArray) -> FloatPicture:
    x, y, w, h = inner_rect()
    size = cv2.resize(flat, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    right, bottom = CANVAS_W - w - x, CANVAS_H - h - y
    return np.asarray(cv2.copyMakeBorder(size, y, bottom, x, right, cv2.BORDER_REPLICATE))


def inner_rect() -> Rect:
    """Where the cover lies on the canvas: x, y, width, height."""
    w, h = round(CANVAS_W / (1 + 2 * MARGIN)), round(CANVAS_H / (1 + 2 * MARGIN))
    return (CANVAS_W - w) // 2, (CANVAS_H - h) // 2, w, h


@functools.cache
def inner_mask() -> NDArray[np.uint8]:
    """255 where the cover without its rim lies on the canvas."""
    mask = np.zeros((CANVAS_H, CANVAS_W), np.uint8)
    x, y, w, h = inner_rect()
    inset = max(1, round(0.05 * h))
    mask[y + inset : y + h - inset, x + inset : x + w - inset] = 255
    mask.setflags(write=False)
    return mask
