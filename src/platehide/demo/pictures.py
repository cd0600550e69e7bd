"""The pictures of docs/cover.md, from rendered samples only."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from platehide.cover import CoverOptions, cover_plate, load_cover
from platehide.cover.layout import flat_plate
from platehide.demo.gallery import crop_pair
from platehide.demo.run import displayed
from platehide.demo.scenes import SCENES, render
from platehide.files import write_whole
from platehide.pixels import ArrayPixels, apply_patches
from platehide.types import ImageArray

_TILE = 140  # keeps the file under 300 kB
_ASPECTS = (4.7, 2.0, 1.3)
_OPTIONS = (
    CoverOptions(),
    CoverOptions(variant="dark"),
    CoverOptions(text="Demo Motors"),
    CoverOptions(style="solid", text="SOLD"),
)


def write_pictures(folder: Path) -> list[Path]:
    """Write ``cover-samples.png`` and ``cover-designs.png`` into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "cover-samples.png", folder / "cover-designs.png"]
    for path, picture in zip(paths, (_samples(), _designs()), strict=True):
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "PNG", optimize=True)
        write_whole(path, out.getvalue())
    return paths


def _samples() -> ImageArray:
    """Every sample's first plate before and after, four pairs a row."""
    cover, options = load_cover(None), CoverOptions()
    pairs = []
    for spec in SCENES:
        sample = render(spec)
        if not sample.quads:
            continue
        rgb = displayed(sample.jpeg)
        patches = [cover_plate(ArrayPixels(rgb), q, cover, options).patch for q in sample.quads]
        pair = crop_pair(rgb, apply_patches(rgb, tuple(patches)), sample.quads[0], _TILE)
        pairs.append(np.pad(pair, ((0, 6), (0, 6), (0, 0)), constant_values=255))
    rows = [np.concatenate(pairs[i : i + 4], axis=1) for i in range(0, len(pairs), 4)]
    width = max(row.shape[1] for row in rows)
    rows = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return np.asarray(np.concatenate(rows), dtype=np.uint8)


def _designs() -> ImageArray:
    """Our design flat: one row for each way to use it, one column for each shape of plate."""
    cover, height, gap = load_cover(None), 88, 14
    widths = [round(height * aspect) for aspect in _ASPECTS]
    canvas = np.full(
        (len(_OPTIONS) * (height + gap) + gap, sum(widths) + gap * (len(widths) + 1), 3),
        150,
        dtype=np.uint8,
    )
    for i, options in enumerate(_OPTIONS):
        x, y = gap, gap + i * (height + gap)
        for width in widths:
            flat = flat_plate(cover, options, width * 2, height * 2).levels[0]
            canvas[y : y + height, x : x + width] = cv2.resize(
                flat, (width, height), interpolation=cv2.INTER_AREA
            )
            x += width + gap
    return canvas
