"""What is drawn into training pictures changes what it should, where it should, and the labels."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra train)")

from platehide.train.paste import beside, covered, draw_random_plate, grow, lettered, other_plate
from platehide.train.samples import LabelledPicture, with_pastes

QUAD = np.array([[60.0, 90.0], [190.0, 100.0], [188.0, 130.0], [58.0, 118.0]])


def scene(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(90, 130, (220, 260, 3))
    return np.asarray(noise, dtype=np.uint8)


def near(quad: np.ndarray, share: float) -> np.ndarray:
    mask = np.zeros((220, 260), np.uint8)
    cv2.fillPoly(mask, [np.round(grow(quad, share)).astype(np.int32)], 1)
    return mask == 1


@pytest.mark.parametrize("seed", range(6))
def test_another_plate_lies_over_the_old_one_and_nowhere_else(seed: int) -> None:
    image = scene()
    out, quad = other_plate(image, QUAD, 4.4, np.random.default_rng(seed))
    changed = (out != image).any(axis=2)
    assert changed[near(QUAD, 0.0)].mean() > 0.97  # nothing of the old plate shows
    assert not changed[~near(quad, 0.1)].any()
    assert np.abs(quad - QUAD).max() < 5
    assert (image == scene()).all()  # the input is left alone


@pytest.mark.parametrize("seed", range(12))
def test_plates_always_bear_a_number(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for aspect in (1.3, 2.0, 3.2, 4.7):
        middle = draw_random_plate(rng, aspect)[16:48]
        # A blank plate would teach that a blank panel is a plate.
        assert np.ptp(middle[:, 40:-40].mean(axis=2)) > 60 or middle.shape[1] < 100


def test_a_cover_is_put_on_the_plate_and_nowhere_else() -> None:
    image = scene()
    out = covered(image, QUAD, np.random.default_rng(1))
    assert out is not None
    changed = (out != image).any(axis=2)
    assert changed[near(QUAD, 0.0)].mean() > 0.97
    assert not changed[~near(QUAD, 0.8)].any()


@pytest.mark.parametrize("seed", range(20))
def test_lettering_spares_the_plates(seed: int) -> None:
    image = scene()
    out = lettered(image, QUAD[None], np.random.default_rng(seed))
    changed = (out != image).any(axis=2)
    assert not changed[near(QUAD, 0.0)].any()


def test_only_covered_plates_lose_their_label_and_boxes_are_never_touched() -> None:
    other = QUAD + [0.0, 70.0]
    picture = LabelledPicture(scene(), np.stack([QUAD, other]), np.array([True, False]), True)
    seen: Counter[int] = Counter()
    for seed in range(60):
        out = with_pastes(picture, np.random.default_rng(seed))
        seen[len(out.quads)] += 1
        (kept,) = np.flatnonzero(~out.is_quad)
        assert (out.quads[kept] == other).all()
        same = (out.pixels == picture.pixels).all(axis=2)
        assert same[near(other, -0.1)].all()
        if len(out.quads) == 1:
            assert not same[near(QUAD, 0.0)].all()
    assert seen[1] > 5 and seen[2] > 20
    first = with_pastes(picture, np.random.default_rng(3))
    again = with_pastes(picture, np.random.default_rng(3))
    assert (first.pixels == again.pixels).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_neighbour_is_a_whole_plate_next_to_the_old_one(seed: int) -> None:
    image = scene()
    out, place = beside(image, QUAD, 4.4, np.random.default_rng(seed))
    changed = (out != image).any(axis=2)
    shown = np.zeros((220, 260), np.uint8)
    cv2.fillPoly(shown, [np.round(place).astype(np.int32)], 1)
    assert not changed[near(QUAD, -0.05)].any()
    assert changed[shown == 1].mean() > 0.9 or not shown.any()
    assert np.allclose(np.diff(place, axis=0), np.diff(QUAD, axis=0), atol=1e-6)


def test_a_neighbour_gets_a_label_where_it_is_whole_and_touches_no_other() -> None:
    small = QUAD.mean(axis=0) + (QUAD - QUAD.mean(axis=0)) * 0.4
    alone = LabelledPicture(scene(), small[None], np.array([True]), True)
    gained = [with_pastes(alone, np.random.default_rng(s)) for s in range(60)]
    gained = [out for out in gained if len(out.quads) == 2]
    assert len(gained) > 4
    for out in gained:
        assert out.is_quad.all() and (out.quads[0] == small).all()
        changed = (out.pixels != scene()).any(axis=2)
        middle = out.quads[1].mean(axis=0).round().astype(int)
        assert changed[middle[1], middle[0]]
