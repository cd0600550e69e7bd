"""Turn judgements into labels and into what is known of every worker.

Agreeing answers are clustered (``clusters``), weighed by skill (``posterior``, ``skills``) and
averaged vertex by vertex (``consensus``). ``docs/annotation-quality.md`` describes the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from platehide.crowd.clusters import ABSENT, TaskAnswers, structure
from platehide.crowd.consensus import huber_mean
from platehide.crowd.judgements import Judgement, golden_of, latest
from platehide.crowd.labels import (
    AggregatePolicy,
    Aggregation,
    CrowdModel,
    Label,
    LabelledPlate,
    LabelStatus,
    WorkerReport,
    initial_model,
)
from platehide.crowd.matching import RADIUS_SHARE, aligned, answer_right, plate_right
from platehide.crowd.posterior import (
    Beliefs,
    Problem,
    believe,
    build,
    evidence,
)
from platehide.crowd.sequential import ControlPolicy, ControlState, judge, wilson
from platehide.crowd.skills import Fit, Tally, fit, scatter, skill_of
from platehide.geometry import order_corners
from platehide.types import FloatArray

_CLICK_PX = 0.5
"""Nobody places a vertex better than this, however small the plate."""


def control_states(
    judgements: Iterable[Judgement], policy: ControlPolicy | None = None
) -> dict[str, ControlState]:
    """Per worker the state after all control answers, in the order of submission.

    Skipping a control task is no answer. ``judgements`` is one a (task, worker); the truth is
    the task's, also for a judgement that does not repeat it.
    """
    golden = golden_of(judgements := list(judgements))
    results: dict[str, list[bool]] = {}
    for j in sorted(judgements, key=lambda j: (j.submitted_at, j.task)):
        if j.task in golden and not j.skip:
            results.setdefault(j.worker, []).append(answer_right(j.plates, golden[j.task]))
    return {worker: judge(right, policy) for worker, right in results.items()}


def _quads(
    tasks: Sequence[TaskAnswers], chosen: Sequence[Sequence[int]], model: CrowdModel
) -> dict[tuple[int, int], tuple[FloatArray, float, float]]:
    """(task number, variant) -> quad, spread, error; groups of equal size are averaged together."""
    by_size: dict[int, list[tuple[int, int]]] = {}
    for t, variants in enumerate(chosen):
        for v in variants:
            by_size.setdefault(len(tasks[t].variants[v].members), []).append((t, v))
    out: dict[tuple[int, int], tuple[FloatArray, float, float]] = {}
    for keys in by_size.values():
        points, weights, scales = [], [], []
        for t, v in keys:
            variant = tasks[t].variants[v]
            who = [tasks[t].judgements[m].worker for m in variant.members]
            sigma = np.array([model.scatter.get(w, model.default_scatter) for w in who])
            skill = np.array([model.skill.get(w, model.default_skill) for w in who])
            scale = np.hypot(sigma * variant.radius / RADIUS_SHARE, _CLICK_PX)
            points.append(variant.rings)
            weights.append(skill / scale**2)
            scales.append(scale)
        rings = np.array(points)
        w, px = np.array(weights), np.array(scales)
        quads = huber_mean(rings, w, px)
        error = np.sqrt(((w * px) ** 2).sum(axis=1)) / w.sum(axis=1)
        spread = np.sqrt(((rings - quads[:, None]) ** 2).sum(axis=3).mean(axis=(1, 2)))
        for k, key in enumerate(keys):
            out[key] = (order_corners(quads[k]), float(spread[k]), float(error[k]))
    return out


def _choose(
    problem: Problem, beliefs: Beliefs, n_tasks: int
) -> list[tuple[tuple[int, ...], float]]:
    """Per task the best explicit hypothesis and its posterior."""
    score = np.where(problem.hyp_other, -1.0, beliefs.posterior)
    bounds = np.append(problem.task_start, len(score))
    best = []
    for t in range(n_tasks):
        h = int(bounds[t] + np.argmax(score[bounds[t] : bounds[t + 1]]))
        best.append((problem.truths[h], float(beliefs.posterior[h])))
    return best


def _status(
    task: TaskAnswers,
    truth: Sequence[int],
    posterior: float,
    *,
    used: int,
    policy: AggregatePolicy,
    copies_suspicious: bool,
) -> LabelStatus:
    live = [
        i for i in range(len(task.judgements)) if not copies_suspicious or task.copy_of[i] == ABSENT
    ]
    rows = [tuple(task.table[i].tolist()) for i in live]
    drawn = [place for place, v in enumerate(truth) if v != ABSENT]
    if drawn:
        support = min(sum(row[place] == truth[place] for row in rows) for place in drawn)
    else:
        support = sum(all(v == ABSENT for v in row) for row in rows)
    if posterior >= policy.posterior and support >= policy.min_agreeing:
        return "agreed"
    if used >= policy.max_answers:
        return "escalated"
    ranked = Counter(rows).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1] >= 2:
        # Two groups that each agree: the photo is ambiguous, or a group colludes.
        return "escalated"
    return "open"


def _labels(
    tasks: Sequence[TaskAnswers],
    best: Sequence[tuple[tuple[int, ...], float]],
    *,
    used: Sequence[int],
    received: Sequence[int],
    model: CrowdModel,
    policy: AggregatePolicy,
) -> list[Label]:
    chosen = [[v for v in truth if v != ABSENT] for truth, _ in best]
    quads = _quads(tasks, chosen, model)
    labels = []
    for t, (task, (truth, posterior)) in enumerate(zip(tasks, best, strict=True)):
        counted = len(task.judgements)
        plates = []
        for v in chosen[t]:
            quad, spread, error = quads[(t, v)]
            share = len(task.variants[v].members) / counted
            plates.append(LabelledPlate(quad, share, spread, error))
        plates.sort(key=lambda p: (float(p.quad[:, 0].min()), float(p.quad[:, 1].min())))
        status = _status(
            task,
            truth,
            posterior,
            used=used[t],
            policy=policy,
            copies_suspicious=model.copies_suspicious,
        )
        labels.append(Label(task.task, tuple(plates), status, received[t], posterior))
    return labels


def _golden_label(task: str, answers: Sequence[Judgement], truth: Sequence[FloatArray]) -> Label:
    """A control task's label is its truth; agreement and spread are what the workers gave."""
    counted = [j for j in answers if not j.skip]
    plates = []
    for quad in truth:
        near = [
            aligned(drawn, quad) - quad
            for j in counted
            for drawn in j.plates
            if plate_right(drawn, quad)
        ]
        spread = float(np.sqrt((np.array(near) ** 2).sum(axis=2).mean())) if near else 0.0
        share = min(1.0, len(near) / len(counted)) if counted else 0.0
        plates.append(LabelledPlate(order_corners(quad), share, spread))
    return Label(task, tuple(plates), "agreed", len(answers), 1.0)


def _empty_label(task: str, received: int, used: int, policy: AggregatePolicy) -> Label:
    status: LabelStatus = "escalated" if used >= policy.max_answers else "open"
    return Label(task, (), status, received, 0.0)


def _copies_suspicious(tasks: Sequence[TaskAnswers]) -> bool:
    """True where equal answers must be copies, because honest hands are seen to differ.

    That is so where there are enough agreeing pairs to tell and at most a fifth are identical.
    """
    agreeing = sum(t.agreeing_pairs for t in tasks)
    identical = sum(t.identical_pairs for t in tasks)
    return agreeing >= 30 and identical <= 0.2 * agreeing


def _peer_bans(
    fitted: Fit,
    tasks: Sequence[TaskAnswers],
    numbers: Mapping[str, int],
    policy: AggregatePolicy,
    copies: bool,
) -> dict[str, str]:
    """Bans by leave-one-out agreement and by copying."""
    tally: Tally = fitted.tally
    reasons: dict[str, str] = {}
    if copies and policy.copies:
        copied, agreeing = Counter[str](), Counter[str]()
        for task in tasks:
            joint = {m for v in task.variants if len(v.members) > 1 for m in v.members}
            agreeing.update(task.judgements[m].worker for m in joint)
            copied.update(
                task.judgements[i].worker for i, s in enumerate(task.copy_of) if s != ABSENT
            )
        for worker, many in copied.items():
            # On tiny plates, clicked in whole pixels, honest answers are equal now and then.
            if many >= policy.copies and many >= 0.5 * agreeing[worker]:
                reasons[worker] = f"copies: {many} answers equal another worker's earlier answer"
    total = float(tally.peer_total.sum())
    crowd = float(tally.peer_right.sum()) / total if total else 0.0
    if policy.peer_bar and crowd >= policy.peer_crowd:
        for worker, k in numbers.items():
            right, seen = float(tally.peer_right[k]), float(tally.peer_total[k])
            if seen >= policy.peer_from and wilson(right, seen)[1] < policy.peer_bar:
                reasons.setdefault(
                    worker,
                    f"agreement: right on {right:.1f} of {seen:.1f} photos by the other workers",
                )
    return reasons


@dataclass(frozen=True)
class _Round:
    tasks: list[TaskAnswers]
    problem: Problem
    fitted: Fit
    numbers: dict[str, int]
    copies: bool


def _round(
    open_tasks: Mapping[str, Sequence[Judgement]],
    banned: Mapping[str, str],
    states: Mapping[str, ControlState],
    workers: Sequence[str],
) -> _Round:
    kept = [[j for j in js if j.worker not in banned and not j.skip] for js in open_tasks.values()]
    tasks = structure([js for js in kept if js])
    numbers = {w: k for k, w in enumerate(w for w in workers if w not in banned)}
    copies = _copies_suspicious(tasks)
    problem = build(tasks, numbers, copies)
    none = ControlState()
    right = np.array([states.get(w, none).right for w in numbers], dtype=np.float64)
    total = np.array([states.get(w, none).total for w in numbers], dtype=np.float64)
    return _Round(tasks, problem, fit(problem, right, total), numbers, copies)


def aggregate(
    judgements: Iterable[Judgement],
    policy: AggregatePolicy | None = None,
    *,
    banned: Mapping[str, str] | None = None,
    states: Mapping[str, ControlState] | None = None,
    control_labels: bool = True,
) -> Aggregation:
    """Labels and workers from all judgements; a pure function, whatever their order.

    Args:
        judgements: of all tasks, control tasks included. Of several by one worker on one task
            the last submitted counts.
        policy: the defaults where ``None``.
        banned: worker -> reason, of bans decided elsewhere (rules); added to those that the
            control tasks, the leave-one-out agreement and the copies give.
        states: what ``control_states`` gives for the same judgements, where the caller keeps it.
        control_labels: give labels of the control tasks too.
    """
    chosen = policy or AggregatePolicy()
    kept = latest(judgements)
    golden = golden_of(kept)
    workers = sorted({j.worker for j in kept})
    if states is None:
        states = control_states(kept, chosen.control)
    reasons = {w: s.reason for w, s in states.items() if s.verdict == "banned"}
    reasons.update(banned or {})
    by_task: dict[str, list[Judgement]] = {}
    for j in kept:
        by_task.setdefault(j.task, []).append(j)
    open_tasks = {t: js for t, js in by_task.items() if t not in golden}

    peers: dict[str, tuple[float, float]] = {}
    while True:
        now = _round(open_tasks, reasons, states, workers)
        for worker, k in now.numbers.items():
            tally = now.fitted.tally
            peers[worker] = (float(tally.peer_right[k]), float(tally.peer_total[k]))
        found = _peer_bans(now.fitted, now.tasks, now.numbers, chosen, now.copies)
        if not found:
            break
        reasons.update(found)

    best = _choose(now.problem, now.fitted.beliefs, len(now.tasks))
    winners = [[v for v in truth if v != ABSENT] if p >= 0.9 else [] for truth, p in best]
    controls = [j for j in kept if j.task in golden and j.worker not in reasons]
    spreads, crowd_scatter = scatter(now.tasks, winners, now.numbers, controls)
    model = CrowdModel(
        skill={w: float(now.fitted.skill[k]) for w, k in now.numbers.items()},
        scatter={w: float(spreads[k]) for w, k in now.numbers.items()},
        default_skill=now.fitted.crowd_skill,
        default_scatter=crowd_scatter,
        plate_counts=tuple(now.fitted.plate_counts.tolist()),
        copies_suspicious=now.copies,
    )
    used = {t: sum(j.worker not in reasons for j in js) for t, js in open_tasks.items()}
    names = [t.task for t in now.tasks]
    made = _labels(
        now.tasks,
        best,
        used=[used[t] for t in names],
        received=[len(open_tasks[t]) for t in names],
        model=model,
        policy=chosen,
    )
    labels = {label.task: label for label in made}
    for task, answers in by_task.items():
        if task in golden:
            if not control_labels:
                continue
            valid = [j for j in answers if j.worker not in reasons]
            label = _golden_label(task, valid, golden[task])
            labels[task] = Label(task, label.plates, label.status, len(answers), 1.0)
        elif task not in labels:
            labels[task] = _empty_label(task, len(answers), used[task], chosen)
    return Aggregation(
        labels=tuple(labels[t] for t in sorted(labels)),
        workers=tuple(_report(w, states, reasons, peers, model) for w in workers),
        model=model,
        peer_right={w: peers.get(w, (0.0, 0.0))[0] for w in workers},
        peer_total={w: peers.get(w, (0.0, 0.0))[1] for w in workers},
        evidence=_evidence(now),
    )


def _evidence(now: _Round) -> dict[tuple[str, str], tuple[float, float]]:
    right, weight = evidence(now.problem, now.fitted.beliefs)
    keys = [(task.task, j.worker) for task in now.tasks for j in task.judgements]
    return dict(zip(keys, zip(right.tolist(), weight.tolist(), strict=True), strict=True))


def _report(
    worker: str,
    states: Mapping[str, ControlState],
    reasons: Mapping[str, str],
    peers: Mapping[str, tuple[float, float]],
    model: CrowdModel,
) -> WorkerReport:
    state = states.get(worker, ControlState())
    right, total = peers.get(worker, (0.0, 0.0))
    skill = skill_of(state.right, state.total, right, total, model.default_skill)
    return WorkerReport(
        worker=worker,
        skill=model.skill.get(worker, skill),
        golden_right=state.right,
        golden_total=state.total,
        banned=worker in reasons,
        reason=reasons.get(worker, ""),
        scatter=model.scatter.get(worker, model.default_scatter),
    )


def aggregate_task(
    judgements: Collection[Judgement], model: CrowdModel, policy: AggregatePolicy | None = None
) -> Label:
    """The label of one task, quickly, with what ``model`` knows of the crowd.

    Banned workers' judgements are left out by the caller. ``judgements`` is not empty.
    """
    chosen = policy or AggregatePolicy()
    kept = latest(judgements)
    if not kept or len({j.task for j in kept}) != 1:
        raise ValueError("aggregate_task takes judgements of exactly one task")
    name = kept[0].task
    golden = golden_of(kept)
    if golden:
        return _golden_label(name, kept, golden[name])
    answers = [j for j in kept if not j.skip]
    if not answers:
        return _empty_label(name, len(kept), len(kept), chosen)
    tasks = structure([answers])
    numbers = {j.worker: k for k, j in enumerate(answers)}
    skill = np.array([model.skill.get(w, model.default_skill) for w in numbers])
    problem = build(tasks, numbers, model.copies_suspicious)
    beliefs = believe(problem, skill, np.array(model.plate_counts))
    best = _choose(problem, beliefs, 1)
    return _labels(tasks, best, used=[len(kept)], received=[len(kept)], model=model, policy=chosen)[
        0
    ]


__all__ = [
    "AggregatePolicy",
    "Aggregation",
    "CrowdModel",
    "Label",
    "LabelledPlate",
    "WorkerReport",
    "aggregate",
    "aggregate_task",
    "control_states",
    "initial_model",
]
