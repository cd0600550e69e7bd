"""Nothing that is hidden in a file reaches the finished file, whoever looks."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from formats_torture import (
    ICC,
    OTHERS,
    PLACES,
    SECRET_JPEG,
    SECRET_TEXT,
    finds_secret,
    outside,
    patch,
    plain_jpeg,
    scene,
    tortured,
)
from PIL import Image, ImageSequence

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.formats.sniff import sniff
from platehide.image_io import FinishedPhoto, WriteOptions

POLICIES = [
    WriteOptions(),
    WriteOptions(keep_metadata="safe"),
    WriteOptions(keep_metadata="location"),
    WriteOptions(keep_metadata="location", thumbnail=True),
]


def finish(data: bytes, *, cover: bool, options: WriteOptions) -> FinishedPhoto:
    return open_photo(data).write([patch()] if cover else [], options)


def by_pillow(data: bytes) -> bytes:
    """Everything that Pillow can bring out beside the first picture."""
    found = []
    with Image.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        found.append(repr([exif.get_ifd(i) for i in (0x8769, 0x8825, 0xA005)]).encode())
        found.append(repr(dict(exif)).encode())
        for key, value in image.info.items():
            found.append(value if isinstance(value, bytes) else repr((key, value)).encode())
        frames = sum(1 for _ in ImageSequence.Iterator(image))
        found.append(b"frames %d" % frames)
    return b"\n".join(found)


def by_opencv(data: bytes) -> bytes:
    if not hasattr(cv2, "imdecodeWithMetadata"):  # OpenCV before 4.12 reads pixels only
        return b""
    _, _, blocks = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return b"\n".join(np.asarray(block).tobytes() for block in blocks)


def by_program(command: list[str], data: bytes) -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=False).stdout


@pytest.mark.parametrize("options", POLICIES, ids=lambda o: f"{o.keep_metadata}-{o.thumbnail}")
@pytest.mark.parametrize("cover", [False, True], ids=["none", "covered"])
@pytest.mark.parametrize("place", [*PLACES, "all"])
def test_jpeg_secrets_do_not_leave(place: str, cover: bool, options: WriteOptions) -> None:
    data = tortured(place)
    assert finds_secret(data)  # the test can fail
    finished = finish(data, cover=cover, options=options)
    assert not finds_secret(finished.data)
    assert not finds_secret(by_pillow(finished.data))
    assert not finds_secret(by_opencv(finished.data))
    expected = PLACES[place][2] if place != "all" else {"c2pa", "mpf", "exif.thumbnail"}
    dropped_anyway = expected - {"exif", "gps"} if options.keep_metadata != "none" else expected
    assert dropped_anyway <= set(finished.removed)
    pictures = finished.data.count(b"\xff\xd8\xff")
    assert pictures == 1 + int(options.thumbnail)


@pytest.mark.parametrize("cover", [False, True], ids=["none", "covered"])
@pytest.mark.parametrize("kind", OTHERS)
def test_secrets_of_other_formats_do_not_leave(kind: str, cover: bool) -> None:
    data = OTHERS[kind]()
    for options in POLICIES:
        finished = finish(data, cover=cover, options=options)
        assert not finds_secret(finished.data)
        assert not finds_secret(by_pillow(finished.data))


def test_jpegtran_brings_no_secret_out() -> None:
    if shutil.which("jpegtran") is None:
        pytest.skip("needs jpegtran")
    command = ["jpegtran", "-copy", "all"]
    data = tortured("all")
    assert finds_secret(by_program(command, data))  # it does bring them out of the original
    for cover in (False, True):
        output = by_program(command, finish(data, cover=cover, options=POLICIES[-1]).data)
        assert output.startswith(b"\xff\xd8")
        assert not finds_secret(output)


def test_exiftool_brings_no_secret_out(tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("needs exiftool")
    originals, finished = tmp_path / "originals", tmp_path / "finished"
    photos = {"jpeg": tortured("all")} | {kind: make() for kind, make in OTHERS.items()}
    for folder in (originals, finished):
        folder.mkdir()
    for kind, data in photos.items():
        (originals / f"{kind}.{sniff(data)}").write_bytes(data)
        for cover in (False, True):
            for number, options in enumerate((POLICIES[0], POLICIES[-1])):
                done = finish(data, cover=cover, options=options)
                name = f"{kind}-{cover}-{number}.{sniff(done.data)}"
                (finished / name).write_bytes(done.data)
    command = ["exiftool", "-a", "-u", "-U", "-ee3", "-b"]
    assert finds_secret(by_program([*command, str(originals)], b""))
    output = by_program([*command, str(finished)], b"")
    assert len(output) > 1000
    assert not finds_secret(output)


def test_exiftool_finds_only_what_is_allowed() -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("needs exiftool")
    finished = finish(tortured("all"), cover=True, options=WriteOptions())
    listed = by_program(["exiftool", "-G1", "-s", "-a", "-u", "-"], finished.data).decode()
    groups = {line.split("]")[0].strip("[") for line in listed.splitlines()}
    plain = {"ExifTool", "System", "File", "JFIF", "ICC_Profile", "Composite"}
    assert {g for g in groups if not g.startswith("ICC-")} <= plain
    safe = finish(tortured("all"), cover=True, options=WriteOptions(keep_metadata="safe"))
    listed = by_program(["exiftool", "-s", "-"], safe.data).decode()
    assert "DateTimeOriginal" in listed and "Torture" in listed and "GPS" not in listed
    here = finish(tortured("all"), cover=True, options=WriteOptions(keep_metadata="location"))
    listed = by_program(["exiftool", "-s", "-n", "-GPSLatitude", "-"], here.data).decode()
    assert "48.2096" in listed
    assert b"Warning" not in by_program(["exiftool", "-warning", "-a", "-"], here.data)


def test_icc_profile_is_byte_identical() -> None:
    for data in (tortured("all"), OTHERS["png"](), OTHERS["webp"](), OTHERS["tiff"]()):
        for cover in (False, True):
            finished = finish(data, cover=cover, options=WriteOptions())
            with Image.open(io.BytesIO(finished.data)) as image:
                assert image.info["icc_profile"] == ICC


def test_long_profile_survives_in_several_segments() -> None:
    profile = ICC + bytes(150_000)
    data = plain_jpeg(icc_profile=profile)
    finished = finish(data, cover=True, options=WriteOptions())
    with Image.open(io.BytesIO(finished.data)) as image:
        assert image.info["icc_profile"] == profile


def test_rebuilt_thumbnail_shows_the_cover() -> None:
    data = tortured("exif", plain_jpeg())
    finished = finish(data, cover=True, options=WriteOptions(thumbnail=True))
    at = finished.data.index(b"\xff\xd8\xff", 2)
    with Image.open(io.BytesIO(finished.data[at:])) as small:
        rgb = np.asarray(small.convert("RGB")).astype(int)
    assert max(rgb.shape) <= 160
    y, x = 25 * rgb.shape[0] // 64, 40 * rgb.shape[1] // 96
    assert np.abs(rgb[y, x] - (250, 20, 40)).max() < 20
    assert finished.data[at:].count(SECRET_JPEG) == 0


@pytest.mark.parametrize("place", [*PLACES, "all"])
def test_a_second_pass_changes_no_byte(place: str) -> None:
    once = finish(tortured(place), cover=False, options=WriteOptions())
    twice = finish(once.data, cover=False, options=WriteOptions())
    assert twice.data == once.data
    assert twice.removed == ()
    assert twice.edit == "untouched"


@pytest.mark.parametrize("kind", [k for k in OTHERS if k != "avif"])
def test_a_second_pass_changes_no_byte_of_other_formats(kind: str) -> None:
    once = finish(OTHERS[kind](), cover=False, options=WriteOptions())
    twice = finish(once.data, cover=False, options=WriteOptions())
    assert twice.data == once.data
    assert twice.removed == ()


def test_scan_data_is_bit_identical_without_a_plate() -> None:
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}):
        jpeg = plain_jpeg(**options)
        finished = finish(tortured("all", jpeg), cover=False, options=WriteOptions())
        assert finished.edit == "untouched"
        scan = jpeg[jpeg.index(b"\xff\xda") : jpeg.rindex(b"\xff\xd9") + 2]
        if "progressive" not in options:
            assert finished.data.endswith(scan)
        rgb = open_photo(finished.data).frames[0].overview(9999)
        assert np.array_equal(rgb, open_photo(jpeg).frames[0].overview(9999))


@pytest.mark.parametrize("cover", [False, True], ids=["none", "covered"])
def test_bytes_behind_the_last_block_are_padding_or_refused(cover: bool) -> None:
    jpeg = plain_jpeg()
    padded = jpeg[:-2] + bytes(500) + jpeg[-2:]
    finished = finish(padded, cover=cover, options=WriteOptions())
    assert finished.edit == "reencoded" and bytes(20) not in finished.data
    with Image.open(io.BytesIO(finished.data)) as image:
        seen = np.asarray(image).astype(int)
    kept = outside((64, 96), grow=8)
    assert np.abs(seen - scene().astype(int))[kept].mean() < 6
    with pytest.raises(ImageError, match="damaged"):
        finish(jpeg[:-2] + SECRET_TEXT + jpeg[-2:], cover=cover, options=WriteOptions())


@pytest.mark.parametrize("cover", [False, True], ids=["none", "covered"])
@pytest.mark.parametrize("options", [{"restart_marker_rows": 1}, {"progressive": True}])
def test_bytes_hidden_between_intervals_and_scans_are_dropped(
    cover: bool, options: dict[str, object]
) -> None:
    jpeg = plain_jpeg(**options)
    first = jpeg.index(b"\xff\xda") + 14
    found = re.compile(rb"\xff[\xd0-\xd7\xc4\xda]").search(jpeg, first)
    assert found is not None
    hidden = jpeg[: found.start()] + SECRET_TEXT + jpeg[found.start() :]
    try:
        finished = finish(hidden, cover=cover, options=WriteOptions())
    except ImageError as error:
        assert error.code == "corrupt"
    else:
        assert not finds_secret(finished.data)
