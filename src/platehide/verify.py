"""Proof on the finished bytes: decode them, look at what was painted, search again.

Three questions, each of which can fail on its own:

1. Do the drawn pixels hold the plate? Every found quad lies inside the painted polygons, and every
   pixel of a painted polygon was drawn.
2. Did they arrive? The finished bytes, decoded, show the drawn pixels inside each painted polygon,
   as near as the format's quantisation allows.
3. Is nothing left? The detector, on the finished photo, finds nothing that the covers do not
   explain.

A pure function over a ``Detector``: nothing is painted or written here. ``mended`` says what to
cover after a verdict that another attempt can mend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from platehide.cover import Covered
from platehide.detection import Detector
from platehide.drawn import CoveredPlate, not_drawn, not_shown, pixels_inside
from platehide.errors import ImageError, UnsureError
from platehide.formats import open_photo
from platehide.geometry import (
    area,
    clip_convex,
    coverage,
    grow_polygon,
    hull_box,
    is_convex,
    order_corners,
    plate_height,
)
from platehide.image_io import DEFAULT_MAX_PIXELS
from platehide.pixels import Box, Closeup, Explained, PixelSource
from platehide.types import Detection, FloatArray

VerifyMode = Literal["full", "fast", "off"]
"""``full`` searches the whole finished photo, ``fast`` the surroundings of each cover, twice as
wide and high as it; both decode and compare. ``off`` does nothing."""

# A found plate counts as explained by the covers when at most this share of it reaches beyond
# them, after they are grown by this share of its height: the corners found on a cover are not
# exact to the pixel.
_LOOSE_SHARE = 0.12
_LOOSE_AT_A_GLANCE = 0.05
_LOOSE_HEIGHTS = 0.15
_LOOSE_PX = 3.0
_LEAST_CROP_PX = 160
_CROP_STEP = 8  # px; a JPEG is reduced by whole blocks


@dataclass(frozen=True)
class PlateLeft:
    """Something that looks like a plate on the finished photo.

    Attributes:
        cover: index of the cover that it sticks out of, or ``None`` where it stands alone.
        certain: false where the detector was in doubt.
    """

    frame: int
    found: Detection
    cover: int | None
    certain: bool


@dataclass(frozen=True)
class Verdict:
    """What the proof says; proven where both are empty.

    Attributes:
        failures: reasons, in words, that painting again would not mend.
        left: plates that are still to be seen.
    """

    failures: tuple[str, ...] = ()
    left: tuple[PlateLeft, ...] = ()

    @property
    def proven(self) -> bool:
        """True where nothing speaks against letting the photo go."""
        return not self.failures and not self.left


def verify(
    finished: bytes,
    covers: Sequence[CoveredPlate],
    sizes_wh: Sequence[tuple[int, int]],
    detector: Detector,
    mode: VerifyMode,
    *,
    worn: Sequence[tuple[int, FloatArray]] = (),
    conf: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Verdict:
    """Prove that the finished photo hides every plate that was found.

    Args:
        finished: the bytes that are to leave.
        covers: in the order they were drawn.
        sizes_wh: size in px of each frame that was looked at.
        detector: the one that found the plates.
        worn: frame and quad of plates that wore a cover before, and were left as they were.
        conf: its threshold, as in the first search.
    """
    if mode == "off":
        return Verdict()
    try:
        frames = open_photo(finished, max_pixels=max_pixels).frames
        if [frame.size_wh for frame in frames] != list(sizes_wh):
            return Verdict(("the finished photo has other frames than the original",))
        # First, so that what has been read of the surroundings serves for the covers too.
        left = (
            _search_frames(frames, covers, worn, detector, conf)
            if mode == "full"
            else _search_crops(frames, covers, worn, detector, conf)
        )
        inside = [pixels_inside(item.covered.painted, sizes_wh[item.frame]) for item in covers]
        failures = [
            *(f for i in range(len(covers)) for f in not_drawn(covers, i, inside[i], sizes_wh)),
            *(f for f in not_shown(finished, frames, covers, inside)),
        ]
        if failures:
            return Verdict(tuple(failures))
    except ImageError as error:
        return Verdict((f"the finished photo cannot be decoded: {error}",))
    return Verdict(left=tuple(left))


def _search_frames(
    frames: Sequence[PixelSource],
    covers: Sequence[CoveredPlate],
    worn: Sequence[tuple[int, FloatArray]],
    detector: Detector,
    conf: float | None,
) -> list[PlateLeft]:
    left: list[PlateLeft] = []
    for index, frame in enumerate(frames):
        found = detector.detect(Explained(frame, _known(covers, worn, index)), conf)
        left += _unexplained(found.plates, covers, worn, index, certain=True)
        left += _unexplained(found.doubtful, covers, worn, index, certain=False)
    return left


def _search_crops(
    frames: Sequence[PixelSource],
    covers: Sequence[CoveredPlate],
    worn: Sequence[tuple[int, FloatArray]],
    detector: Detector,
    conf: float | None,
) -> list[PlateLeft]:
    """Surroundings of each cover. What is found there apart from a cover is magnified and counts
    only if the whole picture shows it as well."""
    left: list[PlateLeft] = []
    for frame_index in sorted({item.frame for item in covers}):
        frame = frames[frame_index]
        touching: list[PlateLeft] = []
        apart = False
        for item in covers:
            if item.frame != frame_index:
                continue
            box = crop_box(item.covered.painted, frame.size_wh)
            known = _known(covers, worn, frame_index, box[:2])
            found = detector.detect(Closeup(frame, box, known), conf)
            for plates, certain in ((found.plates, True), (found.doubtful, False)):
                moved = [Detection(p.quad + box[:2], p.confidence) for p in plates]
                for rest in _unexplained(moved, covers, worn, frame_index, certain=certain):
                    if rest.cover is not None:
                        touching.append(rest)
                    elif certain:
                        apart = True
        left += touching
        if apart:
            whole = detector.detect(Explained(frame, _known(covers, worn, frame_index)), conf)
            left += _unexplained(whole.plates, covers, worn, frame_index, certain=True)
    return left


def _known(
    covers: Sequence[CoveredPlate],
    worn: Sequence[tuple[int, FloatArray]],
    frame: int,
    corner: tuple[int, int] = (0, 0),
) -> Callable[[FloatArray], bool]:
    """Whether a quad, in px from ``corner`` of the frame, lies on a cover at first sight."""
    covered = [item.covered.painted for item in covers if item.frame == frame]
    covered += [quad for at, quad in worn if at == frame]
    return lambda quad: explained(quad + corner, covered, _LOOSE_AT_A_GLANCE)


def crop_box(painted: FloatArray, size_wh: tuple[int, int]) -> Box:
    """The part of the picture twice as wide and high as the painted polygon, not too flat."""
    x0, y0, x1, y1 = hull_box(painted)
    width = max(2 * (x1 - x0), _LEAST_CROP_PX)
    height = max(2 * (y1 - y0), width / 4)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    step = _CROP_STEP
    return (
        max(0, int((cx - width / 2) // step) * step),
        max(0, int((cy - height / 2) // step) * step),
        min(size_wh[0], -int(-(cx + width / 2) // step) * step),
        min(size_wh[1], -int(-(cy + height / 2) // step) * step),
    )


def _unexplained(
    found: Sequence[Detection],
    covers: Sequence[CoveredPlate],
    worn: Sequence[tuple[int, FloatArray]],
    frame: int,
    *,
    certain: bool,
) -> list[PlateLeft]:
    """Those of ``found`` that reach beyond the covers of the frame.

    It counts only where the covers' pixels are the drawn ones, so a plate that is found on
    them is the cover's own design.
    """
    left = []
    numbers = [i for i, item in enumerate(covers) if item.frame == frame]
    painted = [covers[i].covered.painted for i in numbers]
    others = [quad for at, quad in worn if at == frame]
    for plate in found:
        if explained(plate.quad, painted + others):
            continue
        overlaps = [
            area(clip_convex(p, _convex(plate.quad))) for p in _loosened(plate.quad, painted)
        ]
        touched = numbers[int(np.argmax(overlaps))] if overlaps and max(overlaps) > 0 else None
        left.append(PlateLeft(frame, plate, touched, certain))
    return left


def explained(
    quad: FloatArray, covered: Sequence[FloatArray], loose_share: float = _LOOSE_SHARE
) -> bool:
    """True where what was found at ``quad`` ``(4, 2)`` lies on the covered convex polygons, as
    nearly as corners that were found on a cover can be trusted: but for ``loose_share`` of it."""
    if not covered:
        return False
    return coverage(_convex(quad), _loosened(quad, covered)) >= 1 - loose_share


def _loosened(quad: FloatArray, covered: Sequence[FloatArray]) -> list[FloatArray]:
    slack = max(_LOOSE_PX, _LOOSE_HEIGHTS * plate_height(_convex(quad)))
    return [grow_polygon(polygon, slack) for polygon in covered]


def _convex(quad: FloatArray) -> FloatArray:
    return quad if is_convex(quad) else order_corners(quad)


def mended(
    covers: Sequence[CoveredPlate],
    verdict: Verdict,
    draw: Callable[[int, FloatArray], Covered],
) -> list[CoveredPlate]:
    """What to draw instead: covers grown over what sticks out of them, new ones for plates apart.

    Args:
        draw: draws a cover on the quad of a frame of the *original* photo.

    Raises:
        UnsureError: nothing that can be drawn would mend it.
    """
    if verdict.failures:
        raise UnsureError(verdict.failures[0])
    out = list(covers)
    for left in verdict.left:
        if left.cover is not None:
            item = out[left.cover]
            quad = grown_quad(item.plate.quad, left.found.quad)
            out[left.cover] = CoveredPlate(
                item.frame, Detection(quad, item.plate.confidence), draw(item.frame, quad)
            )
        elif left.certain:
            quad = left.found.quad
            out.append(CoveredPlate(left.frame, left.found, draw(left.frame, quad)))
        else:
            raise UnsureError(
                f"a doubtful plate on the finished photo, confidence {left.found.confidence:.2f}"
            )
    return out


def grown_quad(quad: FloatArray, leftover: FloatArray) -> FloatArray:
    """``quad`` stretched, in its own perspective, until it holds ``leftover``, both ``(4, 2)``.

    Where the perspective cannot be carried that far: the smallest turned box round both.
    """
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    to_unit = cv2.getPerspectiveTransform(np.asarray(quad, np.float32), unit)
    homogeneous = np.column_stack([leftover, np.ones(len(leftover))]) @ to_unit.T
    if (homogeneous[:, 2] > 1e-6).all():
        flat = homogeneous[:, :2] / homogeneous[:, 2:]
        low, high = np.minimum(flat.min(axis=0), 0), np.maximum(flat.max(axis=0), 1)
        if (low > -1.5).all() and (high < 2.5).all():
            corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]], [0.5, 0.5]])
            back = np.column_stack([corners, np.ones(5)]) @ np.linalg.inv(to_unit).T
            if (back[:, 2] * back[4, 2] > 0).all():
                return np.asarray(back[:4, :2] / back[:4, 2:], np.float64)
    points = np.concatenate([quad, leftover]).astype(np.float32)
    return order_corners(cv2.boxPoints(cv2.minAreaRect(points)).astype(np.float64))
