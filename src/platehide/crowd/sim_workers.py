"""Simulated workers: honest, sloppy and five kinds of bot.

Each looks at a ``SimPhoto`` (its true plates) and answers. A bot that knows nothing of the photo
ignores the plates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from platehide.crowd.matching import reference_height
from platehide.geometry import box_iou, box_to_quad, hull_box
from platehide.types import FloatArray


@dataclass(frozen=True)
class SimPhoto:
    """A photo of the simulated world: its name, size and true plates."""

    name: str
    width: int
    height: int
    plates: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Answer:
    """What a worker sends: plates ``(4, 2)`` px in any order, or a skip."""

    plates: tuple[FloatArray, ...] = ()
    skip: bool = False


class Worker(Protocol):
    """Someone who answers."""

    def answer(self, photo: SimPhoto) -> Answer:
        """The answer to a photo."""


def random_quad(rng: np.random.Generator, photo: SimPhoto) -> FloatArray:
    """A plate-like upright quad anywhere on the photo."""
    width = min(float(rng.lognormal(np.log(170.0), 0.5)), 0.6 * photo.width)
    height = width / float(rng.uniform(2.5, 5.0))
    x = float(rng.uniform(0, photo.width - width))
    y = float(rng.uniform(0, max(1.0, photo.height - height)))
    return box_to_quad([x, y, x + width, y + height])


def shuffled(rng: np.random.Generator, quad: FloatArray) -> FloatArray:
    """The corners from a random start in a random direction, as people click them."""
    ring = np.roll(quad, int(rng.integers(4)), axis=0)
    return np.ascontiguousarray(ring[::-1] if rng.random() < 0.5 else ring)


@dataclass
class Human:
    """Draws every plate with a scatter of ``sigma`` plate heights and sometimes slips."""

    rng: np.random.Generator
    sigma: float
    slip: float = 0.01
    skip: float = 0.005

    def answer(self, photo: SimPhoto) -> Answer:
        """The true plates, scattered; rarely a skip, a missed plate or a wrong object."""
        draw = float(self.rng.random())
        if draw < self.skip:
            return Answer(skip=True)
        if draw < self.skip + self.slip:
            if photo.plates and self.rng.random() < 0.5:
                return Answer(tuple(self._draw(q) for q in photo.plates[:-1]))
            return Answer((random_quad(self.rng, photo),))
        return Answer(tuple(self._draw(q) for q in photo.plates))

    def _draw(self, quad: FloatArray) -> FloatArray:
        noise = self.rng.normal(0.0, self.sigma * reference_height(quad), (4, 2))
        return shuffled(self.rng, quad + noise)


@dataclass
class RandomBot:
    """A random plate-like box; now and then "no plate"."""

    rng: np.random.Generator

    def answer(self, photo: SimPhoto) -> Answer:
        """Ignores the photo."""
        if self.rng.random() < 0.1:
            return Answer()
        return Answer((random_quad(self.rng, photo),))


@dataclass
class ConstantBot:
    """The same quad on every photo, low in the middle, where plates often are."""

    quad: FloatArray

    def answer(self, photo: SimPhoto) -> Answer:
        """Ignores the photo."""
        del photo
        return Answer((self.quad,))


@dataclass
class NoPlateBot:
    """Always "no plate": one click."""

    def answer(self, photo: SimPhoto) -> Answer:
        """Ignores the photo."""
        del photo
        return Answer()


@dataclass
class Ring:
    """What the members of an answer-sharing ring know together."""

    rng: np.random.Generator
    control_after: int = 4
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)


@dataclass
class RingBot:
    """Shares answers: the first member's guess is repeated by all others.

    A photo that comes back to ``control_after`` members must be a control task; from then on
    the ring draws it well, once, and shares that.
    """

    ring: Ring

    def answer(self, photo: SimPhoto) -> Answer:
        """The ring's answer."""
        ring = self.ring
        ring.seen[photo.name] = ring.seen.get(photo.name, 0) + 1
        if ring.seen[photo.name] == ring.control_after:
            ring.answers[photo.name] = Human(ring.rng, 0.06).answer(photo)
        elif photo.name not in ring.answers:
            ring.answers[photo.name] = Answer((random_quad(ring.rng, photo),))
        return ring.answers[photo.name]


@dataclass
class BoxBot:
    """An off-the-shelf box detector: upright boxes, good ones, for whatever hangs there."""

    rng: np.random.Generator
    scatter: float = 0.04
    recall: float = 0.95
    false: float = 0.2

    def answer(self, photo: SimPhoto) -> Answer:
        """The upright hull of each plate it finds."""
        quads = []
        for plate in photo.plates:
            if self.rng.random() < self.recall:
                noise = self.rng.normal(0.0, self.scatter * reference_height(plate), 4)
                quads.append(box_to_quad(hull_box(plate) + noise))
        if not photo.plates and self.rng.random() < self.false:
            quads.append(random_quad(self.rng, photo))
        return Answer(tuple(quads))


BOT_KINDS = ("random", "constant", "no-plate", "ring", "box")


def make_bots(count: int, rng: np.random.Generator, photo: SimPhoto) -> list[tuple[str, Worker]]:
    """``count`` bots, the five kinds in turn; ``photo`` gives the size of the photos."""
    ring = Ring(np.random.default_rng(rng.integers(2**63)))
    constant = box_to_quad(
        [0.42 * photo.width, 0.6 * photo.height, 0.58 * photo.width, 0.65 * photo.height]
    )
    bots: list[tuple[str, Worker]] = []
    for k in range(count):
        kind = BOT_KINDS[k % len(BOT_KINDS)]
        own = np.random.default_rng(rng.integers(2**63))
        if kind == "random":
            bots.append((kind, RandomBot(own)))
        elif kind == "constant":
            bots.append((kind, ConstantBot(constant)))
        elif kind == "no-plate":
            bots.append((kind, NoPlateBot()))
        elif kind == "ring":
            bots.append((kind, RingBot(ring)))
        else:
            bots.append((kind, BoxBot(own)))
    return bots


def make_photo(
    name: str,
    rng: np.random.Generator,
    *,
    median_width: float,
    no_plate: float,
    several: float = 0.0,
    tilted: bool = False,
    size_wh: tuple[int, int] = (1280, 960),
) -> SimPhoto:
    """One photo with one plate, none, or (share ``several``) two or three.

    The plate's width is lognormal (sigma 0.5), its width over height 3.6 to 4.7 as seen (a
    European plate, a little turned away), with perspective and roll. ``tilted`` photos roll by
    4 to 12 degrees, as control photos should: an upright box passes on a level plate.
    """
    width, height = size_wh
    if rng.random() < no_plate:
        return SimPhoto(name, width, height, ())
    wanted = int(rng.integers(2, 4)) if several and rng.random() < several else 1
    plates: list[FloatArray] = []
    for _ in range(50):
        quad = _make_quad(rng, median_width, tilted, size_wh)
        box = hull_box(quad)
        if all(box_iou(box, hull_box(other)) == 0.0 for other in plates):
            plates.append(quad)
        if len(plates) == wanted:
            break
    return SimPhoto(name, width, height, tuple(plates))


def _make_quad(
    rng: np.random.Generator, median_width: float, tilted: bool, size_wh: tuple[int, int]
) -> FloatArray:
    width, height = size_wh
    w = float(np.clip(rng.lognormal(np.log(median_width), 0.5), 40.0, 0.6 * width))
    h = w / float(rng.uniform(3.6, 4.7))
    squeeze = float(rng.normal(0.0, 0.06))
    quad = np.array(
        [
            [-w / 2, -h / 2 * (1 + squeeze)],
            [w / 2, -h / 2 * (1 - squeeze)],
            [w / 2, h / 2 * (1 - squeeze)],
            [-w / 2, h / 2 * (1 + squeeze)],
        ]
    )
    angle = float(rng.uniform(4.0, 12.0)) * float(rng.choice([-1.0, 1.0]))
    if not tilted:
        angle = float(rng.normal(0.0, 4.0))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    quad = quad @ np.array([[c, s], [-s, c]])
    reach = np.abs(quad).max(axis=0)
    centre = [
        float(rng.uniform(reach[0], max(width - reach[0], reach[0] + 1.0))),
        float(rng.uniform(max(reach[1], 0.3 * height), height - reach[1])),
    ]
    return np.asarray(quad + centre)
