"""Open photos of every supported format."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from platehide.errors import ImageError
from platehide.formats.jpeg_photo import open_jpeg
from platehide.image_io import DEFAULT_MAX_PIXELS, FinishedPhoto, Photo, WriteOptions
from platehide.pixels import ArrayPixels, Patch, PixelSource, apply_patches

__all__ = ["open_photo"]


@dataclass(frozen=True)
class _StillPhoto:
    media_type: str
    frames: Sequence[PixelSource]
    format: str
    icc: bytes | None

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        del options
        frame = self.frames[0]
        assert isinstance(frame, ArrayPixels)
        image = Image.fromarray(apply_patches(frame.rgb, tuple(patches)))
        out = io.BytesIO()
        save: dict[str, Any] = {"quality": 92}
        if self.icc:
            save["icc_profile"] = self.icc
        image.save(out, self.format, **save)
        return FinishedPhoto(out.getvalue(), self.media_type, "reencoded")


def open_photo(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """Open one photo.

    Raises:
        ImageError: see its codes.
    """
    if not data:
        raise ImageError("the file is empty", code="empty")
    if data.startswith(b"\xff\xd8"):
        return open_jpeg(data, max_pixels=max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"])
    except OSError as error:
        raise ImageError("not an image", code="not_an_image") from error
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width}×{image.height} pixels are too many", code="too_large")
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    try:
        if kind == "JPEG" and image.mode == "RGB" and image.getexif().get(0x112, 1) == 1:
            rgb = simplejpeg.decode_jpeg(data)
        else:
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be decoded: {error}", code="corrupt") from error
    return _StillPhoto(
        f"image/{kind.lower()}", (ArrayPixels(rgb),), kind, image.info.get("icc_profile")
    )
