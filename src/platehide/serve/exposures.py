"""The log of exposures: which unit saw which model. JSON lines, or a folder of Parquet files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from platehide.errors import UsageError
from platehide.serve.logs import event

ROLL_ROWS = 20_000
ROLL_SECONDS = 300.0
FIELDS = ("time", "experiment", "unit", "variant", "model", "request_id")


class Exposures(Protocol):
    """Takes one row an exposure."""

    def write(self, row: dict[str, object]) -> None:
        """Keep ``row`` (``FIELDS``, all text); it is on its way to the disk on return."""

    def close(self) -> None:
        """Finish what is open."""


def open_exposures(path: Path, kind: str) -> Exposures:
    """Return the log at ``path``; ``kind`` is ``jsonl`` (a file) or ``parquet`` (a folder).

    Raises:
        UsageError: it cannot be written, or pyarrow is not there.

    """
    try:
        return ParquetFolder(path) if kind == "parquet" else JsonLines(path)
    except OSError as error:
        raise UsageError(f"--exposure-log {path}: {error.strerror}") from None
    except ModuleNotFoundError:
        raise UsageError("--exposure-format parquet needs pyarrow") from None


class JsonLines:
    """Appends one JSON line an exposure; whole lines, whichever process writes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def write(self, row: dict[str, object]) -> None:
        """Append ``row``; one system call, so lines of several processes never mix."""
        os.write(self._fd, (json.dumps(row, ensure_ascii=False) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class ParquetFolder:
    """A folder of Parquet files ``NAME.parquet``, rolled by rows and time.

    A Parquet file can only be written whole. Rows are therefore first appended to
    ``NAME.open.jsonl``, a file of this process's own, so that a killed process loses none; it
    becomes ``NAME.parquet`` (temporary name, then rename) when it is full or old, or at the end.
    The open file is locked by its writer: one without an owner is what a killed process left, and
    the next process to start converts it. A reader takes ``NAME.open.jsonl`` only where there is
    no ``NAME.parquet``.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet  # noqa: F401  (told at the start, not at the first roll)

        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="exposures")
        self._adopt()
        self._open()

    def _open(self) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        host = os.uname().nodename.split(".")[0]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        while True:
            name = f"exposures-{stamp}-{host}-{secrets.token_hex(4)}.open.jsonl"
            self._path = self._folder / name
            self._fd = os.open(self._path, flags, 0o640)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # taken in this moment by a process that tidies up
                os.close(self._fd)
            else:
                break
        self._rows = 0
        self._since = time.monotonic()

    def _adopt(self) -> None:
        for path in sorted(self._folder.glob("*.open.jsonl")):
            with contextlib.suppress(OSError):  # another process was faster, or it has an owner
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(fd)
                else:
                    self._thread.submit(_finish, path, fd)

    def write(self, row: dict[str, object]) -> None:
        """Append ``row`` to the open file; a full one is converted on a thread."""
        os.write(self._fd, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        self._rows += 1
        if self._rows >= ROLL_ROWS or time.monotonic() - self._since >= ROLL_SECONDS:
            full, fd = self._path, self._fd
            self._open()
            self._thread.submit(_finish, full, fd)

    def close(self) -> None:
        """Convert the open file and wait for all conversions."""
        self._thread.submit(_finish, self._path, self._fd)
        self._thread.shutdown(wait=True)


def _finish(path: Path, fd: int) -> None:
    """Turn an open file into Parquet; on failure it stays as it is, readable."""
    try:
        to_parquet(path)
    except Exception as error:  # a full disk, say: the rows are safe in the open file
        event("exposures_not_converted", logging.ERROR, file=str(path), error=repr(error))
    finally:
        os.close(fd)


def to_parquet(path: Path) -> None:
    """Replace ``NAME.open.jsonl`` by ``NAME.parquet``; a last line that was cut is left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    if rows:
        columns = {name: [row.get(name) for row in rows] for name in FIELDS}
        stamps = pa.array(columns.pop("time"), pa.string())
        table = pa.table(
            {
                "time": stamps.cast(pa.timestamp("ms", "UTC")),
                **{name: pa.array(values, pa.string()) for name, values in columns.items()},
            }
        )
        target = path.with_name(path.name.removesuffix(".open.jsonl") + ".parquet")
        temporary = target.with_suffix(".tmp")
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, target)  # noqa: PTH105
    path.unlink()
