"""What is not a photo, or too much of one, is refused with a code and a sentence."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
import simplejpeg
from formats_torture import OTHERS, animation, encode, plain_jpeg, scene

from platehide.errors import ImageError, UsageError
from platehide.formats import open_photo
from platehide.formats.sniff import sniff
from platehide.image_io import WriteOptions
from platehide.jpeg import AVAILABLE, DamagedScanError, JpegEditor, NotEditableError
from platehide.metadata.png_chunks import SIGNATURE, png_chunk


def code_of(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        photo = open_photo(data, **options)
        photo.frames[0].overview(32)
        photo.write([], WriteOptions())
    assert str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, world, this is text", "not_an_image"),
        (bytes(1000), "not_an_image"),
        (b"%PDF-1.7 and more of it", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\x89PNG", "truncated"),
        (b"GIF8", "truncated"),
        (b"RIFF", "truncated"),
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xda", "unsupported"),  # JPEG-LS
        (b"RIFF\x10\0\0\0WAVEfmt ", "not_an_image"),
        (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a", "unsupported"),
        (b"\0\0\0\x0cjP  \x0d\x0a\x87\x0a", "unsupported"),
        (b"8BPS\0\1" + bytes(40), "unsupported"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "unsupported"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "not_an_image"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0crx isom", "unsupported"),
        (b"\0\0\0\x18ftypavis\0\0\0\0avifmif1", "unsupported"),
    ],
)
def test_codes(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize("kind", ["jpeg", *OTHERS])
def test_every_kind_is_told_by_its_content(kind: str) -> None:
    data = plain_jpeg() if kind == "jpeg" else OTHERS[kind]()
    expected = kind.removeprefix("animated-").removesuffix("-lossless").replace("apng", "png")
    assert sniff(data) == expected
    media_type = f"image/{expected}"
    assert open_photo(data).media_type == media_type


@pytest.mark.parametrize("kind", ["jpeg", *OTHERS])
def test_truncated_files_are_refused(kind: str) -> None:
    data = plain_jpeg() if kind == "jpeg" else OTHERS[kind]()
    whole = len(data)
    # the torture files end in a tail that may be cut
    tail = {
        "png": 2000,
        "webp": 6000,
        "webp-lossless": 6000,
        "gif": 6000,
        "tiff": 6000,
        "bmp": 9000,
    }
    end = whole - tail.get(kind, 1)
    for cut in sorted({*range(1, 60, 3), *range(60, max(end, 61), max(1, end // 60))}):
        if cut >= whole or cut >= end:
            continue
        assert code_of(data[:cut]) in {"truncated", "corrupt", "not_an_image"}


def bomb_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return SIGNATURE + body + png_chunk(b"IEND", b"")


@pytest.mark.skipif(not AVAILABLE, reason="needs the compiled part")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}])
def test_damage_that_decoders_pass_over_in_silence_is_refused(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(-20, 21, (120, 160, 3))
    noisy = np.clip(scene(width=160, height=120) + noise, 0, 255).astype(np.uint8)
    jpeg = encode(noisy, "JPEG", quality=90, **options)
    start = jpeg.index(b"\xff\xda") + 14
    refused = silent = 0
    for at in range(start, len(jpeg) - 2, 49):
        damaged = bytearray(jpeg)
        damaged[at] ^= 1 << at % 8
        data = bytes(damaged)
        try:
            JpegEditor(data).check()
        except DamagedScanError:
            refused += 1
        except (NotEditableError, ImageError):
            continue
        else:
            continue
        try:
            simplejpeg.decode_jpeg(data)
            silent += 1
        except ValueError:
            pass
        assert code_of(data) in ("corrupt", "truncated"), at
    assert refused > 5
    assert silent or options  # or the test shows nothing


def test_declared_size_is_refused_before_decoding() -> None:
    assert code_of(bomb_png(60000, 60000)) == "too_large"
    for kind, make in OTHERS.items():
        frames = 3 if kind.startswith(("animated", "apng")) else 1
        assert code_of(make(), max_pixels=96 * 64 * frames - 1) == "too_large"
        assert open_photo(make(), max_pixels=96 * 64 * frames)
    assert code_of(plain_jpeg(), max_pixels=96 * 64 - 1) == "too_large"
    bmp = bytearray(encode(scene(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 50000, -50000)
    assert code_of(bytes(bmp)) == "too_large"


def test_a_small_picture_that_claims_to_be_large_is_truncated() -> None:
    assert code_of(bomb_png(9000, 9000)) == "truncated"


def test_a_zlib_bomb_in_a_profile_is_not_inflated() -> None:
    data = encode(scene(), "PNG")
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 26), 9))
    at = data.index(b"IDAT") - 4
    finished = open_photo(data[:at] + bomb + data[at:]).write([], WriteOptions())
    assert "icc.damaged" in finished.removed


def test_an_animation_counts_every_frame() -> None:
    data = animation("GIF", 4)
    assert code_of(data, max_pixels=96 * 64 * 4 - 1) == "too_large"
    assert len(open_photo(data, max_pixels=96 * 64 * 4).frames) == 4


def test_unknown_policy_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="keep_metadata"):
        WriteOptions(keep_metadata="everything")  # type: ignore[arg-type]
