"""The proof must be able to fail: each question is answered wrongly on purpose here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest
import simplejpeg

from platehide.arrival import Difference, tolerance
from platehide.cover import Covered, CoverOptions, cover_plate, load_cover
from platehide.detection import Findings
from platehide.drawn import CoveredPlate
from platehide.formats import open_photo
from platehide.geometry import coverage
from platehide.image_io import WriteOptions
from platehide.pixels import ArrayPixels, Closeup, PixelSource
from platehide.types import Detection, FloatArray, ImageArray
from platehide.verify import crop_box, grown_quad, verify

SIZE = (320, 240)
QUAD = np.array([[110, 130], [210, 134], [209, 160], [109, 155]], np.float64)


@dataclass
class FakeDetector:
    """Answers what it is told; notes what it was shown."""

    plates: Callable[[PixelSource], Sequence[FloatArray]] = lambda source: ()
    doubtful: Callable[[PixelSource], Sequence[FloatArray]] = lambda source: ()
    seen: list[tuple[int, int]] = field(default_factory=list)
    model: str = "fake@1"

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        self.seen.append(source.size_wh)
        return Findings(
            tuple(Detection(q, 0.9) for q in self.plates(source)),
            tuple(Detection(q, 0.3) for q in self.doubtful(source)),
        )


def photo(seed: int = 0) -> ImageArray:
    """A grey scene with a white plate that bears dark bars."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(70, 110, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    rgb[132:158, 110:210] = 230
    for x in range(118, 204, 12):
        rgb[137:153, x : x + 6] = 20
    return rgb


def jpeg_of(rgb: ImageArray, quality: int = 90) -> bytes:
    return bytes(simplejpeg.encode_jpeg(rgb, quality, colorsubsampling="420"))


def draw(data: bytes, quad: FloatArray = QUAD) -> CoveredPlate:
    frame = open_photo(data).frames[0]
    covered = cover_plate(frame, quad, load_cover(None), CoverOptions())
    return CoveredPlate(0, Detection(quad, 0.9), covered)


def write(data: bytes, covers: Sequence[CoveredPlate]) -> bytes:
    patches = [c.covered.patch for c in covers]
    return open_photo(data).write(patches, WriteOptions()).data


def shifted(item: CoveredPlate, dx: int, *, painted: bool) -> CoveredPlate:
    patch = replace(item.covered.patch, x=item.covered.patch.x + dx)
    polygon = np.add(item.covered.painted, (dx if painted else 0, 0))
    return replace(item, covered=Covered(patch, polygon))


THIRD = round((QUAD[1, 0] - QUAD[0, 0]) / 3)


@pytest.mark.parametrize("quality", [30, 75, 90, 98])
@pytest.mark.parametrize("mode", ["fast", "full"])
def test_an_honest_photo_is_proven(quality: int, mode: str) -> None:
    data = jpeg_of(photo(), quality)
    item = draw(data)
    detector = FakeDetector()
    verdict = verify(write(data, [item]), [item], [SIZE], detector, mode)  # type: ignore[arg-type]
    assert verdict.proven, verdict
    x0, y0, x1, y1 = crop_box(item.covered.painted, SIZE)
    assert detector.seen == [(x1 - x0, y1 - y0) if mode == "fast" else SIZE]


@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("quality", [60, 90])
def test_a_cover_written_a_third_beside_the_plate_fails(mode: str, quality: int) -> None:
    data = jpeg_of(photo(), quality)
    item = draw(data)
    wrong = write(data, [shifted(item, THIRD, painted=True)])
    verdict = verify(wrong, [item], [SIZE], FakeDetector(), mode)  # type: ignore[arg-type]
    assert not verdict.proven
    assert "did not arrive as drawn" in verdict.failures[0]


def test_a_cover_drawn_a_third_beside_the_plate_fails() -> None:
    data = jpeg_of(photo())
    item = shifted(draw(data), THIRD, painted=True)
    verdict = verify(write(data, [item]), [item], [SIZE], FakeDetector(), "fast")
    assert verdict.failures == ("plate 1 lies outside what was painted",)


def test_a_patch_that_does_not_fill_its_polygon_fails() -> None:
    data = jpeg_of(photo())
    item = shifted(draw(data), THIRD, painted=False)
    verdict = verify(write(data, [item]), [item], [SIZE], FakeDetector(), "fast")
    assert verdict.failures[0] == "a pixel of cover 1 was not drawn"


def test_the_original_does_not_pass_as_finished() -> None:
    data = jpeg_of(photo())
    assert not verify(data, [draw(data)], [SIZE], FakeDetector(), "fast").proven


def test_other_frames_and_broken_bytes_fail() -> None:
    data = jpeg_of(photo())
    item = draw(data)
    finished = write(data, [item])
    wrong_size = verify(finished, [item], [(SIZE[0] + 1, SIZE[1])], FakeDetector(), "fast")
    assert wrong_size.failures == ("the finished photo has other frames than the original",)
    cut = verify(finished[: len(finished) // 2], [item], [SIZE], FakeDetector(), "fast")
    assert "cannot be decoded" in cut.failures[0]


def test_off_asks_nothing() -> None:
    detector = FakeDetector()
    assert verify(b"", [], [SIZE], detector, "off").proven
    assert detector.seen == []


def offset_of(source: PixelSource) -> FloatArray:
    """Where a crop of the test photo lies: the fakes answer in crop pixels."""
    if source.size_wh == SIZE:
        return np.zeros(2)
    item = draw(jpeg_of(photo()))
    return np.array(crop_box(item.covered.painted, SIZE)[:2], np.float64)


@pytest.mark.parametrize("mode", ["fast", "full"])
def test_a_detection_on_the_cover_is_the_cover(mode: str) -> None:
    data = jpeg_of(photo())
    item = draw(data)
    rough = np.add(QUAD, [[-3, -2], [3, -2], [3, 2], [-3, 2]])
    detector = FakeDetector(lambda s: [rough - offset_of(s)], lambda s: [rough - offset_of(s)])
    assert verify(write(data, [item]), [item], [SIZE], detector, mode).proven  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("certain", [True, False])
def test_a_plate_that_sticks_out_is_left(mode: str, certain: bool) -> None:
    data = jpeg_of(photo())
    item = draw(data)
    wider = np.add(QUAD, [[0, 0], [THIRD, 0], [THIRD, 0], [0, 0]])
    answer = lambda s: [wider - offset_of(s)]  # noqa: E731
    detector = FakeDetector(answer) if certain else FakeDetector(doubtful=answer)
    verdict = verify(write(data, [item]), [item], [SIZE], detector, mode)  # type: ignore[arg-type]
    (left,) = verdict.left
    assert (left.cover, left.certain, left.frame) == (0, certain, 0)
    assert np.allclose(left.found.quad, wider)


def test_a_plate_apart_counts_in_fast_only_if_the_whole_photo_shows_it() -> None:
    data = jpeg_of(photo())
    item = draw(data)
    far = np.array([[95, 112], [118, 112], [118, 119], [95, 119]], np.float64)
    everywhere = FakeDetector(lambda s: [far - offset_of(s)])
    verdict = verify(write(data, [item]), [item], [SIZE], everywhere, "fast")
    assert [left.cover for left in verdict.left] == [None]
    crop_only = FakeDetector(lambda s: [far - offset_of(s)] if s.size_wh != SIZE else [])
    assert verify(write(data, [item]), [item], [SIZE], crop_only, "fast").proven


def test_full_looks_at_photos_without_a_plate_too() -> None:
    data = jpeg_of(photo())
    found = verify(write(data, []), [], [SIZE], FakeDetector(lambda s: [QUAD]), "full")
    assert [left.cover for left in found.left] == [None]
    assert verify(write(data, []), [], [SIZE], FakeDetector(lambda s: [QUAD]), "fast").proven


def test_overlapping_covers_are_compared_with_the_upper_one() -> None:
    data = jpeg_of(photo())
    items = [draw(data), draw(data, np.add(QUAD, (30, 8)))]
    assert verify(write(data, items), items, [SIZE], FakeDetector(), "fast").proven
    wrong = write(data, items[::-1])
    assert not verify(wrong, items, [SIZE], FakeDetector(), "fast").proven


def test_tolerance_follows_the_quantisation() -> None:
    coarse, fine = (tolerance(jpeg_of(photo(), quality)) for quality in (20, 95))
    assert coarse.rms > 2 * fine.rms
    assert fine.rms < 10
    assert tolerance(b"\x89PNG\r\n\x1a\n") == Difference(3.0, 3.0)


def test_grown_quad_holds_both() -> None:
    for leftover in (
        np.add(QUAD, (THIRD, 0)),
        np.add(QUAD, (-10, 4)),
        np.add(QUAD, (0, 12)),
        np.add(QUAD * 0.2, (150, 120)),
    ):
        grown = grown_quad(QUAD, leftover)
        outline = grown * 1.0
        centre = outline.mean(axis=0)
        slightly_larger = centre + (outline - centre) * 1.001
        assert coverage(QUAD, [slightly_larger]) > 0.999
        assert coverage(leftover, [slightly_larger]) > 0.999
    assert np.allclose(grown_quad(QUAD, QUAD), QUAD, atol=1e-3)
    far = grown_quad(QUAD, np.add(QUAD, (900, 300)))
    assert coverage(np.add(QUAD, (900, 300)), [far]) > 0.99


def test_a_large_close_up_is_shown_reduced_and_read_where_it_lies() -> None:
    """The detector's picture of a wide crop costs no whole decode; regions stay exact."""
    rgb = cv2.resize(photo(), (1280, 960), interpolation=cv2.INTER_LINEAR)
    frame = open_photo(jpeg_of(rgb)).frames[0]
    whole = frame.region((0, 0, 1280, 960))
    for box in ((160, 80, 1280, 720), (0, 240, 640, 560), (104, 8, 424, 208)):
        x0, y0, x1, y1 = box
        source = open_photo(jpeg_of(rgb)).frames[0]
        closeup = Closeup(source, box)
        assert closeup.size_wh == (x1 - x0, y1 - y0)
        view = closeup.overview(256)
        assert 256 <= view.shape[1] < 2 * 256 + 1 or view.shape[1] == x1 - x0
        same = cv2.resize(
            whole[y0:y1, x0:x1], (view.shape[1], view.shape[0]), interpolation=cv2.INTER_AREA
        )
        assert np.abs(view.astype(int) - same).mean() < 4
        part = closeup.region((20, 30, 70, 60))
        assert np.array_equal(part, whole[y0 + 30 : y0 + 60, x0 + 20 : x0 + 70])
        in_memory = Closeup(ArrayPixels(whole), box)
        assert np.array_equal(in_memory.overview(256), whole[y0:y1, x0:x1])
