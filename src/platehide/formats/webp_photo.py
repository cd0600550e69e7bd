"""WebP, still and animated, lossy and lossless."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

from platehide.errors import ImageError
from platehide.formats.guard import decoding
from platehide.formats.orientation import patches_to_stored, to_displayed
from platehide.formats.raster import (
    Samples,
    difference_box,
    hides_colour,
    painted,
    rgb8,
    to_pillow,
    without_needless_alpha,
)
from platehide.image_io import FinishedPhoto, WriteOptions
from platehide.metadata.embedded import holds_picture
from platehide.metadata.webp_riff import (
    WebpImage,
    WebpLayout,
    estimate_quality,
    placed,
    walk_webp,
    write_webp,
)
from platehide.pixels import ArrayPixels, Patch
from platehide.types import EditMode

MEDIA_TYPE = "image/webp"


class WebpPhoto:
    """An opened WebP. Frames are whole pictures as displayed."""

    media_type = MEDIA_TYPE

    def __init__(self, layout: WebpLayout) -> None:
        self._layout = layout
        self._lossless = all(image.kind == b"VP8L" for image in layout.images)
        self._canvases = _decode_still(layout) if layout.animation is None else _animate(layout)
        # a decoder stops at the last pixel and never sees what stands behind it
        self._must_rewrite = any(holds_picture(i.data + i.alpha) for i in layout.images) or (
            layout.animation is not None
            and any(
                image.has_alpha and hides_colour(_decode_still(_alone(layout, image))[0])
                for image in layout.images
            )
        )
        orientation = layout.exif.orientation
        self.frames: Sequence[ArrayPixels] = tuple(
            ArrayPixels(to_displayed(rgb8(canvas), orientation)) for canvas in self._canvases
        )

    def write(self, patches: Sequence[Patch], options: WriteOptions) -> FinishedPhoto:
        """Finished bytes; see ``Photo``. Without patches the coded pictures are copied."""
        keep = options.keep_metadata
        removed = self._layout.removed(keep)
        if not patches and not self._must_rewrite:
            data = write_webp(self._layout, keep=keep)
            return FinishedPhoto(data, MEDIA_TYPE, "untouched", removed)
        orientation = self._layout.exif.orientation
        stored = patches_to_stored(patches, self.frames[0].size_wh, orientation)
        canvases = [
            painted(canvas, [p for p in stored if p.frame == index])
            for index, canvas in enumerate(self._canvases)
        ]
        data = write_webp(replace(self._layout, images=self._coded(canvases)), keep=keep)
        exact: EditMode = "lossless" if patches else "untouched"
        edit = exact if self._lossless else "reencoded"
        return FinishedPhoto(data, MEDIA_TYPE, edit, removed)

    def _coded(self, canvases: Sequence[Samples]) -> tuple[WebpImage, ...]:
        canvases = without_needless_alpha(canvases)
        quality = estimate_quality(self._layout.images)
        if self._layout.animation is None:
            return (_encode(canvases[0], self._lossless, quality),)
        images = []
        previous: Samples | None = None
        for image, canvas in zip(self._layout.images, canvases, strict=True):
            x0, y0, x1, y1 = difference_box(previous, canvas)
            x0, y0 = x0 // 2 * 2, y0 // 2 * 2  # frames stand on even pixels
            part = np.ascontiguousarray(canvas[y0:y1, x0:x1])
            images.append(placed(_encode(part, self._lossless, quality), x0, y0, image.duration))
            previous = canvas
        return tuple(images)


def open_webp(data: bytes, *, max_pixels: int) -> WebpPhoto:
    """Open a WebP.

    Raises:
        ImageError: see :func:`platehide.metadata.webp_riff.walk_webp`.
    """
    return WebpPhoto(walk_webp(data, max_pixels=max_pixels))


def _alone(layout: WebpLayout, image: WebpImage) -> WebpLayout:
    """One frame as a still picture."""
    return replace(layout, width=image.width, height=image.height, images=(image,), animation=None)


def _decode_still(layout: WebpLayout) -> list[Samples]:
    """OpenCV keeps the colour under transparent pixels; Pillow's animation decoder need not."""
    data = write_webp(layout, keep="none", plain=True)
    with decoding("WebP"):
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 3 or array.dtype != np.uint8:
        raise ImageError("WebP picture data is damaged or ends early")
    if array.shape[:2] != (layout.height, layout.width):
        raise ImageError("WebP decodes to another size than it declares")
    code = cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return [cv2.cvtColor(array, code)]


def _animate(layout: WebpLayout) -> list[Samples]:
    """RGBA canvases as the animation shows them."""
    data = write_webp(layout, keep="none", plain=True)
    canvases: list[Samples] = []
    with decoding("animated WebP"), WebPImageFile(io.BytesIO(data)) as image:
        if image.n_frames != len(layout.images):
            raise ImageError("WebP has another number of frames than it says")
        for index in range(image.n_frames):
            image.seek(index)
            canvases.append(np.asarray(image.convert("RGBA")))
    return canvases


def _encode(samples: Samples, lossless: bool, quality: int) -> WebpImage:
    out = io.BytesIO()
    if lossless:
        to_pillow(samples).save(out, "WEBP", lossless=True, exact=True, quality=75)
    else:
        to_pillow(samples).save(out, "WEBP", quality=quality, alpha_quality=100, exact=True)
    return walk_webp(out.getvalue(), max_pixels=1 << 62).images[0]
