"""Change pixels of a JPEG: only the blocks that hold a changed pixel are coded anew, with the
file's own quantisation; every other coefficient stays as it is.

All coordinates are stored pixels: orientation is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.jpeg.native import AVAILABLE, native
from platehide.jpeg.source import NotEditableError, Source, read_source
from platehide.jpeg.store import AreaEdit, Blocks, MemoryStore, ScanStore, Store, three
from platehide.metadata.jpeg_walk import JpegLayout, walk_jpeg
from platehide.pixels import Box, Patch, box_holds
from platehide.types import ImageArray

T = TypeVar("T", bound=tuple[NDArray[Any], ...])
_MOST_KEPT_BYTES = 12 << 20  # of pixels, and of coefficients


@dataclass(frozen=True)
class Edit:
    """An edited JPEG.

    Attributes:
        boxes: for each separate area, the smallest box in stored px that holds its rewritten
            MCUs. Outside of them (and one pixel of fringe, where a decoder interpolates
            subsampled colour) decoded pixels are those of the source.
    """

    data: bytes
    boxes: tuple[Box, ...]


class JpegEditor:
    """A JPEG that can be looked at, reduced or in part, and edited.

    Not thread-safe. Opening reads the headers only; damage in the picture data shows at the
    first use, as ``NotEditableError``.

    Args:
        data: the file.
        layout: its parts, where the caller has walked it already.

    Raises:
        NotEditableError: see :func:`platehide.jpeg.source.read_source`.
        ImageError: the bytes are no JPEG.
    """

    def __init__(self, data: bytes, layout: JpegLayout | None = None) -> None:
        if not AVAILABLE:
            raise NotEditableError("the compiled part of platehide is missing")
        self._source = read_source(data, layout or walk_jpeg(data, max_pixels=1 << 62))
        self._opened: Store | None = None
        self._decoded: list[tuple[Box, tuple[ImageArray]]] = []
        self._read: list[tuple[Box, Blocks]] = []

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in stored px."""
        return self._source.size_wh

    @property
    def _store(self) -> Store:
        if self._opened is None:
            indexable = self._source.indexable
            self._opened = ScanStore(self._source) if indexable else MemoryStore(self._source)
        return self._opened

    def overview(self, long_side: int) -> ImageArray | None:
        """The whole picture reduced so that its longer side has ``long_side`` px.

        ``None`` where that takes more than ½: decode the file as a whole then. Reduced by area
        over the low frequencies of each block to ½, ¼ or ⅛, from there each component by itself
        (which is cheaper than to reduce RGB).
        """
        width, height = self.size_wh
        for scale in (1, 2, 4):
            if -(-max(width, height) * scale // 8) >= long_side:
                size_wh = -(-width * scale // 8), -(-height * scale // 8)
                share = long_side / max(width, height)
                wanted = max(1, round(width * share)), max(1, round(height * share))
                return _merge_planes(self._store.planes(scale), size_wh, wanted)
        return None

    def check(self) -> bool:
        """Walk through the picture data once (kept for later); true, for it is intact.

        Raises:
            NotEditableError: it is damaged.
        """
        self._store.read((0, 0, 1, 1))
        return True

    def region(self, box: Box) -> ImageArray:
        """Full-resolution pixels ``(h, w, 3)`` of ``box``, as libjpeg-turbo decodes them."""
        x0, y0, x1, y1 = box
        width, height = self.size_wh
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"box {box} does not lie inside {width}×{height}")
        area = self._area(box)
        left, top, _, _ = self._pixel_box(area)
        pixels = self._pixels(area)
        return pixels[y0 - top : y1 - top, x0 - left : x1 - left]

    def reduced(self, box: Box, shrink: int) -> ImageArray:
        """Pixels of ``box`` reduced by ``shrink`` (2, 4 or 8), by area over the low frequencies of
        each block. Edges that are no multiples of ``shrink`` are rounded to the nearest."""
        mcu_w, mcu_h = self._source.mcu_wh
        x0, y0, x1, y1 = box
        area = x0 // mcu_w, y0 // mcu_h, -(-x1 // mcu_w), -(-y1 // mcu_h)
        frame, scale = area_frame(self._source, area), 8 // shrink
        planes = tuple(
            np.empty(((area[3] - area[1]) * v * scale, (area[2] - area[0]) * h * scale), np.uint8)
            for h, v in self._source.sampling
        )
        native.reduce(frame, self._source.quant, scale, *three(self._blocks(area)), *three(planes))
        size_wh = -(-int(frame[0]) // shrink), -(-int(frame[1]) // shrink)
        whole = _merge_planes(planes, size_wh, size_wh)
        left = min(round(x0 / shrink) - area[0] * mcu_w // shrink, size_wh[0] - 1)
        top = min(round(y0 / shrink) - area[1] * mcu_h // shrink, size_wh[1] - 1)
        wide, high = max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink))
        return np.ascontiguousarray(whole[top : top + high, left : left + wide])

    def _blocks(self, area: Box) -> Blocks:
        """Coefficients of an area, not to be written into; from one read before where that holds
        it."""
        x0, y0, x1, y1 = area
        for (left, top, _, _), blocks in (kept for kept in self._read if box_holds(kept[0], area)):
            parts = zip(blocks, self._source.sampling, strict=True)
            return tuple(
                np.ascontiguousarray(
                    part[(y0 - top) * v : (y1 - top) * v, (x0 - left) * h : (x1 - left) * h]
                )
                for part, (h, v) in parts
            )
        blocks = self._store.read(area)
        _keep(self._read, area, blocks)
        return blocks

    def _pixels(self, area: Box) -> ImageArray:
        """Pixels of an area, from one decoded before where that holds it: refinement, recognition,
        cover and edit look at the neighbourhood of a plate one after the other.
        """
        for known, (pixels,) in self._decoded:
            if box_holds(known, area):
                x0, y0 = known[:2]
                mcu_w, mcu_h = self._source.mcu_wh
                rows = slice((area[1] - y0) * mcu_h, (area[3] - y0) * mcu_h)
                return pixels[rows, (area[0] - x0) * mcu_w : (area[2] - x0) * mcu_w]
        pixels = decode_blocks(self._source, area, self._blocks(area))
        pixels.setflags(write=False)
        _keep(self._decoded, area, (pixels,))
        return pixels

    def edit(self, patches: Sequence[Patch]) -> Edit:
        """The whole file with the patches' changed pixels drawn, in order.

        Metadata segments are kept as they are; bytes after the end of image are not.

        Raises:
            NotEditableError: the picture data is damaged.
            ValueError: a patch lies outside the picture.
        """
        for patch in patches:
            _check_inside(patch, self.size_wh)
        edits = [
            self._edit_area(area, [patches[i] for i in members])
            for area, members in _disjoint(
                [
                    (self._area(_changed_box(patch)), [i])
                    for i, patch in enumerate(patches)
                    if patch.changed.any()
                ]
            )
        ]
        if not edits:
            return Edit(self._source.data[: self._source.layout.end], ())
        data = self._store.write(edits)
        if data is None:  # no room in a Huffman table: code the same coefficients in better ones
            data = MemoryStore(self._source).write(edits)
        return Edit(data, tuple(self._touched_box(edit) for edit in edits))

    def _area(self, box: Box) -> Box:
        """The MCUs of a box and one more on each side, which colour interpolation looks at."""
        mcu_w, mcu_h = self._source.mcu_wh
        across, down = self._source.mcus_wh
        x0, y0, x1, y1 = box
        return (
            max(0, x0 // mcu_w - 1),
            max(0, y0 // mcu_h - 1),
            min(across, -(-x1 // mcu_w) + 1),
            min(down, -(-y1 // mcu_h) + 1),
        )

    def _pixel_box(self, area: Box) -> Box:
        mcu_w, mcu_h = self._source.mcu_wh
        x0, y0, x1, y1 = area
        return x0 * mcu_w, y0 * mcu_h, x1 * mcu_w, y1 * mcu_h

    def _touched_box(self, edit: AreaEdit) -> Box:
        y, x = np.nonzero(edit.touched)
        left, top = edit.area[:2]
        area = left + x.min(), top + y.min(), left + x.max() + 1, top + y.max() + 1
        x0, y0, x1, y1 = self._pixel_box(tuple(int(v) for v in area))  # type: ignore[arg-type]
        width, height = self.size_wh
        return x0, y0, min(x1, width), min(y1, height)

    def _edit_area(self, area: Box, patches: Sequence[Patch]) -> AreaEdit:
        blocks = tuple(part.copy() for part in self._blocks(area))
        pixels = self._pixels(area).copy()
        changed = np.zeros(pixels.shape[:2], np.uint8)
        left, top, right, bottom = self._pixel_box(area)
        for patch in patches:
            # Only the changed part of a patch is sure to lie inside the area.
            x0, y0, x1, y1 = _changed_box(patch)
            there = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            part = np.s_[y0 - patch.y : y1 - patch.y, x0 - patch.x : x1 - patch.x]
            mask = patch.changed[part].view(np.uint8)
            pixels[there] = cv2.copyTo(patch.pixels[part], mask, pixels[there].copy())
            changed[there] |= mask
        over_y, over_x = bottom - top - pixels.shape[0], right - left - pixels.shape[1]
        if over_x or over_y:
            # Blocks hang over the picture's right and lower edge. Left as they are, the hidden
            # pixels there would still show the plate's rim: repeat the last column and row.
            pixels = np.pad(pixels, ((0, over_y), (0, over_x), (0, 0)), mode="edge")
            changed = np.pad(changed, ((0, over_y), (0, over_x)), mode="edge")
        touched = np.zeros((area[3] - area[1], area[2] - area[0]), np.uint8)
        native.forward(
            area_frame(self._source, area),
            self._source.quant,
            pixels,
            changed,
            *three(blocks),
            touched,
        )
        return AreaEdit(area, blocks, touched.astype(np.bool_))


def _keep(kept: list[tuple[Box, T]], area: Box, arrays: T) -> None:
    """Remember an area's arrays, at the cost of older ones where they are many bytes."""
    kept.append((area, arrays))
    while len(kept) > 1 and sum(a.nbytes for _, part in kept for a in part) > _MOST_KEPT_BYTES:
        del kept[0]


def _check_inside(patch: Patch, size_wh: tuple[int, int]) -> None:
    x0, y0, x1, y1 = patch.box
    if x0 < 0 or y0 < 0 or x1 > size_wh[0] or y1 > size_wh[1]:
        raise ValueError(f"patch {patch.box} does not lie inside {size_wh[0]}×{size_wh[1]}")


def _changed_box(patch: Patch) -> Box:
    """The smallest box with every changed pixel; at least one is needed."""
    rows = np.flatnonzero(patch.changed.any(axis=1))
    columns = np.flatnonzero(patch.changed.any(axis=0))
    return (
        patch.x + int(columns[0]),
        patch.y + int(rows[0]),
        patch.x + int(columns[-1]) + 1,
        patch.y + int(rows[-1]) + 1,
    )


def _disjoint(areas: list[tuple[Box, list[int]]]) -> list[tuple[Box, list[int]]]:
    """Join areas until none overlap; the numbers of a joined area stay in ascending order."""
    done: list[tuple[Box, list[int]]] = []
    for box, members in areas:
        merged = True
        while merged:
            merged = False
            for other in done:
                (a0, b0, a1, b1), numbers = other
                x0, y0, x1, y1 = box
                if x0 < a1 and a0 < x1 and y0 < b1 and b0 < y1:
                    done.remove(other)
                    box = min(x0, a0), min(y0, b0), max(x1, a1), max(y1, b1)
                    members = sorted(members + numbers)
                    merged = True
                    break
        done.append((box, members))
    return done


def _merge_planes(
    planes: Sequence[ImageArray], size_wh: tuple[int, int], wanted_wh: tuple[int, int]
) -> ImageArray:
    """RGB of ``wanted_wh`` px from YCbCr planes whose first shows the picture in ``size_wh``."""
    full = max(p.shape[1] for p in planes), max(p.shape[0] for p in planes)
    resized = []
    for plane in planes:
        # What lies beyond the picture's edge is cut off; a coarser component's last pixel may
        # belong to both sides of it.
        width = min(plane.shape[1], -(-size_wh[0] * plane.shape[1] // full[0]))
        height = min(plane.shape[0], -(-size_wh[1] * plane.shape[0] // full[1]))
        part = plane[:height, :width]
        # Up to there two pixels a side are all that an area holds; linear takes a tenth as long.
        linear = width <= 1.6 * wanted_wh[0] and height <= 1.6 * wanted_wh[1]
        how = cv2.INTER_LINEAR if linear else cv2.INTER_AREA
        same = (width, height) == wanted_wh
        resized.append(part if same else cv2.resize(part, wanted_wh, interpolation=how))
    if len(planes) == 1:
        return np.asarray(cv2.cvtColor(resized[0], cv2.COLOR_GRAY2RGB), np.uint8)
    merged = cv2.merge([resized[0], resized[2], resized[1]])
    return np.asarray(cv2.cvtColor(merged, cv2.COLOR_YCrCb2RGB), np.uint8)


def area_frame(source: Source, area: Box) -> NDArray[np.int32]:
    """Frame fields of a picture that is just this area of MCUs, cut where the picture ends.

    The cut matters: decoders do not interpolate colour with what lies beyond the edge.
    """
    width, height = source.size_wh
    mcu_w, mcu_h = source.mcu_wh
    x0, y0, x1, y1 = area
    frame = source.frame.copy()
    frame[:2] = min(x1 * mcu_w, width) - x0 * mcu_w, min(y1 * mcu_h, height) - y0 * mcu_h
    return frame


def decode_blocks(source: Source, area: Box, blocks: Blocks) -> ImageArray:
    """Pixels ``(h, w, 3)`` of an area, as libjpeg-turbo decodes a picture that is just it."""
    frame = area_frame(source, area)
    pixels = np.empty((int(frame[1]), int(frame[0]), 3), np.uint8)
    native.inverse(frame, source.quant, *three(blocks), pixels)
    return pixels
