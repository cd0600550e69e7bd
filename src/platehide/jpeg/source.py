"""What a JPEG's header says, as the compiled part takes it. Nothing is decoded here.

Names follow ITU-T T.81: a frame has components, each scan codes some of them with Huffman tables,
restart markers cut a scan into intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platehide.metadata.jpeg_walk import (
    APP0,
    APP14,
    DHT,
    DQT,
    DRI,
    SOS,
    JpegLayout,
    Scan,
    Segment,
)

Int32 = NDArray[np.int32]

TABLE_SPEC_SIZE = 272
"""Bytes of one Huffman table: 16 counts of code lengths, then up to 256 symbols."""
TABLE_COUNT = 8
"""DC 0…3, then AC 0…3."""


class NotEditableError(Exception):
    """The JPEG cannot be edited block by block; decode and encode it as a whole.

    The message names the reason in words.
    """


class DamagedScanError(NotEditableError):
    """Its picture data does not add up. Decoders make different pictures of it, or none."""


@dataclass(frozen=True)
class SourceScan:
    """One scan and the tables in force where it starts.

    Attributes:
        fields: int32 ``(15,)``: components, then index, DC table, AC table of three, then
            spectral start and end, approximation high and low, restart interval in MCUs.
        tables: eight table specs of 272 bytes.
    """

    fields: Int32
    tables: bytes
    scan: Scan


@dataclass(frozen=True)
class Source:
    """A JPEG that can be edited.

    Attributes:
        frame: int32 ``(9,)``: width, height, components, then h and v of three components.
        sampling: h and v of each component.
        quant: uint16 ``(3, 64)``, zigzag order, one row a component.
    """

    data: bytes
    layout: JpegLayout
    frame: Int32
    sampling: tuple[tuple[int, int], ...]
    quant: NDArray[np.uint16]
    scans: tuple[SourceScan, ...]

    @property
    def progressive(self) -> bool:
        """True for DCT-progressive files."""
        return self.layout.frame.progressive

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in stored pixels."""
        return self.layout.frame.width, self.layout.frame.height

    @property
    def mcu_wh(self) -> tuple[int, int]:
        """Width and height in px of an interleaved MCU."""
        return 8 * max(h for h, _ in self.sampling), 8 * max(v for _, v in self.sampling)

    @property
    def mcus_wh(self) -> tuple[int, int]:
        """MCUs across and down."""
        width, height = self.size_wh
        mcu_w, mcu_h = self.mcu_wh
        return -(-width // mcu_w), -(-height // mcu_h)

    @property
    def indexable(self) -> bool:
        """True for one sequential scan of all components, which can be edited in place."""
        return (
            not self.progressive
            and len(self.scans) == 1
            and int(self.scans[0].fields[0]) == len(self.sampling)
        )


def read_source(data: bytes, layout: JpegLayout, *, precision: int = 8) -> Source:
    """Collect frame, quantisation, scans and tables.

    Args:
        precision: bits of a sample that the caller can handle.

    Raises:
        NotEditableError: another precision, arithmetic coding, CMYK, RGB stored as such,
            fractional sampling ratios, progressive files whose last bits are missing, damaged
            tables.
    """
    frame = layout.frame
    if frame.precision != precision:
        raise NotEditableError(f"{frame.precision} bits a sample")
    if frame.arithmetic:
        raise NotEditableError("arithmetic coding")
    count = len(frame.components)
    if count not in (1, 3):
        raise NotEditableError(f"{count} components (CMYK)")
    if count == 3 and not _is_ycc(data, layout):
        raise NotEditableError("stored as RGB")
    # The only component of a picture is never subsampled, whatever its factors say (A.2.2).
    sampling = tuple((c.h, c.v) if count == 3 else (1, 1) for c in frame.components)
    h_max, v_max = max(h for h, _ in sampling), max(v for _, v in sampling)
    if any(h_max % h or v_max % v for h, v in sampling):
        raise NotEditableError("sampling factors that do not divide each other")
    if sum(h * v for h, v in sampling) > 10:
        raise NotEditableError("sampling factors beyond the standard")
    quant, scans = _read_tables(data, layout)
    if frame.progressive:
        _check_complete(scans, count)
    fields = [frame.width, frame.height, count]
    fields += [factor for pair in sampling for factor in pair] + [0] * (6 - 2 * count)
    return Source(data, layout, np.array(fields, np.int32), sampling, quant, tuple(scans))


def _is_ycc(data: bytes, layout: JpegLayout) -> bool:
    """Whether three components are YCbCr, guessed as libjpeg does (default_decompress_parms)."""
    adobe: int | None = None
    for segment in layout.segments:
        payload = data[segment.start + 4 : min(segment.end, segment.start + 16)]
        if segment.marker == APP0 and payload.startswith(b"JFIF\0"):
            return True
        if segment.marker == APP14 and payload.startswith(b"Adobe") and len(payload) == 12:
            adobe = payload[11]
    if adobe is not None:
        return adobe != 0
    return bytes(c.identifier for c in layout.frame.components) != b"RGB"


def _read_tables(data: bytes, layout: JpegLayout) -> tuple[NDArray[np.uint16], list[SourceScan]]:
    ends = {scan.sos.start: scan for scan in layout.scans}
    specs = [bytes(TABLE_SPEC_SIZE)] * TABLE_COUNT
    steps: dict[int, NDArray[np.uint16]] = {}
    quant = np.ones((3, 64), np.uint16)
    seen: set[int] = set()
    interval = 0
    scans: list[SourceScan] = []
    for segment in layout.segments:
        payload = data[segment.start + 4 : segment.end]
        if segment.marker == DHT:
            _read_huffman(payload, specs)
        elif segment.marker == DQT:
            _read_quantisation(payload, steps)
        elif segment.marker == DRI:
            if len(payload) != 2:
                raise NotEditableError("damaged restart interval")
            interval = int.from_bytes(payload, "big")
        elif segment.marker == SOS:
            fields = _scan_fields(payload, layout, interval)
            scans.append(SourceScan(fields, b"".join(specs), ends[segment.start]))
            # T.81 B.2.4.1 lets tables change between scans; libjpeg keeps a component's first.
            for index in set(fields[1 : 1 + 3 * int(fields[0]) : 3].tolist()) - seen:
                table = layout.frame.components[index].table
                if table not in steps:
                    raise NotEditableError("a quantisation table is missing")
                quant[index] = steps[table]
                seen.add(index)
    return quant, scans


def _read_huffman(payload: bytes, specs: list[bytes]) -> None:
    at = 0
    while at < len(payload):
        head = payload[at : at + 17]
        symbols = sum(head[1:])
        content = payload[at + 1 : at + 17 + symbols]
        if len(head) < 17 or symbols > 256 or len(content) != 16 + symbols:
            raise NotEditableError("damaged Huffman table")
        kind, number = head[0] >> 4, head[0] & 15
        if kind > 1 or number > 3:
            raise NotEditableError("damaged Huffman table")
        specs[4 * kind + number] = content.ljust(TABLE_SPEC_SIZE, b"\0")
        at += 17 + symbols


def _read_quantisation(payload: bytes, steps: dict[int, NDArray[np.uint16]]) -> None:
    at = 0
    while at < len(payload):
        wide, number = payload[at] >> 4, payload[at] & 15
        content = payload[at + 1 : at + 1 + 64 * (1 + wide)]
        if wide > 1 or number > 3 or len(content) != 64 * (1 + wide):
            raise NotEditableError("damaged quantisation table")
        values = np.frombuffer(content, ">u2" if wide else "u1").astype(np.uint16)
        if not values.all():
            raise NotEditableError("a quantisation step of zero")
        steps[number] = values
        at += 1 + 64 * (1 + wide)


def _scan_fields(payload: bytes, layout: JpegLayout, interval: int) -> Int32:
    """The header of a scan, whose lengths and identifiers walk_jpeg has checked."""
    order = [c.identifier for c in layout.frame.components]
    rows = [
        (order.index(payload[1 + 2 * i]), payload[2 + 2 * i] >> 4, payload[2 + 2 * i] & 15)
        for i in range(payload[0])
    ]
    indices = [row[0] for row in rows]
    if indices != sorted(set(indices)):
        raise NotEditableError("a scan with its components out of order")
    if any(table > 3 for row in rows for table in row[1:]):
        raise NotEditableError("damaged scan header")
    start, end, high, low = payload[-3], payload[-2], payload[-1] >> 4, payload[-1] & 15
    fields = [len(rows), *(n for row in rows for n in row), *[0] * (9 - 3 * len(rows))]
    fields += [start, end, high, low, interval]
    if layout.frame.progressive:
        fits = (end == 0 if start == 0 else start <= end <= 63 and len(rows) == 1) and (
            low <= 13 and high in (0, low + 1)
        )
    else:
        fits = (start, end, high, low) == (0, 63, 0, 0)
    if not fits:
        raise NotEditableError("a scan beyond the standard")
    return np.array(fields, np.int32)


def _check_complete(scans: list[SourceScan], count: int) -> None:
    """Every coefficient's last bit is coded, each bit once and in order.

    Decoders smooth what is incomplete, so its pixels would not be the coefficients' alone.
    """
    low = np.full((count, 64), -1)
    for scan in scans:
        fields = scan.fields.tolist()
        start, end, high, now = fields[10:14]
        for index in fields[1 : 1 + 3 * fields[0] : 3]:
            part = low[index, start : end + 1]
            if not (part == (high if high else -1)).all():
                raise NotEditableError("progressive scans in an unusual order")
            part[:] = now
    if low.any():
        raise NotEditableError("an unfinished progressive file")


def segment_bytes(data: bytes, segment: Segment) -> bytes:
    """One marker segment as it stands in the file."""
    return data[segment.start : segment.end]
