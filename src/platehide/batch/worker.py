"""What a batch worker does: read, hide, write, photo after photo, the waits overlapped."""

from __future__ import annotations

import copy
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from platehide.batch.gallery import LOWER, CloserDetector, usual_threshold
from platehide.batch.plan import Unit, UnitPhoto
from platehide.batch.stores import FULL, Store, join_url, open_store
from platehide.errors import ImageError
from platehide.files import byte_limit, planned_name
from platehide.jobs import Hider, HiderFactory, HideSettings, failed_row
from platehide.types import HideResult

DISK_FULL = "disk_full"
_READ_AHEAD, _WRITE_BEHIND = 2, 2
_HELD_PHOTOS = 64
_OWN_NAMES = frozenset(
    (
        *("key", "output_sha256", "second_look", "error", "code", "edit", "removed"),
        *("already_covered", "audit"),
    )
)


@dataclass(frozen=True)
class BatchSettings:
    """What makes a batch worker; travels to other processes and machines.

    Attributes:
        seconds_a_photo: pause to keep between the starts of two photos (a rate limit).
    """

    hide: HideSettings
    source: str
    destination: str
    gallery: bool = True
    seconds_a_photo: float = 0.0


@dataclass(frozen=True)
class _Look:
    """What hiding gave for photo ``number`` of a unit: a result, or the row of a failure."""

    number: int
    result: HideResult | dict[str, Any]
    read_ms: float
    cpu_ms: float

    @property
    def status(self) -> str:
        return "error" if isinstance(self.result, dict) else self.result.status


@dataclass(frozen=True)
class Done:
    """A final row: number of the photo in its unit, the row."""

    number: int
    row: dict[str, Any]


def make_worker(settings: BatchSettings, make: HiderFactory) -> BatchWorker:
    """A worker with its model loaded and its stores open."""
    return BatchWorker(settings, make(settings.hide))


@dataclass
class BatchWorker:
    """Handler of the pool, and of Ray's actors."""

    settings: BatchSettings
    hider: Hider
    _closer: Hider | None = None
    _stores: dict[str, Store] = field(default_factory=dict)
    _next_start: float = 0.0

    def __post_init__(self) -> None:
        self._source = open_store(self.settings.source)
        self._destination = open_store(self.settings.destination)
        self._reader = ThreadPoolExecutor(1, "read")
        self._writer = ThreadPoolExecutor(1, "write")

    @property
    def model(self) -> str:
        """``name@version``."""
        return self.hider.detector.model

    def work(self, unit: Unit, begin: Callable[[int], None]) -> Iterator[Done]:
        """Yield the final row of each photo of ``unit``.

        Photos of an ad on which nothing was found, or nothing certain, are written only when the
        others are done: if one of those has a plate, they are looked at again more closely first.
        """
        hold = unit.group is not None and self.settings.gallery
        plates = unit.plates_known
        held: list[_Look] = []
        doubts: dict[int, _Look] = {}
        stripped: list[int] = []  # held too, but not its pixels: there may be any number of them
        behind: deque[Future[Done]] = deque()

        def store(look: _Look, *, second_look: bool = False) -> Iterator[Done]:
            future = self._writer.submit(self._store, unit, look, second_look=second_look)
            behind.append(future)
            while len(behind) > _WRITE_BEHIND:
                yield behind.popleft().result()

        fresh = [n for n, photo in enumerate(unit.photos) if photo.known is None]
        for look in self._looks(unit, fresh, begin, self.hider):
            plates = plates or look.status == "hidden"
            if not hold or look.status not in ("none", "unsure"):
                yield from store(look)
            elif look.status == "unsure":
                doubts[look.number] = look
            elif plates or len(held) >= _HELD_PHOTOS:
                stripped.append(look.number)
            else:
                held.append(look)
        if hold and plates:
            known = [n for n, photo in enumerate(unit.photos) if photo.known is not None]
            again = sorted([*known, *stripped, *doubts, *(look.number for look in held)])
            for look in self._looks(unit, again, begin, self._closer_hider()):
                # Where there was a doubt, only a cover is an answer.
                doubt = doubts.get(look.number) if look.status == "none" else None
                yield from store(doubt or look, second_look=True)
        else:
            for look in (*held, *doubts.values()):
                yield from store(look)
            for look in self._looks(unit, stripped, begin, self.hider):
                yield from store(look)
        while behind:
            yield behind.popleft().result()

    def _looks(
        self, unit: Unit, numbers: list[int], begin: Callable[[int], None], hider: Hider
    ) -> Iterator[_Look]:
        """Read and hide; the next photos are read meanwhile."""
        ahead: deque[tuple[int, Future[tuple[bytes | ImageError, float]]]] = deque()
        waiting = iter(numbers)

        def read_on() -> None:
            while len(ahead) < _READ_AHEAD:
                number = next(waiting, None)
                if number is None:
                    return
                ahead.append((number, self._reader.submit(self._read, unit.photos[number])))

        read_on()
        while ahead:
            number, reading = ahead.popleft()
            begin(number)
            self._keep_pace()
            data, read_ms = reading.result()
            read_on()
            before = time.thread_time()
            result = self._hide(unit.photos[number], data, hider)
            yield _Look(number, result, read_ms, (time.thread_time() - before) * 1e3)

    def _keep_pace(self) -> None:
        if self.settings.seconds_a_photo > 0:
            now = time.monotonic()
            time.sleep(max(0.0, self._next_start - now))
            self._next_start = max(now, self._next_start) + self.settings.seconds_a_photo

    def _read(self, photo: UnitPhoto) -> tuple[bytes | ImageError, float]:
        start = time.perf_counter()
        limit = byte_limit(self.hider.max_pixels)
        data: bytes | ImageError
        try:
            location = photo.entry.location
            if location is None:
                data = self._source.read(photo.entry.key, limit)
            else:
                folder, _, name = location.rpartition("/")
                data = self._store_of(folder or "/").read(name, limit)
        except ImageError as error:
            data = error
        except MemoryError:
            data = ImageError("not enough memory to read it", code="out_of_memory")
        except Exception as error:  # a store's own kinds of error
            data = ImageError(f"{type(error).__name__}: {error}"[:300], code="unreadable")
        return data, (time.perf_counter() - start) * 1e3

    def _store_of(self, folder: str) -> Store:
        if folder not in self._stores:
            if len(self._stores) > 1000:
                self._stores.clear()
            self._stores[folder] = open_store(folder)
        return self._stores[folder]

    def _image(self, photo: UnitPhoto) -> str:
        return image_name(photo, self.settings.source)

    def _hide(
        self, photo: UnitPhoto, data: bytes | ImageError, hider: Hider
    ) -> HideResult | dict[str, Any]:
        """The result, or the row of a failure."""
        image = self._image(photo)
        try:
            if isinstance(data, ImageError):
                raise data
            return hider.hide(data, audit=self.settings.hide.audit)
        except ImageError as error:
            return failed_row(image, self.model, error.code, str(error))
        except MemoryError:
            return failed_row(image, self.model, "out_of_memory", "not enough memory for it")
        except Exception as error:  # one odd photo must not end a run over a million others
            return failed_row(image, self.model, "internal", f"{type(error).__name__}: {error}")

    def _store(self, unit: Unit, look: _Look, *, second_look: bool = False) -> Done:
        """Write the output and make the row; a failure leaves no output behind."""
        start, before = time.perf_counter(), time.thread_time()
        photo, result = unit.photos[look.number], look.result
        key, image = photo.entry.key, self._image(photo)
        row: dict[str, Any]
        sha256 = None
        target = None
        if isinstance(result, dict):
            row = result
        elif result.data is None:
            row = result.row(image, None)
        elif result.suffix not in ("", ".jpg"):
            row = failed_row(image, self.model, "internal", f"unknown suffix {result.suffix!r}")
        else:
            target = key + result.suffix
            try:
                self._destination.write(target, result.data)
                row = result.row(image, self._destination.full(target))
                sha256 = hashlib.sha256(result.data).hexdigest()
            except Exception as error:
                full = isinstance(error, OSError) and error.errno in FULL
                reason = f"cannot write {self._destination.full(target)}: {error}"[:400]
                row = failed_row(image, self.model, DISK_FULL if full else "write_failed", reason)
        if row["output"] is None:
            self._remove_stale(photo)
        spent = (time.perf_counter() - start) * 1e3
        cpu = look.cpu_ms + (time.thread_time() - before) * 1e3
        measured = {"read": look.read_ms, "write": spent, "cpu": cpu}
        row = manifest_row(photo, row)
        row["ms"] = row["ms"] | {name: round(value, 2) for name, value in measured.items()}
        if sha256 is not None:
            row["output_sha256"] = sha256
        if second_look:
            row["second_look"] = True
        return Done(look.number, row)

    def _remove_stale(self, photo: UnitPhoto) -> None:
        """Nothing that an earlier run wrote may pass for the result of this one."""
        key = photo.entry.key
        names = {key, planned_name(key)}
        if photo.old_output is not None and photo.old_output.endswith(key + ".jpg"):
            names.add(key + ".jpg")
        for name in names:
            try:
                self._destination.remove(name)
            except OSError:
                continue

    def _closer_hider(self) -> Hider:
        if self._closer is None:
            conf = LOWER * usual_threshold(self.hider.detector, self.settings.hide.conf)
            self._closer = copy.copy(self.hider)  # the same in everything but the detector
            self._closer.detector = CloserDetector(self.hider.detector, conf)
        return self._closer


def image_name(photo: UnitPhoto, source: str) -> str:
    """Path or URL of a photo, as a report names it."""
    return photo.entry.location or join_url(source, photo.entry.key)


def manifest_row(photo: UnitPhoto, row: dict[str, Any]) -> dict[str, Any]:
    """A report row with the key and the list's columns (renamed where the row has the name)."""
    taken = row.keys() | _OWN_NAMES
    columns = (photo.entry.columns or {}).items()
    carried = {f"source_{n}" if n in taken else n: value for n, value in columns}
    return {**carried, **row, "key": photo.entry.key}
