"""Pixels on their way into a network. The ONE copy: training and serving both call it.

Normalisation (mean, scale, channel order) lives inside the exported graph, which takes
uint8 RGB; what is left here is resizing and padding, and the map back to photo pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from platehide.types import FloatArray, ImageArray

MOST_BILINEAR = 1.5
"""Reduced less than so much, nothing aliases to speak of, and averaging takes five times as long
(on `val` the same plates and the same false covers)."""

PAD_VALUE = 114
"""Grey of the padding (and of everything outside the photo in training crops)."""


def resize_pixels(image: ImageArray, size_wh: tuple[int, int]) -> ImageArray:
    """Resize ``(H, W, 3)`` to ``size_wh``: area-averaged down, bilinear up and a little down.

    A resize that shrinks one side and grows the other is averaged, which for a growing side
    equals nearest-neighbour; such shapes (extreme panoramas) are rare and harmless.
    """
    width, height = size_wh
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    shrinks = max(image.shape[1] / width, image.shape[0] / height) >= MOST_BILINEAR
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)


@dataclass(frozen=True)
class NetInput:
    """A network's picture and the way back.

    Attributes:
        pixels: uint8 ``(h, w, 3)`` RGB, padded.
        scale_xy: network pixels per photo pixel, ``(2,)``.
    """

    pixels: ImageArray
    scale_xy: FloatArray

    def to_photo(self, points: FloatArray) -> FloatArray:
        """Map ``(..., 2)`` points from network pixels to photo pixels."""
        return points / self.scale_xy


def stretch(image: ImageArray, size_wh: tuple[int, int]) -> NetInput:
    """Resize to exactly ``size_wh``, the aspect ratio given up (whole-photo networks)."""
    height, width = image.shape[:2]
    scale = np.array([size_wh[0] / width, size_wh[1] / height])
    return NetInput(resize_pixels(image, size_wh), scale)


def fit_long_side(image: ImageArray, long_side: int, multiple: int = 32) -> NetInput:
    """Scale so that the longer side is ``long_side``; pad right and bottom to ``multiple``."""
    height, width = image.shape[:2]
    factor = long_side / max(height, width)
    new_w, new_h = max(1, round(width * factor)), max(1, round(height * factor))
    resized = resize_pixels(image, (new_w, new_h))
    padded_h = -(-new_h // multiple) * multiple
    padded_w = -(-new_w // multiple) * multiple
    if (padded_h, padded_w) != (new_h, new_w):
        canvas = np.full((padded_h, padded_w, 3), PAD_VALUE, dtype=np.uint8)
        canvas[:new_h, :new_w] = resized
        resized = canvas
    return NetInput(resized, np.array([new_w / width, new_h / height]))


def rectify(
    image: ImageArray, quad: FloatArray, size_wh: tuple[int, int], margin: float
) -> tuple[ImageArray, FloatArray]:
    """Cut the neighbourhood of ``quad`` so that the quad becomes a centred upright rectangle.

    The quad fills ``1 / (1 + 2 * margin)`` of each side of the ``size_wh`` canvas. Large crops
    are area-averaged first so that the warp does not alias.

    Returns:
        The crop ``(h, w, 3)`` and the homography ``(3, 3)`` from photo to crop pixels.
    """
    width, height = size_wh
    inner_w, inner_h = width / (1 + 2 * margin), height / (1 + 2 * margin)
    x0, y0 = (width - inner_w) / 2, (height - inner_h) / 2
    target = np.array(
        [[x0, y0], [x0 + inner_w, y0], [x0 + inner_w, y0 + inner_h], [x0, y0 + inner_h]],
        dtype=np.float32,
    )
    matrix = cv2.getPerspectiveTransform(np.asarray(quad, dtype=np.float32), target)
    matrix = np.asarray(matrix, dtype=np.float64)
    long_px = max(np.hypot(*(quad[1] - quad[0])), np.hypot(*(quad[2] - quad[3])))
    shrink = int(long_px // inner_w)
    source, into = image, matrix
    if shrink >= 2:
        # Only the neighbourhood is averaged: whole 12 MP photos would cost 20 ms here.
        low = np.floor(quad.min(axis=0) - margin * 2.0 * long_px).astype(int)
        high = np.ceil(quad.max(axis=0) + margin * 2.0 * long_px).astype(int) + 1
        ax, ay = max(0, int(low[0])), max(0, int(low[1]))
        bx, by = min(image.shape[1], int(high[0])), min(image.shape[0], int(high[1]))
        if bx - ax >= shrink and by - ay >= shrink:
            # Whole multiples: a fractional average takes several times as long.
            new_wh = ((bx - ax) // shrink, (by - ay) // shrink)
            region = image[ay : ay + new_wh[1] * shrink, ax : ax + new_wh[0] * shrink]
            source = resize_pixels(region, new_wh)
            sx, sy = 1 / shrink, 1 / shrink
            back = np.array(
                [[1 / sx, 0, ax + 0.5 / sx - 0.5], [0, 1 / sy, ay + 0.5 / sy - 0.5], [0, 0, 1.0]]
            )
            into = matrix @ back
    crop = cv2.warpPerspective(
        source,
        into,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE, PAD_VALUE, PAD_VALUE),
    )
    return np.asarray(crop, dtype=np.uint8), np.asarray(matrix, dtype=np.float64)
