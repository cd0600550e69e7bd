"""Plate-free crops: large enough, free of plates, the same everywhere, true to the split."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from platehide.evaluate.crops import (
    LEAST_SIDE,
    crops_of,
    plan_crops,
    run_crops,
    summarise_crops,
)
from platehide.evaluate.dataset import PhotoRecord, PlateLabel, load_records
from platehide.evaluate.metrics import Prediction
from platehide.geometry import box_iou
from platehide.pixels import PixelSource


def record(
    name: str, size: tuple[int, int], *boxes: list[float], complete: bool = True
) -> PhotoRecord:
    plates = tuple(PlateLabel(np.array(b), None) for b in boxes)
    path = Path("s/images") / name
    return PhotoRecord("s", path, *size, "val", plates, "g", "l", complete)


def test_crops_are_large_free_of_plates_and_different() -> None:
    boxes = [[300.0, 200.0, 420.0, 240.0], [900.0, 600.0, 960.0, 620.0]]
    photo = record("a.jpg", (1280, 960), *boxes)
    crops = crops_of(photo)
    assert len(crops) >= 10
    for crop in crops:
        x0, y0, x1, y1 = crop.box
        assert x0 >= 0 and y0 >= 0 and x1 <= 1280 and y1 <= 960
        assert min(x1 - x0, y1 - y0) >= LEAST_SIDE
        assert all(box_iou(crop.box, b) == 0.0 for b in boxes)
    assert len({c.box for c in crops}) == len(crops)
    assert [c.box for c in crops_of(photo)] == [c.box for c in crops]
    assert [c.box for c in crops_of(record("b.jpg", (1280, 960), *boxes))] != [c.box for c in crops]


def test_photos_that_give_none() -> None:
    assert crops_of(record("a.jpg", (1280, 960), complete=False)) == []
    assert crops_of(record("a.jpg", (1280, 255))) == []
    assert crops_of(record("a.jpg", (400, 300), [10.0, 10.0, 390.0, 290.0])) == []


def test_a_plan_is_spread_over_the_photos_and_independent_of_their_order() -> None:
    photos = [record(f"{i}.jpg", (1024, 768)) for i in range(10)]
    plan = plan_crops(photos, 25)
    counts = [sum(c.record.name == p.name for c in plan) for p in photos]
    assert sum(counts) == 25
    assert max(counts) - min(counts) <= 1
    again = plan_crops(photos[::-1], 25)
    assert [(c.record.name, c.box) for c in plan] == [(c.record.name, c.box) for c in again]


def test_what_is_painted_on_a_crop_is_a_false_cover(tmp_path: Path) -> None:
    folder = tmp_path / "s" / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shade in (("dark.png", 20), ("light.png", 200)):
        cv2.imwrite(str(folder / name), rng.integers(shade, shade + 30, (400, 600, 3), np.uint8))
    rows = [
        {"image": f"images/{n}.png", "width": 600, "height": 400, "split": s, "plates": []}
        for n, s in (("dark", "val"), ("light", "val"), ("light", "test"))
    ]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / "s" / "annotations.jsonl").write_text(text)

    def predict(source: PixelSource) -> Prediction:
        width, height = source.size_wh
        assert min(width, height) >= LEAST_SIDE
        light = source.region((0, 0, width, height)).mean() > 128
        quad = np.array([[[0.0, 0.0], [9.0, 0.0], [9.0, 5.0], [0.0, 5.0]]])
        return Prediction(quad, np.ones(1), (quad[0],) if light else ())

    records = load_records(tmp_path, "val")
    outcomes = run_crops(plan_crops(records, 8), predict, quiet=True)
    row = summarise_crops(outcomes)
    assert row["crops"] == 8
    assert row["photos"] == 2
    assert row["false_covers"]["count"] == 4
    assert row["false_covers"]["value"] == pytest.approx(0.5)
    assert row["sets"]["s"]["unsure"]["count"] == 0


@pytest.mark.photos
def test_the_real_photos_give_a_thousand_in_val_and_test(photos_root: Path) -> None:
    for split in ("val", "test"):
        records = load_records(photos_root, split)
        plan = plan_crops(records, 1000)
        assert len(plan) == 1000
        assert {c.record.split for c in plan} == {split}
        assert all(c.record.complete for c in plan)
