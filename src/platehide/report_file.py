"""The report: a file of JSON lines, one row a photo, that survives interruption and reruns."""

# Paths stay strings as the caller wrote them (odd bytes, './' and all), and os.path is fast.
# ruff: noqa: PTH100

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from platehide.errors import PlateHideError, UsageError
from platehide.files import is_stream, printable

FINISHED = frozenset(("hidden", "none"))
"""Statuses of photos that were written."""


@dataclass(frozen=True)
class OldRow:
    """What an earlier run says of a photo: status, output (as written there), model."""

    line: int
    status: str
    output: str | None
    model: str


def to_line(row: Mapping[str, Any]) -> str:
    """One JSON line, readable UTF-8 where the names allow it."""
    text = json.dumps(row, ensure_ascii=False, separators=(", ", ": "))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not UTF-8
        text = json.dumps(row, separators=(", ", ": "))
    return text + "\n"


def photo_key(image: str) -> str:
    """What identifies a photo over runs: its absolute path, ``-`` for standard input."""
    return image if image == "-" else os.path.abspath(image)


def read_rows(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number, text and content of each line. A torn last line (a kill, a power cut) is left out.

    Raises:
        UsageError: the file is something else than a report; it is not overwritten then.
    """
    if not path.exists() or is_stream(path):
        return
    bad: int | None = None
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if bad is not None:
                    break
                try:
                    text = raw.decode("utf-8")
                    row = json.loads(text)
                except ValueError:
                    bad = number
                    continue
                if not isinstance(row, dict) or not {"image", "status"} <= row.keys():
                    bad = number
                    break
                yield number, text if text.endswith("\n") else text + "\n", row
            else:
                if bad is None or bad > 1:
                    return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    raise UsageError(f"{printable(str(path))} exists and is not a report (line {bad})")


def is_report(path: Path) -> bool:
    """True for a file with rows of an earlier run."""
    try:
        return next(read_rows(path), None) is not None
    except UsageError:
        return False


def old_rows(path: Path) -> dict[str, OldRow]:
    """The last row of each photo of an existing report; empty where there is none."""
    return {
        photo_key(str(row["image"])): OldRow(
            number, str(row["status"]), row.get("output"), str(row.get("model", ""))
        )
        for number, _, row in read_rows(path)
    }


class ReportFile:
    """Appends rows; what a run takes over from an earlier report is decided by ``keep``.

    The old report is replaced in one step, so that it is never half there. Rows are written as
    whole lines at once; a line that did not fit on the disk is taken back. A pipe or a device
    (`/dev/stdout`) just gets the new rows.

    Raises:
        UsageError: the file cannot be written, or another run is writing it.
    """

    def __init__(self, path: Path, keep: Callable[[str, int], bool]) -> None:
        self.path = path
        if is_stream(path):
            try:
                self._file = path.open("wb", buffering=0)
            except OSError as error:
                raise _unwritable(path, error) from error
            return
        path = Path(os.path.realpath(path))  # a link stays a link
        part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                with path.open("rb") as current:
                    _lock(current.fileno(), path)
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for number, text, row in read_rows(path):
                    if keep(photo_key(str(row["image"])), number):
                        file.write(text)
            part.replace(path)
            self._file = path.open("ab", buffering=0)
            _lock(self._file.fileno(), path)
        except OSError as error:
            raise _unwritable(path, error) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Raises:
            PlateHideError: the row could not be written; nothing of it stays.
        """
        data = to_line(row).encode("utf-8")
        before = os.fstat(self._file.fileno()).st_size  # 0 for a stream, which is not cut
        try:
            if self._file.write(data) != len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(before)
            raise PlateHideError(
                f"cannot write the report {self.path}: {error.strerror or error}",
                code="write_failed",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write the report {printable(str(path))}: {error.strerror or error}")


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system: two runs at once are the user's affair
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"another run is writing {printable(str(path))}") from error
