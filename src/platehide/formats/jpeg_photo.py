"""JPEG: decoded no further than asked, written back with as little touched as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np

from platehide.errors import ImageError
from platehide.formats.jpeg_codec import FEW_BYTES, decode_rgb, encode_like, thumbnail
from platehide.formats.orientation import (
    box_to_stored,
    displayed_size,
    patches_to_stored,
    to_displayed,
)
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.jpeg import DamagedScanError, JpegEditor, NotEditableError
from platehide.metadata.jpeg_scrub import (
    SOI_BYTES,
    JpegMetadata,
    header_segments,
    picture_bytes,
    read_metadata,
)
from platehide.metadata.jpeg_walk import Frame, JpegLayout, walk_jpeg
from platehide.pixels import Box, Patch
from platehide.types import EditMode, ImageArray

T = TypeVar("T")
MEDIA_TYPE = "image/jpeg"


class JpegPixels:
    """The picture of a JPEG as displayed; decoded lazily, each size once.

    What is decoded is the scrubbed file, so what is looked at is what leaves. Where the file can
    be edited block by block (see :mod:`platehide.jpeg`), one walk through its picture data gives
    the overview and the way to any part; else it is decoded as a whole.

    Args:
        jpeg: a JPEG without anything that does not draw.
    """

    def __init__(self, jpeg: bytes, frame: Frame, orientation: int) -> None:
        self._jpeg = jpeg
        self._frame = frame
        self._orientation = orientation
        self._full: ImageArray | None = None
        self._displayed: ImageArray | None = None
        self._overviews: dict[int, ImageArray] = {}
        self._junk: bool | None = None
        self._editor: JpegEditor | None = None
        self._editable, self._damaged = True, False

    def edited(self, patches: Sequence[Patch]) -> bytes | None:
        """The file with patches (stored pixels) drawn into its own blocks.

        ``None`` where that cannot be done without loss.
        """
        return self._by_editor(lambda editor: editor.edit(patches).data)

    def _by_editor(self, use: Callable[[JpegEditor], T]) -> T | None:
        if not self._editable:
            return None
        try:
            if self._editor is None:
                self._editor = JpegEditor(self._jpeg)
            return use(self._editor)
        except NotEditableError as error:
            self._editable, self._editor = False, None
            self._damaged = isinstance(error, DamagedScanError)
            return None

    def _decode(self, long_side: int | None = None) -> ImageArray:
        decoded = decode_rgb(self._jpeg, self._frame, long_side)
        self._junk = decoded.junk_in_scans
        if self._damaged and decoded.padding <= FEW_BYTES:
            # libjpeg-turbo passes over some wrong codes without a word; more padding than the
            # editor takes is the one thing in which both may be right.
            raise ImageError("JPEG picture data is damaged")
        return decoded.rgb

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height as displayed, in px."""
        return displayed_size((self._frame.width, self._frame.height), self._orientation)

    def overview(self, long_side: int) -> ImageArray:
        """The whole picture, reduced in the DCT domain; see ``PixelSource``."""
        if long_side >= max(self.size_wh):
            return self._displayed_full()
        if long_side not in self._overviews:
            larger = min((size for size in self._overviews if size > long_side), default=None)
            if larger is not None:
                # A second look may be made from the first: another walk would take longer.
                self._overviews[long_side] = _reduced(self._overviews[larger], long_side)
                return self._overviews[long_side]
            reduced = self._by_editor(lambda editor: editor.overview(long_side))
            if reduced is not None:
                self._overviews[long_side] = to_displayed(reduced, self._orientation)
                return self._overviews[long_side]
            rgb = self._decode(long_side)
            self._overviews[long_side] = to_displayed(rgb, self._orientation)
        return self._overviews[long_side]

    def region(self, box: Box) -> ImageArray:
        """Full-resolution pixels of ``box``; see ``PixelSource``."""
        x0, y0, x1, y1 = box
        width, height = self.size_wh
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"box {box} does not lie inside {width}×{height}")
        if self._full is None:
            stored = box_to_stored(box, self.size_wh, self._orientation)
            part = self._by_editor(lambda editor: editor.region(stored))
            if part is not None:
                return to_displayed(part, self._orientation)
        return self._displayed_full()[y0:y1, x0:x1]

    def reduced(self, box: Box, shrink: int) -> ImageArray | None:
        """Pixels of ``box`` reduced in the DCT domain; see ``reduced_region``. ``None`` where
        that is not possible, or all is decoded already."""
        if self._full is not None:
            return None
        stored = box_to_stored(box, self.size_wh, self._orientation)
        part = self._by_editor(lambda editor: editor.reduced(stored, shrink))
        return None if part is None else to_displayed(part, self._orientation)

    def stored_rgb(self) -> ImageArray:
        """All pixels as stored (orientation not applied)."""
        if self._full is None:
            self._full = self._decode()
        return self._full

    def junk_in_scans(self) -> bool:
        """True where the scans hold bytes that draw nothing. Decodes if nothing has yet.

        Raises:
            ImageError: the picture data is damaged or ends early.
        """
        if self._junk is None and self._by_editor(JpegEditor.check):
            self._junk = False
        if self._junk is None:
            self._decode(1)
        return bool(self._junk)

    def _displayed_full(self) -> ImageArray:
        if self._displayed is None:
            self._displayed = to_displayed(self.stored_rgb(), self._orientation)
        return self._displayed


def _reduced(rgb: ImageArray, long_side: int) -> ImageArray:
    """``rgb`` reduced by area until its longer side is ``long_side``."""
    height, width = rgb.shape[:2]
    share = min(1.0, long_side / max(width, height))
    size = max(1, round(width * share)), max(1, round(height * share))
    if size == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


class JpegPhoto:
    """An opened JPEG. Second pictures in the file are no frames: they never leave.

    Args:
        data: the original bytes.
        layout: where the primary picture's parts lie in ``data``.
    """

    media_type = MEDIA_TYPE

    def __init__(self, data: bytes, layout: JpegLayout, metadata: JpegMetadata) -> None:
        self._layout = layout
        self._metadata = metadata
        self._picture = picture_bytes(data, layout)
        bare = header_segments(JpegMetadata(metadata.density, metadata.adobe))
        self._bare = SOI_BYTES + bare + self._picture
        self._pixels = JpegPixels(self._bare, layout.frame, metadata.orientation)

    @property
    def frames(self) -> Sequence[JpegPixels]:
        """The one picture."""
        return (self._pixels,)

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``. Without patches the scan data is copied bit by bit."""
        if any(patch.frame != 0 for patch in patches):
            raise ValueError("a JPEG has one frame")
        stored = patches_to_stored(patches, self._pixels.size_wh, self._metadata.orientation)
        if not stored and not self._pixels.junk_in_scans():
            return finish(self._picture, self._layout.frame, self._metadata, "untouched", options)
        edited = self._pixels.edited(stored) if stored else None
        if edited is not None:
            # Without a table that the edit has replaced: a second run would drop it.
            picture = picture_bytes(edited, walk_jpeg(edited, max_pixels=1 << 62))
            return finish(picture, self._layout.frame, self._metadata, "lossless", options)
        picture, frame, metadata = self._reencoded(stored)
        return finish(picture, frame, metadata, "reencoded", options)

    def _reencoded(self, patches: Sequence[Patch]) -> tuple[bytes, Frame, JpegMetadata]:
        whole = encode_like(self._bare, self._layout.frame, self._pixels.stored_rgb(), patches)
        layout = walk_jpeg(whole, max_pixels=1 << 62)
        adobe = read_metadata(whole, layout).adobe
        return picture_bytes(whole, layout), layout.frame, replace(self._metadata, adobe=adobe)


def finish(
    picture: bytes, frame: Frame, metadata: JpegMetadata, edit: EditMode, options: WriteOptions
) -> FinishedPhoto:
    """Put the allowed metadata in front of ``picture`` (tables … end of image).

    The rebuilt thumbnail, where asked for, is made from ``picture``, never from the input.
    """
    small = b""
    if options.thumbnail:
        colours = header_segments(JpegMetadata(metadata.density, metadata.adobe))
        small = thumbnail(SOI_BYTES + colours + picture, frame)
    header = header_segments(metadata, keep=options.keep_metadata, thumbnail_jpeg=small)
    return FinishedPhoto(
        data=SOI_BYTES + header + picture,
        media_type=MEDIA_TYPE,
        edit=edit,
        removed=metadata.removed(options.keep_metadata),
    )


def open_jpeg(data: bytes, *, max_pixels: int) -> JpegPhoto:
    """Open a JPEG without decoding it.

    Raises:
        ImageError: see :func:`platehide.metadata.jpeg_walk.walk_jpeg`.
    """
    layout = walk_jpeg(data, max_pixels=max_pixels)
    return JpegPhoto(data, layout, read_metadata(data, layout))
