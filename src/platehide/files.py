"""Which photos are meant, where each one goes, and files that appear whole or not at all."""

# Paths stay strings as the caller wrote them (odd bytes, './' and all), and os.path is fast.
# ruff: noqa: PTH100, PTH103, PTH108, PTH112, PTH118, PTH119, PTH120, PTH122, PTH207

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platehide.errors import ImageError, UsageError

TO_JPEG_SUFFIXES = frozenset((".heic", ".heif", ".hif", ".avif"))
"""Formats that are answered as JPEG: ``name.heic`` becomes ``name.heic.jpg``."""

IMAGE_SUFFIXES = TO_JPEG_SUFFIXES | frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "png", "apng"),
        *("webp", "gif", "bmp", "dib", "tif", "tiff"),
    )
)
"""Extensions (lower case) of the files that are read from a folder."""

_PART_PREFIX, _PART_SUFFIX = ".platehide-", ".part"
_part_numbers = itertools.count()


@dataclass(frozen=True)
class Source:
    """One photo to read.

    Attributes:
        path: as the caller named it (a folder's photos: the folder's name joined with theirs).
        relative: where it goes below the output folder, before a change of format.
    """

    path: str
    relative: str


@dataclass(frozen=True)
class Inputs:
    """What the inputs stand for.

    Attributes:
        photos: in the order of the inputs, within a folder by name.
        left_out: number of files in folders without an image extension.
        unreadable: folders that could not be read, as (path, reason).
    """

    photos: tuple[Source, ...]
    left_out: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()


def printable(name: str) -> str:
    """``name`` with control characters and undecodable bytes escaped, fit for one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii")
        for c in name.encode("utf-8", "backslashreplace").decode("utf-8")
    )


def expand_inputs(inputs: Sequence[str], out_dir: str | None = None) -> Inputs:
    """Expand files, folders (recursive) and globs (``**`` too).

    A folder gives its files with an image extension in any case, hidden ones included; not
    macOS' ``._name`` companions, which are no photos, and nothing inside ``out_dir``. Links to
    folders are followed, but every real folder is read only once, under its own name if it lies
    inside the input. What is named outright or by a glob is taken whatever its extension.

    An input that is the output folder itself is left out too (`photos/*` of the shell names it),
    unless it is the only one.

    Raises:
        UsageError: an input does not exist, the output folder is the only input, or there is no
            photo at all.
    """
    out_real = None if out_dir is None else os.path.realpath(out_dir)
    photos: list[Source] = []
    left_out = 0
    unreadable: list[tuple[str, str]] = []

    def add_folder(folder: str, prefix: str) -> None:
        nonlocal left_out
        found, ignored, failed = _walk(folder, out_real)
        left_out += ignored
        unreadable.extend(failed)
        photos.extend(Source(_join(folder, rel), prefix + rel) for rel in found)

    for name in inputs:
        if name == "":
            raise UsageError("an input name is empty")
        if os.path.isdir(name):
            if out_real is not None and os.path.realpath(name) == out_real:
                if len(inputs) > 1:
                    continue
                raise UsageError(f"{printable(name)} is the output folder; photos are not replaced")
            add_folder(name, "")
        elif os.path.lexists(name):
            photos.append(Source(name, os.path.basename(name)))
        elif glob.has_magic(name):
            base = _fixed_part(name)
            matches = _glob(name, base, out_real)
            if not matches:
                raise UsageError(f"nothing matches {printable(name)}")
            for match in matches:
                relative = os.path.relpath(match, base or ".")
                if os.path.isdir(match):
                    # `photos/**` matches folders and what is in them: a folder whose files are
                    # matched too adds nothing, and duplicates fold below.
                    add_folder(match, "" if relative == "." else relative + "/")
                else:
                    photos.append(Source(match, relative))
        else:
            raise UsageError(f"no such file or folder: {printable(name)}")
    seen: set[tuple[str, str]] = set()
    unique: list[Source] = []
    for photo in photos:
        key = (os.path.abspath(photo.path), photo.relative)
        if key not in seen:
            seen.add(key)
            unique.append(photo)
    if not unique:
        reason = "; ".join(f"{printable(p)}: {why}" for p, why in unreadable)
        raise UsageError(
            f"no photos found in {', '.join(map(printable, inputs))}"
            + (f" ({reason})" * bool(reason))
        )
    return Inputs(tuple(unique), left_out, tuple(unreadable))


def _join(folder: str, relative: str) -> str:
    return relative if folder in (".", "./") else os.path.join(folder, relative)


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _walk(root: str, out_real: str | None) -> tuple[list[str], int, list[tuple[str, str]]]:
    """Relative paths of the photos below ``root``; files left out; folders that failed."""
    root_real = os.path.realpath(root)
    skip = out_real if out_real is not None and not _inside(root_real, out_real) else None
    found: list[str] = []
    left_out = 0
    failed: list[tuple[str, str]] = []
    visited: set[str] = set()
    # Real folders first, links to folders after: what lies in the tree keeps its own path.
    pending, links = [""], list[str]()
    while pending or links:
        rel = pending.pop() if pending else links.pop(0)
        folder = os.path.join(root, rel) if rel else root
        real = os.path.realpath(folder)
        if real in visited or (skip is not None and _inside(real, skip)):
            continue
        visited.add(real)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            failed.append((folder, error.strerror or str(error)))
            continue
        for entry in entries:
            child = f"{rel}/{entry.name}" if rel else entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else pending).append(child)
            elif is_photo_name(entry.name):
                found.append(child)
            else:
                left_out += 1
    return sorted(found), left_out, failed


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that runs in a circle
        return False


def is_photo_name(name: str) -> bool:
    """True for a file name with an image extension that is not a ``._`` companion."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("._")


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard ("" for none)."""
    parts = pattern.split("/")
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    return "/".join(fixed) or ("/" if pattern.startswith("/") else "")


def _glob(pattern: str, base: str, out_real: str | None) -> list[str]:
    base_real = os.path.realpath(base or ".")
    skip = out_real if out_real is not None and not _inside(base_real, out_real) else None
    best: dict[str, str] = {}
    for match in sorted(glob.glob(pattern, recursive=True)):
        match = match.rstrip("/") or match
        parent = os.path.realpath(os.path.dirname(match) or ".")
        real = os.path.join(parent, os.path.basename(match))
        if skip is not None and (_inside(real, skip) or os.path.realpath(match) == skip):
            continue
        # `**` walks through links in circles: of several ways to a file the shortest counts.
        if real not in best or match.count("/") < best[real].count("/"):
            best[real] = match
    return sorted(best.values())


def planned_name(relative: str) -> str:
    """Name of the output for an input name, as far as the extension tells."""
    return relative + ".jpg" * (os.path.splitext(relative)[1].lower() in TO_JPEG_SUFFIXES)


def check_outputs(photos: Iterable[Source], out_dir: str) -> frozenset[str]:
    """Names (below ``out_dir``) that outputs may take.

    Raises:
        UsageError: two inputs map to one output, or an output would replace an input.
    """
    photos = tuple(photos)
    owner: dict[str, Source] = {}
    clashes: list[str] = []
    for photo in photos:
        for name in {planned_name(photo.relative), photo.relative}:
            other = owner.setdefault(name, photo)
            if other is not photo:
                clashes.append(
                    f"{printable(other.path)} and {printable(photo.path)} "
                    f"would both become {printable(os.path.join(out_dir, name))}"
                )
    if clashes:
        more = f" (and {len(clashes) - 5} more)" if len(clashes) > 5 else ""
        raise UsageError("; ".join(clashes[:5]) + more)
    real_parents: dict[str, str] = {}

    def place(path: str) -> str:
        parent = os.path.dirname(path) or "."
        if parent not in real_parents:
            real_parents[parent] = os.path.realpath(parent)
        return os.path.join(real_parents[parent], os.path.basename(path))

    inputs = {place(photo.path): photo for photo in photos}
    for name in owner:
        replaced = inputs.get(place(os.path.join(out_dir, name)))
        if replaced is not None:
            raise UsageError(
                f"the output {printable(os.path.join(out_dir, name))} would replace the input "
                f"{printable(replaced.path)}; choose another output folder"
            )
    return frozenset(owner)


def make_out_dir(out_dir: str) -> None:
    """Create the output folder and try to write there.

    Raises:
        UsageError: it is not a folder or cannot be written.
    """
    try:
        os.makedirs(out_dir, exist_ok=True)
        probe = _part_name(out_dir)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to {printable(out_dir)}: {error.strerror or error}"
        ) from error


def read_photo(path: str, max_bytes: int) -> bytes:
    """Bytes of a regular file.

    Raises:
        ImageError: codes ``not_found``, ``unreadable`` (a folder, a pipe, no permission, a disk
            error) and ``too_large``.
    """
    try:
        # Not blocking, because somebody may have put a named pipe among the photos.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ImageError("not a regular file", code="unreadable")
            if info.st_size > max_bytes:
                raise ImageError(
                    f"{info.st_size} bytes are more than a photo of the allowed size can have",
                    code="too_large",
                )
            return file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("no such file", code="not_found") from error
    except OSError as error:
        raise ImageError(error.strerror or str(error), code="unreadable") from error


def byte_limit(max_pixels: int) -> int:
    """The most bytes a photo of ``max_pixels`` can sensibly have: 16-bit RGBA, and a little."""
    return 8 * max_pixels + (64 << 20)


def _part_name(folder: str | Path) -> Path:
    number = next(_part_numbers)
    return Path(folder) / f"{_PART_PREFIX}{os.getpid()}-{number}{_PART_SUFFIX}"


def is_stream(path: str | Path) -> bool:
    """True for a pipe or a device (``/dev/stdout``, ``/dev/null``), which cannot be replaced."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_result(path: str | Path, data: bytes) -> None:
    """Write a file that the user named: as ``write_whole``, but to where a link leads, and into
    a pipe or a device instead of replacing it.
    """
    if is_stream(path):
        with open(path, "wb") as stream:  # noqa: PTH123
            stream.write(data)
        return
    write_whole(os.path.realpath(path), data)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name beside it and rename: it appears whole or not at all.

    A link of that name is replaced, not followed: it may lead to the input.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part_name(target.parent)
    try:
        with part.open("xb") as file:
            file.write(data)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_leftovers(folders: Iterable[str | Path]) -> None:
    """Remove temporary files of processes that no longer run, left by a kill or a power cut."""
    for folder in set(map(str, folders)):
        with suppress(OSError), os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.startswith(_PART_PREFIX) and entry.name.endswith(_PART_SUFFIX):
                    owner = entry.name[len(_PART_PREFIX) :].split("-")[0]
                    if owner.isdigit() and not is_running(int(owner)):
                        with suppress(OSError):
                            os.unlink(entry.path)


def is_running(pid: int) -> bool:
    """True while there is a process of this number (on this machine)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
