"""Set one line of text as a transparent picture."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from platehide.cover.svg import RgbaArray
from platehide.errors import UsageError

_PX = 160
_SYSTEM_FONTS = (
    "DejaVuSans-Bold.ttf",
    "NotoSans-Bold.ttf",
    "LiberationSans-Bold.ttf",
    "arialbd.ttf",
    "Arial Bold.ttf",
    "NotoSansCJK-Bold.ttc",
    "NotoSansArabic-Bold.ttf",
    "wqy-microhei.ttc",
)
_Font = ImageFont.FreeTypeFont


@functools.cache
def _builtin() -> _Font:
    # Pillow carries a TrueType font (Aileron, CC0) for ASCII: a line never depends on the machine.
    font = ImageFont.load_default(size=_PX)
    if not isinstance(font, _Font):
        raise UsageError("cover text needs Pillow with FreeType")
    return font


def _draws(font: _Font, text: str) -> bool:
    """True when the font has a glyph of its own for every character."""
    missing = bytes(font.getmask("\U0010fffd"))
    return all(c == " " or bytes(font.getmask(c)) != missing for c in set(text))


def _choose(text: str, path: Path | None) -> _Font:
    if path is not None:
        try:
            font = ImageFont.truetype(str(path), _PX)
        except OSError as error:
            raise UsageError(f"font {path}: {error}") from error
        if not _draws(font, text):
            raise UsageError(f"font {path} lacks characters of {text!r}")
        return font
    if _draws(_builtin(), text):
        return _builtin()
    for name in _SYSTEM_FONTS:
        try:
            font = ImageFont.truetype(name, _PX)
        except OSError:
            continue
        if _draws(font, text):
            return font
    raise UsageError(f"cover text {text!r}: no font here has its characters; name one (font=…)")


def letter(
    text: str, room_wh: tuple[int, int], colour: tuple[int, int, int], font: Path | None = None
) -> RgbaArray:
    """``text`` on one line in ``colour``, as large as fits ``room_wh`` px, cropped to its ink.

    Raises:
        UsageError: no font has its characters.
    """
    mask = _ink(text, font)
    size = mask.shape[1], mask.shape[0]
    scale = min(room_wh[0] / size[0], room_wh[1] / size[1])
    fitted = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    alpha = cv2.resize(mask, fitted, interpolation=method)
    out = np.empty((*alpha.shape, 4), dtype=np.uint8)
    out[..., :3] = colour
    out[..., 3] = alpha
    return out


@functools.lru_cache(maxsize=32)
def _ink(text: str, font: Path | None) -> NDArray[np.uint8]:
    """Where ``text`` has ink, 0…255, 160 px to the em, cropped."""
    face = _choose(text, font)
    stroke = 5 if face is _builtin() else 0  # the built-in face is regular; plates want bold
    x0, y0, x1, y1 = face.getbbox(text, stroke_width=stroke)
    # At least from the baseline to the capitals, so that "oooo" is not blown up.
    ascent, _ = face.getmetrics()
    y0, y1 = min(y0, round(ascent - 0.72 * _PX)), max(y1, ascent)
    size = max(1, round(x1 - x0)), max(1, round(y1 - y0))
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).text((-x0, -y0), text, fill=255, font=face, stroke_width=stroke)
    out = np.asarray(mask, dtype=np.uint8)
    out.setflags(write=False)
    return out
