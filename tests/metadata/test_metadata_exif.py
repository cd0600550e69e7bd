"""The EXIF reader believes nothing; the writer writes only what is named."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from platehide.metadata.exif import (
    ASCII,
    LONG,
    RATIONAL,
    SHORT,
    Entry,
    Exif,
    TiffReader,
    build_exif,
    read_exif,
)


def block(
    entries: list[tuple[int, int, int, bytes]], order: str = "<", following: int = 0
) -> bytes:
    """IFD0 at 8; values of more than four bytes behind it."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))
    out += struct.pack(order + "H", len(entries))
    tail_at = 8 + 2 + 12 * len(entries) + 4
    tail = b""
    for tag, kind, count, value in entries:
        out += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            out += value.ljust(4, b"\0")
        else:
            out += struct.pack(order + "I", tail_at + len(tail))
            tail += value
    return bytes(out) + struct.pack(order + "I", following) + tail


@pytest.mark.parametrize("garbage", [b"", b"II", b"II*\0", b"XX*\0\x08\0\0\0", bytes(100)])
def test_garbage_reads_as_nothing(garbage: bytes) -> None:
    found = read_exif(garbage)
    assert not found
    assert found.removed("none") == (frozenset({"exif"}) if garbage else frozenset())


def test_random_bytes_never_raise() -> None:
    rng = np.random.default_rng(1)
    for _ in range(3000):
        raw = b"II*\0\x08\0\0\0" + rng.bytes(int(rng.integers(0, 200)))
        found = read_exif(raw)
        assert 1 <= found.orientation <= 8
        build_exif(found.reduced("location"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stored", "expected"), [(0, 1), (1, 1), (6, 6), (8, 8), (9, 1), (65535, 1)]
)
def test_orientation(order: str, stored: int, expected: int) -> None:
    assert read_exif(
        block([(0x0112, 3, 1, struct.pack(order + "H", stored))], order)
    ).orientation == (expected)


def test_a_directory_that_points_at_itself_ends() -> None:
    found = read_exif(block([(0x8769, 4, 1, struct.pack("<I", 8))], following=8))
    assert found.others


def test_text_that_is_long_or_not_plain_is_not_kept() -> None:
    for text in (b"A" * 65 + b"\0", b"Mod\x01el\0", "Größe\0".encode(), b"\0\0\0\0\0"):
        found = read_exif(block([(0x0110, 2, len(text), text)]))
        assert found.camera == ()
        assert found.removed("safe") == frozenset({"exif"})
    fine = read_exif(block([(0x0110, 2, 8, b"Model 1\0")]))
    assert fine.camera == (Entry(0x0110, ASCII, "Model 1"),)
    assert fine.removed("safe") == frozenset()
    assert fine.removed("none") == frozenset({"exif"})


def test_a_kept_tag_of_the_wrong_type_is_dropped() -> None:
    payload = b"\xff\xd8\xff\xe0" * 20
    found = read_exif(block([(0x0132, 7, len(payload), payload), (0x010F, 1, 4, b"ABCD")]))
    assert found.camera == ()


def test_build_and_read_are_inverse() -> None:
    exif = Exif(
        orientation=7,
        camera=(Entry(0x010F, ASCII, "M"), Entry(0x0110, ASCII, "A longer model name")),
        exposure=(Entry(0x829A, RATIONAL, (1, 250)), Entry(0x8827, SHORT, (400,))),
        gps=(Entry(0x0002, RATIONAL, (48, 1, 12, 1, 3456, 100)),),
    )
    assert read_exif(build_exif(exif)) == exif
    assert build_exif(Exif()) == b""
    assert build_exif(exif.reduced("none")) == build_exif(Exif(orientation=7))


def test_built_block_is_read_by_pillow_alike() -> None:
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumbnail, "JPEG")
    exif = Exif(
        orientation=3,
        camera=(Entry(0x010F, ASCII, "Maker"),),
        exposure=(Entry(0x9003, ASCII, "2024:01:02 03:04:05"),),
        gps=(Entry(0x0001, ASCII, "N"), Entry(0x0002, RATIONAL, (48, 1, 12, 1, 0, 1))),
    )
    raw = build_exif(exif, thumbnail.getvalue())
    found = Image.Exif()
    found.load(raw)
    assert found[0x0112] == 3 and found[0x010F] == "Maker"
    assert found.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
    assert [float(v) for v in found.get_ifd(0x8825)[2]] == [48.0, 12.0, 0.0]
    reader = TiffReader(raw)
    _, second = reader.entries(8)
    small = {tag: reader.number(at, "I") for tag, _, _, at in reader.entries(second)[0]}
    start, size = small[0x0201], small[0x0202]
    assert start is not None and size is not None
    assert raw[start : start + size] == thumbnail.getvalue()


def test_reader_never_reads_outside() -> None:
    reader = TiffReader(block([(0x0100, 4, 1000, b"\xff\xff\xff\x7f")]))
    ((tag, kind, count, at),), following = reader.entries(8)
    assert (tag, kind, count, following) == (0x0100, LONG, 1000, 0)
    assert reader.numbers(kind, count, at, most=2000) == ()
    assert reader.entry(tag, kind, count, at) is None
    assert reader.number(-1, "H") is None
    assert reader.entries(0) == ([], 0)
    assert reader.entries(1 << 31) == ([], 0)
