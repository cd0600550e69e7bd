"""The walks: what they accept, refuse and rebuild, on bytes made by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from platehide.errors import ImageError
from platehide.metadata.embedded import holds_picture
from platehide.metadata.gif_blocks import walk_gif, write_gif
from platehide.metadata.icc import usable_profile, well_formed_profile
from platehide.metadata.jpeg_scrub import header_segments, picture_bytes, read_metadata
from platehide.metadata.jpeg_walk import walk_jpeg
from platehide.metadata.png_chunks import SIGNATURE, png_chunk, stream_state, walk_png, write_png
from platehide.metadata.tiff_pages import walk_tiff
from platehide.metadata.webp_riff import walk_webp, write_webp

HUGE = 1 << 40


def picture(kind: str, **options: object) -> bytes:
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((48, 40))
    out = io.BytesIO()
    small.save(out, kind, **options)
    return out.getvalue()


def refused(walk: Callable[..., object], data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        walk(data, max_pixels=HUGE)
    assert caught.value.code == code, caught.value


def test_jpeg_fill_bytes_are_skipped_and_not_copied() -> None:
    data = picture("JPEG")
    at = data.index(b"\xff\xdb")
    padded = data[:at] + b"\xff" * 50 + data[at:]
    layout = walk_jpeg(padded, max_pixels=HUGE)
    assert picture_bytes(padded, layout) == picture_bytes(data, walk_jpeg(data, max_pixels=HUGE))


@pytest.mark.parametrize("tail", [b"\xff" * 9, b"\xff\xd3", b"\xff\xd0\xff\xff\xd1\xff"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_fill_bytes_and_restarts_behind_a_scan_are_dropped(
    tail: bytes, progressive: bool
) -> None:
    data = picture("JPEG", progressive=progressive)
    plain = walk_jpeg(data, max_pixels=HUGE)
    ended = data
    for scan in reversed(plain.scans):
        ended = ended[: scan.end] + tail + ended[scan.end :]
    layout = walk_jpeg(ended, max_pixels=HUGE)
    assert len(ended) == len(data) + len(tail) * len(plain.scans)
    assert picture_bytes(ended, layout) == picture_bytes(data, plain)
    assert not layout.padded


@pytest.mark.parametrize(
    ("mode", "transform", "expected"),
    [("RGB", 2, 1), ("RGB", 9, 1), ("CMYK", 1, 2), ("CMYK", 0, 0), ("L", 1, 1)],
)
def test_jpeg_colour_transforms_that_are_not_defined(
    mode: str, transform: int, expected: int
) -> None:
    out = io.BytesIO()
    Image.new(mode, (16, 16)).save(out, "JPEG")
    data = out.getvalue()
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes((transform,))
    own = data.find(b"\xff\xee\0\x0eAdobe")
    data = data[:2] + marker + (data[2:] if own < 0 else data[2:own] + data[own + 16 :])
    adobe = read_metadata(data, walk_jpeg(data, max_pixels=HUGE)).adobe
    assert adobe is not None and adobe[11] == expected


def test_jpeg_padding_between_segments_is_dropped_and_named() -> None:
    data = picture("JPEG")
    at = data.index(b"\xff\xdb")
    padded = data[:at] + b"HIDDEN-PADDING" + data[at:]
    layout = walk_jpeg(padded, max_pixels=HUGE)
    assert picture_bytes(padded, layout) == picture_bytes(data, walk_jpeg(data, max_pixels=HUGE))
    assert read_metadata(padded, layout).removed("none") == ("padding",)
    refused(walk_jpeg, data[:at] + bytes(70_000) + data[at:], "corrupt")


def test_jpeg_ends_at_the_first_end_of_image() -> None:
    data = picture("JPEG")
    layout = walk_jpeg(data + data, max_pixels=HUGE)
    assert layout.end == len(data)
    assert read_metadata(data + data, layout).removed("none") == ("trailer", "trailer.jpeg")


def test_jpeg_segments_between_scans_are_dropped() -> None:
    data = picture("JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe\0\x10HIDDEN-TEXT-14"
    hidden = data[:second] + comment + data[second:]
    layout = walk_jpeg(hidden, max_pixels=HUGE)
    assert b"HIDDEN" not in picture_bytes(hidden, layout)
    assert read_metadata(hidden, layout).removed("none") == ("comment",)


def test_jpeg_tables_that_no_scan_uses_are_dropped() -> None:
    data = picture("JPEG")
    at = data.index(b"\xff\xdb")
    fake = b"\xff\xdb\0\x43\0" + b"HIDDEN-TABLE-16-" * 4
    hidden = data[:at] + fake + data[at:]
    layout = walk_jpeg(hidden, max_pixels=HUGE)
    assert b"HIDDEN" not in picture_bytes(hidden, layout)
    for table in (b"\xff\xdb\0\x43\3" + b"HIDDEN-TABLE-16-" * 4,
                  b"\xff\xc4\0\x19\x13" + b"\0\0\6" + bytes(13) + b"HIDDEN"):  # fmt: skip
        unused = data[:at] + table + data[at:]
        layout = walk_jpeg(unused, max_pixels=HUGE)
        assert b"HIDDEN" not in picture_bytes(unused, layout)
    padded = data[:at] + b"\xff\xdb\0\x44\0" + b"x" * 64 + b"\7" + data[at:]
    with pytest.raises(ImageError, match="table"):
        picture_bytes(padded, walk_jpeg(padded, max_pixels=HUGE))


def test_jpeg_thumbnail_that_does_not_fit_is_left_out() -> None:
    data = picture("JPEG")
    metadata = read_metadata(data, walk_jpeg(data, max_pixels=HUGE))
    assert b"Exif" in header_segments(metadata, thumbnail_jpeg=b"x" * 60_000)
    assert b"Exif" not in header_segments(metadata, thumbnail_jpeg=b"x" * 66_000)


def test_jpeg_profile_with_a_missing_part_is_dropped() -> None:
    data = picture("JPEG", icc_profile=bytes(200_000))
    at = data.index(b"ICC_PROFILE\0\2") - 4
    size = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
    broken = data[:at] + data[at + size :]
    metadata = read_metadata(broken, walk_jpeg(broken, max_pixels=HUGE))
    assert metadata.icc is None
    assert metadata.removed("none") == ("icc.damaged",)


def test_png_order_checksums_and_doubles() -> None:
    data = picture("PNG")
    refused(walk_png, SIGNATURE + data[33:], "corrupt")
    refused(walk_png, data[:20] + b"\x01" + data[21:], "corrupt")
    at = data.index(b"IDAT") - 4
    refused(walk_png, data[:at] + png_chunk(b"CRIT", b"x") + data[at:], "unsupported")
    refused(walk_png, data[:at] + png_chunk(b"IEND", b"") + data[at:], "truncated")
    refused(walk_png, data[: at + 4], "truncated")
    parts = data[:-12] + png_chunk(b"tEXt", b"a\0b") + png_chunk(b"IDAT", b"x") + data[-12:]
    refused(walk_png, parts, "corrupt")


def test_png_is_written_as_it_was_read() -> None:
    for options in ({}, {"icc_profile": b"profile" * 30}, {"dpi": (300, 300)}):
        data = picture("PNG", **options)
        layout = walk_png(data, max_pixels=HUGE)
        again = walk_png(write_png(layout, keep="none"), max_pixels=HUGE)
        assert again == layout


def test_png_stream_state() -> None:
    raw = bytes(1000)
    whole = zlib.compress(raw)
    assert stream_state(whole, 1000) == (True, True)
    assert stream_state(whole, 999) == (True, False)
    assert stream_state(whole, 1001) == (False, False)
    assert stream_state(whole + b"x", 1000) == (True, False)
    assert stream_state(zlib.compress(bytes(1 << 26)), 1000) == (True, False)
    with pytest.raises(ImageError):
        stream_state(b"garbage", 10)


def apng() -> bytes:
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    out = io.BytesIO()
    pictures[0].save(out, "PNG", save_all=True, append_images=pictures[1:], duration=40)
    return out.getvalue()


def test_apng_numbers_must_add_up() -> None:
    data = apng()
    at = data.index(b"acTL")
    more = png_chunk(b"acTL", struct.pack(">II", 4, 0))
    refused(walk_png, data[: at - 4] + more + data[at + 16 :], "corrupt")
    at = data.rindex(b"fcTL")
    content = bytearray(data[at + 4 : at + 30])
    content[0:4] = struct.pack(">I", 77)
    swapped = data[: at - 4] + png_chunk(b"fcTL", bytes(content)) + data[at + 34 :]
    refused(walk_png, swapped, "corrupt")
    content = bytearray(data[at + 4 : at + 30])
    content[4:8] = struct.pack(">I", 9)
    wide = data[: at - 4] + png_chunk(b"fcTL", bytes(content)) + data[at + 34 :]
    refused(walk_png, wide, "corrupt")


def test_frames_without_an_animation_header_are_dropped() -> None:
    data = apng()
    at = data.index(b"acTL")
    still = data[: at - 4] + data[at + 16 :]
    layout = walk_png(still, max_pixels=HUGE)
    assert layout.plays is None and len(layout.streams) == 1
    assert "png.animation" in layout.removed("none")
    assert b"fdAT" not in write_png(layout, keep="none")


def test_webp_sizes_must_agree() -> None:
    data = picture("WEBP", icc_profile=b"profile" * 30)
    layout = walk_webp(data, max_pixels=HUGE)
    assert walk_webp(write_webp(layout, keep="none"), max_pixels=HUGE) == layout
    at = data.index(b"VP8X") + 12
    refused(walk_webp, data[:at] + b"\1" + data[at + 1 :], "corrupt")
    refused(walk_webp, data[:-10], "truncated")
    assert walk_webp(data + b"tail", max_pixels=HUGE).removed("none") == ("trailer",)


def test_gif_is_written_as_it_was_read() -> None:
    data = picture("GIF")
    layout = walk_gif(data, max_pixels=HUGE)
    assert walk_gif(write_gif(layout), max_pixels=HUGE) == layout
    at = data.index(b"\x2c\0\0\0\0") + 1
    refused(walk_gif, data[:at] + b"\1" + data[at + 1 :], "unsupported")
    refused(walk_gif, data[:-1], "truncated")
    refused(walk_gif, data[: 13 + 768] + b"\x99" + data[13 + 768 :], "corrupt")


def test_tiff_directories_in_a_circle_are_refused() -> None:
    data = bytearray(picture("TIFF"))
    first = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[first : first + 2])[0]
    following = first + 2 + 12 * count
    data[following : following + 4] = struct.pack("<I", first)
    refused(walk_tiff, bytes(data), "corrupt")
    refused(walk_tiff, bytes(data[:6]), "truncated")


def test_profiles() -> None:
    assert usable_profile(b"anything")
    assert not usable_profile(b"")
    assert not usable_profile(b"x" * 100 + picture("JPEG"))
    assert usable_profile(b"x" * 100 + b"\xff\xd8\xff\xe0" + b"x" * 100)  # chance
    assert not usable_profile(bytes(9 << 20))
    proper = struct.pack(">I", 132) + bytes(32) + b"acsp" + bytes(92)
    assert well_formed_profile(proper)
    assert not well_formed_profile(proper + b"\0")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_embedded_pictures_are_recognised(kind: str) -> None:
    assert holds_picture(b"abc" + picture(kind) + b"abc")
    assert holds_picture(picture(kind))


def test_random_bytes_hold_no_picture() -> None:
    rng = np.random.default_rng(3)
    assert not any(holds_picture(rng.bytes(1 << 20)) for _ in range(8))
    assert not any(holds_picture(b"\xff\xd8\xff\xe0" + rng.bytes(64)) for _ in range(300))
