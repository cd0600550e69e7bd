"""Lay a design out for the shape of a plate: an opaque flat plate, ready to be warped.

A logo is never stretched into ugliness. Our own design is vector and is set anew for every
aspect; any other design keeps its aspect and stands on a plate of the colour of its own border
(a design that is nearly the plate's shape fills it).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args
from xml.etree import ElementTree

import cv2
import numpy as np

from platehide.cover.lettering import letter
from platehide.cover.svg import RgbaArray, render_svg_text
from platehide.cover.template import Cover, CoverOptions, Variant
from platehide.types import ImageArray

MIN_ASPECT, MAX_ASPECT = 0.8, 6.5
"""Apparent width : height of a plate for which a layout of its own is made."""

STRETCH = 1.15
"""A design that is a plate by itself may fill a plate whose aspect is this near to its own."""
SMALL_PLATE_PX = 48
"""Below this width our lettering could not be read; the mark stands alone and larger."""
FRAMED_PX = 34
"""Below this height a frame line would be thinner than a pixel; the plate gets a toned edge."""

PLAIN_PX = 24
"""Below this width the mark could not be made out either; a spot there would look like a plate."""

Detail = Literal["plain", "mark", "word", "frame"]

_BUCKET = 0.08  # step of ln(aspect): a layout is reused within ±4 %
_HEIGHT = 220.0
_RENDERED_SCALE = 2.0  # of our own design: enough for plates of some 800 px
_SIZES = (192, 512, 1040, 2080)

_PANEL = {"light": (244, 245, 247), "dark": (30, 36, 46)}
_INK = {"light": (23, 50, 79), "dark": (233, 238, 245)}
_EDGE = {"light": (185, 193, 204), "dark": (89, 97, 111)}  # of plates too small for a frame
_DARK = {"#f4f5f7": "#1e242e", "#17324f": "#e9eef5"}


@dataclass(frozen=True, eq=False)
class FlatPlate:
    """An opaque flat cover, read-only.

    Attributes:
        levels: RGB uint8 pictures, each half the size of the one before.
        white: mean brightness (0…1, gamma 2.2 code value) of the plate's ground.
    """

    levels: tuple[ImageArray, ...]
    white: float

    def sized(self, width: float, height: float) -> ImageArray:
        """The flat cover at about ``width`` × ``height`` px, each side reduced by area (so a
        plate seen from the side does not alias); never enlarged.
        """
        level = self.levels[0]
        for smaller in self.levels[1:]:
            if smaller.shape[1] < width or smaller.shape[0] < height:
                break
            level = smaller
        h, w = level.shape[:2]
        size = max(2, min(w, math.ceil(width))), max(2, min(h, math.ceil(height)))
        return level if size == (w, h) else cv2.resize(level, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def flat_plate(cover: Cover, options: CoverOptions, width: float, height: float) -> FlatPlate:
    """The flat cover for a plate that appears ``width`` × ``height`` px large (cached)."""
    aspect = min(max(width / max(height, 1e-6), MIN_ASPECT), MAX_ASPECT)
    bucket = round(math.log(aspect) / _BUCKET)
    size = next((s for s in _SIZES if s >= 1.2 * max(width, height)), _SIZES[-1])
    # The margin changes nothing on the flat cover: do not lay it out again for a grown one.
    detail = detail_of(width, height)
    return _build(cover, replace(options, margin=0.0), bucket, size, detail)


def detail_of(width: float, height: float) -> Detail:
    """What can be read on a plate that appears ``width`` × ``height`` px large."""
    if width < SMALL_PLATE_PX:
        return "plain" if width < PLAIN_PX else "mark"
    return "word" if height < FRAMED_PX else "frame"


def small_layouts(cover: Cover, options: CoverOptions) -> Iterator[tuple[Detail, FlatPlate]]:
    """One small layout for each detail and each clearly different aspect, narrow to wide."""
    step = 3 * _BUCKET
    low, high = math.floor(math.log(MIN_ASPECT) / step), math.ceil(math.log(MAX_ASPECT) / step)
    for detail in get_args(Detail)[1:]:  # plain ones as small as that look like anything
        for number in range(low, high + 1):
            yield detail, _build(cover, replace(options, margin=0.0), 3 * number, _SIZES[0], detail)


def small_layout(cover: Cover, options: CoverOptions, detail: Detail, aspect: float) -> FlatPlate:
    """The small layout that a cover of that detail and aspect gets."""
    aspect = min(max(aspect, MIN_ASPECT), MAX_ASPECT)
    bucket = round(math.log(aspect) / _BUCKET)
    return _build(cover, replace(options, margin=0.0), bucket, _SIZES[0], detail)


@functools.lru_cache(maxsize=256)
def _build(
    cover: Cover, options: CoverOptions, bucket: int, size: int, detail: Detail
) -> FlatPlate:
    aspect = math.exp(bucket * _BUCKET)
    if aspect >= 1:
        wh = size, max(8, round(size / aspect))
    else:
        wh = max(8, round(size * aspect)), size
    if options.style == "solid":
        ground = _PANEL[options.variant]
        plate = _with_text(_panel(wh, options, detail), options, detail)
    elif cover.vector is not None:
        ground = _PANEL[options.variant]
        plate = _set_vector(cover.vector, wh, options, detail)
    else:
        plate, ground = _set_bitmap(cover, wh, options, detail)
    levels = [np.ascontiguousarray(plate)]
    while min(levels[-1].shape[:2]) > 8:
        h, w = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], ((w + 1) // 2, (h + 1) // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, dtype=np.uint8))
    for level in levels:
        level.setflags(write=False)
    white = float(np.dot(ground, (0.2126, 0.7152, 0.0722)) / 255.0)
    return FlatPlate(tuple(levels), white)


def _premultiplied(art: RgbaArray) -> RgbaArray:
    """Colour times alpha: what can be resized without a fringe from transparent pixels."""
    alpha = cv2.merge([art[..., 3]] * 3)
    colour = cv2.multiply(np.ascontiguousarray(art[..., :3]), alpha, scale=1 / 255)
    return np.dstack([colour, art[..., 3]])


def _over(plate: ImageArray, art: RgbaArray, x: int, y: int) -> None:
    """Composite premultiplied ``art`` onto the opaque ``plate`` at ``x``, ``y``, wholly inside.

    The only function here that writes into its argument: a plate is drawn step by step.
    """
    h, w = art.shape[:2]
    part = plate[y : y + h, x : x + w]
    rest = cv2.merge([255 - art[..., 3]] * 3)
    below = cv2.multiply(np.ascontiguousarray(part), rest, scale=1 / 255)
    part[:] = cv2.add(below, np.ascontiguousarray(art[..., :3]))


def _panel(wh: tuple[int, int], options: CoverOptions, detail: Detail) -> ImageArray:
    """A plain plate, with a thin frame or a toned edge."""
    w, h = wh
    u = min(h, w) / _HEIGHT
    plate = np.empty((h, w, 3), dtype=np.uint8)
    if detail == "frame":
        outer, width = round(5.5 * u), max(1, round(7 * u))
        bands = [(0, _PANEL), (outer, _INK), (outer + width, _PANEL)]
    else:
        bands = [(0, _EDGE), (max(1, round(10 * u)), _PANEL)]
    for inset, colours in bands:
        if 2 * inset < min(w, h):
            corner = w - 1 - inset, h - 1 - inset
            cv2.rectangle(plate, (inset, inset), corner, colours[options.variant], cv2.FILLED)
    return plate


def _with_text(plate: ImageArray, options: CoverOptions, detail: Detail) -> ImageArray:
    if not options.text or detail in ("plain", "mark"):
        return plate
    h, w = plate.shape[:2]
    art = letter(
        options.text, (round(w * 0.84), round(h * 0.56)), _INK[options.variant], options.font
    )
    _over(plate, _premultiplied(art), (w - art.shape[1]) // 2, (h - art.shape[0]) // 2)
    return plate


@functools.lru_cache(maxsize=32)
def _group_box(vector: str, name: str) -> tuple[str, tuple[float, float, float, float]]:
    """Markup of the group with id ``name`` and its data-box x, y, width, height."""
    root = ElementTree.fromstring(vector)
    for element in root.iter():
        if element.get("id") == name:
            x, y, w, h = (float(v) for v in (element.get("data-box") or "").split())
            return ElementTree.tostring(element, encoding="unicode"), (x, y, w, h)
    raise ValueError(f"the vector cover has no group {name!r}")


@functools.lru_cache(maxsize=32)
def _art(vector: str, name: str, variant: Variant, scale: float) -> RgbaArray:
    """The group at ``scale`` px a unit, premultiplied. Rendering is dear, reducing cheap: one
    picture serves every shape of plate but the largest.
    """
    if scale < _RENDERED_SCALE:
        larger = _art(vector, name, variant, 2 * scale)
        return _resized(larger, ((larger.shape[1] + 1) // 2, (larger.shape[0] + 1) // 2))
    markup, (x, y, w, h) = _group_box(vector, name)
    if variant == "dark":
        markup = re.sub("|".join(_DARK), lambda m: _DARK[m.group(0)], markup)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x} {y} {w} {h}">{markup}</svg>'
    size = round(w * scale), round(h * scale)
    return _premultiplied(render_svg_text(svg, size, fonts=False))


def _set_vector(
    vector: str, wh: tuple[int, int], options: CoverOptions, detail: Detail
) -> ImageArray:
    """Our own design: mark and word side by side or stacked, whichever letters larger."""
    if detail == "plain":
        return _panel(wh, options, detail)
    w, h = wh
    u = min(w, h) / _HEIGHT
    room_w, room_h = w - 62 * u, h - 58 * u
    _, word_box = _group_box(vector, "word")
    text: RgbaArray | None = None
    if options.text:
        text = _premultiplied(
            letter(
                options.text, (round(room_w), round(room_h)), _INK[options.variant], options.font
            )
        )
        word_size = text.shape[1] / text.shape[0] * 110, 110.0
    else:
        word_size = word_box[2], word_box[3]
    mark_size, gap = 156.0, 44.0
    side = min(room_w / (mark_size + gap + word_size[0]), room_h / max(mark_size, word_size[1]))
    stacked_mark, stacked_gap = 190.0, 30.0
    stacked = min(
        room_w / max(stacked_mark, word_size[0]),
        room_h / (stacked_mark + stacked_gap + word_size[1]),
    )
    if detail == "mark":
        k = min(h - 30 * u, 0.55 * w) / mark_size
        places = [("mark", (w - mark_size * k) / 2, (h - mark_size * k) / 2, k)]
    elif side >= stacked:
        x = (w - (mark_size + gap + word_size[0]) * side) / 2
        places = [
            ("mark", x, (h - mark_size * side) / 2, side),
            ("word", x + (mark_size + gap) * side, (h - word_size[1] * side) / 2, side),
        ]
    else:
        k = stacked_mark / mark_size * stacked
        y = (h - (stacked_mark + stacked_gap + word_size[1]) * stacked) / 2
        places = [
            ("mark", (w - mark_size * k) / 2, y, k),
            (
                "word",
                (w - word_size[0] * stacked) / 2,
                y + (stacked_mark + stacked_gap) * stacked,
                stacked,
            ),
        ]
    plate = _panel(wh, options, detail)
    # Rendered a little larger than it will be set, so that it is always reduced.
    scale = 2.0 ** math.ceil(math.log2(max(k for *_, k in places)))
    for name, x, y, k in places:
        if name == "word" and text is not None:
            size, art = word_size, text
        else:
            size = (mark_size, mark_size) if name == "mark" else word_size
            art = _art(vector, name, options.variant, scale)
        target = max(1, round(size[0] * k)), max(1, round(size[1] * k))
        _over(plate, _resized(art, target), round(x), round(y))
    return plate


@functools.lru_cache(maxsize=16)
def _border_colour(cover: Cover) -> tuple[int, int, int] | None:
    """Median colour of the design's outermost pixels, ``None`` where they are transparent."""
    design = cover.design
    edge = max(1, min(design.shape[:2]) // 50)
    ring = np.concatenate(
        [
            design[:edge].reshape(-1, 4),
            design[-edge:].reshape(-1, 4),
            design[:, :edge].reshape(-1, 4),
            design[:, -edge:].reshape(-1, 4),
        ]
    )
    opaque = ring[ring[:, 3] >= 200]
    if len(opaque) < 0.6 * len(ring):
        return None
    r, g, b = np.median(opaque[:, :3], axis=0)
    return int(r), int(g), int(b)


@functools.lru_cache(maxsize=64)
def _reduced_design(cover: Cover, halvings: int) -> RgbaArray:
    """The design, premultiplied, halved so many times."""
    if halvings == 0:
        return _premultiplied(cover.design)
    larger = _reduced_design(cover, halvings - 1)
    return _resized(larger, ((larger.shape[1] + 1) // 2, (larger.shape[0] + 1) // 2))


def _set_bitmap(
    cover: Cover, wh: tuple[int, int], options: CoverOptions, detail: Detail
) -> tuple[ImageArray, tuple[int, int, int]]:
    """Any other design, and the colour of the ground it stands on."""
    w, h = wh
    border = _border_colour(cover)
    ground = border or _PANEL[options.variant]
    if border is None:
        plate = _panel(wh, options, detail)
        inset = 0.08 * min(w, h)  # a free-standing logo keeps clear of the frame
    else:
        plate = np.full((h, w, 3), ground, dtype=np.uint8)
        inset = 0.0
    room_w, room_h = w - 2 * inset, h - 2 * inset
    text = None
    if options.text:
        dark_ground = float(np.dot(ground, (0.2126, 0.7152, 0.0722))) < 110
        ink = _INK["dark" if dark_ground else "light"]
        beside = w / h > 2.2
        text_room = (0.52 * w, 0.6 * h) if beside else (0.88 * w, 0.3 * h)
        text = _premultiplied(
            letter(options.text, (round(text_room[0]), round(text_room[1])), ink, options.font)
        )
        room_w, room_h = (0.38 * w, 0.84 * h) if beside else (0.88 * w, 0.54 * h)
    dh, dw = cover.design.shape[:2]
    kx, ky = room_w / dw, room_h / dh
    if border is None or text is not None or max(kx, ky) > STRETCH * min(kx, ky):
        kx = ky = min(kx, ky)
    size = max(1, min(w, round(dw * kx))), max(1, min(h, round(dh * ky)))
    # From the smallest picture that need not be enlarged.
    halvings = max(0, math.floor(math.log2(min(dw / size[0], dh / size[1]))))
    art = _resized(_reduced_design(cover, halvings), size)
    if text is None:
        _over(plate, art, (w - size[0]) // 2, (h - size[1]) // 2)
        return plate, ground
    th, tw = text.shape[:2]
    if w / h > 2.2:
        _over(plate, art, round(0.04 * w), (h - size[1]) // 2)
        _over(plate, text, round(0.44 * w + (0.52 * w - tw) / 2), (h - th) // 2)
        return plate, ground
    _over(plate, art, (w - size[0]) // 2, round(0.06 * h))
    _over(plate, text, (w - tw) // 2, round(0.64 * h + (0.3 * h - th) / 2))
    return plate, ground


def _resized(art: RgbaArray, wh: tuple[int, int]) -> RgbaArray:
    """Premultiplied ``art`` at another size."""
    enlarge = wh[0] > art.shape[1] or wh[1] > art.shape[0]
    method = cv2.INTER_LINEAR if enlarge else cv2.INTER_AREA
    return np.asarray(cv2.resize(art, wh, interpolation=method), np.uint8)
