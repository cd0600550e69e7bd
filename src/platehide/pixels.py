"""Where pixels come from. A detector or a cover never asks how a photo is stored.

Everything here is in the photo as displayed: EXIF orientation applied, sRGB-like uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from platehide.types import FloatArray, ImageArray

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px, x1 and y1 exclusive."""


def box_holds(outer: Box, inner: Box) -> bool:
    """Whether ``inner`` lies wholly inside ``outer``."""
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


class PixelSource(Protocol):
    """One picture that can be looked at as a whole, reduced, or in part, at full resolution."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px."""

    def overview(self, long_side: int) -> ImageArray:
        """The whole picture, possibly reduced, its longer side at least
        ``min(long_side, max(size_wh))`` px. Reductions are by area (a DCT-domain reduction
        counts); the aspect ratio may be off by the rounding of one pixel.
        """

    def region(self, box: Box) -> ImageArray:
        """Full-resolution pixels of ``box``, which must lie inside the picture."""


@dataclass(frozen=True)
class ArrayPixels:
    """A decoded picture ``(H, W, 3)`` as a pixel source (no copies)."""

    rgb: ImageArray

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"expected uint8 (H, W, 3), got {self.rgb.dtype} {self.rgb.shape}")
        if 0 in self.rgb.shape:
            raise ValueError(f"the picture has no pixels: {self.rgb.shape}")

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def overview(self, long_side: int) -> ImageArray:
        """The picture itself; resizing is the caller's (preprocess.py)."""
        del long_side
        return self.rgb

    def region(self, box: Box) -> ImageArray:
        """A view of the pixels of ``box``."""
        x0, y0, x1, y1 = box
        width, height = self.size_wh
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"box {box} does not lie inside {width}×{height}")
        return self.rgb[y0:y1, x0:x1]


SHRINKS = (8, 4, 2)
"""Whole factors by which a source may reduce a part of itself cheaply."""


def reduced_region(source: PixelSource, box: Box, shrink: int) -> ImageArray:
    """Pixels of ``box``, reduced by area by ``shrink`` (one of ``SHRINKS``) where the source can do
    that more cheaply than decode them all (a JPEG can), at full size otherwise.

    Edges that are no multiples of ``shrink`` px are rounded to the nearest.
    """
    reduced = getattr(source, "reduced", None)
    found = reduced(box, shrink) if reduced is not None and shrink > 1 else None
    return source.region(box) if found is None else found


@dataclass(frozen=True)
class Closeup:
    """A detail of ``source`` in which a plate, if there is one, spans about half of the width: a
    detector need not magnify it, nor look for smaller ones.

    Attributes:
        box: the detail; best with edges at multiples of 8 px.
        known: true for a quad ``(4, 2)`` that lies where a plate is known to be covered; what is
            found there need not be looked at closely, nor reported.
    """

    source: PixelSource
    box: Box
    known: Callable[[FloatArray], bool] | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    def overview(self, long_side: int) -> ImageArray:
        """See ``PixelSource``."""
        long_px = max(self.size_wh)
        shrink = next((s for s in SHRINKS if long_px >= s * long_side), 1)
        return reduced_region(self.source, self.box, shrink)

    def region(self, box: Box) -> ImageArray:
        """See ``PixelSource``."""
        return self.source.region(self._moved(box))

    def reduced(self, box: Box, shrink: int) -> ImageArray:
        """See ``reduced_region``."""
        return reduced_region(self.source, self._moved(box), shrink)

    def _moved(self, box: Box) -> Box:
        left, top, _, _ = self.box
        return box[0] + left, box[1] + top, box[2] + left, box[3] + top


@dataclass(frozen=True)
class Explained:
    """A picture in which some places are accounted for.

    Attributes:
        known: as in :class:`Closeup`.
    """

    source: PixelSource
    known: Callable[[FloatArray], bool]

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.source.size_wh

    def overview(self, long_side: int) -> ImageArray:
        """See ``PixelSource``."""
        return self.source.overview(long_side)

    def region(self, box: Box) -> ImageArray:
        """See ``PixelSource``."""
        return self.source.region(box)

    def reduced(self, box: Box, shrink: int) -> ImageArray:
        """See ``reduced_region``."""
        return reduced_region(self.source, box, shrink)


@dataclass(frozen=True)
class Patch:
    """New pixels for a part of a picture, in displayed pixels.

    Attributes:
        x, y: position of the upper left corner in the picture.
        pixels: uint8 ``(h, w, 3)`` RGB.
        changed: bool ``(h, w)``; only these pixels are written.
        frame: index of the frame in animated or multi-page files.
    """

    x: int
    y: int
    pixels: ImageArray
    changed: np.ndarray
    frame: int = 0

    def __post_init__(self) -> None:
        if self.pixels.shape[:2] != self.changed.shape or self.changed.dtype != np.bool_:
            raise ValueError(
                f"patch: pixels {self.pixels.shape} and changed {self.changed.shape} disagree"
            )

    @property
    def box(self) -> Box:
        """The patch's place as x0, y0, x1, y1."""
        h, w = self.changed.shape
        return self.x, self.y, self.x + w, self.y + h


def apply_patches(rgb: ImageArray, patches: tuple[Patch, ...]) -> ImageArray:
    """A copy of ``rgb`` with the patches' changed pixels written, in order."""
    out = rgb.copy()
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        out[y0:y1, x0:x1][patch.changed] = patch.pixels[patch.changed]
    return out
