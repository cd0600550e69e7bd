"""A pool of worker processes that outlives its workers, and ends when its driver does.

``concurrent.futures`` gives the whole pool up when one process is killed; here the work of a
killed process goes to a new one. A worker may be killed by the kernel for memory at any moment,
and a decoder fed with hostile bytes may crash.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol

from platehide.errors import PlateHideError, UsageError, WeightsError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEFAULT_TIMEOUT_SECONDS = 600.0
_START_ATTEMPTS = 3
_READY_SECONDS = 300.0


class Handler(Protocol):
    """What a worker does. Made once in each worker by a factory that can be pickled."""

    @property
    def model(self) -> str:
        """``name@version`` of what it works with."""

    def work(self, task: Any, begin: Callable[[int], None]) -> Iterator[Any]:
        """Yield the results of a task one by one; call ``begin(n)`` before starting on part n."""


Factory = Callable[[], Handler]


@dataclass(frozen=True)
class Event:
    """Something that a worker reported.

    Attributes:
        kind: ``item`` (a result), ``done`` (the task is finished) or ``died`` (the worker ended
            in the middle of it; ``part`` is the part it had begun).
        overdue: it was killed because it took too long; trying again would take as long.
    """

    kind: Literal["item", "done", "died"]
    task: Any
    value: Any = None
    part: int = -1
    reason: str = ""
    overdue: bool = False


class Stopper:
    """Asks for an end in good order: the first signal stops after the photos in hand."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def stopping(self) -> bool:
        """True once a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a program that was ended by the signal exits with."""
        return 128 + (self.signal or 0)

    @contextmanager
    def catching(self) -> Iterator[Stopper]:
        """Take SIGINT and SIGTERM over for a while (main thread only); a second one raises."""

        def handle(number: int, frame: object) -> None:
            del frame
            if self.signal is not None:
                raise KeyboardInterrupt
            self.signal = number

        previous = {}
        with suppress(ValueError):  # not the main thread: the caller handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, handle)
        try:
            yield self
        finally:
            for number, old in previous.items():
                signal.signal(number, old)


def usable_cores() -> int:
    """Cores this process may use: its affinity, and a container's CPU quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores or 1, max(1, round(int(quota) / int(period))))
    return max(1, cores or 1)


def one_thread() -> None:
    """Keep this process on one thread: the pool has one process a core."""
    import cv2

    cv2.setNumThreads(1)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    tasks: deque[tuple[int, Any]] = field(default_factory=deque)
    ready: bool = False
    part: tuple[int, int] | None = None  # task number and part that was begun
    heard: float = field(default_factory=time.monotonic)
    overdue: bool = False


class Pool:
    """Worker processes that take tasks in order and report results as they come.

    Args:
        factory: makes the handler in each worker; must be picklable.
        workers: number of processes.
        ahead: tasks a worker is given in advance, so that it never waits for the driver.
        timeout_seconds: a worker that reports nothing for so long while it has work is killed.

    Raises (from ``start``):
        UsageError: the handler cannot be made as asked.
        PlateHideError: the workers do not start.
    """

    def __init__(
        self,
        factory: Factory,
        workers: int,
        *,
        ahead: int = 2,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self.model = ""
        self._factory = factory
        self._size = workers
        self._ahead = ahead
        self._timeout = timeout_seconds
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._again: deque[Any] = deque()
        self._numbers = itertools.count()
        self._failed_starts = 0

    def start(self, stopper: Stopper | None = None) -> None:
        """Start all workers and wait for the first to be ready, or for the stopper's signal."""
        try:
            for _ in range(self._size):
                self._spawn()
            deadline = time.monotonic() + _READY_SECONDS
            while not self.model and not (stopper is not None and stopper.stopping):
                for _ in self._listen(1.0):
                    pass
                if time.monotonic() > deadline:
                    raise PlateHideError(f"no worker was ready within {_READY_SECONDS:.0f} s")
        except BaseException:
            self.close()
            raise

    def again(self, task: Any) -> None:
        """Put a task back in front, for instance after its worker died."""
        self._again.append(task)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [w.process.pid for w in self._workers]

    def run(self, tasks: Iterable[Any], stopper: Stopper | None = None) -> Iterator[Event]:
        """Work off ``tasks`` (drawn as needed) and yield events.

        After the stopper's signal no new task is begun; what is in hand is still reported.
        """
        source = iter(tasks)
        exhausted = False
        while True:
            stopping = stopper is not None and stopper.stopping
            if stopping:
                self._again.clear()
            while not stopping:
                free = min(self._workers, key=lambda w: len(w.tasks), default=None)
                if free is None or len(free.tasks) >= self._ahead:
                    break
                if self._again:
                    task = self._again.popleft()
                elif exhausted:
                    break
                else:
                    try:
                        task = next(source)
                    except StopIteration:
                        exhausted = True
                        break
                self._give(free, task)
            if not self._again and (exhausted or stopping) and self._idle():
                return
            yield from self._listen(0.5, stopping=stopping)

    def _idle(self) -> bool:
        return not any(w.tasks for w in self._workers)

    def close(self) -> None:
        """End all workers; the idle ones by closing their pipe, the others by force."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            if not worker.tasks and worker.ready:
                worker.process.join(5.0)
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.process.close()
        self._workers.clear()

    def __enter__(self) -> Pool:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_worker_main,
            args=(theirs, self._factory, os.getpid()),
            daemon=True,
            name="platehide-worker",
        )
        # Read by the numeric libraries when they load, so it must be there before the start.
        kept = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        try:
            with _signals_held():
                process.start()
        finally:
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _give(self, worker: _Worker, task: Any) -> None:
        number = next(self._numbers)
        if not worker.tasks:
            worker.heard = time.monotonic()
        worker.tasks.append((number, task))
        with suppress(OSError):  # it has died: noticed when its pipe is read
            worker.pipe.send((number, task))

    def _listen(self, seconds: float, *, stopping: bool = False) -> Iterator[Event]:
        by_pipe = {w.pipe: w for w in self._workers}
        for pipe in wait(list(by_pipe), seconds):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._bury(worker, stopping)
                continue
            worker.heard = time.monotonic()
            yield from self._understand(worker, message)
        now = time.monotonic()
        for worker in self._workers:
            if worker.tasks and worker.ready and now - worker.heard > self._timeout:
                worker.overdue = True
                worker.process.kill()

    def _understand(self, worker: _Worker, message: tuple[Any, ...]) -> Iterator[Event]:
        kind = message[0]
        if kind == "ready":
            worker.ready = True
            self.model = message[1]
            self._failed_starts = 0
        elif kind == "refused":
            error = {"usage": UsageError, "weights": WeightsError}.get(message[1], PlateHideError)
            raise error(message[2])
        elif kind == "begin":
            worker.part = (message[1], message[2])
        elif kind == "item":
            yield Event("item", worker.tasks[0][1], message[2])
        else:
            _, task = worker.tasks.popleft()
            worker.part = None
            yield Event("done", task)

    def _bury(self, worker: _Worker, stopping: bool) -> Iterator[Event]:
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode
        worker.process.close()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _START_ATTEMPTS * max(1, self._size):
                raise PlateHideError(f"worker processes end while starting ({_cause(code)})")
        reason = (
            f"took longer than {self._timeout:.0f} s"
            if worker.overdue
            else f"worker {_cause(code)}"
        )
        waiting = list(worker.tasks)
        if waiting and worker.part is not None and worker.part[0] == waiting[0][0]:
            _, task = waiting.pop(0)
            yield Event("died", task, part=worker.part[1], reason=reason, overdue=worker.overdue)
        for _, task in waiting:
            self._again.append(task)
        if not stopping:
            self._spawn()


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with exit code {code}"


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends (Linux).

    Elsewhere the closed pipe does it, after the photo in hand.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait meanwhile; a process that is started here is born deaf to them.

    A terminal sends Ctrl-C to the whole group. A worker that is still importing would die of it
    with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started by the first process otherwise, which lets the signals through again as it does so.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(pipe: Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Take tasks off the pipe as they come, so that the driver never waits for room in it: a
    driver that waits reads no results, and a worker then waits to get rid of its own.
    """
    try:
        with suppress(EOFError, OSError):
            while True:
                tasks.put(pipe.recv())
    finally:
        tasks.put(None)


def _say_begin(pipe: Connection, number: int, part: int) -> None:
    pipe.send(("begin", number, part))


def _worker_main(pipe: Connection, factory: Factory, parent: int) -> None:
    # A terminal sends Ctrl-C to the whole group: the driver decides what that means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(parent)
    try:
        one_thread()
        handler = factory()
    except PlateHideError as error:
        with suppress(OSError):
            pipe.send(("refused", error.code, str(error)))
        return
    with suppress(OSError):  # the driver has ended
        pipe.send(("ready", handler.model))
        tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
        while (given := tasks.get()) is not None:
            number, task = given
            begin = functools.partial(_say_begin, pipe, number)
            for value in handler.work(task, begin):
                pipe.send(("item", number, value))
            pipe.send(("done", number))
