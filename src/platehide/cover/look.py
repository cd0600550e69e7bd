"""How a plate looks on its photo, in a handful of numbers: light, colour cast, blur, noise.

Only these numbers pass from the original plate to its cover. Each is a robust statistic over
large parts of the plate (percentiles, medians, a plane fit), so none can carry a character.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover.shadow import Shadow, find_shadow
from platehide.types import FloatArray, ImageArray

GAMMA = 2.2
"""Photos are taken as gamma 2.2; a gain in linear light is then a factor on code values."""

MIN_GAIN, MAX_GAIN = 0.10, 1.0
_THUMB_W, _THUMB_H = 96, 24
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_TO_LINEAR = ((np.arange(256) / 255.0) ** GAMMA).astype(np.float32)

# One, u and v of the centres of the 3 × 6 cells that the plane is fitted to.
_CELLS = np.array([[1.0, (k - 2.5) / 6.4, (i - 1.0) / 4.0] for i in range(3) for k in range(6)])
_SURROUNDINGS = 4000  # px looked at round a plate
_GRAIN_WINDOW = 160  # px
_MOST_SLOPES = 20_000  # gradients looked at for the blur


@dataclass(frozen=True)
class PlateLook:
    """The statistics of one plate, as they are put on its cover.

    Attributes:
        level: linear light (0…1) of a white surface at the plate's centre.
        slope_u, slope_v: change of ``level`` from the plate's left to its right edge, and from
            its top to its bottom.
        cast: gains of R, G, B (mean luma 1).
        blur_px: standard deviation of the photo's blur.
        noise: standard deviation of the photo's grain, in code values.
        shadow: a hard shadow across the plate, or ``None``.
    """

    level: float
    slope_u: float
    slope_v: float
    cast: tuple[float, float, float]
    blur_px: float
    noise: float
    shadow: Shadow | None = None


def measure(region: ImageArray, quad: FloatArray, inside: NDArray[np.bool_]) -> PlateLook:
    """Measure a plate.

    Args:
        region: the plate and a little round it, RGB ``(h, w, 3)``.
        quad: the plate, ``(4, 2)`` px of ``region`` (pixel i spans i … i + 1), convex.
        inside: bool ``(h, w)``, pixels of the plate with its margin; the rest is surroundings.
    """
    thumb = _rectified(region, quad)
    linear = _TO_LINEAR[thumb]
    luma = linear @ _LUMA
    shadow = find_shadow(linear, luma)
    if shadow is not None:  # the plane is that of the light without it
        lift = np.where(_beyond(shadow), np.float32(1.0 / shadow.ratio), np.float32(1.0))
        linear, luma = linear * lift[..., None], luma * lift
    level, slope_u, slope_v = _plane(luma)
    ring_level, ring_cast, noise = _surroundings(region, inside)
    plate_cast, ground_cast = _cast_of(linear, luma, 0.65, 0.95), _cast_of(linear, luma, 0.4, 0.8)
    gains = _light_colour(plate_cast, ground_cast, ring_cast)
    # A dark plate (white on black) hides how light the scene is; white paint would be at least
    # as bright as most of what surrounds the plate.
    level = float(np.clip(max(level, ring_level), MIN_GAIN, MAX_GAIN))
    limit = 0.3 * level
    return PlateLook(
        level=level,
        slope_u=float(np.clip(slope_u, -limit, limit)),
        slope_v=float(np.clip(slope_v, -limit, limit)),
        cast=(float(gains[0]), float(gains[1]), float(gains[2])),
        blur_px=_blur(region, quad),
        noise=noise,
        shadow=shadow,
    )


def quantile(values: NDArray[Any], share: float) -> float:
    """The value below which ``share`` (0…1) of the others lie, without interpolation: NumPy's own
    takes ten times as long for a few thousand."""
    flat = values.ravel()
    at = round(share * (flat.size - 1))
    return float(np.partition(flat, at)[at])


def _beyond(shadow: Shadow) -> NDArray[np.bool_]:
    """The shaded pixels of the thumbnail (whose inside 18 × 84 px the shadow refers to)."""
    u = ((np.arange(_THUMB_W) - 5.5) / 84.0 - 0.5)[None, :]
    v = ((np.arange(_THUMB_H) - 2.5) / 18.0 - 0.5)[:, None]
    return np.asarray(shadow.normal[0] * u + shadow.normal[1] * v > shadow.offset)


def _light_colour(
    plate: NDArray[np.float64], ground: NDArray[np.float64], ring: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gains of R, G, B (mean luma 1) from log casts: of the plate's bright part, of its middle
    tones, of what surrounds it.

    A coloured plate is not coloured light. Where the middle tones (the ground, be it light or
    dark) are faint, the plate's cast is taken for light; where they are strong, only what the
    surroundings share. Limited either way, so a brand keeps its colours.
    """
    same = np.sign(plate) == np.sign(ring)
    shared = np.where(same, np.sign(plate), 0.0) * np.minimum(np.abs(plate), np.abs(ring))
    # Light runs from orange to blue (a black body's), hardly to green or magenta.
    tint = abs(0.5 * float(ground[0] + ground[2]) - float(ground[1]))
    trust = float(np.clip(1.5 - 1.6 * np.abs(ground).max(), 0.0, 1.0))
    trust *= float(np.clip((0.35 - tint) / 0.2, 0.0, 1.0))
    cast = trust * 0.75 * plate + (1.0 - trust) * 0.8 * shared
    gains = np.exp(np.clip(cast, -0.32, 0.32))
    return np.asarray(gains / float(gains @ _LUMA), dtype=np.float64)


def _rectified(region: ImageArray, quad: FloatArray) -> ImageArray:
    """The plate as a ``(24, 96, 3)`` thumbnail."""
    q = quad.astype(np.float32) - 0.5  # OpenCV puts a pixel's centre on whole numbers
    width = max(float(np.hypot(*(q[1] - q[0]))), float(np.hypot(*(q[2] - q[3]))))
    factor = int(width // _THUMB_W)
    if factor >= 2:  # shrink by area first, or the 96 columns would alias
        # By whole numbers: a fractional average takes several times as long.
        h, w = max(1, region.shape[0] // factor), max(1, region.shape[1] // factor)
        small = cv2.resize(region[: h * factor, : w * factor], (w, h), interpolation=cv2.INTER_AREA)
        q = (q + 0.5) / np.float32(factor) - 0.5
    else:
        small = region
    corners = np.array(
        [[-0.5, -0.5], [_THUMB_W - 0.5, -0.5], [_THUMB_W - 0.5, _THUMB_H - 0.5],
         [-0.5, _THUMB_H - 0.5]], dtype=np.float32,
    )  # fmt: skip
    matrix = cv2.getPerspectiveTransform(corners, q)
    return np.asarray(
        cv2.warpPerspective(
            small,
            matrix,
            (_THUMB_W, _THUMB_H),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        dtype=np.uint8,
    )


def _plane(luma: NDArray[np.float32]) -> tuple[float, float, float]:
    """Level, slope over u and slope over v of the plate's ground.

    The 85th percentile of 3 × 6 cells is the ground between characters (or the characters of a
    dark plate); a plane goes through the cells by iteratively reweighted least squares with
    Cauchy-like weights (Holland and Welsch 1977), so a cell in glare or dirt counts little.
    """
    inner = luma[3:-3, 3:-3]  # 18 × 90: without the frame
    cells = inner.reshape(3, 6, 6, 15).transpose(0, 2, 1, 3).reshape(18, 90)
    bright = np.partition(cells, 75, axis=1)[:, 75].astype(np.float64)  # of 90: 85 %
    weight = np.ones(18)
    fit: FloatArray = np.zeros(3)
    for _ in range(4):
        weighted = _CELLS * (weight * weight)[:, None]
        fit = np.asarray(np.linalg.solve(_CELLS.T @ weighted, weighted.T @ bright), np.float64)
        residual = np.abs(_CELLS @ fit - bright)
        weight = 1.0 / (1.0 + residual / (np.median(residual) + 1e-3))
    return float(fit[0]), float(fit[1]), float(fit[2])


def _log_cast(colour: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithm of R, G, B over luma; no cast where it is too dark to tell."""
    luma = float(colour @ _LUMA)
    if luma < 0.004:
        return np.zeros(3)
    return np.log(np.maximum(colour.astype(np.float64), 1e-3) / luma)


def _cast_of(
    linear: NDArray[np.float32], luma: NDArray[np.float32], low: float, high: float
) -> NDArray[np.float64]:
    """Log cast of the pixels between two quantiles of brightness."""
    least, most = quantile(luma, low), quantile(luma, high)
    return _log_cast(linear[(luma >= least) & (luma <= most)].mean(axis=0))


def _surroundings(
    region: ImageArray, inside: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64], float]:
    """Level of light (a lower bound for white), log cast and grain round the plate."""
    step = max(1, round(float(np.sqrt(inside.size / _SURROUNDINGS))))
    outside = ~inside[::step, ::step]
    if int(outside.sum()) < 24:
        return 0.0, np.zeros(3), 0.0
    linear = _TO_LINEAR[region[::step, ::step][outside]]
    level = quantile(linear @ _LUMA, 0.75)
    return min(level, 0.7), _log_cast(linear.mean(axis=0)), _grain(region, inside)


def _grain(region: ImageArray, inside: NDArray[np.bool_]) -> float:
    """Noise from the second difference of both axes (Immerkær 1996), by a low quantile so that
    edges and texture do not count; the less of plate and surroundings, as one may be all grille
    and the other all letters. From the middle 160 × 160 px at full resolution.
    """
    h, w = inside.shape
    if h < 5 or w < 5:
        return 0.0
    top, left = max(0, (h - _GRAIN_WINDOW) // 2), max(0, (w - _GRAIN_WINDOW) // 2)
    window = (slice(top, top + _GRAIN_WINDOW), slice(left, left + _GRAIN_WINDOW))
    grey = cv2.cvtColor(np.ascontiguousarray(region[window]), cv2.COLOR_RGB2GRAY)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    second = np.abs(np.asarray(cv2.filter2D(grey, cv2.CV_32F, kernel)))
    part = inside[window]
    # The lower quartile of |N(0, σ)| is 0.3186 σ, and the filter's gain is 6.
    quartiles = [quantile(second[m], 0.25) for m in (part, ~part) if np.count_nonzero(m) >= 50]
    return min(8.0, min(quartiles, default=0.0) / 0.3186 / 6.0)


def _blur(region: ImageArray, quad: FloatArray) -> float:
    """Blur from the steepest edges: a step of contrast C under a Gaussian of deviation σ has
    slope C / (σ √(2π)). Measured on a central strip of the plate.
    """
    x0, y0 = quad.min(axis=0)
    x1, y1 = quad.max(axis=0)
    centre = quad.mean(axis=0)
    half_w = 0.32 * (x1 - x0)
    half_h = max(3.0, 0.25 * min(y1 - y0, float(np.hypot(*(quad[3] - quad[0])))))
    h, w = region.shape[:2]
    left, right = int(max(0, centre[0] - half_w)), int(min(w, centre[0] + half_w + 1))
    top, bottom = int(max(0, centre[1] - half_h)), int(min(h, centre[1] + half_h + 1))
    if right - left < 5 or bottom - top < 3:
        return 0.8
    strip = np.ascontiguousarray(region[top:bottom, left:right])
    grey = np.asarray(cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY))
    levels = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    contrast = float(np.searchsorted(levels, 0.92) - np.searchsorted(levels, 0.08))
    if contrast < 12:
        return 0.8
    gx = np.asarray(cv2.Sobel(grey, cv2.CV_32F, 1, 0), dtype=np.float32)
    gy = np.asarray(cv2.Sobel(grey, cv2.CV_32F, 0, 1), dtype=np.float32)
    step = max(1, int(np.sqrt(gx.size / _MOST_SLOPES)))
    slopes = np.asarray(cv2.magnitude(gx, gy))[::step, ::step]
    steepest = quantile(slopes, 0.98) / 8.0
    sigma = contrast / (steepest * np.sqrt(2 * np.pi) + 1e-3)
    # The derivative spans two pixels: a box of variance 1/3 that is not the photo's.
    return float(np.clip(np.sqrt(max(0.0, sigma**2 - 1 / 3)), 0.3, 5.0))
