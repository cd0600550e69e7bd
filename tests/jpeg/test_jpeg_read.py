"""Parts and reduced pictures out of the editor, against whole decodes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jpeg_samples import SAMPLINGS, by_pillow, decoded, scene, sequential

from platehide.jpeg import AVAILABLE, JpegEditor
from platehide.jpeg.native import native
from platehide.types import ImageArray

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part (gcc)")


def boxes(size_wh: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    rng = np.random.default_rng(1)
    w, h = size_wh
    out = [(0, 0, w, h), (0, 0, 1, 1), (w - 1, h - 1, w, h)]
    for _ in range(5):
        x0, y0 = int(rng.integers(0, w)), int(rng.integers(0, h))
        out.append((x0, y0, int(rng.integers(x0, w)) + 1, int(rng.integers(y0, h)) + 1))
    return out


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(160, 96), (201, 133), (9, 30), (1, 1)])
def test_region_is_what_a_whole_decode_gives(sampling: str, size: tuple[int, int]) -> None:
    jpeg = sequential(scene(*size), sampling, 85)
    whole = decoded(jpeg)
    for x0, y0, x1, y1 in boxes(size):
        part = JpegEditor(jpeg).region((x0, y0, x1, y1))
        assert np.array_equal(part, whole[y0:y1, x0:x1])


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"restart_marker_blocks": 4}, {"optimize": True}], ids=str
)
def test_region_of_other_kinds(options: dict[str, object]) -> None:
    jpeg = by_pillow(scene(130, 70), quality=90, **options)
    whole = decoded(jpeg)
    editor = JpegEditor(jpeg)  # one editor: later boxes come from what is decoded already
    for x0, y0, x1, y1 in boxes((130, 70))[1:] + boxes((130, 70)):
        assert np.array_equal(editor.region((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("quality", [3, 40, 100])
def test_region_with_coarse_and_fine_steps(sampling: str, quality: int) -> None:
    rgb = scene(120, 88, seed=quality)
    rgb[20:50, 30:90] = 255  # hard edges ring beyond black and white
    rgb[30:40, 35:80:3] = 0
    jpeg = sequential(rgb, sampling, quality)
    assert np.array_equal(JpegEditor(jpeg).region((0, 0, 120, 88)), decoded(jpeg))


def test_coefficients_beyond_all_measure_are_cut_off() -> None:
    frame = np.array([16, 16, 3, 2, 2, 1, 1, 1, 1], np.int32)
    steps = np.full((3, 64), 65535, np.uint16)
    for value in (-32768, 32767):
        blocks = [np.full((n, n, 64), value, np.int16) for n in (2, 1, 1)]
        pixels = np.empty((16, 16, 3), np.uint8)
        native.inverse(frame, steps, *blocks, pixels)  # what it shows is nobody's business
    for part in blocks:
        part[..., 1:] = 0
    native.inverse(frame, steps, *blocks, pixels)
    assert np.array_equal(np.unique(pixels.reshape(-1, 3), axis=0), [[255, 121, 255]])
    with pytest.raises(ValueError, match="wrong size"):
        native.inverse(frame, steps, *blocks, np.empty((16, 15, 3), np.uint8))


def reduced(rgb: ImageArray, size_wh: tuple[int, int]) -> ImageArray:
    return np.asarray(cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


PILLOW_NUMBERS = {"444": 0, "422": 1, "420": 2, "gray": 0}
KINDS = [(s, False) for s in SAMPLINGS] + [(s, True) for s in PILLOW_NUMBERS]


def of_kind(rgb: ImageArray, sampling: str, progressive: bool) -> bytes:
    """A JPEG of one of ``KINDS``."""
    if not progressive:
        return sequential(rgb, sampling, 92)
    mode, number = "L" if sampling == "gray" else "RGB", PILLOW_NUMBERS[sampling]
    return by_pillow(rgb, mode, quality=92, subsampling=number, progressive=True)


@pytest.mark.parametrize(("sampling", "progressive"), KINDS)
@pytest.mark.parametrize("divisor", [8, 4, 2])
def test_overview_is_the_picture_averaged_by_area(
    sampling: str, progressive: bool, divisor: int
) -> None:
    size = (320, 240)
    rgb = cv2.GaussianBlur(scene(*size), (0, 0), 3)
    rgb[40:120, 60:90] = (230, 30, 30)  # a mirrored or turned picture would show
    jpeg = of_kind(rgb, sampling, progressive)
    overview = JpegEditor(jpeg).overview(max(size) // divisor)
    assert overview is not None
    assert overview.shape == (size[1] // divisor, size[0] // divisor, 3)
    expected = reduced(decoded(jpeg), (overview.shape[1], overview.shape[0]))
    # Brightness is averaged by area; colour may be stored coarser than the overview shows it.
    ours, theirs = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(int) for p in (overview, expected))
    assert np.abs(ours - theirs).mean() < (4.0 if divisor == 8 else 1.5)
    coarse = sampling == "411" and divisor == 8  # one colour for 32 px of width
    assert np.median(np.abs(overview.astype(int) - expected)) <= (8 if coarse else 3)
    assert np.corrcoef(overview[..., 0].ravel(), expected[..., 0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("sampling", "progressive"), KINDS)
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_a_reduced_part_is_that_part_averaged_by_area(
    sampling: str, progressive: bool, shrink: int
) -> None:
    rgb = cv2.GaussianBlur(scene(328, 244), (0, 0), 3)  # blocks and MCUs hang over both edges
    rgb[40:120, 64:96] = (230, 30, 30)
    jpeg = of_kind(rgb, sampling, progressive)
    editor, whole = JpegEditor(jpeg), decoded(jpeg)
    for x0, y0, x1, y1 in ((24, 16, 152, 112), (136, 40, 328, 240), (0, 0, 328, 240)):
        part = editor.reduced((x0, y0, x1, y1), shrink)
        size = (x1 - x0) // shrink, (y1 - y0) // shrink
        assert part.shape == (size[1], size[0], 3)
        expected = reduced(whole[y0:y1, x0:x1], size)
        ours, theirs = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(int) for p in (part, expected))
        assert np.abs(ours - theirs).mean() < (4.0 if shrink == 8 else 1.5)
        assert np.corrcoef(part[..., 0].ravel(), expected[..., 0].ravel())[0, 1] > 0.9


def test_a_reduced_part_lies_where_it_was_asked_for_whatever_its_edges() -> None:
    """Rounded to the nearest px, never empty, and full pixels after it are still exact."""
    jpeg = sequential(scene(201, 133), "420", 90)
    whole = decoded(jpeg)
    editor = JpegEditor(jpeg)
    for box in boxes((201, 133)):
        x0, y0, x1, y1 = box
        for shrink in (2, 4, 8):
            part = editor.reduced(box, shrink)
            assert 1 <= part.shape[1] <= -(-(x1 - x0) // shrink) + 1
            assert 1 <= part.shape[0] <= -(-(y1 - y0) // shrink) + 1
        assert np.array_equal(editor.region(box), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("size", [(321, 243), (33, 90), (1000, 31)])
def test_overview_is_as_large_as_asked_or_none(size: tuple[int, int]) -> None:
    jpeg = sequential(scene(*size), "420")
    for long_side in (1, 10, max(size) // 8, max(size) // 3, max(size) // 2, max(size)):
        overview = JpegEditor(jpeg).overview(long_side)
        if overview is None:
            assert long_side > -(-max(size) // 2)
        else:
            share = long_side / max(size)
            expected = tuple(max(1, round(side * share)) for side in size)
            assert (overview.shape[1], overview.shape[0]) == expected


def test_region_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="does not lie inside"):
        JpegEditor(sequential(scene(40, 40), "420")).region((0, 0, 41, 40))
