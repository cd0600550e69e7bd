"""Walk and scrub WebP (RFC 9649) chunk by chunk; estimate the quality of lossy pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from platehide.errors import ImageError
from platehide.image_io import KeepMetadata
from platehide.metadata.exif import Exif, build_exif, read_exif
from platehide.metadata.icc import usable_profile

_ICC, _ALPHA, _EXIF, _ANIMATED = 0x20, 0x10, 0x08, 0x02
_MAX_CHUNKS = 100_000
_NO_BLEND = 2


@dataclass(frozen=True)
class WebpImage:
    """One coded picture and its place in the animation.

    Attributes:
        kind: ``VP8 `` (lossy) or ``VP8L`` (lossless).
        alpha: content of the ALPH chunk beside a lossy picture, or empty.
        x, y: position on the canvas; 0 for a still picture.
        duration: milliseconds.
        flags: ANMF's blending and disposal bits.
    """

    kind: bytes
    data: bytes
    alpha: bytes
    width: int
    height: int
    x: int = 0
    y: int = 0
    duration: int = 0
    flags: int = 0

    @property
    def has_alpha(self) -> bool:
        """True where the picture says it has transparency."""
        return bool(self.alpha) or (self.kind == b"VP8L" and bool(self.data[4] & 0x10))


@dataclass(frozen=True)
class WebpLayout:
    """Everything of a WebP that may be kept.

    Attributes:
        animation: content of ANIM (background, loops), ``None`` for a still picture.
    """

    width: int
    height: int
    images: tuple[WebpImage, ...]
    animation: bytes | None
    icc: bytes | None
    exif: Exif
    dropped: frozenset[str]

    def removed(self, keep: KeepMetadata) -> tuple[str, ...]:
        """Sorted names of what the finished photo no longer holds."""
        return tuple(sorted(self.dropped | self.exif.removed(keep)))


def walk_webp(data: bytes, *, max_pixels: int) -> WebpLayout:
    """Take a WebP apart.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too_large`` (declared pixels, all frames).
    """
    size = int.from_bytes(data[4:8], "little")
    end = 8 + size
    if end > len(data):
        raise ImageError("WebP ends before its declared length", code="truncated")
    dropped = {"trailer"} if end + size % 2 < len(data) else set()
    canvas: tuple[int, int] | None = None
    animation: bytes | None = None
    icc: bytes | None = None
    exif = Exif()
    alpha = b""
    images: list[WebpImage] = []
    for kind, content in _chunks(data, 12, end):
        if kind == b"VP8X" and len(content) >= 10 and canvas is None and not images:
            canvas = (_u24(content, 4) + 1, _u24(content, 7) + 1)
            _check_size(*canvas, max_pixels)
        elif kind == b"ANIM" and len(content) >= 6 and canvas is not None and animation is None:
            animation = content[:6]
        elif kind == b"ALPH" and animation is None and not images:
            alpha = content
        elif kind in (b"VP8 ", b"VP8L") and animation is None and not images:
            images.append(_image(kind, content, alpha if kind == b"VP8 " else b""))
        elif kind == b"ANMF" and animation is not None and canvas is not None:
            images.append(_frame(content, canvas, dropped))
            _check_size(*canvas, max_pixels, len(images))
        elif kind == b"ICCP" and icc is None:
            icc = content if usable_profile(content) else None
            dropped |= set() if icc else {"icc.damaged"}
        elif kind == b"EXIF":
            exif = read_exif(content.removeprefix(b"Exif\0\0"))
        else:
            dropped.add({b"XMP ": "xmp", b"C2PA": "c2pa"}.get(kind, "webp.unknown"))
    if not images:
        raise ImageError("WebP without a picture", code="truncated")
    if canvas is None or animation is None:
        shown = (images[0].width, images[0].height)
        if canvas not in (None, shown):
            raise ImageError("WebP declares two sizes")
        canvas = shown
        _check_size(*canvas, max_pixels)
    return WebpLayout(*canvas, tuple(images), animation, icc, exif, frozenset(dropped))


def _u24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _check_size(width: int, height: int, max_pixels: int, frames: int = 1) -> None:
    if width * height * frames > max_pixels:
        raise ImageError(
            f"{frames} × {width}×{height} is more than the allowed {max_pixels} pixels",
            code="too_large",
        )


def _chunks(data: bytes, at: int, end: int) -> list[tuple[bytes, bytes]]:
    found = []
    while at + 8 <= end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise ImageError("WebP ends inside a chunk", code="truncated")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
        if len(found) > _MAX_CHUNKS:
            raise ImageError("WebP has too many chunks", code="unsupported")
    return found


def _image(kind: bytes, content: bytes, alpha: bytes) -> WebpImage:
    """The picture with the size that its bitstream declares."""
    if kind == b"VP8L":
        if len(content) < 5 or content[0] != 0x2F:
            raise ImageError("WebP lossless picture is damaged")
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        if len(content) < 10 or content[0] & 1 or content[3:6] != b"\x9d\x01\x2a":
            raise ImageError("WebP lossy picture is damaged")
        width = int.from_bytes(content[6:8], "little") & 0x3FFF
        height = int.from_bytes(content[8:10], "little") & 0x3FFF
        if not width or not height:
            raise ImageError("WebP declares no pixels")
    return WebpImage(kind, content, alpha, width, height)


def _frame(content: bytes, canvas: tuple[int, int], dropped: set[str]) -> WebpImage:
    if len(content) < 16:
        raise ImageError("WebP frame is damaged")
    x, y = 2 * _u24(content, 0), 2 * _u24(content, 3)
    alpha = b""
    image: WebpImage | None = None
    for kind, part in _chunks(content, 16, len(content)):
        if kind == b"ALPH" and image is None:
            alpha = part
        elif kind in (b"VP8 ", b"VP8L") and image is None:
            image = _image(kind, part, alpha if kind == b"VP8 " else b"")
        else:
            dropped.add("webp.unknown")
    if image is None:
        raise ImageError("WebP frame without a picture", code="truncated")
    if (image.width, image.height) != (_u24(content, 6) + 1, _u24(content, 9) + 1):
        raise ImageError("WebP frame declares two sizes")
    if x + image.width > canvas[0] or y + image.height > canvas[1]:
        raise ImageError("WebP frame lies outside the canvas")
    return WebpImage(
        image.kind, image.data, image.alpha, image.width, image.height, x, y,
        _u24(content, 12), content[15] & 3,
    )  # fmt: skip


def write_webp(layout: WebpLayout, *, keep: KeepMetadata, plain: bool = False) -> bytes:
    """A WebP of the layout's pictures with only what ``keep`` allows (``plain``: nothing)."""
    icc = b"" if plain else layout.icc or b""
    exif = b"" if plain else build_exif(layout.exif.reduced(keep))
    has_alpha = any(image.has_alpha for image in layout.images)
    flags = (_ICC if icc else 0) | (_EXIF if exif else 0) | (_ALPHA if has_alpha else 0)
    flags |= _ANIMATED if layout.animation is not None else 0
    chunks = []
    if flags and (flags != _ALPHA or layout.images[0].alpha):
        size = (layout.width - 1).to_bytes(3, "little") + (layout.height - 1).to_bytes(3, "little")
        chunks.append(_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + size))
    if icc:
        chunks.append(_chunk(b"ICCP", icc))
    if layout.animation is not None:
        chunks.append(_chunk(b"ANIM", layout.animation))
        chunks += [_chunk(b"ANMF", _frame_header(i) + _coded(i)) for i in layout.images]
    else:
        chunks.append(_coded(layout.images[0]))
    if exif:
        chunks.append(_chunk(b"EXIF", exif))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _coded(image: WebpImage) -> bytes:
    alpha = _chunk(b"ALPH", image.alpha) if image.alpha else b""
    return alpha + _chunk(image.kind, image.data)


def _frame_header(image: WebpImage) -> bytes:
    numbers = (image.x // 2, image.y // 2, image.width - 1, image.height - 1, image.duration)
    return b"".join(n.to_bytes(3, "little") for n in numbers) + bytes((image.flags,))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def placed(image: WebpImage, x: int, y: int, duration: int) -> WebpImage:
    """``image`` as a frame that replaces what it covers and stays."""
    return WebpImage(
        image.kind, image.data, image.alpha, image.width, image.height, x, y, duration, _NO_BLEND
    )


class _BoolDecoder:
    """The boolean entropy decoder of RFC 6386, section 7.3."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 2
        self._value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self._range = 255
        self._shifted = 0

    def literal(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self._bit()
        return value

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        bit = int(self._value >= split << 8)
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                if self._at < len(self._data):
                    self._value |= self._data[self._at]
                self._at += 1
        return bit


def _quantiser(vp8: bytes) -> float:
    """The quantiser index 0–127 of a key frame (RFC 6386, 9.2–9.6), mean over its segments."""
    bits = _BoolDecoder(vp8[10:])

    def optional(count: int, size: int, *, signed: bool) -> list[int]:
        values = []
        for _ in range(count):
            value = bits.literal(size) if (there := bits.literal(1)) else 0
            if there and signed and bits.literal(1):
                value = -value
            values.append(value)
        return values

    bits.literal(2)  # colour space, clamping
    segments = [0, 0, 0, 0]
    absolute = False
    if bits.literal(1):
        update_map = bits.literal(1)
        if bits.literal(1):
            absolute = bool(bits.literal(1))
            segments = optional(4, 7, signed=True)
            optional(4, 6, signed=True)
        if update_map:
            optional(3, 8, signed=False)
    bits.literal(10)  # loop filter
    if bits.literal(1) and bits.literal(1):
        optional(8, 6, signed=True)
    bits.literal(2)  # partitions
    base = bits.literal(7)
    mean = sum(segments) / len(segments)
    return mean if absolute else base + mean


def estimate_quality(images: Sequence[WebpImage]) -> int:
    """The libwebp quality 1–100 of the first lossy picture, from its quantiser.

    Inverts ``QualityToCompression`` and ``VP8SetSegmentParams`` of libwebp's quant_enc.c.
    """
    lossy = [image for image in images if image.kind == b"VP8 "]
    if not lossy:
        return 100
    linear = (1.0 - min(max(_quantiser(lossy[0].data), 0.0), 127.0) / 127.0) ** 3
    quality = linear * 1.5 if linear < 0.5 else (linear + 1.0) / 2.0
    return min(max(round(100.0 * quality), 1), 100)
