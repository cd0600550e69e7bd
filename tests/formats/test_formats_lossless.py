"""PNG, WebP, GIF, TIFF, BMP: samples outside a patch are identical, profiles and depth survive."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from formats_torture import (
    ICC,
    SECRET_JPEG,
    animation,
    encode,
    exif_block,
    finds_secret,
    outside,
    patch,
    riff_chunk,
    scene,
)
from PIL import Image, ImageOps

from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.formats.orientation import to_displayed
from platehide.formats.raster import painted, rgb8
from platehide.formats.tiff_photo import write_tiff
from platehide.image_io import WriteOptions
from platehide.metadata.exif import Exif, TiffReader
from platehide.metadata.gif_blocks import lzw_state, walk_gif
from platehide.metadata.png_chunks import SIGNATURE, png_chunk, walk_png
from platehide.metadata.tiff_pages import PLANAR, TiffPage
from platehide.metadata.webp_riff import estimate_quality, walk_webp
from platehide.pixels import Patch

HUGE = 1 << 40
COLOUR = (250, 20, 40)


def by_opencv(data: bytes) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert array is not None
    return array if array.ndim == 3 else array[:, :, None]


def by_pillow(data: bytes, frame: int = 0) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.seek(frame)
        return np.asarray(image.convert("RGBA"))


def deep(channels: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 65536, (64, 96, channels), dtype=np.uint16)


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (64, 96, channels), dtype=np.uint8)


def mode(name: str) -> Image.Image:
    return Image.fromarray(noise(4)).convert(name)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "png-rgb": lambda: saved(mode("RGB"), "PNG"),
    "png-rgba": lambda: saved(mode("RGBA"), "PNG"),
    "png-grey": lambda: saved(mode("L"), "PNG"),
    "png-grey-alpha": lambda: saved(mode("LA"), "PNG"),
    "png-bilevel": lambda: saved(mode("1"), "PNG"),
    "png-palette": lambda: saved(mode("P"), "PNG"),
    "png-palette-4-bits": lambda: saved(mode("RGB").quantize(12), "PNG", bits=4),
    "png-palette-alpha": lambda: saved(mode("P"), "PNG", transparency=bytes(range(0, 250, 5))),
    "png-colour-key": lambda: saved(mode("L"), "PNG", transparency=200),
    "png-bilevel-key": lambda: saved(mode("1"), "PNG", transparency=255),
    "webp-lossless": lambda: saved(mode("RGB"), "WEBP", lossless=True),
    "webp-lossless-alpha": lambda: saved(mode("RGBA"), "WEBP", lossless=True, exact=True),
    "gif": lambda: saved(mode("P"), "GIF"),
    "gif-interlaced": lambda: saved(mode("RGB").quantize(64), "GIF", interlace=1),
    "gif-transparent": lambda: saved(mode("P"), "GIF", transparency=7),
    "tiff-rgb": lambda: saved(mode("RGB"), "TIFF"),
    "tiff-rgba-lzw": lambda: saved(mode("RGBA"), "TIFF", compression="tiff_lzw"),
    "tiff-grey": lambda: saved(mode("L"), "TIFF", compression="packbits"),
    "tiff-bilevel": lambda: saved(mode("1"), "TIFF", compression="group4"),
    "tiff-palette": lambda: saved(mode("P"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": lambda: encode(scene(), "TIFF", compression="jpeg"),
    "bmp-rgb": lambda: saved(mode("RGB"), "BMP"),
    "bmp-grey": lambda: saved(mode("L"), "BMP"),
    "bmp-palette": lambda: saved(mode("P"), "BMP"),
    "bmp-bilevel": lambda: saved(mode("1"), "BMP"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_only_the_patch_changes(kind: str) -> None:
    data = PICTURES[kind]()
    photo = open_photo(data)
    before = by_pillow(data)
    untouched = photo.write([], WriteOptions())
    assert untouched.edit == "untouched"
    assert np.array_equal(by_pillow(untouched.data), before)
    finished = photo.write([patch()], WriteOptions())
    assert finished.edit == "lossless"
    assert finished.media_type == photo.media_type
    assert finished.suffix == ""
    after = by_pillow(finished.data)
    kept = outside(after.shape)
    seen = before[:, :, 3] > 0
    assert np.array_equal(after[kept & seen], before[kept & seen])
    assert np.array_equal(after[:, :, 3][kept], before[:, :, 3][kept])
    assert (after[:, :, 3][~kept] == 255).all()
    colour = np.array(COLOUR)
    if {"grey", "bilevel", "colour"} & set(kind.split("-")):
        colour = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(int).repeat(3)
    assert np.abs(after[:, :, :3][~kept].astype(int) - colour).max() <= (60 if "gif" in kind else 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_survive(suffix: str, channels: int) -> None:
    array = deep(channels)
    data = cv2.imencode(suffix, array)[1].tobytes()
    photo = open_photo(data)
    shown = photo.frames[0].overview(1)
    bgr = array[:, :, :3] if channels >= 3 else array.repeat(3, axis=2)
    assert np.abs(shown[:, :, ::-1].astype(int) - bgr / 257).max() <= 0.51  # scaled, not clipped
    untouched = photo.write([], WriteOptions())
    assert np.array_equal(by_opencv(untouched.data), array)
    finished = photo.write([patch()], WriteOptions())
    after = by_opencv(finished.data)
    assert after.dtype == np.uint16 and after.shape == array.shape
    kept = outside(after.shape)
    assert np.array_equal(after[kept], array[kept])
    if channels >= 3:
        assert (after[20, 30, :3] == np.array(COLOUR)[::-1] * 257).all()
    if channels == 4:
        assert (after[~kept][:, 3] == 65535).all()


def test_sixteen_bit_grey_with_alpha() -> None:
    array = deep(2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", 96, 64, 16, 4, 0, 0, 0)
    profile = png_chunk(b"iCCP", b"grey\0\0" + zlib.compress(ICC))
    body = png_chunk(b"IHDR", header) + profile + png_chunk(b"IDAT", zlib.compress(rows))
    data = SIGNATURE + body + png_chunk(b"IEND", b"")
    finished = open_photo(data).write([patch()], WriteOptions())
    after = by_opencv(finished.data)
    kept = outside(after.shape)
    assert after.dtype == np.uint16
    assert np.array_equal(after[kept][:, [0, 3]], array[kept])
    layout = walk_png(finished.data, max_pixels=HUGE)
    assert (layout.header.colour, layout.header.depth) == (4, 16)  # grey, so its profile fits
    assert layout.icc == ICC
    assert len(set(after[20, 30, :3])) == 1 and after[20, 30, 3] == 65535


def test_interlaced_png() -> None:
    """Adam7 with every pass in filter 0, made by hand."""
    array = noise(3)
    passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
              (0, 1, 1, 2))  # fmt: skip
    rows = b"".join(b"\0" + row.tobytes() for x, dx, y, dy in passes for row in array[y::dy, x::dx])
    header = struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 1)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows))
    data = SIGNATURE + body + png_chunk(b"IEND", b"")
    photo = open_photo(data)
    assert np.array_equal(photo.frames[0].overview(1), array)
    assert photo.write([], WriteOptions()).edit == "untouched"
    after = by_pillow(photo.write([patch()], WriteOptions()).data)
    kept = outside(after.shape)
    assert np.array_equal(after[kept][:, :3], array[kept])


def test_compressed_data_is_copied_bit_by_bit_where_nothing_is_covered() -> None:
    png, webp, gif = (PICTURES[k]() for k in ("png-rgba", "webp-lossless", "gif"))
    lossy = saved(mode("RGB"), "WEBP")
    for data, chunk in ((png, b"IDAT"), (webp, b"VP8L"), (lossy, b"VP8 "), (gif, b"\x2c\0\0\0\0")):
        finished = open_photo(data).write([], WriteOptions())
        assert data[data.index(chunk) : -12] in finished.data


def test_lossy_webp_is_reencoded_at_its_own_quality() -> None:
    for quality in (30, 60, 80, 95):
        data = encode(scene(), "WEBP", quality=quality)
        assert -3 <= estimate_quality(walk_webp(data, max_pixels=HUGE).images) - quality <= 15
        photo = open_photo(data)
        finished = photo.write([patch()], WriteOptions())
        assert finished.edit == "reencoded"
        assert abs(len(finished.data) / len(data) - 1) < 0.4
        after = open_photo(finished.data).frames[0].overview(1).astype(int)
        difference = np.abs(after - photo.frames[0].overview(1))
        assert difference[outside(after.shape, 8)].mean() < 6
        assert np.abs(after[20:30, 30:50] - COLOUR).mean() < 12


@pytest.mark.parametrize("kind", ["APNG", "WEBP", "GIF"])
@pytest.mark.parametrize("options", [{}, {"lossless": True}], ids=["default", "lossless"])
def test_every_frame_of_an_animation(kind: str, options: dict[str, Any]) -> None:
    data = animation(kind, 4, **(options if kind == "WEBP" else {}))
    photo = open_photo(data)
    assert len(photo.frames) == 4
    shown = [frame.overview(1).astype(int) for frame in photo.frames]
    for index, array in enumerate(shown):
        assert np.abs(array - by_pillow(data, index)[:, :, :3]).max() <= 1
    untouched = photo.write([], WriteOptions())
    assert untouched.edit == "untouched"
    finished = photo.write([patch(1), patch(2, (20, 20, 230))], WriteOptions())
    lossy = kind == "WEBP" and not options
    assert finished.edit == ("reencoded" if lossy else "lossless")
    again = open_photo(finished.data)
    assert len(again.frames) == 4
    for index, frame in enumerate(again.frames):
        after = frame.overview(1).astype(int)
        kept = outside(after.shape, 8 if lossy else 0) | (index not in (1, 2))
        assert np.abs(after - shown[index])[kept].max() <= (90 if lossy else 0)
        if index in (1, 2):
            colour = np.array(COLOUR if index == 1 else (20, 20, 230))
            assert np.abs(after[20:30, 30:50] - colour).mean() < 30
    with Image.open(io.BytesIO(data)) as old, Image.open(io.BytesIO(finished.data)) as new:
        assert old.info["loop"] == new.info["loop"]
        for index in range(4):
            old.seek(index)
            new.seek(index)
            old.load()
            new.load()
            assert old.info["duration"] == new.info["duration"]


def test_apng_with_a_hidden_still_picture_shows_it_to_the_detector() -> None:
    data = animation("APNG", 4, default_image=True)
    photo = open_photo(data)
    assert len(photo.frames) == 4
    finished = photo.write([patch(0)], WriteOptions())
    after = by_pillow(finished.data)
    assert (after[20, 30, :3] == COLOUR).all()


@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("dispose", [0, 1, 2])
def test_apng_compositing(dispose: int, blend: int) -> None:
    frames = [np.zeros((64, 96, 4), np.uint8) for _ in range(3)]
    frames[0][:] = (10, 200, 30, 255)
    frames[1][10:30, 10:40] = (250, 0, 0, 255)
    frames[2][20:50, 30:60] = (0, 0, 250, 255)
    out = io.BytesIO()
    pictures = [Image.fromarray(f) for f in frames]
    pictures[0].save(
        out, "PNG", save_all=True, append_images=pictures[1:], disposal=dispose, blend=blend,
        duration=50,
    )  # fmt: skip
    photo = open_photo(out.getvalue())
    for index, frame in enumerate(photo.frames):
        expected = by_pillow(out.getvalue(), index)
        visible = expected[:, :, 3] > 0
        assert np.array_equal(frame.overview(1)[visible], expected[:, :, :3][visible])


def hidden_under_transparency(kind: str) -> bytes:
    """An animation whose second frame holds a picture nobody sees."""
    first, second = Image.fromarray(scene(4)), noise(4)
    second[:, :, 3] = 0
    second[0, 0, 3] = 255
    first.putalpha(255)
    out = io.BytesIO()
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {"blend": 1}
    first.save(
        out, "PNG" if kind == "APNG" else kind, save_all=True, duration=50,
        append_images=[Image.fromarray(second)], **options,
    )  # fmt: skip
    return out.getvalue()


def test_colour_under_transparent_pixels_of_a_still_picture_is_looked_at() -> None:
    array = noise(4)
    array[:, :, 3] = 0
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        photo = open_photo(saved(Image.fromarray(array), kind, **options))
        assert np.array_equal(photo.frames[0].overview(1), array[:, :, :3])
        after = by_opencv(photo.write([patch()], WriteOptions()).data)
        assert (after[20, 30] == (*COLOUR[::-1], 255)).all()


def test_colour_under_transparent_pixels_of_an_animation_is_dropped() -> None:
    data = hidden_under_transparency("APNG")
    streams = walk_png(open_photo(data).write([], WriteOptions()).data, max_pixels=HUGE).streams
    raw = zlib.decompress(streams[1].data)
    secret = noise(4)[30, :, :3].tobytes()
    assert len(raw) < 64 * 96
    assert secret[:30] not in raw


def test_data_behind_the_last_pixel_is_dropped() -> None:
    png = PICTURES["png-rgb"]()
    rows = zlib.decompress(walk_png(png, max_pixels=HUGE).streams[0].data)
    for stream in (zlib.compress(rows + b"HIDDEN" * 50), zlib.compress(rows) + b"HIDDEN" * 50):
        header = png[:33]
        data = header + png_chunk(b"IDAT", stream) + png_chunk(b"IEND", b"")
        finished = open_photo(data).write([], WriteOptions())
        assert zlib.decompress(walk_png(finished.data, max_pixels=HUGE).streams[0].data)
        inflated = zlib.decompressobj()
        assert b"HIDDEN" not in inflated.decompress(
            walk_png(finished.data, max_pixels=HUGE).streams[0].data
        )
        assert not inflated.unused_data
        assert np.array_equal(by_pillow(finished.data), by_pillow(png))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_picture_behind_the_last_pixel_of_a_webp_is_dropped(lossless: bool) -> None:
    data = encode(scene(), "WEBP", lossless=lossless)
    kind, coded = data[12:16], data[20:] + SECRET_JPEG
    body = b"WEBP" + riff_chunk(kind, coded)
    hidden = b"RIFF" + struct.pack("<I", len(body)) + body
    finished = open_photo(hidden).write([], WriteOptions())
    assert not finds_secret(finished.data)
    assert finished.edit == ("untouched" if lossless else "reencoded")


@pytest.mark.parametrize("colours", [2, 16, 100, 256])
def test_gif_data_is_measured_exactly(colours: int) -> None:
    image = walk_gif(saved(mode("RGB").quantize(colours), "GIF"), max_pixels=HUGE).images[0]
    assert lzw_state(image) == (True, True)
    longer = type(image)(**{**vars(image), "data": image.data + b"HIDDEN" * 3})
    assert lzw_state(longer) == (True, False)
    shorter = type(image)(**{**vars(image), "data": image.data[: len(image.data) // 2]})
    assert lzw_state(shorter) == (False, False)


def test_gif_of_nothing_but_clear_codes_is_refused_quickly() -> None:
    image = walk_gif(saved(mode("L"), "GIF"), max_pixels=HUGE).images[0]
    clears = "100000000" * 400_000  # 9-bit clear codes, least significant bit first
    data = np.packbits(
        np.frombuffer(clears[::1].encode(), np.uint8).reshape(-1, 9)[:, ::-1].reshape(-1) - 48,
        bitorder="little",
    ).tobytes()
    with pytest.raises(ImageError, match="damaged"):
        lzw_state(type(image)(**{**vars(image), "data": data}))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_orientation_of_other_formats(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(mode("RGB"), kind, exif=exif, **options)
        if kind == "TIFF":
            data = saved(mode("RGB"), kind, tiffinfo={274: orientation})
        shown = np.asarray(ImageOps.exif_transpose(mode("RGB")))
        with Image.open(io.BytesIO(data)) as image:
            shown = np.asarray(ImageOps.exif_transpose(image))
        photo = open_photo(data)
        assert np.array_equal(photo.frames[0].overview(1), shown)
        block = Patch(3, 4, np.full((6, 9, 3), 77, np.uint8), np.ones((6, 9), bool))
        finished = photo.write([block], WriteOptions())
        with Image.open(io.BytesIO(finished.data)) as image:
            after = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        expected = shown.copy()
        expected[4:10, 3:12] = 77
        assert np.array_equal(after, expected)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_policies_of_other_formats(kind: str) -> None:
    exif = Image.Exif()
    exif.load(exif_block())
    exif[0x010F], exif[0x0110] = "Torture", "Cam 1"
    data = saved(mode("RGB"), kind.upper(), exif=exif)
    for keep, camera, place in (("none", 0, 0), ("safe", 1, 0), ("location", 1, 1)):
        options = WriteOptions(keep_metadata=keep)  # type: ignore[arg-type]
        finished = open_photo(data).write([patch()], options)
        with Image.open(io.BytesIO(finished.data)) as image:
            found = image.getexif()
            assert (found.get(0x010F) == "Torture") == bool(camera)
            assert bool(found.get_ifd(0x8825)) == bool(place)
            assert (0x9003 in found.get_ifd(0x8769)) == bool(camera)


def test_density_of_png_tiff_and_bmp_is_kept() -> None:
    for kind in ("PNG", "TIFF", "BMP"):
        data = saved(mode("RGB"), kind, dpi=(300, 300))
        finished = open_photo(data).write([patch()], WriteOptions())
        with Image.open(io.BytesIO(finished.data)) as image:
            assert np.allclose([float(v) for v in image.info["dpi"]], 300, atol=0.1)


def test_pages_of_a_tiff_are_frames_and_thumbnails_are_dropped() -> None:
    pages = [Image.fromarray(scene(3, seed=s)) for s in (1, 2, 3)]
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], icc_profile=ICC)
    photo = open_photo(out.getvalue())
    assert len(photo.frames) == 3
    finished = photo.write([patch(1)], WriteOptions())
    for index, page in enumerate(pages):
        after = by_pillow(finished.data, index)[:, :, :3]
        kept = outside(after.shape) | (index != 1)
        assert np.array_equal(after[kept], np.asarray(page)[kept])
    marked = bytearray(finished.data)
    reader = TiffReader(bytes(marked))
    _, second = reader.entries(reader.number(4, "I") or 0)
    subfile_type = next(at for tag, _, _, at in reader.entries(second)[0] if tag == 254)
    marked[subfile_type] = 1  # a reduced copy of another page
    photo = open_photo(bytes(marked))
    assert len(photo.frames) == 2
    smaller = photo.write([], WriteOptions())
    assert "tiff.thumbnail" in smaller.removed
    assert len(open_photo(smaller.data).frames) == 2
    assert len(smaller.data) < len(finished.data) * 0.8


def test_sixteen_bit_pages() -> None:
    pages = [deep(3), deep(3) // 2]
    data = cv2.imencodemulti(".tiff", pages)[1].tobytes()
    photo = open_photo(data)
    finished = photo.write([patch(1)], WriteOptions())
    _, after = cv2.imdecodemulti(np.frombuffer(finished.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(after[0], pages[0])
    kept = outside(after[1].shape)
    assert np.array_equal(after[1][kept], pages[1][kept])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_pages_are_turned_as_shallow_ones(orientation: int) -> None:
    layout = [(page_of(deep(3), orientation), deep(3))]
    photo = open_photo(write_tiff(layout, Exif(), "none"))
    shown = to_displayed(deep(3), orientation)
    assert np.array_equal(photo.frames[0].overview(1), rgb8(shown))
    finished = photo.write([patch()], WriteOptions())
    after = cv2.imdecode(np.frombuffer(finished.data, np.uint8), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    assert after.shape == shown.shape  # OpenCV turns it
    kept = outside(after.shape)
    assert np.array_equal(after[kept], shown[kept])
    assert (after[20, 30] == np.array(COLOUR) * 257).all()


def page_of(samples: np.ndarray, orientation: int = 1) -> TiffPage:
    height, width = samples.shape[:2]
    return TiffPage(0, width, height, 16, True, False, orientation, (), None)


def test_sixteen_bits_in_planes_are_refused() -> None:
    """OpenCV would read one third of the picture three times over."""
    data = bytearray(write_tiff([(page_of(deep(3)), deep(3))], Exif(), "none"))
    reader = TiffReader(bytes(data))
    entries = reader.entries(reader.number(4, "I") or 0)[0]
    planar = next(at for tag, _, _, at in entries if tag == PLANAR)
    data[planar] = 2
    with pytest.raises(ImageError) as caught:
        open_photo(bytes(data))
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_tiff_of_four_inks(orientation: int, compression: str) -> None:
    inks = noise(4)
    options = {"compression": compression, "icc_profile": ICC, "tiffinfo": {274: orientation}}
    photo = open_photo(saved(Image.fromarray(inks, "CMYK"), "TIFF", **options))
    shown = to_displayed(inks, orientation)
    colours = np.asarray(Image.fromarray(shown, "CMYK").convert("RGB"))
    assert np.array_equal(photo.frames[0].overview(1), colours)
    finished = photo.write([patch()], WriteOptions())
    assert finished.edit == "lossless"
    again = open_photo(finished.data)
    assert (again.frames[0].overview(1)[20, 30] == COLOUR).all()
    assert again.write([], WriteOptions()).data == finished.data
    with Image.open(io.BytesIO(finished.data)) as image:
        after = np.asarray(ImageOps.exif_transpose(image))
        assert (image.mode, image.info["icc_profile"]) == ("CMYK", ICC)
    kept = outside(shown.shape)
    assert np.array_equal(after[kept], shown[kept])


def test_tiff_that_cannot_be_done_right_is_refused() -> None:
    floats = Image.fromarray(scene(1)[:, :, 0].astype(np.float32))
    inks = Image.fromarray(noise(4), "CMYK")
    lab = Image.frombytes("LAB", (8, 8), bytes(192))
    for picture, options in ((floats, {}), (lab, {}), (inks, {"compression": "jpeg"})):
        data = saved(picture, "TIFF", **options)
        with pytest.raises(ImageError) as caught:
            open_photo(data)
        assert caught.value.code == "unsupported"
    raw = saved(mode("RGB"), "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    with pytest.raises(ImageError, match="raw"):
        open_photo(raw)


@pytest.mark.parametrize("name", ["1", "P", "RGB"])
def test_bmp_with_the_short_header_of_os2(name: str) -> None:
    picture = mode(name)
    data = saved(picture, "BMP")
    at, header, bits = struct.unpack_from("<I", data, 10)[0], data[14:54], data[28]
    width, height = struct.unpack_from("<ii", header, 4)
    palette = b"".join(data[i : i + 3] for i in range(54, at, 4))
    palette = palette.ljust(0 if bits > 8 else 3 << bits, b"\0")
    core = struct.pack("<IHHHH", 12, width, height, 1, bits) + palette
    short = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(core)) + core + data[at:]
    photo = open_photo(short)
    assert np.array_equal(photo.frames[0].overview(1), np.asarray(picture.convert("RGB")))
    for end in (13, 20, 25, len(short) - 1):
        with pytest.raises(ImageError) as caught:
            open_photo(short[:end])
        assert caught.value.code == "truncated"


def test_bmp_keeps_alpha_and_profile() -> None:
    from platehide.formats.bmp_photo import write_bmp

    for channels, icc in ((4, None), (3, ICC), (4, ICC), (1, ICC)):
        data = write_bmp(noise(channels), (2835, 2835), icc)
        photo = open_photo(data)
        finished = photo.write([], WriteOptions())
        assert finished.data == data
        covered = photo.write([patch()], WriteOptions()).data
        assert (icc or b"") in covered
        assert by_pillow(covered)[20, 30, 3] == 255


def test_painting_is_pure_and_opaque() -> None:
    samples = deep(4)
    before = samples.copy()
    after = painted(samples, [patch()])
    assert np.array_equal(samples, before)
    assert (after[20, 30] == np.array([*COLOUR, 255]) * 257).all()
    assert (rgb8(after)[20, 30] == COLOUR).all()


@pytest.mark.parametrize("name", ["RGB", "L"])
def test_large_tiff_pages_are_decoded_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(mode(name), "TIFF", compression="tiff_lzw")
    before = open_photo(data).write([], WriteOptions()).data
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert open_photo(data).write([], WriteOptions()).data == before
