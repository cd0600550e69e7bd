"""The promise: inside the plate nothing of the original survives, outside nothing changes."""

from __future__ import annotations

from typing import ClassVar
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platehide.cover import CoverOptions, cover_plate, load_cover
from platehide.cover import compose as compose_module
from platehide.cover.look import PlateLook
from platehide.cover.shadow import Shadow
from platehide.errors import UnsureError
from platehide.geometry import area, clip_convex, convex_hull, coverage, plate_height
from platehide.pixels import ArrayPixels, apply_patches

COVER = load_cover(None)
LOOK = PlateLook(
    level=0.6,
    slope_u=0.1,
    slope_v=-0.08,
    cast=(1.1, 1.0, 0.8),
    blur_px=1.1,
    noise=2.0,
    shadow=Shadow((0.2, 0.98), 0.1, 0.5),
)
W, H = 320, 240
PLATE = np.array([[90.0, 100], [230, 92], [232, 124], [91, 133]])


def noise(seed: int, size: tuple[int, int] = (W, H)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def polygon_mask(polygon: np.ndarray, size: tuple[int, int] = (W, H)) -> np.ndarray:
    """Every pixel any part of which lies inside, by brute force on a 16 × finer grid, together
    with what OpenCV fills when it rounds the corners to whole pixels."""
    k = 16
    fine = np.zeros((size[1] * k, size[0] * k), np.uint8)
    # Pixel centres of the fine grid lie at (i + 0.5) / k.
    cv2.fillPoly(fine, [np.round((polygon * k - 0.5) * 16).astype(np.int64).astype(np.int32)], 1,
                 lineType=cv2.LINE_8, shift=4)  # fmt: skip
    touched = fine.reshape(size[1], k, size[0], k).max(axis=(1, 3)) > 0
    rounded = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(rounded, [np.round(polygon).astype(np.int32)], 1)
    return touched | (rounded > 0)


def cover_on(rgb: np.ndarray, quad: object, options: CoverOptions | None = None):
    return cover_plate(ArrayPixels(rgb), quad, COVER, options or CoverOptions())


def with_fixed_look():
    return mock.patch.object(compose_module, "measure", lambda *_: LOOK)


def test_with_the_statistics_held_fixed_the_plate_does_not_show_at_all() -> None:
    one, other = noise(1), noise(2)
    with with_fixed_look():
        a, b = cover_on(one, PLATE), cover_on(other, PLATE)
    inside = polygon_mask(a.painted)
    first, second = apply_patches(one, (a.patch,)), apply_patches(other, (b.patch,))
    np.testing.assert_array_equal(a.painted, b.painted)
    np.testing.assert_array_equal(first[inside], second[inside])
    assert first[inside].std() > 20  # a design, not one flat colour


def test_only_low_order_statistics_reach_the_cover() -> None:
    """Two texts on one plate give the same cover but for a barely visible gain."""
    from platehide.demo.plates import draw_plate

    outputs = []
    for text in ("DEMO 123", "FAKE 987"):
        rgb = np.full((H, W, 3), 90, np.uint8)
        plate = cv2.resize(draw_plate("yellow", text).rgb, (140, 30), interpolation=cv2.INTER_AREA)
        rgb[100:130, 90:230] = plate
        covered = cover_on(rgb, [[90, 100], [230, 100], [230, 130], [90, 130]])
        outputs.append(apply_patches(rgb, (covered.patch,))[100:130, 90:230].astype(float))
    difference = outputs[0] - outputs[1]
    assert np.abs(difference).max() <= 20
    # What differs is a scale of the cover (and a little blur), not the shape of a letter.
    flat = outputs[1] * (outputs[0].sum() / outputs[1].sum())
    assert np.abs(outputs[0] - flat).mean() < 1.5


def test_every_pixel_inside_the_plate_changes() -> None:
    checker = np.zeros((H, W, 3), np.uint8)
    checker[::2, ::2] = (255, 0, 255)
    checker[1::2, 1::2] = (255, 0, 255)  # colours that no cover in this light has
    covered = cover_on(checker, PLATE)
    out = apply_patches(checker, (covered.patch,))
    inside = polygon_mask(covered.painted)
    assert (out[inside] != checker[inside]).any(axis=1).all()
    assert inside.sum() > area(PLATE)


def test_nothing_outside_the_patch_changes_and_the_patch_is_close() -> None:
    rgb = noise(3)
    covered = cover_on(rgb, PLATE)
    out = apply_patches(rgb, (covered.patch,))
    changed = (out != rgb).any(axis=2)
    ys, xs = np.nonzero(changed)
    x0, y0 = covered.painted.min(axis=0)
    x1, y1 = covered.painted.max(axis=0)
    assert xs.min() >= x0 - 6 and xs.max() <= x1 + 6
    assert ys.min() >= y0 - 6 and ys.max() <= y1 + 6
    assert not changed[~covered_mask(covered, rgb.shape)].any()


def covered_mask(covered, shape) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    x0, y0, x1, y1 = covered.patch.box
    mask[y0:y1, x0:x1] = covered.patch.changed
    return mask


def test_the_edge_is_soft_outside_only() -> None:
    dark = np.full((H, W, 3), 4, np.uint8)
    with with_fixed_look():
        covered = cover_on(dark, PLATE)
    out = apply_patches(dark, (covered.patch,)).astype(int).sum(axis=2)
    row = out[112]
    left = int(np.floor(covered.painted[:, 0].min())) - 1
    ramp = row[left - 6 : left + 3]
    assert ramp[0] == 12  # untouched
    assert (np.diff(ramp[:7]) >= 0).all()  # up to where the cover is opaque
    assert len(np.unique(ramp)) >= 3  # several steps: no hard edge


def test_only_the_plates_surroundings_are_read() -> None:
    class Watched(ArrayPixels):
        boxes: ClassVar[list[tuple[int, int, int, int]]] = []

        def overview(self, long_side: int):
            raise AssertionError("the whole picture was read")

        def region(self, box):
            self.boxes.append(box)
            return super().region(box)

    cover_plate(Watched(noise(1)), PLATE, COVER, CoverOptions())
    (box,) = Watched.boxes
    x0, y0, x1, y1 = box
    assert (x1 - x0) * (y1 - y0) < 3 * area(PLATE)


BORDERS = {
    "left": [[-60, 100], [60, 100], [60, 130], [-60, 130]],
    "right": [[270, 90], [390, 100], [390, 130], [270, 120]],
    "top": [[100, -15], [220, -12], [220, 14], [100, 12]],
    "bottom": [[100, 225], [220, 225], [220, 255], [100, 255]],
    "corner": [[-40, -10], [50, -10], [50, 12], [-40, 12]],
    "flush": [[0, 0], [120, 0], [120, 26], [0, 26]],
    "tiny": [[100, 100], [104, 100], [104, 101], [100, 101]],
    "speck": [[100, 100], [100.2, 100], [100.2, 100.1], [100, 100.1]],
    "huge": [[-2, -3], [W + 4, -1], [W + 1, H + 2], [-1, H + 5]],
    "beyond": [[-5000, -4000], [5000, -4000], [5000, 4000], [-5000, 4000]],
    "mirrored": [[230, 100], [90, 100], [90, 130], [230, 130]],
    "upside down": [[230, 130], [90, 130], [90, 100], [230, 100]],
    "crossed": [[90, 100], [230, 130], [230, 100], [90, 130]],
    "dented": [[90, 100], [230, 100], [120, 110], [90, 160]],
    "triangle": [[90, 100], [230, 100], [230, 100], [160, 140]],
    "line": [[90, 100], [230, 100], [230, 100], [90, 100]],
    "slanted line": [[90, 100], [130, 120], [170, 140], [210, 160]],
    "point": [[150, 120], [150, 120], [150, 120], [150, 120]],
    "upright": [[150, 40], [160, 40], [160, 200], [150, 200]],
    "sharp": [[50, 100], [300, 118], [300, 120], [50, 124]],
}


@pytest.mark.parametrize("name", BORDERS)
@pytest.mark.parametrize("style", ["logo", "solid"])
def test_a_plate_anywhere_and_of_any_shape_is_covered(name: str, style: str) -> None:
    quad = np.array(BORDERS[name], dtype=float)
    one, other = noise(5), noise(6)
    options = CoverOptions(style=style)  # type: ignore[arg-type]
    with with_fixed_look():
        a, b = cover_on(one, quad, options), cover_on(other, quad, options)
    visible = clip_convex(convex_hull(quad), [[0, 0], [W, 0], [W, H], [0, H]])
    if area(visible) > 0:
        assert coverage(visible, [a.painted]) == pytest.approx(1.0, abs=1e-9)
    assert area(a.painted) > area(visible) or name in ("huge", "beyond")
    assert a.painted.min() >= 0
    assert (a.painted.max(axis=0) <= [W, H]).all()
    inside = polygon_mask(a.painted)
    assert covered_mask(a, one.shape)[inside].all()
    first, second = apply_patches(one, (a.patch,)), apply_patches(other, (b.patch,))
    np.testing.assert_array_equal(first[inside], second[inside])


coordinate = st.integers(-480, 3040).map(lambda n: n / 8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4))
def test_any_four_corners_are_covered_or_refused(corners: list[tuple[float, float]]) -> None:
    quad = np.array(corners, dtype=float)
    one, other = noise(7), noise(8)
    visible = clip_convex(convex_hull(quad), [[0, 0], [W, 0], [W, H], [0, H]])
    with with_fixed_look():
        try:
            a = cover_on(one, quad)
        except UnsureError:
            assert area(visible) == 0
            return
        b = cover_on(other, quad)
    if area(visible) > 1e-3:
        assert coverage(visible, [a.painted]) > 1 - 1e-6
    inside = polygon_mask(a.painted)
    assert covered_mask(a, one.shape)[inside].all()
    first, second = apply_patches(one, (a.patch,)), apply_patches(other, (b.patch,))
    np.testing.assert_array_equal(first[inside], second[inside])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4), st.integers(0, 99))
def test_measuring_never_fails(corners: list[tuple[float, float]], seed: int) -> None:
    rgb = cv2.GaussianBlur(noise(seed), (0, 0), 1 + seed % 4)
    try:
        covered = cover_on(np.ascontiguousarray(rgb), corners)
    except UnsureError:
        return
    assert covered.patch.pixels.dtype == np.uint8


def test_a_plate_outside_the_picture_is_refused() -> None:
    with pytest.raises(UnsureError, match="outside the picture"):
        cover_on(noise(1), [[400, 10], [500, 10], [500, 30], [400, 30]])


@pytest.mark.parametrize("bad", [[[0, 0]] * 3, [[0, np.nan], [1, 0], [1, 1], [0, 1]]])
def test_corners_that_are_no_quad_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="quad"):
        cover_on(noise(1), bad)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2), (7, 7)])
def test_pictures_of_a_few_pixels(size: tuple[int, int]) -> None:
    rgb = noise(4, size)
    w, h = size
    covered = cover_plate(ArrayPixels(rgb), [[0, 0], [w, 0], [w, h], [0, h]], COVER, CoverOptions())
    assert covered_mask(covered, rgb.shape).all()
    assert area(covered.painted) == pytest.approx(w * h)


def test_an_occluder_on_the_plate_is_covered_too() -> None:
    """A tow ball or a hand before the plate: covered rather than spared and leaked."""
    rgb = np.full((H, W, 3), 120, np.uint8)
    cv2.fillConvexPoly(rgb, PLATE.astype(np.int32), (235, 235, 230))
    cv2.circle(rgb, (160, 120), 14, (20, 20, 22), -1)
    cv2.rectangle(rgb, (185, 80), (205, 140), (210, 150, 120), -1)
    covered = cover_on(rgb, PLATE)
    inside = polygon_mask(covered.painted)
    assert covered_mask(covered, rgb.shape)[inside].all()
    out = apply_patches(rgb, (covered.patch,))
    bare = np.full((H, W, 3), 120, np.uint8)
    cv2.fillConvexPoly(bare, PLATE.astype(np.int32), (235, 235, 230))
    without = apply_patches(bare, (cover_on(bare, PLATE).patch,))
    # Neither the ball's nor the hand's outline is to be seen on the cover: what differs is how
    # sharp its lettering is.
    smooth = [cv2.GaussianBlur(p, (0, 0), 3)[inside].astype(int) for p in (out, without)]
    assert np.abs(smooth[0] - smooth[1]).mean() < 4


def test_the_margin_of_a_wide_plate_hides_the_rim_and_is_tidy() -> None:
    for width in (160.0, 300.0, 600.0):
        height = width / 4.7
        quad = np.array([[100, 100], [100 + width, 100], [100 + width, 100 + height],
                         [100, 100 + height]])  # fmt: skip
        rgb = noise(1, (800, 400))
        painted = cover_on(rgb, quad).painted
        over = area(painted) / area(quad) - 1
        assert 0.11 <= over <= 0.18
        assert painted[:, 1].min() <= 100 - max(1.5, 0.05 * plate_height(quad)) + 1e-9


def test_the_margin_can_be_chosen() -> None:
    wide = cover_on(noise(1), PLATE, CoverOptions(margin=0.3)).painted
    slim = cover_on(noise(1), PLATE, CoverOptions(margin=0.0)).painted
    assert area(wide) > area(cover_on(noise(1), PLATE).painted) > area(slim)
    assert slim[:, 1].min() == pytest.approx(PLATE[:, 1].min() - 1.5, abs=0.3)


def test_the_same_input_gives_the_same_bytes() -> None:
    a, b = cover_on(noise(9), PLATE), cover_on(noise(9), PLATE)
    np.testing.assert_array_equal(a.patch.pixels, b.patch.pixels)
    assert a.patch.box == b.patch.box


def test_the_input_is_not_written_to() -> None:
    rgb, quad = noise(9), PLATE.copy()
    rgb.setflags(write=False)
    quad.setflags(write=False)
    cover_on(rgb, quad)


def test_the_frame_is_passed_on() -> None:
    covered = cover_plate(ArrayPixels(noise(1)), PLATE, COVER, CoverOptions(), frame=3)
    assert covered.patch.frame == 3


def test_a_mirrored_plate_gets_a_readable_brand() -> None:
    rgb = noise(1)
    with with_fixed_look():
        upright = cover_on(rgb, [[90, 100], [230, 100], [230, 130], [90, 130]])
        mirrored = cover_on(rgb, [[230, 100], [90, 100], [90, 130], [230, 130]])
    np.testing.assert_array_equal(upright.patch.pixels, mirrored.patch.pixels)


def test_blur_covers_the_plate_with_a_blur_of_itself() -> None:
    rgb = noise(1)
    covered = cover_on(rgb, PLATE, CoverOptions(style="blur"))
    inside = polygon_mask(covered.painted)
    assert covered_mask(covered, rgb.shape)[inside].all()
    out = apply_patches(rgb, (covered.patch,))
    assert out[inside].astype(float).std() < 0.2 * rgb[inside].astype(float).std()
    np.testing.assert_allclose(out[inside].mean(axis=0), rgb[inside].mean(axis=0), atol=8)


def test_solid_is_plain_and_dark_is_dark() -> None:
    rgb = noise(1)
    with with_fixed_look():
        light = cover_on(rgb, PLATE, CoverOptions(style="solid")).patch.pixels.mean()
        dark = cover_on(rgb, PLATE, CoverOptions(style="solid", variant="dark")).patch.pixels.mean()
    assert dark < 0.5 * light
