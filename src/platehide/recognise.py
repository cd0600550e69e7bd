"""Recognise a plate that already wears the cover, by looking: no mark in the file is trusted.

What is in the quad is compared with the cover as it would be drawn there now. It counts as covered
only where the two agree everywhere inside, so whatever it is, nothing else can be read there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover import Covered
from platehide.pixels import PixelSource
from platehide.types import FloatArray

# The comparison is made on a canvas of this size; the plate fills the middle of it.
_CANVAS_WH = (208, 64)
_MARGIN = 0.2
_LEAST_CORRELATION = 0.85
_MOST_RESIDUE = 0.5
_ITERATIONS = 40
_GLANCE_BLUR = 5.0
_FLAT, _MOST_OFF_PLAIN = 5.0, 24.0  # grey levels
_LEAST_AT_A_GLANCE = 0.5


@dataclass(frozen=True)
class Likeness:
    """How far a plate looks like the cover.

    Attributes:
        correlation: of brightness inside the plate, -1…1, at the best alignment.
        residue: the largest mean difference over an eighth of the plate's width, after gain and
            offset are fitted, relative to the cover's own contrast.
    """

    correlation: float
    residue: float

    @property
    def covered(self) -> bool:
        """True where nothing but the cover is there."""
        return self.correlation >= _LEAST_CORRELATION and self.residue <= _MOST_RESIDUE


def likeness(source: PixelSource, quad: FloatArray, covered: Covered) -> Likeness | None:
    """Compare the plate ``quad`` ``(4, 2)`` of ``source`` with what would be drawn over it.

    ``None`` where they are not alike at first sight (the usual case, found out cheaply) or cannot
    be compared (a cover without contrast of its own).
    """
    canvas_w, canvas_h = _CANVAS_WH
    inner_w, inner_h = canvas_w / (1 + 2 * _MARGIN), canvas_h / (1 + 2 * _MARGIN)
    x0, y0 = (canvas_w - inner_w) / 2, (canvas_h - inner_h) / 2
    target = np.array([[x0, y0], [x0 + inner_w, y0], [x0 + inner_w, y0 + inner_h],
                       [x0, y0 + inner_h]], np.float32)  # fmt: skip
    left, top, right, _ = covered.patch.box
    there = source.region(covered.patch.box)
    drawn = there.copy()
    drawn[covered.patch.changed] = covered.patch.pixels[covered.patch.changed]
    matrix = cv2.getPerspectiveTransform(
        (np.asarray(quad, np.float64) - (left, top)).astype(np.float32), target
    )
    flat = [
        cv2.GaussianBlur(
            cv2.warpPerspective(
                cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY),
                matrix,
                _CANVAS_WH,
                flags=cv2.INTER_AREA if right - left > 2 * canvas_w else cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            (0, 0),
            1.0,
        )
        for part in (drawn, there)
    ]
    inside = np.zeros((canvas_h, canvas_w), np.uint8)
    inset = 0.04 * inner_h
    inside[
        int(y0 + inset) : int(np.ceil(y0 + inner_h - inset)),
        int(x0 + inset) : int(np.ceil(x0 + inner_w - inset)),
    ] = 255
    return _compare(np.asarray(flat[0]), np.asarray(flat[1]), inside)


def _compare(
    drawn: NDArray[np.uint8], there: NDArray[np.uint8], inside: NDArray[np.uint8]
) -> Likeness | None:
    """Align the two (ECC, Evangelidis and Psarakis 2008) and measure inside the mask."""
    mask = inside > 0
    if float(drawn[mask].std()) < _FLAT:  # a plain cover: what is there must be as plain
        alike = float(there[mask].std()) < _FLAT and (
            float(np.abs(there[mask].astype(int) - drawn[mask]).max()) < _MOST_OFF_PLAIN
        )
        return Likeness(1.0, 0.0) if alike else None
    glance = [cv2.GaussianBlur(p, (0, 0), _GLANCE_BLUR)[mask] for p in (drawn, there)]
    if _correlation(glance[0], glance[1]) < _LEAST_AT_A_GLANCE:
        return None
    warp = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    try:  # coarse first: the corners found on a cover are some px off
        for motion, blur in ((cv2.MOTION_AFFINE, 9), (cv2.MOTION_HOMOGRAPHY, 5)):
            start = warp if motion == cv2.MOTION_HOMOGRAPHY else warp[:2]
            _, end = cv2.findTransformECC(drawn, there, start, motion, criteria, inside, blur)
            warp = np.vstack([end, [0, 0, 1]])[:3].astype(np.float32)
    except cv2.error:  # no contrast, or nothing alike
        return None
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (drawn.shape[1], drawn.shape[0])
    moved = cv2.warpPerspective(there, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    a, b = drawn[mask].astype(np.float64), np.asarray(moved)[mask].astype(np.float64)
    correlation = _correlation(a, b)
    spread_a, spread_b = float(a.std()), float(b.std())
    if correlation <= 0:
        return None
    gain = correlation * spread_a / spread_b
    error = np.zeros(drawn.shape, np.float64)
    error[mask] = np.abs((b - b.mean()) * gain + a.mean() - a)
    columns = np.flatnonzero(mask.any(axis=0))
    residue = 0.0
    for part in np.array_split(columns, 8):
        view = np.s_[:, part[0] : part[-1] + 1]
        residue = max(residue, float(error[view].sum() / mask[view].sum()))
    return Likeness(correlation, residue / spread_a)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's; 0 where one of them has no contrast."""
    x, y = a.astype(np.float64) - float(a.mean()), b.astype(np.float64) - float(b.mean())
    spread = float(x.std() * y.std())
    return float(np.mean(x * y) / spread) if min(x.std(), y.std()) >= 2 else 0.0


def already_covered(source: PixelSource, quad: FloatArray, covered: Covered) -> bool:
    """True where the plate ``quad`` already wears the cover and nothing else is to be seen.

    Not for covers made of the plate itself (style ``blur``): those are like any plate.
    """
    found = likeness(source, quad, covered)
    return found is not None and found.covered
