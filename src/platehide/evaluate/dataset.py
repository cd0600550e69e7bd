"""Read annotated photos: the layout of one folder a set, each with ``images/`` and
``annotations.jsonl`` (one photo a line; see docs/data.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from platehide.errors import UsageError
from platehide.geometry import area, box_to_quad, clip_convex, hull_box, is_convex
from platehide.types import FloatArray, as_quad

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

LOOSE_QUAD_SETS = frozenset({"tanmay-via"})
"""Sets whose quads are so loose that they are used as boxes only (the data sheet's advice)."""

COMPLETE_SETS = frozenset(
    {
        "openimages-unknowncz",
        "multicar-kuo",
        "neg-car-details",
        "neg-car-interior",
        "neg-dashboard-trodo",
        "neg-imagenet",
    }
)
"""Sets in which every readable plate of a photo is labelled."""


@dataclass(frozen=True)
class PlateLabel:
    """One true plate.

    Attributes:
        box: ``(4,)`` x0, y0, x1, y1 in px.
        quad: ``(4, 2)`` px, TL, TR, BR, BL, or ``None`` where only the box is known.
    """

    box: FloatArray
    quad: FloatArray | None

    @property
    def polygon(self) -> FloatArray:
        """The quad where known, else the box as a quad."""
        return self.quad if self.quad is not None else box_to_quad(self.box)

    @property
    def width_px(self) -> float:
        """Width of the upright box in px."""
        return float(self.box[2] - self.box[0])


@dataclass(frozen=True)
class PhotoRecord:
    """One annotated photo. ``complete`` says that no readable plate is left unlabelled."""

    set_name: str
    path: Path
    width: int
    height: int
    split: str
    plates: tuple[PlateLabel, ...]
    group: str
    licence: str
    complete: bool

    @property
    def name(self) -> str:
        """``set/images/file`` as in the annotations."""
        return f"{self.set_name}/{self.path.parent.name}/{self.path.name}"


def set_folders(root: Path) -> list[tuple[str, Path]]:
    """Sets below ``root``: its sub-folders with an annotations.jsonl, or ``root`` itself."""
    if (root / "annotations.jsonl").is_file():
        return [(root.name, root)]
    found = sorted(p.parent for p in root.glob("*/annotations.jsonl"))
    if not found:
        raise UsageError(f"{root}: no annotations.jsonl here or one folder below")
    return [(p.name, p) for p in found]


def _label(plate: dict[str, Any], loose: bool, size_wh: tuple[int, int]) -> PlateLabel:
    """One plate of a row. A label that nothing could ever match or cover would silently spoil the
    figures: it is refused.

    Raises:
        ValueError: no area, corners in another order than round the plate, or wholly outside.
    """
    given, box = plate.get("quad"), plate.get("box")
    if box is None and given is None:
        raise ValueError("a plate needs a quad or a box")
    quad = None if given is None else as_quad(given)
    if quad is not None and not is_convex(quad):
        raise ValueError(f"the corners {quad.tolist()} do not run round a plate (TL, TR, BR, BL)")
    edges = np.asarray(hull_box(quad) if quad is not None and box is None else box, np.float64)
    if edges.shape != (4,) or not (edges[0] < edges[2] and edges[1] < edges[3]):
        raise ValueError(f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {edges.tolist()}")
    if not np.isfinite(edges).all():
        raise ValueError("a box has finite coordinates")
    label = PlateLabel(box=edges, quad=None if loose else quad)
    width, height = size_wh
    if area(clip_convex(label.polygon, box_to_quad([0, 0, width, height]))) <= 0.0:
        raise ValueError(f"the plate {edges.tolist()} lies outside the picture {width} × {height}")
    return label


def _parse(line: str, where: str, set_name: str, folder: Path) -> PhotoRecord:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("expected an object")
        size_wh = int(row["width"]), int(row["height"])
        if min(size_wh) < 1:
            raise ValueError(f"a photo of {size_wh[0]} × {size_wh[1]}")
        split = str(row["split"])
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        loose = set_name in LOOSE_QUAD_SETS
        plates = [_label(plate, loose, size_wh) for plate in row["plates"]]
        complete = bool(row.get("complete", set_name in COMPLETE_SETS or not plates))
        return PhotoRecord(
            set_name=set_name,
            path=folder / row["image"],
            width=size_wh[0],
            height=size_wh[1],
            split=split,
            plates=tuple(plates),
            group=str(row.get("group") or row["image"]),
            licence=str(row.get("licence") or "not stated"),
            complete=complete,
        )
    except KeyError as error:
        raise UsageError(f"{where}: {error} is missing") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: {error}") from error


def iter_records(root: Path, split: str | None = None) -> Iterator[PhotoRecord]:
    """Yield the records of every set below ``root``, sets by name, photos in file order.

    Raises:
        UsageError: no set is found, a line is broken, or a photo comes twice in a split (the
            message names file and line).
    """
    for set_name, folder in set_folders(root):
        path = folder / "annotations.jsonl"
        seen: set[tuple[str, Path]] = set()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not UTF-8 text: {error}") from error
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            record = _parse(line, f"{path}:{number}", set_name, folder)
            key = record.split, record.path
            if key in seen:
                raise UsageError(
                    f"{path}:{number}: {record.name} a second time in split {record.split}"
                )
            seen.add(key)
            if split is None or record.split == split:
                yield record


def load_records(
    roots: Path | Iterable[Path], split: str | None = None, sets: Sequence[str] | None = None
) -> list[PhotoRecord]:
    """All records below one or several roots, optionally of one split and of some sets.

    Raises:
        UsageError: as ``iter_records``; two photos of a split have the same name (a set was given
            twice, or two sets are called alike); no photo of one of ``sets``.
    """
    folders = [roots] if isinstance(roots, Path) else list(roots)
    records = [r for root in folders for r in iter_records(root, split)]
    known: dict[tuple[str, str], Path] = {}
    for r in records:
        other = known.setdefault((r.split, r.name), r.path)
        if other is not r.path:
            raise UsageError(f"{r.path}: called {r.name} like {other}: every photo is counted once")
    if sets is not None:
        unknown = set(sets) - {r.set_name for r in records}
        if unknown:
            raise UsageError(f"no photos of set {', '.join(sorted(unknown))} in split {split}")
        records = [r for r in records if r.set_name in sets]
    return records


def require_photos(records: Iterable[PhotoRecord]) -> None:
    """Fail before hours of work, not after.

    Raises:
        UsageError: a photo that the annotations name is not there.
    """
    missing = next((r.path for r in records if not r.path.is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}: named in the annotations and not there")


def seen_in_training(records: Iterable[PhotoRecord]) -> list[tuple[PhotoRecord, PhotoRecord]]:
    """Photos of ``val`` and ``test`` that are, byte for byte, photos of ``train``: pairs (judged,
    trained on). Figures on them say nothing. Only files of equal size are read.
    """
    by_size: dict[int, list[PhotoRecord]] = {}
    for r in records:
        if r.path.is_file():
            by_size.setdefault(r.path.stat().st_size, []).append(r)
    pairs = []
    for alike in by_size.values():
        if {"train"} < {r.split for r in alike}:
            digests = [hashlib.sha256(r.path.read_bytes()).digest() for r in alike]
            learned = {d: r for d, r in zip(digests, alike, strict=True) if r.split == "train"}
            pairs += [
                (r, learned[d])
                for d, r in zip(digests, alike, strict=True)
                if r.split != "train" and d in learned
            ]
    return pairs


def data_hash(records: Sequence[PhotoRecord]) -> str:
    """SHA-256 over the names, splits and labels of the records (not the pixels)."""
    digest = hashlib.sha256()
    for r in sorted(records, key=lambda r: r.name):
        plates = [
            (p.box.round(2).tolist(), None if p.quad is None else p.quad.round(2).tolist())
            for p in r.plates
        ]
        digest.update(json.dumps([r.name, r.split, plates]).encode())
    return digest.hexdigest()
