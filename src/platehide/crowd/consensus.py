"""One quad from several hands: a weighted Huber mean of each vertex.

P. J. Huber, "Robust estimation of a location parameter" (1964), by iteratively reweighted means.
An answer weighs by its worker's skill over the square of the worker's own scatter.
"""

from __future__ import annotations

import numpy as np

from platehide.types import FloatArray

HUBER_K = 2.0
"""Residuals beyond this many standard deviations weigh less (a vertex is two-dimensional: a good
worker's median residual is 1.18)."""

_STEPS = 12


def huber_mean(points: FloatArray, weights: FloatArray, scale_px: FloatArray) -> FloatArray:
    """Robust mean of ``n`` aligned quads, for ``g`` groups at once.

    Args:
        points: ``(g, n, 4, 2)`` px.
        weights: ``(g, n)``, positive.
        scale_px: ``(g, n)`` standard deviation of a coordinate of each answer, px.

    Returns:
        ``(g, 4, 2)`` px.
    """
    w = weights[:, :, None]
    n = points.shape[1]
    if n > 2:
        centre = np.median(points, axis=1)
    else:
        centre = (points * w[..., None]).sum(axis=1) / w.sum(axis=1)[..., None]
        if n < 2:
            return np.asarray(centre)
    for _ in range(_STEPS):
        d = points - centre[:, None]
        residual = np.hypot(d[..., 0], d[..., 1]) / scale_px[:, :, None]
        v = w * np.minimum(1.0, HUBER_K / np.maximum(residual, 1e-9))
        moved = (points * v[..., None]).sum(axis=1) / v.sum(axis=1)[..., None]
        done = np.abs(moved - centre).max() < 1e-6
        centre = moved
        if done:
            break
    return np.asarray(centre)
