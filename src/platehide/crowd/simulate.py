"""A simulated crowd against any server that speaks ``SimServer``.

The same driver runs the in-memory engine and the real server code; it knows the truth, the
server does not (but for the control photos).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from platehide.crowd.aggregate import Label
from platehide.crowd.engine import Engine, EnginePolicy
from platehide.crowd.judgements import Judgement
from platehide.crowd.sim_report import Goal, Pooled, pool, table
from platehide.crowd.sim_workers import Answer, SimPhoto, Worker
from platehide.crowd.sim_world import (
    SimResult,
    SimSettings,
    SimWorld,
    make_world,
    score,
    score_label,
)
from platehide.geometry import order_corners

__all__ = [
    "Answer",
    "EngineServer",
    "Goal",
    "MakeServer",
    "Offer",
    "Pooled",
    "SimPhoto",
    "SimResult",
    "SimServer",
    "SimSettings",
    "SimWorld",
    "make_world",
    "pool",
    "run",
    "run_many",
    "score",
    "score_label",
    "table",
]

START = 1_767_225_600.0


@dataclass(frozen=True)
class Offer:
    """What a worker gets to see. ``lease`` is whatever the server needs to take the answer."""

    photo: str
    lease: str


class SimServer(Protocol):
    """What the simulation needs of a server. Time is simulated: Unix seconds come in."""

    def enrol(self, worker: str, now: float) -> None:
        """Admit a worker."""

    def next_task(self, worker: str, now: float) -> Offer | None:
        """The worker's next task, ``None`` where there is none now (or the worker is banned)."""

    def submit(self, worker: str, offer: Offer, answer: Answer, now: float) -> None:
        """Take an answer; ``now`` is when it arrives."""

    def banned(self) -> Mapping[str, str]:
        """Banned workers and reasons."""

    def judgements(self) -> Sequence[Judgement]:
        """The raw log: every answer ever taken, dropped ones and control tasks included."""

    def labels(self) -> Sequence[Label]:
        """The labels as they stand (control tasks may be among them).

        Called when every worker is out of work; a server that looks at the whole crowd again
        may reopen photos here, and the workers then go on.
        """


MakeServer = Callable[[SimWorld, SimSettings], SimServer]


class EngineServer:
    """``SimServer`` over the in-memory engine."""

    def __init__(
        self, world: SimWorld, settings: SimSettings, policy: EnginePolicy | None = None
    ) -> None:
        controls = {name: p.plates for name, p in world.controls.items()}
        self.engine = Engine(list(world.photos), controls, policy, seed=settings.seed)
        self._world = world
        self._since: dict[tuple[str, str], float] = {}

    def enrol(self, worker: str, now: float) -> None:
        """Nothing to do: the engine meets workers when they ask."""

    def next_task(self, worker: str, now: float) -> Offer | None:
        """See ``SimServer``."""
        task = self.engine.next_task(worker)
        if task is None:
            return None
        self._since[(worker, task)] = now
        return Offer(task, task)

    def submit(self, worker: str, offer: Offer, answer: Answer, now: float) -> None:
        """See ``SimServer``."""
        photo = self._world.photos.get(offer.photo) or self._world.controls[offer.photo]
        self.engine.submit(
            Judgement(
                task=photo.name,
                worker=worker,
                width=photo.width,
                height=photo.height,
                submitted_at=now,
                seconds=now - self._since.pop((worker, offer.photo)),
                plates=tuple(order_corners(q) for q in answer.plates),
                skip=answer.skip,
            )
        )

    def banned(self) -> Mapping[str, str]:
        """See ``SimServer``."""
        return self.engine.bans

    def judgements(self) -> Sequence[Judgement]:
        """See ``SimServer``."""
        return self.engine.log

    def labels(self) -> Sequence[Label]:
        """See ``SimServer``."""
        self.engine.refresh()
        return self.engine.labels()


def _drive(
    server: SimServer, world: SimWorld, workers: Mapping[str, Worker], settings: SimSettings
) -> Sequence[Label]:
    """Let the crowd work until nobody gets a task any more; the labels at the end."""
    rng = np.random.default_rng([settings.seed, 2])
    queue: list[tuple[float, int, str, Offer | None]] = []
    for k, name in enumerate(workers):
        # People come over twenty minutes, not all at once.
        arrives = START + float(rng.uniform(0.0, 1200.0))
        heapq.heappush(queue, (arrives, k, name, None))
    number = len(queue)
    enrolled: set[str] = set()
    idle: dict[str, float] = {}
    labels: Sequence[Label] = ()
    while queue or idle:
        if not queue:
            before = len(server.judgements())
            labels = server.labels()
            now = max(idle.values())
            waiting, idle = idle, {}
            for name in waiting:
                offer = server.next_task(name, now)
                if offer is not None:
                    number += 1
                    took = float(rng.lognormal(np.log(settings.seconds), 0.4))
                    heapq.heappush(queue, (now + took, number, name, offer))
                elif name not in server.banned():
                    idle[name] = now
            if not queue and len(server.judgements()) == before:
                return labels
            continue
        now, _, name, offer = heapq.heappop(queue)
        if name not in enrolled:
            server.enrol(name, now)
            enrolled.add(name)
        if offer is not None:
            photo = world.photos.get(offer.photo) or world.controls[offer.photo]
            server.submit(name, offer, workers[name].answer(photo), now)
        found = server.next_task(name, now)
        if found is None:
            if name not in server.banned():
                idle[name] = now
        else:
            number += 1
            took = float(rng.lognormal(np.log(settings.seconds), 0.4))
            heapq.heappush(queue, (now + took, number, name, found))
        if idle and number % 20 == 0:
            # Work may have come back (a ban, a disagreement): someone idle looks again.
            name = min(idle)
            del idle[name]
            number += 1
            heapq.heappush(queue, (now, number, name, None))
    return server.labels()


def run(settings: SimSettings, make_server: MakeServer | None = None) -> SimResult:
    """One simulated project; the in-memory engine where ``make_server`` is ``None``."""
    world, workers = make_world(settings)
    server = (make_server or EngineServer)(world, settings)
    labels = _drive(server, world, workers, settings)
    return score(labels, server.judgements(), server.banned(), world, settings)


def run_many(
    settings: SimSettings,
    seeds: Sequence[int],
    bot_shares: Sequence[float],
    make_server: MakeServer | None = None,
    on_result: Callable[[SimResult], None] | None = None,
) -> list[SimResult]:
    """Every seed at every share of bots."""
    results = []
    for bots in bot_shares:
        for seed in seeds:
            result = run(replace(settings, bots=bots, seed=seed), make_server)
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results
