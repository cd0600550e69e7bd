"""Samples of a picture as its file stores them, and drawing into them.

The detector and the cover work in 8-bit RGB; files hold grey, alpha and 16 bits. Drawing goes
into the file's own samples, so what is not drawn on keeps every bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from platehide.pixels import Box, Patch
from platehide.types import ImageArray

Samples = NDArray[Any]
"""uint8 or uint16 ``(H, W, C)``: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""


def rgb8(samples: Samples) -> ImageArray:
    """What is looked at: 8-bit RGB, 16 bits scaled, alpha ignored.

    Alpha is ignored on purpose: what a viewer hides under transparency is still in the file.
    """
    colour = samples[:, :, : 1 if samples.shape[2] <= 2 else 3]
    if colour.dtype == np.uint16:
        colour = ((colour.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def to_grey(rgb: ImageArray) -> ImageArray:
    """``(H, W)`` luma by ITU-R BT.601, rounded, as JPEG defines it."""
    grey: ImageArray = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return grey


def painted(samples: Samples, patches: Iterable[Patch]) -> Samples:
    """A copy with the patches' changed pixels drawn, fully opaque; the other samples untouched."""
    out = samples.copy()
    channels = samples.shape[2]
    full = np.iinfo(samples.dtype).max
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        pixels: Samples = patch.pixels
        if channels <= 2:
            pixels = to_grey(patch.pixels)[:, :, None]
        if samples.dtype == np.uint16:
            pixels = pixels.astype(np.uint16) * 257
        if channels in (2, 4):
            opaque = np.full((*pixels.shape[:2], 1), full, dtype=samples.dtype)
            pixels = np.concatenate([pixels, opaque], axis=2)
        out[y0:y1, x0:x1][patch.changed] = pixels[patch.changed]
    return out


def painted_inks(inks: Samples, patches: Iterable[Patch]) -> Samples:
    """A copy of 8-bit cyan, magenta, yellow, black ``(H, W, 4)``, 0 for no ink, with the patches'
    changed pixels drawn without black: the inverse of Pillow's and libjpeg's plain conversion.
    """
    out = inks.copy()
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        drawn = np.dstack([255 - patch.pixels, np.zeros(patch.pixels.shape[:2], np.uint8)])
        out[y0:y1, x0:x1][patch.changed] = drawn[patch.changed]
    return out


def from_pillow(image: Image.Image) -> Samples:
    """Samples of an 8-bit Pillow image; palettes, bitmaps and colour keys are resolved."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    elif image.has_transparency_data:
        if image.mode == "1":  # Pillow resolves colour keys only from L on
            key = image.info.get("transparency")
            image = image.convert("L")
            image.info["transparency"] = 255 if key else 0
        image = image.convert("LA" if grey else "RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if grey else "RGB")
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def to_pillow(samples: Samples) -> Image.Image:
    """8-bit samples as a Pillow image of mode L, LA, RGB or RGBA."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    flat = samples[:, :, 0] if samples.shape[2] == 1 else samples
    return Image.frombytes(mode, (samples.shape[1], samples.shape[0]), np.ascontiguousarray(flat))


def hides_colour(samples: Samples) -> bool:
    """True where fully transparent pixels hold a picture that compositing never shows."""
    if samples.shape[2] in (1, 3):
        return False
    hidden = samples[samples[:, :, -1] == 0][:, :-1]
    return hidden.size > 0 and bool((hidden != hidden[0]).any())


def without_needless_alpha(canvases: Sequence[Samples]) -> list[Samples]:
    """The canvases without their alpha channel where all of them are opaque throughout."""
    full = np.iinfo(canvases[0].dtype).max
    if any(c.shape[2] not in (2, 4) or (c[:, :, -1] != full).any() for c in canvases):
        return list(canvases)
    return [np.ascontiguousarray(c[:, :, :-1]) for c in canvases]


def difference_box(before: Samples | None, after: Samples) -> Box:
    """The box of what differs between two frames: one pixel where nothing does, all at first."""
    if before is None:
        return 0, 0, after.shape[1], after.shape[0]
    differs = (before != after).any(axis=2)
    if not differs.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
