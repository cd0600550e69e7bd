"""Pixels of 12-bit JPEGs, which no decoder in the install reads: the compiled part gives their
coefficients, the rest is a dequantisation and an inverse DCT (ITU-T T.81, A.3.3).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.errors import ImageError
from platehide.jpeg.native import AVAILABLE
from platehide.jpeg.source import NotEditableError, Source, read_source
from platehide.jpeg.store import MemoryStore
from platehide.metadata.jpeg_walk import JpegLayout, walk_jpeg
from platehide.types import ImageArray

_TOP = 4095.0
_ROWS_AT_ONCE = 32  # rows of blocks: keeps what is held in floating point small


def _natural_order() -> NDArray[np.intp]:
    """For each zigzag index the place ``8 * row + column`` (T.81 figure A.6)."""
    cells = sorted(
        ((v, u) for v in range(8) for u in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
    )
    return np.array([8 * v + u for v, u in cells], np.intp)


_NATURAL = _natural_order()
_COSINES = np.array(
    [
        [np.cos((2 * x + 1) * u * np.pi / 16) * (np.sqrt(0.125) if u == 0 else 0.5)
         for u in range(8)]
        for x in range(8)
    ],
    np.float32,
)  # fmt: skip


def decode_deep(data: bytes) -> ImageArray:
    """All pixels ``(h, w, 3)`` of a 12-bit JPEG, brought to 8 bits.

    Raises:
        ImageError: ``unsupported`` without the compiled part and for CMYK, RGB stored as such
            and arithmetic coding; ``corrupt`` where the picture data is damaged.
    """
    source = _source(data, walk_jpeg(data, max_pixels=1 << 62))
    try:
        store = MemoryStore(source)
        blocks = store.read((0, 0, *source.mcus_wh))
    except NotEditableError as error:
        raise ImageError(f"12-bit JPEG: {error}") from error
    width, height = source.size_wh
    planes = [_samples(part, source.quant[i].astype(np.float32)) for i, part in enumerate(blocks)]
    full = max(p.shape[1] for p in planes), max(p.shape[0] for p in planes)
    sized = [
        (p if (p.shape[1], p.shape[0]) == full else np.asarray(cv2.resize(p, full)))[
            :height, :width
        ]
        for p in planes
    ]
    if len(sized) == 1:
        grey = np.rint(sized[0] * (255.0 / _TOP)).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    y, cb, cr = sized[0], sized[1] - 2048.0, sized[2] - 2048.0  # JFIF's YCbCr, BT.601
    rgb = np.dstack([y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb])
    shallow: ImageArray = np.rint(np.clip(rgb, 0, _TOP) * (255.0 / _TOP)).astype(np.uint8)
    return shallow


def shallow_tables(data: bytes) -> list[list[int]]:
    """The quantisation of a 12-bit JPEG for 8-bit samples: one table (64 values, row by row) for
    brightness and, where there is colour, one for it."""
    source = _source(data, walk_jpeg(data, max_pixels=1 << 62))
    tables = []
    for steps in source.quant[: min(2, len(source.sampling))]:
        natural = np.empty(64)
        natural[_NATURAL] = steps
        tables.append(np.clip(np.rint(natural / 16), 1, 255).astype(int).tolist())
    return tables


def _source(data: bytes, layout: JpegLayout) -> Source:
    if not AVAILABLE:
        raise ImageError(
            "12-bit JPEG needs the compiled part of platehide, which is missing",
            code="unsupported",
        )
    try:
        return read_source(data, layout, precision=12)
    except NotEditableError as error:
        raise ImageError(f"12-bit JPEG: {error}", code="unsupported") from error


def _samples(blocks: NDArray[np.int16], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples 0…4095 ``(8 rows, 8 columns)`` of blocks ``(rows, columns, 64)``."""
    down, across = blocks.shape[:2]
    out = np.empty((down * 8, across * 8), np.float32)
    for top in range(0, down, _ROWS_AT_ONCE):
        part = blocks[top : top + _ROWS_AT_ONCE]
        natural = np.empty(part.shape, np.float32)
        natural[..., _NATURAL] = part * steps
        squares = natural.reshape(*part.shape[:2], 8, 8)
        pixels = _COSINES @ squares @ _COSINES.T + 2048.0
        rows = pixels.transpose(0, 2, 1, 3).reshape(len(part) * 8, across * 8)
        out[top * 8 : top * 8 + len(rows)] = np.clip(rows, 0, _TOP)
    return out
