from __future__ import annotations

import numpy as np
import pytest

from platehide.cover.shape import (
    ROUNDING_PX,
    clip_to_picture,
    covering_quad,
    inward_distance,
    with_margin,
)
from platehide.errors import UnsureError
from platehide.geometry import area, is_convex, signed_area

SQUARE = np.array([[10.0, 10], [50, 10], [50, 20], [10, 20]])


def test_a_sound_quad_stays_as_it_is() -> None:
    np.testing.assert_array_equal(covering_quad(SQUARE), SQUARE)


def test_a_quad_read_upside_down_keeps_its_start() -> None:
    turned = np.roll(SQUARE, 2, axis=0)
    np.testing.assert_array_equal(covering_quad(turned), turned)


def test_a_mirrored_quad_is_turned_round() -> None:
    np.testing.assert_array_equal(covering_quad(SQUARE[[1, 0, 3, 2]]), SQUARE)


def test_a_crossed_quad_becomes_its_hull() -> None:
    np.testing.assert_array_equal(covering_quad(SQUARE[[0, 2, 1, 3]]), SQUARE)


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [40, 0], [20, 5], [0, 30]],  # dented
        [[0, 0], [40, 0], [40, 0], [0, 30]],  # three corners
        [[0, 0], [40, 0.1], [80, 0], [40, 0.2]],  # a sliver
        [[5, 5], [5, 5], [5, 5], [5, 5]],
        [[5, 5], [25, 5], [45, 5], [65, 5]],
    ],
)
def test_anything_else_is_enclosed_by_a_convex_quad(corners: list[list[float]]) -> None:
    points = np.array(corners, dtype=float)
    quad = covering_quad(points)
    assert quad.shape == (4, 2)
    assert is_convex(quad)
    assert signed_area(quad) > 0
    depth = []
    for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        edge = b - a
        depth.append((edge[0] * (points - a)[:, 1] - edge[1] * (points - a)[:, 0]).min())
    assert min(depth) >= -1e-9  # every given corner lies inside


def test_the_margin_is_the_same_on_every_side() -> None:
    np.testing.assert_allclose(
        with_margin(SQUARE, 0.2), [[8, 8], [52, 8], [52, 22], [8, 22]], atol=1e-9
    )


def test_the_margin_is_never_under_a_pixel_and_a_half() -> None:
    np.testing.assert_allclose(
        with_margin(SQUARE, 0.0), [[8.5, 8.5], [51.5, 8.5], [51.5, 21.5], [8.5, 21.5]], atol=1e-9
    )


def test_clip_to_picture() -> None:
    inside = clip_to_picture(SQUARE, (30, 100))
    assert area(inside) == pytest.approx(200)
    with pytest.raises(UnsureError, match="outside"):
        clip_to_picture(SQUARE, (10, 100))


def test_depth_is_positive_where_any_part_of_a_pixel_is_inside() -> None:
    depth = inward_distance(np.array([[2.0, 1], [5, 1], [5, 3], [2, 3]]), (8, 5)) - ROUNDING_PX
    # Pixels 2…4 by area; pixel 5 because some readers put its centre at 5, on the edge.
    touched = depth > 1e-3
    assert touched[1:4, 2:6].all()
    assert not touched[:, :1].any() and not touched[:, 6:].any() and not touched[4:].any()
    # The polygon's own left and upper neighbours share an edge with it and no more.
    np.testing.assert_allclose(depth[1, 1], 0.0, atol=1e-3)
