"""The measured look: rendered plates with known light, blur and noise."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from platehide.cover import CoverOptions, cover_plate, load_cover
from platehide.cover.compose import render
from platehide.cover.look import GAMMA, MAX_GAIN, MIN_GAIN, PlateLook, measure
from platehide.cover.shadow import find_shadow
from platehide.demo.plates import PlateStyle, draw_plate
from platehide.pixels import ArrayPixels, apply_patches

W, H = 260, 110


def photo(
    style: PlateStyle = "eu",
    text: str = "DEMO 123",
    *,
    level: float = 0.7,
    field: np.ndarray | float = 1.0,
    body: tuple[int, int, int] = (120, 122, 125),
    light: tuple[float, float, float] = (1, 1, 1),
    blur: float = 0.5,
    noise: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Region, quad and mask of a plate in given light (linear gains)."""
    rgb = np.full((H, W, 3), body, np.uint8)
    flat = draw_plate(style, text).rgb
    w = 200 if flat.shape[1] > 2 * flat.shape[0] else 100
    h = round(w * flat.shape[0] / flat.shape[1])
    x, y = (W - w) // 2, (H - h) // 2
    rgb[y : y + h, x : x + w] = cv2.resize(flat, (w, h), interpolation=cv2.INTER_AREA)
    linear = (rgb / 255.0) ** GAMMA * level * np.array(light)
    linear = linear * (field if np.isscalar(field) else np.asarray(field)[..., None])
    linear = cv2.GaussianBlur(linear, (0, 0), blur)
    code = np.clip(linear, 0, 1) ** (1 / GAMMA) * 255
    code += np.random.default_rng(1).normal(0, noise, (H, W, 1)) if noise else 0
    quad = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=float)
    inside = np.zeros((H, W), bool)
    inside[y - 2 : y + h + 2, x - 2 : x + w + 2] = True
    return np.clip(np.rint(code), 0, 255).astype(np.uint8), quad, inside


@pytest.mark.parametrize("level", [0.15, 0.3, 0.6, 0.95])
def test_level_follows_the_light(level: float) -> None:
    look = measure(*photo(level=level, body=(20, 20, 20)))
    assert look.level == pytest.approx(0.9 * level, rel=0.2)


def test_the_plane_follows_a_gradient() -> None:
    u = (np.arange(W) + 0.5) / W - 0.5
    look = measure(*photo(level=0.6, field=np.tile(1 + 0.4 * u, (H, 1)), body=(20, 20, 20)))
    across = look.slope_u / look.level
    assert across == pytest.approx(0.4 * 200 / W, abs=0.1)
    assert abs(look.slope_v / look.level) < 0.2


def test_dirt_and_glare_do_not_tilt_the_plane() -> None:
    region, quad, inside = photo(level=0.5)
    x0, y0 = quad[0].astype(int)
    region = region.copy()
    region[y0 : y0 + 20, x0 : x0 + 25] = 255
    look = measure(region, quad, inside)
    assert abs(look.slope_u) < 0.2 * look.level
    assert look.level == pytest.approx(0.45, rel=0.3)


def test_the_brand_stays_readable_at_night_and_is_not_blown_out() -> None:
    assert measure(*photo(level=0.001)).level == MIN_GAIN
    assert measure(*photo(level=9.0)).level <= MAX_GAIN


def test_a_dark_plate_in_daylight_does_not_darken_the_cover() -> None:
    look = measure(*photo("black", "TEST 789", level=0.9, body=(225, 225, 225)))
    assert look.level > 0.45


def test_a_coloured_plate_is_not_coloured_light() -> None:
    red, _, blue = measure(*photo("yellow", "FAKE 45")).cast
    assert red / blue < 1.1


def test_coloured_light_colours_the_cover_a_little() -> None:
    red, green, blue = measure(*photo(light=(1.25, 1.0, 0.7))).cast
    assert red > green > blue
    assert 1.15 < red / blue < 1.9


def test_blur_is_measured() -> None:
    sharp = measure(*photo(blur=0.4)).blur_px
    soft = measure(*photo(blur=1.6)).blur_px
    assert sharp < 0.9
    assert soft == pytest.approx(1.6, rel=0.35)


def test_noise_is_measured_round_the_plate() -> None:
    assert measure(*photo(noise=0.0)).noise < 0.7
    assert measure(*photo(noise=5.0)).noise == pytest.approx(5.0, rel=0.3)


def thumb(field: np.ndarray, style: PlateStyle = "us") -> tuple[np.ndarray, np.ndarray]:
    flat = cv2.resize(draw_plate(style, "DEM0 42").rgb, (96, 24), interpolation=cv2.INTER_AREA)
    linear = ((flat / 255.0) ** GAMMA * field[..., None]).astype(np.float32)
    return linear, linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def test_a_shadow_edge_is_found() -> None:
    field = np.ones((24, 96))
    field[:12] = 0.4
    shadow = find_shadow(*thumb(field))
    assert shadow is not None
    assert shadow.ratio == pytest.approx(0.4, abs=0.1)
    assert shadow.normal[1] < -0.9  # it lies above


@pytest.mark.parametrize("style", ["us", "eu", "yellow", "black"])
def test_a_plate_without_a_shadow_gets_none(style: PlateStyle) -> None:
    assert find_shadow(*thumb(np.ones((24, 96)), style)) is None


def test_a_coloured_band_is_not_a_shadow() -> None:
    linear, _ = thumb(np.ones((24, 96)))
    linear[:9] = np.array([0.02, 0.1, 0.5], np.float32)
    assert find_shadow(linear, linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)) is None


def test_the_shadow_is_put_on_the_cover() -> None:
    field = np.ones((H, W))
    field[: H // 2] = 0.35
    region, quad, _ = photo("us", "DEM0 42", level=0.9, field=field, body=(40, 40, 40))
    covered = cover_plate(ArrayPixels(region), quad, load_cover(None), CoverOptions(style="solid"))
    out = apply_patches(region, (covered.patch,)).astype(float)
    x, y = quad.mean(axis=0).astype(int)
    assert out[y - 15, x - 30 : x + 30].mean() < 0.8 * out[y + 15, x - 30 : x + 30].mean()


def test_the_cover_is_as_bright_as_the_plate_was() -> None:
    means = []
    for level in (0.3, 0.8):
        region, quad, _ = photo(level=level, body=(20, 20, 20))
        covered = cover_plate(
            ArrayPixels(region), quad, load_cover(None), CoverOptions(style="solid")
        )
        out = apply_patches(region, (covered.patch,))
        x, y = quad.mean(axis=0).astype(int)
        ground = float(np.percentile(region[y - 20 : y + 20, x - 60 : x + 60], 90))
        means.append(abs(float(np.median(out[y - 10 : y + 10, x - 60 : x + 60])) - ground))
    assert max(means) < 18


def test_a_look_is_a_handful_of_numbers() -> None:
    assert set(PlateLook.__dataclass_fields__) == {
        "level", "slope_u", "slope_v", "cast", "blur_px", "noise", "shadow",
    }  # fmt: skip


@pytest.mark.parametrize("blur_px", [1.9, 2.5, 4.0])
def test_a_soft_cover_is_drawn_reduced_and_looks_the_same(blur_px: float) -> None:
    target = np.array([[40.0, 60], [520, 30], [530, 150], [30, 170]])
    look = PlateLook(0.6, 0.05, -0.03, (1.02, 1.0, 0.97), blur_px, 0.0)
    cover, options = load_cover(None), CoverOptions()
    soft = render(look, target, (561, 203), cover, options)
    sharp = render(replace(look, blur_px=0.4), target, (561, 203), cover, options)
    expected = cv2.GaussianBlur(sharp, (0, 0), float(np.sqrt(blur_px**2 - 0.4**2)))
    inside = np.s_[70:140, 60:500]
    off = np.abs(soft[inside].astype(int) - expected[inside])
    assert soft.shape == expected.shape
    assert off.mean() < 2.0
    assert np.percentile(off, 99) < 14
