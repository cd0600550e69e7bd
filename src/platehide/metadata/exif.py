"""Read the few harmless facts of an EXIF block and write a fresh block with only those.

The block is a little TIFF file (EXIF 2.32, TIFF 6.0). Nothing is ever copied as bytes: each kept
tag is read as numbers or short text of the type its definition names and written anew, so no
thumbnail, maker note or padding can ride along.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from platehide.image_io import KeepMetadata

ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
_MAKER_NOTE, _XMP, _PHOTOSHOP, _IPTC = 0x927C, 0x02BC, 0x8649, 0x83BB
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202

ASCII, SHORT, LONG, RATIONAL, SRATIONAL, BYTE, UNDEFINED = 2, 3, 4, 5, 10, 1, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MAX_ENTRIES = 512
_MAX_TEXT = 64

# What "safe" keeps: tag -> allowed types. Date, camera, lens and exposure; nothing that names a
# person or a device's serial number, nothing of free form.
_SAFE_IFD0 = {
    0x010F: (ASCII,),  # Make
    0x0110: (ASCII,),  # Model
    0x0132: (ASCII,),  # DateTime
}
_SAFE_EXIF = {
    0x829A: (RATIONAL,),  # ExposureTime
    0x829D: (RATIONAL,),  # FNumber
    0x8822: (SHORT,),  # ExposureProgram
    0x8827: (SHORT,),  # ISO
    0x9003: (ASCII,),  # DateTimeOriginal
    0x9004: (ASCII,),  # DateTimeDigitized
    0x9010: (ASCII,),  # OffsetTime
    0x9011: (ASCII,),  # OffsetTimeOriginal
    0x9012: (ASCII,),  # OffsetTimeDigitized
    0x9201: (SRATIONAL,),  # ShutterSpeedValue
    0x9202: (RATIONAL,),  # ApertureValue
    0x9204: (SRATIONAL,),  # ExposureBiasValue
    0x9207: (SHORT,),  # MeteringMode
    0x9209: (SHORT,),  # Flash
    0x920A: (RATIONAL,),  # FocalLength
    0x9290: (ASCII,),  # SubSecTime
    0x9291: (ASCII,),  # SubSecTimeOriginal
    0x9292: (ASCII,),  # SubSecTimeDigitized
    0xA001: (SHORT,),  # ColorSpace
    0xA402: (SHORT,),  # ExposureMode
    0xA403: (SHORT,),  # WhiteBalance
    0xA405: (SHORT,),  # FocalLengthIn35mmFilm
    0xA433: (ASCII,),  # LensMake
    0xA434: (ASCII,),  # LensModel
}
_LOCATION_GPS = {
    0x0000: (BYTE,),  # GPSVersionID
    0x0001: (ASCII,),  # LatitudeRef
    0x0002: (RATIONAL,),
    0x0003: (ASCII,),  # LongitudeRef
    0x0004: (RATIONAL,),
    0x0005: (BYTE,),  # AltitudeRef
    0x0006: (RATIONAL,),
    0x0007: (RATIONAL,),  # TimeStamp
    0x0010: (ASCII,),  # ImgDirectionRef
    0x0011: (RATIONAL,),
    0x0012: (ASCII,),  # MapDatum
    0x001D: (ASCII,),  # DateStamp
}


@dataclass(frozen=True)
class Entry:
    """One tag to keep: its number, TIFF type and values.

    Text is without the final NUL; the values are bytes where the type is UNDEFINED.
    """

    tag: int
    type: int
    values: tuple[int, ...] | str | bytes


@dataclass(frozen=True)
class Exif:
    """What was understood of an EXIF block.

    Attributes:
        orientation: 1–8; 1 where absent or nonsense.
        camera: kept tags of IFD0, by ``safe``.
        exposure: kept tags of the Exif IFD, by ``safe``.
        gps: kept tags of the GPS IFD, by ``location``.
        others: names of everything else the block holds, e.g. ``exif.thumbnail``.
    """

    orientation: int = 1
    camera: tuple[Entry, ...] = ()
    exposure: tuple[Entry, ...] = ()
    gps: tuple[Entry, ...] = ()
    others: frozenset[str] = frozenset()

    def reduced(self, keep: KeepMetadata) -> Exif:
        """Only what ``keep`` allows."""
        if keep == "none":
            return Exif(orientation=self.orientation)
        if keep == "safe":
            return replace(self, gps=(), others=frozenset())
        return replace(self, others=frozenset())

    def removed(self, keep: KeepMetadata) -> frozenset[str]:
        """Names of what :meth:`reduced` leaves out."""
        names = set(self.others)
        if keep == "none" and (self.camera or self.exposure):
            names.add("exif")
        if keep != "location" and self.gps:
            names.add("gps")
        return frozenset(names)

    def __bool__(self) -> bool:
        return self.orientation != 1 or bool(self.camera or self.exposure or self.gps)


class TiffReader:
    """Bounds-checked reads; anything outside the block reads as nothing."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.order = {b"II": "<", b"MM": ">"}.get(block[:2], "")

    def number(self, offset: int, fmt: str) -> int | None:
        """One number at ``offset``; ``None`` where it is out of bounds."""
        size = struct.calcsize(fmt)
        if not 0 <= offset <= len(self.block) - size:
            return None
        return int(struct.unpack_from(self.order + fmt, self.block, offset)[0])

    def entries(self, offset: int) -> tuple[list[tuple[int, int, int, int]], int]:
        """``(tag, type, count, offset of the value)`` of one IFD, and the next IFD's offset."""
        count = self.number(offset, "H")
        if count is None or offset < 8:
            return [], 0
        found = []
        for i in range(min(count, _MAX_ENTRIES)):
            at = offset + 2 + 12 * i
            if at + 12 > len(self.block):
                break
            tag, kind, n = struct.unpack_from(self.order + "HHI", self.block, at)
            size = _SIZES.get(kind, 0) * n
            value_at = at + 8 if size <= 4 else self.number(at + 8, "I")
            found.append((tag, kind, n, -1 if value_at is None else value_at))
        return found, self.number(offset + 2 + 12 * count, "I") or 0

    def numbers(self, kind: int, count: int, at: int, most: int) -> tuple[int, ...]:
        """Up to ``most`` BYTE, SHORT or LONG values; empty where out of bounds or another type."""
        letter = {BYTE: "B", SHORT: "H", LONG: "I"}.get(kind)
        if letter is None or count > most or at < 8 or at + _SIZES[kind] * count > len(self.block):
            return ()
        return struct.unpack_from(f"{self.order}{count}{letter}", self.block, at)

    def entry(self, tag: int, kind: int, count: int, at: int) -> Entry | None:
        """The decoded tag; ``None`` where it is out of bounds, too long or not plain text."""
        size = _SIZES.get(kind, 0) * count
        if at < 8 or size == 0 or at + size > len(self.block):
            return None
        raw = self.block[at : at + size]
        if kind == ASCII:
            text = raw.split(b"\0", 1)[0].strip()
            if len(text) > _MAX_TEXT or not all(32 <= c < 127 for c in text):
                return None
            return Entry(tag, kind, text.decode("ascii")) if text else None
        if count > 4:
            return None
        letters = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SRATIONAL: "ii"}
        if kind not in letters:
            return None
        return Entry(tag, kind, struct.unpack(self.order + letters[kind] * count, raw))


def read_exif(block: bytes, *, drawing: frozenset[int] = frozenset()) -> Exif:
    """Read a TIFF-structured EXIF block (without the ``Exif`` prefix).

    Never raises: what cannot be read is left out, and named ``exif`` in ``others`` so that its
    removal is reported.

    Args:
        drawing: for a TIFF photo, the tags of IFD0 that say how its samples lie; they are not
            metadata, and a further IFD is then a page and no thumbnail.
    """
    reader = TiffReader(block)
    if not reader.order or reader.number(2, "H") != 42:
        return Exif(others=frozenset({"exif"})) if block else Exif()
    entries, next_ifd = reader.entries(reader.number(4, "I") or 0)
    orientation = 1
    others: set[str] = set() if entries else {"exif"}
    camera: list[Entry] = []
    exposure: list[Entry] = []
    gps: list[Entry] = []
    for tag, kind, count, at in entries:
        if tag == ORIENTATION:
            value = reader.number(at, "I" if kind == LONG else "H")
            orientation = value if value is not None and 1 <= value <= 8 else 1
        elif tag in (_EXIF_IFD, _GPS_IFD):
            allowed = _SAFE_EXIF if tag == _EXIF_IFD else _LOCATION_GPS
            rest = _collect(
                reader, reader.number(at, "I"), allowed, exposure if tag == _EXIF_IFD else gps
            )
            others |= rest
            if tag == _GPS_IFD and rest:
                others.add("gps")
        elif tag not in drawing:
            others |= _keep_or_name(reader, (tag, kind, count, at), _SAFE_IFD0, camera)
    if next_ifd and not drawing:
        tags = {tag for tag, *_ in reader.entries(next_ifd)[0]}
        thumbnail = tags & {_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH, 0x0111}
        others.add("exif.thumbnail" if thumbnail else "exif")
    return Exif(orientation, tuple(camera), tuple(exposure), tuple(gps), frozenset(others))


def _collect(
    reader: TiffReader,
    offset: int | None,
    allowed: Mapping[int, tuple[int, ...]],
    into: list[Entry],
) -> set[str]:
    names: set[str] = set()
    for found in reader.entries(offset or 0)[0]:
        names |= _keep_or_name(reader, found, allowed, into)
    return names


def _keep_or_name(
    reader: TiffReader,
    found: tuple[int, int, int, int],
    allowed: Mapping[int, tuple[int, ...]],
    into: list[Entry],
) -> set[str]:
    tag, kind, count, at = found
    if kind in allowed.get(tag, ()):
        entry = reader.entry(tag, kind, count, at)
        if entry is not None:
            into.append(entry)
            return set()
    named = {
        _MAKER_NOTE: "exif.makernote",
        _SUB_IFDS: "exif.preview",
        _XMP: "xmp",
        _PHOTOSHOP: "photoshop",
        _IPTC: "iptc",
        0x010E: "comment",
        0x935C: "photoshop",
    }
    return {named.get(tag, "exif")}


def build_exif(exif: Exif, thumbnail_jpeg: bytes = b"") -> bytes:
    """A fresh little-endian EXIF block (without prefix); ``b""`` where there is nothing to say.

    Args:
        exif: what to write; already reduced by policy.
        thumbnail_jpeg: a small JPEG made from the finished photo, put into IFD1.
    """
    if not exif and not thumbnail_jpeg:
        return b""
    block = bytearray(b"II*\0\x08\0\0\0")
    first = list(exif.camera)
    if exif.orientation != 1:
        first.append(Entry(ORIENTATION, SHORT, (exif.orientation,)))
    pointers = {}
    if exif.exposure:
        pointers[_EXIF_IFD] = list(exif.exposure)
    if exif.gps:
        pointers[_GPS_IFD] = list(exif.gps)
    first += [Entry(tag, LONG, (0,)) for tag in pointers]
    value_at, next_at = append_ifd(block, first)
    for tag, entries in pointers.items():
        struct.pack_into("<I", block, value_at[tag], len(block))
        append_ifd(block, entries)
    if thumbnail_jpeg:
        struct.pack_into("<I", block, next_at, len(block))
        small = [
            Entry(0x0103, SHORT, (6,)),
            Entry(_THUMBNAIL_OFFSET, LONG, (0,)),
            Entry(_THUMBNAIL_LENGTH, LONG, (len(thumbnail_jpeg),)),
        ]
        value_at, _ = append_ifd(block, small)
        struct.pack_into("<I", block, value_at[_THUMBNAIL_OFFSET], len(block))
        block += thumbnail_jpeg
    return bytes(block)


def append_ifd(block: bytearray, entries: list[Entry]) -> tuple[dict[int, int], int]:
    """Append one little-endian IFD to a TIFF block.

    Returns:
        Where each tag's value lies, and where the next IFD's offset goes.
    """
    entries = sorted(entries, key=lambda e: e.tag)
    start = len(block)
    next_at = start + 2 + 12 * len(entries)
    block += struct.pack("<H", len(entries)) + bytes(12 * len(entries) + 4)
    value_at = {}
    for i, entry in enumerate(entries):
        count, raw = _encode(entry)
        at = start + 2 + 12 * i
        struct.pack_into("<HHI", block, at, entry.tag, entry.type, count)
        if len(raw) <= 4:
            value_at[entry.tag] = at + 8
            block[at + 8 : at + 8 + len(raw)] = raw
        else:
            value_at[entry.tag] = len(block)
            struct.pack_into("<I", block, at + 8, len(block))
            block += raw + b"\0" * (len(raw) % 2)
    return value_at, next_at


def _encode(entry: Entry) -> tuple[int, bytes]:
    if isinstance(entry.values, str):
        raw = entry.values.encode("ascii") + b"\0"
        return len(raw), raw
    if isinstance(entry.values, bytes):
        return len(entry.values), entry.values
    n = len(entry.values)
    letter = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}[entry.type]
    count = n // 2 if entry.type in (RATIONAL, SRATIONAL) else n
    return count, struct.pack(f"<{n}{letter}", *entry.values)
