"""The closer look at photos of an ad whose plate was found on other photos of the same ad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from platehide.detection import Detector, Findings
from platehide.geometry import hull_box, polygon_iou
from platehide.pixels import Box, PixelSource
from platehide.types import Detection, ImageArray

LOWER = 0.5
"""Share of the usual threshold that is enough on the second look."""

_TILES, _OVERLAP = 2, 0.25
_MAX_IOU = 0.3
_MIN_SIDE = 64


@dataclass(frozen=True)
class RegionPixels:
    """A part of a picture as a picture of its own."""

    whole: PixelSource
    box: Box

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in px."""
        x0, y0, x1, y1 = self.box
        return x1 - x0, y1 - y0

    def overview(self, long_side: int) -> ImageArray:
        """The part itself."""
        del long_side
        return self.whole.region(self.box)

    def region(self, box: Box) -> ImageArray:
        """Full-resolution pixels of ``box``, relative to the part."""
        x, y = self.box[:2]
        return self.whole.region((box[0] + x, box[1] + y, box[2] + x, box[3] + y))


@dataclass(frozen=True)
class CloserDetector:
    """Looks at the whole picture and at four overlapping quarters, so at about twice the scale.

    A plate that a quarter cuts off is taken from where it is seen whole. Everything above ``conf``
    is covered, so nothing remains in doubt.
    """

    inner: Detector
    conf: float

    @property
    def model(self) -> str:
        """``name@version``."""
        return self.inner.model

    def detect(self, source: PixelSource, conf: float | None = None) -> Findings:
        """See ``Detector.detect``; the threshold is ``conf`` of this object."""
        del conf
        found: list[Detection] = list(self.inner.detect(source, self.conf).plates)
        width, height = source.size_wh
        for box in tiles(width, height):
            for plate in self.inner.detect(RegionPixels(source, box), self.conf).plates:
                if not _is_cut(plate, box, (width, height)):
                    found.append(Detection(plate.quad + np.array(box[:2]), plate.confidence))
        found.sort(key=lambda d: -d.confidence)
        kept: list[Detection] = []
        for plate in found:
            if all(polygon_iou(plate.quad, other.quad) < _MAX_IOU for other in kept):
                kept.append(plate)
        return Findings(tuple(kept))


def tiles(width: int, height: int) -> list[Box]:
    """Four overlapping quarters; none for a picture that is too small to gain from it."""
    if min(width, height) < 2 * _MIN_SIDE:
        return []
    share = (1 + _OVERLAP) / _TILES
    tile_w, tile_h = round(width * share), round(height * share)
    return [
        (x, y, x + tile_w, y + tile_h) for y in (0, height - tile_h) for x in (0, width - tile_w)
    ]


def _is_cut(plate: Detection, box: Box, size_wh: tuple[int, int]) -> bool:
    """True if the plate touches a border of its tile that is not a border of the picture."""
    x0, y0, x1, y1 = hull_box(plate.quad)
    width, height = box[2] - box[0], box[3] - box[1]
    return bool(
        (x0 < 2 and box[0] > 0)
        or (y0 < 2 and box[1] > 0)
        or (x1 > width - 2 and box[2] < size_wh[0])
        or (y1 > height - 2 and box[3] < size_wh[1])
    )


def usual_threshold(detector: Detector, conf: float | None) -> float:
    """The confidence from which a plate is covered at first sight."""
    if conf is not None:
        return conf
    spec = getattr(detector, "spec", None)
    return float(getattr(getattr(spec, "thresholds", None), "hide", 0.5))
