"""JPEG: what is shown, what is written, and what is refused."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
import simplejpeg
from formats_torture import (
    encode,
    exif_block,
    insert_segments,
    outside,
    patch,
    plain_jpeg,
    scene,
    segment,
)
from PIL import Image, ImageOps

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.formats.jpeg_codec import decode_rgb, encode_like, estimate_quality
from platehide.formats.orientation import (
    box_to_stored,
    displayed_size,
    patch_to_stored,
    to_displayed,
    to_stored,
)
from platehide.image_io import WriteOptions
from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.pixels import Patch

HUGE = 1 << 40


def full(data: bytes) -> np.ndarray:
    return open_photo(data).frames[0].overview(1 << 20)


def with_orientation(value: int, jpeg: bytes | None = None) -> bytes:
    block = b"Exif\0\0" + exif_block(orientation=value, full=False)
    return insert_segments(plain_jpeg() if jpeg is None else jpeg, segment(0xE1, block))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_applies_it(orientation: int) -> None:
    data = with_orientation(orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    photo = open_photo(data)
    assert photo.frames[0].size_wh == expected.shape[1::-1]
    assert np.abs(full(data).astype(int) - expected).max() <= 1
    small = photo.frames[0].overview(40)
    assert max(small.shape) >= 40
    assert (small.shape[1] > small.shape[0]) == (expected.shape[1] > expected.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_patch_lands_where_it_is_displayed(orientation: int) -> None:
    data = with_orientation(orientation, encode(scene(), "JPEG", quality=95, subsampling=0))
    photo = open_photo(data)
    width, height = photo.frames[0].size_wh
    red = Patch(7, 9, np.full((10, 30, 3), (250, 0, 0), np.uint8), np.ones((10, 30), bool))
    finished = photo.write([red], WriteOptions())
    with Image.open(io.BytesIO(finished.data)) as image:
        assert image.getexif().get(0x0112, 1) == orientation
        shown = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert shown.shape[:2] == (height, width)
    assert np.abs(shown[9:19, 7:37] - (250, 0, 0)).max() < 40
    before = full(data).astype(int)
    away = np.ones((height, width), bool)
    away[:28, :48] = False
    assert np.abs(shown - before)[away].mean() < 2


def test_orientation_functions_invert_each_other() -> None:
    stored = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for orientation in range(1, 9):
        shown = to_displayed(stored, orientation)
        assert shown.shape[1::-1] == displayed_size((7, 5), orientation)
        assert np.array_equal(to_stored(shown, orientation), stored)
        box = (1, 2, 4, 5) if shown.shape[0] >= 5 else (1, 2, 4, 4)
        x0, y0, x1, y1 = box
        sx0, sy0, sx1, sy1 = box_to_stored(box, shown.shape[1::-1], orientation)
        part = shown[y0:y1, x0:x1]
        assert np.array_equal(to_displayed(stored[sy0:sy1, sx0:sx1], orientation), part)
        moved = patch_to_stored(
            Patch(x0, y0, part, np.ones(part.shape[:2], bool), 3), shown.shape[1::-1], orientation
        )
        assert moved.box == (sx0, sy0, sx1, sy1) and moved.frame == 3
        assert np.array_equal(moved.pixels, stored[sy0:sy1, sx0:sx1])


def sampled(sampling: str) -> bytes:
    array = scene(1 if sampling == "gray" else 3, width=101, height=67)
    if sampling == "gray":
        return encode(array, "JPEG", quality=90)
    return bytes(simplejpeg.encode_jpeg(array, quality=90, colorsubsampling=sampling))


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "gray"])
def test_every_sampling_is_covered_and_keeps_its_sampling(sampling: str) -> None:
    data = sampled(sampling)
    finished = open_photo(data).write([patch()], WriteOptions())
    layout = walk_jpeg(finished.data, max_pixels=HUGE)
    assert layout.frame.sampling == sampling
    shown = full(finished.data).astype(int)
    assert shown.shape == (67, 101, 3)
    colour = np.array([250, 20, 40])
    if sampling == "gray":
        colour = np.rint(colour @ np.array([0.299, 0.587, 0.114])).repeat(3)
    assert np.abs(shown[18:32, 25:55] - colour).mean() < 8
    assert np.abs(shown - full(data).astype(int))[outside(shown.shape, 16)].mean() < 2


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "gray"])
def test_full_reencode_keeps_colour_model_tables_and_sampling(sampling: str) -> None:
    data = sampled(sampling)
    frame = walk_jpeg(data, max_pixels=HUGE).frame
    rgb = decode_rgb(data, frame).rgb
    again = encode_like(data, frame, rgb, [patch()])
    assert walk_jpeg(again, max_pixels=HUGE).frame.sampling == sampling
    with Image.open(io.BytesIO(data)) as old, Image.open(io.BytesIO(again)) as new:
        assert old.mode == new.mode
        assert list(new.quantization[0]) == list(old.quantization[0])
    assert abs(len(again) / len(data) - 1) < 0.35


def inked() -> bytes:
    rgb = Image.fromarray(scene())
    out = io.BytesIO()
    rgb.convert("CMYK").save(out, "JPEG", quality=92)
    return out.getvalue()


def rgb_stored() -> bytes:
    return encode(scene(), "JPEG", quality=92, keep_rgb=True)


def ycck() -> bytes:
    """CMYK declared as YCCK: the same components, read another way."""
    data = inked()
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\2" + data[at + 1 :]


@pytest.mark.parametrize("make", [inked, ycck, rgb_stored], ids=["cmyk", "ycck", "rgb"])
def test_other_colour_models_are_reencoded_and_stay_what_they_are(make: Any) -> None:
    data = make()
    before = full(data).astype(int)
    with Image.open(io.BytesIO(data)) as image:
        mode = image.mode
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - before).max() <= 3
    untouched = open_photo(data).write([], WriteOptions())
    assert untouched.edit == "untouched"
    assert np.array_equal(full(untouched.data), full(data))
    finished = open_photo(data).write([patch()], WriteOptions())
    shown = full(finished.data).astype(int)
    with Image.open(io.BytesIO(finished.data)) as image:
        assert image.mode == mode
    assert np.abs(shown[18:32, 25:55] - (250, 20, 40)).mean() < 6
    assert np.abs(shown - before)[outside(shown.shape, 16)].mean() < 3


@pytest.mark.parametrize("switch", ["-arithmetic", "-progressive", "-restart"])
def test_files_of_another_encoder(switch: str) -> None:
    if shutil.which("cjpeg") is None:
        pytest.skip("needs cjpeg")
    ppm = encode(scene(), "PPM")
    command = ["cjpeg", "-quality", "90", switch, *(["1"] if switch == "-restart" else [])]
    data = subprocess.run(command, input=ppm, capture_output=True, check=True).stdout
    finished = open_photo(data).write([patch()], WriteOptions())
    shown = full(finished.data).astype(int)
    assert np.abs(shown[18:32, 25:55] - (250, 20, 40)).mean() < 6
    assert not walk_jpeg(finished.data, max_pixels=HUGE).frame.arithmetic


@pytest.mark.parametrize("factors", ["3x1", "2x2,2x1,1x1", "1x1,2x1,2x1"])
def test_sampling_without_a_name_is_reencoded(factors: str) -> None:
    if shutil.which("cjpeg") is None:
        pytest.skip("needs cjpeg")
    ppm = encode(scene(), "PPM")
    command = ["cjpeg", "-quality", "90", "-sample", factors]
    data = subprocess.run(command, input=ppm, capture_output=True, check=True).stdout
    finished = open_photo(data).write([patch()], WriteOptions())
    shown = full(finished.data).astype(int)
    assert np.abs(shown[18:32, 25:55] - (250, 20, 40)).mean() < 6
    assert np.abs(shown - full(data))[outside(shown.shape, 16)].mean() < 4


def test_density_and_adobe_marker_are_kept() -> None:
    finished = open_photo(plain_jpeg(dpi=(300, 200))).write([patch()], WriteOptions())
    with Image.open(io.BytesIO(finished.data)) as image:
        assert image.info["dpi"] == (300, 200)
    finished = open_photo(inked()).write([], WriteOptions())
    assert b"Adobe" in finished.data


def test_overview_decodes_no_more_than_asked() -> None:
    array = scene(width=800, height=400)
    photo = open_photo(encode(array, "JPEG", quality=90))
    for long_side, at_most in ((90, 200), (390, 400), (401, 600), (799, 800), (5000, 800)):
        small = photo.frames[0].overview(long_side)
        assert min(long_side, 800) <= small.shape[1] <= at_most
        assert small.shape[0] * 2 == small.shape[1]
    again = photo.frames[0].overview(90)
    assert again is photo.frames[0].overview(90)
    region = photo.frames[0].region((100, 50, 180, 90))
    assert np.abs(region.astype(int) - array[50:90, 100:180]).mean() < 4
    with pytest.raises(ValueError, match="does not lie inside"):
        photo.frames[0].region((0, 0, 801, 10))


@pytest.mark.parametrize("quality", [5, 10, 30, 50, 75, 90, 95, 100])
def test_quality_is_estimated(quality: int) -> None:
    data = plain_jpeg(quality=quality)
    with Image.open(io.BytesIO(data)) as image:
        assert abs(estimate_quality(image.quantization[0]) - quality) <= 1


def attempt(data: bytes) -> None:
    photo = open_photo(data)
    photo.frames[0].overview(20)
    photo.write([], WriteOptions())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_truncated_anywhere_is_refused(options: dict[str, Any]) -> None:
    data = plain_jpeg(**options)
    layout = walk_jpeg(data, max_pixels=HUGE)
    cuts = {n for s in layout.segments for n in range(s.start, s.start + 5)}
    cuts |= {s.end for s in layout.segments} | set(range(2, len(data), 37))
    for cut in sorted(cuts - {0, len(data)}):
        with pytest.raises(ImageError) as caught:
            attempt(data[:cut])
        assert caught.value.code == "truncated"


def test_truncated_picture_data_with_an_end_marker_is_refused() -> None:
    data = plain_jpeg()
    start = data.index(b"\xff\xda") + 14
    for cut in range(start + 1, len(data) - 12, 41):
        with pytest.raises(ImageError) as caught:
            attempt(data[:cut].rstrip(b"\xff") + b"\xff\xd9")
        assert caught.value.code in {"truncated", "corrupt"}


def change(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes((value,)) + data[at + 1 :]


def test_what_is_not_supported_says_so() -> None:
    data = plain_jpeg()
    frame = data.index(b"\xff\xc0")
    for damaged, code in (
        (change(data, frame + 4, 12), "unsupported"),  # 12 bits
        (change(data, frame + 1, 0xC3), "unsupported"),  # lossless
        (change(data, frame + 1, 0xC5), "unsupported"),  # hierarchical
        (data[: frame + 5] + b"\0\0" + data[frame + 7 :], "unsupported"),  # height by DNL
        (data[: frame + 7] + b"\0\0" + data[frame + 9 :], "corrupt"),  # no width
        (data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :], "too_large"),
        (data[: frame + 5] + b"\x10\x00\x20\x00" + data[frame + 9 :], "truncated"),
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (data[:2] + b"\xff\xd3" + data[2:], "corrupt"),
    ):
        with pytest.raises(ImageError) as caught:
            attempt(damaged)
        assert caught.value.code == code


def test_a_component_drawn_twice_is_refused() -> None:
    """One decoder would show the first scan, another the last."""
    data = encode(scene(1), "JPEG", quality=90)
    scan = data[data.index(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="twice"):
        attempt(data[:-2] + scan + b"\xff\xd9")


def test_thousands_of_scans_are_refused() -> None:
    data = plain_jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError) as caught:
        attempt(data[:-2] + data[last:-2] * 2000 + b"\xff\xd9")
    assert caught.value.code in {"unsupported", "corrupt"}
