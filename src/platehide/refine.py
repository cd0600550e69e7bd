"""Corner refinement: rectify the neighbourhood of each coarse quad, ask the refiner, map back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from platehide.geometry import is_convex, mirror_corners, signed_area, transform_points
from platehide.model_spec import RefinerSpec
from platehide.pixels import Box, PixelSource, box_holds
from platehide.preprocess import rectify
from platehide.types import FloatArray, ImageArray

RefinerFunction = Callable[[ImageArray], tuple[FloatArray, FloatArray]]
"""uint8 ``(B, h, w, 3)`` → corners ``(B, 4, 2)`` crop px, logits ``(B,)``."""

HOPELESS_LOGIT = -1.0

MAX_GROWTH = 3.0
"""A pass may not change the quad's area by more than this factor: a wild answer is dropped."""


SLACK = 0.12
"""Share of the quad's size by which more is read than the first pass needs, so that the next one
finds its pixels there: for a JPEG, each region read is a decode."""

Held = tuple[Box, ImageArray]


def neighbourhood(
    source: PixelSource, quad: FloatArray, margin: float, held: Held | None = None
) -> tuple[ImageArray, FloatArray, Held]:
    """Full-resolution pixels that ``rectify`` can need.

    Args:
        held: what an earlier call for nearly the same quad gave last.

    Returns:
        the pixels, the offset ``(2,)`` of the region, and what to hand to the next call.
    """
    size = np.ptp(quad, axis=0)
    # The crop's corners lie ``margin`` sides beyond the quad; a tilted quad's reach further.
    reach = margin * 1.3 * size + 0.1 * size.max() + 3.0
    box = _box_round(quad, reach, source.size_wh)
    if held is None or not box_holds(held[0], box):
        wide = _box_round(quad, reach + SLACK * size.max(), source.size_wh)
        held = wide, source.region(wide)
    (left, top, _, _), pixels = held
    part = pixels[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    return part, np.array(box[:2], dtype=np.float64), held


def _box_round(quad: FloatArray, reach: FloatArray, size_wh: tuple[int, int]) -> Box:
    width, height = size_wh
    low = np.floor(quad.min(axis=0) - reach).astype(int)
    high = np.ceil(quad.max(axis=0) + reach).astype(int) + 1
    x0, y0 = max(0, min(int(low[0]), width - 1)), max(0, min(int(low[1]), height - 1))
    return x0, y0, min(width, max(int(high[0]), x0 + 1)), min(height, max(int(high[1]), y0 + 1))


def refine_quads(
    source: PixelSource, quads: Sequence[FloatArray], spec: RefinerSpec, run: RefinerFunction
) -> tuple[list[FloatArray], FloatArray]:
    """Refine each quad ``spec.passes`` times, the last time seen both ways where ``spec.mirrored``.

    What the refiner takes for no plate at all after the first pass is not looked at again: a
    photo has a plate or two, but a dozen candidates.

    Returns:
        The quads ``(4, 2)`` in photo px (the coarse one where a pass gave nothing usable) and
        the refiner's plate logits ``(n,)`` of the last pass that looked at each.
    """
    # A warp counts from pixel centres.
    edge = 0.5 if spec.from_edges else 0.0
    current = [np.asarray(q, dtype=np.float64) - edge for q in quads]
    logits: FloatArray = np.zeros(len(current))
    if not current:
        return [], logits
    alive = list(range(len(current)))
    held: dict[int, Held] = {}
    for turn in range(spec.passes):
        crops, back = [], []
        for i in alive:
            pixels, offset, held[i] = neighbourhood(source, current[i], spec.margin, held.get(i))
            crop, matrix = rectify(pixels, current[i] - offset, spec.size_wh, spec.margin)
            crops.append(crop)
            back.append((np.asarray(np.linalg.inv(matrix), np.float64), offset))
        ask = partial(_both_ways, run) if spec.mirrored and turn == spec.passes - 1 else run
        corners, found = ask(np.stack(crops))
        logits[alive] = found
        for i, corner, (matrix, offset) in zip(alive, corners, back, strict=True):
            current[i] = _accept(current[i], transform_points(matrix, corner) + offset)
        alive = [i for i in alive if logits[i] > HOPELESS_LOGIT]
        if not alive:
            break
    return [q + edge for q in current], np.asarray(logits, dtype=np.float64)


def _both_ways(run: RefinerFunction, crops: ImageArray) -> tuple[FloatArray, FloatArray]:
    """The mean of what is said of crops ``(B, h, w, 3)`` and of their mirror images."""
    corners, logits = run(np.concatenate([crops, crops[:, :, ::-1]]))
    seen, mirrored = np.split(corners, 2)
    return (seen + mirror_corners(mirrored, crops.shape[2])) / 2.0, logits.reshape(2, -1).mean(
        axis=0
    )


def _accept(before: FloatArray, after: FloatArray) -> FloatArray:
    if not np.isfinite(after).all() or not is_convex(after):
        return before
    ratio = signed_area(after) / max(signed_area(before), 1e-6)
    return after if 1.0 / MAX_GROWTH < ratio < MAX_GROWTH else before
