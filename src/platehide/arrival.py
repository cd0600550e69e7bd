"""How far decoded pixels may be, and are, from those that were drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.errors import ImageError
from platehide.metadata.jpeg_walk import DQT, walk_jpeg
from platehide.types import ImageArray

_CELL = 8
_WHOLE_CELL = np.ones((_CELL, _CELL), np.uint8)


@dataclass(frozen=True)
class Difference:
    """Grey levels between decoded and drawn pixels: root mean square over the polygon, and the
    largest mean over 8x8 px inside it."""

    rms: float
    cell: float


def tolerance(finished: bytes) -> Difference:
    """What the format's quantisation can do to brightness.

    A quantised DCT coefficient is off by at most half a step, so the error's root mean square is at
    most half that of the steps (Parseval); little is left of it in the mean over a block. Formats
    whose steps are not in the open get fixed values.
    """
    if finished.startswith(b"\xff\xd8"):
        steps = _luma_steps(finished)
        half = float(np.sqrt(np.mean(np.square(steps)))) / 2
        return Difference(4.0 + half, 4.0 + half * 0.6)
    if finished.startswith(b"GIF8"):
        return Difference(40.0, 30.0)  # 256 colours for the whole picture
    if finished[8:12] == b"WEBP" and b"VP8 " in finished[:4096]:
        return Difference(16.0, 12.0)
    return Difference(3.0, 3.0)


def _luma_steps(jpeg: bytes) -> NDArray[np.float64]:
    layout = walk_jpeg(jpeg, max_pixels=1 << 62)
    wanted = layout.frame.components[0].table
    for segment in layout.segments:
        if segment.marker != DQT:
            continue
        at = segment.start + 4
        while at < segment.end:
            wide, number = jpeg[at] >> 4, jpeg[at] & 15
            size = 128 if wide else 64
            if number == wanted:
                steps = np.frombuffer(jpeg[at + 1 : at + 1 + size], ">u2" if wide else "u1")
                return steps.astype(np.float64)
            at += 1 + size
    raise ImageError("JPEG without its quantisation table")


def difference(shown: ImageArray, drawn: ImageArray, mask: NDArray[np.bool_]) -> Difference:
    """Between two pictures ``(h, w, 3)``, in brightness, where ``mask`` ``(h, w)`` is true."""
    error = _brightness(shown) - _brightness(drawn)
    inside = mask.view(np.uint8)
    total = cv2.norm(error, cv2.NORM_L2SQR, inside)
    rms = float(np.sqrt(total / np.count_nonzero(mask)))
    return Difference(rms, _worst_cell(error, mask))


def _brightness(rgb: ImageArray) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.float32)


def _worst_cell(error: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The largest mean error over 8x8 px that lie wholly in the mask; 0 where none does."""
    if min(mask.shape) < _CELL:
        return 0.0
    window = {"ddepth": cv2.CV_32F, "ksize": (_CELL, _CELL), "borderType": cv2.BORDER_CONSTANT}
    full = cv2.erode(mask.view(np.uint8), _WHOLE_CELL, borderValue=0) > 0
    means = np.abs(cv2.boxFilter(error, **window))  # type: ignore[call-overload]
    return float(means[full].max(initial=0.0))
