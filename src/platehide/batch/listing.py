"""What the archive holds: a streamed listing, partitioned into shards on local disk.

Nothing here grows with the archive except the files of the spool (names, no pixels).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from platehide.batch.stores import LocalStore, Store, join_url, need, open_store
from platehide.errors import UsageError
from platehide.files import is_photo_name, is_running, planned_name, printable

MANIFEST_FOLDER = "_platehide"
ROWS_PER_SHARD = 20_000
MAX_SHARDS = 8192
_BUFFERED_LINES = 200_000
_SPOOL_PREFIX = "platehide-batch-"
PATH_COLUMNS = ("image", "path", "url", "uri", "file", "filename", "file_name")
"""Names a list's column of paths may have, unless it is given; the first that is there counts."""

LIST_SUFFIXES = (".jsonl", ".ndjson", ".parquet")


class Entry(NamedTuple):
    """One photo of the archive (a tuple, since there are millions).

    Attributes:
        key: its name below the source, and (before a change of format) below the destination.
        location: where it is read, if that is not ``key`` below the source.
        columns: metadata of a list, carried through to the manifest.
    """

    key: str
    location: str | None = None
    columns: dict[str, Any] | None = None

    def line(self) -> str:
        """One line of the spool."""
        if self.location is None and not self.columns:
            return json.dumps([self.key])
        return json.dumps([self.key, self.location, self.columns])

    @staticmethod
    def parse(line: str) -> Entry:
        """The inverse of ``line``."""
        return Entry(*json.loads(line))


@dataclass(frozen=True)
class Grouping:
    """Which photos belong to one ad: ``folder``, ``column`` (with its name) or ``off``."""

    kind: str = "folder"
    column: str | None = None

    def group(self, entry: Entry) -> str | None:
        """The ad of a photo; ``None`` for a photo that stands alone."""
        if self.kind == "column":
            value = (entry.columns or {}).get(self.column or "")
            return None if value is None else str(value)
        if self.kind == "folder":
            return entry.key.rpartition("/")[0] or None
        return None

    def shard(self, entry: Entry, shards: int) -> int:
        """Shard 0…shards-1: photos of one ad, and inputs of one output, share a shard."""
        group = self.group(entry)
        name = planned_name(entry.key) if group is None else group
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % shards


class Source:
    """The photos of a folder or URL, or those that a list names.

    Args:
        url: a folder or URL; or a Parquet or JSON-lines file with one photo a row.
        root: what relative paths of a list are relative to (default: the list's own folder).
        path_column: the list's column with the path (default: see ``PATH_COLUMNS``).

    Raises:
        UsageError: it does not exist or is no list.
    """

    def __init__(self, url: str, root: str | None = None, path_column: str | None = None) -> None:
        self.url = url
        self.is_list = url.lower().endswith(LIST_SUFFIXES) and not os.path.isdir(url)  # noqa: PTH112
        folder, _, self._name = url.rpartition("/")
        if self.is_list:
            folder = folder or ("/" if url.startswith("/") else ".")
            self.store = open_store(root if root is not None else folder)
            self._list_store = open_store(folder)
            if not self._list_store.has(self._name):
                raise UsageError(f"no such list, or it is empty: {printable(url)}")
        else:
            if root is not None or path_column is not None:
                raise UsageError("--root and --path-column go with a list of photos")
            self.store = open_store(url)
            if isinstance(self.store, LocalStore) and not Path(self.store.url).is_dir():
                raise UsageError(f"no such folder: {printable(url)}")
        self.left_out = 0
        self._column = path_column

    def entries(self, skip: str | None) -> Iterator[Entry]:
        """All photos, streamed."""
        if self.is_list:
            rows = self._parquet() if self.url.lower().endswith(".parquet") else self._jsonl()
            yield from (self._entry(number, row) for number, row in enumerate(rows, 1))
            return
        for key in self.store.walk(skip):
            if is_photo_name(key.rpartition("/")[2]):
                yield Entry(key)
            else:
                self.left_out += 1

    def _open(self) -> Any:
        if isinstance(self._list_store, LocalStore):
            return open(self._list_store.full(self._name), "rb")  # noqa: PTH123
        return need("fsspec").open(self.url, "rb").open()

    def _jsonl(self) -> Iterator[dict[str, Any]]:
        with self._open() as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UsageError(f"{self.url}, line {number}: not JSON ({error})") from error
                if isinstance(row, str):
                    row = {PATH_COLUMNS[0]: row}
                if not isinstance(row, dict):
                    raise UsageError(f"{self.url}, line {number}: expected an object")
                yield row

    def _parquet(self) -> Iterator[dict[str, Any]]:
        parquet, arrow = need("pyarrow.parquet"), need("pyarrow")
        with self._open() as file:
            try:
                for batch in parquet.ParquetFile(file).iter_batches(batch_size=8192):
                    yield from batch.to_pylist()
            except arrow.ArrowException as error:
                raise UsageError(f"{self.url}: not a Parquet file ({error})") from error

    def _entry(self, number: int, row: dict[str, Any]) -> Entry:
        column = self._column or next((c for c in PATH_COLUMNS if c in row), PATH_COLUMNS[0])
        path = row.get(column)
        if not isinstance(path, str) or not path:
            raise UsageError(f"{self.url}, row {number}: no path in column {column!r}")
        columns = {name: _plain(value) for name, value in row.items() if name != column}
        scheme, separator, rest = path.partition("://")
        absolute = bool(separator) or path.startswith("/")
        root = self.store.url.rstrip("/") + "/"
        if absolute and path.startswith(root):
            path, absolute = path[len(root) :], False
        if absolute:
            key, location = (rest if separator else path).lstrip("/"), path
            if scheme == "file" and separator:
                location = "/" + key
        else:
            key, location = path, None
        parts = [part for part in key.split("/") if part not in ("", ".")]
        if not parts or ".." in parts or "\0" in key or parts[0] == MANIFEST_FOLDER:
            raise UsageError(
                f"{self.url}, row {number}: {printable(path)} cannot be a photo's name"
            )
        if location is None and "/".join(parts) != key:
            location = join_url(self.store.url, key)
        return Entry("/".join(parts), location, columns)


def _plain(value: Any) -> Any:
    """What JSON can hold: dates as text; no NaN, which pandas writes for "nothing"."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)


def _remove_abandoned(parent: Path) -> None:
    """Spools of drivers that were killed; they can be gigabytes."""
    for folder in parent.glob(f"{_SPOOL_PREFIX}*"):
        owner = folder.name.removeprefix(_SPOOL_PREFIX).split("-")[0]
        if owner.isdigit() and not is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


class Spool:
    """The listing on local disk, partitioned by shard.

    Args:
        shards: number of shards, or ``None`` to choose it when the listing is complete.
        parent: folder for the temporary files (default: the system's).
    """

    def __init__(self, grouping: Grouping, shards: int | None, parent: str | None = None) -> None:
        self.grouping = grouping
        try:
            _remove_abandoned(Path(parent or tempfile.gettempdir()))
            prefix = f"{_SPOOL_PREFIX}{os.getpid()}-"
            self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as error:
            raise UsageError(f"no room for the listing: {error}") from error
        self.count = 0
        self._wanted = shards
        self.shards = shards or 1
        self._buffers: dict[int, list[str]] = {}
        self._buffered = 0

    def fill(self, entries: Iterable[Entry]) -> Iterator[int]:
        """Take all entries; yields the count from time to time (for a progress display)."""
        for entry in entries:
            shard = self.grouping.shard(entry, self.shards) if self._wanted else 0
            self._put(shard, entry.line())
            self.count += 1
            if self.count % 1000 == 0:
                yield self.count
        self._flush()
        if self._wanted is None:
            shards = min(MAX_SHARDS, max(1, -(-self.count // ROWS_PER_SHARD)))
            if shards > 1:
                self._partition(shards)
            self.shards = shards
        yield self.count

    def _partition(self, shards: int) -> None:
        whole = self._path(0).rename(self.folder / "whole")
        with whole.open(encoding="ascii") as file:
            for line in file:
                self._put(self.grouping.shard(Entry.parse(line), shards), line.rstrip("\n"))
        self._flush()
        whole.unlink()

    def _put(self, shard: int, line: str) -> None:
        self._buffers.setdefault(shard, []).append(line)
        self._buffered += 1
        if self._buffered >= _BUFFERED_LINES:
            self._flush()

    def _flush(self) -> None:
        for shard, lines in self._buffers.items():
            with self._path(shard).open("a", encoding="ascii") as file:
                file.write("\n".join(lines) + "\n")
        self._buffers.clear()
        self._buffered = 0

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05}"

    def read(self, shard: int) -> Iterator[Entry]:
        """Entries of one shard, in the order of the listing."""
        path = self._path(shard)
        if path.exists():
            with path.open(encoding="ascii") as file:
                yield from map(Entry.parse, file)

    def close(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def key_below(store: Store, other: Store) -> str | None:
    """The key of ``other``'s root below ``store``'s ("" for the same); ``None`` if elsewhere."""
    if isinstance(store, LocalStore) != isinstance(other, LocalStore):
        return None
    outer, inner = store.url, other.url
    if isinstance(store, LocalStore):
        outer, inner = os.path.realpath(outer), os.path.realpath(inner)
    outer, inner = outer.rstrip("/"), inner.rstrip("/")
    if outer == inner:
        return ""
    return inner[len(outer) + 1 :] if inner.startswith(outer + "/") else None
