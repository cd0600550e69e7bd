"""Run photo tasks in this process or in a pool, each to exactly one row."""

# Paths stay strings as the caller wrote them (odd bytes, './' and all), and os.path is fast.
# ruff: noqa: PTH120

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

from platehide.errors import UsageError, WeightsError
from platehide.files import remove_leftovers
from platehide.jobs import PhotoTask, failed_row
from platehide.work import Factory, Handler, Pool, Stopper, one_thread, usable_cores


def default_workers(photos: int) -> int:
    """All usable cores, but no process for fewer than four photos: starting one takes longer."""
    return max(1, min(usable_cores(), photos // 4))


class PhotoRun:
    """A handler in this process (one worker) or a pool of processes; use it with ``with``.

    Raises:
        UsageError: the handler cannot be made (no such model, a bad cover, damaged weights).

    The stopper's signal ends the start too; ``rows`` yields nothing then.
    """

    def __init__(self, factory: Factory, workers: int, stopper: Stopper) -> None:
        self._stopper = stopper
        self._pool: Pool | None = None
        self._handler: Handler | None = None
        try:
            if workers == 1:
                one_thread()
                self._handler = factory()
                self.model = self._handler.model
            else:
                pool = Pool(factory, workers)
                pool.start(stopper)
                self._pool, self.model = pool, pool.model
        except WeightsError as error:
            raise UsageError(str(error)) from error

    def rows(self, tasks: Iterable[PhotoTask]) -> Iterator[tuple[PhotoTask, Any]]:
        """Yield (task, what the handler made of it) as photos are finished.

        A photo whose worker dies is tried once more; when that one dies too, what comes is a
        ``failed_row``, and the others go on.
        """
        if self._handler is not None:
            for task in tasks:
                if self._stopper.stopping:
                    return
                for value in self._handler.work(task, lambda part: None):
                    yield task, value
            return
        assert self._pool is not None
        for event in self._pool.run(tasks, self._stopper):
            task = event.task
            if event.kind == "item":
                yield task, event.value
            elif event.kind == "died":
                if task.output is not None:
                    remove_leftovers([os.path.dirname(task.output) or "."])
                if task.attempt == 0 and not event.overdue and not self._stopper.stopping:
                    self._pool.again(dataclasses.replace(task, attempt=1))
                else:
                    yield task, failed_row(task.path, self.model, "worker_died", event.reason)

    def __enter__(self) -> PhotoRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()
