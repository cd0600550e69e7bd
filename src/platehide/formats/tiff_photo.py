"""TIFF with 1 to 16 bits a sample, one or several pages. Always written anew, losslessly.

A TIFF is a web of offsets in which anything may hide between the parts; so the finished file holds
the decoded samples of the shown pages and nothing else, compressed with deflate where the source
was compressed in any way.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from platehide.errors import ImageError
from platehide.formats.guard import decoding
from platehide.formats.orientation import patches_to_stored, to_displayed, to_stored
from platehide.formats.raster import Samples, from_pillow, painted, painted_inks, rgb8
from platehide.image_io import FinishedPhoto, KeepMetadata, WriteOptions
from platehide.metadata.exif import LONG, RATIONAL, SHORT, UNDEFINED, Entry, Exif, append_ifd
from platehide.metadata.tiff_pages import (
    BITS,
    COMPRESSION,
    EXTRA_SAMPLES,
    HEIGHT,
    ICC,
    INKS,
    ORIENTATION,
    PHOTOMETRIC,
    PLANAR,
    RESOLUTION_UNIT,
    SAMPLES,
    WIDTH,
    X_RESOLUTION,
    Y_RESOLUTION,
    TiffLayout,
    TiffPage,
    walk_tiff,
)
from platehide.pixels import ArrayPixels, Patch
from platehide.types import EditMode, ImageArray

MEDIA_TYPE = "image/tiff"
_NO_COMPRESSION, _DEFLATE, _HORIZONTAL_DIFFERENCES = 1, 8, 2
_ZLIB_LEVEL = 4
_STRIP_BYTES = 1 << 20


class TiffPhoto:
    """An opened TIFF; its pages are the frames."""

    media_type = MEDIA_TYPE

    def __init__(self, data: bytes, layout: TiffLayout) -> None:
        self._layout = layout
        self._pages = [_decode(data, page) for page in layout.pages]
        self.frames: Sequence[ArrayPixels] = tuple(
            ArrayPixels(to_displayed(_rgb(page, samples), page.orientation))
            for samples, page in zip(self._pages, layout.pages, strict=True)
        )

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``."""
        pages = []
        for index, (page, samples) in enumerate(zip(self._layout.pages, self._pages, strict=True)):
            own = [p for p in patches if p.frame == index]
            stored = patches_to_stored(own, self.frames[index].size_wh, page.orientation)
            draw = painted_inks if page.inks else painted
            pages.append((page, draw(samples, stored)))
        edit: EditMode = "lossless" if patches else "untouched"
        keep = options.keep_metadata
        data = write_tiff(pages, self._layout.exif, keep)
        return FinishedPhoto(data, MEDIA_TYPE, edit, self._layout.removed(keep))


def open_tiff(data: bytes, *, max_pixels: int) -> TiffPhoto:
    """Open a TIFF.

    Raises:
        ImageError: see :func:`platehide.metadata.tiff_pages.walk_tiff`.
    """
    return TiffPhoto(data, walk_tiff(data, max_pixels=max_pixels))


def _decode(data: bytes, page: TiffPage) -> Samples:
    with decoding("TIFF"):
        samples = _by_opencv(data, page) if _better_by_opencv(page) else _by_pillow(data, page)
    if samples.shape[:2] != (page.height, page.width):
        raise ImageError("TIFF decodes to another size than it declares")
    return samples


def _rgb(page: TiffPage, samples: Samples) -> ImageArray:
    """What is looked at: 8-bit RGB."""
    if page.inks:
        return np.asarray(Image.fromarray(samples, "CMYK").convert("RGB"))
    return rgb8(samples)


def _better_by_opencv(page: TiffPage) -> bool:
    """Pillow cuts 16-bit RGB to 8 bits and warns of large pages, but OpenCV multiplies alpha and
    mixes up separate planes.
    """
    large = page.width * page.height > (Image.MAX_IMAGE_PIXELS or sys.maxsize)
    return page.depth == 16 or (large and not (page.has_alpha or page.separate or page.inks))


def _by_pillow(data: bytes, page: TiffPage) -> Samples:
    with TiffImageFile(io.BytesIO(data)) as image:
        image.seek(page.index)
        image.load()  # Pillow turns the picture by its orientation
        displayed = np.asarray(image) if page.inks else from_pillow(image)
        if page.inks and image.mode != "CMYK":
            raise ImageError("TIFF with these inks is not supported", code="unsupported")
    return to_stored(displayed, page.orientation)


def _by_opencv(data: bytes, page: TiffPage) -> Samples:
    found, pages = cv2.imdecodemulti(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1)
    )
    expected = np.uint16 if page.depth == 16 else np.uint8
    if not found or len(pages) != 1 or pages[0].dtype != expected:
        raise ImageError("TIFF cannot be decoded")
    array = to_stored(pages[0], page.orientation)  # OpenCV turns the picture too
    if array.ndim == 2:
        return array[:, :, None]
    return np.ascontiguousarray(array[:, :, [2, 1, 0, 3][: array.shape[2]]])


def write_tiff(pages: Sequence[tuple[TiffPage, Samples]], exif: Exif, keep: KeepMetadata) -> bytes:
    """A little-endian TIFF 6.0 of the pages with only what ``keep`` allows."""
    block = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for number, (page, samples) in enumerate(pages):
        height, width, channels = samples.shape
        depth = 8 * samples.dtype.itemsize
        rows = max(1, _STRIP_BYTES // (width * channels * samples.dtype.itemsize))
        starts, lengths = [], []
        for top in range(0, height, rows):
            part = samples[top : top + rows]
            strip = _deflated(part) if page.compressed else _little_endian(part)
            starts.append(len(block))
            lengths.append(len(strip))
            block += strip + b"\0" * (len(strip) % 2)
        entries = [
            Entry(254, LONG, (2 if len(pages) > 1 else 0,)),
            Entry(WIDTH, LONG, (width,)),
            Entry(HEIGHT, LONG, (height,)),
            Entry(BITS, SHORT, (depth,) * channels),
            Entry(COMPRESSION, SHORT, (_DEFLATE if page.compressed else _NO_COMPRESSION,)),
            Entry(PHOTOMETRIC, SHORT, (INKS if page.inks else 1 if channels <= 2 else 2,)),
            Entry(273, LONG, tuple(starts)),
            Entry(ORIENTATION, SHORT, (page.orientation,)),
            Entry(SAMPLES, SHORT, (channels,)),
            Entry(278, LONG, (rows,)),
            Entry(279, LONG, tuple(lengths)),
            Entry(PLANAR, SHORT, (1,)),
        ]
        if page.compressed:
            entries.append(Entry(317, SHORT, (_HORIZONTAL_DIFFERENCES,)))
        if page.resolution:
            entries.append(Entry(X_RESOLUTION, RATIONAL, page.resolution[:2]))
            entries.append(Entry(Y_RESOLUTION, RATIONAL, page.resolution[2:4]))
            entries.append(Entry(RESOLUTION_UNIT, SHORT, page.resolution[4:]))
        if channels in (2, 4) and not page.inks:
            entries.append(Entry(EXTRA_SAMPLES, SHORT, (2,)))
        if page.icc:
            entries.append(Entry(ICC, UNDEFINED, page.icc))
        kept = exif.reduced(keep) if number == 0 else Exif()
        entries += kept.camera
        inner = {34665: kept.exposure, 34853: kept.gps}
        entries += [Entry(tag, LONG, (0,)) for tag, inside in inner.items() if inside]
        block[link : link + 4] = len(block).to_bytes(4, "little")
        value_at, link = append_ifd(block, entries)
        for tag, inside in inner.items():
            if inside:
                at = value_at[tag]
                block[at : at + 4] = len(block).to_bytes(4, "little")
                append_ifd(block, list(inside))
    return bytes(block)


def _little_endian(rows: Samples) -> bytes:
    return rows.astype(rows.dtype.newbyteorder("<")).tobytes()


def _deflated(rows: Samples) -> bytes:
    """Each sample minus its left neighbour, per channel (TIFF 6.0, section 14), compressed."""
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]
    return zlib.compress(_little_endian(differences), _ZLIB_LEVEL)
