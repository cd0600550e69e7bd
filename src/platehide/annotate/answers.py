"""What an answer may look like, and the words a training task is answered with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from platehide.annotate.faults import BadAnswer
from platehide.geometry import area, is_convex, order_corners, plate_height
from platehide.types import FloatArray

MAX_PLATES = 30
SKIP_REASONS = ("unreadable",)
_MIN_AREA = 6.0


def read_quad(points: object, width: int, height: int) -> FloatArray:
    """One plate of an answer, ordered TL, TR, BR, BL and clipped to the photo, 0.01 px.

    Corners may come in any order and up to 2 px outside.

    Raises:
        BadAnswer: not four finite points on the photo that span a convex shape.
    """
    try:
        quad = np.array(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadAnswer("a plate takes four corners [x, y]") from error
    if quad.shape != (4, 2) or not np.isfinite(quad).all():
        raise BadAnswer("a plate takes four corners [x, y]")
    if (quad < -2).any() or (quad > np.array([width + 2, height + 2])).any():
        raise BadAnswer("a corner lies outside the photo")
    quad = order_corners(np.clip(quad, 0, [width, height]).round(2))
    if area(quad) < _MIN_AREA or not is_convex(quad):
        raise BadAnswer("the four corners do not span a plate: check that none is inside the rest")
    return quad


def read_answer(answer: object, width: int, height: int, *, several: bool) -> dict[str, Any]:
    """Check an answer and return its stored form: ``{"plates": […]}`` or ``{"skip": true, …}``.

    Raises:
        BadAnswer: it is not an answer to this task.
    """
    if not isinstance(answer, dict):
        raise BadAnswer("an answer is an object")
    if answer.get("skip") is True:
        if "plates" in answer:
            raise BadAnswer("an answer either skips or has plates")
        reason = answer.get("reason", SKIP_REASONS[0])
        if reason not in SKIP_REASONS:
            raise BadAnswer(f"a reason to skip is one of {', '.join(SKIP_REASONS)}")
        return {"skip": True, "reason": reason}
    plates = answer.get("plates")
    if not isinstance(plates, list) or set(answer) - {"plates"}:
        raise BadAnswer('an answer is {"plates": [[[x, y] × 4] …]} or {"skip": true}')
    if len(plates) > (MAX_PLATES if several else 1):
        raise BadAnswer("too many plates for this task")
    return {"plates": [read_quad(p, width, height).tolist() for p in plates]}


_CORNERS = ("top left", "top right", "bottom right", "bottom left")


def _direction(dx: float, dy: float) -> str:
    """Where to move, in words; a part under a third of the other is left out."""
    across = "right" if dx > 0 else "left"
    along = "down" if dy > 0 else "up"
    if abs(dx) < abs(dy) / 3:
        return along
    if abs(dy) < abs(dx) / 3:
        return across
    return f"{along} and {across}"


def _align(quad: FloatArray, truth: FloatArray) -> FloatArray:
    """``truth`` with its start and direction changed so that it lies nearest to ``quad``."""
    options = [np.roll(t, s, axis=0) for t in (truth, truth[::-1]) for s in range(4)]
    return min(options, key=lambda t: float(((quad - t) ** 2).sum()))


def tell(answer: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """Feedback on a training answer: right or not, and what to change, in words only.

    No coordinate of the truth is in it. ``corners`` holds, for each plate of the answer in its
    order, a flag for each corner of *that answer* (TL, TR, BR, BL), which the page colours.
    """
    true = [np.array(q, dtype=np.float64) for q in truth["plates"]]
    if answer.get("skip"):
        hint = (
            "There is no plate here: the answer would be “No plate”."
            if not true
            else "The plate here can be marked: look again, zoom in."
        )
        return {"right": False, "hints": [hint], "corners": []}
    drawn = [np.array(q, dtype=np.float64) for q in answer["plates"]]
    hints: list[str] = []
    corners: list[list[bool]] = []
    if not true and drawn:
        hints.append("There is no licence plate on this photo: the answer would be “No plate”.")
    if true and not drawn:
        hints.append("There is a licence plate on this photo. Look again, zoom in.")
    left = list(true)
    for quad in drawn:
        if not left:
            corners.append([False] * 4)
            if true:
                hints.append("One plate too many.")
            continue
        centre = quad.mean(axis=0)
        nearest = min(range(len(left)), key=lambda i: math.dist(left[i].mean(axis=0), centre))
        target = _align(quad, left.pop(nearest))
        radius = max(0.25 * plate_height(target), 3.0)
        flags = []
        for name, have, want in zip(_CORNERS, quad, target, strict=True):
            dx, dy = want - have
            good = math.hypot(dx, dy) <= radius
            flags.append(good)
            if not good:
                far = math.hypot(dx, dy) > 4 * radius
                amount = "far" if far else "a little"
                hints.append(f"Move the {name} corner {amount} {_direction(dx, dy)}.")
        corners.append(flags)
    if drawn and left:
        hints.append("Another plate on this photo is not marked yet.")
    return {"right": not hints, "hints": hints, "corners": corners}
