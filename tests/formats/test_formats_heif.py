"""HEIC and AVIF come back as JPEG, upright, with profile and policy applied."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats_torture import ICC, encode, exif_block, finds_secret, outside, patch, scene
from PIL import Image, features

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.formats.orientation import to_displayed
from platehide.image_io import WriteOptions
from platehide.metadata.avif_boxes import describe_avif

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="needs a Pillow with AVIF")


def heic(folder: Path, *pictures: Image.Image) -> bytes:
    if shutil.which("heif-enc") is None:
        pytest.skip("needs heif-enc")
    pytest.importorskip("pi_heif", reason="needs the extra heif")
    names = []
    for index, picture in enumerate(pictures):
        names.append(str(folder / f"{index}.png"))
        picture.save(names[-1], icc_profile=ICC)
    out = folder / "photo.heic"
    command = ["heif-enc", "-q", "95", "-p", "chroma=444", *names, "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes()


def test_heic_comes_back_as_jpeg(tmp_path: Path) -> None:
    data = heic(tmp_path, Image.fromarray(scene()))
    photo = open_photo(data)
    assert photo.media_type == "image/heic"
    assert np.abs(photo.frames[0].overview(1).astype(int) - scene()).mean() < 6
    finished = photo.write([patch()], WriteOptions())
    assert (finished.media_type, finished.suffix, finished.edit) == (
        "image/jpeg", ".jpg", "reencoded",
    )  # fmt: skip
    with Image.open(io.BytesIO(finished.data)) as image:
        shown = np.asarray(image).astype(int)
        assert image.info["icc_profile"] == ICC
    assert np.abs(shown[18:32, 25:55] - (250, 20, 40)).mean() < 6
    away = np.abs(shown - photo.frames[0].overview(1))[outside(shown.shape, 8)]
    assert away.mean() < 3
    with pytest.raises(ImageError, match="HEIC cannot be written"):
        photo.write([], WriteOptions(keep_format=True))


def test_other_pictures_of_a_heic_are_dropped(tmp_path: Path) -> None:
    data = heic(tmp_path, Image.fromarray(scene()), Image.fromarray(scene(seed=8)))
    finished = open_photo(data).write([], WriteOptions())
    assert "heif.pictures" in finished.removed
    assert finished.data.count(b"\xff\xd8\xff") == 1


def test_truncated_heic_is_refused(tmp_path: Path) -> None:
    data = heic(tmp_path, Image.fromarray(scene()))
    for cut in range(12, len(data) - 1, len(data) // 30):
        with pytest.raises(ImageError):
            open_photo(data[:cut])
    with pytest.raises(ImageError) as caught:
        open_photo(data, max_pixels=96 * 64 - 1)
    assert caught.value.code == "too_large"


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"platehide\[heif\]") as caught:
        open_photo(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert caught.value.code == "unsupported"


@needs_avif
def test_avif_comes_back_as_jpeg_or_as_avif() -> None:
    exif = exif_block(orientation=6)
    data = encode(scene(), "AVIF", quality=90, icc_profile=ICC, exif=exif, subsampling="4:4:4")
    photo = open_photo(data)
    assert photo.frames[0].size_wh == (64, 96)
    upright = np.rot90(scene(), -1).astype(int)
    assert np.abs(photo.frames[0].overview(1) - upright).mean() < 6
    for options in (WriteOptions(), WriteOptions(keep_format=True)):
        finished = photo.write([patch()], options)
        assert finished.suffix == ("" if options.keep_format else ".jpg")
        assert {"exif", "gps"} <= set(finished.removed)
        assert not finds_secret(finished.data)
        again = open_photo(finished.data)
        assert again.media_type == finished.media_type
        assert again.frames[0].size_wh == (64, 96)
        shown = again.frames[0].overview(1 << 20).astype(int)
        assert np.abs(shown[18:32, 25:55] - (250, 20, 40)).mean() < 8
        with Image.open(io.BytesIO(finished.data)) as image:
            assert image.info["icc_profile"] == ICC
            assert image.getexif().get(0x0112, 1) == 1


@needs_avif
def test_transparent_avif_is_shown_over_white_as_it_leaves() -> None:
    array = np.dstack([scene(), np.zeros((64, 96), np.uint8)])
    photo = open_photo(encode(array, "AVIF"))
    assert (photo.frames[0].overview(1) == 255).all()


@needs_avif
def test_animated_avif_is_refused() -> None:
    pictures = [Image.fromarray(scene(seed=s)) for s in (1, 2)]
    out = io.BytesIO()
    pictures[0].save(out, "AVIF", save_all=True, append_images=pictures[1:])
    with pytest.raises(ImageError) as caught:
        open_photo(out.getvalue())
    assert caught.value.code == "unsupported"


def cropped_avif(numbers: tuple[int, ...], **options: Any) -> bytes:
    """An AVIF of the scene whose colour profile became a crop: libavif reads on past it."""
    data = bytearray(encode(scene(), "AVIF", quality=90, icc_profile=ICC, **options))
    at = data.index(b"colrprof") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    clap = b"clap" + b"".join((n % (1 << 32)).to_bytes(4, "big") for n in numbers)
    data[at + 4 : at + size] = clap.ljust(size - 4, b"\0")
    boxes = [b"ispe", b"pixi", b"av1C", b"clap"]
    number = 1 + sorted(boxes, key=data.index).index(b"clap")
    place = data.index(b"ipma") + 15
    count = data[place - 1]
    data[data.index(number, place, place + count)] |= 0x80  # must be known to a reader
    return bytes(data)


@needs_avif
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_an_avif_cuts_off_is_not_shown(orientation: int) -> None:
    """x 10…49, y 20…51 of 96×64, by its centre as the format says it."""
    numbers = (40, 1, 32, 1, 30 - 48, 1, 36 - 32, 1)
    exif = exif_block(orientation=orientation)
    data = cropped_avif(numbers, subsampling="4:4:4", exif=exif)
    shown = open_photo(data).frames[0].overview(1).astype(int)
    expected = to_displayed(scene()[20:52, 10:50], orientation)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6


@needs_avif
@pytest.mark.parametrize(
    "numbers",
    [
        (41, 1, 32, 1, 0, 1, 0, 1),
        (40, 1, 32, 1, 29, 1, 0, 1),
        (40, 0, 32, 1, 0, 1, 0, 1),
        (80, 2, 32, 1, 1, 3, 0, 1),
        (0, 1, 32, 1, 0, 1, 0, 1),
    ],
)
def test_a_crop_that_does_not_add_up_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ImageError) as caught:
        open_photo(cropped_avif(numbers))
    assert caught.value.code in ("unsupported", "corrupt")


@needs_avif
def test_an_avif_that_is_cut_is_truncated() -> None:
    data = encode(scene(), "AVIF")
    for end in range(20, len(data), 40):
        with pytest.raises(ImageError) as caught:
            open_photo(data[:end])
        assert caught.value.code == "truncated"


@needs_avif
def test_the_walk_through_the_boxes_never_raises() -> None:
    rng = np.random.default_rng(6)
    data = cropped_avif((40, 1, 32, 1, 0, 1, 0, 1))
    head = data.index(b"mdat")
    assert describe_avif(data, (96, 64)) == ((28, 16, 68, 48), False)
    for _ in range(2000):
        mutant = np.frombuffer(data[: head + 40], np.uint8).copy()
        places = rng.integers(0, len(mutant), rng.integers(1, 5))
        mutant[places] = rng.integers(0, 256, len(places))
        with contextlib.suppress(ImageError):
            describe_avif(mutant.tobytes()[: int(rng.integers(1, len(mutant)))], (96, 64))
