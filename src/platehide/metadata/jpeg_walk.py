"""Walk a JPEG marker by marker (ITU-T T.81, Annex B) without decoding anything.

Every byte is hostile. The walk ends at the end of image that closes the first picture; whatever
follows (a second picture, a video, a vendor's trailer) is outside the layout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from platehide.errors import ImageError

SOI, EOI, SOS, DQT, DHT, DRI, DAC, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xCC, 0xDC, 0xFE
APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
_SOF = frozenset(range(0xC0, 0xD0)) - {DHT, DAC, 0xC8}
_SUPPORTED_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_DEEP_SOF = frozenset({0xC1, 0xC2})  # of 12 bits: extended sequential, progressive; Huffman
_MAX_SEGMENTS = 4096
# No camera or encoder writes more (a dozen is usual); each scan is one pass over the whole picture,
# so a cheap file with thousands of scans would keep a decoder busy for minutes.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 4_000_000_000
_MAX_PADDING = 64
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# The next marker that is neither a stuffed zero, a restart nor a fill byte.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
# Fill bytes may stand in front of any marker, and some encoders end a scan with a restart.
_SCAN_TAIL = re.compile(rb"(?:\xff+[\xd0-\xd7])*\xff*\Z")


@dataclass(frozen=True)
class Segment:
    """``data[start:end]`` is one marker segment; the payload begins at ``start + 4``."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True)
class Component:
    """One component of the frame: identifier, sampling factors, quantisation table."""

    identifier: int
    h: int
    v: int
    table: int


@dataclass(frozen=True)
class Frame:
    """The frame header. ``process`` is the SOF marker, e.g. 0xC0 baseline, 0xC2 progressive;
    ``precision`` bits of a sample, 8 or 12."""

    process: int
    width: int
    height: int
    components: tuple[Component, ...]
    precision: int = 8

    @property
    def progressive(self) -> bool:
        """True for DCT-progressive files."""
        return self.process in (0xC2, 0xCA)

    @property
    def arithmetic(self) -> bool:
        """True for arithmetic entropy coding."""
        return self.process in (0xC9, 0xCA)

    @property
    def sampling(self) -> str:
        """``444``, ``422``, ``420``, ``440``, ``411``, ``gray`` or ``other``."""
        if len(self.components) == 1:
            return "gray"
        first, *rest = self.components
        if len(rest) != 2 or any((c.h, c.v) != (1, 1) for c in rest):
            factors = {(c.h, c.v) for c in self.components}
            return "444" if len(factors) == 1 else "other"
        names = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440", (4, 1): "411"}
        return names.get((first.h, first.v), "other")


@dataclass(frozen=True)
class Scan:
    """One scan: its header segment and the entropy-coded ``data[sos.end:end]``."""

    sos: Segment
    end: int


@dataclass(frozen=True)
class JpegLayout:
    """Where everything of the primary picture lies.

    Attributes:
        segments: every marker segment in file order, scan headers included.
        scans: in file order.
        padded: there are bytes between the segments that belong to none.
        end: offset one past the primary end-of-image marker.
    """

    frame: Frame
    segments: tuple[Segment, ...]
    scans: tuple[Scan, ...]
    end: int
    padded: bool = False


def walk_jpeg(data: bytes, *, max_pixels: int) -> JpegLayout:
    """Find the parts of the primary picture.

    Raises:
        ImageError: ``truncated`` (a segment or the end of image is missing), ``corrupt``,
            ``unsupported`` (lossless, hierarchical, height given later),
            ``too_large`` (the frame header declares more than ``max_pixels``).
    """
    if len(data) < 4:
        raise ImageError("JPEG ends after its first marker", code="truncated")
    frame: Frame | None = None
    segments: list[Segment] = []
    scans: list[Scan] = []
    at = 2
    padded = False
    while True:
        before = at
        marker, at = _next_marker(data, at)
        padded = padded or bool(data[before:at].strip(b"\xff"))
        if marker == EOI:
            break
        if at + 4 > len(data):
            raise ImageError("JPEG ends inside a marker segment", code="truncated")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            raise ImageError(f"JPEG segment FF{marker:02X} has an impossible length")
        segment = Segment(marker, at, at + 2 + length)
        if segment.end > len(data):
            raise ImageError("JPEG ends inside a marker segment", code="truncated")
        segments.append(segment)
        if len(segments) > _MAX_SEGMENTS:
            raise ImageError("JPEG has too many segments", code="unsupported")
        at = segment.end
        if marker in _SOF:
            if frame is not None:
                raise ImageError("JPEG has two frame headers")
            frame = _read_frame(data, segment, max_pixels)
        elif marker == 0xF7:
            raise ImageError("JPEG-LS is not supported", code="unsupported")
        elif marker in (0xDE, 0xDF):
            raise ImageError("hierarchical JPEG is not supported", code="unsupported")
        elif marker == SOS:
            if frame is None:
                raise ImageError("JPEG has a scan before its frame header")
            found = _SCAN_END.search(data, at)
            if found is None:
                raise ImageError("JPEG ends inside its picture data", code="truncated")
            at = found.start()
            tail = data[max(segment.end, at - _MAX_PADDING) : at]
            scans.append(Scan(segment, at - _tail_bytes(tail)))
            scanned = len(scans) * frame.width * frame.height
            if len(scans) > _MAX_SCANS or scanned > _MAX_SCANNED_PIXELS:
                raise ImageError("JPEG has too many scans", code="unsupported")
    if frame is None or not scans:
        raise ImageError("JPEG without a picture", code="truncated")
    _check_scans(data, frame, scans)
    return JpegLayout(frame, tuple(segments), tuple(scans), at + 2, padded)


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """The next marker's code and offset.

    Fill bytes, and padding that sloppy writers leave between segments, are skipped as libjpeg
    skips them; nothing of them is copied.
    """
    found = _MARKER.search(data, at)
    if found is None:
        raise ImageError("JPEG ends without an end-of-image marker", code="truncated")
    marker = data[found.start() + 1]
    if marker in (0x01, SOI) or 0xD0 <= marker <= 0xD7 or found.start() - at > _MAX_PADDING:
        raise ImageError(f"JPEG marker expected at byte {at}")
    return marker, found.start()


def _tail_bytes(end_of_scan: bytes) -> int:
    """How many bytes at the end of a scan belong to no block."""
    found = _SCAN_TAIL.search(end_of_scan)
    return 0 if found is None else len(found[0])


def _read_frame(data: bytes, segment: Segment, max_pixels: int) -> Frame:
    payload = data[segment.start + 4 : segment.end]
    if segment.marker not in _SUPPORTED_SOF:
        raise ImageError(
            f"JPEG process FF{segment.marker:02X} (lossless or hierarchical) is not supported",
            code="unsupported",
        )
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise ImageError("JPEG frame header has the wrong length")
    if payload[0] != 8 and (payload[0] != 12 or segment.marker not in _DEEP_SOF):
        raise ImageError(f"{payload[0]}-bit JPEG is not supported", code="unsupported")
    height = int.from_bytes(payload[1:3], "big")
    width = int.from_bytes(payload[3:5], "big")
    if height == 0:
        raise ImageError("JPEG that declares its height late is not supported", code="unsupported")
    if width == 0:
        raise ImageError("JPEG declares no pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{width}×{height} is more than the allowed {max_pixels} pixels", code="too_large"
        )
    if payload[5] not in (1, 3, 4):
        raise ImageError(f"JPEG with {payload[5]} components is not supported", code="unsupported")
    components = tuple(
        Component(payload[i], payload[i + 1] >> 4, payload[i + 1] & 15, payload[i + 2])
        for i in range(6, len(payload), 3)
    )
    if any(not (1 <= c.h <= 4 and 1 <= c.v <= 4 and c.table < 4) for c in components):
        raise ImageError("JPEG frame header is damaged")
    if len({c.identifier for c in components}) != len(components):
        raise ImageError("JPEG names a component twice")
    return Frame(segment.marker, width, height, components, payload[0])


def _check_scans(data: bytes, frame: Frame, scans: list[Scan]) -> None:
    """Each component is drawn, none is drawn over, and the bytes could suffice.

    A file that draws a component twice shows one picture to a decoder that waits for the end and
    another to one that does not: what was looked at must be what everyone sees.
    """
    known = {c.identifier for c in frame.components}
    drawn: set[int] = set()
    for scan in scans:
        payload = data[scan.sos.start + 4 : scan.sos.end]
        if len(payload) < 1 or len(payload) != 4 + 2 * payload[0] or not 1 <= payload[0] <= 4:
            raise ImageError("JPEG scan header is damaged")
        identifiers = payload[1 : 1 + 2 * payload[0] : 2]
        if not known.issuperset(identifiers):
            raise ImageError("JPEG scan names an unknown component")
        spectral_start, approximation = payload[-3], payload[-1] >> 4
        first_look = spectral_start == 0 and approximation == 0
        if frame.progressive and not first_look:
            continue
        if drawn.intersection(identifiers):
            raise ImageError("JPEG draws a component twice", code="unsupported")
        drawn.update(identifiers)
        if not frame.arithmetic and scan.end - scan.sos.end < _fewest_bytes(frame, identifiers):
            raise ImageError("JPEG picture data is too short for its size", code="truncated")
    if drawn != known:
        raise ImageError("JPEG lacks a component", code="truncated")


def _fewest_bytes(frame: Frame, identifiers: bytes) -> int:
    """A lower bound on a first scan's bytes: Huffman codes take at least one bit a block."""
    bits = 0
    h_max = max(c.h for c in frame.components)
    v_max = max(c.v for c in frame.components)
    for c in frame.components:
        if c.identifier in identifiers:
            across = -(-frame.width * c.h // (8 * h_max))
            down = -(-frame.height * c.v // (8 * v_max))
            bits += across * down * (1 if frame.progressive else 2)
    return bits // 8
