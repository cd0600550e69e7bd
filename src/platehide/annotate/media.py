"""Photos on their way in and out: sources, checks, the data folder.

A stored photo carries no metadata (people's positions, embedded previews) and no orientation
tag: its pixels are the displayed photo, in a format that every browser shows. Its file name is
its content's hash, so no name from outside ever becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from platehide.annotate.faults import BadAnswer
from platehide.errors import ImageError, UsageError
from platehide.formats import open_photo
from platehide.image_io import WriteOptions

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".avif", ".tif"}
    | {".tiff", ".bmp", ".gif"}
)
_SHOWN = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
MAX_PHOTO_BYTES = 50 * 1024 * 1024
MAX_PHOTO_PIXELS = 100_000_000
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """A checked photo, ready to be stored."""

    data: bytes
    media_type: str
    width: int
    height: int
    sha256: str

    @property
    def blob(self) -> str:
        """File name in the data folder."""
        return f"{self.sha256}{_SHOWN[self.media_type]}"


@dataclass(frozen=True)
class Incoming:
    """A photo as found at its source. ``row`` is its line of an annotations.jsonl, if any."""

    name: str
    data: bytes
    row: dict[str, Any]


def clean_name(name: str) -> str:
    """A photo's name as shown and exported: a relative path without tricks.

    Raises:
        UsageError: the name is empty, absolute, too long or climbs out of its folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [p for p in path.parts if p not in {".", ""}]
    text = "/".join(parts)
    bad = not parts or path.is_absolute() or ".." in parts or len(text) > 300
    odd = any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text)
    if bad or odd or ":" in parts[0]:
        raise UsageError(f"{name!a} is not a usable photo name")
    return text


def read_picture(data: bytes, name: str) -> Picture:
    """Check a photo, drop its metadata, apply its orientation.

    Raises:
        ImageError: not a photo; the message begins with ``name``.
    """
    if len(data) > MAX_PHOTO_BYTES:
        raise ImageError(f"{name}: more than {MAX_PHOTO_BYTES >> 20} MB", code="too_large")
    try:
        photo = open_photo(data, max_pixels=MAX_PHOTO_PIXELS)
        frame = photo.frames[0]
        width, height = frame.size_wh
        upright = _orientation(data) == 1
        if upright and photo.media_type in _SHOWN and len(photo.frames) == 1:
            finished = photo.write((), WriteOptions())
            out, media_type = finished.data, finished.media_type
        else:
            pixels = frame.region((0, 0, width, height))
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
            out, media_type = buffer.getvalue(), "image/jpeg"
    except ImageError as error:
        raise ImageError(f"{name}: {error}", code=error.code) from error
    return Picture(out, media_type, width, height, hashlib.sha256(out).hexdigest())


def _orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # what PIL cannot read (HEIC) is re-encoded with its orientation applied
        return 0


class PhotoStore:
    """The data folder: one file a photo, named by its hash, written under a temporary name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "photos"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, blob: str) -> Path:
        """Where a blob lies.

        Raises:
            UsageError: the name is not one of ours.
        """
        stem, dot, suffix = blob.partition(".")
        if len(stem) != 64 or not set(stem) <= set("0123456789abcdef") or not dot:
            raise UsageError(f"{blob!r} is not a blob name")
        if f".{suffix}" not in _SHOWN.values():
            raise UsageError(f"{blob!r} is not a blob name")
        return self.folder / stem[:2] / blob

    def put(self, picture: Picture) -> None:
        """Store a picture unless it is there."""
        target = self.path(picture.blob)
        if target.exists():
            return
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        with temporary.open("wb") as out:
            out.write(picture.data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)

    def get(self, blob: str) -> bytes:
        """The bytes of a blob."""
        return self.path(blob).read_bytes()


def _rows(lines: str, where: str) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows[str(row["image"])] = row
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{where}:{number}: not an annotation line: {error}") from error
    return rows


def iter_source(source: str) -> Iterator[Incoming]:
    """Yield the photos of a local folder or an fsspec URL, names in order.

    Where the source holds an ``annotations.jsonl`` (the layout of ``export``), only the photos
    it lists are taken, each with its line.

    Raises:
        UsageError: no such source, or it holds no photos.
    """
    found = 0
    for item in _iter_url(source) if "://" in source else _iter_folder(Path(source)):
        found += 1
        yield item
    if not found:
        raise UsageError(f"{source}: no photos found")


def _iter_folder(root: Path) -> Iterator[Incoming]:
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    sheet = root / "annotations.jsonl"
    rows = _rows(sheet.read_text(encoding="utf-8"), str(sheet)) if sheet.is_file() else None
    base = root.resolve()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if rows is not None and name not in rows:
            continue
        if not path.resolve().is_relative_to(base):
            raise UsageError(f"{path}: a link that leads out of {root}")
        yield Incoming(name, path.read_bytes(), {} if rows is None else rows[name])


def _iter_url(url: str) -> Iterator[Incoming]:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise UsageError(f"{url}: a URL needs fsspec (pip install fsspec)") from error
    try:
        system, root = fsspec.core.url_to_fs(url)
        names = sorted(system.find(root))
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"{url}: cannot be listed: {error}") from error
    prefix = root.rstrip("/") + "/"
    relative = {n.removeprefix(prefix).lstrip("/"): n for n in names}
    rows = None
    if "annotations.jsonl" in relative:
        text = system.cat_file(relative["annotations.jsonl"]).decode("utf-8")
        rows = _rows(text, f"{url}/annotations.jsonl")
    for name, full in sorted(relative.items()):
        if PurePosixPath(name).suffix.lower() not in SUFFIXES:
            continue
        if rows is not None and name not in rows:
            continue
        yield Incoming(name, system.cat_file(full), {} if rows is None else rows[name])


def truth_from_row(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The known answer of a control or training photo from its annotation line.

    Raises:
        BadAnswer: the line has no plates, or a plate without four corners.
    """
    if not isinstance(row.get("plates"), list):
        raise BadAnswer(f"{name}: a known answer needs 'plates'")
    quads = []
    for plate in row["plates"]:
        quad = plate.get("quad") if isinstance(plate, dict) else plate
        if quad is None:
            raise BadAnswer(f"{name}: a plate of a known answer needs its four corners (quad)")
        quads.append(quad)
    return {"plates": quads}
