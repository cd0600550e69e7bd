"""False covers on plate-free crops: parts of photos on which every readable plate is labelled.

Photos without a plate are few and unlike the photos that users send; what lies beside the plates
of completely labelled photos is exactly what a detector meets. The crops of a photo depend on its
name alone, so that two models and two machines judge the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from tqdm import tqdm

from platehide.evaluate.dataset import PhotoRecord
from platehide.evaluate.metrics import Share
from platehide.evaluate.runner import Predictor, open_record
from platehide.geometry import box_iou
from platehide.pixels import ArrayPixels

LEAST_SIDE = 256
MOST_PER_PHOTO = 24
MOST_ALIKE = 0.75
"""IoU above which two crops of a photo would be the same crop twice."""
TRIES = 120

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Crop:
    """``box`` (x0, y0, x1, y1 px) of a photo, free of plates."""

    record: PhotoRecord
    box: Box


@dataclass(frozen=True)
class CropOutcome:
    """What a model did on one crop."""

    set_name: str
    photo: str
    box: Box
    painted: int
    status: str


def crops_of(record: PhotoRecord, most: int = MOST_PER_PHOTO) -> list[Crop]:
    """Up to ``most`` different crops of at least 256 × 256 px that no plate's box touches (a rim
    of 4 px and a tenth of the plate's height included); always the same for a photo.
    """
    least = min(record.width, record.height)
    if not record.complete or least < LEAST_SIDE:
        return []
    rng = np.random.default_rng(
        int.from_bytes(hashlib.sha256(record.name.encode()).digest()[:8], "big")
    )
    forbidden = []
    for plate in record.plates:
        x0, y0, x1, y1 = plate.box
        rim = 4.0 + 0.1 * (y1 - y0)
        forbidden.append((x0 - rim, y0 - rim, x1 + rim, y1 + rim))
    found: list[Crop] = []
    for _ in range(TRIES):
        if len(found) >= most:
            break
        w, h = (
            int(np.exp(rng.uniform(np.log(LEAST_SIDE), np.log(side + 1))))
            for side in (record.width, record.height)
        )
        w, h = min(max(w, LEAST_SIDE), record.width), min(max(h, LEAST_SIDE), record.height)
        if not 0.5 <= w / h <= 2.0:
            continue
        x = int(rng.integers(0, record.width - w + 1))
        y = int(rng.integers(0, record.height - h + 1))
        box = (x, y, x + w, y + h)
        free = all(
            x + w <= f[0] or x >= f[2] or y + h <= f[1] or y >= f[3] for f in forbidden
        ) and all(box_iou(box, c.box) < MOST_ALIKE for c in found)
        if free:
            found.append(Crop(record, box))
    return found


def plan_crops(records: Sequence[PhotoRecord], count: int) -> list[Crop]:
    """``count`` crops (fewer where the photos give no more), spread evenly over the photos: the
    first of every photo, then the second, and so on. Grouped by photo.
    """
    chosen: list[tuple[int, Crop]] = []
    every = [crops_of(r) for r in sorted(records, key=lambda r: r.name)]
    for turn in range(MOST_PER_PHOTO):
        for index, crops in enumerate(every):
            if turn < len(crops) and len(chosen) < count:
                chosen.append((index, crops[turn]))
    return [crop for _, crop in sorted(chosen, key=lambda item: item[0])]


def run_crops(
    crops: Sequence[Crop], predict: Predictor, *, quiet: bool = False
) -> list[CropOutcome]:
    """Judge a model on crops; a photo is decoded once for all of its crops."""
    outcomes = []
    bar = tqdm(total=len(crops), desc="crops", unit="crop", disable=quiet)
    with bar:
        for _, group in groupby(crops, key=lambda c: c.record.name):
            same = list(group)
            record = same[0].record
            frame = open_record(record)
            width, height = frame.size_wh
            pixels = frame.region((0, 0, width, height))
            for crop in same:
                x0, y0, x1, y1 = crop.box
                part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
                seen = predict(ArrayPixels(part))
                outcomes.append(
                    CropOutcome(
                        record.set_name, record.name, crop.box, len(seen.painted), seen.status
                    )
                )
                bar.update()
    return outcomes


def summarise_crops(outcomes: Sequence[CropOutcome]) -> dict[str, Any]:
    """Counts, false covers and unsure answers, over all crops and by set, JSON-ready."""

    def row(group: Sequence[CropOutcome]) -> dict[str, Any]:
        return {
            "crops": len(group),
            "photos": len({o.photo for o in group}),
            "false_covers": Share(sum(o.painted > 0 for o in group), len(group)).to_json(),
            "unsure": Share(sum(o.status == "unsure" for o in group), len(group)).to_json(),
        }

    names = sorted({o.set_name for o in outcomes})
    return row(outcomes) | {
        "sets": {n: row([o for o in outcomes if o.set_name == n]) for n in names}
    }
