"""Bounded work: who gets a place, in which order, and who is refused at no cost.

A request takes a *place* on its headers alone. Places are few (budget / service time x threads),
so an accepted photo never waits much longer than the budget, and above them the answer is 503
before one byte of the body was read. A place that is held by a slow upload lapses after
``RESERVED_SECONDS``: the upload goes on, bounded by the memory budget, and must win a place again
once it is complete, so slow clients cannot starve fast ones.

Arrivals come in bursts: with no more places than the budget allows, one request in a hundred would
be refused at 70 % of capacity. So there are twice as many places again for a burst, but only while
the queue was empty a moment ago and no more arrives than can be worked on. In an overload both
fail within a second, and the queue is short.

Everything here runs on the event loop's thread; only the work itself runs on worker threads.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from platehide.serve.logs import event
from platehide.serve.problems import Problem
from platehide.serve.telemetry import Telemetry

T = TypeVar("T")

RESERVED_SECONDS = 0.5
INTERACTIVE, BACKGROUND = 0, 1
BACKGROUND_PATIENCE_SECONDS = 5.0
STANDING = 1.25
"""Places in an overload, as a multiple of what ends within the budget."""
BURST = 2.5
"""Places for a burst, as a multiple of those in an overload."""
BURST_SECONDS = 4.0
OVERLOAD = 1.5
"""Arrivals by capacity from which there is an overload."""
RATE_SECONDS = 1.0
_FIRST_GUESS_SECONDS = 0.06


class Place:
    """One request's right to be worked on; give it back with ``release`` (idempotent)."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.held = True
        self._lapse: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            RESERVED_SECONDS, self._lapsed
        )

    def _lapsed(self) -> None:
        self._lapse = None
        self.release()

    def confirm(self) -> None:
        """Call when the body is complete: keep the place, or win one again.

        Raises:
            Problem: ``busy`` (503).

        """
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if not self.held:
            self._gate.take()
            self.held = True

    def release(self) -> None:
        """Give the place back."""
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if self.held:
            self.held = False
            self._gate.give()


class Gate:
    """Counts places and upload bytes, and adapts the number of places to the measured work."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        threads: int,
        budget: float,
        limit: int = 0,
        upload_memory: int = 256 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._calm = self._arrived = clock()
        self._rate = 0.0
        self._telemetry = telemetry
        self._threads = threads
        self._budget = budget
        self._fixed = limit
        self._work_seconds = _FIRST_GUESS_SECONDS
        self._taken = 0
        self._memory = upload_memory
        self._buffered = 0
        self.draining = False
        self.ready = False
        telemetry.in_flight_limit.set(self.limit)

    @property
    def limit(self) -> int:
        """Places there are now."""
        if self._fixed:
            return self._fixed
        places = STANDING * self._budget / self._work_seconds * self._threads
        now = self._clock()
        if self._taken <= self._threads:
            self._calm = now
        if now - self._calm < BURST_SECONDS and not self._overloaded(now):
            places *= BURST
        return max(2 * self._threads, min(round(places), 64 * self._threads))

    def _overloaded(self, now: float) -> bool:
        slow = RATE_SECONDS * max(1.0, self._work_seconds / 0.1)  # a slow model: a longer look
        rate = self._rate * math.exp((self._arrived - now) / slow)
        return rate > OVERLOAD * self._threads / self._work_seconds

    def arrive(self) -> None:
        """Count an arrival, whether or not it gets a place (rate: exponential average)."""
        now = self._clock()
        slow = RATE_SECONDS * max(1.0, self._work_seconds / 0.1)
        self._rate = self._rate * math.exp((self._arrived - now) / slow) + 1 / slow
        self._arrived = now

    @property
    def full(self) -> bool:
        """True where the next request would not get a place."""
        return self.ready and self._taken >= self.limit

    def refusal(self) -> Problem:
        """Count one more that is refused; return its answer."""
        self.arrive()
        self._telemetry.rejections.labels("busy").inc()
        return busy("all places are taken")

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._taken

    def measured(self, seconds: float) -> None:
        """Take in how long a thread worked on one photo (moving average).

        Refusals of broken photos take no time and would make the queue too long: not counted.
        """
        if seconds < 0.005:
            return
        self._work_seconds += 0.05 * (seconds - self._work_seconds)

    def admit(self) -> Place:
        """Return a place, decided on nothing but the state here.

        Raises:
            Problem: ``not_ready`` or ``busy`` (503, with Retry-After).

        """
        if not self.ready:
            self._telemetry.rejections.labels("not_ready").inc()
            raise Problem("not_ready", "the model is not loaded yet", headers={"Retry-After": "2"})
        self.arrive()
        self.take()
        return Place(self)

    def take(self) -> None:
        """Count one more place, or raise ``busy``."""
        if self._taken >= self.limit:
            self._telemetry.rejections.labels("busy").inc()
            raise busy("all places are taken")
        self._taken += 1
        self._telemetry.in_flight.set(self._taken)
        self._telemetry.in_flight_limit.set(self.limit)

    def give(self) -> None:
        """Count one place less."""
        self._taken -= 1
        if self._taken <= self._threads:
            self._calm = self._clock()
        self._telemetry.in_flight.set(self._taken)

    def buffer(self, size: int) -> None:
        """Charge (or, negative, return) upload bytes; raises ``busy`` when memory is short."""
        if size > 0 and self._buffered + size > self._memory:
            self._telemetry.rejections.labels("memory").inc()
            raise busy("too many uploads at once")
        self._buffered += size
        self._telemetry.buffered.set(self._buffered)


def busy(why: str) -> Problem:
    """Return the 503 that asks to come back."""
    return Problem("busy", f"{why}; try again shortly", headers={"Retry-After": "1"})


class _Task:
    __slots__ = ("call", "future", "queued")

    def __init__(self, call: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.future = future
        self.queued = time.perf_counter()


class Pool:
    """A fixed number of threads fed from a queue that the event loop owns.

    Interactive work goes first; background work (jobs, shadow) runs when nothing else waits, or
    after ``BACKGROUND_PATIENCE_SECONDS``, and never on all threads at once where there are two.
    Cancelling ``run`` drops work that has not begun.
    """

    def __init__(self, telemetry: Telemetry, gate: Gate, threads: int) -> None:
        self._telemetry = telemetry
        self._gate = gate
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="photo")
        self._queues: tuple[list[tuple[int, _Task]], list[tuple[int, _Task]]] = ([], [])
        self._order = itertools.count()
        self._working = 0
        self._background = 0
        self._idle = asyncio.Event()
        self._idle.set()
        telemetry.threads.set(threads)

    @property
    def waiting(self) -> int:
        """Interactive photos in the queue."""
        return sum(not task.future.done() for _, task in self._queues[INTERACTIVE])

    @property
    def idle(self) -> bool:
        """True when a thread is free and nothing waits."""
        return self._working < self._threads and not self._queues[INTERACTIVE]

    async def run(
        self,
        call: Callable[[], T],
        *,
        deadline: float | None = None,
        timeout: float | None = None,
        background: bool = False,
    ) -> T:
        """Run ``call`` on a worker thread and return its result.

        ``deadline``: longest wait for a thread in seconds, then ``busy``; ``timeout``: longest
        work, then ``timeout`` (504; the thread finishes its photo, its answer is dropped).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        task = _Task(call, future)
        kind = BACKGROUND if background else INTERACTIVE
        heapq.heappush(self._queues[kind], (next(self._order), task))
        timer = None
        if deadline is not None:
            timer = loop.call_later(deadline, self._too_late, task)
        self._next()
        try:
            async with asyncio.timeout(None if timeout is None else timeout + (deadline or 0)):
                result: T = await future
            return result
        except TimeoutError:
            self._telemetry.dropped.labels("timeout").inc()
            raise Problem("timeout", "the photo took too long") from None
        finally:
            future.cancel()
            if timer is not None:
                timer.cancel()
            self._depth()

    def _too_late(self, task: _Task) -> None:
        if not task.future.done() and task.queued:
            self._telemetry.rejections.labels("queue_deadline").inc()
            task.future.set_exception(busy("the queue did not move in time"))
            self._depth()

    def _depth(self) -> None:
        self._telemetry.queue_depth.set(self.waiting)

    def _pick(self) -> tuple[_Task, bool] | None:
        for queue in self._queues:
            while queue and queue[0][1].future.done():
                heapq.heappop(queue)
        interactive, background = self._queues
        aged = bool(background) and (
            time.perf_counter() - background[0][1].queued > BACKGROUND_PATIENCE_SECONDS
        )
        allowed = self._background < max(1, self._threads - 1)
        if background and allowed and (not interactive or aged):
            return heapq.heappop(background)[1], True
        if interactive:
            return heapq.heappop(interactive)[1], False
        return None

    def _next(self) -> None:
        while self._working < self._threads:
            picked = self._pick()
            if picked is None:
                break
            task, background = picked
            waited = time.perf_counter() - task.queued
            if not background:
                self._telemetry.queue_seconds.observe(waited)
            task.queued = 0.0  # from here on no queue deadline
            self._working += 1
            self._background += background
            self._idle.clear()
            begin = time.perf_counter()
            job = asyncio.get_running_loop().run_in_executor(self._executor, task.call)
            job.add_done_callback(functools.partial(self._done, task, background, begin))
        self._telemetry.working.set(self._working)
        self._depth()

    def _done(self, task: _Task, background: bool, begin: float, done: asyncio.Future[Any]) -> None:
        self._working -= 1
        self._background -= background
        self._gate.measured(time.perf_counter() - begin)
        error = done.exception()
        if task.future.done():
            if error is not None:
                event("work_failed", logging.WARNING, error=repr(error), dropped=True)
        elif error is not None:
            task.future.set_exception(error)
        else:
            task.future.set_result(done.result())
        self._next()
        if self._working == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until no thread works."""
        await self._idle.wait()

    def close(self) -> None:
        """Let go of the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
