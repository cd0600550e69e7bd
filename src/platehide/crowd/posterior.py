"""What is on the photo, given who said what: a mixture model with leave-one-out skills.

Dawid and Skene (1979) with answers instead of classes. On a task a worker is *careful* with
probability ``s`` (the skill) and then says the truth but for a small slip at each place;
otherwise the answer is *careless* and independent of the truth. For every task the hypotheses
are: each combination of what was drawn at each place (nothing included), and "none of these".
Wrong answers that still agree (a ring, a box detector) are allowed for: each further member of a
wrong group costs only ``WRONG_JOINS``, not the tiny chance of meeting there by accident.

All tasks lie in flat arrays of (hypothesis, answer) pairs, so that one pass over a whole project
is a few NumPy calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from platehide.crowd.clusters import ABSENT, IntArray, TaskAnswers
from platehide.types import FloatArray

BoolArray = NDArray[np.bool_]

WRONG_JOINS = 0.02
"""Chance that a wrong answer lies where another wrong answer lies."""

SLIP = 0.02
"""Chance that a careful worker misses a plate, adds one or draws another shape at a place."""

CARELESS_EMPTY = 0.2
"""Chance that a careless answer is "no plate"."""

CARELESS_HIT = 0.02
"""Chance that a careless answer is wholly right by accident."""

CARELESS_PART = 0.3
"""Chance that an answer wrong elsewhere is right, or silent, at a place."""

MAX_HYPOTHESES = 64

_KEPT_SIZE = 64
"""Patterns of larger tables of answers and places are rare, and not kept."""

PLATE_COUNTS = np.array([0.30, 0.60, 0.06, 0.03, 0.01])
"""Prior of 0, 1, 2, 3, 4 or more plates on a photo, worth ``PLATE_COUNTS_TASKS`` photos."""

PLATE_COUNTS_TASKS = 4.0

OTHER: tuple[int, ...] = (-2,)
"""The hypothesis that nobody is right."""


@dataclass(frozen=True)
class Problem:
    """Hypotheses of many tasks, flat. ``h`` hypotheses, ``m`` (hypothesis, answer) pairs.

    Attributes:
        truths: per hypothesis the variant at each site (``ABSENT`` where none), or ``OTHER``.
        task_start: ``(tasks,)`` first hypothesis of each task.
        hyp_task: ``(h,)`` task number.
        hyp_count: ``(h,)`` plates of the hypothesis, 4 for more.
        hyp_other: ``(h,)`` it is ``OTHER``.
        hyp_joined: ``(h,)`` log of what the wrong groups cost.
        pair_hyp: ``(m,)`` hypothesis.
        pair_answer: ``(m,)`` answer number, over all tasks.
        careful: ``(m,)`` chance of the answer from a careful worker.
        careless: ``(m,)`` chance of the answer from a careless worker.
        joined: ``(m,)`` the part of ``hyp_joined`` that goes when this answer is left out.
        right: ``(m,)`` share of the places at which the answer is right.
        own: ``(m,)`` the hypothesis rests on this answer alone.
        live: ``(m,)`` False where the answer copies another one and counts for nothing.
        by_answer: ``(m,)`` order of the pairs by answer.
        answer_start: ``(answers,)`` first pair of each answer in that order.
        answer_worker: ``(answers,)`` worker number.
        answer_live: ``(answers,)``.
        answer_alone: ``(answers,)`` nobody else answered (or only copies did).
    """

    truths: tuple[tuple[int, ...], ...]
    task_start: IntArray
    hyp_task: IntArray
    hyp_count: IntArray
    hyp_other: BoolArray
    hyp_joined: FloatArray
    pair_hyp: IntArray
    pair_answer: IntArray
    careful: FloatArray
    careless: FloatArray
    joined: FloatArray
    right: FloatArray
    own: BoolArray
    live: BoolArray
    by_answer: IntArray
    answer_start: IntArray
    answer_worker: IntArray
    answer_live: BoolArray
    answer_alone: BoolArray


def _truths(table: IntArray, variant_sites: Sequence[int]) -> list[tuple[int, ...]]:
    """Explicit hypotheses of a task, then ``OTHER``."""
    sites = table.shape[1]
    rivals: list[list[int]] = [[ABSENT] for _ in range(sites)]
    for number, site in enumerate(variant_sites):
        rivals[site].append(number)
    size = 1
    for options in rivals:
        size = min(size * len(options), MAX_HYPOTHESES + 1)
    if size <= MAX_HYPOTHESES:
        return [*product(*rivals), OTHER]
    # Too many combinations: the majority at each place, one change at a time, and what the
    # answers say; first of all what two or more agree on.
    votes = np.bincount(table[table != ABSENT], minlength=len(variant_sites))
    base = []
    for place in range(sites):
        drawn, counts = np.unique(table[:, place], return_counts=True)
        base.append(int(drawn[np.argmax(counts)]))
    found: dict[tuple[int, ...], None] = {tuple(base): None, (ABSENT,) * sites: None}
    for number in np.argsort(-votes, kind="stable").tolist():
        place = variant_sites[number]
        for option in (number, ABSENT):
            found[(*base[:place], option, *base[place + 1 :])] = None
        if len(found) >= MAX_HYPOTHESES:
            break
    common = Counter(tuple(row) for row in table.tolist()).most_common(MAX_HYPOTHESES)
    found |= {row: None for row, _ in common}
    return [*found, OTHER]


@dataclass(frozen=True)
class _Pattern:
    """The hypotheses of one pattern of answers; ``h`` by ``a`` arrays are flat."""

    truths: tuple[tuple[int, ...], ...]
    pairs: dict[str, FloatArray]
    joined: FloatArray
    counts: IntArray


def _pattern(task: TaskAnswers, live: BoolArray) -> _Pattern:
    """Hypotheses of a task. Who agrees with whom is all that matters, and most tasks are alike
    in that, so the patterns are kept.
    """
    table = np.ascontiguousarray(task.table)
    find = _pattern_of if table.size <= _KEPT_SIZE else _pattern_of.__wrapped__
    return find(table.tobytes(), table.shape, tuple(v.site for v in task.variants), live.tobytes())


@lru_cache(maxsize=4096)
def _pattern_of(
    table_bytes: bytes, shape: tuple[int, int], variant_sites: tuple[int, ...], live_bytes: bytes
) -> _Pattern:
    table = np.frombuffer(table_bytes, dtype=np.int64).reshape(shape)
    live = np.frombuffer(live_bytes, dtype=bool)
    truths = _truths(table, variant_sites)
    a, sites = shape
    h, n_variants = len(truths) - 1, len(variant_sites)
    explicit = np.array(truths[:-1], dtype=np.int64).reshape(h, sites)
    votes = np.bincount(table[live][table[live] != ABSENT], minlength=n_variants)
    log_join = float(np.log(WRONG_JOINS))

    careful = np.ones((h, a))
    extras, missing = np.zeros((h, a)), np.zeros((h, a))
    whole = np.ones((h, a), dtype=bool)
    own = np.zeros((h, a), dtype=bool)
    hits, places = np.zeros((h, a)), np.zeros((h, a))
    joined, other_joined = np.zeros((h, a)), np.zeros(a)
    for place in range(sites):
        drawn, true = table[None, :, place], explicit[:, place, None]
        is_plate, is_true, same = drawn != ABSENT, true != ABSENT, drawn == true
        wrong = is_plate & ~same
        careful *= np.where(same, 1.0, SLIP)
        extras += is_plate & ~is_true
        missing += is_true & ~is_plate
        whole &= same
        hits += same & is_plate
        places += is_plate | is_true
        seconded = is_plate & (votes[np.maximum(drawn, 0)] >= 2)
        joined += log_join * (wrong & seconded)
        other_joined += log_join * seconded[0]
        # A hypothesis that rests on one answer alone says nothing about that answer.
        own |= same & is_plate & (votes[np.maximum(drawn, 0)] <= 1)
    empty = ~(table != ABSENT).any(axis=1)
    # A careless plate elsewhere and a missed one are one misplaced plate, anywhere as likely.
    part = CARELESS_PART ** (hits + np.maximum(missing - extras, 0.0))
    careless = np.where(empty[None], CARELESS_EMPTY, np.where(whole, CARELESS_HIT, part))
    right = np.where(places > 0, hits / np.maximum(places, 1.0), 1.0)

    in_truth = np.zeros((h, n_variants), dtype=bool)
    for number, truth in enumerate(truths[:-1]):
        in_truth[number, [v for v in truth if v != ABSENT]] = True
    extra = np.maximum(votes - 1.0, 0.0)
    cost = log_join * np.where(in_truth, 0.0, extra[None]).sum(axis=1)
    arrays = {
        "careful": np.vstack([careful, np.zeros(a)]),
        "careless": np.vstack([careless, np.where(empty, CARELESS_EMPTY, 1.0)]),
        "joined": np.vstack([joined, other_joined]),
        "right": np.vstack([right, np.zeros(a)]),
        "own": np.vstack([own, np.zeros(a)]),
    }
    counts = np.append(np.minimum((explicit != ABSENT).sum(axis=1), 4), 1)
    return _Pattern(
        tuple(truths),
        {name: array.ravel() for name, array in arrays.items()},
        np.append(cost, log_join * extra.sum()),
        counts,
    )


def build(
    tasks: Sequence[TaskAnswers], worker_number: dict[str, int], copies_suspicious: bool
) -> Problem:
    """Lay out the hypotheses of ``tasks`` (each with at least one answer)."""
    truths: list[tuple[int, ...]] = []
    columns: dict[str, list[FloatArray]] = {
        k: [] for k in ("careful", "careless", "joined", "right", "own")
    }
    costs, counts, sizes, shapes = [], [], [], []
    workers: list[int] = []
    live: list[BoolArray] = []
    for task in tasks:
        alive = np.ones(len(task.judgements), dtype=bool)
        if copies_suspicious:
            alive = np.array(task.copy_of, dtype=np.int64) == ABSENT
        pattern = _pattern(task, alive)
        truths.extend(pattern.truths)
        for name, array in pattern.pairs.items():
            columns[name].append(array)
        costs.append(pattern.joined)
        counts.append(pattern.counts)
        sizes.append(len(pattern.truths))
        shapes.append(len(task.judgements))
        workers.extend(worker_number[j.worker] for j in task.judgements)
        live.append(alive)
    n_hyp, n_answer = np.array(sizes, dtype=np.int64), np.array(shapes, dtype=np.int64)
    task_start = np.cumsum(n_hyp) - n_hyp
    first_answer = np.cumsum(n_answer) - n_answer
    hyp_task = np.repeat(np.arange(len(tasks)), n_hyp)
    pair_hyp = np.repeat(np.arange(len(truths)), n_answer[hyp_task])
    pair_start = np.cumsum(n_answer[hyp_task]) - n_answer[hyp_task]
    within = np.arange(len(pair_hyp)) - pair_start[pair_hyp]
    pair_answer = first_answer[hyp_task[pair_hyp]] + within
    by_answer = np.argsort(pair_answer, kind="stable")
    per_answer = np.repeat(n_hyp, n_answer)
    answer_live = np.concatenate([*live, np.empty(0, dtype=bool)])
    n_live = np.array([int(v.sum()) for v in live], dtype=np.int64)
    flat = {k: np.concatenate([*v, np.empty(0)]) for k, v in columns.items()}
    return Problem(
        truths=tuple(truths),
        task_start=task_start,
        hyp_task=hyp_task,
        hyp_count=np.concatenate([*counts, np.empty(0, dtype=np.int64)]),
        hyp_other=np.array([t == OTHER for t in truths], dtype=bool),
        hyp_joined=np.concatenate([*costs, np.empty(0)]),
        pair_hyp=pair_hyp,
        pair_answer=pair_answer,
        careful=flat["careful"],
        careless=flat["careless"],
        joined=flat["joined"],
        right=flat["right"],
        own=flat["own"] > 0,
        live=answer_live[pair_answer],
        by_answer=by_answer,
        answer_start=np.cumsum(per_answer) - per_answer,
        answer_worker=np.array(workers, dtype=np.int64),
        answer_live=answer_live,
        answer_alone=np.repeat(n_live, n_answer) < 2,
    )


def _segment_softmax(values: FloatArray, starts: IntArray) -> FloatArray:
    lengths = np.diff(np.append(starts, len(values)))
    top = np.repeat(np.maximum.reduceat(values, starts), lengths)
    exp = np.exp(values - top)
    return np.asarray(exp / np.repeat(np.add.reduceat(exp, starts), lengths))


@dataclass(frozen=True)
class Beliefs:
    """Posterior of every hypothesis, and per answer how right the *others* find it.

    Attributes:
        posterior: ``(h,)``, sums to 1 over each task.
        log_pair: see ``evidence``.
    """

    posterior: FloatArray
    log_joint: FloatArray
    log_pair: FloatArray


def believe(problem: Problem, skill: FloatArray, plate_counts: FloatArray) -> Beliefs:
    """Posterior of all hypotheses.

    Args:
        problem: the tasks.
        skill: ``(workers,)`` in 0…1.
        plate_counts: ``(5,)`` prior of 0, 1, 2, 3, 4 or more plates.
    """
    if len(problem.truths) == 0:
        return Beliefs(np.empty(0), np.empty(0), np.empty(0))
    s = skill[problem.answer_worker][problem.pair_answer]
    log_pair = np.log(s * problem.careful + (1.0 - s) * problem.careless)
    log_pair = np.where(problem.live, log_pair, 0.0)
    log_joint = (
        np.log(plate_counts)[problem.hyp_count]
        + problem.hyp_joined
        + np.bincount(problem.pair_hyp, weights=log_pair, minlength=len(problem.truths))
    )
    return Beliefs(_segment_softmax(log_joint, problem.task_start), log_joint, log_pair)


def evidence(problem: Problem, beliefs: Beliefs) -> tuple[FloatArray, FloatArray]:
    """Leave-one-out evidence on each answer: ``(right, weight)``, both ``(answers,)``.

    The truth is inferred from the other answers alone; where they leave it unknown the weight
    is small. Copies, and answers that nobody else answered, get weight 0.
    """
    n = len(problem.answer_worker)
    if n == 0:
        return np.empty(0), np.empty(0)
    without = beliefs.log_joint[problem.pair_hyp] - beliefs.log_pair - problem.joined
    order = problem.by_answer
    share = _segment_softmax(without[order], problem.answer_start)
    known = ~(problem.hyp_other[problem.pair_hyp] | problem.own)[order]
    share = np.where(known, share, 0.0)
    right = np.add.reduceat(share * problem.right[order], problem.answer_start)
    weight = np.add.reduceat(share, problem.answer_start)
    use = problem.answer_live & ~problem.answer_alone
    return np.where(use, right, 0.0), np.where(use, weight, 0.0)


def expected_plate_counts(problem: Problem, posterior: FloatArray) -> FloatArray:
    """``(5,)`` share of photos with 0, 1, 2, 3, 4 or more plates, smoothed by the prior."""
    known = np.where(problem.hyp_other, 0.0, posterior)
    found = np.bincount(problem.hyp_count, weights=known, minlength=5)
    total = PLATE_COUNTS * PLATE_COUNTS_TASKS + found
    return np.asarray(total / total.sum())
