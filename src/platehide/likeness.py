"""How far what lies on a picture looks like a cover: aligned, in the light that fits best."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover.views import CANVAS_H, CANVAS_W, FloatPicture, View, inner_mask, inner_rect
from platehide.geometry import plate_height, plate_width, transform_points
from platehide.nearby import Near
from platehide.types import FloatArray

_LEAST_CORRELATION = 0.86
_MOST_RESIDUE = 0.47
_LEAST_OF_SMALL, _MOST_OF_SMALL = 0.84, 0.42
_SURE = 0.94  # correlation from which a small one is judged as a large one
_LEAST_OF_PART, _MOST_OF_PART, _MOST_CAST_OF_PART = 0.9, 0.38, 0.2
MOST_CAST = 0.25
_SMALL_PX = 24  # height below which much can look like anything
_ITERATIONS = 40
_BLURS = 0.6, 1.2, 2.0, 3.0  # px of the photo
FAINT = 0.25  # of the strongest colour: what is as dark tells nothing of the light's colour

UNIT = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


class Likeness(NamedTuple):
    """How far something looks like the cover.

    Attributes:
        correlation: of colours inside the cover with the design in the light that fits best,
            -1…1, at the best alignment.
        residue: the largest mean difference over an eighth of the width, relative to the
            design's contrast.
        cast: the colour of that light, as the largest logarithm of a channel's share.
        quad: the cover ``(4, 2)``, px of the picture.
        small: what was found is small; much can look like anything then.
        part: only a part of the cover was found; most of it was guessed.
    """

    correlation: float
    residue: float
    cast: float
    quad: FloatArray
    small: bool = False
    part: bool = False

    @property
    def covered(self) -> bool:
        """True where nothing but the cover is there."""
        if self.part:
            return (
                self.correlation >= _LEAST_OF_PART
                and self.residue <= _MOST_OF_PART
                and self.cast <= _MOST_CAST_OF_PART
            )
        small = self.small or plate_height(self.quad) < _SMALL_PX
        strict = small and self.correlation < _SURE
        return (
            self.correlation >= (_LEAST_OF_SMALL if small else _LEAST_CORRELATION)
            and self.residue <= (_MOST_OF_SMALL if strict else _MOST_RESIDUE)
            and self.cast <= MOST_CAST
        )


def compare(
    near: Near, view: View, to_picture: FloatArray, *, small: bool, part: bool
) -> Likeness | None:
    """What lies at ``to_picture`` (from a share of the cover to a pixel) compared with a layout: as
    it lies, then aligned (ECC, Evangelidis and Psarakis 2008), since the corners that are found on
    a cover are some px off. ``None`` where no light explains it.
    """
    outline = transform_points(to_picture, UNIT)
    rect = inner_rect()
    height = plate_height(outline)
    canvas = near.flattened(to_picture, height, rect, (CANVAS_W, CANVAS_H))
    there: FloatPicture = np.asarray(
        cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), 1.0), np.float32
    )
    warp = np.eye(3, dtype=np.float32)
    best: Likeness | None = None
    design = _softened(view, outline, _BLURS[0])
    grey_there = _grey(there)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    for motion, blur in ((None, 0), (cv2.MOTION_AFFINE, 9), (cv2.MOTION_HOMOGRAPHY, 5)):
        if motion is not None:
            start = warp if motion == cv2.MOTION_HOMOGRAPHY else warp[:2]
            try:
                _, end = cv2.findTransformECC(
                    _grey(design), grey_there, start, motion, criteria, inner_mask(), blur
                )
            except cv2.error:  # nothing alike
                return best
            warp = np.vstack([end, [0, 0, 1]])[:3].astype(np.float32)
        found = _likeness(design, there, warp, to_picture, small, part)
        if motion == cv2.MOTION_AFFINE and found is not None and not found.covered:
            # The photo is less sharp than most: so is its cover.
            for softness in _BLURS[1:]:
                softer = _softened(view, outline, softness)
                other = _likeness(softer, there, warp, to_picture, small, part)
                if other is not None and other.residue < found.residue:
                    design, found = softer, other
        if found is not None and (best is None or found.residue < best.residue):
            best = found
        if best is not None and best.covered:
            return best
    return best


def _softened(view: View, outline: FloatArray, softness: float) -> FloatPicture:
    """The design as soft as it is on the picture; ``softness`` in px of that."""
    _, _, w, h = inner_rect()
    sigma_x = max(1.0, softness * w / plate_width(outline))
    sigma_y = max(1.0, softness * h / plate_height(outline))
    soft = cv2.GaussianBlur(view.design, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray(soft, np.float32)


def _grey(picture: NDArray[Any]) -> FloatPicture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _likeness(
    design: FloatPicture,
    there: FloatPicture,
    warp: FloatPicture,
    to_picture: FloatArray,
    small: bool,
    part: bool,
) -> Likeness | None:
    """How near ``there`` comes to the design in some light: a gain for each colour that changes
    evenly over the plate, and nothing added. Without the frame: a thin line is never aligned to
    the pixel. ``None`` where no light explains it.
    """
    size = (design.shape[1], design.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(there, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    y, x = _pixels()
    u, v = (x / size[0] - 0.5).astype(np.float32), (y / size[1] - 0.5).astype(np.float32)
    light = np.stack([np.ones_like(u), u, v], axis=1)
    shown, drawn = np.asarray(moved)[y, x], design[y, x]
    fit = np.empty_like(shown)
    gains = np.empty(3)
    for c in range(3):
        terms = light * drawn[:, c : c + 1]
        square = (terms.T @ terms).astype(np.float64) + np.eye(3)  # a colour may be missing
        factors = np.linalg.solve(square + 1e-3 * np.trace(square) * _RIDGE, terms.T @ shown[:, c])
        gains[c] = factors[0]
        fit[:, c] = terms @ factors.astype(np.float32)
    strength = drawn.mean(axis=0)
    told = gains[strength >= FAINT * strength.max()]
    if told.min() <= 0.02:
        return None
    a, b = fit - fit.mean(axis=0), shown - shown.mean(axis=0)
    spread = float(np.sqrt(np.mean(a * a)))
    length = float(np.sqrt(np.mean(a * a) * np.mean(b * b)))
    error = np.abs(fit - shown).mean(axis=1)
    cast = float(np.abs(np.log(told / told.mean())).max())
    rx, ry, rw, rh = inner_rect()
    corners = transform_points(warp, UNIT * (rw, rh) + (rx - 0.5, ry - 0.5))
    quad = transform_points(to_picture, (corners - (rx - 0.5, ry - 0.5)) / (rw, rh))
    if length < 1e-3:
        return None
    eighth = ((x - x.min()) * 8 // (int(np.ptp(x)) + 1)).astype(np.intp)
    worst = float((np.bincount(eighth, error, 8) / np.bincount(eighth, minlength=8)).max())
    return Likeness(float(np.mean(a * b)) / length, worst / spread, cast, quad, small, part)


_RIDGE = np.diag([0.0, 1.0, 1.0])  # a steep fall of light must be worth it


@functools.cache
def _pixels() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of every second pixel inside the frame."""
    frame = max(1, round(0.08 * inner_rect()[3]))
    inside = cv2.erode(inner_mask(), np.ones((2 * frame + 1, 2 * frame + 1), np.uint8))
    few = np.zeros_like(inside)
    few[::2, ::2] = inside[::2, ::2]
    y, x = np.nonzero(few)
    return y, x
