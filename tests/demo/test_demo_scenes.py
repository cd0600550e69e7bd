from __future__ import annotations

import dataclasses
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from platehide.demo.plates import draw_plate
from platehide.demo.run import displayed
from platehide.demo.scenes import SCENES, SceneSpec, plate_corners, render
from platehide.geometry import area, is_convex, polygon_iou, signed_area

SMALL = {s.name: dataclasses.replace(s, size_wh=(s.size_wh[0] // 2, s.size_wh[1] // 2), grain=0.0)
         for s in SCENES}  # fmt: skip


def other_plate(spec: SceneSpec) -> SceneSpec:
    """The same scene with plates of another colour."""
    poses = tuple(
        dataclasses.replace(p, plate=("yellow" if p.plate[0] == "eu" else "eu", "0"))
        if p.plate and p.plate[0] in ("eu", "yellow") else p
        for p in spec.cars
    )  # fmt: skip
    return dataclasses.replace(spec, cars=poses)


def test_the_samples_show_what_a_demo_should() -> None:
    styles = {p.plate[0] for s in SCENES for p in s.cars if p.plate}
    assert styles == {"eu", "us", "yellow", "two-row", "black"}
    assert {s.light for s in SCENES} == {"sun", "shade", "evening", "night"}
    assert any(not plate_corners(s) for s in SCENES)
    assert any(len(plate_corners(s)) >= 2 for s in SCENES)
    assert any(s.orientation != 1 for s in SCENES)
    assert len({s.name for s in SCENES}) == len(SCENES)


@pytest.mark.parametrize("spec", SCENES, ids=lambda s: s.name)
def test_every_plate_lies_in_its_photo_and_reads_the_right_way(spec: SceneSpec) -> None:
    for quad in plate_corners(spec):
        assert is_convex(quad)
        assert signed_area(quad) > 500
        assert quad.min() > 0
        assert (quad.max(axis=0) < spec.size_wh).all()
        assert quad[0, 0] < quad[1, 0] and quad[0, 1] < quad[3, 1]


@pytest.mark.parametrize("name", ["eu-sun", "yellow-evening", "tilted-portrait", "car-park"])
def test_the_known_corners_are_where_the_plate_is_seen(name: str) -> None:
    """Changing the plate changes the picture exactly inside its known corners."""
    spec = SMALL[name]
    one, other = displayed(render(spec).jpeg), displayed(render(other_plate(spec)).jpeg)
    assert one.shape[1::-1] == spec.size_wh
    differs = (np.abs(one.astype(int) - other).max(axis=2) > 40).astype(np.uint8)
    differs = cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    for quad in plate_corners(spec):
        mask = np.zeros_like(differs)
        cv2.fillConvexPoly(mask, np.round((quad - 0.5) * 16).astype(np.int32), 1, shift=4)
        grown = cv2.dilate(mask, np.ones((5, 5), np.uint8))
        inside = differs & grown
        assert (inside & mask).sum() > 0.8 * mask.sum()
        points = np.argwhere(inside)[:, ::-1].astype(np.float32)
        box = cv2.boxPoints(cv2.minAreaRect(points))
        assert polygon_iou(box, quad) > 0.75
        differs &= 1 - grown
    assert differs.sum() == 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    spec = dataclasses.replace(SMALL["us-shade"], grain=2.0)
    first = render(spec).jpeg
    render.cache_clear()
    assert render(spec).jpeg == first


def test_orientation_is_stored_and_shown_upright() -> None:
    spec = SMALL["tilted-portrait"]
    shown = []
    for orientation in range(1, 9):
        data = render(dataclasses.replace(spec, orientation=orientation)).jpeg
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().get(0x0112, 1) == orientation
            stored = image.size
        assert stored == (spec.size_wh if orientation < 5 else spec.size_wh[::-1])
        shown.append(displayed(data).astype(int))
    for picture in shown[1:]:
        assert np.abs(picture - shown[0]).mean() < 1.5


@pytest.mark.parametrize(
    ("style", "text", "aspect"),
    [("eu", "DEMO 123", 4.73), ("us", "DEM0 42", 2.0), ("yellow", "FAKE 9", 4.73),
     ("two-row", "PH 10/DEM0", 1.3), ("black", "TEST 7-8", 4.33)],
)  # fmt: skip
def test_plates_are_drawn_without_fonts(style, text: str, aspect: float) -> None:
    drawing = draw_plate(style, text)
    assert drawing.size_m[0] / drawing.size_m[1] == pytest.approx(aspect, rel=0.01)
    assert drawing.rgb.shape[1] / drawing.rgb.shape[0] == pytest.approx(aspect, rel=0.01)
    blank = draw_plate(style, " / " if style == "two-row" else " ")
    ink = (np.abs(drawing.rgb.astype(int) - blank.rgb).max(axis=2) > 80).mean()
    assert 0.05 < ink < 0.4


def test_areas_range_from_small_to_large() -> None:
    sizes = [area(q) for s in SCENES for q in plate_corners(s)]
    assert min(sizes) < 2500 and max(sizes) > 7000
