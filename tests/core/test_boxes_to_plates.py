"""preprocess, postprocess and refine: the way in and the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from platehide.geometry import is_convex, polygon_iou, signed_area, transform_points
from platehide.model_spec import RefinerSpec
from platehide.pixels import ArrayPixels
from platehide.postprocess import merge_group, sigmoid, suppress, tidy_quad, top_candidates
from platehide.preprocess import PAD_VALUE, fit_long_side, rectify, stretch
from platehide.refine import refine_quads

RNG = np.random.default_rng(0)
QUAD = np.array([[100.0, 80.0], [220.0, 90.0], [218.0, 130.0], [98.0, 118.0]])


def picture(width: int = 400, height: int = 300) -> np.ndarray:
    image = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (1, 1), (7, 900), (640, 640)])
def test_fit_long_side_pads_to_the_multiple_and_maps_back(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 9, np.uint8)
    made = fit_long_side(image, 320)
    assert made.pixels.shape[0] % 32 == 0
    assert made.pixels.shape[1] % 32 == 0
    assert max(made.pixels.shape[:2]) == 320
    corner = np.array([[size[0], size[1]]], dtype=np.float64)
    assert made.to_photo(corner * made.scale_xy) == pytest.approx(corner)
    inside = corner[0] * made.scale_xy
    assert (made.pixels[: int(inside[1]), : int(inside[0])] == 9).all()
    assert (made.pixels[int(np.ceil(inside[1])) :] == PAD_VALUE).all()


def test_stretch_is_exact_and_untouched_at_its_own_size() -> None:
    image = picture(64, 64)
    made = stretch(image, (64, 64))
    assert made.pixels is image
    assert made.scale_xy.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0, 9.0])
def test_rectify_maps_the_quad_to_a_centred_rectangle(factor: float) -> None:
    image = picture(int(400 * factor), int(300 * factor))
    crop, matrix = rectify(image, QUAD * factor, (160, 80), 0.4)
    assert crop.shape == (80, 160, 3)
    mapped = transform_points(matrix, QUAD * factor)
    w, h = 160 / 1.8, 80 / 1.8
    x, y = (160 - w) / 2, (80 - h) / 2
    assert mapped == pytest.approx(
        np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]), abs=1e-3
    )


def test_rectified_content_does_not_depend_on_the_photo_size() -> None:
    small = picture(400, 300)
    large = cv2.resize(small, (1600, 1200), interpolation=cv2.INTER_LINEAR)
    a, _ = rectify(small, QUAD, (160, 80), 0.4)
    # Pixel centres: a point p of the small picture lies at 4 p + 1.5 in the large one.
    b, _ = rectify(large, QUAD * 4 + 1.5, (160, 80), 0.4)
    assert np.abs(a.astype(int) - b.astype(int)).mean() < 3.0


def test_sigmoid_is_safe_and_right() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_top_candidates_of_nothing() -> None:
    scores, quads = top_candidates(np.full(9, -20.0), np.zeros((9, 4, 2)), least=0.1, most=5)
    assert scores.shape == (0,)
    assert quads.shape == (0, 4, 2)
    assert suppress(scores, quads, iou_threshold=0.3) == []


def test_suppress_keeps_the_best_of_each_place() -> None:
    quads = np.stack([QUAD, QUAD + 3.0, QUAD + [150.0, 0.0], QUAD + [150.0, 2.0]])
    groups = suppress(np.array([0.9, 0.8, 0.7, 0.6]), quads, iou_threshold=0.3)
    assert groups == [[0, 1], [2, 3]]


def test_suppress_drops_a_small_quad_inside_a_large_one() -> None:
    centre = QUAD.mean(axis=0)
    quads = np.stack([QUAD, centre + 0.5 * (QUAD - centre)])
    assert suppress(np.array([0.9, 0.8]), quads, iou_threshold=0.3) == [[0, 1]]


def test_merge_weighs_by_score_and_leaves_out_the_unsure() -> None:
    quads = np.stack([QUAD, QUAD + 2.0, QUAD + 50.0])
    merged = merge_group(np.array([0.9, 0.9, 0.1]), quads, [0, 1, 2], share=0.6)
    assert merged == pytest.approx(QUAD + 1.0)


def test_tidy_keeps_a_sound_quad_as_it_is() -> None:
    kept = tidy_quad(QUAD, 400, 300)
    assert kept is not None
    assert kept == pytest.approx(QUAD)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [1, 0, 3, 2], [3, 2, 1, 0]])
def test_tidy_turns_crossed_and_mirrored_quads_into_their_upright_hull(order: list[int]) -> None:
    tidy = tidy_quad(QUAD[order], 400, 300)
    assert tidy is not None
    assert is_convex(tidy)
    assert signed_area(tidy) > 0
    assert tidy[0].tolist() == QUAD.min(axis=0).tolist()
    assert tidy[2].tolist() == QUAD.max(axis=0).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tidy_gives_up_on_nonsense(bad: float) -> None:
    assert tidy_quad(np.full((4, 2), np.nan), 400, 300) is None
    line = np.array([[0, 0], [1, 0], [2, 0], [3, 0.0]])
    assert tidy_quad(line, 400, 300) is None
    broken = QUAD.copy()
    broken[0, 0] = bad
    result = tidy_quad(broken, 400, 300)
    assert result is None or np.isfinite(result).all()


SPEC = RefinerSpec("refiner.onnx", (160, 80), 0.4, 2)


def test_a_refiner_that_knows_the_truth_reaches_it() -> None:
    """The fake finds a bright plate on dark ground in the crop; two passes must land on it."""
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.fillConvexPoly(image, np.round(QUAD).astype(np.int32), (255, 255, 255))

    def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corners = []
        for crop in crops:
            ys, xs = np.nonzero(crop[..., 0] > 127)
            points = np.stack([xs, ys], axis=1).astype(np.float64)
            signs = np.array([[-1, -2], [1, -2], [1, 2], [-1, 2.0]])
            corners.append([points[np.argmax(points @ s)] for s in signs])
        return np.array(corners), np.ones(len(crops))

    coarse = QUAD + [[9, -6], [-9, 6], [8, 5], [-7, -6]]
    assert polygon_iou(coarse, QUAD) < 0.85
    fine, logits = refine_quads(ArrayPixels(image), [coarse], SPEC, run)
    assert polygon_iou(fine[0], QUAD) > 0.9
    assert logits.tolist() == [1.0]


@pytest.mark.parametrize("from_edges", [True, False])
def test_corners_are_told_from_pixel_edges(from_edges: bool) -> None:
    """Pixels 100…179 span 100…180: a refiner that centres the quad on what is bright must end
    there, and half a pixel off where a spec says that its corners are not told so."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[50:80, 100:180] = 255
    truth = np.array([[100, 50], [180, 50], [180, 80], [100, 80]], dtype=np.float64)

    def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, h = 160 / 1.8, 80 / 1.8
        same = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
        found = []
        for crop in crops:
            light = crop[..., 0].astype(np.float64)
            x, y = (light * np.arange(160)).sum(), (light * np.arange(80)[:, None]).sum()
            found.append(same + np.array([x, y]) / light.sum())
        return np.array(found), np.ones(len(crops))

    spec = RefinerSpec("refiner.onnx", (160, 80), 0.4, 3, from_edges)
    fine, _ = refine_quads(ArrayPixels(image), [truth + [3.0, -2.0]], spec, run)
    wanted = truth if from_edges else truth - 0.5
    assert fine[0] == pytest.approx(wanted, abs=0.06)


def test_the_mirror_image_evens_out_what_leans_to_one_side() -> None:
    """A refiner that is right but for 5 crop px to the right, whatever it sees: the mirror image's
    answer leans to the left by as much. (Crops are centred half a px beside the mirror's axis.)"""
    image = np.zeros((300, 400, 3), np.uint8)
    image[80:220, 100:320] = np.arange(220, dtype=np.uint8)[None, :, None]
    w, h = 160 / 1.8, 80 / 1.8
    same = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 + [80.0, 40.0]
    asked = []

    def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(crops)
        return np.stack([same + [5.0, 0.0]] * len(crops)), np.arange(float(len(crops)))

    plate = np.array([[120, 100], [220, 100], [220, 130], [120, 130.0]])
    quads = [plate, plate + [0.0, 40.0]]
    for mirrored, reach in ((False, 10.0), (True, 4.5)):
        spec = RefinerSpec("refiner.onnx", (160, 80), 0.4, 2, True, mirrored)
        asked.clear()
        fine, logits = refine_quads(ArrayPixels(image), quads, spec, run)
        assert fine[0] == pytest.approx(plate + [reach / w * 100, 0.0], abs=0.01)
        assert [len(a) for a in asked] == ([2, 4] if mirrored else [2, 2])
        assert logits.tolist() == ([1.0, 2.0] if mirrored else [0.0, 1.0])
    assert (asked[1][2:] == asked[1][:2, :, ::-1]).all()


def test_a_wild_refiner_is_not_believed() -> None:
    def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(crops), 4, 2), np.nan), np.zeros(len(crops))

    fine, _ = refine_quads(ArrayPixels(picture()), [QUAD], SPEC, run)
    assert fine[0].tolist() == QUAD.tolist()


def test_refining_nothing_runs_nothing() -> None:
    fine, logits = refine_quads(ArrayPixels(picture()), [], SPEC, lambda crops: 1 / 0)
    assert fine == []
    assert logits.shape == (0,)


@pytest.mark.parametrize("offset", [[-150, -100], [250, 190], [-150, 190], [250, -100]])
def test_quads_that_reach_over_the_border_are_refined_too(offset: list[int]) -> None:
    def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w, h = 160 / 1.8, 80 / 1.8
        x, y = (160 - w) / 2, (80 - h) / 2
        same = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
        return np.repeat(same[None], len(crops), axis=0), np.zeros(len(crops))

    quad = QUAD + offset
    fine, _ = refine_quads(ArrayPixels(picture()), [quad], SPEC, run)
    assert fine[0] == pytest.approx(quad, abs=0.01)
