"""What detectors say about a plate, as a quad: boxes, rotated boxes, matrices. Pure NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from platehide.geometry import box_to_quad
from platehide.types import FloatArray, as_quad

CANONICAL_PLATE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
"""The unit plate that a transformation matrix maps onto the photo: TL, TR, BR, BL."""


def quad_of_box(box: ArrayLike) -> FloatArray:
    """Quad of an upright box ``(4,)`` x0, y0, x1, y1 in px.

    Raises:
        ValueError: another shape, or a box without area.
    """
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,):
        raise ValueError(f"a box has four numbers x0, y0, x1, y1, got {values.shape}")
    if not (values[2] > values[0] and values[3] > values[1]):
        raise ValueError(f"a box has x1 > x0 and y1 > y0, got {values.tolist()}")
    return as_quad(box_to_quad(values))


def quad_of_rotated(rotated: ArrayLike) -> FloatArray:
    """Quad of a rotated box ``(5,)``: centre x, y, width, height in px, and the angle in degrees
    by which the box's upper edge is turned clockwise as seen (y points down), as in DRBox (Liu et
    al. 2017).

    Raises:
        ValueError: another shape, or a box without area.
    """
    values = np.asarray(rotated, dtype=np.float64)
    if values.shape != (5,):
        raise ValueError(f"a rotated box has five numbers, got {values.shape}")
    x, y, width, height, degrees = values
    if not (width > 0 and height > 0):
        raise ValueError(f"a rotated box has a positive width and height, got {values.tolist()}")
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = (CANONICAL_PLATE * [width, height]) @ np.array([[c, s], [-s, c]])
    return as_quad(turned + [x, y])


def quad_of_matrix(matrix: ArrayLike) -> FloatArray:
    """Quad that a 3 × 3 matrix (or 2 × 3, affine; flat or nested) gives the unit plate
    ``CANONICAL_PLATE``.

    Raises:
        ValueError: another number of values, or a corner that is mapped to infinity.
    """
    values = np.asarray(matrix, dtype=np.float64).ravel()
    if values.size == 6:
        values = np.concatenate([values, [0.0, 0.0, 1.0]])
    elif values.size == 8:
        values = np.concatenate([values, [1.0]])
    if values.size != 9:
        raise ValueError(
            f"a matrix has 9 numbers (8 or 6 where the rest is given), got {values.size}"
        )
    m = values.reshape(3, 3)
    mapped = np.hstack([CANONICAL_PLATE, np.ones((4, 1))]) @ m.T
    if (np.abs(mapped[:, 2]) < 1e-9).any() or np.ptp(np.sign(mapped[:, 2])) > 0:
        raise ValueError("the matrix maps a corner of the plate to infinity")
    return as_quad(mapped[:, :2] / mapped[:, 2:])
