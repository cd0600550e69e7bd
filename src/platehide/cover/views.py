"""What a finder of plates may take for one on a cover: all of it, its lettering, its mark; in each
layout that the cover may have got.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover.layout import Detail, small_layouts
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
        glance: a few of its pixels, of mean 0 for each colour and length 1, in one row.
        plain: only its edge can be seen.
    """

    detail: Detail
    aspect: float
    boxes: FloatArray
    design: FloatPicture
    glance: FloatPicture
    plain: bool


def prepare(cover: Cover, options: CoverOptions) -> None:
    """Lay the cover out now, so that the first photo need not wait for it."""
    if options.style != "blur":
        views(cover, options)


def views(cover: Cover, options: CoverOptions) -> tuple[View, ...]:
    """Every layout that ``cover`` may have got (cached)."""
    return _layouts(cover, replace(options, margin=0.0))


@functools.lru_cache(maxsize=32)
def _layouts(cover: Cover, options: CoverOptions) -> tuple[View, ...]:
    found: list[View] = []
    for detail, plate in small_layouts(cover, options):
        flat = plate.levels[0]
        h, w = flat.shape[:2]
        boxes = np.array([(0, 0, w, h), *_parts(flat)]) / (w, h, w, h)
        few = cv2.resize(flat, (GLANCE_W, GLANCE_H), interpolation=cv2.INTER_AREA)
        plain = float(few[2:-2, 2:-2].std(axis=(0, 1)).max()) < _FLAT
        glance = few.reshape(-1, 3).astype(np.float32)
        glance -= glance.mean(axis=0)
        glance /= max(1e-3, float(np.linalg.norm(glance)))
        found.append(View(detail, w / h, boxes, _on_canvas(flat), glance, plain))
    return tuple(found)


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
