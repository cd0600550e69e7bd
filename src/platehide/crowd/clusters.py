"""Which answers of a task say the same, plate by plate.

Plates that agree within the vertex neighbourhood form a *variant*, at most one plate a worker
(complete linkage, so that a chain of sloppy answers cannot join two different shapes). Variants
at the same place form a *site*: they are rival shapes of one plate. Nothing here knows of skill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platehide.crowd.judgements import Judgement
from platehide.crowd.matching import (
    PAIR_FACTOR,
    RADIUS_MIN_PX,
    RADIUS_SHARE,
    aligned_all,
    ordered_heights,
    pair_distances,
)
from platehide.types import FloatArray

IntArray = NDArray[np.int64]

ABSENT = -1

_COPY_SHARE = 0.02
_COPY_MIN_PX = 0.1
_PAIR_CHUNK = 100_000


@dataclass(frozen=True)
class Variant:
    """Plates of different workers that agree.

    Attributes:
        site: number of the place on the photo.
        members: answer number of each plate, ascending.
        rings: ``(n, 4, 2)`` px, aligned to the first member.
        radius: of a vertex neighbourhood in px, the median over the members.
    """

    site: int
    members: tuple[int, ...]
    rings: FloatArray
    radius: float


@dataclass(frozen=True)
class TaskAnswers:
    """The counted answers of one task, skips left out.

    Attributes:
        task: name.
        judgements: by worker's name.
        variants: every group of agreeing plates.
        table: ``(answers, sites)`` index of the variant drawn there, ``ABSENT`` where none.
        copy_of: answer number of the earlier answer that this one equals to within 2 % of the
            plate's height, or ``ABSENT``. Independent hands do not do that.
        agreeing_pairs: pairs of workers whose plates agree, and of those the near-identical.
        identical_pairs: see ``agreeing_pairs``.
    """

    task: str
    judgements: tuple[Judgement, ...]
    variants: tuple[Variant, ...]
    table: IntArray
    copy_of: tuple[int, ...]
    agreeing_pairs: int
    identical_pairs: int


@dataclass
class _Plates:
    owner: list[int]
    rings: FloatArray
    radius: FloatArray


def _collect(judgements: Sequence[Judgement]) -> _Plates:
    owner = [i for i, j in enumerate(judgements) for _ in j.plates]
    quads = [q for j in judgements for q in j.plates]
    rings = np.array(quads, dtype=np.float64).reshape(-1, 4, 2)
    # Judgements hold their corners as TL, TR, BR, BL.
    radius = np.maximum(RADIUS_SHARE * ordered_heights(rings), RADIUS_MIN_PX)
    return _Plates(owner, rings, radius)


def _all_distances(tasks: Sequence[_Plates]) -> list[tuple[IntArray, IntArray, FloatArray]]:
    """Per task: plate pairs (a < b) of different workers and their vertex distance.

    All tasks are measured together: one NumPy call instead of one a task.
    """
    pairs: list[tuple[IntArray, IntArray]] = []
    for plates in tasks:
        owner = np.array(plates.owner, dtype=np.int64)
        a, b = np.triu_indices(len(owner), k=1)
        other = owner[a] != owner[b]
        pairs.append((a[other], b[other]))
    distances = np.empty(sum(len(a) for a, _ in pairs))
    rings = [p.rings[i] for p, pair in zip(tasks, pairs, strict=True) for i in pair]
    first = np.concatenate([np.empty((0, 4, 2)), *rings[0::2]])
    second = np.concatenate([np.empty((0, 4, 2)), *rings[1::2]])
    for start in range(0, len(distances), _PAIR_CHUNK):
        part = slice(start, start + _PAIR_CHUNK)
        distances[part] = pair_distances(first[part], second[part])
    out, start = [], 0
    for a, b in pairs:
        out.append((a, b, distances[start : start + len(a)]))
        start += len(a)
    return out


def _link(plates: _Plates, a: IntArray, b: IntArray, distance: FloatArray) -> list[list[int]]:
    """Complete-linkage groups of plates, one plate a worker; deterministic."""
    limit = PAIR_FACTOR * np.minimum(plates.radius[a], plates.radius[b])
    near = distance <= limit
    agree = set(zip(a[near].tolist(), b[near].tolist(), strict=True))
    group = {i: [i] for i in range(len(plates.owner))}
    home = list(range(len(plates.owner)))
    order = np.lexsort((b[near], a[near], distance[near]))
    for index in order:
        x, y = home[int(a[near][index])], home[int(b[near][index])]
        if x == y:
            continue
        one, two = group[x], group[y]
        if all((min(p, q), max(p, q)) in agree for p in one for q in two):
            one.extend(two)
            for q in two:
                home[q] = x
            del group[y]
    return [sorted(members) for members in group.values()]


def _sites(groups: Sequence[Sequence[int]], plates: _Plates) -> list[int]:
    """Site number of each group: groups at the same place that share no worker."""
    centres = [plates.rings[list(g)].mean(axis=(0, 1)) for g in groups]
    sides = np.roll(plates.rings, -1, axis=1) - plates.rings
    longest = np.hypot(sides[..., 0], sides[..., 1]).max(axis=1) if len(sides) else np.empty(0)
    reach = [0.5 * float(longest[list(g)].mean()) for g in groups]
    workers = [{plates.owner[p] for p in g} for g in groups]
    order = sorted(range(len(groups)), key=lambda g: (-len(groups[g]), groups[g][0]))
    site = [ABSENT] * len(groups)
    heads: list[tuple[int, set[int]]] = []
    for g in order:
        for number, (head, taken) in enumerate(heads):
            apart = float(np.hypot(*(centres[g] - centres[head])))
            if apart <= min(reach[g], reach[head]) and not (taken & workers[g]):
                site[g] = number
                taken |= workers[g]
                break
        else:
            site[g] = len(heads)
            heads.append((g, set(workers[g])))
    return site


def _copies(
    judgements: Sequence[Judgement],
    plates: _Plates,
    a: IntArray,
    b: IntArray,
    distance: FloatArray,
) -> tuple[tuple[int, ...], int, int]:
    limit = np.minimum(plates.radius[a], plates.radius[b])
    same = distance <= np.maximum(_COPY_SHARE / RADIUS_SHARE * limit, _COPY_MIN_PX)
    close = int((distance <= PAIR_FACTOR * limit).sum())
    copy_of = [ABSENT] * len(judgements)
    if not same.any():
        return tuple(copy_of), close, 0
    twins: dict[tuple[int, int], int] = {}
    for x, y in zip(a[same].tolist(), b[same].tolist(), strict=True):
        key = (plates.owner[x], plates.owner[y])
        twins[key] = twins.get(key, 0) + 1
    time_order = sorted(
        range(len(judgements)), key=lambda i: (judgements[i].submitted_at, judgements[i].worker)
    )
    rank = {answer: r for r, answer in enumerate(time_order)}
    for (i, j), found in twins.items():
        if found >= len(judgements[i].plates) == len(judgements[j].plates):
            early, late = (i, j) if rank[i] < rank[j] else (j, i)
            if copy_of[late] == ABSENT or rank[early] < rank[copy_of[late]]:
                copy_of[late] = early
    return tuple(copy_of), close, int(same.sum())


def structure(tasks: Sequence[Sequence[Judgement]]) -> list[TaskAnswers]:
    """Group the answers of each task.

    Args:
        tasks: per task its judgements, one a worker, none skipped, none of a banned worker.
    """
    ordered = [sorted(js, key=lambda j: j.worker) for js in tasks]
    collected = [_collect(js) for js in ordered]
    result = []
    for js, plates, (a, b, distance) in zip(
        ordered, collected, _all_distances(collected), strict=True
    ):
        groups = _link(plates, a, b, distance)
        site = _sites(groups, plates)
        table = np.full((len(js), max(site, default=-1) + 1), ABSENT, dtype=np.int64)
        variants = []
        for number, (members, place) in enumerate(zip(groups, site, strict=True)):
            rings = aligned_all(plates.rings[members], plates.rings[members[0]])
            owners = tuple(plates.owner[p] for p in members)
            variants.append(Variant(place, owners, rings, float(np.median(plates.radius[members]))))
            table[list(owners), place] = number
        copy_of, close, identical = _copies(js, plates, a, b, distance)
        result.append(
            TaskAnswers(
                js[0].task if js else "",
                tuple(js),
                tuple(variants),
                table,
                copy_of,
                close,
                identical,
            )
        )
    return result
