"""The quality engine of one project, in memory: which task next, what a new answer changes.

Everything here is derived from the append-only log of judgements: replaying the log into a new
``Engine`` gives the same state. A server keeps the log and the leases durably and asks the
engine; the simulation drives it directly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from platehide.crowd.aggregate import (
    AggregatePolicy,
    Aggregation,
    CrowdModel,
    Label,
    aggregate,
    aggregate_task,
    initial_model,
)
from platehide.crowd.judgements import Judgement
from platehide.crowd.matching import answer_right
from platehide.crowd.overlap import OverlapPolicy, control_due, slots_wanted
from platehide.crowd.sequential import ControlState, advance
from platehide.crowd.skills import skill_of
from platehide.types import FloatArray


@dataclass(frozen=True)
class EnginePolicy:
    """Policies of a project.

    Attributes:
        aggregate: what makes a label and a ban.
        overlap: how many answers and control tasks.
        refresh: the whole crowd is looked at again after this many answers, later on after an
            eighth of all.
    """

    aggregate: AggregatePolicy = field(default_factory=AggregatePolicy)
    overlap: OverlapPolicy = field(default_factory=OverlapPolicy)
    refresh: int = 200


@dataclass
class _Task:
    answers: dict[str, Judgement] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    label: Label | None = None


class Engine:
    """State of one project's quality control.

    Args:
        photos: names of the tasks to label, in the order in which to hand them out.
        controls: control task -> true plates.
        policy: the defaults where ``None``.
        seed: of the draws that mix control tasks in.
    """

    def __init__(
        self,
        photos: Sequence[str],
        controls: Mapping[str, tuple[FloatArray, ...]],
        policy: EnginePolicy | None = None,
        seed: int = 0,
    ) -> None:
        self.policy = policy or EnginePolicy()
        self.controls = dict(controls)
        self.log: list[Judgement] = []
        self.bans: dict[str, str] = {}
        self.states: dict[str, ControlState] = {}
        self._random = Random(seed)
        self._tasks = {name: _Task() for name in photos}
        self._wanted: dict[str, None] = dict.fromkeys(photos)
        self._held: dict[str, set[str]] = {}
        self._done_by: dict[str, set[str]] = {}
        self._used = dict.fromkeys(self.controls, 0)
        self._model: CrowdModel = initial_model()
        self._peers: dict[str, tuple[float, float]] = {}
        self._since_refresh = 0

    # --- handing out ---------------------------------------------------------------------------

    def next_task(self, worker: str) -> str | None:
        """Lease the worker's next task: its name, or ``None`` where there is none now."""
        if worker in self.bans or self._held.get(worker):
            return None
        done = self._done_by.setdefault(worker, set())
        task = self._next_photo(worker, done)
        if task is None:
            return None
        state = self.states.get(worker, ControlState())
        if self.controls and control_due(state, self._random.random(), self.policy.overlap):
            control = self._next_control(done)
            task = control or task
        self._held.setdefault(worker, set()).add(task)
        if task in self._tasks:
            self._tasks[task].leases.add(worker)
            self._rank(task)
        return task

    def _next_photo(self, worker: str, done: Collection[str]) -> str | None:
        return next((t for t in self._wanted if t not in done), None)

    def _next_control(self, done: Collection[str]) -> str | None:
        # The least shown of a few drawn at random: all rotate, none is predictable.
        drawn = self._random.sample(list(self.controls), min(8, len(self.controls)))
        fresh = [t for t in drawn if t not in done]
        return min(fresh, key=lambda t: self._used[t], default=None)

    def release(self, worker: str, task: str) -> None:
        """Give a lease back unanswered (it expired)."""
        self._held.get(worker, set()).discard(task)
        if task in self._tasks:
            self._tasks[task].leases.discard(worker)
            self._rank(task)

    # --- taking answers ------------------------------------------------------------------------

    def submit(self, judgement: Judgement) -> bool:
        """Take an answer; False where the worker is banned or does not hold the task."""
        worker, task = judgement.worker, judgement.task
        if task not in self._held.get(worker, set()):
            return False
        self._held[worker].discard(task)
        if worker in self.bans:
            return False
        self._take(judgement)
        return True

    def replay(self, judgements: Iterable[Judgement]) -> None:
        """Take a log as it is, leases or not."""
        for judgement in judgements:
            self._take(judgement)

    def _take(self, judgement: Judgement) -> None:
        worker, task = judgement.worker, judgement.task
        self._done_by.setdefault(worker, set()).add(task)
        if task in self.controls:
            truth = self.controls[task]
            self.log.append(replace(judgement, golden=truth))
            self._used[task] += 1
            if not judgement.skip:
                self._control(worker, answer_right(judgement.plates, truth))
        else:
            self.log.append(judgement)
            entry = self._tasks[task]
            entry.leases.discard(worker)
            if worker not in self.bans:
                entry.answers[worker] = judgement
                self._relabel(task)
        self._since_refresh += 1
        if self._since_refresh >= max(self.policy.refresh, len(self.log) // 8):
            self.refresh()

    def _control(self, worker: str, right: bool) -> None:
        before = self.states.get(worker, ControlState())
        after = advance(before, right, self.policy.aggregate.control)
        self.states[worker] = after
        if after.verdict == "banned":
            self.ban(worker, after.reason)

    def ban(self, worker: str, reason: str) -> list[str]:
        """Ban a worker: drop the answers, reopen their photos; the reopened tasks."""
        if worker in self.bans:
            return []
        self.bans[worker] = reason
        self._held.pop(worker, None)
        touched = [t for t in self._done_by.get(worker, set()) if t in self._tasks]
        for name, entry in self._tasks.items():
            if worker in entry.leases:
                entry.leases.discard(worker)
                self._rank(name)
        reopened = []
        for task in sorted(touched):
            if self._tasks[task].answers.pop(worker, None) is not None:
                self._relabel(task)
                reopened.append(task)
        return reopened

    # --- labels --------------------------------------------------------------------------------

    def _live_model(self, workers: Iterable[str]) -> CrowdModel:
        skill = {}
        for worker in workers:
            state = self.states.get(worker, ControlState())
            right, total = self._peers.get(worker, (0.0, 0.0))
            skill[worker] = skill_of(
                state.right, state.total, right, total, self._model.default_skill
            )
        return replace(self._model, skill=skill)

    def _relabel(self, task: str) -> None:
        entry = self._tasks[task]
        entry.label = (
            aggregate_task(
                entry.answers.values(), self._live_model(entry.answers), self.policy.aggregate
            )
            if entry.answers
            else None
        )
        self._rank(task)

    def _rank(self, task: str) -> None:
        entry = self._tasks[task]
        wanted = slots_wanted(
            entry.label, len(entry.answers), len(entry.leases), self.policy.overlap
        )
        if wanted > 0:
            self._wanted.setdefault(task)
        else:
            self._wanted.pop(task, None)

    def refresh(self) -> Aggregation:
        """Look at the whole crowd again: skills, bans by peers, all labels."""
        self._since_refresh = 0
        result = aggregate(
            self.log,
            self.policy.aggregate,
            banned=self.bans,
            states=self.states,
            control_labels=False,
        )
        self._model = result.model
        self._peers = {
            w.worker: (result.peer_right[w.worker], result.peer_total[w.worker])
            for w in result.workers
        }
        for report in result.workers:
            if report.banned and report.worker not in self.bans:
                self.ban(report.worker, report.reason)
        for label in result.labels:
            if label.task in self._tasks:
                self._tasks[label.task].label = label if self._tasks[label.task].answers else None
                self._rank(label.task)
        return result

    def labels(self) -> list[Label]:
        """The label of every photo that has an answer, as it stands."""
        return [e.label for e in self._tasks.values() if e.label is not None]

    @property
    def unfinished(self) -> int:
        """Photos that want another answer now or wait for one under way."""
        return len(self._wanted) + sum(bool(e.leases) for e in self._tasks.values())
