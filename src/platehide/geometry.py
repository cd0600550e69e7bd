"""Plane geometry on quads and convex polygons. Pure functions, float64, pixels.

Image axes: x to the right, y down. A polygon is ``(n, 2)``; a quad ``(4, 2)`` in the order
TL, TR, BR, BL, which is clockwise on screen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from platehide.types import FloatArray

_EPS = 1e-9
_Point = tuple[float, float]

MIRROR_ORDER = [1, 0, 3, 2]
"""Corner order after a horizontal flip: TL↔TR, BL↔BR."""


def signed_area(polygon: ArrayLike) -> float:
    """Shoelace area in px²; positive when the vertices run clockwise on screen."""
    p = np.asarray(polygon, dtype=np.float64)
    if len(p) < 3:
        return 0.0
    x, y = p[:, 0], p[:, 1]
    after = _following(p)
    return float(0.5 * (np.dot(x, after[:, 1]) - np.dot(y, after[:, 0])))


def _following(points: FloatArray) -> FloatArray:
    """Each vertex's successor (``np.roll`` takes several times as long for a few)."""
    return np.concatenate((points[1:], points[:1]))


def area(polygon: ArrayLike) -> float:
    """Unsigned area in px²."""
    return abs(signed_area(polygon))


def hull_box(points: ArrayLike) -> FloatArray:
    """Axis-aligned hull ``(4,)`` as x0, y0, x1, y1 of ``(n, 2)`` points."""
    p = np.asarray(points, dtype=np.float64)
    return np.concatenate([p.min(axis=0), p.max(axis=0)])


def box_to_quad(box: ArrayLike) -> FloatArray:
    """Quad ``(4, 2)`` of an upright box ``(4,)`` x0, y0, x1, y1."""
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def box_iou(a: ArrayLike, b: ArrayLike) -> float:
    """IoU of two upright boxes ``(4,)`` x0, y0, x1, y1."""
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    w = min(p[2], q[2]) - max(p[0], q[0])
    h = min(p[3], q[3]) - max(p[1], q[1])
    if w <= 0 or h <= 0:
        return 0.0
    inter = w * h
    union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - inter
    return float(inter / max(union, _EPS))


def is_convex(quad: ArrayLike) -> bool:
    """True when the polygon is strictly convex (either direction) with non-zero area."""
    p = np.asarray(quad, dtype=np.float64)
    edge = _following(p) - p
    nxt = _following(edge)
    cross = edge[:, 0] * nxt[:, 1] - edge[:, 1] * nxt[:, 0]
    return bool((cross > _EPS).all() or (cross < -_EPS).all())


def convex_hull(points: ArrayLike) -> FloatArray:
    """Convex hull ``(m, 2)``, clockwise on screen (Andrew's monotone chain)."""
    p = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    if len(p) <= 2:
        return p

    def half(rows: FloatArray) -> list[FloatArray]:
        chain: list[FloatArray] = []
        for point in rows:
            while len(chain) >= 2:
                a, b = chain[-1] - chain[-2], point - chain[-1]
                if a[0] * b[1] - a[1] * b[0] > 0:
                    break
                chain.pop()
            chain.append(point)
        return chain

    lower, upper = half(p), half(p[::-1])
    return np.array(lower[:-1] + upper[:-1])


def order_corners(points: ArrayLike) -> FloatArray:
    """Return four corners as TL, TR, BR, BL (geometric order), whatever order they came in.

    The corners are sorted clockwise round their centroid; the start is the corner whose
    following edge is the most "top": the edge of the two longer ones (the plate is wider than
    high) whose midpoint lies highest. Near-square and steep quads fall back on the corner
    nearest the upper left. Raises ``ValueError`` unless the shape is ``(4, 2)``.
    """
    p = np.asarray(points, dtype=np.float64)
    if p.shape != (4, 2):
        raise ValueError(f"order_corners takes (4, 2), got {p.shape}")
    centre = p.mean(axis=0)
    angle = np.arctan2(p[:, 1] - centre[1], p[:, 0] - centre[0])
    ring = p[np.argsort(angle, kind="stable")]
    edge = np.roll(ring, -1, axis=0) - ring
    length = np.hypot(edge[:, 0], edge[:, 1])
    # Two candidates for "top": opposite edges of the longer pair.
    pair = 0 if length[0] + length[2] >= length[1] + length[3] else 1
    mid = ring + 0.5 * edge
    direction = np.abs(edge[pair]) + np.abs(edge[pair + 2])
    if direction[0] >= direction[1]:
        start = pair if mid[pair, 1] <= mid[pair + 2, 1] else pair + 2
    else:
        start = int(np.argmin(ring.sum(axis=1)))
    return np.roll(ring, -start, axis=0)


def clip_convex(subject: ArrayLike, clip: ArrayLike) -> FloatArray:
    """Intersection of a polygon with a convex polygon (Sutherland-Hodgman 1974).

    Both may run in either direction; the result ``(m, 2)`` is empty (m = 0) where they do
    not meet. Exact for convex ``subject``.
    """
    # Plain numbers: for a handful of vertices NumPy takes ten times as long.
    out: list[_Point] = [(x, y) for x, y in np.asarray(subject, dtype=np.float64).tolist()]
    window = np.asarray(clip, dtype=np.float64)
    if signed_area(window) < 0:
        window = window[::-1]
    ring = _without_repeats([(x, y) for x, y in window.tolist()])
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        if not out:
            break
        out = _beside(out, a, b)
    return np.array(_without_repeats(out), dtype=np.float64).reshape(-1, 2)


def _beside(points: list[_Point], a: _Point, b: _Point) -> list[_Point]:
    """The part of a polygon on the right (as seen on screen) of the line from ``a`` to ``b``."""
    (ax, ay), (bx, by) = a, b
    dx, dy = bx - ax, by - ay
    side = [dx * (y - ay) - dy * (x - ax) for x, y in points]
    kept: list[_Point] = []
    for i, (x, y) in enumerate(points):
        j = i + 1 if i + 1 < len(points) else 0
        if side[i] >= 0:
            kept.append((x, y))
        if (side[i] >= 0) != (side[j] >= 0):
            t = side[i] / (side[i] - side[j])
            kept.append((x + t * (points[j][0] - x), y + t * (points[j][1] - y)))
    return kept


def _without_repeats(ring: list[_Point]) -> list[_Point]:
    """Drop vertices on top of their predecessor: an edge of rounding noise has a random
    direction and would clip everything away."""
    if not ring:
        return ring
    least = 1e-9 * max(1.0, *(max(abs(x), abs(y)) for x, y in ring))
    kept = [
        (x, y)
        for (x, y), (u, v) in zip(ring, ring[-1:] + ring[:-1], strict=True)
        if abs(x - u) > least or abs(y - v) > least
    ]
    return kept or ring[:1]


def polygon_iou(a: ArrayLike, b: ArrayLike) -> float:
    """IoU of two convex polygons by exact clipping (of what is not convex, the hull counts); 0
    where either has no area."""
    pa = np.asarray(a, dtype=np.float64)
    pb = np.asarray(b, dtype=np.float64)
    pa = pa if is_convex(pa) else convex_hull(pa)
    pb = pb if is_convex(pb) else convex_hull(pb)
    area_a, area_b = area(pa), area(pb)
    if area_a <= _EPS or area_b <= _EPS:
        return 0.0
    inter = area(clip_convex(pa, pb))
    return float(inter / max(area_a + area_b - inter, _EPS))


def _without(piece: FloatArray, hole: FloatArray) -> list[FloatArray]:
    """What a convex polygon keeps outside a convex ``hole``, as convex polygons side by side."""
    window = hole if signed_area(hole) >= 0 else hole[::-1]
    ring = [(x, y) for x, y in window.tolist()]
    rest = [(x, y) for x, y in piece.tolist()]
    outside = []
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        part = _beside(rest, b, a)
        if len(part) > 2 and area(part) > _EPS:
            outside.append(np.array(part))
        rest = _beside(rest, a, b)
        if len(rest) < 3:
            break
    return outside


def union_area_within(region: ArrayLike, polygons: Sequence[ArrayLike]) -> float:
    """Area in px² of ``region`` (convex) that lies inside the union of convex ``polygons``.

    Exact: each polygon adds what those before it have left of it. However many overlap (a
    detector without suppression may report hundreds), the work stays polynomial.
    """
    pieces = [c for c in (clip_convex(p, region) for p in polygons) if area(c) > _EPS]
    total = 0.0
    for number, piece in enumerate(pieces):
        left = [piece]
        for earlier in pieces[:number]:
            left = [part for one in left for part in _without(one, earlier)]
            if not left:
                break
        total += sum(area(part) for part in left)
    return total


def coverage(region: ArrayLike, polygons: Sequence[ArrayLike]) -> float:
    """Share (0…1) of ``region``'s area inside the union of ``polygons``."""
    total = area(region)
    if total <= _EPS:
        return 0.0
    return min(1.0, union_area_within(region, polygons) / total)


def grow_polygon(polygon: ArrayLike, distance_px: float) -> FloatArray:
    """Offset every edge of a convex polygon outward by ``distance_px`` (mitred).

    A mitre is limited to four times the distance so that a sharp corner does not shoot away.
    """
    p = np.asarray(polygon, dtype=np.float64)
    if signed_area(p) < 0:
        return grow_polygon(p[::-1], distance_px)[::-1]
    edge = _following(p) - p
    length = np.maximum(np.hypot(edge[:, 0], edge[:, 1]), _EPS)
    unit = edge / length[:, None]
    normal = np.stack([unit[:, 1], -unit[:, 0]], axis=1)
    before = np.concatenate((normal[-1:], normal[:-1]))
    bisector = normal + before
    norm = np.maximum(np.hypot(bisector[:, 0], bisector[:, 1]), _EPS)
    bisector = bisector / norm[:, None]
    cosine = np.maximum((bisector * normal).sum(axis=1), 0.25)
    return np.asarray(p + bisector * (distance_px / cosine)[:, None])


def plate_height(quad: ArrayLike) -> float:
    """Mean length in px of a quad's left and right side (metrics.md's "plate height")."""
    q = np.asarray(quad, dtype=np.float64)
    left, right = q[3] - q[0], q[2] - q[1]
    return float(0.5 * (np.hypot(*left) + np.hypot(*right)))


def plate_width(quad: ArrayLike) -> float:
    """Mean length in px of a quad's top and bottom side."""
    q = np.asarray(quad, dtype=np.float64)
    top, bottom = q[1] - q[0], q[2] - q[3]
    return float(0.5 * (np.hypot(*top) + np.hypot(*bottom)))


def mean_sides(quad: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Vectors ``(2,)`` along and down a quad ``(4, 2)``: the means of its opposite sides."""
    across = 0.5 * ((quad[1] - quad[0]) + (quad[2] - quad[3]))
    down = 0.5 * ((quad[3] - quad[0]) + (quad[2] - quad[1]))
    return across, down


def mirror_corners(corners: FloatArray, width: int) -> FloatArray:
    """Corners ``(..., 4, 2)``, told from pixel centres, in the mirror image of a picture ``width``
    px wide."""
    return np.asarray(corners[..., MIRROR_ORDER, :] * [-1.0, 1.0] + [width - 1.0, 0.0])


def vertex_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Mean vertex distance in px, the smallest over cyclic shifts and direction."""
    p, q = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    best = np.inf
    for candidate in (q, q[::-1]):
        for shift in range(4):
            d = p - np.roll(candidate, shift, axis=0)
            best = min(best, float(np.hypot(d[:, 0], d[:, 1]).mean()))
    return best


def transform_points(matrix: ArrayLike, points: ArrayLike) -> FloatArray:
    """Apply a ``(3, 3)`` homography to ``(n, 2)`` points."""
    m = np.asarray(matrix, dtype=np.float64)
    p = np.asarray(points, dtype=np.float64)
    h = np.concatenate([p, np.ones((len(p), 1))], axis=1) @ m.T
    w = h[:, 2:3]
    w = np.where(np.abs(w) < _EPS, np.where(w < 0, -_EPS, _EPS), w)
    return np.asarray(h[:, :2] / w)
