"""The manifest: what happened to each photo, in shards that a later run can read one by one.

    MANIFEST/manifest.json                          shards, grouping, format; runs
    MANIFEST/shard-00017/part-000001.jsonl          rows as they came (JSON lines)
    MANIFEST/shard-00017/part-000002.parquet        or all rows of a finished shard

In a shard the row in the last part counts. When a run finishes a shard that has several rows for
a photo, the shard is rewritten as one part, so that each photo has exactly one row.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Generic, Literal, TypeVar

from platehide.batch.listing import Grouping
from platehide.batch.stores import LocalStore, Store, need, open_store
from platehide.errors import PlateHideError, UsageError
from platehide.report_file import to_line

T = TypeVar("T")

STATE_NAME = "manifest.json"
FORMAT = 1
MAX_STATE_BYTES = 64 << 20
MAX_PART_BYTES = 8 << 30
PartFormat = Literal["jsonl", "parquet"]

_PART = re.compile(r"part-(\d{6})\.(jsonl|parquet)$")
_OPEN_FILES = 64
_ROWS_A_PART, _SECONDS_A_PART = 500, 30.0


@dataclass(frozen=True)
class State:
    """What does not change over the runs of one archive, and the runs so far."""

    shards: int
    grouping: Grouping
    source: str
    destination: str
    part_format: PartFormat = "jsonl"
    runs: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> bytes:
        """The text of ``manifest.json``."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()


@dataclass
class ShardRows(Generic[T]):
    """Rows of one shard: the final one of each photo, by key.

    Attributes:
        rows: what the reader makes of each row.
        parts: names of the parts they came from.
        tidy: one part, no photo twice, no torn line.
    """

    rows: dict[str, T] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    tidy: bool = True


class Manifest:
    """Reads and writes a manifest. One driver writes at a time."""

    def __init__(self, url: str) -> None:
        self.store: Store = open_store(url)
        self._local = isinstance(self.store, LocalStore)
        self._files: dict[int, BinaryIO] = {}
        self._buffers: dict[int, list[bytes]] = {}
        self._since: dict[int, float] = {}
        self._numbers: dict[int, int] = {}
        self._lock: int | None = None

    def state(self) -> State | None:
        """The state of an existing manifest, or ``None``.

        Raises:
            UsageError: it is damaged or of another version.
        """
        if not self.store.has(STATE_NAME):
            return None
        try:
            raw = json.loads(self.store.read(STATE_NAME, MAX_STATE_BYTES))
            if raw.pop("format") != FORMAT:
                raise ValueError("another format")
            return State(
                **{**raw, "grouping": Grouping(**raw["grouping"]), "runs": tuple(raw["runs"])}
            )
        except (ValueError, KeyError, TypeError, AttributeError, PlateHideError) as error:
            raise UsageError(f"{self.store.full(STATE_NAME)} cannot be used: {error}") from error

    def save(self, state: State) -> None:
        """Write the state."""
        self.store.write(STATE_NAME, state.to_json())

    def lock(self) -> None:
        """Keep other drivers on this machine away (local manifests).

        Raises:
            UsageError: another one is at work.
        """
        if not self._local:
            return
        try:
            import fcntl
        except ImportError:
            return
        os.makedirs(self.store.url, exist_ok=True)  # noqa: PTH103
        self._lock = os.open(self.store.url, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing {self.store.url}") from error

    def parts(self, shard: int) -> list[str]:
        """Names of a shard's parts, the oldest first."""
        return [n for n in self.store.names(_folder(shard)) if _PART.match(n)]

    def load(self, shard: int, convert: Callable[[dict[str, Any]], T]) -> ShardRows[T]:
        """The final rows of a shard, each as what ``convert`` makes of it."""
        found: ShardRows[T] = ShardRows(parts=self.parts(shard))
        found.tidy = len(found.parts) <= 1
        for name in found.parts:
            for row in self._read_part(f"{_folder(shard)}/{name}"):
                if row is None or row["key"] in found.rows:
                    found.tidy = False
                if row is not None:
                    found.rows[row["key"]] = convert(row)
        return found

    def rows(self, shards: int) -> Iterator[dict[str, Any]]:
        """The final row of every photo."""
        for shard in range(shards):
            yield from self.load(shard, dict).rows.values()

    def _read_part(self, key: str) -> Iterator[dict[str, Any] | None]:
        """Rows of a part; ``None`` for a torn last line."""
        data = self.store.read(key, MAX_PART_BYTES)
        if key.endswith(".parquet"):
            yield from _from_parquet(data)
            return
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        for number, line in enumerate(lines):
            if not line:
                continue
            try:
                row = json.loads(line)
                yield row if isinstance(row, dict) and "key" in row else None
            except ValueError as error:
                if number < len(lines) - 2:
                    raise PlateHideError(
                        f"{self.store.full(key)}, line {number + 1}: damaged ({error})"
                    ) from error
                yield None

    def add(self, shard: int, row: Mapping[str, Any]) -> None:
        """Append a final row.

        Raises:
            PlateHideError: it could not be written (a full disk); nothing of it stays.
        """
        data = to_line(row).encode("utf-8")
        if not self._local:
            self._buffers.setdefault(shard, []).append(data)
            self._since.setdefault(shard, time.monotonic())
            self._put_buffers(
                lambda s: (
                    len(self._buffers[s]) >= _ROWS_A_PART
                    or time.monotonic() - self._since[s] > _SECONDS_A_PART
                )
            )
            return
        file = self._file(shard)
        before = file.tell()
        try:
            if file.write(data) != len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with suppress(OSError):
                file.truncate(before)
                file.seek(before)
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> PlateHideError:
        return PlateHideError(
            f"cannot write the manifest {self.store.url}: {error.strerror or error}",
            code="write_failed",
        )

    def _file(self, shard: int) -> BinaryIO:
        if shard not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            path = self.store.full(f"{_folder(shard)}/{self._name(shard, reuse=True)}")
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                file = open(path, "ab", buffering=0)  # noqa: PTH123, SIM115
            except OSError as error:
                raise self._failed(error) from error
            self._files[shard] = file
        return self._files[shard]

    def _name(self, shard: int, *, reuse: bool = False, suffix: str = "jsonl") -> str:
        """Name of the next part; with ``reuse`` this run's current one."""
        if shard not in self._numbers or not reuse:
            last = self._numbers.get(shard)
            if last is None:
                names = self.parts(shard)
                last = int(names[-1][5:11]) if names else 0
            self._numbers[shard] = last + 1
        return f"part-{self._numbers[shard]:06}.{suffix}"

    def _put_buffers(self, due: Callable[[int], bool]) -> None:
        for shard in [s for s in self._buffers if due(s)]:
            key = f"{_folder(shard)}/{self._name(shard)}"
            try:
                self.store.write(key, b"".join(self._buffers[shard]))
            except OSError as error:
                raise self._failed(error) from error
            del self._buffers[shard], self._since[shard]

    def finish_shard(self, shard: int, part_format: PartFormat, *, changed: bool) -> None:
        """Make a finished shard one part with one row a photo, in the wanted format."""
        self._put_buffers(lambda s: s == shard)
        if shard in self._files:
            self._files.pop(shard).close()
        names = self.parts(shard)
        wanted = len(names) <= 1 and all(n.endswith("." + part_format) for n in names)
        if not names or (wanted and not changed):
            return
        found = self.load(shard, dict)
        if wanted and found.tidy:
            return
        rows = found.rows.values()
        if part_format == "parquet" and not _is_utf8(rows):
            part_format = "jsonl"  # file names that are not UTF-8, which Parquet cannot hold
            if len(names) == 1 and found.tidy:
                return
        data = (
            _to_parquet(rows)
            if part_format == "parquet"
            else "".join(map(to_line, rows)).encode("utf-8")
        )
        # The new part counts as soon as it is there: a kill before the removals changes nothing.
        name = self._name(shard, suffix=part_format)
        try:
            self.store.write(f"{_folder(shard)}/{name}", data)
            for old in names:
                self.store.remove(f"{_folder(shard)}/{old}")
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Write what is buffered and close the files."""
        self._put_buffers(lambda s: True)
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _folder(shard: int) -> str:
    return f"shard-{shard:05}"


def timestamp() -> str:
    """Now, in UTC, for the state."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_AS_JSON = b"platehide_json_columns"
"""Key of the Parquet metadata: names of the columns that hold JSON texts, because their values
are of several kinds or have parts of their own.
"""

_MS = ("read", "decode", "detect", "cover", "encode", "verify", "write", "cpu", "total")


def _to_parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    pa, parquet = need("pyarrow"), need("pyarrow.parquet")
    points = pa.list_(pa.list_(pa.float64()))
    known: dict[str, Any] = {
        "image": pa.string(),
        "output": pa.string(),
        "status": pa.string(),
        "plates": pa.list_(pa.struct([("quad", points), ("confidence", pa.float64())])),
        "painted": pa.list_(points),
        "model": pa.string(),
        "ms": pa.struct([(name, pa.float64()) for name in _MS]),
        "edit": pa.string(),
        "removed": pa.list_(pa.string()),
        "error": pa.string(),
        "code": pa.string(),
        "key": pa.string(),
        "output_sha256": pa.string(),
    }
    listed = [dict(row) for row in rows]
    columns = {
        name: pa.array([row.get(name) for row in listed], kind) for name, kind in known.items()
    }
    as_json = []
    for name in sorted({name for row in listed for name in row} - known.keys()):
        values = [row.get(name) for row in listed]
        if not _is_plain_column(values):
            as_json.append(name)
            values = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
        columns[name] = pa.array(values)
    table = pa.table(columns)
    table = table.replace_schema_metadata({_AS_JSON: json.dumps(as_json)})
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()


def _is_utf8(rows: Iterable[Mapping[str, Any]]) -> bool:
    try:
        for row in rows:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_plain_column(values: Iterable[Any]) -> bool:
    """True for texts, truth values or numbers of one kind, which a column can hold as they are."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return all(-(2**63) <= value < 2**63 for value in values if value is not None)
    return len(kinds) <= 1 and kinds <= {str, bool, float}


def _from_parquet(data: bytes) -> Iterator[dict[str, Any]]:
    file = need("pyarrow.parquet").ParquetFile(io.BytesIO(data))
    as_json = json.loads((file.schema_arrow.metadata or {}).get(_AS_JSON, b"[]"))
    for batch in file.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            for name in as_json:
                if row[name] is not None:
                    row[name] = json.loads(row[name])
            kept = {name: value for name, value in row.items() if value is not None}
            kept["ms"] = {n: v for n, v in (row["ms"] or {}).items() if v is not None}
            kept["output"] = row["output"]
            yield kept
