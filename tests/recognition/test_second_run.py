"""A second run over finished photos, with the same cover and with others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import simplejpeg
from recognition_scenes import DESIGNS, OURS, SVG, car, place, with_plate

from platehide import PlateHider
from platehide.cover import CoverOptions
from platehide.detection import Findings
from platehide.pixels import Closeup, Explained, PixelSource
from platehide.types import Detection, FloatArray

QUAD = place(140)
NAMES = pytest.mark.parametrize("name", list(DESIGNS))


@dataclass(frozen=True)
class Finds:
    """Finds the same places on every photo as a whole, whatever is there."""

    quads: tuple[FloatArray, ...]
    model: str = "finds@1"

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        if isinstance(source, Closeup):
            return Findings(())
        known = source.known if isinstance(source, Explained) else lambda quad: False
        return Findings(tuple(Detection(q, 0.9) for q in self.quads if not known(q)))


def hider(name: str, *quads: FloatArray) -> PlateHider:
    cover, options = DESIGNS[name]
    return PlateHider(detector=Finds(quads or (QUAD,)), cover=cover, cover_options=options)


def photo() -> bytes:
    rgb = with_plate(car(140), QUAD, "WOB ZK 295")
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), 88, colorsubsampling="420"))


def rough(by: float) -> FloatArray:
    return QUAD + by * np.array([[-1, 1], [1, -0.5], [0.5, 1], [-1, 0.5]])


@NAMES
def test_the_same_cover_again_changes_no_byte(name: str) -> None:
    first = hider(name).hide(photo())
    assert first.status == "hidden"
    assert first.data is not None
    for by in (0.0, 1.5, -1.5):
        again = hider(name, rough(by)).hide(first.data)
        assert (again.status, again.edit) == ("none", "untouched")
        assert again.data == first.data
        assert again.extra["already_covered"] == 1


@NAMES
def test_another_cover_is_painted_over_the_old_one_and_then_stays(name: str) -> None:
    other = {"light": "svg", "svg": "png"}.get(name, "light")
    first = hider(other).hide(photo())
    assert first.data is not None
    second = hider(name).hide(first.data)
    assert second.status == "hidden"
    assert "already_covered" not in second.extra
    assert second.data is not None
    third = hider(name).hide(second.data)
    assert third.status == "none"
    assert third.data == second.data


def test_each_photo_is_compared_with_its_own_cover() -> None:
    """``hide(cover=…)``: what another cover than the asked one lies on is not known as covered."""
    one = PlateHider(detector=Finds((QUAD,)), cover=OURS)
    ours = one.hide(photo())
    theirs = one.hide(photo(), cover=SVG)
    assert ours.data is not None
    assert theirs.data is not None
    assert one.hide(theirs.data, cover=SVG).data == theirs.data
    assert one.hide(ours.data).data == ours.data
    assert one.hide(theirs.data).status == "hidden"
    assert one.hide(ours.data, cover=SVG).status == "hidden"
    dark = CoverOptions(variant="dark")
    assert one.hide(ours.data, cover_options=dark).status == "hidden"
    wider = CoverOptions(margin=0.2)  # how large it was drawn is no part of the design
    assert one.hide(ours.data, cover_options=wider).data == ours.data


@pytest.mark.parametrize("name", ["light", "solid"])
def test_blur_neither_knows_nor_is_known(name: str) -> None:
    blur = CoverOptions(style="blur")
    first = hider(name).hide(photo())
    assert first.data is not None
    assert hider(name).hide(first.data, cover_options=blur).status == "hidden"
    blurred = hider(name).hide(photo(), cover_options=blur)
    assert blurred.data is not None
    over = hider(name).hide(blurred.data)
    assert over.status == "hidden"
    assert "already_covered" not in over.extra


def test_a_new_plate_beside_a_worn_cover_is_covered_and_the_cover_left() -> None:
    rgb = np.concatenate([with_plate(car(140), QUAD, "WOB ZK 295")] * 2)
    below = QUAD + [0, rgb.shape[0] // 2]
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), 88, colorsubsampling="420")
    first = hider("light").hide(bytes(data))
    assert first.data is not None
    second = hider("light", QUAD, below).hide(first.data)
    assert second.status == "hidden"
    assert second.extra["already_covered"] == 1
    assert len(second.plates) == 1
    assert np.abs(second.plates[0].quad - below).max() < 1
    assert second.data is not None
    old = simplejpeg.decode_jpeg(first.data)[: rgb.shape[0] // 2 - 16]
    new = simplejpeg.decode_jpeg(second.data)[: rgb.shape[0] // 2 - 16]
    assert np.array_equal(old, new)
    assert hider("light", QUAD, below).hide(second.data).data == second.data


@NAMES
@pytest.mark.parametrize("shift", [-0.3, 0.3])
def test_a_plate_that_sticks_out_of_an_old_cover_is_covered(name: str, shift: float) -> None:
    aside = QUAD + shift * (QUAD[1] - QUAD[0])
    first = hider(name, aside).hide(photo())
    assert first.data is not None
    second = hider(name).hide(first.data)
    assert second.status == "hidden"
    assert len(second.plates) == 1
