"""Open photos of every supported format; see docs/formats.md."""

from __future__ import annotations

from collections.abc import Callable

from platehide.formats.bmp_photo import open_bmp
from platehide.formats.gif_photo import open_gif
from platehide.formats.heif_photo import open_avif, open_heic
from platehide.formats.jpeg_photo import open_jpeg
from platehide.formats.png_photo import open_png
from platehide.formats.sniff import sniff
from platehide.formats.tiff_photo import open_tiff
from platehide.formats.webp_photo import open_webp
from platehide.image_io import DEFAULT_MAX_PIXELS, Photo

__all__ = ["IMAGE_SUFFIXES", "open_photo"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp",
     ".dib", ".heic", ".heif", ".avif", ".mpo"}
)  # fmt: skip
"""Extensions, lower case, under which photos are looked for in folders; the content decides."""

_OPENERS: dict[str, Callable[..., Photo]] = {
    "jpeg": open_jpeg,
    "png": open_png,
    "webp": open_webp,
    "gif": open_gif,
    "tiff": open_tiff,
    "bmp": open_bmp,
    "avif": open_avif,
    "heic": open_heic,
}


def open_photo(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """Open one photo by what its bytes are; its name does not matter.

    Args:
        max_pixels: a photo that declares more (all frames counted) is refused before decoding.

    Raises:
        ImageError: ``empty``, ``not_an_image``, ``truncated``, ``corrupt``, ``unsupported`` or
            ``too_large``. JPEG is decoded lazily, so its frames and ``write`` may raise too.
    """
    return _OPENERS[sniff(data)](bytes(data), max_pixels=max_pixels)
