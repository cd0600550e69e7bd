"""Which part of the picture a cover takes: always at least the whole plate."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.errors import UnsureError
from platehide.geometry import (
    area,
    box_to_quad,
    clip_convex,
    convex_hull,
    grow_polygon,
    hull_box,
    is_convex,
    order_corners,
    plate_height,
    signed_area,
)
from platehide.types import FloatArray

MIN_MARGIN_PX = 1.5
ROUNDING_PX = 0.75
_MIN_SIDE_PX = 1.0


def covering_quad(corners: FloatArray) -> FloatArray:
    """A convex quad, clockwise on screen, that contains the four given corners.

    A sound quad comes back as it is (a mirrored one turned round, so that the brand does not
    read backwards). Crossed, dented or collapsed corners are enclosed: by their hull where it
    has four corners, else by the smallest box round them, else by an upright box. A cover may be
    too large, never too small.
    """
    quad = np.array(corners, dtype=np.float64)
    if is_convex(quad):
        if signed_area(quad) < 0:
            quad = quad[[1, 0, 3, 2]]
        if _is_fat(quad):
            return quad
    hull = convex_hull(quad)
    if len(hull) == 4 and is_convex(hull) and _is_fat(hull):
        return order_corners(hull)
    if len(hull) >= 3 and area(hull) > 0:
        box = np.asarray(cv2.boxPoints(cv2.minAreaRect(hull.astype(np.float32))), np.float64)
        # minAreaRect works in float32: a hair more keeps every corner inside.
        box = grow_polygon(order_corners(box), 0.01 + 1e-6 * float(np.abs(hull).max()))
        if is_convex(box) and _is_fat(box):
            return box
    x0, y0, x1, y1 = hull_box(quad)
    pad_x, pad_y = max(0.0, _MIN_SIDE_PX - (x1 - x0)), max(0.0, _MIN_SIDE_PX - (y1 - y0))
    return box_to_quad([x0 - pad_x, y0 - pad_y, x1 + pad_x, y1 + pad_y])


def _is_fat(quad: FloatArray) -> bool:
    """No side shorter than a pixel, and thick enough that its perspective is well defined."""
    edge = np.roll(quad, -1, axis=0) - quad
    length = np.hypot(edge[:, 0], edge[:, 1])
    thickness = 2 * area(quad) / max(float(length.sum()), 1e-9)
    return bool(length.min() >= _MIN_SIDE_PX and thickness >= 0.5)


def grown(quad: FloatArray, distance_px: float) -> FloatArray:
    """A convex quad that reaches ``distance_px`` beyond every side of the convex ``quad``.

    Very sharp corners are cut (the mitre is limited), never the plate.
    """
    larger = grow_polygon(quad, distance_px)
    return larger if is_convex(larger) else covering_quad(larger)


def with_margin(quad: FloatArray, margin: float) -> FloatArray:
    """``quad`` grown on every side by ``margin`` plate heights, at least 1.5 px."""
    height = min(plate_height(quad), float(np.sqrt(area(quad))))
    return grown(quad, max(MIN_MARGIN_PX, margin * height))


def clip_to_picture(polygon: FloatArray, size_wh: tuple[int, int]) -> FloatArray:
    """``polygon`` ∩ the picture, ``(n, 2)``.

    Raises:
        UnsureError: they do not meet: a plate was reported where there is no picture.
    """
    w, h = size_wh
    if polygon.min() >= 0 and (polygon.max(axis=0) <= size_wh).all() and area(polygon) > 0:
        return polygon
    clipped = clip_convex(polygon, [[0, 0], [w, 0], [w, h], [0, h]])
    if area(clipped) <= 0:
        raise UnsureError("a plate was reported outside the picture")
    return np.clip(clipped, 0.0, [float(w), float(h)])  # rounding of the intersection


def inward_distance(polygon: FloatArray, size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """How deep each pixel of a picture reaches into the convex ``polygon``, px ``(h, w)``.

    Not negative for every pixel of which any part lies inside. Pixel ``i`` spans ``i … i + 1``;
    readers who put its centre at ``i`` are served too: the half pixel up and left of it counts
    as part of it. So are those who round the corners to whole pixels before they fill: the
    polygon is taken ``ROUNDING_PX`` larger. It is the smallest distance over the edges, each
    taken for that corner of the pixel that lies furthest inside: at sharp corners a few pixels
    more may count, never one less.
    """
    ring = polygon if signed_area(polygon) >= 0 else polygon[::-1]
    w, h = size_wh
    xs, ys = np.arange(w, dtype=np.float64), np.arange(h, dtype=np.float64)
    low_x, low_y, high_x, high_y = hull_box(ring)
    # The upright hull caps how far a sharp corner reaches.
    across = np.minimum(xs + 1 - low_x, high_x - xs + 0.5)
    down = np.minimum(ys + 1 - low_y, high_y - ys + 0.5)
    depth: NDArray[np.float32] = np.minimum(across[None, :], down[:, None]).astype(np.float32)
    edge = np.empty_like(depth)
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        dx, dy = b - a
        length = float(np.hypot(dx, dy))
        if length < 1e-9:
            continue
        nx, ny = -dy / length, dx / length  # towards the inside
        along_x = nx * (xs + (1.0 if nx > 0 else -0.5) - a[0])
        along_y = ny * (ys + (1.0 if ny > 0 else -0.5) - a[1])
        across, down = along_x.astype(np.float32), (along_y + 1e-4).astype(np.float32)
        np.minimum(depth, np.add(across[None, :], down[:, None], out=edge), out=depth)
    depth += np.float32(ROUNDING_PX)
    return depth
