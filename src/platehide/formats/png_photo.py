"""PNG and APNG: lossless, so every sample outside a patch is identical."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from platehide.errors import ImageError
from platehide.formats.guard import decoding
from platehide.formats.orientation import patches_to_stored, to_displayed
from platehide.formats.raster import (
    Samples,
    difference_box,
    from_pillow,
    hides_colour,
    painted,
    rgb8,
    to_pillow,
    without_needless_alpha,
)
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.metadata.png_chunks import (
    FrameControl,
    PngHeader,
    PngLayout,
    PngStream,
    stream_state,
    walk_png,
    write_png,
)
from platehide.pixels import ArrayPixels, Patch
from platehide.types import EditMode

MEDIA_TYPE = "image/png"
# On photos as small as the default level, and three times as fast.
_ZLIB_LEVEL = 4
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_BLEND_OVER, _DISPOSE_BACKGROUND, _DISPOSE_PREVIOUS = 1, 1, 2


class PngPhoto:
    """An opened PNG. Frames are whole pictures as displayed, a hidden still picture included."""

    media_type = MEDIA_TYPE

    def __init__(self, layout: PngLayout) -> None:
        self._layout = layout
        states = [stream_state(s.data, _header_of(layout, s).raw_size()) for s in layout.streams]
        if not all(complete for complete, _ in states):
            raise ImageError("PNG picture data ends early", code="truncated")
        decoded = [_decode(layout, stream) for stream in layout.streams]
        self._canvases = _compose(layout, decoded) if layout.plays is not None else decoded
        self._must_rewrite = not all(clean for _, clean in states) or (
            layout.plays is not None and any(hides_colour(samples) for samples in decoded)
        )
        orientation = layout.exif.orientation
        self.frames: Sequence[ArrayPixels] = tuple(
            ArrayPixels(to_displayed(rgb8(canvas), orientation)) for canvas in self._canvases
        )

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``. Without patches the compressed data is copied."""
        keep = options.keep_metadata
        removed = self._layout.removed(keep)
        if not patches and not self._must_rewrite:
            data = write_png(self._layout, keep=keep)
            return FinishedPhoto(data, MEDIA_TYPE, "untouched", removed)
        orientation = self._layout.exif.orientation
        stored = patches_to_stored(patches, self.frames[0].size_wh, orientation)
        canvases = [
            painted(canvas, [p for p in stored if p.frame == index])
            for index, canvas in enumerate(self._canvases)
        ]
        layout = _stored_anew(self._layout, canvases)
        same = layout.header.colour == self._layout.header.colour
        data = write_png(layout, keep=keep, same_samples=same)
        edit: EditMode = "lossless" if patches else "untouched"
        return FinishedPhoto(data, MEDIA_TYPE, edit, removed)


def open_png(data: bytes, *, max_pixels: int) -> PngPhoto:
    """Open a PNG.

    Raises:
        ImageError: see :func:`platehide.metadata.png_chunks.walk_png`.
    """
    layout = walk_png(data, max_pixels=max_pixels)
    if layout.plays is not None and layout.header.depth == 16:
        raise ImageError("animated PNG with 16-bit samples is not supported", code="unsupported")
    return PngPhoto(layout)


def _header_of(layout: PngLayout, stream: PngStream) -> PngHeader:
    if stream.control is None:
        return layout.header
    return replace(layout.header, width=stream.control.width, height=stream.control.height)


def _decode(layout: PngLayout, stream: PngStream) -> Samples:
    """Samples of one compressed picture, decoded from a file that holds nothing else."""
    header = _header_of(layout, stream)
    single = replace(
        layout, header=header, streams=(PngStream(None, stream.data),), plays=None, ancillary={}
    )
    data = write_png(single, keep="none", plain=True)
    with decoding("PNG"):
        if header.depth == 16:
            return _decode16(data, header)
        with PngImageFile(io.BytesIO(data)) as image:
            return from_pillow(image)


def _decode16(data: bytes, header: PngHeader) -> Samples:
    """OpenCV reads 16-bit samples whole; Pillow would cut RGB to 8 bits."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ImageError("PNG with 16-bit samples cannot be decoded")
    if array.ndim == 2:
        return array[:, :, None]
    grey = header.colour in (0, 4)
    order = [2, 1, 0, 3][: array.shape[2]]
    if grey:
        order = [0, 3] if array.shape[2] == 4 else [0]
    return np.ascontiguousarray(array[:, :, order])


def _rgba(samples: Samples) -> Samples:
    if samples.shape[2] <= 2:
        samples = np.concatenate([np.repeat(samples[:, :, :1], 3, 2), samples[:, :, 1:]], axis=2)
    if samples.shape[2] == 4:
        return samples
    opaque = np.full(samples.shape[:2], np.iinfo(samples.dtype).max, samples.dtype)
    return np.dstack([samples, opaque])


def _compose(layout: PngLayout, decoded: Sequence[Samples]) -> list[Samples]:
    """RGBA canvases as an animation shows them (APNG: dispose_op, blend_op)."""
    height, width = layout.header.height, layout.header.width
    canvas = np.zeros((height, width, 4), np.uint8)
    shown: list[Samples] = []
    for stream, samples in zip(layout.streams, decoded, strict=True):
        control = stream.control
        source = _rgba(samples)
        if control is None:
            shown.append(source)
            continue
        rows = slice(control.y, control.y + control.height)
        columns = slice(control.x, control.x + control.width)
        before = canvas.copy()
        if control.blend == _BLEND_OVER:
            canvas[rows, columns] = _over(source, canvas[rows, columns])
        else:
            canvas[rows, columns] = source
        shown.append(canvas.copy())
        first = not any(s.control for s in layout.streams[: len(shown) - 1])
        if control.dispose == _DISPOSE_BACKGROUND or (
            control.dispose == _DISPOSE_PREVIOUS and first
        ):
            canvas[rows, columns] = 0
        elif control.dispose == _DISPOSE_PREVIOUS:
            canvas = before
    return shown


def _over(source: Samples, below: Samples) -> Samples:
    """Porter-Duff over, straight alpha, 8 bits; exact where alpha is 0 or 255."""
    a = source[:, :, 3:].astype(np.float64) / 255.0
    b = below[:, :, 3:].astype(np.float64) / 255.0
    alpha = a + b * (1.0 - a)
    weight = np.divide(a, alpha, out=np.zeros_like(a), where=alpha > 0)
    colour = source[:, :, :3] * weight + below[:, :, :3] * (1.0 - weight)
    mixed = np.rint(np.concatenate([colour, alpha * 255.0], axis=2)).astype(np.uint8)
    solid, clear = source[:, :, 3:] == 255, source[:, :, 3:] == 0
    return np.where(solid, source, np.where(clear, below, mixed))


def _stored_anew(layout: PngLayout, canvases: Sequence[Samples]) -> PngLayout:
    """The layout with all pictures compressed anew, in truecolour where it was a palette."""
    if layout.plays is not None:
        canvases = without_needless_alpha(canvases)
    height, width, channels = canvases[0].shape
    deep = canvases[0].dtype == np.uint16
    header = PngHeader(width, height, 16 if deep else 8, _COLOUR_TYPE[channels], interlaced=False)
    streams: list[PngStream] = []
    previous: Samples | None = None
    for stream, canvas in zip(layout.streams, canvases, strict=True):
        if stream.control is None:
            streams.append(_compress(canvas))
            continue
        x0, y0, x1, y1 = difference_box(previous, canvas)
        control = FrameControl(x1 - x0, y1 - y0, x0, y0, stream.control.delay, 0, 0)
        streams.append(replace(_compress(canvas[y0:y1, x0:x1]), control=control))
        previous = canvas
    # a profile for grey does not fit RGB
    icc = None if channels >= 3 and layout.header.colour in (0, 4) else layout.icc
    return replace(
        layout, header=header, palette=b"", transparency=b"", icc=icc, streams=tuple(streams)
    )


def _compress(samples: Samples) -> PngStream:
    """A picture compressed anew, by libpng wherever it is offered for that kind of samples."""
    if samples.dtype == np.uint16:
        if samples.shape[2] == 2:
            return PngStream(None, _deflated(samples))
        order = [2, 1, 0, 3] if samples.shape[2] == 4 else slice(None, None, -1)
        _, encoded = cv2.imencode(".png", samples[:, :, order])
        data = encoded.tobytes()
    else:
        buffer = io.BytesIO()
        to_pillow(samples).save(buffer, "PNG", compress_level=_ZLIB_LEVEL)
        data = buffer.getvalue()
    return walk_png(data, max_pixels=1 << 62).streams[0]


def _deflated(samples: Samples) -> bytes:
    """16-bit samples as a PNG stores them: each byte minus the one above it (filter type 2)."""
    rows = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8)
    filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    return zlib.compress(filtered.tobytes(), _ZLIB_LEVEL)
