from __future__ import annotations

import cv2
import numpy as np
import pytest

from platehide.cover import Cover, CoverOptions, load_cover
from platehide.cover.layout import flat_plate
from platehide.cover.lettering import letter
from platehide.errors import UsageError

OURS = load_cover(None)
BLUE = (29, 95, 168)


def mark_box(flat: np.ndarray) -> tuple[int, int]:
    """Width and height of the blue mark on a flat cover."""
    near = (np.abs(flat.astype(int) - BLUE) < 40).all(axis=2)
    ys, xs = np.nonzero(near)
    return int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1


@pytest.mark.parametrize("aspect", [0.8, 1.3, 2.0, 3.1, 4.7, 6.5])
def test_the_mark_is_never_stretched(aspect: float) -> None:
    flat = flat_plate(OURS, CoverOptions(), 100 * aspect, 100).levels[0]
    # What the plate shows after the flat cover is put on an area of exactly that aspect.
    shown = cv2.resize(flat, (round(300 * aspect), 300), interpolation=cv2.INTER_AREA)
    w, h = mark_box(shown)
    assert w / h == pytest.approx(1.0, abs=0.07)
    assert h >= 50


@pytest.mark.parametrize("aspect", [1.3, 2.0, 4.7])
def test_lettering_keeps_clear_of_the_frame(aspect: float) -> None:
    flat = flat_plate(OURS, CoverOptions(), 300 * aspect, 300).levels[0]
    h, w = flat.shape[:2]
    u = min(h, w) / 220
    ring = flat[round(15 * u) : -round(15 * u), round(15 * u) : round(22 * u)]
    assert ring.min() > 200


def test_small_plates_show_the_mark_alone_and_larger() -> None:
    small = flat_plate(OURS, CoverOptions(), 30, 6.4).levels[0]
    large = flat_plate(OURS, CoverOptions(), 300, 64).levels[0]
    share_small = mark_box(small)[1] / small.shape[0]
    share_large = mark_box(large)[1] / large.shape[0]
    assert share_small > 1.05 * share_large
    right = small[:, round(0.66 * small.shape[1]) : round(0.97 * small.shape[1])]
    inner = right[round(0.1 * len(right)) : round(0.9 * len(right))]
    assert inner.min() > 200  # no lettering


def test_the_smallest_plates_are_plain() -> None:
    tiny = flat_plate(OURS, CoverOptions(), 20, 8).levels[0]
    h, w = tiny.shape[:2]
    assert tiny[h // 5 : -h // 5, w // 5 : -w // 5].min() > 235


def test_light_and_dark() -> None:
    light = flat_plate(OURS, CoverOptions(), 200, 43)
    dark = flat_plate(OURS, CoverOptions(variant="dark"), 200, 43)
    assert np.median(light.levels[0]) > 230 and light.white > 0.9
    assert np.median(dark.levels[0]) < 60 and dark.white < 0.2


def test_layouts_are_kept_and_shared_over_margins() -> None:
    first = flat_plate(OURS, CoverOptions(), 200, 43)
    assert flat_plate(OURS, CoverOptions(margin=0.2), 201, 43) is first
    with pytest.raises(ValueError, match="read-only"):
        first.levels[0][0, 0] = 0


def test_levels_halve_and_sizes_follow_each_side() -> None:
    flat = flat_plate(OURS, CoverOptions(), 400, 85)
    for above, below in zip(flat.levels, flat.levels[1:], strict=False):
        assert below.shape[0] == (above.shape[0] + 1) // 2
    assert flat.sized(100.0, 80.0).shape[:2] == (80, 100)
    assert flat.sized(1e6, 1e6).shape == flat.levels[0].shape
    assert flat.sized(0.1, 0.1).shape == (2, 2, 3)


def checker(h: int, w: int, border: tuple[int, int, int] | None) -> Cover:
    design = np.zeros((h, w, 4), np.uint8)
    if border is not None:
        design[:] = (*border, 255)
    size = min(h, w) // 2
    y, x = (h - size) // 2, (w - size) // 2
    design[y : y + size, x : x + size] = (*BLUE, 255)
    return Cover("test", design)


@pytest.mark.parametrize("aspect", [1.3, 2.0, 4.7])
def test_other_designs_keep_their_aspect_on_the_colour_of_their_border(aspect: float) -> None:
    cover = checker(200, 200, (250, 210, 30))
    flat = flat_plate(cover, CoverOptions(), 100 * aspect, 100).levels[0]
    shown = cv2.resize(flat, (round(300 * aspect), 300), interpolation=cv2.INTER_AREA)
    w, h = mark_box(shown)
    assert w / h == pytest.approx(1.0, abs=0.07)
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        np.testing.assert_allclose(shown[y, x], (250, 210, 30), atol=3)


def test_a_free_standing_logo_stands_on_a_plate() -> None:
    flat = flat_plate(checker(100, 300, None), CoverOptions(), 470, 100)
    assert flat.white > 0.9
    assert np.median(flat.levels[0]) > 230
    dark = flat_plate(checker(100, 300, None), CoverOptions(variant="dark"), 470, 100)
    assert np.median(dark.levels[0]) < 60


@pytest.mark.parametrize("aspect", [1.3, 2.0, 4.7])
@pytest.mark.parametrize("kind", ["ours", "other", "solid"])
def test_text_is_set_on_every_kind_of_cover(aspect: float, kind: str) -> None:
    cover = checker(200, 200, (250, 210, 30)) if kind == "other" else OURS
    style = "solid" if kind == "solid" else "logo"
    plain = flat_plate(cover, CoverOptions(style=style), 300 * aspect, 300).levels[0]  # type: ignore[arg-type]
    texted = flat_plate(
        cover,
        CoverOptions(style=style, text="Auto Demo"),
        300 * aspect,
        300,  # type: ignore[arg-type]
    ).levels[0]
    assert plain.shape == texted.shape
    differs = (np.abs(plain.astype(int) - texted) > 60).any(axis=2)
    assert differs.mean() > 0.01


def test_letters_fit_their_room_and_keep_their_aspect() -> None:
    art = letter("Demo", (300, 60), (10, 20, 30))
    assert art.shape[1] <= 300 and art.shape[0] <= 60
    assert art[..., 3].max() > 240
    assert (art[..., :3] == (10, 20, 30)).all()
    narrow = letter("Demo", (50, 60), (10, 20, 30))
    ratio = art.shape[1] / art.shape[0]
    assert narrow.shape[1] / narrow.shape[0] == pytest.approx(ratio, rel=0.1)


def test_characters_that_no_font_has_are_refused() -> None:
    with pytest.raises(UsageError, match="no font here"):
        letter("\ue123", (100, 20), (0, 0, 0))


def test_a_bad_font_file_is_named(tmp_path) -> None:
    path = tmp_path / "brand.ttf"
    path.write_bytes(b"not a font")
    with pytest.raises(UsageError, match=r"brand\.ttf"):
        letter("x", (100, 20), (0, 0, 0), path)


def test_a_design_of_nearly_the_plates_shape_fills_it() -> None:
    design = np.full((110, 520, 4), 255, np.uint8)
    design[..., :3] = (250, 210, 30)
    design[20:90, 40:480, :3] = BLUE
    flat = flat_plate(Cover("plate", design), CoverOptions(), 300 * 4.4, 300).levels[0]
    shown = cv2.resize(flat, (520, 110), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(mark_box(shown), (440, 70), atol=3)
