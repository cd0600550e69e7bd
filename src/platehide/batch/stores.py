"""Where photos lie: a local folder, or anything that fsspec can reach.

A store hands out keys (``/``-separated, relative to its root). Listing is streamed; a written
object appears whole or not at all.
"""

from __future__ import annotations

import errno
import importlib
import mimetypes
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from platehide.errors import ImageError, PlateHideError, UsageError
from platehide.files import printable, read_photo, remove_leftovers, write_whole

T = TypeVar("T")

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))
"""Errors of a destination that takes nothing more; going on makes no sense."""

_OBJECT_STORES = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"))
PAGE_KEYS = 1000
"""Keys a request lists on S3."""

_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.5


def need(module: str) -> Any:
    """Import a module of the extra ``batch``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = (error.name or module).partition(".")[0]
        raise UsageError(f"{name} is not installed; pip install 'platehide[batch]'") from error


class Store(Protocol):
    """A folder of objects."""

    url: str

    def full(self, key: str) -> str:
        """Path or URL of an object, as the user would name it."""

    def walk(self, skip: str | None = None) -> Iterator[str]:
        """Keys of all objects, streamed; nothing below the folder ``skip`` (a key)."""

    def read(self, key: str, max_bytes: int) -> bytes:
        """A photo's bytes; ``ImageError`` with ``not_found``, ``unreadable``, ``too_large``."""

    def write(self, key: str, data: bytes) -> None:
        """Put an object whole; ``OSError`` otherwise."""

    def remove(self, key: str) -> None:
        """Remove an object if it is there."""

    def has(self, key: str) -> bool:
        """True for an object that has at least one byte."""

    def names(self, folder: str) -> list[str]:
        """Sorted names of the objects directly in a small folder; empty where there is none."""

    def alive(self) -> bool:
        """True while the root can be listed."""

    def tidy(self, keys: Iterator[str]) -> None:
        """Remove temporary files left beside these keys by killed processes."""


def open_store(url: str) -> Store:
    """A store for a folder or URL.

    Raises:
        UsageError: no library for this kind of URL, or it cannot be opened.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return LocalStore(rest if separator else url)
    return RemoteStore(url)


def join_url(base: str, name: str) -> str:
    """``base/name`` for paths and URLs; below the current folder ``name`` alone."""
    if base == ".":
        return name
    return base.rstrip("/") + "/" + name if base != "/" else "/" + name


class LocalStore:
    """A local folder."""

    def __init__(self, folder: str) -> None:
        self.url = folder
        self.unreadable: list[tuple[str, str]] = []
        self._root = Path(folder)

    def full(self, key: str) -> str:  # noqa: D102
        return join_url(self.url, key)

    def walk(self, skip: str | None = None) -> Iterator[str]:  # noqa: D102
        skipped = None if skip is None else os.path.realpath(self._root / skip)
        yield from self._below("", skipped, (os.path.realpath(self._root),))

    def _below(self, prefix: str, skip: str | None, above: tuple[str, ...]) -> Iterator[str]:
        # Depth first with one open listing a level: memory does not grow with the archive.
        try:
            with os.scandir(self._root / prefix) as entries:
                for entry in entries:
                    key = prefix + entry.name
                    try:
                        folder = entry.is_dir()
                    except OSError:
                        folder = False
                    if not folder:
                        yield key
                        continue
                    real = f"{above[-1].rstrip('/')}/{entry.name}"
                    if entry.is_symlink():
                        real = os.path.realpath(entry.path)
                        if f"{real}/".startswith(f"{above[0].rstrip('/')}/"):
                            continue  # read under its own name
                    if real != skip and real not in above:
                        yield from self._below(key + "/", skip, (*above, real))
        except OSError as error:
            self.unreadable.append((self.full(prefix), error.strerror or str(error)))

    def read(self, key: str, max_bytes: int) -> bytes:  # noqa: D102
        return read_photo(str(self._root / key), max_bytes)

    def write(self, key: str, data: bytes) -> None:  # noqa: D102
        write_whole(self._root / key, data)

    def remove(self, key: str) -> None:  # noqa: D102
        (self._root / key).unlink(missing_ok=True)

    def has(self, key: str) -> bool:  # noqa: D102
        try:
            return (self._root / key).stat().st_size > 0
        except OSError:
            return False

    def names(self, folder: str) -> list[str]:  # noqa: D102
        try:
            return sorted(path.name for path in (self._root / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def alive(self) -> bool:  # noqa: D102
        try:
            with os.scandir(self._root) as entries:
                return next(entries, None) is not None
        except OSError:
            return False

    def tidy(self, keys: Iterator[str]) -> None:  # noqa: D102
        remove_leftovers({(self._root / key).parent for key in keys})


class RemoteStore:
    """A store reached with fsspec: S3, Google Cloud Storage and others.

    Requests that fail for a passing reason (throttling, a lost connection) are repeated with
    growing random pauses, on top of what the client library does by itself.
    """

    def __init__(self, url: str) -> None:
        fsspec = need("fsspec")
        self.url = url.rstrip("/")
        self._scheme = url.partition("://")[0]
        try:
            # Cached listings would hold a whole archive in memory, and go stale.
            self._fs: Any
            self._fs, root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except Exception as error:  # a library that is missing, no credentials, a bad URL
            raise UsageError(f"{printable(url)}: {_words(error)}") from error
        self._root = str(root).rstrip("/")

    def full(self, key: str) -> str:  # noqa: D102
        return join_url(self.url, key)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def walk(self, skip: str | None = None) -> Iterator[str]:  # noqa: D102
        start = len(self._root) + 1
        for path in self._pages() if self._scheme in ("s3", "s3a") else self._walk():
            key = path[start:]
            if key and not (skip is not None and key.startswith(skip.rstrip("/") + "/")):
                yield key

    def _pages(self) -> Iterator[str]:
        """S3 in pages of a thousand keys: a flat prefix may hold a hundred million."""
        bucket, _, prefix = self._root.partition("/")
        query: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix + "/" if prefix else ""}
        query["MaxKeys"] = PAGE_KEYS
        while True:
            page = _persist(lambda: self._fs.call_s3("list_objects_v2", **query))
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield f"{bucket}/{item['Key']}"
            if not page.get("IsTruncated"):
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def _walk(self) -> Iterator[str]:
        """Other stores one folder at a time (fsspec has no smaller step)."""
        pending = [self._root]
        while pending:
            folder = pending.pop()
            for item in _persist(lambda: self._fs.ls(folder, detail=True)):  # noqa: B023
                if item["type"] == "directory":
                    pending.append(item["name"].rstrip("/"))
                elif item["name"] != folder:
                    yield item["name"]

    def read(self, key: str, max_bytes: int) -> bytes:  # noqa: D102
        path = self._path(key)
        try:
            data = bytes(_persist(lambda: self._fs.cat_file(path, start=0, end=max_bytes + 1)))
        except FileNotFoundError as error:
            raise ImageError("no such object", code="not_found") from error
        except Exception as error:
            with suppress(Exception):  # a range of an empty object is an error on S3
                if self._fs.info(path)["size"] == 0:
                    return b""
            raise ImageError(_words(error), code="unreadable") from error
        if len(data) > max_bytes:
            raise ImageError(
                f"more than {max_bytes} bytes: more than a photo of the allowed size can have",
                code="too_large",
            )
        return data

    def write(self, key: str, data: bytes) -> None:  # noqa: D102
        path = self._path(key)
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        if self._scheme in ("s3", "s3a"):
            _persist(lambda: self._fs.pipe_file(path, data, ContentType=kind))
        elif self._scheme in ("gs", "gcs"):
            _persist(lambda: self._fs.pipe_file(path, data, content_type=kind))
        elif self._scheme in _OBJECT_STORES:
            _persist(lambda: self._fs.pipe_file(path, data))
        else:
            part = f"{path}.{os.getpid()}.part"
            _persist(lambda: self._fs.makedirs(path.rpartition("/")[0], exist_ok=True))
            _persist(lambda: self._fs.pipe_file(part, data))
            _persist(lambda: self._fs.mv(part, path))

    def remove(self, key: str) -> None:  # noqa: D102
        with suppress(FileNotFoundError):
            _persist(lambda: self._fs.rm_file(self._path(key)))

    def has(self, key: str) -> bool:  # noqa: D102
        try:
            return int(_persist(lambda: self._fs.info(self._path(key)))["size"]) > 0
        except FileNotFoundError:
            return False

    def names(self, folder: str) -> list[str]:  # noqa: D102
        try:
            found = _persist(lambda: self._fs.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def alive(self) -> bool:  # noqa: D102
        try:
            self._fs.ls(self._root, detail=False)
        except Exception:
            return False
        return True

    def tidy(self, keys: Iterator[str]) -> None:  # noqa: D102
        del keys  # objects have no temporary names


def _passing(error: BaseException) -> bool:
    """True for an error that may be gone in a moment."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | ValueError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    words = f"{type(error).__name__} {error}"
    return isinstance(error, OSError) or any(
        sign in words
        for sign in ("SlowDown", "Throttl", "503", "500", "429", "Timeout", "Connection", "reset")
    )


def _persist(request: Callable[[], T]) -> T:
    """``request()``, repeated where that may help.

    Raises:
        OSError: whatever the store's own kind of error was.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return request()
        except Exception as error:
            if attempt + 1 == _ATTEMPTS or not _passing(error):
                if isinstance(error, OSError):
                    raise
                raise OSError(_words(error)) from error
            time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0))
    raise PlateHideError("unreachable")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
