"""The batch job: list, plan, hide, keep the manifest, sum up."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from platehide.batch.facts import RowFacts
from platehide.batch.listing import MANIFEST_FOLDER, Entry, Grouping, Source, Spool, key_below
from platehide.batch.manifest import Manifest, PartFormat, State, timestamp
from platehide.batch.plan import Redo, ShardPlan, Unit, UnitPhoto, plan_shard
from platehide.batch.report import contact_sheet
from platehide.batch.stores import LocalStore, Store, need, open_store
from platehide.batch.summary import DEFAULT_PRICE, Summary
from platehide.batch.worker import (
    DISK_FULL,
    BatchSettings,
    Done,
    image_name,
    manifest_row,
)
from platehide.errors import ImageError, PlateHideError, UsageError
from platehide.files import printable, write_result
from platehide.jobs import HiderFactory, HideSettings, check_settings, failed_row
from platehide.progress import Progress
from platehide.report_file import FINISHED
from platehide.work import Stopper, usable_cores

PROG = "platehide batch"
_LISTED_FAILURES = 20
_SUSPICIOUS_READS = 20
_SHEET_PHOTO_BYTES = 256 << 20


@dataclass(frozen=True)
class BatchOptions:
    """What ``platehide batch`` was asked to do; see its ``--help``."""

    source: str
    destination: str
    hide: HideSettings = field(default_factory=HideSettings)
    engine: Literal["processes", "ray"] = "processes"
    workers: int | None = None
    shards: int | None = None
    manifest: str | None = None
    part_format: PartFormat | None = None
    resume: bool = False
    redo: Redo = field(default_factory=Redo)
    check_outputs: bool = False
    limit_rate: float | None = None
    dry_run: bool = False
    root: str | None = None
    path_column: str | None = None
    grouping: Grouping = field(default_factory=Grouping)
    spool: str | None = None
    sheet: str | None = None
    price: float = DEFAULT_PRICE
    ray_address: str | None = None
    quiet: bool = False


class Engine(Protocol):
    """Runs units somewhere and yields one row a photo."""

    model: str

    def run(self, units: Iterable[Unit], stopper: Stopper) -> Iterator[tuple[Unit, Done | None]]:
        """Units in, rows out; ``None`` when all of a unit's rows have come."""

    def close(self) -> None:
        """Free what is held."""


def run_batch(options: BatchOptions, make: HiderFactory) -> int:
    """Do the job; the exit code (0 all fine, 1 some photos failed, 128 + signal interrupted).

    Raises:
        UsageError: it cannot be done as asked; nothing was written.
        PlateHideError: a store cannot be reached any more, or takes nothing more.
    """
    try:
        job = _Job(options, make)
    except OSError as error:
        raise UsageError(f"a store cannot be used: {error}") from error
    try:
        return job.run()
    except BrokenPipeError:
        raise  # whoever reads the summary has gone
    except OSError as error:
        raise PlateHideError(
            f"a store cannot be used any more ({error}); --resume goes on", code="unreadable"
        ) from error


class _Job:
    def __init__(self, options: BatchOptions, make: HiderFactory) -> None:
        self.options = options
        self.make = make
        check_settings(options.hide)  # now, not when a hundred million names are listed
        self.source = Source(options.source, options.root, options.path_column)
        self.destination = open_store(options.destination)
        self.manifest = Manifest(options.manifest or self.destination.full(MANIFEST_FOLDER))
        self.state = self._state()
        self.skip = self._check_places()
        self.summary = Summary()
        self.stopper = Stopper()
        self.fresh: Counter[str] = Counter()
        self.failures = 0
        self.open_units: dict[int, int] = {}
        self.planned: set[int] = set()
        self.reads_failed = 0

    def _state(self) -> State:
        if self.options.part_format == "parquet":
            need("pyarrow.parquet")  # now, not when the first shard is finished
        old = self.manifest.state()
        if old is None:
            return State(
                self.options.shards or 0,
                self.options.grouping,
                self.source.url,
                self.options.destination,
                self.options.part_format or "jsonl",
            )
        if not (self.options.resume or self.options.dry_run):
            raise UsageError(
                f"{printable(self.manifest.store.url)} has the manifest of an earlier run; "
                "--resume goes on with it"
            )
        if self.options.shards not in (None, old.shards):
            raise UsageError(f"this archive has {old.shards} shards; that cannot be changed")
        if self.options.grouping not in (Grouping(), old.grouping):
            raise UsageError(f"this archive was begun with --gallery {_words(old.grouping)}")
        return dataclasses.replace(old, part_format=self.options.part_format or old.part_format)

    def _check_places(self) -> str | None:
        """The key of the destination below the source, which is not listed."""
        skip = key_below(self.source.store, self.destination)
        if skip == "":
            raise UsageError("source and destination are the same; photos are not replaced")
        if key_below(self.destination, self.source.store) is not None:
            raise UsageError("the source lies in the destination; photos could be replaced")
        inside = key_below(self.destination, self.manifest.store)
        if inside == "":
            raise UsageError("the manifest needs a folder of its own")
        return skip

    def run(self) -> int:
        started = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(self.stopper.catching())
            spool = Spool(self.state.grouping, self.state.shards or None, self.options.spool)
            stack.callback(spool.close)
            if not self._list(spool):
                return self.stopper.exit_code
            self.state = dataclasses.replace(self.state, shards=spool.shards)
            if spool.count == 0:
                raise UsageError(f"no photos found in {printable(self.source.url)}")
            if self.options.dry_run:
                return self._dry_run(spool)
            engine = self._engine(spool.count)
            stack.callback(engine.close)
            if self.stopper.stopping:
                return self.stopper.exit_code
            self._begin(engine)
            stack.callback(self.manifest.close)
            progress = stack.enter_context(Progress(spool.count, quiet=self.options.quiet))
            for path, reason in self._unreadable():
                progress.line(f"{PROG}: {printable(path)}: cannot be listed: {reason}")
            self._work(engine, spool, progress)
            self.manifest.close()
        return self._finish(time.monotonic() - started)

    def _unreadable(self) -> list[tuple[str, str]]:
        store = self.source.store
        return store.unreadable if isinstance(store, LocalStore) else []

    def _list(self, spool: Spool) -> bool:
        """True when all is listed, False when the run was stopped before."""
        with Progress(None, quiet=self.options.quiet) as progress:
            progress.note("listing")
            shown = 0
            try:
                for count in spool.fill(self.source.entries(self.skip)):
                    progress.advance(count - shown)
                    shown = count
                    if self.stopper.stopping:
                        return False
            except OSError as error:
                if spool.count:
                    raise
                url = printable(self.source.url)
                raise UsageError(f"{url} cannot be listed: {error}") from error
        return True

    def _plan(self, spool: Spool, shard: int) -> ShardPlan:
        rows = self.manifest.load(shard, RowFacts.of).rows
        redo = self.options.redo
        if isinstance(self.destination, LocalStore) or self.options.check_outputs:
            redo = dataclasses.replace(redo, missing=lambda key: not self.destination.has(key))
        return plan_shard(shard, spool.read(shard), rows, self.state.grouping, redo)

    def _dry_run(self, spool: Spool) -> int:
        todo = listed = kept_failed = clashes = 0
        for shard in range(spool.shards):
            plan = self._plan(spool, shard)
            listed += plan.listed
            todo += plan.todo
            clashes += len(plan.clashes)
            kept_failed += sum(facts.status not in FINISHED for facts in plan.kept)
        print(f"{listed} photos in {spool.shards} shards: {todo} to do, {listed - todo} settled")
        if self.source.left_out:
            print(f"{self.source.left_out} files without an image extension are left out")
        if kept_failed:
            print(f"{kept_failed} of the settled were set aside; --retry-failed tries them again")
        if clashes:
            print(f"{clashes} photos would take the output of another one and be set aside")
        for path, reason in self._unreadable():
            print(f"{PROG}: {printable(path)}: cannot be listed: {reason}", file=sys.stderr)
        return 1 if self._unreadable() else 0

    def _engine(self, photos: int) -> Engine:
        options = self.options
        settings = BatchSettings(
            options.hide,
            self.source.store.url,
            options.destination,
            gallery=self.state.grouping.kind != "off",
        )
        if options.engine == "ray":
            need("ray.data")
            from platehide.batch.ray_engine import RayEngine

            return RayEngine(
                settings, self.make, options.workers, options.ray_address, options.limit_rate
            )
        from platehide.batch.processes import ProcessEngine

        workers = min(options.workers or usable_cores(), max(1, photos))
        pause = workers / options.limit_rate if options.limit_rate else 0.0
        settings = dataclasses.replace(settings, seconds_a_photo=pause)
        return ProcessEngine(settings, self.make, workers, stopper=self.stopper, died=self._tidy)

    def _tidy(self, unit: Unit) -> None:
        self.destination.tidy(photo.entry.key for photo in unit.photos)

    def _begin(self, engine: Engine) -> None:
        number = len(self.state.runs) + 1
        run = {
            "number": number,
            "started": timestamp(),
            "model": engine.model,
            "engine": self.options.engine,
            "source": self.source.url,
        }
        self.state = dataclasses.replace(self.state, runs=(*self.state.runs, run))
        try:
            self.manifest.lock()
            self.manifest.save(self.state)
        except OSError as error:
            raise UsageError(
                f"cannot write to {printable(self.manifest.store.url)}: {error.strerror or error}"
            ) from error

    def _units(self, spool: Spool, engine: Engine, progress: Progress) -> Iterator[Unit]:
        """Units of all shards; what is settled is counted, what clashes is set aside."""
        resumed = len(self.state.runs) > 1
        for shard in range(spool.shards):
            plan = self._plan(spool, shard)
            self.open_units[shard] = len(plan.units)
            progress.shrink(len(plan.kept))
            for facts in plan.kept:
                self.summary.add(facts)
            for entry in plan.clashes:
                self._take(shard, _clash_row(entry, self.source.store, engine.model), progress)
            for unit in plan.units:
                if resumed:
                    self._tidy(unit)
                yield unit
            self.planned.add(shard)
            self._maybe_finish(shard, changed=plan.todo > 0)

    def _maybe_finish(self, shard: int, *, changed: bool) -> None:
        if shard in self.planned and self.open_units[shard] == 0:
            del self.open_units[shard]
            self.manifest.finish_shard(shard, self.state.part_format, changed=changed)

    def _work(self, engine: Engine, spool: Spool, progress: Progress) -> None:
        units = self._units(spool, engine, progress)
        for unit, done in engine.run(units, self.stopper):
            if done is None:
                self.open_units[unit.shard] -= 1
                self._maybe_finish(unit.shard, changed=True)
                continue
            photo = unit.photos[done.number]
            if done.row.get("code") == DISK_FULL:
                raise PlateHideError(
                    f"{done.row['error']}; what is there is whole, --resume goes on",
                    code="write_failed",
                )
            if photo.known is not None:
                # An earlier row with ``none`` is replaced after a closer look.
                self.summary.replace_none()
                progress.shrink(-1)
            self._take(unit.shard, done.row, progress)

    def _take(self, shard: int, row: dict[str, Any], progress: Progress) -> None:
        self.manifest.add(shard, row)
        facts = RowFacts.of(row)
        self.summary.add(facts)
        self.fresh[facts.status] += 1
        if facts.status not in FINISHED:
            self.failures += 1
            if self.failures <= _LISTED_FAILURES:
                reason = printable(str(row.get("error", "")))
                progress.line(f"{PROG}: {printable(facts.image)}: {facts.status}: {reason}")
            if self.failures == _LISTED_FAILURES:
                progress.line(f"{PROG}: further photos set aside are in the manifest only")
        progress.note(self._shares())
        progress.advance()
        self._watch_source(facts)

    def _shares(self) -> str:
        total = max(1, self.fresh.total())
        shares = " ".join(
            f"{name} {100 * self.fresh[name] / total:.0f}%"
            for name in ("hidden", "none", "unsure", "error")
        )
        spent = self.summary.total_ms + self.summary.read_ms + self.summary.write_ms
        waits = (self.summary.read_ms, self.summary.write_ms)
        read, write = (100 * ms / max(1e-9, spent) for ms in waits)
        return f"{shares}, waiting to read {read:.0f}% write {write:.0f}%"

    def _watch_source(self, facts: RowFacts) -> None:
        """End the run when the whole source has gone, instead of setting the rest aside."""
        lost = facts.code in ("not_found", "unreadable")
        self.reads_failed = self.reads_failed + 1 if lost else 0
        if self.reads_failed % _SUSPICIOUS_READS == 0 and lost and not self.source.store.alive():
            raise PlateHideError(
                f"{printable(self.source.store.url)} has vanished; --resume goes on later",
                code="unreadable",
            )

    def _finish(self, seconds: float) -> int:
        for line in self.summary.lines(self.options.price):
            print(line)
        done = self.fresh.total()
        rate = done / max(1e-9, seconds)
        print(f"this run: {done} photos in {seconds:.1f} s, {rate:.2f} photos/s")
        if self.source.left_out:
            print(f"{self.source.left_out} files without an image extension are left out")
        self._sheet()
        if self.stopper.stopping:
            print(f"{PROG}: interrupted; --resume goes on", file=sys.stderr)
            return self.stopper.exit_code
        return 1 if self.summary.failed or self._unreadable() else 0

    def _sheet(self) -> None:
        doubtful = self.summary.doubtful()
        if not doubtful or self.options.sheet == "":
            return
        name = self.options.sheet or f"platehide-batch-{time.strftime('%Y%m%d-%H%M%S')}.jpg"
        if is_below(name, self.destination):
            print(f"{PROG}: no contact sheet: {name} lies in the destination", file=sys.stderr)
            return
        sheet = contact_sheet(doubtful, read_any)
        try:
            write_result(name, sheet or b"")
        except OSError as error:
            print(f"{PROG}: no contact sheet: {error}", file=sys.stderr)
            return
        print(f"the {len(doubtful)} most doubtful photos: {name}")


def read_any(image: str) -> bytes:
    """A photo by its full path or URL.

    Raises:
        ImageError: it cannot be read.
    """
    folder, _, name = image.rpartition("/")
    with contextlib.suppress(UsageError):
        default = "/" if image.startswith("/") else "."
        return open_store(folder or default).read(name, _SHEET_PHOTO_BYTES)
    raise ImageError("cannot be read", code="unreadable")


def is_below(file: str, store: Store) -> bool:
    """True if a local file would lie in a local store."""
    parent = LocalStore(str(Path(file).absolute().parent))
    return key_below(store, parent) is not None


def _words(grouping: Grouping) -> str:
    return grouping.column or grouping.kind


def _clash_row(entry: Entry, store: Store, model: str) -> dict[str, Any]:
    photo = UnitPhoto(entry)
    image = image_name(photo, store.url)
    reason = "another photo of the archive has the same output"
    return manifest_row(photo, failed_row(image, model, "name_taken", reason))
