"""A cover is recognised by looking, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from platehide.cover import Cover, CoverOptions, cover_plate, load_cover
from platehide.pixels import ArrayPixels, PixelSource, apply_patches
from platehide.recognise import likenesses
from platehide.types import FloatArray, ImageArray

SIZE = (320, 240)
QUAD = np.array([[110, 130], [210, 134], [209, 160], [109, 155]], np.float64)
COVER = load_cover(None)


def worn_cover(
    source: PixelSource, quad: FloatArray, cover: Cover, options: CoverOptions
) -> FloatArray | None:
    """The first cover that ``quad`` may be a part of."""
    found = (f.quad for f in likenesses(source, quad, cover, options) if f.covered)
    return next(found, None)


def photo() -> ImageArray:
    """A grey scene with a white plate that bears dark bars."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(70, 110, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    rgb[132:158, 110:210] = 230
    for x in range(118, 204, 12):
        rgb[137:153, x : x + 6] = 20
    return rgb


def covered(
    rgb: ImageArray, options: CoverOptions, quality: int, cover: Cover = COVER
) -> ArrayPixels:
    patch = cover_plate(ArrayPixels(rgb), QUAD, cover, options).patch
    jpeg = simplejpeg.encode_jpeg(apply_patches(rgb, (patch,)), quality, colorsubsampling="420")
    return ArrayPixels(simplejpeg.decode_jpeg(jpeg))


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize(
    "options",
    [
        CoverOptions(),
        CoverOptions(variant="dark"),
        CoverOptions(style="solid"),
        CoverOptions(text="MY GARAGE"),
    ],
    ids=str,
)
def test_a_covered_plate_is_recognised_and_a_bare_one_is_not(
    options: CoverOptions, quality: int
) -> None:
    rng = np.random.default_rng(0)
    assert worn_cover(ArrayPixels(photo()), QUAD, COVER, options) is None
    again = covered(photo(), options, quality)
    for _ in range(4):
        rough = QUAD + rng.normal(0, 0.6, (4, 2))
        assert worn_cover(again, rough, COVER, options) is not None


@pytest.mark.parametrize("left", [112, 140, 180])
@pytest.mark.parametrize("style", ["logo", "solid"])
def test_a_cover_with_a_hole_is_not_a_cover(left: int, style: str) -> None:
    """Where characters of the plate still show, it must be covered again."""
    options = CoverOptions(style=style)  # type: ignore[arg-type]
    rgb = photo()
    patch = cover_plate(ArrayPixels(rgb), QUAD, COVER, options).patch
    painted = apply_patches(rgb, (patch,))
    painted[134:157, left : left + 26] = rgb[134:157, left : left + 26]
    assert worn_cover(ArrayPixels(painted), QUAD, COVER, options) is None


def test_another_design_is_not_this_cover() -> None:
    text = np.full((32, 140, 4), 255, np.uint8)
    text[8:24, 20:30, :3] = text[8:24, 100:110, :3] = 0
    other = replace(COVER, name="other", design=text, vector=None)
    rgb = photo()
    drawn = apply_patches(rgb, (cover_plate(ArrayPixels(rgb), QUAD, other, CoverOptions()).patch,))
    assert worn_cover(ArrayPixels(drawn), QUAD, COVER, CoverOptions()) is None


@pytest.mark.parametrize("contrast", [12, 20, 30])
@pytest.mark.parametrize("ground", [110, 170, 215])
def test_faded_letters_are_no_plain_cover(ground: int, contrast: int) -> None:
    """Pale letters on a plate nearly as pale can be read all the same."""
    options = CoverOptions(style="solid")
    rgb = photo()
    rgb[132:158, 110:210] = ground
    assert worn_cover(ArrayPixels(rgb), QUAD, COVER, options) is not None  # quite empty
    for x in range(118, 204, 12):
        rgb[137:153, x : x + 5] = ground - contrast
        rgb[142:147, x + 5 : x + 8] = ground - contrast
    assert worn_cover(ArrayPixels(rgb), QUAD, COVER, options) is None
    pale = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(rgb, 85, colorsubsampling="420"))
    assert worn_cover(ArrayPixels(pale), QUAD, COVER, options) is None


def test_a_cover_of_one_strong_colour_is_recognised() -> None:
    """Yellow has hardly any blue, so what blue there is says nothing of the light."""
    svg = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 470 110">
      <rect width="470" height="110" fill="#f4d000"/><path d="M30 85 80 25l50 60z"/>
      <path d="M160 30h270v18H160zm0 34h180v18H160z" fill="#b00"/></svg>"""
    yellow = load_cover(svg.encode())
    again = covered(photo(), CoverOptions(), 85, yellow)
    assert worn_cover(again, QUAD, yellow, CoverOptions()) is not None
    assert worn_cover(ArrayPixels(photo()), QUAD, yellow, CoverOptions()) is None


def test_blur_is_never_recognised() -> None:
    options = CoverOptions(style="blur")
    assert not list(likenesses(covered(photo(), options, 90), QUAD, COVER, options))


def test_quads_at_and_beyond_the_edge_are_no_error() -> None:
    source = ArrayPixels(photo())
    for move in ((-150, 0), (250, 0), (0, 100), (-900, -900)):
        assert worn_cover(source, np.add(QUAD, move), COVER, CoverOptions()) is None
