"""How good every worker is: from control tasks and, leave-one-out, from the other workers.

Two random workers out of three who agree with a majority that includes themselves look 75 %
right, so an answer is only ever compared with what the others say without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from platehide.crowd.clusters import TaskAnswers
from platehide.crowd.judgements import Judgement
from platehide.crowd.matching import RADIUS_SHARE, aligned, pair_distances, reference_height
from platehide.crowd.posterior import (
    PLATE_COUNTS,
    Beliefs,
    Problem,
    believe,
    evidence,
    expected_plate_counts,
)
from platehide.types import FloatArray

DEFAULT_SKILL = 0.85
DEFAULT_SCATTER = 0.08
"""Standard deviation of a coordinate, as a share of the plate's height, of an unknown worker."""

SKILL_RANGE = (0.05, 0.98)
"""Nobody is believed beyond this: everyone slips, and a wrong answer is no vote against."""

PRIOR_ANSWERS = 4.0
"""What is believed of an unknown worker is worth this many answers."""

PEER_WEIGHT = 0.5
"""An answer compared with other workers is worth this share of a control answer."""

_CROWD_PRIOR_WORKERS = 10.0
_CROWD_RANGE = (0.5, 0.92)
_SCATTER_RANGE = (0.02, 0.5)
_SCATTER_PRIOR = 24.0
_MAX_STEPS = 60


@dataclass(frozen=True)
class Tally:
    """Per worker number: control answers and leave-one-out evidence, each (right, total)."""

    control_right: FloatArray
    control_total: FloatArray
    peer_right: FloatArray
    peer_total: FloatArray


@dataclass(frozen=True)
class Fit:
    """What the judgements say of the crowd.

    Attributes:
        beliefs: posterior of every hypothesis at the end.
        skill: ``(workers,)``.
        crowd_skill: of a worker of whom nothing is known.
        plate_counts: ``(5,)`` share of photos with 0, 1, 2, 3, 4 or more plates.
        tally: the counts behind ``skill``.
    """

    beliefs: Beliefs
    skill: FloatArray
    crowd_skill: float
    plate_counts: FloatArray
    tally: Tally


def _crowd_skill(tally: Tally) -> float:
    """Mean skill of the crowd, each worker counting as one at most, pulled to the default."""
    right = tally.control_right + PEER_WEIGHT * tally.peer_right
    total = tally.control_total + PEER_WEIGHT * tally.peer_total
    weight = np.minimum(1.0, total / PRIOR_ANSWERS)
    rate = right / np.maximum(total, 1e-9)
    mean = (_CROWD_PRIOR_WORKERS * DEFAULT_SKILL + float((weight * rate).sum())) / (
        _CROWD_PRIOR_WORKERS + float(weight.sum())
    )
    return float(np.clip(mean, *_CROWD_RANGE))


def skill_of(
    control_right: float, control_total: float, peer_right: float, peer_total: float, crowd: float
) -> float:
    """Skill of a worker from counts and the crowd's mean skill."""
    right = PRIOR_ANSWERS * crowd + control_right + PEER_WEIGHT * peer_right
    total = PRIOR_ANSWERS + control_total + PEER_WEIGHT * peer_total
    return float(np.clip(right / total, *SKILL_RANGE))


def _skills(tally: Tally, crowd: float) -> FloatArray:
    right = PRIOR_ANSWERS * crowd + tally.control_right + PEER_WEIGHT * tally.peer_right
    total = PRIOR_ANSWERS + tally.control_total + PEER_WEIGHT * tally.peer_total
    return np.asarray(np.clip(right / total, *SKILL_RANGE))


def fit(problem: Problem, control_right: FloatArray, control_total: FloatArray) -> Fit:
    """Alternate between beliefs about photos and skills of workers until both stand still.

    Args:
        problem: the tasks whose truth is not known.
        control_right: ``(workers,)`` control answers that were right.
        control_total: ``(workers,)`` control answers.
    """
    n = len(control_right)
    none = np.zeros(n)
    tally = Tally(control_right, control_total, none, none)
    crowd = _crowd_skill(tally)
    skill = _skills(tally, crowd)
    counts = PLATE_COUNTS
    beliefs = believe(problem, skill, counts)
    for _ in range(_MAX_STEPS):
        right, weight = evidence(problem, beliefs)
        tally = Tally(
            control_right,
            control_total,
            np.bincount(problem.answer_worker, weights=right, minlength=n).astype(np.float64),
            np.bincount(problem.answer_worker, weights=weight, minlength=n).astype(np.float64),
        )
        crowd = _crowd_skill(tally)
        moved = _skills(tally, crowd)
        counts = expected_plate_counts(problem, beliefs.posterior)
        step = float(np.abs(moved - skill).max(initial=0.0))
        skill = moved
        beliefs = believe(problem, skill, counts)
        if step < 1e-4:
            break
    return Fit(beliefs, skill, crowd, counts, tally)


def control_scatter(controls: Sequence[Judgement]) -> tuple[dict[str, float], dict[str, int]]:
    """Sum of squared coordinate deviations (shares of plate height) and their number, by worker.

    Only plates drawn on a control plate count (every vertex within one plate height).
    """
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    for j in controls:
        for true in j.golden or ():
            height = max(reference_height(true), 1.0)
            for quad in j.plates:
                if pair_distances(quad[None], true[None])[0] <= height:
                    d = (aligned(quad, true) - true) / height
                    total[j.worker] = total.get(j.worker, 0.0) + float((d**2).sum())
                    count[j.worker] = count.get(j.worker, 0) + 8
                    break
    return total, count


def scatter(
    tasks: Sequence[TaskAnswers],
    winners: Sequence[Sequence[int]],
    worker_number: Mapping[str, int],
    controls: Sequence[Judgement],
) -> tuple[FloatArray, float]:
    """Scatter of every worker and of the crowd, as shares of the plate's height.

    Each answer of a winning group is compared with the mean of the others; what the others'
    own scatter adds to that distance is taken off (method of moments, three rounds).

    Args:
        tasks: the grouped answers.
        winners: per task the variants that make its label.
        worker_number: worker -> index of the result.
        controls: control judgements, compared with the truth itself.

    Returns:
        ``(workers,)`` and the crowd's mean.
    """
    n = len(worker_number)
    squared, number = np.zeros(n), np.zeros(n)
    deviations, counts = control_scatter(controls)
    for worker, value in deviations.items():
        if worker in worker_number:
            squared[worker_number[worker]] = value
            number[worker_number[worker]] = counts[worker]
    by_size: dict[int, tuple[list[list[int]], list[FloatArray]]] = {}
    for task, chosen in zip(tasks, winners, strict=True):
        for v in chosen:
            variant = task.variants[v]
            if len(variant.members) < 2:
                continue
            who = [worker_number[task.judgements[m].worker] for m in variant.members]
            height = variant.radius / RADIUS_SHARE
            whos, rings = by_size.setdefault(len(who), ([], []))
            whos.append(who)
            rings.append(variant.rings / height)
    groups = [(np.array(w), np.array(r)) for _, (w, r) in sorted(by_size.items())]
    variance = np.full(n, DEFAULT_SCATTER**2)
    crowd = DEFAULT_SCATTER**2
    for _ in range(3):
        total, count = squared.copy(), number.copy()
        for index, points in groups:
            size = points.shape[1]
            others = (points.sum(axis=1, keepdims=True) - points) / (size - 1)
            own = ((points - others) ** 2).sum(axis=(2, 3))
            noise = variance[index]
            added = 8.0 * (noise.sum(axis=1, keepdims=True) - noise) / (size - 1) ** 2
            total += np.bincount(index.ravel(), weights=(own - added).ravel(), minlength=n)
            count += np.bincount(index.ravel(), minlength=n) * 8.0
        low, high = _SCATTER_RANGE
        seen = count > 0
        each = np.clip(total / np.maximum(count, 1.0), low**2, high**2)
        if seen.any():
            # The median worker: bots and sloppy hands must not set the crowd's figure.
            weight = float(seen.sum())
            crowd = (5.0 * DEFAULT_SCATTER**2 + weight * float(np.median(each[seen]))) / (
                5.0 + weight
            )
        variance = np.clip(
            (_SCATTER_PRIOR * crowd + np.maximum(total, 0.0)) / (_SCATTER_PRIOR + count),
            low**2,
            high**2,
        )
    return np.sqrt(variance), float(np.sqrt(crowd))
