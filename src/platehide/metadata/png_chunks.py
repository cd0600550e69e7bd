"""Walk and scrub PNG and APNG (PNG specification, third edition) chunk by chunk."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import partial

from platehide.errors import ImageError
from platehide.image_io import KeepMetadata
from platehide.metadata.exif import Exif, build_exif, read_exif
from platehide.metadata.icc import MAX_PROFILE, usable_profile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 200_000
_PIECE = 1 << 16
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Kept as they are where they have one of these lengths: colour, density, nothing else.
_KEPT_LENGTHS: dict[bytes, tuple[int, ...]] = {
    b"gAMA": (4,),
    b"cHRM": (32,),
    b"sRGB": (1,),
    b"pHYs": (9,),
    b"cICP": (4,),
    b"mDCV": (24,),
    b"cLLI": (8,),
    b"sBIT": (1, 2, 3, 4),
    b"bKGD": (1, 2, 6),
}
_TEXT = (b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True)
class PngHeader:
    """IHDR. ``colour`` is the PNG colour type: 0 grey, 2 RGB, 3 palette, 4 grey+A, 6 RGBA."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def packed(self) -> bytes:
        """The thirteen bytes of the chunk."""
        size = self.width.to_bytes(4, "big") + self.height.to_bytes(4, "big")
        return size + bytes((self.depth, self.colour, 0, 0, int(self.interlaced)))

    def raw_size(self) -> int:
        """Bytes of the filtered rows before compression."""

        def of(width: int, height: int) -> int:
            bits = width * _CHANNELS[self.colour] * self.depth
            return height * (1 + (bits + 7) // 8) if width and height else 0

        if not self.interlaced:
            return of(self.width, self.height)
        passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4),
                  (1, 2, 0, 2), (0, 1, 1, 2))  # fmt: skip
        return sum(
            of((self.width - x + dx - 1) // dx, (self.height - y + dy - 1) // dy)
            for x, dx, y, dy in passes
        )


@dataclass(frozen=True)
class FrameControl:
    """fcTL without its sequence number."""

    width: int
    height: int
    x: int
    y: int
    delay: bytes
    dispose: int
    blend: int

    def packed(self, sequence: int) -> bytes:
        """The 26 bytes of the chunk."""
        numbers = (sequence, self.width, self.height, self.x, self.y)
        head = b"".join(n.to_bytes(4, "big") for n in numbers)
        return head + self.delay + bytes((self.dispose, self.blend))


@dataclass(frozen=True)
class PngStream:
    """One compressed picture of the file.

    Attributes:
        control: its place in the animation; ``None`` for a picture that is not part of one.
        data: the zlib stream, put together from its chunks.
    """

    control: FrameControl | None
    data: bytes


@dataclass(frozen=True)
class PngLayout:
    """Everything of a PNG that may be kept.

    Attributes:
        palette: PLTE and tRNS chunk contents, empty where absent.
        ancillary: kept colour and density chunks by type.
        streams: the still picture first, then the animation's frames.
        plays: how often an animation is played; ``None`` for a still picture.
        dropped: names of what no policy keeps.
    """

    header: PngHeader
    palette: bytes
    transparency: bytes
    ancillary: dict[bytes, bytes]
    icc: bytes | None
    exif: Exif
    streams: tuple[PngStream, ...]
    plays: int | None
    dropped: frozenset[str] = field(default_factory=frozenset)

    def removed(self, keep: KeepMetadata) -> tuple[str, ...]:
        """Sorted names of what the finished photo no longer holds."""
        return tuple(sorted(self.dropped | self.exif.removed(keep)))


def walk_png(data: bytes, *, max_pixels: int) -> PngLayout:
    """Take a PNG apart.

    Raises:
        ImageError: ``truncated``, ``corrupt`` (wrong checksum, order or number), ``too_large``
            (declared pixels, all frames counted), ``unsupported``.
    """
    chunks, end = _chunks(data)
    if chunks[0][0] != b"IHDR":
        raise ImageError("PNG does not begin with its header")
    header = _header(chunks[0][1], max_pixels)
    dropped: set[str] = {"trailer"} if end < len(data) else set()
    kept: dict[bytes, bytes] = {}
    exif = Exif()
    icc: bytes | None = None
    for kind, content in chunks[1:]:
        if kind in kept and kind in (b"PLTE", b"tRNS"):
            raise ImageError(f"PNG has two {kind.decode()} chunks")
        if kind in (b"PLTE", b"tRNS") or len(content) in _KEPT_LENGTHS.get(kind, ()):
            kept.setdefault(kind, content)
        elif kind == b"iCCP":
            icc = _profile(content)
            if icc is None:
                dropped.add("icc.damaged")
        elif kind == b"eXIf":
            exif = read_exif(content)
        elif kind not in (b"IDAT", b"acTL", b"fcTL", b"fdAT"):
            dropped |= _name(kind, content)
    palette, transparency = kept.pop(b"PLTE", b""), kept.pop(b"tRNS", b"")
    if header.colour == 3 and (not palette or len(palette) % 3 or len(palette) > 768):
        raise ImageError("PNG palette is missing or damaged")
    if header.colour != 3:  # a suggested palette draws nothing
        palette = b""
    if len(transparency) > {0: 2, 2: 6, 3: 256}.get(header.colour, 0):
        raise ImageError("PNG transparency is damaged")
    streams, plays = _streams(chunks, header)
    if plays is None and any(kind in (b"acTL", b"fcTL", b"fdAT") for kind, _ in chunks):
        dropped.add("png.animation")
    if header.width * header.height * len(streams) > max_pixels:
        raise ImageError(
            f"{len(streams)} frames of {header.width}×{header.height} are more than the allowed "
            f"{max_pixels} pixels",
            code="too_large",
        )
    return PngLayout(
        header, palette, transparency, kept, icc, exif, streams, plays, frozenset(dropped)
    )


def _chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """Type and content of every chunk up to IEND, and the offset after it."""
    found: list[tuple[bytes, bytes]] = []
    at = len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ImageError("PNG ends before its last chunk", code="truncated")
        size = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if not kind.isalpha() or not kind.isascii():
            raise ImageError(f"PNG chunk expected at byte {at}")
        if at + 12 + size > len(data):
            raise ImageError("PNG ends inside a chunk", code="truncated")
        content = data[at + 8 : at + 8 + size]
        at += 12 + size
        known = kind[0] < 0x60 or kind in _KEPT_LENGTHS or kind in (b"fcTL", b"fdAT", b"tRNS")
        if known and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[at - 4 : at]):
            raise ImageError(f"PNG chunk {kind.decode()} has a wrong checksum")
        found.append((kind, content))
        if kind == b"IEND":
            return found, at
        if len(found) > _MAX_CHUNKS:
            raise ImageError("PNG has too many chunks", code="unsupported")


def _header(content: bytes, max_pixels: int) -> PngHeader:
    if len(content) != 13:
        raise ImageError("PNG header has the wrong length")
    width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    depth, colour, compression, filtering, interlace = content[8:13]
    if not width or not height:
        raise ImageError("PNG declares no pixels")
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise ImageError("PNG header is damaged")
    if width * height > max_pixels:
        raise ImageError(
            f"{width}×{height} is more than the allowed {max_pixels} pixels", code="too_large"
        )
    return PngHeader(width, height, depth, colour, bool(interlace))


def _profile(content: bytes) -> bytes | None:
    """The colour profile of an iCCP chunk, or ``None`` where it cannot be used."""
    name, separator, rest = content.partition(b"\0")
    if not separator or len(name) > 79 or rest[:1] != b"\0":
        return None
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(rest[1:], MAX_PROFILE + 1)
    except zlib.error:
        return None
    return profile if inflate.eof and usable_profile(profile) else None


def _name(kind: bytes, content: bytes) -> set[str]:
    """What a dropped chunk is called in the result; refuses unknown critical chunks."""
    if kind == b"IEND":
        return set()
    if kind in _TEXT:
        if content.startswith(b"XML:com.adobe.xmp\0"):
            return {"xmp"}
        return {"exif"} if content.startswith(b"Raw profile type") else {"text"}
    if kind == b"caBX":
        return {"c2pa"}
    if kind == b"tIME":
        return {"time"}
    if kind[0] < 0x60:
        raise ImageError(f"PNG needs the unknown chunk {kind.decode()}", code="unsupported")
    return {f"png.{kind.decode()}"}


def _streams(
    chunks: list[tuple[bytes, bytes]], header: PngHeader
) -> tuple[tuple[PngStream, ...], int | None]:
    """The compressed pictures, and the number of plays of an animation."""
    kinds = [kind for kind, _ in chunks]
    if b"IDAT" not in kinds:
        raise ImageError("PNG without a picture", code="truncated")
    first = kinds.index(b"IDAT")
    last = len(kinds) - kinds[::-1].index(b"IDAT")
    if any(kind != b"IDAT" for kind in kinds[first:last]):
        raise ImageError("PNG picture data is interrupted")
    still = b"".join(content for kind, content in chunks if kind == b"IDAT")
    if b"acTL" not in kinds[:first]:
        return (PngStream(None, still),), None
    animation = chunks[kinds.index(b"acTL")][1]
    if len(animation) != 8:
        raise ImageError("APNG header is damaged")
    streams: list[PngStream] = []
    control: FrameControl | None = None
    parts: list[bytes] = []
    sequence = 0
    idat_seen = False

    def close() -> None:
        if control is not None and parts:
            streams.append(PngStream(control, b"".join(parts)))
        elif control is not None or parts:
            raise ImageError("APNG frame is incomplete", code="truncated")

    for kind, content in chunks:
        idat_seen = idat_seen or kind == b"IDAT"
        if kind in (b"fcTL", b"fdAT"):
            if int.from_bytes(content[:4], "big") != sequence or len(content) < 4:
                raise ImageError("APNG frames are out of order")
            sequence += 1
        if kind == b"fcTL":
            close()
            control, parts = _control(content, header), []
        elif kind == b"fdAT":
            if not idat_seen:
                raise ImageError("APNG frames are out of order")
            parts.append(content[4:])
        elif kind == b"IDAT" and control is None and not streams:
            streams.append(PngStream(None, still))  # shown only where animations are not
        elif kind == b"IDAT" and control is not None:
            if (control.width, control.height) != (header.width, header.height):
                raise ImageError("APNG frame does not fill the picture")
            parts.append(content)
    close()
    frames = sum(stream.control is not None for stream in streams)
    if frames == 0 or frames != int.from_bytes(animation[:4], "big"):
        raise ImageError("APNG has another number of frames than it says")
    return tuple(streams), int.from_bytes(animation[4:], "big")


def _control(content: bytes, header: PngHeader) -> FrameControl:
    if len(content) != 26:
        raise ImageError("APNG frame header is damaged")
    width, height, x, y = (int.from_bytes(content[i : i + 4], "big") for i in (4, 8, 12, 16))
    inside = 0 < width <= header.width - x and 0 < height <= header.height - y
    if not inside or content[24] > 2 or content[25] > 1:
        raise ImageError("APNG frame lies outside the picture")
    return FrameControl(width, height, x, y, content[20:24], content[24], content[25])


def stream_state(data: bytes, raw_size: int) -> tuple[bool, bool]:
    """``(complete, clean)`` of a zlib stream that must inflate to ``raw_size`` bytes.

    ``clean`` is false where more is stored than the picture needs: nobody has looked at it.

    Raises:
        ImageError: ``corrupt``: the stream is damaged.
    """
    inflate = zlib.decompressobj()
    produced = fed = 0
    rest = b""
    try:
        while produced <= raw_size and not inflate.eof and (rest or fed < len(data)):
            if not rest:
                rest, fed = data[fed : fed + _PIECE], fed + _PIECE
            produced += len(inflate.decompress(rest, _PIECE * 16))
            rest = inflate.unconsumed_tail
    except zlib.error as error:
        raise ImageError(f"PNG picture data is damaged: {error}") from error
    clean = inflate.eof and not inflate.unused_data and fed >= len(data)
    return produced >= raw_size, clean and produced == raw_size


def write_png(
    layout: PngLayout, *, keep: KeepMetadata, plain: bool = False, same_samples: bool = True
) -> bytes:
    """A PNG of the layout's streams with only what ``keep`` allows.

    Args:
        plain: leave out everything that does not draw, for decoding.
        same_samples: False where the samples were stored anew in another colour type, so that
            sBIT and bKGD no longer fit.
    """
    out = [SIGNATURE, png_chunk(b"IHDR", layout.header.packed())]
    put = partial(_put, out)
    for kind, content in layout.ancillary.items():
        if kind != b"bKGD" and (same_samples or kind != b"sBIT"):
            put(kind, content)
    if layout.icc is not None and not plain:
        put(b"iCCP", b"ICC Profile\0\0" + zlib.compress(layout.icc, 9))
    block = b"" if plain else build_exif(layout.exif.reduced(keep))
    put(b"eXIf", block)
    put(b"PLTE", layout.palette)
    put(b"tRNS", layout.transparency)
    if same_samples:
        put(b"bKGD", layout.ancillary.get(b"bKGD", b""))
    if layout.plays is not None:
        frames = sum(stream.control is not None for stream in layout.streams)
        put(b"acTL", frames.to_bytes(4, "big") + layout.plays.to_bytes(4, "big"))
    sequence = 0
    for index, stream in enumerate(layout.streams):
        if stream.control is not None:
            put(b"fcTL", stream.control.packed(sequence))
            sequence += 1
        if index == 0:
            put(b"IDAT", stream.data)
        else:
            put(b"fdAT", sequence.to_bytes(4, "big") + stream.data)
            sequence += 1
    out.append(png_chunk(b"IEND", b""))
    return b"".join(out)


def _put(out: list[bytes], kind: bytes, content: bytes) -> None:
    if content:
        out.append(png_chunk(kind, content))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with length and checksum."""
    crc = zlib.crc32(content, zlib.crc32(kind))
    return len(content).to_bytes(4, "big") + kind + content + crc.to_bytes(4, "big")
