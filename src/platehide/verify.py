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
from numpy.typing import NDArray

from platehide.arrival import Difference, difference, tolerance
from platehide.cover import Covered
from platehide.detection import Detector
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
    signed_area,
)
from platehide.image_io import DEFAULT_MAX_PIXELS
from platehide.pixels import Box, Closeup, Explained, PixelSource
from platehide.types import Detection, FloatArray, ImageArray

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
_LEAST_COVERED = 0.995
_LEAST_CROP_PX = 160
_CROP_STEP = 8  # px; a JPEG is reduced by whole blocks

Inside = tuple[NDArray[np.bool_], Box]
"""Pixels that belong, and the box which that mask spans."""


@dataclass(frozen=True)
class CoveredPlate:
    """A plate and what was drawn over it.

    Attributes:
        frame: index of the frame.
        plate: what the detector found (or the grown quad of a second attempt).
        covered: patch and painted polygon.
    """

    frame: int
    plate: Detection
    covered: Covered


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
        inside = [_inside(item.covered.painted, sizes_wh[item.frame]) for item in covers]
        failures = [
            *(f for i in range(len(covers)) for f in _not_drawn(covers, i, inside[i], sizes_wh)),
            *(f for f in _not_shown(finished, frames, covers, inside)),
        ]
        if failures:
            return Verdict(tuple(failures))
    except ImageError as error:
        return Verdict((f"the finished photo cannot be decoded: {error}",))
    return Verdict(left=tuple(left))


# ---- 1. do the drawn pixels hold the plate? ----------------------------------------------------


def _not_drawn(
    covers: Sequence[CoveredPlate],
    index: int,
    inside: Inside,
    sizes_wh: Sequence[tuple[int, int]],
) -> list[str]:
    item = covers[index]
    width, height = sizes_wh[item.frame]
    picture = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    quad = item.plate.quad
    visible = clip_convex(quad, picture) if is_convex(quad) else np.empty((0, 2))
    painted = [c.covered.painted for c in covers if c.frame == item.frame]
    if area(visible) > 0 and coverage(visible, painted) < _LEAST_COVERED:
        return [f"plate {index + 1} lies outside what was painted"]
    patch = item.covered.patch
    mask, box = inside
    drawn = np.zeros(mask.shape, np.bool_)
    _paste(drawn, box, patch.changed, patch.box)
    if (mask & ~drawn).any():
        return [f"a pixel of cover {index + 1} was not drawn"]
    return []


def _inside(polygon: FloatArray, size_wh: tuple[int, int]) -> Inside:
    """Pixels whose centre lies inside the convex ``polygon``, and the box that the mask spans."""
    x0, y0, x1, y1 = hull_box(polygon)
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(size_wh[0], int(np.ceil(x1))), min(size_wh[1], int(np.ceil(y1)))
    xs, ys = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    # Each row of a convex polygon is one run: from the rightmost of its left edges to the leftmost
    # of its right edges.
    low, high = np.full(len(ys), -np.inf), np.full(len(ys), np.inf)
    ring = polygon if signed_area(polygon) >= 0 else polygon[::-1]
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        dx, dy = b - a
        if dy == 0:
            high[dx * (ys - a[1]) < 0] = -np.inf
            continue
        bound = a[0] + dx * (ys - a[1]) / dy
        low, high = (low, np.minimum(high, bound)) if dy > 0 else (np.maximum(low, bound), high)
    mask = (xs >= low[:, None]) & (xs <= high[:, None])
    return mask, (left, top, right, bottom)


def _paste(target: NDArray[np.bool_], at: Box, source: NDArray[np.bool_], box: Box) -> None:
    """``target |= source`` where their boxes meet."""
    x0, y0, x1, y1 = max(at[0], box[0]), max(at[1], box[1]), min(at[2], box[2]), min(at[3], box[3])
    if x0 < x1 and y0 < y1:
        part = source[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]
        target[y0 - at[1] : y1 - at[1], x0 - at[0] : x1 - at[0]] |= part


# ---- 2. did they arrive? -----------------------------------------------------------------------


def _not_shown(
    finished: bytes,
    frames: Sequence[PixelSource],
    covers: Sequence[CoveredPlate],
    inside: Sequence[Inside],
) -> list[str]:
    allowed = tolerance(finished) if covers else Difference(0.0, 0.0)
    failures = []
    for index, item in enumerate(covers):
        frame = frames[item.frame]
        mask, box = inside[index]
        if not mask.any():
            failures.append(f"cover {index + 1} has no pixel")
            continue
        expected = np.zeros((*mask.shape, 3), np.uint8)
        for later in covers[index:]:  # what is drawn later lies on top
            if later.frame == item.frame:
                _draw(expected, box, later)
        shown = frame.region(box)
        off = difference(shown, expected, mask)
        if off.rms > allowed.rms or off.cell > allowed.cell:
            failures.append(
                f"cover {index + 1} did not arrive as drawn (off by {off.rms:.0f} grey levels,"
                f" {off.cell:.0f} at worst)"
            )
    return failures


def _draw(target: ImageArray, at: Box, item: CoveredPlate) -> None:
    patch = item.covered.patch
    px0, py0, px1, py1 = patch.box
    x0, y0, x1, y1 = max(at[0], px0), max(at[1], py0), min(at[2], px1), min(at[3], py1)
    if x0 < x1 and y0 < y1:
        part = np.s_[y0 - py0 : y1 - py0, x0 - px0 : x1 - px0]
        there = np.s_[y0 - at[1] : y1 - at[1], x0 - at[0] : x1 - at[0]]
        mask = np.ascontiguousarray(patch.changed[part]).view(np.uint8)
        # By OpenCV: NumPy's selection takes ten times as long.
        target[there] = cv2.copyTo(
            np.ascontiguousarray(patch.pixels[part]), mask, np.ascontiguousarray(target[there])
        )


# ---- 3. is nothing left? -----------------------------------------------------------------------


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
