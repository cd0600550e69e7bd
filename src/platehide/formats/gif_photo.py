"""GIF, still and animated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from platehide.errors import ImageError
from platehide.formats.guard import decoding
from platehide.formats.raster import Samples, difference_box, painted, rgb8
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.metadata.gif_blocks import GifImage, GifLayout, lzw_state, walk_gif, write_gif
from platehide.pixels import ArrayPixels, Patch
from platehide.types import EditMode, ImageArray

MEDIA_TYPE = "image/gif"
_KEEP, _CLEAR = 1 << 2, 2 << 2  # disposal: leave the picture, clear to transparent
_HAS_TRANSPARENT = 1
_FEWEST_COVER_COLOURS = 8


class GifPhoto:
    """An opened GIF. Frames are whole pictures as displayed."""

    media_type = MEDIA_TYPE

    def __init__(self, layout: GifLayout) -> None:
        self._layout = layout
        states = [lzw_state(image) for image in layout.images]
        if not all(complete for complete, _ in states):
            raise ImageError("GIF picture data ends early", code="truncated")
        self._must_rewrite = not all(clean for _, clean in states)
        self._canvases = _animate(layout)
        self.frames: Sequence[ArrayPixels] = tuple(ArrayPixels(rgb8(c)) for c in self._canvases)

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``. Without patches the coded pictures are copied.

        ``lossless`` where 256 colours a frame suffice for every pixel outside the patches.
        """
        del options  # GIF has no place for EXIF
        removed = tuple(sorted(self._layout.dropped))
        if not patches and not self._must_rewrite:
            return FinishedPhoto(write_gif(self._layout), MEDIA_TYPE, "untouched", removed)
        canvases, covered = [], []
        for index, canvas in enumerate(self._canvases):
            own = [p for p in patches if p.frame == index]
            canvases.append(painted(canvas, own))
            mask = np.zeros(canvas.shape[:2], np.bool_)
            for patch in own:
                x0, y0, x1, y1 = patch.box
                mask[y0:y1, x0:x1] |= patch.changed
            covered.append(mask)
        images, exact = _stored_anew(self._layout.images, canvases, covered)
        layout = replace(self._layout, images=images, palette=b"", screen=b"\x70\0\0")
        unchanged: EditMode = "lossless" if patches else "untouched"
        edit = unchanged if exact else "reencoded"
        return FinishedPhoto(write_gif(layout), MEDIA_TYPE, edit, removed)


def open_gif(data: bytes, *, max_pixels: int) -> GifPhoto:
    """Open a GIF.

    Raises:
        ImageError: see :func:`platehide.metadata.gif_blocks.walk_gif`.
    """
    return GifPhoto(walk_gif(data, max_pixels=max_pixels))


def _animate(layout: GifLayout) -> list[Samples]:
    """RGBA canvases as the animation shows them."""
    canvases: list[Samples] = []
    with decoding("GIF"), GifImageFile(io.BytesIO(write_gif(layout, plain=True))) as image:
        if image.n_frames != len(layout.images):
            raise ImageError("GIF has another number of frames than pictures")
        for index in range(len(layout.images)):
            image.seek(index)
            canvases.append(np.asarray(image.convert("RGBA")))
    if canvases[0].shape[:2] != (layout.height, layout.width):
        raise ImageError("GIF decodes to another size than it declares")
    return canvases


def _stored_anew(
    old: Sequence[GifImage], canvases: Sequence[Samples], covered: Sequence[NDArray[np.bool_]]
) -> tuple[tuple[GifImage, ...], bool]:
    """Each frame with its own palette, and whether every pixel outside ``covered`` is exact."""
    clear = any((c[:, :, 3] == 0).any() for c in canvases)
    images, exact = [], True
    previous: Samples | None = None
    for image, canvas, mask in zip(old, canvases, covered, strict=True):
        x0, y0, x1, y1 = difference_box(None if clear else previous, canvas)
        part = canvas[y0:y1, x0:x1]
        indices, palette, fits = _indexed(part, mask[y0:y1, x0:x1], clear)
        exact = exact and fits
        coded = _encode(indices, palette)
        control = (_CLEAR | _HAS_TRANSPARENT) if clear else _KEEP
        images.append(replace(coded, x=x0, y=y0, control=control, delay=image.delay))
        previous = canvas
    return tuple(images), exact


def _indexed(
    rgba: Samples, covered: NDArray[np.bool_], clear: bool
) -> tuple[NDArray[np.uint8], ImageArray, bool]:
    """Palette indices ``(h, w)``, palette ``(n ≤ 256, 3)`` and whether uncovered pixels are exact.

    Index 0 is transparent where ``clear``. Uncovered colours come first; the cover shares what
    is left of the palette, or the nearest uncovered colours where hardly anything is left.
    """
    codes = _packed(rgba)
    visible = rgba[:, :, 3] > 0
    room = 256 - int(clear)
    plain, drawn = visible & ~covered, visible & covered
    palette = _unpacked(_distinct(codes[plain]))
    exact = len(palette) <= room
    if not exact:
        palette = _reduced(rgba[plain], room - _FEWEST_COVER_COLOURS * int(drawn.any()))
    left = room - len(palette)
    if drawn.any() and (left >= _FEWEST_COVER_COLOURS or len(palette) == 0):
        palette = np.concatenate([palette, _reduced(rgba[drawn], left)])
    distinct = _distinct(codes)
    index_of = np.zeros(1 << 24, np.uint8)
    index_of[distinct] = _nearest(_unpacked(distinct), palette) + int(clear)
    indices = index_of[codes]
    indices[~visible] = 0
    if clear:
        palette = np.concatenate([np.zeros((1, 3), np.uint8), palette])
    return indices, palette, exact


def _packed(rgb: Samples) -> NDArray[np.uint32]:
    """24-bit numbers of the first three of ``(…, C)`` channels."""
    codes: NDArray[np.uint32] = rgb[..., 0].astype(np.uint32)
    for channel in (1, 2):
        codes <<= np.uint32(8)
        codes |= rgb[..., channel]
    return codes


def _unpacked(codes: NDArray[np.uint32]) -> ImageArray:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)


def _distinct(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sorted distinct 24-bit numbers, without sorting the pixels."""
    seen = np.zeros(1 << 24, np.bool_)
    seen[codes] = True
    distinct: NDArray[np.uint32] = np.flatnonzero(seen).astype(np.uint32)
    return distinct


def _reduced(pixels: Samples, colours: int) -> ImageArray:
    """At most ``colours`` colours for ``(n, 4)`` pixels; exact where they have no more."""
    distinct = _unpacked(_distinct(_packed(pixels)))
    if len(distinct) <= colours:
        return distinct
    strip = Image.fromarray(np.ascontiguousarray(pixels[None, :, :3]))
    reduced = strip.quantize(colours, dither=Image.Dither.NONE)
    table = np.array(reduced.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return _unpacked(_distinct(_packed(table[:colours])))


def _nearest(colours: ImageArray, palette: ImageArray) -> NDArray[np.int64]:
    """For each of ``(n, 3)`` colours the index of the nearest of the palette (squared RGB)."""
    if len(palette) == 0:
        return np.zeros(len(colours), np.int64)
    out = np.empty(len(colours), np.int64)
    table = palette.astype(np.int32)
    for start in range(0, len(colours), 4096):
        some = colours[start : start + 4096].astype(np.int32)
        out[start : start + 4096] = ((some[:, None] - table[None]) ** 2).sum(axis=2).argmin(axis=1)
    return out


def _encode(indices: NDArray[np.uint8], palette: ImageArray) -> GifImage:
    """One coded picture with its own palette, by Pillow's LZW."""
    image = Image.frombytes("P", (indices.shape[1], indices.shape[0]), indices.tobytes())
    padded = np.zeros((256, 3), np.uint8)
    padded[: len(palette)] = palette
    image.putpalette(padded.tobytes())
    out = io.BytesIO()
    image.save(out, "GIF", optimize=False)
    layout = walk_gif(out.getvalue(), max_pixels=1 << 62)
    coded = layout.images[0]
    return replace(coded, palette=coded.palette or layout.palette, control=None)
