"""Where coefficients come from and go back to: a scan edited in place, or all of them in memory.

``Blocks`` are one int16 array ``(rows, columns, 64)`` a component, zigzag order; an area of MCUs
x0, y0, x1, y1 holds ``(y1 - y0) * v`` rows and ``(x1 - x0) * h`` columns of a component.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from platehide.jpeg.native import native
from platehide.jpeg.source import (
    TABLE_SPEC_SIZE,
    DamagedScanError,
    NotEditableError,
    Source,
    SourceScan,
    segment_bytes,
)
from platehide.metadata.jpeg_walk import DHT, SOS
from platehide.pixels import Box
from platehide.types import ImageArray

Blocks = tuple[NDArray[np.int16], ...]
Planes = tuple[ImageArray, ...]

_CHECKPOINT_FIELDS = 5
_NOTHING = bytearray()
_MOST_COEFFICIENT_BYTES = 1 << 30
SOI, EOI = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True)
class AreaEdit:
    """New coefficients of an area of MCUs.

    Attributes:
        area: x0, y0, x1, y1 in MCUs.
        touched: bool ``(y1 - y0, x1 - x0)``: the MCUs that differ from the source.
    """

    area: Box
    blocks: Blocks
    touched: NDArray[np.bool_]


class Store(Protocol):
    """Coefficients of a JPEG."""

    def planes(self, scale: int) -> Planes:
        """Each component, ``scale`` (1, 2, 4) pixels a block side."""

    def read(self, area: Box) -> Blocks:
        """The coefficients of an area of MCUs; the caller may write into them."""

    def write(self, edits: Sequence[AreaEdit]) -> bytes | None:
        """The whole file with the edits (of disjoint areas), or ``None`` where a Huffman table
        lacks the room for a symbol that they need."""


def three(arrays: Blocks | Planes) -> list[Any]:
    """The compiled part always takes three arrays, absent ones empty."""
    return [*arrays, _NOTHING, _NOTHING, _NOTHING][:3]


@contextmanager
def _damage() -> Iterator[None]:
    """The compiled part answers ValueError where the file does not add up."""
    try:
        yield
    except ValueError as error:
        raise DamagedScanError(str(error)) from error


def area_blocks(source: Source, area: Box, make: Callable[..., Any] = np.zeros) -> Blocks:
    """Blocks of an area, all 0; with ``np.empty`` for who is going to fill them."""
    x0, y0, x1, y1 = area
    return tuple(make(((y1 - y0) * v, (x1 - x0) * h, 64), np.int16) for h, v in source.sampling)


def _empty_planes(source: Source, scale: int) -> Planes:
    across, down = source.mcus_wh
    return tuple(
        np.empty((down * v * scale, across * h * scale), np.uint8) for h, v in source.sampling
    )


def table_segment(specs: bytes, tables: Sequence[int]) -> bytes:
    """One DHT segment with the given tables (0…3 DC, 4…7 AC) of eight specs."""
    content = bytearray()
    for number in tables:
        spec = specs[number * TABLE_SPEC_SIZE : (number + 1) * TABLE_SPEC_SIZE]
        content.append((number // 4) << 4 | number % 4)
        content += spec[: 16 + sum(spec[:16])]
    if not content:
        return b""
    return b"\xff\xc4" + (len(content) + 2).to_bytes(2, "big") + content


def tables_of(scan: SourceScan) -> list[int]:
    """The tables (0…3 DC, 4…7 AC) that a scan reads."""
    fields = scan.fields.tolist()
    rows = range(fields[0])
    start, end, high = fields[10:13]
    numbers: set[int] = set()
    if start == 0 and high == 0:
        numbers |= {fields[2 + 3 * i] for i in rows}
    if end > 0:
        numbers |= {4 + fields[3 + 3 * i] for i in rows}
    return sorted(numbers)


class ScanStore:
    """One sequential scan of all components, left as it is but for the touched MCUs.

    The first use walks the scan once; from then on every row of MCUs can be entered directly.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._scan = source.scans[0]
        with _damage():
            clean, intervals, end = native.unstuff(source.data, self._scan.scan.sos.end)
        if end != self._scan.scan.end:
            raise NotEditableError("the scan ends in an unusual way")
        self._clean = clean
        self._intervals = np.frombuffer(intervals, np.int64).copy()
        down = source.mcus_wh[1]
        self._checkpoints = np.zeros((down, _CHECKPOINT_FIELDS), np.int64)
        self._walked = False

    def _context(self) -> tuple[Any, ...]:
        return (
            self._source.frame,
            self._scan.fields,
            self._scan.tables,
            self._clean,
            self._intervals,
            self._checkpoints,
        )

    def planes(self, scale: int) -> Planes:
        """See :class:`Store`. The same walk also makes the index."""
        planes = _empty_planes(self._source, scale)
        self._walk(scale, planes)
        return planes

    def _walk(self, scale: int, planes: Planes) -> None:
        with _damage():
            native.walk(*self._context(), scale, self._source.quant, *three(planes))
        self._walked = True

    def read(self, area: Box) -> Blocks:
        """See :class:`Store`."""
        if not self._walked:
            self._walk(0, ())
        blocks = area_blocks(self._source, area, np.empty)
        with _damage():
            native.read(*self._context(), *area, *three(blocks))
        return blocks

    def write(self, edits: Sequence[AreaEdit]) -> bytes | None:
        """See :class:`Store`."""
        source, scan = self._source, self._scan
        if not self._walked:
            self._walk(0, ())
        numbers, coefficients = self._in_scan_order(edits)
        with _damage():
            written = native.splice(*self._context(), source.data, numbers, coefficients)
        if written is None:
            return None
        specs, entropy = written
        changed = [
            n
            for n in range(len(specs) // TABLE_SPEC_SIZE)
            if specs[n * TABLE_SPEC_SIZE :][:TABLE_SPEC_SIZE]
            != scan.tables[n * TABLE_SPEC_SIZE :][:TABLE_SPEC_SIZE]
        ]
        head = source.data[: scan.scan.sos.start]
        return b"".join(
            (
                head,
                table_segment(specs, changed),
                segment_bytes(source.data, scan.scan.sos),
                entropy,
                EOI,
            )
        )

    def _in_scan_order(
        self, edits: Sequence[AreaEdit]
    ) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Numbers ``(n,)`` of the touched MCUs, ascending, and their blocks ``(n, b, 64)``."""
        across = self._source.mcus_wh[0]
        numbers: list[NDArray[np.int32]] = []
        rows: list[NDArray[np.int16]] = []
        for edit in edits:
            x0, y0, x1, y1 = edit.area
            down, wide = y1 - y0, x1 - x0
            parts = [
                blocks.reshape(down, v, wide, h, 64).swapaxes(1, 2).reshape(down, wide, v * h, 64)
                for blocks, (h, v) in zip(edit.blocks, self._source.sampling, strict=True)
            ]
            rows.append(np.concatenate(parts, axis=2)[edit.touched])
            y, x = np.nonzero(edit.touched)
            numbers.append(((y + y0) * across + x + x0).astype(np.int32))
        together = np.concatenate(numbers)
        order = np.argsort(together)
        return together[order], np.ascontiguousarray(np.concatenate(rows)[order])


class MemoryStore:
    """All coefficients decoded: progressive files, several scans, Huffman tables without room.

    Written back with the scans, restart intervals and components of the source, in Huffman tables
    that are optimal for the new content.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        across, down = source.mcus_wh
        blocks = across * down * sum(h * v for h, v in source.sampling)
        coded = sum(scan.scan.end - scan.scan.sos.end for scan in source.scans)
        # A block takes a bit at the very least: the header alone cannot claim memory.
        if blocks > 8 * coded or blocks * 128 > _MOST_COEFFICIENT_BYTES:
            raise NotEditableError("too large to hold its coefficients")
        self._blocks = area_blocks(source, (0, 0, across, down))
        for scan in source.scans:
            with _damage():
                clean, intervals, end = native.unstuff(source.data, scan.scan.sos.end)
                if end != scan.scan.end:
                    raise NotEditableError("a scan ends in an unusual way")
                native.decode_scan(
                    source.frame,
                    scan.fields,
                    scan.tables,
                    clean,
                    bytearray(intervals),
                    source.progressive,
                    *three(self._blocks),
                )

    def planes(self, scale: int) -> Planes:
        """See :class:`Store`."""
        planes = _empty_planes(self._source, scale)
        with _damage():
            native.reduce(
                self._source.frame,
                self._source.quant,
                scale,
                *three(self._blocks),
                *three(planes),
            )
        return planes

    def read(self, area: Box) -> Blocks:
        """See :class:`Store`."""
        return tuple(part.copy() for part in self._views(area))

    def _views(self, area: Box) -> Blocks:
        x0, y0, x1, y1 = area
        return tuple(
            blocks[y0 * v : y1 * v, x0 * h : x1 * h]
            for blocks, (h, v) in zip(self._blocks, self._source.sampling, strict=True)
        )

    def write(self, edits: Sequence[AreaEdit]) -> bytes:
        """See :class:`Store`; never ``None``. The store itself is as before afterwards."""
        before = [(edit.area, self.read(edit.area)) for edit in edits]
        try:
            for edit in edits:
                self._put(edit.area, edit.blocks)
            return self._encoded()
        finally:
            for area, blocks in before:
                self._put(area, blocks)

    def _put(self, area: Box, blocks: Blocks) -> None:
        for view, new in zip(self._views(area), blocks, strict=True):
            view[:] = new

    def _encoded(self) -> bytes:
        source = self._source
        scans = iter(source.scans)
        parts = [SOI]
        for segment in source.layout.segments:
            if segment.marker == SOS:
                scan = next(scans)
                with _damage():
                    specs, entropy = native.encode_scan(
                        source.frame, scan.fields, source.progressive, *three(self._blocks)
                    )
                parts += [
                    table_segment(specs, tables_of(scan)),
                    segment_bytes(source.data, segment),
                    entropy,
                ]
            elif segment.marker != DHT:
                parts.append(segment_bytes(source.data, segment))
        parts.append(EOI)
        return b"".join(parts)
