"""Hostile photos, built from nothing: a harmless primary picture, secrets in every other place.

The secret is a small picture of its own (``SECRET_JPEG``) and a long text (``SECRET_TEXT``).
Neither may be found in a finished file, by any tool.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from platehide.metadata.png_chunks import png_chunk
from platehide.pixels import Patch

WIDTH, HEIGHT = 96, 64
SECRET_TEXT = b"SECRET-PLATE-KA01XY1234-" * 4
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(channels: int = 3, seed: int = 5, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth picture ``(H, W, C)``, so that lossy formats stay close."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 226, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    big = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return big.reshape(height, width, channels)


def encode(array: np.ndarray, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    Image.fromarray(flat).save(out, kind, **options)
    return out.getvalue()


def plain_jpeg(**options: Any) -> bytes:
    return encode(scene(), "JPEG", **({"quality": 90} | options))


def patch(frame: int = 0, colour: tuple[int, int, int] = (250, 20, 40)) -> Patch:
    """Covers x 20…59, y 15…34 with one colour."""
    pixels = np.empty((20, 40, 3), np.uint8)
    pixels[:] = colour
    return Patch(20, 15, pixels, np.ones((20, 40), np.bool_), frame)


def outside(shape: tuple[int, ...], grow: int = 0) -> np.ndarray:
    """True away from :func:`patch`."""
    mask = np.ones(shape[:2], np.bool_)
    mask[max(15 - grow, 0) : 35 + grow, max(20 - grow, 0) : 60 + grow] = False
    return mask


def _secret_jpeg() -> bytes:
    rng = np.random.default_rng(99)
    noisy = rng.integers(0, 256, (24, 48, 3), dtype=np.uint8)
    return encode(noisy, "JPEG", quality=95, comment=SECRET_TEXT)


SECRET_JPEG = _secret_jpeg()
_SECRET_SCAN = SECRET_JPEG[SECRET_JPEG.rindex(b"\xff\xda") + 14 :]


def finds_secret(data: bytes) -> bool:
    """True where the text, or any 24 bytes of the secret picture's scan, are in ``data``."""
    if SECRET_TEXT[:24] in data or SECRET_TEXT[:24].decode().encode("utf-16-le") in data:
        return True
    pieces = (_SECRET_SCAN[i : i + 24] for i in range(0, len(_SECRET_SCAN) - 24, 24))
    return any(piece in data for piece in pieces)


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def insert_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """After the start of image and the JFIF segment, where there is one."""
    at = 2
    if jpeg[2:4] == b"\xff\xe0":
        at = 4 + struct.unpack(">H", jpeg[4:6])[0]
    return jpeg[:at] + b"".join(segments) + jpeg[at:]


def exif_block(*, orientation: int = 1, order: str = "<", full: bool = True) -> bytes:
    """IFD0 with camera, GPS, an Exif IFD with date and maker note, and IFD1 with a thumbnail."""
    block = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))

    def ifd(entries: list[tuple[int, int, int, bytes | int]]) -> tuple[dict[int, int], int]:
        start, places = len(block), {}
        block.extend(struct.pack(order + "H", len(entries)) + bytes(12 * len(entries) + 4))
        for i, (tag, kind, count, value) in enumerate(sorted(entries, key=lambda e: e[0])):
            at = start + 2 + 12 * i
            struct.pack_into(order + "HHI", block, at, tag, kind, count)
            places[tag] = at + 8
            if isinstance(value, int):
                struct.pack_into(order + ("H" if kind == 3 else "I"), block, at + 8, value)
            elif len(value) <= 4:
                block[at + 8 : at + 8 + len(value)] = value
            else:
                struct.pack_into(order + "I", block, at + 8, len(block))
                block.extend(value)
        return places, start + 2 + 12 * len(entries)

    if not full:
        ifd([(0x0112, 3, 1, orientation)])
        return bytes(block)
    degrees = struct.pack(order + "6I", 48, 1, 12, 1, 3456, 100)
    secret = SECRET_TEXT
    places, following = ifd(
        [
            (0x010E, 2, len(secret), secret),
            (0x010F, 2, 8, b"Torture\0"),
            (0x0110, 2, 6, b"Cam 1\0"),
            (0x0112, 3, 1, orientation),
            (0x0132, 2, 20, b"2024:05:06 07:08:09\0"),
            (0x013B, 2, len(secret), secret),
            (0x02BC, 1, len(secret), secret),
            (0x014A, 4, 1, 8),
            (0x8769, 4, 1, 0),
            (0x8825, 4, 1, 0),
        ]
    )
    struct.pack_into(order + "I", block, places[0x8769], len(block))
    maker = b"Maker\0" + SECRET_JPEG
    ifd(
        [
            (0x829A, 5, 1, struct.pack(order + "2I", 1, 250)),
            (0x9003, 2, 20, b"2024:05:06 07:08:09\0"),
            (0x927C, 7, len(maker), maker),
            (0x9286, 7, len(secret), secret),
            (0xA431, 2, len(secret), secret),
        ]
    )
    struct.pack_into(order + "I", block, places[0x8825], len(block))
    ifd(
        [
            (0x0001, 2, 2, b"N\0"),
            (0x0002, 5, 3, degrees),
            (0x0003, 2, 2, b"E\0"),
            (0x0004, 5, 3, degrees),
            (0x001B, 7, len(secret), secret),
        ]
    )
    struct.pack_into(order + "I", block, following, len(block))
    places, _ = ifd([(0x0103, 3, 1, 6), (0x0201, 4, 1, 0), (0x0202, 4, 1, len(SECRET_JPEG))])
    struct.pack_into(order + "I", block, places[0x0201], len(block))
    block.extend(SECRET_JPEG)
    return bytes(block)


def _mpf() -> bytes:
    entries = struct.pack(">IIIHH", 0x20030000, 0, 0, 0, 0) * 2
    head = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 3)
    tags = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    tags += struct.pack(">HHII", 0xB001, 4, 1, 2) + struct.pack(">HHII", 0xB002, 7, 32, 50)
    return segment(0xE2, b"MPF\0" + head + tags + bytes(4) + entries)


def _xmp(body: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + body + b"</x:xmpmeta>")


def _photoshop() -> bytes:
    thumbnail = struct.pack(">7IHH", 1, 48, 24, 144, 3456, len(SECRET_JPEG), 24, 24, 1)
    resource = thumbnail[:28] + SECRET_JPEG
    body = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(resource)) + resource
    return segment(0xED, b"Photoshop 3.0\0" + body)


def _jumbf() -> bytes:
    box = struct.pack(">I4s", 40 + len(SECRET_JPEG), b"jumb") + b"c2pa" + SECRET_TEXT + SECRET_JPEG
    return segment(0xEB, b"JP\0\1\0\0\0\1" + box)


def icc_segment(profile: bytes = ICC) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0\1\1" + profile)


_MP4 = struct.pack(">I4s4s", 24, b"ftyp", b"mp42") + bytes(12) + SECRET_TEXT + SECRET_JPEG

# name -> (segments to insert, bytes to append, names that ``removed`` must hold)
PLACES: dict[str, tuple[bytes, bytes, set[str]]] = {
    "exif": (
        segment(0xE1, b"Exif\0\0" + exif_block()),
        b"",
        {"exif", "exif.thumbnail", "exif.makernote", "gps"},
    ),
    "exif-big-endian": (
        segment(0xE1, b"Exif\0\0" + exif_block(order=">")),
        b"",
        {"exif", "exif.thumbnail", "exif.makernote", "gps"},
    ),
    "exif-twice": (
        segment(0xE1, b"Exif\0\0" + exif_block(full=False, orientation=1))
        + segment(0xE1, b"Exif\0\0" + exif_block()),
        b"",
        {"exif.thumbnail"},
    ),
    "exif-broken": (segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + SECRET_JPEG), b"", set()),
    "mpf": (_mpf(), SECRET_JPEG, {"mpf", "trailer", "trailer.jpeg"}),
    "gain-map": (
        segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + SECRET_TEXT)
        + _xmp(b'hdrgm:Version="1.0" ' + SECRET_TEXT),
        SECRET_JPEG,
        {"gainmap", "xmp", "trailer.jpeg"},
    ),
    "motion-photo": (_xmp(b"MotionPhoto " + SECRET_TEXT), _MP4, {"xmp", "trailer.video"}),
    "vendor-trailer": (b"", b"\0\0SEFH" + SECRET_JPEG + SECRET_TEXT + b"SEFT", {"trailer"}),
    "xmp-thumbnail": (_xmp(b"<xmpGImg:image>" + SECRET_TEXT), b"", {"xmp", "xmp.thumbnail"}),
    "xmp-extended": (
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + SECRET_JPEG),
        b"",
        {"xmp.extended"},
    ),
    "photoshop": (_photoshop(), b"", {"photoshop", "photoshop.thumbnail"}),
    "jfxx": (segment(0xE0, b"JFXX\0\x10" + SECRET_JPEG), b"", {"jfxx"}),
    "jfif-thumbnail": (
        segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\x08\x04" + SECRET_TEXT[:96]),
        b"",
        {"jfif.thumbnail"},
    ),
    "c2pa": (_jumbf(), b"", {"c2pa"}),
    "comment": (segment(0xFE, SECRET_TEXT), b"", {"comment"}),
    "flashpix": (segment(0xE2, b"FPXR\0" + SECRET_JPEG), b"", {"flashpix"}),
    "private": (segment(0xE4, b"QVCI\0" + SECRET_JPEG), b"", {"app4"}),
    "icc-with-picture": (icc_segment(ICC + SECRET_JPEG), b"", {"icc.damaged"}),
    "unused-table": (
        segment(0xDB, b"\0" + (SECRET_TEXT * 2)[:64]),
        b"",
        set(),
    ),
}  # fmt: skip


def tortured(name: str, jpeg: bytes | None = None) -> bytes:
    """A JPEG with the secret in place ``name``; ``all`` for every place at once."""
    jpeg = plain_jpeg() if jpeg is None else jpeg
    if name != "all":
        before, after, _ = PLACES[name]
        return insert_segments(jpeg, before) + after
    before = b"".join(p[0] for n, p in PLACES.items() if not n.startswith("icc"))
    return insert_segments(jpeg, icc_segment(), before) + b"".join(p[1] for p in PLACES.values())


def tortured_png(**options: Any) -> bytes:
    """Text, compressed text, XMP, time, C2PA, private and EXIF chunks, and a tail."""
    data = encode(scene(), "PNG", icc_profile=ICC, dpi=(300, 300), **options)
    chunks = [
        png_chunk(b"tEXt", b"Comment\0" + SECRET_TEXT),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(SECRET_TEXT, 0)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET_TEXT),
        png_chunk(b"eXIf", exif_block(orientation=6)),
        png_chunk(b"caBX", SECRET_JPEG),
        png_chunk(b"prVt", SECRET_JPEG),
        png_chunk(b"tIME", b"\x07\xe8\5\6\7\x08\x09"),
        png_chunk(b"fdAT", bytes(4) + SECRET_JPEG),
    ]
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:] + SECRET_JPEG


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def tortured_webp(**options: Any) -> bytes:
    """EXIF, XMP, an unknown chunk and a tail."""
    exif = b"Exif\0\0" + exif_block(orientation=6)
    data = encode(scene(), "WEBP", icc_profile=ICC, exif=exif, xmp=SECRET_TEXT, **options)
    body = data[8:] + riff_chunk(b"PRIV", SECRET_JPEG)
    return b"RIFF" + struct.pack("<I", len(body)) + body + SECRET_JPEG


def tortured_gif() -> bytes:
    """A comment, an application block, plain text, bytes after the last pixel and a tail."""
    data = encode(scene(), "GIF", comment=SECRET_TEXT)
    sub_blocks = bytes((len(SECRET_TEXT),)) + SECRET_TEXT + b"\0"
    blocks = b"\x21\xff\x0bXMP DataXMP" + sub_blocks + b"\x21\xff\x0bPRIVATEDATA" + sub_blocks
    at = data.index(b"\x2c", 13 + 768)
    return data[:at] + blocks + data[at:-2] + sub_blocks + b";" + SECRET_JPEG


def tortured_tiff() -> bytes:
    """Description, XMP, IPTC, Photoshop, a thumbnail page and unreferenced bytes."""
    info = {270: SECRET_TEXT.decode(), 700: SECRET_TEXT, 33723: SECRET_TEXT, 34377: SECRET_JPEG,
            271: "Torture"}  # fmt: skip
    options = {"tiffinfo": info, "icc_profile": ICC, "compression": "tiff_lzw"}
    return encode(scene(), "TIFF", **options) + SECRET_JPEG


def tortured_bmp() -> bytes:
    """A tail, far enough away that no mutation of a length makes pixels of it."""
    return encode(scene(), "BMP") + bytes(4096) + SECRET_JPEG + SECRET_TEXT


def animation(kind: str, frames: int = 3, **options: Any) -> bytes:
    pictures = []
    for index in range(frames):
        array = scene()
        array[40:50, 10 * index : 10 * index + 12] = (index * 60, 200, 30)
        pictures.append(Image.fromarray(array))
    if kind == "GIF":
        pictures = [p.quantize(128) for p in pictures]
    out = io.BytesIO()
    pictures[0].save(
        out, "PNG" if kind == "APNG" else kind, save_all=True, append_images=pictures[1:],
        duration=[100, 200, 300, 400][:frames], loop=2, **options,
    )  # fmt: skip
    return out.getvalue()


OTHERS: dict[str, Callable[[], bytes]] = {
    "png": tortured_png,
    "webp": tortured_webp,
    "webp-lossless": lambda: tortured_webp(lossless=True),
    "gif": tortured_gif,
    "tiff": tortured_tiff,
    "bmp": tortured_bmp,
    "avif": lambda: encode(
        scene(), "AVIF", exif=exif_block(orientation=6), xmp=SECRET_TEXT, icc_profile=ICC
    ),
    "apng": lambda: animation("APNG"),
    "animated-webp": lambda: animation("WEBP"),
    "animated-gif": lambda: animation("GIF"),
}
