"""The pipeline with the proof: honest photos leave, everything else stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from platehide import pipeline
from platehide.cover import Cover, Covered, CoverOptions, cover_plate
from platehide.detection import Findings
from platehide.formats.jpeg_photo import JpegPhoto
from platehide.geometry import coverage
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.pipeline import PlateHider
from platehide.pixels import Patch, PixelSource
from platehide.types import Detection, FloatArray

SIZE = (320, 240)
QUAD = np.array([[110, 130], [210, 134], [209, 160], [109, 155]], np.float64)
THIRD = 33


def photo_bytes() -> bytes:
    rng = np.random.default_rng(0)
    rgb = rng.integers(70, 110, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    rgb[132:158, 110:210] = 230
    for x in range(118, 204, 12):
        rgb[137:153, x : x + 6] = 20
    return bytes(simplejpeg.encode_jpeg(rgb, 90, colorsubsampling="420"))


class Fake:
    """Finds ``first`` on the whole photo the first time, then what ``later`` says."""

    model = "fake@1"

    def __init__(
        self,
        first: Sequence[FloatArray] = (QUAD,),
        later: Callable[[int], Sequence[FloatArray]] = lambda n: (),
    ) -> None:
        self.first, self.later, self.calls = first, later, 0

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        self.calls += 1
        quads = self.first if self.calls == 1 else self.later(self.calls)
        return Findings(tuple(Detection(q, 0.9) for q in quads))


def shifted_cover(painted_too: bool) -> Callable[..., Covered]:
    def draw(
        source: PixelSource,
        quad: FloatArray,
        cover: Cover,
        options: CoverOptions,
        *,
        frame: int = 0,
    ) -> Covered:
        out = cover_plate(source, quad, cover, options, frame=frame)
        polygon = np.add(out.painted, (THIRD if painted_too else 0, 0))
        return Covered(replace(out.patch, x=out.patch.x + THIRD), polygon)

    return draw


@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("painted_too", [True, False])
def test_a_cover_shifted_by_a_third_of_the_plate_ends_closed(
    mode: str, painted_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "cover_plate", shifted_cover(painted_too))
    result = PlateHider(detector=Fake(), verify=mode).hide(photo_bytes())  # type: ignore[arg-type]
    assert result.status == "unsure"
    assert result.data is None
    assert result.painted == ()
    assert result.code == "unsure"


@pytest.mark.parametrize("mode", ["fast", "full"])
def test_a_writer_that_shifts_by_a_third_ends_closed(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = JpegPhoto.write

    def shifted(self: JpegPhoto, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        return write(self, [replace(p, x=p.x + THIRD) for p in patches], options)

    monkeypatch.setattr(JpegPhoto, "write", shifted)
    result = PlateHider(detector=Fake()).hide(photo_bytes(), verify=mode)  # type: ignore[arg-type]
    assert (result.status, result.data) == ("unsure", None)
    assert "did not arrive as drawn" in str(result.error)


def test_off_lets_it_pass_and_says_so_by_the_missing_stage() -> None:
    result = PlateHider(detector=Fake(), verify="off").hide(photo_bytes())
    assert result.status == "hidden"
    assert "verify" not in result.ms
    proven = PlateHider(detector=Fake()).hide(photo_bytes())
    assert proven.status == "hidden"
    assert proven.ms["verify"] > 0
    assert proven.data == result.data


def test_a_cover_grows_over_what_is_left() -> None:
    wider = np.add(QUAD, [[0, 0], [THIRD, 0], [THIRD, 0], [0, 0]])
    fake = Fake(later=lambda n: (wider,) if n == 2 else ())
    result = PlateHider(detector=fake, verify="full").hide(photo_bytes())
    assert result.status == "hidden"
    assert fake.calls == 3
    assert coverage(wider, result.painted) > 0.999
    assert coverage(QUAD, result.painted) > 0.999
    assert len(result.plates) == len(result.painted) == 1


def test_a_plate_that_appears_later_is_covered_too() -> None:
    other = np.add(QUAD * 0.5, (10, 10))
    fake = Fake(later=lambda n: (other,) if n == 2 else ())
    result = PlateHider(detector=fake, verify="full").hide(photo_bytes())
    assert result.status == "hidden"
    assert len(result.plates) == 2
    assert coverage(other, result.painted) > 0.999


def test_what_cannot_be_covered_up_is_unsure() -> None:
    def creeping(n: int) -> Sequence[FloatArray]:
        return (np.add(QUAD * 0.3, (40 * n, 10)),)

    result = PlateHider(detector=Fake(later=creeping), verify="full").hide(photo_bytes())
    assert (result.status, result.data, result.code) == ("unsure", None, "unsure")
    assert "still be seen" in str(result.error)


@pytest.mark.parametrize("mode", ["fast", "full", "off"])
def test_a_second_run_changes_no_byte(mode: str) -> None:
    first = PlateHider(detector=Fake(), verify="fast").hide(photo_bytes())
    assert first.data is not None
    rough = np.add(QUAD, [[1, -1], [0.5, 0.5], [-1, 0.5], [0.5, -0.5]])
    fake = Fake(first=(rough,), later=lambda n: (rough,))
    second = PlateHider(detector=fake, verify=mode).hide(first.data)  # type: ignore[arg-type]
    assert second.data == first.data
    assert second.status == "none"
    assert second.edit == "untouched"
    assert second.extra["already_covered"] == 1


def test_a_blurred_plate_does_not_pass_for_covered() -> None:
    options = CoverOptions(style="blur")
    result = PlateHider(detector=Fake(), cover_options=options).hide(photo_bytes())
    assert result.status == "hidden"
    assert len(result.plates) == 1


def test_the_audit_record_accounts_for_the_bytes() -> None:
    data = photo_bytes()
    result = PlateHider(detector=Fake()).hide(data, audit=True)
    assert result.data is not None
    record = result.extra["audit"]
    assert record["input_sha256"] == hashlib.sha256(data).hexdigest()
    assert record["output_sha256"] == hashlib.sha256(result.data).hexdigest()
    assert record["model"] == "fake@1"
    assert record["verify"] == "fast"
    assert record["edit"] == result.edit
    assert np.allclose(record["plates"][0]["quad"], QUAD)
    assert result.row("a.jpg", "b.jpg")["audit"] == record
    broken = PlateHider(detector=Fake()).hide(data[:500], audit=True)
    assert broken.extra["audit"]["output_sha256"] is None
    assert broken.extra["audit"]["code"] == broken.code
    assert "audit" not in PlateHider(detector=Fake()).hide(data).extra
