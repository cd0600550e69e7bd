"""The engine of one machine: a process a core."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from platehide.batch.plan import Unit, UnitPhoto, without
from platehide.batch.worker import (
    BatchSettings,
    Done,
    image_name,
    make_worker,
    manifest_row,
)
from platehide.errors import UsageError, WeightsError
from platehide.jobs import HiderFactory, failed_row
from platehide.work import Pool, Stopper

TRIES = 2
"""Workers that may die over a photo before it is set aside."""

Result = tuple[Unit, Done | None]
"""A row; or ``None`` when all rows of the unit have come."""


class ProcessEngine:
    """Units in, rows out, in worker processes that may die."""

    name = "processes"

    def __init__(
        self,
        settings: BatchSettings,
        make: HiderFactory,
        workers: int,
        *,
        stopper: Stopper | None = None,
        died: Callable[[Unit], None] = lambda unit: None,
    ) -> None:
        self._pool = Pool(functools.partial(make_worker, settings, make), workers)
        self._died = died
        self._source = settings.source
        try:
            self._pool.start(stopper)
        except WeightsError as error:
            raise UsageError(str(error)) from error
        self.model = self._pool.model

    def run(self, units: Iterable[Unit], stopper: Stopper) -> Iterator[Result]:
        """Work off ``units``; exactly one row for each photo that is not left out by a stop."""
        answered: dict[int, tuple[set[int], bool]] = {}
        for event in self._pool.run(units, stopper):
            unit: Unit = event.task
            numbers, plates = answered.setdefault(id(unit), (set(), False))
            if event.kind == "item":
                done: Done = event.value
                numbers.add(done.number)
                answered[id(unit)] = numbers, plates or done.row["status"] == "hidden"
                yield unit, done
            elif event.kind == "done":
                del answered[id(unit)]
                yield unit, None
            else:
                del answered[id(unit)]
                self._died(unit)
                victim = unit.photos[event.part]
                photos = list(unit.photos)
                if event.part not in numbers:
                    photos[event.part] = dataclasses.replace(victim, attempt=victim.attempt + 1)
                    if event.overdue or victim.attempt + 1 >= TRIES:
                        numbers.add(event.part)
                        row = died_row(victim, self._source, self.model, event.reason)
                        yield unit, Done(event.part, row)
                rest = dataclasses.replace(
                    unit, photos=tuple(photos), plates_known=unit.plates_known or plates
                )
                left = without(rest, frozenset(numbers))
                if left is None:
                    yield unit, None
                else:
                    self._pool.again(left)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


def died_row(photo: UnitPhoto, source: str, model: str, reason: str) -> dict[str, Any]:
    """The row of a photo over which workers die."""
    row = failed_row(image_name(photo, source), model, "worker_died", reason)
    return manifest_row(photo, row)
