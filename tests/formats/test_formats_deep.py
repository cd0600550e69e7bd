"""12-bit JPEG: looked at in full depth, covered in 8 bits; no encoder here writes any, so a plain
one stands below."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from platehide.cover import CoverOptions, cover_plate, load_cover
from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.image_io import WriteOptions
from platehide.jpeg import AVAILABLE
from platehide.jpeg.native import native
from platehide.jpeg.store import table_segment
from platehide.types import ImageArray

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part (gcc)")
STEP = 24


def zigzag() -> list[tuple[int, int]]:
    """Row and column of each index, by walking the diagonals."""
    order = []
    for d in range(15):
        cells = [(d - x, x) for x in range(max(0, d - 7), min(7, d) + 1)]
        order += cells if d % 2 == 0 else cells[::-1]
    return order


def deep_jpeg(samples: np.ndarray) -> bytes:
    """``(h, w, c)`` samples 0…4095 as they are stored, 4:4:4, extended sequential."""
    height, width, count = samples.shape
    padded = np.pad(samples, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge") - 2048.0
    x = np.arange(8)
    basis = np.cos((2 * x[None] + 1) * x[:, None] * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    blocks = []
    for c in range(count):
        tiles = padded[..., c].reshape(padded.shape[0] // 8, 8, -1, 8).swapaxes(1, 2)
        flat = np.rint(basis @ tiles @ basis.T / STEP)
        blocks.append(np.stack([flat[..., v, u] for v, u in zigzag()], axis=-1).astype(np.int16))
    frame = np.array([width, height, count, 1, 1, 1, 1, 1, 1], np.int32)
    scan = [count, *(n for i in range(count) for n in (i, 0, 0))]
    scan += [0] * (10 - len(scan)) + [0, 63, 0, 0, 0]
    three = [np.ascontiguousarray(b) for b in blocks] + [bytearray()] * (3 - count)
    specs, entropy = native.encode_scan(frame, np.array(scan, np.int32), False, *three)
    header = b"\x0c" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([count])
    header += b"".join(bytes([i + 1, 0x11, 0]) for i in range(count))
    names = b"".join(bytes([i + 1, 0]) for i in range(count))
    return b"".join(
        [
            b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes([STEP]) * 64,
            b"\xff\xc1" + (len(header) + 2).to_bytes(2, "big") + header,
            table_segment(specs, [0, 4]),
            b"\xff\xda" + (6 + len(names)).to_bytes(2, "big") + bytes([count]) + names,
            b"\x00\x3f\x00" + entropy + b"\xff\xd9",
        ]
    )


def scene(width: int, height: int) -> ImageArray:
    y, x = np.mgrid[0:height, 0:width]
    waves = 128 + 90 * np.sin(x / 17 + y / 23), 120 + 80 * np.cos(y / 13), x * 200 / width + 20
    return np.dstack(waves).astype(np.uint8)


def stored(rgb: ImageArray) -> np.ndarray:
    """YCbCr of 12 bits."""
    r, g, b = (rgb[..., i] * (4095 / 255) for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.dstack([y, 2048 + (b - y) / 1.772, 2048 + (r - y) / 1.402])


@pytest.mark.parametrize("size", [(96, 64), (61, 43)])
@pytest.mark.parametrize("colour", [True, False])
def test_twelve_bits_are_seen_and_come_back_as_eight(size: tuple[int, int], colour: bool) -> None:
    rgb = scene(*size)
    if not colour:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    samples = stored(rgb) if colour else rgb[..., :1] * (4095 / 255)
    data = deep_jpeg(samples)
    photo = open_photo(data)
    frame = photo.frames[0]
    assert frame.size_wh == size
    seen = frame.region((0, 0, *size)).astype(int)
    assert np.abs(seen - rgb).max() <= 5

    untouched = photo.write([], WriteOptions())
    assert untouched.edit == "untouched"
    scan = data[data.index(b"\xff\xda") :]
    assert untouched.data.endswith(scan)

    quad = [[12, 10], [50, 10], [50, 22], [12, 22]]
    patch = cover_plate(frame, quad, load_cover(None), CoverOptions()).patch
    finished = photo.write([patch], WriteOptions())
    assert finished.edit == "reencoded"
    shown = simplejpeg.decode_jpeg(finished.data).astype(int)
    assert np.abs(shown[32:] - rgb[32:]).max() <= 8
    x0, y0, x1, y1 = patch.box
    inside = np.abs(shown[y0:y1, x0:x1] - patch.pixels)[patch.changed]
    assert np.median(inside) <= 8


def test_damaged_and_odd_ones_are_errors() -> None:
    data = deep_jpeg(stored(scene(48, 40)))
    start = data.index(b"\xff\xda") + 14
    for cut in range(start + 20, len(data) - 2, 97):
        with pytest.raises(ImageError):
            open_photo(data[:cut] + b"\xff\xd9").frames[0].region((0, 0, 48, 40))
    with pytest.raises(ImageError, match="10-bit") as caught:
        open_photo(data.replace(b"\xff\xc1\x00\x11\x0c", b"\xff\xc1\x00\x11\x0a"))
    assert caught.value.code == "unsupported"
