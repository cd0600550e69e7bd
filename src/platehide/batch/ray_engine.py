"""The engine of a cluster: Ray Data with actors that hold the model.

The work goes out in waves of slices, so that the driver never holds the archive; a wave keeps
every actor busy for many minutes, which makes its start and its end cheap. Rows come back to the
driver, the only one to write the manifest. Ray repeats the slices of a lost actor or machine:
outputs are idempotent, and a row that comes twice is taken once. What an actor dies over again and
again is narrowed down to single photos, which are then set aside.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from platehide.batch.plan import Unit
from platehide.batch.processes import Result, died_row
from platehide.batch.worker import BatchSettings, BatchWorker, Done, make_worker
from platehide.errors import PlateHideError, UsageError, WeightsError
from platehide.jobs import HiderFactory
from platehide.work import Stopper, one_thread

_SLICE_PHOTOS = 256
_SLICES_A_WORKER = 128
_TASK_RETRIES = 2

_Numbered = tuple[int, Unit]


class SliceActor:
    """Holds the model; takes slices of numbered units, gives rows."""

    def __init__(self, settings: BatchSettings, make: HiderFactory) -> None:
        one_thread()
        self._worker: BatchWorker = make_worker(settings, make)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Work off slices. Rows travel as bytes, because Ray would make columns of them."""
        for blob in batch["slice"]:
            for index, unit in pickle.loads(blob):
                rows = [(index, done) for done in self._worker.work(unit, lambda part: None)]
                yield {"rows": [pickle.dumps([*rows, (index, None)])]}


class RayEngine:
    """Units in, rows out, on a Ray cluster.

    Args:
        workers: number of actors; ``None`` = the cluster's CPUs.
        address: of a running cluster; ``None`` = ``RAY_ADDRESS``, a cluster that runs on this
            machine, or a new local one.
    """

    name = "ray"

    def __init__(
        self,
        settings: BatchSettings,
        make: HiderFactory,
        workers: int | None,
        address: str | None,
        limit_rate: float | None = None,
    ) -> None:
        try:
            # Here too, because what is wrong with model or cover should show before anything
            # runs elsewhere.
            self.model = make(settings.hide).detector.model
        except WeightsError as error:
            raise UsageError(str(error)) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address, workers)
        self._workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        pause = self._workers / limit_rate if limit_rate else 0.0
        self._settings = replace(settings, seconds_a_photo=pause)
        self._make = make

    def run(self, units: Iterable[Unit], stopper: Stopper) -> Iterator[Result]:
        """Work off ``units``; exactly one row for each photo that is not left out by a stop."""
        source = iter(units)
        while not stopper.stopping:
            wave: list[Unit] = []
            photos = 0
            for unit in source:
                wave.append(unit)
                photos += len(unit.photos)
                if photos >= self._workers * _SLICES_A_WORKER * _SLICE_PHOTOS or stopper.stopping:
                    break
            if not wave:
                return
            yield from self._wave(wave, photos, stopper)

    def _wave(self, units: list[Unit], photos: int, stopper: Stopper) -> Iterator[Result]:
        size = max(1, min(_SLICE_PHOTOS, photos // (8 * self._workers)))
        left = dict(enumerate(units))
        answered: dict[int, set[int]] = {}
        for slices in (_slices(left.items(), size), [[pair] for pair in left.items()]):
            slices = [[pair for pair in one if pair[0] in left] for one in slices]
            for index, done in self._rows([one for one in slices if one], stopper):
                if done is None:
                    if index in left:
                        yield left.pop(index), None
                elif done.number not in answered.setdefault(index, set()):
                    answered[index].add(done.number)
                    yield units[index], done
            if stopper.stopping or not left:
                return
        yield from self._one_by_one(left, answered, stopper)

    def _one_by_one(
        self, left: dict[int, Unit], answered: dict[int, set[int]], stopper: Stopper
    ) -> Iterator[Result]:
        """Find the photos that actors die over."""
        singles = {
            number: (index, part)
            for number, (index, part) in enumerate(
                (index, part)
                for index, unit in left.items()
                for part, photo in enumerate(unit.photos)
                if photo.known is None and part not in answered.get(index, ())
            )
        }
        missing = dict(singles)
        for _ in range(2):  # the first time a photo may fall with its neighbour on the actor
            slices = [
                [(number, replace(left[index], photos=(left[index].photos[part],)))]
                for number, (index, part) in missing.items()
            ]
            for number, done in self._rows(slices, stopper):
                if done is not None and number in missing:
                    index, part = missing.pop(number)
                    yield left[index], replace(done, number=part)
            if stopper.stopping:
                return
        for index, part in missing.values():
            photo = left[index].photos[part]
            reason = "actors died over it (out of memory?)"
            yield (
                left[index],
                Done(part, died_row(photo, self._settings.source, self.model, reason)),
            )
        for unit in left.values():
            yield unit, None

    def _rows(
        self, slices: list[list[_Numbered]], stopper: Stopper
    ) -> Iterator[tuple[int, Done | None]]:
        if not slices:
            return
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what is lost is missed, and tried again
        for name in ("ray.data", "ray"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        items = [{"slice": pickle.dumps(one)} for one in slices]
        with warnings.catch_warnings():
            # Without a bound Ray tries a slice that kills its actor for ever; the argument is to
            # be renamed in Ray 2.64.
            warnings.simplefilter("ignore", DeprecationWarning)
            rows = data.from_items(items, override_num_blocks=len(items)).map_batches(
                SliceActor,
                batch_size=1,
                fn_constructor_kwargs={"settings": self._settings, "make": self._make},
                compute=data.ActorPoolStrategy(size=min(self._workers, len(items))),
                num_cpus=1,
                max_restarts=-1,
                max_task_retries=_TASK_RETRIES,
            )
        try:
            for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
                for blob in batch["rows"]:
                    yield from pickle.loads(blob)
                if stopper.stopping:
                    return
        except self._ray.exceptions.RayError as error:
            raise PlateHideError(f"Ray: {error}") from error

    def close(self) -> None:
        """Leave the cluster (a local one of our own ends)."""
        if self._ours:
            with suppress(Exception):
                self._ray.shutdown()


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None or os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, **options)
            return
        try:
            ray.init(address="auto", **options)
        except ConnectionError:
            ray.init(num_cpus=workers, include_dashboard=False, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UsageError(f"no Ray cluster: {error}") from error


def _slices(units: Iterable[_Numbered], photos: int) -> list[list[_Numbered]]:
    """Consecutive units together, about ``photos`` photos a slice."""
    slices: list[list[_Numbered]] = []
    room = 0
    for index, unit in units:
        if room <= 0:
            slices.append([])
            room = photos
        slices[-1].append((index, unit))
        room -= len(unit.photos)
    return slices
