from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platehide.crowd.matching import (
    aligned,
    answer_right,
    pair_distances,
    plate_right,
    radius_px,
    reference_height,
    ring,
)
from platehide.types import FloatArray

UPRIGHT = np.array([[0.0, 0.0], [200.0, 0.0], [200.0, 40.0], [0.0, 40.0]])


def test_empty_answers() -> None:
    assert answer_right([], [])
    assert not answer_right([UPRIGHT], [])
    assert not answer_right([], [UPRIGHT])


def test_identity_in_every_start_and_direction() -> None:
    for start in range(4):
        for points in (UPRIGHT, UPRIGHT[::-1]):
            assert plate_right(np.roll(points, start, axis=0), UPRIGHT)


def test_radius_is_a_quarter_of_the_height_but_three_px() -> None:
    assert radius_px(UPRIGHT) == pytest.approx(10.0)
    assert radius_px(UPRIGHT * 0.1) == pytest.approx(3.0)


def test_border_of_the_neighbourhood() -> None:
    for vertex in range(4):
        moved = UPRIGHT.copy()
        moved[vertex] += [9.99, 0.0]
        assert plate_right(moved, UPRIGHT)
        moved[vertex] += [0.02, 0.0]
        assert not plate_right(moved, UPRIGHT)


def test_a_plate_on_its_side_is_as_high_as_it_is_short() -> None:
    lying = UPRIGHT[:, ::-1].copy()
    assert reference_height(lying) == pytest.approx(40.0)
    oblique = np.array([[0.0, 0.0], [35.0, 5.0], [35.0, 50.0], [0.0, 40.0]])
    assert reference_height(oblique) == pytest.approx(42.5)


def test_grid_of_points_and_broken_answers_are_wrong() -> None:
    grid = np.stack(np.meshgrid(np.arange(0, 210, 5), np.arange(0, 50, 5)), axis=-1).reshape(-1, 2)
    assert not plate_right(grid, UPRIGHT)
    assert not plate_right(np.vstack([UPRIGHT, UPRIGHT[:1]]), UPRIGHT)
    assert not plate_right(np.full((4, 2), np.nan), UPRIGHT)
    assert not plate_right([[1, 2], [3]], UPRIGHT)
    # Every true corner has a drawn one near, but two share one: not one-to-one.
    doubled = np.array([[0.0, 0.0], [1.0, 1.0], [200.0, 40.0], [0.0, 40.0]])
    assert not plate_right(doubled, UPRIGHT)


def test_several_plates_match_one_to_one() -> None:
    second = UPRIGHT + np.array([0.0, 100.0])
    assert answer_right([second, UPRIGHT], [UPRIGHT, second])
    assert not answer_right([UPRIGHT, UPRIGHT], [UPRIGHT, second])
    # Both drawn plates fit the first truth, only one fits the second: a matching exists.
    near = UPRIGHT + np.array([0.0, 5.0])
    assert answer_right([near, UPRIGHT], [UPRIGHT, UPRIGHT + np.array([0.0, 10.0])])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=8, max_size=8),
    st.integers(0, 3),
    st.booleans(),
)
def test_distance_does_not_depend_on_start_or_direction(
    noise: list[float], start: int, mirrored: bool
) -> None:
    other: FloatArray = UPRIGHT + np.array(noise).reshape(4, 2)
    turned = np.roll(other, start, axis=0)
    turned = turned[::-1] if mirrored else turned
    one = pair_distances(ring(UPRIGHT)[None], ring(other)[None])[0]
    two = pair_distances(ring(UPRIGHT)[None], ring(turned)[None])[0]
    assert one == pytest.approx(two)
    assert one == pytest.approx(np.hypot(*(other - UPRIGHT).T).max())
    np.testing.assert_allclose(aligned(ring(turned), UPRIGHT), other)


def test_pass_rates_are_those_of_the_design() -> None:
    rng = np.random.default_rng(7)
    truth = np.array([[100.0, 100.0], [270.0, 104.0], [270.0, 145.0], [100.0, 141.0]])
    height = reference_height(truth)

    def rate(sigma: float) -> float:
        drawn = truth + rng.normal(0.0, sigma * height, (3000, 4, 2))
        return float(np.mean([plate_right(q, truth) for q in drawn]))

    assert rate(0.06) > 0.99
    assert 0.02 < rate(0.22) < 0.09
