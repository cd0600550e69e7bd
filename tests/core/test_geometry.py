from __future__ import annotations

import itertools

import numpy as np
import pytest
from shapely.geometry import Polygon

from platehide import geometry as g

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [0.0, 4.0]])


def random_convex(rng: np.random.Generator) -> np.ndarray:
    while True:
        quad = SQUARE * rng.uniform(0.5, 3, 2) + rng.normal(0, 1.2, (4, 2)) + rng.uniform(-6, 6, 2)
        if g.is_convex(quad) and g.signed_area(quad) > 1:
            return quad


def test_area_of_nothing_is_zero() -> None:
    assert g.area(np.empty((0, 2))) == 0.0
    assert g.area(SQUARE[:2]) == 0.0


def test_signed_area_is_positive_clockwise_on_screen() -> None:
    assert g.signed_area(SQUARE) == 40.0
    assert g.signed_area(SQUARE[::-1]) == -40.0


def test_iou_identity_disjoint_and_touching() -> None:
    assert g.polygon_iou(SQUARE, SQUARE) == pytest.approx(1.0)
    assert g.polygon_iou(SQUARE, SQUARE + [20, 0]) == 0.0
    assert g.polygon_iou(SQUARE, SQUARE + [10, 0]) == pytest.approx(0.0, abs=1e-12)
    assert g.polygon_iou(SQUARE, SQUARE + [5, 0]) == pytest.approx(20 / 60)


def test_iou_agrees_with_shapely_on_random_quads() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        a, b = random_convex(rng), random_convex(rng)
        p, q = Polygon(a), Polygon(b)
        expected = p.intersection(q).area / p.union(q).area
        assert g.polygon_iou(a, b) == pytest.approx(expected, abs=1e-9)


def test_coverage_counts_overlapping_covers_once() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        region, covers = random_convex(rng), [random_convex(rng) for _ in range(4)]
        union = Polygon()
        for c in covers:
            union = union.union(Polygon(c))
        expected = Polygon(region).intersection(union).area / Polygon(region).area
        assert g.coverage(region, covers) == pytest.approx(expected, abs=1e-9)


def test_coverage_without_covers_or_region_is_zero() -> None:
    assert g.coverage(SQUARE, []) == 0.0
    assert g.coverage(np.zeros((4, 2)), [SQUARE]) == 0.0


def test_growing_contains_and_keeps_distance() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        quad = random_convex(rng)
        grown = g.grow_polygon(quad, 0.7)
        assert g.coverage(quad, [grown]) == pytest.approx(1.0)
        outer = Polygon(quad).buffer(0.7, join_style="mitre", mitre_limit=1.0)
        assert Polygon(grown).buffer(1e-6).contains(outer.intersection(Polygon(grown)))
    assert g.grow_polygon(SQUARE, 1.0) == pytest.approx(
        np.array([[-1, -1], [11, -1], [11, 5], [-1, 5]])
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_corners_in_any_order_become_tl_tr_br_bl(order: tuple[int, ...]) -> None:
    quad = np.array([[10, 12], [90, 20], [88, 44], [9, 35.0]])
    assert g.order_corners(quad[list(order)]).tolist() == quad.tolist()


def test_order_corners_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        g.order_corners(np.zeros((3, 2)))


def test_vertex_distance_ignores_start_and_direction() -> None:
    for shift in range(4):
        assert g.vertex_distance(SQUARE, np.roll(SQUARE, shift, axis=0)) == 0.0
        assert g.vertex_distance(SQUARE, np.roll(SQUARE[::-1], shift, axis=0)) == 0.0
    assert g.vertex_distance(SQUARE, SQUARE + [3, 4]) == pytest.approx(5.0)


def test_convexity_of_crossed_and_flat_quads() -> None:
    assert g.is_convex(SQUARE)
    assert not g.is_convex(SQUARE[[0, 2, 1, 3]])
    assert not g.is_convex(np.array([[0, 0], [1, 0], [2, 0], [3, 0.0]]))
    assert len(g.convex_hull(SQUARE[[0, 2, 1, 3]])) == 4
