"""The part of a picture in which something may lie, at several sizes, to be flattened from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from platehide.cover.views import GLANCE_H, MARGIN, Rect
from platehide.geometry import plate_height
from platehide.pixels import PixelSource
from platehide.types import FloatArray, ImageArray

OVERVIEW = 512
"""px: detectors have asked for a picture of that size already."""


@dataclass(frozen=True, eq=False)
class Near:
    """The part of a picture in which all guesses lie, at full size and halved ever again."""

    levels: tuple[ImageArray, ...]
    origin: FloatArray
    scale: tuple[float, float] = (1.0, 1.0)

    @staticmethod
    def reduced(source: PixelSource, outlines: list[FloatArray]) -> Near | None:
        """The whole picture as a detector sees it; ``None`` where that is too coarse to glance
        at, or would have to be made first."""
        width, height = source.size_wh
        least = min((plate_height(outline) for outline in outlines), default=0.0)
        if least * OVERVIEW < GLANCE_H * max(width, height):
            return None
        view = source.overview(OVERVIEW)
        if max(view.shape[:2]) > 2 * OVERVIEW:
            return None
        scale = view.shape[1] / width, view.shape[0] / height
        return Near(_halved(view), np.zeros(2), scale)

    @staticmethod
    def of(source: PixelSource, outlines: list[FloatArray]) -> Near | None:
        """At full size; ``None`` outside the picture."""
        if not outlines:
            return None
        points = np.concatenate(outlines)
        reach = MARGIN * np.ptp(points, axis=0)
        limit = np.array(source.size_wh)
        low = np.clip(np.floor(points.min(axis=0) - reach), 0, limit).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + reach) + 1, 0, limit).astype(int)
        if (high - low < 2).any():
            return None
        box = int(low[0]), int(low[1]), int(high[0]), int(high[1])
        return Near(_halved(source.region(box)), low.astype(np.float64))

    def flattened(
        self, to_picture: FloatArray, height_px: float, rect: Rect, size_wh: tuple[int, int]
    ) -> ImageArray:
        """The cover of ``height_px`` drawn into ``rect`` of a canvas of ``size_wh``."""
        level, move = self.level_for(height_px / rect[3])
        return warped(level, move @ to_picture @ share_of(rect), size_wh)

    def level_for(self, shrink: float) -> tuple[ImageArray, FloatArray]:
        """The level from which to shrink so many times, and the way from the picture to it."""
        halvings = int(np.log2(max(1.0, shrink * self.scale[1])))
        level = self.levels[min(len(self.levels) - 1, halvings)]
        h, w = level.shape[:2]
        kx = self.scale[0] * w / self.levels[0].shape[1]
        ky = self.scale[1] * h / self.levels[0].shape[0]
        x, y = self.origin
        return level, np.array([[kx, 0, -x * kx - 0.5], [0, ky, -y * ky - 0.5], [0, 0, 1.0]])


def _halved(picture: ImageArray) -> tuple[ImageArray, ...]:
    levels = [np.ascontiguousarray(picture)]
    while min(levels[-1].shape[:2]) > 2 * GLANCE_H:
        h, w = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return tuple(levels)


def share_of(rect: Rect) -> FloatArray:
    """From a pixel of a canvas to a share of the cover that lies at ``rect``."""
    x, y, w, h = rect
    return np.array([[1 / w, 0, (0.5 - x) / w], [0, 1 / h, (0.5 - y) / h], [0, 0, 1.0]])


def warped(level: ImageArray, matrix: FloatArray, size_wh: tuple[int, int]) -> ImageArray:
    """``level`` as ``matrix`` says, from a pixel of the result to one of ``level``."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(  # type: ignore[return-value]
        level, matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
