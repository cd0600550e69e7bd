"""Covers are known from rough corners on worn photos; what can be read never is a cover."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recognition_scenes import (
    DESIGNS,
    car,
    jpeg,
    place,
    rough,
    with_cover,
    with_plate,
)

from platehide import recognise
from platehide.likeness import Likeness
from platehide.nearby import Near
from platehide.pipeline import WORN_SHARE
from platehide.pixels import ArrayPixels
from platehide.recognise import held, likenesses
from platehide.types import FloatArray, ImageArray
from platehide.verify import explained

NAMES = pytest.mark.parametrize("name", list(DESIGNS))


def worn(rgb: ImageArray, quad: FloatArray, name: str) -> bool:
    """Whether the pipeline would leave what was found at ``quad`` as it is."""
    cover, options = DESIGNS[name]
    return any(
        found.covered and explained(quad, [found.quad], WORN_SHARE) and held(quad, found.quad)
        for found in likenesses(ArrayPixels(rgb), quad, cover, options)
    )


# ---- covers -----------------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize(
    ("width", "aspect"), [(17, 2.4), (34, 4.4), (70, 4.4), (160, 4.4), (90, 2)]
)
def test_covers_are_known_from_rough_corners(name: str, width: int, aspect: float) -> None:
    if name in ("png", "svg") and width < 30:
        pytest.skip("a design of one's own cannot be made out at that size")
    quad = place(width, aspect)
    rgb = with_plate(car(width, aspect), quad, "AB 123 CD")
    painted = jpeg(with_cover(rgb, quad, name))
    rng = np.random.default_rng(width)
    known = [worn(painted, rough(quad, rng), name) for _ in range(6)]
    assert sum(known) >= 5, known


@NAMES
@pytest.mark.parametrize("shrink", [1.0, 0.75, 0.5])
def test_covers_are_known_when_a_site_has_made_the_photo_smaller(name: str, shrink: float) -> None:
    quad = place(150)
    rgb = jpeg(with_cover(with_plate(car(150), quad, "AB 123 CD"), quad, name), 90)
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (round(shrink * w), round(shrink * h)), interpolation=cv2.INTER_AREA)
    quad = quad * [small.shape[1] / w, small.shape[0] / h]
    rng = np.random.default_rng(3)
    assert all(worn(jpeg(small, 75), rough(quad, rng), name) for _ in range(3))


def test_a_part_of_a_cover_leads_to_the_whole() -> None:
    quad = place(150)
    painted = jpeg(with_cover(car(150), quad, "light"))
    u, v = quad[1] - quad[0], quad[3] - quad[0]
    lettering = quad[0] + np.array([[0.3, 0.2], [0.96, 0.2], [0.96, 0.8], [0.3, 0.8]]) @ [u, v]
    cover, options = DESIGNS["light"]
    found = [f for f in likenesses(ArrayPixels(painted), lettering, cover, options) if f.covered]
    assert found
    assert np.abs(found[0].quad - quad).max() < 0.25 * np.hypot(*v)


def test_a_cover_at_the_edge_of_the_photo_is_known() -> None:
    quad = place(120)
    painted = with_cover(car(120), quad, "light")
    cut = round(float(quad[:, 0].min()) + 6)
    painted = jpeg(painted[:, cut:])
    assert worn(painted, np.maximum(quad - [cut, 0], 0), "light")


# ---- what can be read --------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("width", [22, 34, 60, 140])
@pytest.mark.parametrize("text", ["AB 123 CD", "1", "I", "A 7", "11"])
def test_plates_are_no_covers(name: str, width: int, text: str) -> None:
    quad = place(width)
    rng = np.random.default_rng(1)
    for ground, ink, at in (
        (235, 25, 0.5),
        (235, 120, 0.3),
        (36, 200, 0.6),
        ((240, 200, 40), 20, 0.5),
    ):
        rgb = with_plate(car(width), quad, text, ground=ground, ink=ink, at=at)
        assert not worn(jpeg(rgb), quad, name)
        assert not worn(jpeg(rgb, 70), rough(quad, rng), name)


@NAMES
@pytest.mark.parametrize("width", [60, 140])
def test_characters_on_our_ground_are_no_cover(name: str, width: int) -> None:
    """A plate in the colours of a cover, with its frame, in its surroundings."""
    quad = place(width)
    painted = with_cover(car(width), quad, name)
    middle = quad.mean(axis=0)
    field = (quad - middle) * (0.86, 0.7) + middle
    x, y = middle.astype(int)
    r, g, b = (int(c) for c in np.median(painted[y - 2 : y + 3, x - 12 : x + 13], axis=(0, 1)))
    ground, ink = (r, g, b), (255 - r, 255 - g, 255 - b)
    for text in ("AB 123", "7"):
        rgb = with_plate(painted, field, text, ground=ground, ink=ink, size=0.8)
        assert not worn(jpeg(rgb), quad, name)
        assert not worn(jpeg(rgb), field, name)


@NAMES
def test_a_dealers_plate_with_small_print_is_no_cover(name: str) -> None:
    quad = place(140)
    rgb = with_plate(car(140), quad, "CARS & MORE 030 123456", size=0.3, down=0.6)
    assert not worn(jpeg(rgb), quad, name)


@pytest.mark.parametrize("name", ["light", "dark", "text", "solid-text", "png", "svg"])
def test_an_empty_plate_is_not_taken_for_a_design(name: str) -> None:
    quad = place(140)
    assert not worn(jpeg(with_plate(car(140), quad, " ")), quad, name)


@NAMES
@pytest.mark.parametrize("ground", [235, (240, 200, 40)])
@pytest.mark.parametrize("shift", [-0.5, -0.3, 0.3, 0.5])
def test_a_plate_partly_under_an_ill_placed_cover_is_no_cover(
    name: str, shift: float, ground: int | tuple[int, int, int]
) -> None:
    quad = place(140)
    rgb = with_plate(car(140), quad, "WOB ZK 295", ground=ground)
    over = quad + shift * 0.5 * (quad[1] - quad[0] + quad[2] - quad[3])
    painted = jpeg(with_cover(rgb, over, name))
    left, right = (quad, over) if shift > 0 else (over, quad)
    both = np.stack([left[0], right[1], right[2], left[3]])
    rest = np.stack([left[0], right[0], right[3], left[3]])
    if shift < 0:
        rest = np.stack([left[1], right[1], right[2], left[2]])
    for found in (quad, both, rest, (quad + both) / 2):
        assert not worn(painted, found, name)


@pytest.mark.parametrize("name", ["solid", "solid-text", "light"])
def test_what_is_burnt_out_is_no_cover(name: str) -> None:
    for width in (20, 60):
        quad = place(width)
        rgb = with_plate(car(width), quad, " ", ground=255)
        assert not worn(jpeg(rgb, 95), quad, name)


@pytest.mark.parametrize("name", ["solid", "light"])
def test_a_cover_is_never_drawn_burnt_out(name: str) -> None:
    quad = place(120)
    painted = with_cover(with_plate(car(120, paint=250), quad, " ", ground=255), quad, name)
    assert worn(jpeg(painted), quad, name)


# ---- little work -------------------------------------------------------------------------------


@NAMES
def test_bare_plates_are_told_without_a_close_look(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case costs a few small pictures; aligning costs ten times as much."""
    looks: list[object] = []

    def counted(near: Near, view: object, to_picture: FloatArray, **how: bool) -> Likeness | None:
        looks.append(view)
        return None

    monkeypatch.setattr(recognise, "compare", counted)
    cover, options = DESIGNS[name]
    rng = np.random.default_rng(0)
    for number, width in enumerate((30, 60, 90, 140, 200)):
        quad = place(width)
        rgb = jpeg(with_plate(car(width, seed=number), quad, f"HN {number}7 K{number}"))
        for _ in range(3):
            list(likenesses(ArrayPixels(rgb), rough(quad, rng), cover, options))
    # Dark cars round dark plates look more like our dark cover than anything does like the others.
    assert len(looks) <= (12 if name == "dark" else 1)
