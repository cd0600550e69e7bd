"""Recognise a plate that already wears the cover, by looking: no mark in the file is trusted.

What was found may be all of a cover or a part of it, so each layout is tried as if either had
been found. It counts as covered only where the whole cover is there and agrees with the design
everywhere inside, so whatever it is, nothing else can be read there. A cover with nothing on it
has no design to agree with: there, what was found must be even. Nearly all plates are bare, and
most of them are told by a few pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover import Cover, CoverOptions
from platehide.cover.layout import FRAMED_PX, SMALL_PLATE_PX, Detail
from platehide.cover.views import (
    GLANCE_H,
    GLANCE_W,
    FloatPicture,
    View,
    paint_of,
    softened,
    view_at,
    views,
)
from platehide.evenness import even_panel
from platehide.geometry import plate_height, plate_width, transform_points
from platehide.likeness import FAINT, MOST_CAST, UNIT, Likeness, compare
from platehide.nearby import Near, share_of, warped
from platehide.pixels import PixelSource
from platehide.types import FloatArray, ImageArray

_LEAST_AT_A_GLANCE, _LEAST_MOVED, _LEAST_MOVED_PART = 0.35, 0.68, 0.82
_MOST_RESIDUE_MOVED, _MOST_RESIDUE_PART = 0.6, 0.45
_MOST_CAST_AT_A_GLANCE = 0.35  # some of the car may be in view
_HOPELESS = 0.5
_LEAST_CONTRAST = 0.5 * float(np.sqrt(3 * GLANCE_W * GLANCE_H))
_MOST_LOOKS = 2  # if it was the whole, and as many if it was a part
_MOST_COMPARED = 3
_STRETCHED = 1.45  # how far the shape may be off
_ABOUT = 1.5  # how far the size of a cover that is guessed from a part of it may be off
_ASPECTS = 0.923, 1.0, 1.083  # a layout each
_MOST_RESIZED = 1.6  # how far it may turn out larger or smaller than guessed
_SMALL_PX = 18  # height of what was found below which the comparison is stricter
_LEAST_PX = 3.0
_LEAST_PLAIN_W, _LEAST_PLAIN_H, _LEAST_PLAIN_ASPECT = 9.0, 4.5, 0.8
"""A sliver of anything is even."""
_OUT_ALONG, _OUT_ACROSS = 0.1, 0.22
"""How far what was found may reach beyond the cover on one side, as shares of its width and height:
characters of a plate may still stand beside a cover that lies ill on it."""


def likenesses(
    source: PixelSource, quad: FloatArray, cover: Cover, options: CoverOptions
) -> Iterator[Likeness]:
    """Compare the surroundings of ``quad`` ``(4, 2)`` with the cover in its possible layouts, as
    if the whole of it had been found, or its lettering, or its mark. Not for style ``blur``, where
    the cover is made of the plate itself.

    Yields nothing for what is not alike at first sight, the usual case, found out cheaply.
    """
    width, height = plate_width(quad), plate_height(quad)
    if options.style == "blur" or width < 2 * _LEAST_PX or height < _LEAST_PX:
        return
    paint = paint_of(cover, options)
    large_enough = width >= max(_LEAST_PLAIN_W, _LEAST_PLAIN_ASPECT * height)
    large_enough = large_enough and height >= _LEAST_PLAIN_H
    if paint is not None and large_enough and width < _ABOUT * paint.below_px:
        panel = even_panel(source, quad, paint.colour)
        if panel is not None and held(quad, panel.quad):
            yield Likeness(1.0, 0.0, panel.cast, panel.quad)
    guesses = _guesses(views(cover, options), quad, source.size_wh)
    outlines = [guess.outline for guess in guesses]
    far = Near.reduced(source, outlines) or Near.of(source, outlines)
    if far is None:
        return
    for guess, moved in _at_a_glance(far, guesses):
        for place in (moved,) if guess.part else (moved, guess):
            near = Near.of(source, [place.outline])
            if near is None:
                continue
            view = _likeliest(near, place, cover, options)
            small = height < _SMALL_PX
            found = compare(near, view, place.to_picture, small=small, part=guess.part)
            if found is None or not held(quad, found.quad):
                continue
            if 1 / _MOST_RESIZED < plate_height(found.quad) / guess.height < _MOST_RESIZED:
                yield found


def held(quad: FloatArray, cover: FloatArray) -> bool:
    """Whether ``quad`` reaches no further beyond the sides of ``cover`` than what is found on a
    cover does; both ``(4, 2)``."""
    u = 0.5 * (cover[1] - cover[0] + cover[2] - cover[3])
    v = 0.5 * (cover[3] - cover[0] + cover[2] - cover[1])
    area = float(u[0] * v[1] - u[1] * v[0])
    if abs(area) < 1e-6:
        return False
    off = quad - cover.mean(axis=0)
    along = (off[:, 0] * v[1] - off[:, 1] * v[0]) / area
    across = (u[0] * off[:, 1] - u[1] * off[:, 0]) / area
    far_along = max(-(along[0] + along[3]), along[1] + along[2]) / 2 - 0.5
    far_across = max(-(across[0] + across[1]), across[2] + across[3]) / 2 - 0.5
    return bool(far_along <= _OUT_ALONG and far_across <= _OUT_ACROSS)


# ---- where it may lie -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Guess:
    """A layout and where it would lie: from a share of the cover to a pixel of the picture.

    Attributes:
        part: whether only a part of the cover was found.
    """

    view: View
    to_picture: FloatArray
    outline: FloatArray
    height: float
    part: bool

    def moved(self, to_picture: FloatArray) -> _Guess:
        """The same layout elsewhere."""
        outline = transform_points(to_picture, UNIT)
        return _Guess(self.view, to_picture, outline, plate_height(outline), self.part)


_UNIT32 = UNIT.astype(np.float32)


def _guesses(known: tuple[View, ...], quad: FloatArray, size_wh: tuple[int, int]) -> list[_Guess]:
    """Places of the whole cover if ``quad`` is one of a view's boxes; only those where the cover
    would have been drawn in that layout, with something on it."""
    # The affine map that takes a box to the quad, as nearly as one can (least squares).
    right = 0.5 * (quad[1] - quad[0] + quad[2] - quad[3])
    down = 0.5 * (quad[3] - quad[0] + quad[2] - quad[1])
    across, deep = float(np.hypot(*right)), float(np.hypot(*down))
    out = []
    for view in known:
        if view.plain:
            continue
        for number, (x0, y0, x1, y1) in enumerate(view.boxes.tolist()):
            width, height = across / (x1 - x0), deep / (y1 - y0)
            if not _drawn_so(view.detail, width, height):
                continue
            if not 1 / _STRETCHED < width / height / view.aspect < _STRETCHED:
                continue
            if number == 0:
                matrix = np.asarray(
                    cv2.getPerspectiveTransform(_UNIT32, quad.astype(np.float32)), np.float64
                )
            else:  # the perspective of a part is too uncertain to be drawn out
                u, v = right / (x1 - x0), down / (y1 - y0)
                start = quad.mean(axis=0) - u * (x0 + x1) / 2 - v * (y0 + y1) / 2
                matrix = np.array([[u[0], v[0], start[0]], [u[1], v[1], start[1]], [0, 0, 1.0]])
            outline = transform_points(matrix, UNIT)
            if (outline.max(axis=0) < 0).any() or (outline.min(axis=0) > size_wh).any():
                continue
            out.append(_Guess(view, matrix, outline, height, number > 0))
    return out


def _drawn_so(detail: Detail, width: float, height: float) -> bool:
    if detail == "mark":
        return width < SMALL_PLATE_PX * _ABOUT
    if width < SMALL_PLATE_PX / _ABOUT:
        return False
    return height < FRAMED_PX * _ABOUT if detail == "word" else height > FRAMED_PX / _ABOUT


# ---- at a glance ------------------------------------------------------------------------------

_GLANCE_WH = GLANCE_W, GLANCE_H
_GLANCE_SHARE = share_of((0, 0, GLANCE_W, GLANCE_H))


def _at_a_glance(near: Near, guesses: list[_Guess]) -> list[tuple[_Guess, _Guess]]:
    """The likeliest guesses, as they were and moved to where they fit best, by a few pixels of
    each."""
    ranked: list[tuple[float, int]] = []
    for number, guess in enumerate(guesses):
        seen = _glance_at(near, guess)
        score = _alike(guess.view.glance, seen)
        if score >= _LEAST_AT_A_GLANCE and _cast(guess.view, seen) <= _MOST_CAST_AT_A_GLANCE:
            ranked.append((score, number))
    ranked.sort(reverse=True)
    moved: list[tuple[float, _Guess, _Guess]] = []
    places: set[tuple[float, ...]] = set()
    looks = [0, 0]
    for score, number in ranked:
        guess = guesses[number]
        if looks[guess.part] == _MOST_LOOKS:
            continue
        place = guess.outline.mean(axis=0) / guess.height
        key = guess.view.aspect, *(round(float(v) * 4) for v in place)
        if key not in places:
            places.add(key)
            looks[guess.part] += 1
            reached, there = _climbed(near, guess, score)
            least = _LEAST_MOVED_PART if guess.part else _LEAST_MOVED
            if reached >= least and _lit_so(near, there):
                moved.append((reached, guess, there))
    moved.sort(key=lambda entry: -entry[0])
    return [(guess, there) for _, guess, there in moved[:_MOST_COMPARED]]


def _likeliest(near: Near, guess: _Guess, cover: Cover, options: CoverOptions) -> View:
    """The layout for just that shape: of the few that may have been used, the most alike. (Where
    ours goes from one row to two, the layouts on both sides differ much.)"""
    aspect = plate_width(guess.outline) / max(guess.height, 1e-6)
    seen = _glance_at(near, guess)
    known = [view_at(cover, options, guess.view.detail, aspect * k) for k in _ASPECTS]
    return max((*known, guess.view), key=lambda view: _alike(view.glance, seen))


def _glance_at(near: Near, guess: _Guess) -> ImageArray:
    level, move = near.level_for(guess.height / GLANCE_H)
    matrix = move @ guess.to_picture @ _GLANCE_SHARE
    return softened(warped(level, matrix, _GLANCE_WH))


def _climbed(near: Near, guess: _Guess, score: float) -> tuple[float, _Guess]:
    """The guess moved and stretched, in ever smaller steps, while that makes it more alike: a
    detector may find any part of a cover."""
    level, move = near.level_for(guess.height / GLANCE_H)
    design, to_picture, step = guess.view.glance, guess.to_picture, 0.2
    while step > 0.03:
        best, where = score, to_picture
        for change in _moves(step):
            there = to_picture @ change
            seen = softened(warped(level, move @ there @ _GLANCE_SHARE, _GLANCE_WH))
            found = _alike(design, seen)
            if found > best + 0.005:
                best, where = found, there
        if best > score:
            score, to_picture = best, where
        elif score < _HOPELESS:
            break
        else:
            step /= 2
    return score, guess.moved(to_picture)


@functools.cache
def _moves(step: float) -> tuple[FloatArray, ...]:
    """Shifts and one-sided stretches by ``step`` of the cover's width or height."""
    moves = []
    for axis in (0, 1):
        for sign in (-step, step):
            for scale, shift in ((1.0, sign), (1.0 + sign, -sign / 2)):
                move = np.eye(3)
                move[axis, axis], move[axis, 2] = scale, shift
                moves.append(move)
    return tuple(moves)


def _alike(design: FloatPicture, seen: ImageArray) -> float:
    """Correlation of colours, as if in one light; ``design`` has mean 0 and length 1, so that only
    the length of ``seen`` without its mean is needed."""
    _, spread = cv2.meanStdDev(seen)
    length = float(np.sqrt(design.shape[0] * float((spread * spread).sum())))
    if length <= _LEAST_CONTRAST:
        return 0.0
    return float(np.vdot(design, seen.reshape(-1, 3).astype(np.float32))) / length


def _cast(view: View, seen: ImageArray) -> float:
    """How coloured the light would be, as the largest logarithm of a channel's share."""
    drawn = view.few.mean(axis=0)
    return _coloured(drawn, np.array(cv2.mean(seen)[:3]) / np.maximum(drawn, 1.0))


def _coloured(drawn: FloatPicture, gains: NDArray[np.floating]) -> float:
    told = np.log(np.maximum(gains[drawn >= FAINT * drawn.max()], 1e-3))
    return float(np.abs(told - told.mean()).max())


def _lit_so(near: Near, guess: _Guess) -> bool:
    """Whether the few pixels there are nearly the design in some light: a gain for each colour that
    changes evenly, and nothing added."""
    view, seen = guess.view, _glance_at(near, guess).reshape(-1, 3).astype(np.float32)
    factors = np.einsum("ckn,nc->ck", view.unlit, seen)
    if _coloured(view.few.mean(axis=0), factors[:, 0]) > MOST_CAST:
        return False
    fit = np.einsum("cnk,ck->nc", view.light, factors)
    spread = float(np.sqrt(np.mean(np.square(fit - fit.mean(axis=0)))))
    most = _MOST_RESIDUE_PART if guess.part else _MOST_RESIDUE_MOVED
    return float(np.abs(fit - seen).mean()) <= most * spread
