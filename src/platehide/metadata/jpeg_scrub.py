"""Take a JPEG apart into what draws the picture, what describes it, and what is dropped.

``write = SOI + header_segments(…) + picture_bytes(…)``. Everything that is not named here is not
copied: thumbnails, second pictures (MPF, gain maps), XMP, GPS, maker notes, Photoshop resources,
C2PA manifests, comments and every byte after the end of the primary picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from platehide.errors import ImageError
from platehide.image_io import KeepMetadata
from platehide.metadata.exif import Exif, build_exif, read_exif
from platehide.metadata.icc import usable_profile
from platehide.metadata.jpeg_walk import (
    APP0,
    APP1,
    APP2,
    APP11,
    APP13,
    APP14,
    COM,
    DAC,
    DHT,
    DQT,
    DRI,
    SOS,
    JpegLayout,
    Segment,
)

_ICC_PREFIX = b"ICC_PROFILE\0"
_EXIF_PREFIX = b"Exif\0\0"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"
_GAIN_MAP_HINTS = (b"hdrgm:", b"HDRGainMap", b"hdr-gain-map", b"GainMap")
_MAX_SEGMENT_PAYLOAD = 0xFFFF - 2
SOI_BYTES = b"\xff\xd8"
EOI_BYTES = b"\xff\xd9"


@dataclass(frozen=True)
class JpegMetadata:
    """What a JPEG says about itself, as far as it may be kept.

    Attributes:
        density: JFIF version, unit and density (7 bytes), or ``None`` without a JFIF segment.
        adobe: the twelve bytes of the Adobe marker (they say how the colours are stored).
        icc: the colour profile, put together from its segments.
        exif: the kept tags and the names of the others.
        dropped: names of everything that no policy keeps.
    """

    density: bytes | None = None
    adobe: bytes | None = None
    icc: bytes | None = None
    exif: Exif = field(default_factory=Exif)
    dropped: frozenset[str] = frozenset()

    @property
    def orientation(self) -> int:
        """1–8; 1 where absent."""
        return self.exif.orientation

    def removed(self, keep: KeepMetadata) -> tuple[str, ...]:
        """Sorted names of what the finished photo no longer holds."""
        return tuple(sorted(self.dropped | self.exif.removed(keep)))


def read_metadata(data: bytes, layout: JpegLayout) -> JpegMetadata:
    """Read what may be kept and name what is dropped. Pure; never raises for odd metadata."""
    density = adobe = None
    exif: Exif | None = None
    icc_parts: dict[int, bytes] = {}
    icc_count = 0
    dropped: set[str] = {"padding"} if layout.padded else set()
    for segment in layout.segments:
        payload = data[segment.start + 4 : segment.end]
        if segment.marker == APP0 and payload.startswith(b"JFIF\0") and len(payload) >= 14:
            if density is None:
                density = payload[5:12]
            if len(payload) > 14 or payload[12] * payload[13]:
                dropped.add("jfif.thumbnail")
        elif segment.marker == APP1 and payload.startswith(_EXIF_PREFIX):
            found = read_exif(payload[len(_EXIF_PREFIX) :])
            if exif is None:
                exif = found
            else:
                dropped |= found.removed("none") | {"exif"}
        elif segment.marker == APP2 and payload.startswith(_ICC_PREFIX) and len(payload) > 14:
            icc_count = max(icc_count, payload[13])
            icc_parts.setdefault(payload[12], payload[14:])
        elif segment.marker == APP14 and payload.startswith(b"Adobe") and len(payload) >= 12:
            adobe = _understood(payload[:12], len(layout.frame.components))
        elif segment.marker == COM or APP0 <= segment.marker <= 0xEF:
            dropped |= _name(segment, payload)
    icc: bytes | None = None
    if icc_parts:
        icc = b"".join(icc_parts.get(i, b"") for i in range(1, icc_count + 1))
        if set(icc_parts) != set(range(1, icc_count + 1)) or not usable_profile(icc):
            icc = None
            dropped.add("icc.damaged")
    if layout.end < len(data):
        dropped |= _name_trailer(data, layout.end)
    return JpegMetadata(density, adobe, icc, exif or Exif(), frozenset(dropped))


def _understood(adobe: bytes, components: int) -> bytes:
    """The Adobe marker; a colour transform that is not defined becomes what libjpeg takes it for:
    YCbCr of three components, YCCK of four.
    """
    transforms = {3: (0, 1), 4: (0, 2)}.get(components)
    if transforms is None or adobe[11] in transforms:
        return adobe
    return adobe[:11] + bytes(transforms[1:])


def _name(segment: Segment, payload: bytes) -> set[str]:
    """What a dropped segment is called in the result."""
    if segment.marker == COM:
        return {"comment"}
    if segment.marker == APP0:
        return {"jfxx" if payload.startswith(b"JFXX\0") else "app0"}
    if segment.marker == APP1 and payload.startswith((_XMP_PREFIX, _XMP_EXTENSION_PREFIX)):
        names = {"xmp" if payload.startswith(_XMP_PREFIX) else "xmp.extended"}
        if any(hint in payload for hint in _GAIN_MAP_HINTS):
            names.add("gainmap")
        if b"xmpGImg:image" in payload or b"Thumbnails" in payload:
            names.add("xmp.thumbnail")
        return names
    if segment.marker == APP2:
        if payload.startswith(b"MPF\0"):
            return {"mpf"}
        if payload.startswith(b"FPXR\0"):
            return {"flashpix"}
        if payload.startswith(b"urn:iso:std:iso:ts:21496"):
            return {"gainmap"}
    if segment.marker == APP11 and payload.startswith(b"JP"):
        return {"c2pa" if b"c2pa" in payload else "jumbf"}
    if segment.marker == APP13 and payload.startswith(_PHOTOSHOP_PREFIX):
        has_thumbnail = b"8BIM\x04\x0c" in payload or b"8BIM\x04\x09" in payload
        return {"photoshop"} | ({"photoshop.thumbnail"} if has_thumbnail else set())
    return {f"app{segment.marker - APP0}"}


def _name_trailer(data: bytes, end: int) -> set[str]:
    """What follows the primary picture."""
    names = {"trailer"}
    if data.find(b"\xff\xd8\xff", end) >= 0:
        names.add("trailer.jpeg")
    if data.find(b"ftyp", end) >= 0:
        names.add("trailer.video")
    return names


def header_segments(
    metadata: JpegMetadata,
    *,
    keep: KeepMetadata = "none",
    orientation: int | None = None,
    thumbnail_jpeg: bytes = b"",
    adobe: bool = True,
) -> bytes:
    """Freshly written APP segments, to stand right after the start-of-image marker.

    Args:
        orientation: written instead of the photo's own where given.
        thumbnail_jpeg: a small JPEG of the covered photo for IFD1; dropped where it does not fit.
        adobe: keep the Adobe marker (wrong where the picture was stored anew in other colours).
    """
    out = []
    if metadata.density is not None:
        out.append(_segment(APP0, b"JFIF\0" + metadata.density + b"\0\0"))
    exif = metadata.exif.reduced(keep)
    if orientation is not None:
        exif = Exif(orientation, exif.camera, exif.exposure, exif.gps)
    block = build_exif(exif, thumbnail_jpeg)
    if len(block) + len(_EXIF_PREFIX) > _MAX_SEGMENT_PAYLOAD:
        block = build_exif(exif)
    if block:
        out.append(_segment(APP1, _EXIF_PREFIX + block))
    if metadata.icc is not None:
        step = _MAX_SEGMENT_PAYLOAD - len(_ICC_PREFIX) - 2
        parts = [metadata.icc[i : i + step] for i in range(0, len(metadata.icc), step)]
        for i, part in enumerate(parts, start=1):
            out.append(_segment(APP2, _ICC_PREFIX + bytes((i, len(parts))) + part))
    if adobe and metadata.adobe is not None:
        out.append(_segment(APP14, metadata.adobe))
    return b"".join(out)


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


def picture_bytes(data: bytes, layout: JpegLayout) -> bytes:
    """Tables, frame header, scans and end of image: all that draws, nothing that describes.

    Entropy-coded data is copied bit by bit. Of tables only those that a scan can use are copied:
    definitions that a later one replaces before any scan, and padding, are left out.

    Raises:
        ImageError: ``corrupt``: a table segment does not add up.
    """
    ends = {scan.sos.start: scan.end for scan in layout.scans}
    used = _used_tables(data, layout)
    out: list[bytes] = []
    frame = b""
    tables: dict[tuple[int, int], bytes] = {}
    for segment in layout.segments:
        if segment.marker in (DQT, DHT, DAC, DRI):
            for destination, content in _split_tables(data, segment):
                if segment.marker in (DAC, DRI) or (segment.marker, destination) in used:
                    tables[segment.marker, destination] = content
        elif segment.marker == SOS:
            pending = [(key[0], _segment(key[0], content)) for key, content in tables.items()]
            out += [written for marker, written in pending if marker == DQT]
            out.append(frame)
            out += [written for marker, written in pending if marker != DQT]
            out.append(data[segment.start : ends[segment.start]])
            frame, tables = b"", {}
        elif 0xC0 <= segment.marker <= 0xCF:
            frame = data[segment.start : segment.end]
    out.append(EOI_BYTES)
    return b"".join(out)


def _used_tables(data: bytes, layout: JpegLayout) -> set[tuple[int, int]]:
    """Marker and destination of the tables that the frame and any scan name."""
    used = {(DQT, component.table) for component in layout.frame.components}
    for scan in layout.scans:
        for selector in data[scan.sos.start + 6 : scan.sos.end - 3 : 2]:
            used |= {(DHT, selector >> 4), (DHT, 0x10 | selector & 15)}
    return used


def _split_tables(data: bytes, segment: Segment) -> list[tuple[int, bytes]]:
    """Each table of a DQT, DHT, DAC or DRI segment: its destination and its own bytes."""
    found = []
    at = segment.start + 4
    if segment.marker == DRI:
        if segment.end - at != 2:
            raise ImageError("JPEG restart interval is damaged")
        return [(0, data[at : segment.end])]
    while at < segment.end:
        destination = data[at]
        if segment.marker == DQT:
            size = 1 + 64 * (2 if destination >> 4 else 1)
        elif segment.marker == DHT:
            size = 17 + sum(data[at + 1 : min(at + 17, segment.end)])
        else:
            size = 2
        if at + size > segment.end or destination & 15 > 3 or destination >> 4 > 1:
            raise ImageError("JPEG table segment is damaged")
        # 8- and 16-bit quantisation tables share their four destinations
        place = destination & 15 if segment.marker == DQT else destination
        found.append((place, data[at : at + size]))
        at += size
    return found
