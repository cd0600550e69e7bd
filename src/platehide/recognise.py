"""Recognise a plate that already wears the cover, by looking: no mark in the file is trusted.

What was found may be all of a cover or a part of it, so each layout is tried as if either had
been found. It counts as covered only where the whole cover is there and agrees with the design
everywhere inside, so whatever it is, nothing else can be read there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from platehide.cover import Cover, CoverOptions
from platehide.cover.layout import FRAMED_PX, SMALL_PLATE_PX, Detail
from platehide.cover.views import (
    CANVAS_H,
    CANVAS_W,
    GLANCE_H,
    GLANCE_W,
    MARGIN,
    FloatPicture,
    View,
    inner_mask,
    inner_rect,
    views,
)
from platehide.geometry import plate_height, plate_width, transform_points
from platehide.nearby import Near, share_of, warped
from platehide.pixels import PixelSource
from platehide.types import FloatArray, ImageArray

_LEAST_CORRELATION = 0.86
_MOST_RESIDUE = 0.47
_LEAST_OF_SMALL, _MOST_OF_SMALL = 0.84, 0.42
_MOST_CAST = 0.25
_SMALL_PX = 24  # height below which much can look like anything
_LEAST_AT_A_GLANCE, _LEAST_MOVED, _LEAST_OF_PLAIN = 0.25, 0.5, 0.4
_HOPELESS, _HOPELESS_IF_PLAIN = 0.4, 0.25
_LEAST_CONTRAST = 0.5 * float(np.sqrt(3 * GLANCE_W * GLANCE_H))
_MOST_LOOKS = 4
_ITERATIONS = 40
_FLAT = 5.0  # grey levels
_FAINT = 0.25  # of the strongest colour: what is as dark tells nothing of the light's colour
_STRETCHED = 1.45  # how far the shape may be off
_ABOUT = 1.5  # how far the size of a cover that is guessed from a part of it may be off
_LEAST_PX = 3.0


class Likeness(NamedTuple):
    """How far something looks like the cover.

    Attributes:
        correlation: of colours inside the cover with the design in the light that fits best,
            -1…1, at the best alignment.
        residue: the largest mean difference over an eighth of the width, relative to the
            design's contrast.
        cast: the colour of that light, as the largest logarithm of a channel's share.
        quad: the cover ``(4, 2)``, px of the picture.
    """

    correlation: float
    residue: float
    cast: float
    quad: FloatArray

    @property
    def covered(self) -> bool:
        """True where nothing but the cover is there."""
        small = plate_height(self.quad) < _SMALL_PX
        return (
            self.correlation >= (_LEAST_OF_SMALL if small else _LEAST_CORRELATION)
            and self.residue <= (_MOST_OF_SMALL if small else _MOST_RESIDUE)
            and self.cast <= _MOST_CAST
        )


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
    guesses = _guesses(views(cover, options), quad, source.size_wh)
    outlines = [guess.outline for guess in guesses]
    far = Near.reduced(source, outlines) or Near.of(source, outlines)
    if far is None:
        return
    for guess in _at_a_glance(far, guesses):
        near = Near.of(source, [guess.outline])
        found = None if near is None else _compare(near, guess)
        if found is not None:
            yield found


# ---- where it may lie -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Guess:
    """A layout and where it would lie: from a share of the cover to a pixel of the picture."""

    view: View
    to_picture: FloatArray
    outline: FloatArray
    height: float

    def moved(self, to_picture: FloatArray) -> _Guess:
        """The same layout elsewhere."""
        outline = transform_points(to_picture, _UNIT)
        return _Guess(self.view, to_picture, outline, plate_height(outline))


_UNIT = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
_UNIT32 = _UNIT.astype(np.float32)


def _guesses(known: tuple[View, ...], quad: FloatArray, size_wh: tuple[int, int]) -> list[_Guess]:
    """Places of the whole cover if ``quad`` is one of a view's boxes; only those where the cover
    would have been drawn in that layout."""
    # The affine map that takes a box to the quad, as nearly as one can (least squares).
    right = 0.5 * (quad[1] - quad[0] + quad[2] - quad[3])
    down = 0.5 * (quad[3] - quad[0] + quad[2] - quad[1])
    across, deep = float(np.hypot(*right)), float(np.hypot(*down))
    out = []
    for view in known:
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
            outline = transform_points(matrix, _UNIT)
            if (outline.max(axis=0) < 0).any() or (outline.min(axis=0) > size_wh).any():
                continue
            out.append(_Guess(view, matrix, outline, height))
    return out


def _drawn_so(detail: Detail, width: float, height: float) -> bool:
    if detail == "mark":
        return width < SMALL_PLATE_PX * _ABOUT
    if width < SMALL_PLATE_PX / _ABOUT:
        return False
    return height < FRAMED_PX * _ABOUT if detail == "word" else height > FRAMED_PX / _ABOUT


_GLANCE_WH = GLANCE_W, GLANCE_H
_GLANCE_SHARE = share_of((0, 0, GLANCE_W, GLANCE_H))


def _at_a_glance(near: Near, guesses: list[_Guess]) -> list[_Guess]:
    """The likeliest guesses, moved to where they fit best, by a few pixels of each."""
    ranked = sorted(
        ((_glance_at(near, guess), number) for number, guess in enumerate(guesses)), reverse=True
    )
    moved: list[tuple[float, _Guess]] = []
    seen: set[tuple[float, ...]] = set()
    for score, number in ranked:
        guess = guesses[number]
        place = guess.outline.mean(axis=0) / guess.height
        key = guess.view.aspect, *(round(float(v) * 4) for v in place)
        least = 0.0 if guess.view.plain else _LEAST_AT_A_GLANCE
        if score >= least and key not in seen:
            seen.add(key)
            moved.append(_climbed(near, guess, score))
        if len(moved) == _MOST_LOOKS:
            break
    moved.sort(key=lambda pair: -pair[0])
    return [guess for reached, guess in moved if reached >= _least(guess.view)]


def _least(view: View) -> float:
    return _LEAST_OF_PLAIN if view.plain else _LEAST_MOVED


def _glance_at(near: Near, guess: _Guess) -> float:
    level, move = near.level_for(guess.height / GLANCE_H)
    matrix = move @ guess.to_picture @ _GLANCE_SHARE
    return _alike(guess.view.glance, warped(level, matrix, _GLANCE_WH))


def _climbed(near: Near, guess: _Guess, score: float) -> tuple[float, _Guess]:
    """The guess moved and stretched, in ever smaller steps, while that makes it more alike: a
    detector may find any part of a cover."""
    level, move = near.level_for(guess.height / GLANCE_H)
    design, to_picture, step = guess.view.glance, guess.to_picture, 0.2
    while step > 0.03:
        best, where = score, to_picture
        for change in _moves(step):
            there = to_picture @ change
            found = _alike(design, warped(level, move @ there @ _GLANCE_SHARE, _GLANCE_WH))
            if found > best + 0.005:
                best, where = found, there
        if best > score:
            score, to_picture = best, where
        elif score < (_HOPELESS_IF_PLAIN if guess.view.plain else _HOPELESS):
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


def _alike(design: FloatPicture, there: ImageArray) -> float:
    """Correlation of colours, as if in one light; ``design`` has mean 0 and length 1."""
    b = there.reshape(-1, 3).astype(np.float32)
    b -= b.mean(axis=0)
    length = float(np.linalg.norm(b))
    return float(np.vdot(design, b)) / length if length > _LEAST_CONTRAST else 0.0


# ---- the comparison ---------------------------------------------------------------------------


def _grey(picture: NDArray[Any]) -> FloatPicture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _compare(near: Near, guess: _Guess) -> Likeness | None:
    """As it lies, then aligned (ECC, Evangelidis and Psarakis 2008): the corners that are found
    on a cover are some px off."""
    outline = guess.outline
    rect = inner_rect()
    height = guess.height
    canvas = near.flattened(guess.to_picture, height, rect, (CANVAS_W, CANVAS_H))
    there: FloatPicture = np.asarray(
        cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), 1.0), np.float32
    )
    soft_x = max(1.0, 0.6 * rect[2] / plate_width(outline))
    soft_y = max(1.0, 0.6 * rect[3] / height)
    design: FloatPicture = np.asarray(
        cv2.GaussianBlur(guess.view.design, (0, 0), sigmaX=soft_x, sigmaY=soft_y), np.float32
    )
    warp = np.eye(3, dtype=np.float32)
    best = _likeness(design, there, warp, guess)
    if best is not None and best.covered:
        return best
    grey_design, grey_there = _grey(design), _grey(there)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 1e-4)
    for motion, blur in ((cv2.MOTION_AFFINE, 9), (cv2.MOTION_HOMOGRAPHY, 5)):
        start = warp if motion == cv2.MOTION_HOMOGRAPHY else warp[:2]
        try:
            _, end = cv2.findTransformECC(
                grey_design, grey_there, start, motion, criteria, inner_mask(), blur
            )
        except cv2.error:  # nothing alike
            return best
        warp = np.vstack([end, [0, 0, 1]])[:3].astype(np.float32)
        found = _likeness(design, there, warp, guess)
        if found is not None and (best is None or found.residue < best.residue):
            best = found
        if best is not None and best.covered:
            return best
    return best


def _likeness(
    design: FloatPicture, there: FloatPicture, warp: FloatPicture, guess: _Guess
) -> Likeness | None:
    """How near ``there`` comes to the design in some light: a gain for each colour that changes
    evenly over the plate, and nothing added. Without the frame: a thin line is never aligned to
    the pixel. ``None`` where no light explains it.
    """
    size = (design.shape[1], design.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(there, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    y, x = _pixels()
    u, v = (x / size[0] - 0.5).astype(np.float32), (y / size[1] - 0.5).astype(np.float32)
    light = np.stack([np.ones_like(u), u, v], axis=1)
    shown, drawn = np.asarray(moved)[y, x], design[y, x]
    fit = np.empty_like(shown)
    gains = np.empty(3)
    for c in range(3):
        terms = light * drawn[:, c : c + 1]
        square = (terms.T @ terms).astype(np.float64) + np.eye(3)  # a colour may be missing
        factors = np.linalg.solve(square + 1e-3 * np.trace(square) * _RIDGE, terms.T @ shown[:, c])
        gains[c] = factors[0]
        fit[:, c] = terms @ factors.astype(np.float32)
    strength = drawn.mean(axis=0)
    told = gains[strength >= _FAINT * strength.max()]
    if told.min() <= 0.02:
        return None
    a, b = fit - fit.mean(axis=0), shown - shown.mean(axis=0)
    spread = float(np.sqrt(np.mean(a * a)))
    length = float(np.sqrt(np.mean(a * a) * np.mean(b * b)))
    error = np.abs(fit - shown).mean(axis=1)
    cast = float(np.abs(np.log(told / told.mean())).max())
    rx, ry, rw, rh = inner_rect()
    corners = transform_points(warp, _UNIT * (rw, rh) + (rx - 0.5, ry - 0.5))
    quad = transform_points(guess.to_picture, (corners - (rx - 0.5, ry - 0.5)) / (rw, rh))
    if float(drawn.std(axis=0).max()) < _FLAT:  # a plain cover: what is there must be as plain
        level, middle = float(fit.mean()), np.abs(v) < 0.28 / (1 + 2 * MARGIN)
        off = np.sort(error[middle])
        plain = off.mean() < 2.0 + 0.025 * level and off[-8] < 5.0 + 0.1 * level
        plain = plain and _nothing_written(np.asarray(moved), level)
        return Likeness(1.0 if plain else 0.0, 0.0, cast, quad)
    if length < 1e-3:
        return None
    eighth = ((x - x.min()) * 8 // (int(np.ptp(x)) + 1)).astype(np.intp)
    worst = float((np.bincount(eighth, error, 8) / np.bincount(eighth, minlength=8)).max())
    return Likeness(float(np.mean(a * b)) / length, worst / spread, cast, quad)


def _nothing_written(flat: FloatPicture, level: float) -> bool:
    """True where a cover that lies on the canvas, of brightness ``level``, is as even as one that
    was drawn: faded letters are not. Noise is averaged out over about the width of a stroke; how
    light falls on a plate may take away a plane and a bend across. What is burnt out is even too,
    whatever it was.
    """
    if level > _BURNT_OUT:
        return False
    core = flat[_core()]
    h, w = core.shape[:2]
    pixels = core.reshape(h * w, 3)
    terms, inverse = _even_light(w, h)
    off = pixels - terms @ (inverse @ pixels)
    strokes = cv2.blur(np.ascontiguousarray(off.reshape(h, w, 3), np.float32), (_STROKE, _STROKE))
    uneven = float(np.sqrt(np.mean(np.square(strokes))))
    return uneven < 0.8 + 0.004 * level and float(np.abs(strokes).max()) < 3.0 + 0.018 * level


_STROKE = 7  # px of the canvas
_BURNT_OUT = 250.0


@functools.cache
def _core() -> tuple[slice, slice]:
    """The cover on the canvas without its frame."""
    x, y, w, h = inner_rect()
    dx, dy = round(0.06 * w), round(0.16 * h)
    return slice(y + dy, y + h - dy), slice(x + dx, x + w - dx)


@functools.cache
def _even_light(w: int, h: int) -> tuple[FloatPicture, FloatPicture]:
    """How light may fall, one row a pixel, and the way back from pixels to its numbers."""
    v, u = (a.ravel() / n - 0.5 for a, n in zip(np.mgrid[0:h, 0:w], (h, w), strict=True))
    terms = np.stack([np.ones(h * w), u, v, u * u], axis=1)
    return terms.astype(np.float32), np.linalg.pinv(terms).astype(np.float32)


_RIDGE = np.diag([0.0, 1.0, 1.0])  # a steep fall of light must be worth it


@functools.cache
def _pixels() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of every second pixel inside the frame."""
    frame = max(1, round(0.08 * inner_rect()[3]))
    inside = cv2.erode(inner_mask(), np.ones((2 * frame + 1, 2 * frame + 1), np.uint8))
    few = np.zeros_like(inside)
    few[::2, ::2] = inside[::2, ::2]
    y, x = np.nonzero(few)
    return y, x
