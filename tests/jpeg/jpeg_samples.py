"""JPEGs of every kind, and an independent view of their coefficients."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.pixels import Patch
from platehide.types import ImageArray

HERE = Path(__file__).parent
SAMPLINGS = ("444", "422", "420", "440", "411", "gray")
FACTORS = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1)}


def scene(width: int, height: int, seed: int = 0) -> ImageArray:
    """Smooth colours with some grain, ``(height, width, 3)``."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 80 + 2, width // 80 + 2, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def sequential(rgb: ImageArray, sampling: str, quality: int = 90) -> bytes:
    """A baseline JPEG in the standard's Huffman tables."""
    if sampling == "gray":
        grey = np.ascontiguousarray(rgb[..., :1])
        return bytes(
            simplejpeg.encode_jpeg(grey, quality, colorspace="GRAY", colorsubsampling="Gray")
        )
    return bytes(simplejpeg.encode_jpeg(rgb, quality, colorsubsampling=sampling))


def by_pillow(rgb: ImageArray, mode: str = "RGB", **options: object) -> bytes:
    """Whatever Pillow can write."""
    file = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decoded(jpeg: bytes) -> ImageArray:
    """Stored pixels ``(h, w, 3)`` by OpenCV's own copy of libjpeg-turbo."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def some_patches(size_wh: tuple[int, int], count: int, seed: int = 0) -> list[Patch]:
    """Rough patches with holes anywhere in the picture."""
    rng = np.random.default_rng(seed)
    patches = []
    for _ in range(count):
        w, h = (min(side, int(rng.integers(5, 90))) for side in size_wh)
        x, y = int(rng.integers(0, size_wh[0] - w + 1)), int(rng.integers(0, size_wh[1] - h + 1))
        pixels = rng.integers(60, 190, (h, w, 3)).astype(np.uint8)
        patches.append(Patch(x, y, pixels, rng.random((h, w)) < 0.9))
    return patches


def changed_map(size_wh: tuple[int, int], patches: Sequence[Patch]) -> np.ndarray:
    """Bool ``(h, w)``: pixels that a patch writes."""
    out = np.zeros(size_wh[::-1], np.bool_)
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        out[y0:y1, x0:x1] |= patch.changed
    return out


def reader_program(folder: Path) -> Path:
    """coefficients.c, built against the system's libjpeg; skips where that is impossible."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    program = folder / "coefficients"
    command = ["gcc", "-O1", str(HERE / "coefficients.c"), "-o", str(program), "-ljpeg"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs libjpeg-dev")
    return program


def coefficients(program: Path, folder: Path, jpeg: bytes) -> list[np.ndarray]:
    """One int16 array ``(rows, columns, 64)`` a component, as libjpeg reads them."""
    file = folder / "read.jpg"
    file.write_bytes(jpeg)
    done = subprocess.run([str(program), str(file)], capture_output=True, check=False)
    assert done.returncode == 0, f"libjpeg complains: {done.stderr!r}"
    at, out = 4, []
    for _ in range(int.from_bytes(done.stdout[:4], "little")):
        rows, columns = np.frombuffer(done.stdout, np.int32, 2, at).tolist()
        values = np.frombuffer(done.stdout, np.int16, rows * columns * 64, at + 8)
        out.append(values.reshape(rows, columns, 64))
        at += 8 + values.nbytes
    return out


def block_sides(jpeg: bytes) -> list[tuple[int, int]]:
    """Width and height in px of one block of each component."""
    components = walk_jpeg(jpeg, max_pixels=1 << 40).frame.components
    if len(components) == 1:
        return [(8, 8)]
    h_max, v_max = max(c.h for c in components), max(c.v for c in components)
    return [(8 * h_max // c.h, 8 * v_max // c.v) for c in components]
