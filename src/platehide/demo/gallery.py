"""A page of covers on real photos with known corners, to be looked at by people."""

from __future__ import annotations

import base64
import html
import io
import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from platehide.cover import Cover, CoverOptions, cover_plate
from platehide.demo.run import displayed
from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, load_records
from platehide.files import write_whole
from platehide.geometry import hull_box
from platehide.pixels import ArrayPixels, Patch, apply_patches
from platehide.types import FloatArray, ImageArray

_STYLE = (
    "*{box-sizing:border-box}body{font:15px/1.4 system-ui,sans-serif;background:#e9ebee;"
    "color:#1e242e;margin:0;padding:16px}h1{font-size:1.3rem;margin:0 0 4px}p{margin:0 0 16px}"
    "main{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr))}"
    "figure{margin:0;background:#fff;padding:8px;border-radius:6px}"
    "img{display:block;width:100%;height:auto}figcaption{overflow-wrap:anywhere;margin-top:6px}"
)


def write_gallery(
    photos: Path,
    page: Path,
    cover: Cover,
    options: CoverOptions,
    *,
    count: int = 30,
    split: str = "train",
    sets: Sequence[str] | None = None,
    seed: int = 0,
) -> int:
    """Write ``page`` (HTML with embedded pictures) and ``page`` with suffix ``.png`` (a sheet).

    Photos are drawn evenly over the sets, always the same for one ``seed``. Only plates with
    known corners are covered.

    Returns:
        number of plates shown.

    Raises:
        UsageError: no photo with known corners is there.
    """
    chosen = choose(load_records(photos, split, sets), count, seed)
    if not chosen:
        raise UsageError(f"{photos}: no photo with known corners in split {split}")
    figures: list[str] = []
    tiles: list[ImageArray] = []
    for record in chosen:
        rgb = displayed(record.path.read_bytes())
        source = ArrayPixels(rgb)
        quads = [plate.quad for plate in record.plates if plate.quad is not None]
        patches: list[Patch] = [cover_plate(source, q, cover, options).patch for q in quads]
        after = apply_patches(rgb, tuple(patches))
        for quad in quads:
            tile = crop_pair(rgb, after, quad)
            tiles.append(tile)
            figures.append(
                f'<figure><img alt="before and after" src="data:image/jpeg;base64,{_jpeg64(tile)}">'
                f"<figcaption>{html.escape(record.name)}</figcaption></figure>"
            )
    document = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Covers</title><style>{_STYLE}</style><h1>Covers on {len(figures)} plates</h1>"
        "<p>Left as photographed, right covered. Real plates: keep this page to yourself.</p>"
        "<main>" + "".join(figures) + "</main></html>"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, document.encode())
    blank = np.zeros_like(tiles[0])
    rows = [np.concatenate([*tiles[i : i + 2], blank][:2], axis=1) for i in range(0, len(tiles), 2)]
    ok, png = cv2.imencode(".png", np.concatenate(rows)[..., ::-1])
    if not ok:
        raise UsageError(f"{page}: the sheet could not be encoded")
    write_whole(page.with_suffix(".png"), png.tobytes())
    return len(tiles)


def choose(records: Sequence[PhotoRecord], count: int, seed: int) -> list[PhotoRecord]:
    """``count`` photos with known corners, drawn in turn from each set."""
    by_set: dict[str, list[PhotoRecord]] = {}
    for record in records:
        if any(plate.quad is not None for plate in record.plates):
            by_set.setdefault(record.set_name, []).append(record)
    rng = random.Random(seed)
    for group in by_set.values():
        rng.shuffle(group)
    chosen: list[PhotoRecord] = []
    while len(chosen) < count and any(by_set.values()):
        for name in sorted(by_set):
            if by_set[name] and len(chosen) < count:
                chosen.append(by_set[name].pop())
    return chosen


def crop_pair(
    before: ImageArray, after: ImageArray, quad: FloatArray, side: int = 420
) -> ImageArray:
    """The plate's surroundings before and after, ``(side, 2 * side, 3)``."""
    x0, y0, x1, y1 = hull_box(quad)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    half = 0.95 * max(x1 - x0, y1 - y0, 20)
    h, w = before.shape[:2]
    left, right = int(max(0, cx - half)), int(min(w, cx + half + 1))
    top, bottom = int(max(0, cy - half)), int(min(h, cy + half + 1))
    out = np.zeros((side, 2 * side, 3), dtype=np.uint8)
    for i, picture in enumerate((before, after)):
        crop = picture[top:bottom, left:right]
        scale = side / max(crop.shape[:2])
        size = max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        x = i * side
        out[: size[1], x : x + size[0]] = cv2.resize(crop, size, interpolation=method)
    return out


def _jpeg64(rgb: ImageArray) -> str:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=90)
    return base64.b64encode(out.getvalue()).decode()
