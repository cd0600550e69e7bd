"""How many places there are: a burst at 70 % of capacity is let in, an overload is not."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from platehide.serve.admission import Gate
from platehide.serve.problems import Problem
from platehide.serve.telemetry import Telemetry

THREADS, WORK, BUDGET = 2, 0.083, 0.25
CAPACITY = THREADS / WORK


@dataclass
class Seen:
    waits: list[float]
    refused: int

    @property
    def p95(self) -> float:
        return sorted(self.waits)[int(0.95 * len(self.waits))]


def simulate(share: float, seconds: float, seed: int) -> Seen:
    """Poisson arrivals at ``share`` of capacity for two threads, gamma work with CV 0.5."""
    rng = random.Random(seed)
    now = 0.0
    gate = Gate(Telemetry("m@1"), threads=THREADS, budget=BUDGET, clock=lambda: now)
    gate.ready = True
    for _ in range(200):
        gate.measured(WORK)
    free = [0.0] * THREADS  # when each thread is done
    ends: list[float] = []
    seen = Seen([], 0)
    at = 0.0
    while (at := at + rng.expovariate(share * THREADS / WORK)) < seconds:
        while ends and ends[0] <= at:
            now = heapq.heappop(ends)
            gate.give()
        now = at
        gate.arrive()
        try:
            gate.take()
        except Problem:
            seen.refused += 1
            continue
        end = max(at, heapq.heappop(free)) + rng.gammavariate(4, WORK / 4)
        heapq.heappush(free, end)
        heapq.heappush(ends, end)
        seen.waits.append(end - at)
    return seen


def test_at_70_percent_nobody_is_refused() -> None:
    assert [simulate(0.7, 60, seed).refused for seed in range(20)] == [0] * 20


@pytest.mark.parametrize(("share", "budgets"), [(1.2, 4), (3.0, 2), (30.0, 2)])
def test_in_an_overload_the_queue_is_short_and_the_threads_never_idle(
    share: float, budgets: float
) -> None:
    run = simulate(share, 60, 1)
    assert run.p95 < budgets * BUDGET
    assert len(run.waits) > 0.97 * CAPACITY * 60


def test_after_an_overload_bursts_are_let_in_again() -> None:
    now = 0.0
    gate = Gate(Telemetry("m@1"), threads=THREADS, budget=BUDGET, clock=lambda: now)
    for _ in range(200):
        gate.measured(WORK)
    calm = gate.limit
    for _ in range(100):
        now += 0.01
        gate.arrive()
    rush = gate.limit
    assert rush < calm
    now += 5
    assert gate.limit == calm


def test_a_fixed_number_of_places() -> None:
    fixed = Gate(Telemetry("m@1"), threads=2, budget=BUDGET, limit=3)
    assert fixed.limit == 3
    for _ in range(3):
        fixed.take()
    with pytest.raises(Problem, match="places are taken"):
        fixed.take()
