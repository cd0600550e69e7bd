"""Put a cover on a plate: measure the plate's look, render the cover in it, replace the pixels.

Nothing of the original plate survives inside the painted polygon but the few numbers of
``PlateLook``: the cover there is rendered from the design, the corners and those numbers alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from platehide.cover.layout import flat_plate
from platehide.cover.look import GAMMA, PlateLook, measure
from platehide.cover.shape import (
    clip_to_picture,
    covering_quad,
    grown,
    inward_distance,
    with_margin,
)
from platehide.cover.template import Cover, CoverOptions
from platehide.geometry import hull_box, plate_height
from platehide.pixels import Box, Patch, PixelSource
from platehide.types import FloatArray, ImageArray, as_quad

_NOISE_TILE = 256
_LIGHT_W, _LIGHT_H = 256, 128
_MOST_LIGHT = 0.93  # a cover is never burnt out: what is might have been anything
_SOFT_PX = 0.9  # σ in px of a reduced picture from which its enlargement is as good
_ENLARGED = 1 / 6  # σ² in such px of bilinear enlargement itself, a triangle two of them wide
_OWN_BLUR_PX = 0.4  # σ of the warp itself: area-sampled flat cover, bilinear interpolation


@dataclass(frozen=True)
class Covered:
    """One covered plate.

    Attributes:
        patch: the new pixels.
        painted: the fully opaque polygon ``(n, 2)``, margin included, inside the picture.
    """

    patch: Patch
    painted: FloatArray


def cover_plate(
    source: PixelSource,
    quad: ArrayLike,
    cover: Cover,
    options: CoverOptions,
    *,
    frame: int = 0,
) -> Covered:
    """Render ``cover`` onto the plate ``quad`` of ``source``.

    Only the plate's surroundings are read. Every pixel of which any part lies inside the
    returned polygon is replaced; beyond it the cover ends in a soft edge of a few px.

    Args:
        quad: ``(4, 2)`` px of the displayed picture, TL, TR, BR, BL as the plate is read. It may
            reach out of the picture and may be crossed, dented or flat: it is then enclosed.
        frame: index of the frame, for the patch.

    Raises:
        ValueError: ``quad`` is not ``(4, 2)`` finite numbers.
        UnsureError: the plate lies wholly outside the picture.
    """
    plate = covering_quad(as_quad(quad))
    target = with_margin(plate, options.margin)
    painted = clip_to_picture(target, source.size_wh)
    box = _box_round(painted, source.size_wh, pad=max(6.0, 0.2 * plate_height(plate)))
    region = source.region(box)
    origin = np.array(box[:2], dtype=np.float64)
    depth = inward_distance(painted - origin, (region.shape[1], region.shape[0]))
    opaque = depth >= 0
    if options.style == "blur":
        layer, edge_px = _blurred(region, plate_height(target), options.strength), 1.5
    else:
        look = measure(region, plate - origin, opaque)
        # The design is drawn out to where the soft edge begins, a pixel beyond the polygon.
        drawn = grown(target - origin, 1.0)
        edge_px = 1.0 + 1.2 * look.blur_px
        # Only as much of the surroundings as the soft edge and the blur reach into.
        x0, y0, x1, y1 = _box_round(painted - origin, _size(region), pad=2.0 + 4.0 * look.blur_px)
        region, depth = region[y0:y1, x0:x1], depth[y0:y1, x0:x1]
        box = box[0] + x0, box[1] + y0, box[0] + x1, box[1] + y1
        layer = render(look, drawn - (x0, y0), _size(region), cover, options)
    return Covered(_blend(region, layer, depth, edge_px=edge_px, box=box, frame=frame), painted)


def _size(picture: ImageArray) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def render(
    look: PlateLook,
    target: FloatArray,
    size_wh: tuple[int, int],
    cover: Cover,
    options: CoverOptions,
) -> ImageArray:
    """The cover alone, warped onto ``target`` in the light of ``look``: RGB ``(h, w, 3)``.

    No pixel of the photo comes in here: this is what makes the cover opaque.
    """
    # A blurred cover holds nothing that a reduced picture of it would not: drawn there, it costs
    # a quarter, and is enlarged.
    shrink = next((s for s in (4, 2) if look.blur_px >= _SOFT_PX * s), 1)
    extra = (look.blur_px / shrink) ** 2 - _OWN_BLUR_PX**2
    if shrink > 1:
        extra -= _ENLARGED
    few = -(-size_wh[0] // shrink), -(-size_wh[1] // shrink)
    small = target / shrink
    edge = np.hypot(*(np.roll(small, -1, axis=0) - small).T)
    width, height = float(max(edge[0], edge[2])), float(max(edge[1], edge[3]))
    mean_w, mean_h = float(edge[0] + edge[2]) / 2, float(edge[1] + edge[3]) / 2
    plate = flat_plate(cover, options, shrink * mean_w, shrink * mean_h)
    flat = plate.sized(1.25 * width, 1.25 * height)
    lit = _lit(flat, look, plate.white)
    h, w = flat.shape[:2]
    corners = np.array(
        [[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]], dtype=np.float32
    )
    matrix = cv2.getPerspectiveTransform(corners, (small - 0.5).astype(np.float32))
    layer = cv2.warpPerspective(
        lit, matrix, few, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if extra > 0.1:
        layer = cv2.GaussianBlur(layer, (0, 0), float(np.sqrt(extra)))
    if shrink > 1:
        size = few[0] * shrink, few[1] * shrink
        layer = cv2.resize(layer, size, interpolation=cv2.INTER_LINEAR)
        layer = np.ascontiguousarray(layer[: size_wh[1], : size_wh[0]])
    out = np.asarray(layer, dtype=np.uint8)
    return _with_grain(out, look.noise) if look.noise > 0.6 else out


def _lit(flat: ImageArray, look: PlateLook, white: float) -> ImageArray:
    """``flat`` in the plate's light. The gain acts in linear light; for a pure power law that is
    a factor on the code values, which needs no conversion of the picture.
    """
    h, w = flat.shape[:2]
    few_w, few_h = min(w, _LIGHT_W), min(h, _LIGHT_H)  # light is smooth: a small field will do
    u = (np.arange(few_w, dtype=np.float32) + 0.5) / few_w - 0.5
    v = (np.arange(few_h, dtype=np.float32) + 0.5) / few_h - 0.5
    light = look.level + look.slope_u * u[None, :] + look.slope_v * v[:, None]
    if look.shadow is not None:
        (nu, nv), ratio = look.shadow.normal, look.shadow.ratio
        across = (nu * u[None, :] + nv * v[:, None] - look.shadow.offset) / 0.03
        edge = 1.0 / (1.0 + np.exp(-np.clip(across, -30, 30)))
        light = light * (1.0 + (ratio - 1.0) * edge)
    bright = max(white, 0.9)  # a dark cover stays dark; a light one takes the plate's level
    gain = np.clip(light, 0.06, _MOST_LIGHT) ** (1 / GAMMA) / bright
    cast = np.array(look.cast, dtype=np.float32) ** (1 / GAMMA)
    gains = [gain * c for c in cast]
    most = max(float(g.max()) for g in gains)
    # Of eight bits: a field of floats takes ten times as long to enlarge, for half a grey level.
    field = cv2.merge([np.rint(g * (255.0 / most)).astype(np.uint8) for g in gains])
    if (few_w, few_h) != (w, h):
        field = cv2.resize(field, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(flat, field, scale=most / 255.0), dtype=np.uint8)


@functools.cache
def _noise_tile() -> NDArray[np.float32]:
    """Grain of standard deviation 1, a little correlated as after demosaicing; always the same."""
    rng = np.random.default_rng(20240229)
    tile = rng.standard_normal((_NOISE_TILE, _NOISE_TILE), dtype=np.float32)
    soft = np.asarray(cv2.GaussianBlur(tile, (0, 0), 0.6, borderType=cv2.BORDER_REFLECT))
    out: NDArray[np.float32] = np.asarray(soft / soft.std(), dtype=np.float32)
    out.setflags(write=False)
    return out


def _with_grain(layer: ImageArray, noise: float) -> ImageArray:
    h, w = layer.shape[:2]
    reps = -(-h // _NOISE_TILE), -(-w // _NOISE_TILE)
    tile = _noise_tile() if reps == (1, 1) else np.tile(_noise_tile(), reps)
    grain = tile[:h, :w] * np.float32(noise)
    mixed = cv2.add(layer, cv2.merge([grain, grain, grain]), dtype=cv2.CV_8U)
    return np.asarray(mixed, dtype=np.uint8)


def _blurred(region: ImageArray, height: float, strength: float) -> ImageArray:
    """A strong blur of the region itself. Not safe: offered only on explicit request."""
    sigma = max(2.0, 0.35 * strength * height)
    factor = max(1.0, sigma / 4.0)  # blur a reduced picture: the same result, far cheaper
    h, w = region.shape[:2]
    small = cv2.resize(
        region,
        (max(1, round(w / factor)), max(1, round(h / factor))),
        interpolation=cv2.INTER_AREA,
    )
    soft = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return np.asarray(cv2.resize(soft, (w, h), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _box_round(polygon: FloatArray, size_wh: tuple[int, int], pad: float) -> Box:
    x0, y0, x1, y1 = hull_box(polygon)
    w, h = size_wh
    left, top = max(0, int(np.floor(x0 - pad))), max(0, int(np.floor(y0 - pad)))
    right, bottom = min(w, int(np.ceil(x1 + pad)) + 1), min(h, int(np.ceil(y1 + pad)) + 1)
    return left, top, right, bottom


def _blend(
    region: ImageArray,
    layer: ImageArray,
    depth: NDArray[np.float32],
    *,
    edge_px: float,
    box: Box,
    frame: int,
) -> Patch:
    """Opaque where ``depth`` ≥ 0, from there a smooth fall to nothing over ``edge_px``."""
    near = depth > -edge_px
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    depth, near = depth[window], near[window]
    pixels = np.ascontiguousarray(layer[window])
    ys, xs = np.nonzero(near & (depth < 0))
    t = 1.0 + depth[ys, xs] / np.float32(edge_px)
    alpha = (t * t * (3.0 - 2.0 * t))[:, None]
    under = region[window][ys, xs].astype(np.float32)
    pixels[ys, xs] = np.rint(under + alpha * (pixels[ys, xs] - under)).astype(np.uint8)
    return Patch(
        x=box[0] + int(columns[0]),
        y=box[1] + int(rows[0]),
        pixels=pixels,
        changed=near,
        frame=frame,
    )
