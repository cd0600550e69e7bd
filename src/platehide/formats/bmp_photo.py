"""BMP: uncompressed, so the pixels are written anew and nothing between them survives."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from platehide.errors import ImageError
from platehide.formats.guard import check_pixels, decoding
from platehide.formats.raster import Samples, from_pillow, painted, rgb8
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.metadata.icc import well_formed_profile
from platehide.pixels import ArrayPixels, Patch
from platehide.types import EditMode

MEDIA_TYPE = "image/bmp"
_FILE_HEADER = 14
_CORE, _INFO, _V5 = 12, 40, 124
_EMBEDDED_PROFILE = b"DEBM"  # 'MBED', little-endian
_SRGB = b"BGRs"
_BITFIELDS = 3


class BmpPhoto:
    """An opened BMP."""

    media_type = MEDIA_TYPE

    def __init__(
        self, samples: Samples, density: tuple[int, int], icc: bytes | None, removed: Sequence[str]
    ) -> None:
        self._samples = samples
        self._density = density
        self._icc = icc
        self._removed = tuple(sorted(removed))
        self.frames: Sequence[ArrayPixels] = (ArrayPixels(rgb8(samples)),)

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``."""
        del options  # BMP has no place for metadata
        data = write_bmp(painted(self._samples, patches), self._density, self._icc)
        edit: EditMode = "lossless" if patches else "untouched"
        return FinishedPhoto(data, MEDIA_TYPE, edit, self._removed)


def open_bmp(data: bytes, *, max_pixels: int) -> BmpPhoto:
    """Open a BMP with 1 to 32 bits a pixel.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``unsupported``, ``too_large``.
    """
    if len(data) < _FILE_HEADER + _CORE:
        raise ImageError("BMP ends inside its header", code="truncated")
    pixels_at, header_size = struct.unpack_from("<II", data, 10)
    if header_size != _CORE and not _INFO <= header_size <= _V5:
        raise ImageError("BMP with this header is not supported", code="unsupported")
    if len(data) < _FILE_HEADER + header_size:
        raise ImageError("BMP ends inside its header", code="truncated")
    across = down = compression = 0
    if header_size == _CORE:  # OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        bits, compression = struct.unpack_from("<HI", data, 28)
        across, down = struct.unpack_from("<ii", data, 38)
    check_pixels(width, abs(height), max_pixels)
    if bits not in (1, 4, 8, 16, 24, 32) or compression not in (0, 1, 2, _BITFIELDS, 6):
        raise ImageError("BMP with this compression is not supported", code="unsupported")
    stride = (width * bits + 31) // 32 * 4
    stored = stride * abs(height) if compression in (0, _BITFIELDS, 6) else 1
    if pixels_at + stored > len(data):
        raise ImageError("BMP ends inside its picture data", code="truncated")
    removed = []
    icc: bytes | None = None
    if header_size == _V5 and data[_FILE_HEADER + 56 : _FILE_HEADER + 60] == _EMBEDDED_PROFILE:
        at, size = struct.unpack_from("<II", data, _FILE_HEADER + 112)
        profile = data[_FILE_HEADER + at : _FILE_HEADER + at + size]
        icc = profile if len(profile) == size and well_formed_profile(profile) else None
        if icc is None:
            removed.append("icc.damaged")
    if pixels_at + stored + len(icc or b"") < len(data) and compression in (0, _BITFIELDS, 6):
        removed.append("trailer")
    with decoding("BMP"), BmpImageFile(io.BytesIO(data)) as image:
        samples = from_pillow(image)
    if samples.shape[:2] != (abs(height), width):
        raise ImageError("BMP decodes to another size than it declares")
    return BmpPhoto(samples, (max(across, 0), max(down, 0)), icc, removed)


def write_bmp(samples: Samples, density: tuple[int, int], icc: bytes | None) -> bytes:
    """A bottom-up BMP: 8-bit grey, 24-bit, or 32-bit with alpha.

    Args:
        density: pixels a metre across and down, 0 for unknown.
        icc: embedded where given; the header is then version 5.
    """
    height, width, channels = samples.shape
    if channels == 2:
        samples = np.concatenate([np.repeat(samples[:, :, :1], 3, 2), samples[:, :, 1:]], axis=2)
        channels = 4
    bits = 8 * channels
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256)) if channels == 1 else b""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    rows = np.zeros((height, (width * bits + 31) // 32 * 4), np.uint8)
    rows[:, : width * channels] = samples[::-1, :, order].reshape(height, -1)
    pixels = rows.tobytes()
    header_size = _V5 if icc or channels == 4 else _INFO
    compression = _BITFIELDS if channels == 4 else 0
    info = struct.pack(
        "<IiiHHIIiiII", header_size, width, height, 1, bits, compression, len(pixels),
        *density, len(palette) // 4, 0,
    )  # fmt: skip
    if header_size == _V5:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if channels == 4 else (0, 0, 0, 0)
        profile_at = header_size + len(palette) + len(pixels)
        info += struct.pack("<IIII", *masks) + (_EMBEDDED_PROFILE if icc else _SRGB) + bytes(48)
        info += struct.pack("<IIII", 4, profile_at if icc else 0, len(icc or b""), 0)
    pixels_at = _FILE_HEADER + header_size + len(palette)
    size = pixels_at + len(pixels) + len(icc or b"")
    head = b"BM" + struct.pack("<IHHI", size, 0, 0, pixels_at)
    return head + info + palette + pixels + (icc or b"")
