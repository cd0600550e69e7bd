"""Pixels of a JPEG, in and out, by libjpeg-turbo (simplejpeg, and Pillow where it can do more).

Everything here is in stored pixels; orientation is the caller's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from platehide.errors import ImageError
from platehide.formats.guard import decoding
from platehide.formats.raster import painted_inks, to_grey
from platehide.jpeg.deep import decode_deep, shallow_tables
from platehide.metadata.jpeg_walk import Frame
from platehide.pixels import Patch
from platehide.types import ImageArray

_PILLOW_SAMPLING = {"444": 0, "422": 1, "420": 2}
THUMBNAIL_LONG_SIDE = 160
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
FEW_BYTES = 16


@dataclass(frozen=True)
class Decoded:
    """Pixels, and whether the scans may hold bytes that draw nothing (so must not be copied).

    Attributes:
        padding: bytes behind the last block.
    """

    rgb: ImageArray
    junk_in_scans: bool
    padding: int = 0


def decode_rgb(jpeg: bytes, frame: Frame, long_side: int | None = None) -> Decoded:
    """Decode ``(H, W, 3)`` RGB; reduced in the DCT domain where ``long_side`` allows.

    Args:
        long_side: the longer side of the result is at least this, or the full size.

    Raises:
        ImageError: ``truncated`` where picture data ends early (libjpeg itself only warns and
            paints the rest grey), ``corrupt`` for any other damage that shows.
    """
    if frame.precision > 8:
        return Decoded(decode_deep(jpeg), junk_in_scans=False)
    options: dict[str, int] = {}
    if long_side is not None and long_side < max(frame.width, frame.height):
        wide = frame.width >= frame.height
        options = {"min_width" if wide else "min_height": max(1, long_side)}
    with decoding("JPEG"):
        try:
            return Decoded(simplejpeg.decode_jpeg(jpeg, **options), junk_in_scans=False)
        except ValueError as error:
            reason = str(error)
            if "extraneous bytes" not in reason and "subsampling" not in reason:
                raise
        padding = _padding(jpeg, reason) if "extraneous bytes" in reason else 0
        if padding is None:
            raise ImageError("JPEG picture data is damaged")
        if "subsampling" in reason:  # a ratio that TurboJPEG has no name for, e.g. 3×1
            with JpegImageFile(io.BytesIO(jpeg)) as image:
                return Decoded(np.asarray(image.convert("RGB")), junk_in_scans=True)
        rgb = simplejpeg.decode_jpeg(jpeg, strict=False, **options)
        return Decoded(rgb, junk_in_scans=True, padding=padding)


def _padding(jpeg: bytes, warning: str) -> int | None:
    """How many bytes libjpeg had left at the end of the picture, where they are a sloppy writer's
    padding: a few, or one value over and over.

    ``None`` for anything else: either it lost its way, so that the rest of the picture is in the
    wrong place and light, or somebody hides something.
    """
    found = _LEFT_OVER.search(warning)
    if found is None:
        return None
    count = int(found[1])
    return count if count <= FEW_BYTES or len(set(jpeg[-2 - count : -2])) == 1 else None


def encode_like(
    source: bytes, frame: Frame, stored_rgb: ImageArray, patches: Sequence[Patch]
) -> bytes:
    """A whole new JPEG of the picture with the patches drawn, as close to the source's way of
    storing it as libjpeg allows: same colour model, quantisation tables and sampling.

    Args:
        source: the original JPEG; its tables are used, and its ink values where it is CMYK.
        stored_rgb: its decoded pixels.
        patches: in stored pixels.
    """
    options: dict[str, Any]
    if frame.precision > 8:  # 8 bits from here on, in steps of the same size
        options = {"qtables": shallow_tables(source), "progressive": frame.progressive}
        if len(frame.components) == 1:
            return _save(Image.fromarray(_paint(stored_rgb[:, :, 0], patches, "L"), "L"), options)
        options["subsampling"] = _PILLOW_SAMPLING.get(frame.sampling, 0)
        return _save(Image.fromarray(_paint(stored_rgb, patches, "RGB")), options)
    with decoding("JPEG"), JpegImageFile(io.BytesIO(source)) as image:
        tables = image.quantization
        rgb_jpeg = image.mode == "RGB" and image.layer[0][0] == ord("R")
        adobe_rgb = image.info.get("adobe_transform") == 0 and "jfif" not in image.info
        ink = np.asarray(image) if image.mode == "CMYK" else None
    options = {
        "qtables": [tables[i] for i in sorted(tables)],
        "optimize": True,
        "progressive": frame.progressive,
    }
    if len(frame.components) == 4:
        if ink is None:
            raise ImageError("JPEG with four components that are not CMYK", code="unsupported")
        return _save(Image.fromarray(painted_inks(ink, patches), "CMYK"), options)
    if len(frame.components) == 1:
        return _save(Image.fromarray(_paint(stored_rgb[:, :, 0], patches, "L"), "L"), options)
    painted = _paint(stored_rgb, patches, "RGB")
    if rgb_jpeg or adobe_rgb:
        return _save(Image.fromarray(painted), options | {"keep_rgb": True})
    if frame.sampling in _PILLOW_SAMPLING:
        options["subsampling"] = _PILLOW_SAMPLING[frame.sampling]
        return _save(Image.fromarray(painted), options)
    sampling = frame.sampling if frame.sampling in ("440", "411") else "444"
    quality = estimate_quality(options["qtables"][0])
    with decoding("JPEG"):
        return bytes(simplejpeg.encode_jpeg(painted, quality=quality, colorsubsampling=sampling))


def _paint(stored: ImageArray, patches: Sequence[Patch], mode: str) -> ImageArray:
    """A copy with the patches' changed pixels in the colour model ``mode``."""
    out = np.array(stored, order="C")
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        pixels: ImageArray = patch.pixels
        if mode == "L":
            pixels = to_grey(pixels)
        out[y0:y1, x0:x1][patch.changed] = pixels[patch.changed]
    return out


def _save(image: Image.Image, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    try:
        image.save(out, "JPEG", **options)
    except OSError:
        # An optimised scan must fit Pillow's buffer; noise at quality 100 may not.
        out = io.BytesIO()
        image.save(out, "JPEG", **(options | {"optimize": False, "progressive": False}))
    return out.getvalue()


# ITU-T T.81, table K.1, in the natural order
_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69,
     56, 14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81,
     104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99],
    dtype=np.float64,
)  # fmt: skip


def estimate_quality(table: Sequence[int]) -> int:
    """The libjpeg quality 1–100 whose luminance table is nearest to ``table`` (64 values).

    By libjpeg's ``jpeg_quality_scaling``: scale = 5000/q below 50, 200 − 2q from there, entries
    kept within 1…255. Nearest by the sum of absolute differences of the sorted entries.
    """
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((np.sort(_LUMINANCE)[None] * scale[:, None] + 50) // 100, 1, 255)
    wanted = np.sort(np.asarray(table, dtype=np.float64))
    return int(quality[np.abs(tables - wanted).sum(axis=1).argmin()])


def thumbnail(jpeg: bytes, frame: Frame) -> bytes:
    """A JPEG of at most 160 px made from ``jpeg``, stored the same way round."""
    rgb = decode_rgb(jpeg, frame, 2 * THUMBNAIL_LONG_SIDE).rgb
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL_LONG_SIDE, THUMBNAIL_LONG_SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=75)
    return out.getvalue()
