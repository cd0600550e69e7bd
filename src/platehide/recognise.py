"""Recognise a plate that already wears the cover, by looking: no mark in the file is trusted.

What is in the quad is compared with the design as it would be laid out there. It counts as covered
only where the two agree everywhere inside, so whatever it is, nothing else can be read there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover import Cover, CoverOptions
from platehide.cover.layout import flat_plate
from platehide.geometry import hull_box, plate_height, plate_width
from platehide.pixels import PixelSource
from platehide.types import FloatArray

FloatPicture = NDArray[np.float32]

# The comparison is made on a canvas of this size; the plate fills the middle of it.
_CANVAS_W, _CANVAS_H, _MARGIN = 208, 64, 0.2
_LEAST_CORRELATION = 0.75
_MOST_RESIDUE = 0.7
_GLANCE_BLUR, _LEAST_AT_A_GLANCE = 5.0, 0.5
_ITERATIONS = 40
_FLAT, _MOST_OFF_PLAIN = 5.0, 24.0  # grey levels
# Corners found on a cover are not exact, and designs are laid out by the plate's shape and size.
_STRETCHES = ((1.0, 1.0), (0.84, 1.0), (1.19, 1.0), (0.87, 0.87), (1.15, 1.15))


@dataclass(frozen=True)
class Likeness:
    """How far a plate looks like the cover.

    Attributes:
        correlation: of brightness inside the plate, -1…1, at the best alignment, after a plane of
            light is taken away.
        residue: the largest mean difference over an eighth of the plate's width, relative to the
            design's contrast.
    """

    correlation: float
    residue: float

    @property
    def covered(self) -> bool:
        """True where nothing but the cover is there."""
        return self.correlation >= _LEAST_CORRELATION and self.residue <= _MOST_RESIDUE


def already_covered(
    source: PixelSource, quad: FloatArray, cover: Cover, options: CoverOptions
) -> bool:
    """True where the plate ``quad`` already wears the cover and nothing else is to be seen.

    Never for style ``blur``, where the cover is made of the plate itself.
    """
    return any(found.covered for found in likenesses(source, quad, cover, options))


def likenesses(
    source: PixelSource, quad: FloatArray, cover: Cover, options: CoverOptions
) -> Iterator[Likeness]:
    """Compare the plate ``quad`` ``(4, 2)`` of ``source`` with the cover's possible layouts.

    Yields nothing for what is not alike at first sight, the usual case, found out cheaply.
    """
    width, height = plate_width(quad), plate_height(quad)
    there = _flattened(source, quad)
    if options.style == "blur" or there is None or min(width, height) < 4:
        return
    mask = np.zeros((_CANVAS_H, _CANVAS_W), np.uint8)
    x0, y0, w, h = _inner()
    inset = max(1, round(0.05 * h))
    mask[y0 + inset : y0 + h - inset, x0 + inset : x0 + w - inset] = 255
    softness = max(1.0, 0.6 * h / height)
    there = np.asarray(cv2.GaussianBlur(there, (0, 0), 1.0), np.float32)
    seen: set[bytes] = set()
    for across, down in _STRETCHES:
        flat = flat_plate(cover, options, width * across, height * down).sized(w, h)
        if flat.tobytes() in seen:
            continue
        seen.add(flat.tobytes())
        grey = cv2.cvtColor(cv2.resize(flat, (w, h), interpolation=cv2.INTER_AREA),
                            cv2.COLOR_RGB2GRAY).astype(np.float32)  # fmt: skip
        design = cv2.copyMakeBorder(
            grey, y0, _CANVAS_H - h - y0, x0, _CANVAS_W - w - x0, cv2.BORDER_REPLICATE
        )
        soft = np.asarray(cv2.GaussianBlur(design, (0, 0), softness), np.float32)
        found = _compare(soft, there, mask)
        if found is not None:
            yield found


def _inner() -> tuple[int, int, int, int]:
    """Where the plate lies on the canvas: x, y, width, height."""
    w, h = round(_CANVAS_W / (1 + 2 * _MARGIN)), round(_CANVAS_H / (1 + 2 * _MARGIN))
    return (_CANVAS_W - w) // 2, (_CANVAS_H - h) // 2, w, h


def _flattened(source: PixelSource, quad: FloatArray) -> FloatPicture | None:
    """The plate and its surroundings on the canvas, in grey; ``None`` outside the picture."""
    centre = quad.mean(axis=0)
    x0, y0, x1, y1 = hull_box(centre + (quad - centre) * (1 + 3 * _MARGIN))
    width, height = source.size_wh
    left, top = max(0, int(x0)), max(0, int(y0))
    right, bottom = min(width, int(x1) + 2), min(height, int(y1) + 2)
    if right - left < 2 or bottom - top < 2:
        return None
    grey = cv2.cvtColor(
        np.ascontiguousarray(source.region((left, top, right, bottom))), cv2.COLOR_RGB2GRAY
    )
    x, y, w, h = _inner()
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)
    start = np.asarray(quad - (left, top), np.float64)
    shrink = min(plate_width(quad) / w, plate_height(quad) / h)
    if shrink > 2:  # average first, or fine print would alias
        size = round((right - left) / shrink), round((bottom - top) / shrink)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        start = start * (size[0] / (right - left), size[1] / (bottom - top))
    matrix = cv2.getPerspectiveTransform(start.astype(np.float32) - 0.5, corners - 0.5)
    return np.asarray(
        cv2.warpPerspective(grey, matrix, (_CANVAS_W, _CANVAS_H), borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def _compare(design: FloatPicture, there: FloatPicture, mask: NDArray[np.uint8]) -> Likeness | None:
    """Align the two (ECC, Evangelidis and Psarakis 2008) and measure inside the mask, without the
    design's frame: a thin line is never aligned to the pixel."""
    inside = mask > 0
    if float(design[inside].std()) < _FLAT:  # a plain cover: what is there must be as plain
        rest = _without_plane(there, inside)
        plain = float(np.abs(rest).max()) < _MOST_OFF_PLAIN and float(rest.std()) < _FLAT
        return Likeness(1.0, 0.0) if plain else None
    glance = [cv2.GaussianBlur(p, (0, 0), _GLANCE_BLUR)[inside] for p in (design, there)]
    if _correlation(glance[0], glance[1]) < _LEAST_AT_A_GLANCE:
        return None
    warp = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    try:  # coarse first: the corners found on a cover are some px off
        for motion, blur in ((cv2.MOTION_AFFINE, 9), (cv2.MOTION_HOMOGRAPHY, 5)):
            start = warp if motion == cv2.MOTION_HOMOGRAPHY else warp[:2]
            _, end = cv2.findTransformECC(design, there, start, motion, criteria, mask, blur)
            warp = np.vstack([end, [0, 0, 1]])[:3].astype(np.float32)
    except cv2.error:  # nothing alike
        return None
    frame = max(1, round(0.08 * _inner()[3]))
    inside = cv2.erode(mask, np.ones((2 * frame + 1, 2 * frame + 1), np.uint8)) > 0
    size = (design.shape[1], design.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(there, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    a = _without_plane(design, inside)
    b = _without_plane(np.asarray(moved, np.float32), inside)
    correlation = _correlation(a, b)
    if correlation <= 0:
        return None
    gain = correlation * float(a.std()) / float(b.std())
    error = np.zeros(design.shape, np.float64)
    error[inside] = np.abs(b * gain - a)
    columns = np.flatnonzero(inside.any(axis=0))
    residue = max(
        float(error[:, part[0] : part[-1] + 1].sum() / inside[:, part[0] : part[-1] + 1].sum())
        for part in np.array_split(columns, 8)
    )
    return Likeness(correlation, residue / float(a.std()))


def _without_plane(picture: FloatPicture, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values inside the mask after the best plane (the fall of light) is taken away."""
    y, x = np.nonzero(inside)
    terms = np.column_stack([np.ones(len(x)), x / picture.shape[1], y / picture.shape[0]])
    values = picture[inside].astype(np.float64)
    fit = np.linalg.solve(terms.T @ terms, terms.T @ values)
    return np.asarray(values - terms @ fit, np.float64)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's; 0 where one of them has no contrast."""
    x, y = a.astype(np.float64) - float(a.mean()), b.astype(np.float64) - float(b.mean())
    spread = float(x.std() * y.std())
    return float(np.mean(x * y) / spread) if min(x.std(), y.std()) >= 2 else 0.0
