"""Read annotated photos: the layout of one folder a set, each with ``images/`` and
``annotations.jsonl`` (one photo a line; see docs/data.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from platehide.errors import UsageError
from platehide.geometry import box_to_quad, hull_box
from platehide.types import FloatArray, as_quad

Split = Literal["train", "val", "test"]

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


def _parse(line: str, where: str, set_name: str, folder: Path) -> PhotoRecord:
    try:
        row = json.loads(line)
        plates = []
        for plate in row["plates"]:
            quad = plate.get("quad")
            if set_name in LOOSE_QUAD_SETS:
                quad = None
            box = plate.get("box")
            if box is None:
                if quad is None:
                    raise ValueError("a plate needs a quad or a box")
                box = hull_box(quad)
            plates.append(
                PlateLabel(
                    box=np.asarray(box, dtype=np.float64).reshape(4),
                    quad=None if quad is None else as_quad(quad),
                )
            )
        complete = bool(row.get("complete", set_name in COMPLETE_SETS or not plates))
        return PhotoRecord(
            set_name=set_name,
            path=folder / row["image"],
            width=int(row["width"]),
            height=int(row["height"]),
            split=str(row["split"]),
            plates=tuple(plates),
            group=str(row.get("group") or row["image"]),
            licence=str(row.get("licence") or "not stated"),
            complete=complete,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{where}: {type(error).__name__}: {error}") from error


def iter_records(root: Path, split: str | None = None) -> Iterator[PhotoRecord]:
    """Yield the records of every set below ``root``, sets by name, photos in file order.

    Raises:
        UsageError: no set is found, or a line is broken (the message names file and line).
    """
    for set_name, folder in set_folders(root):
        path = folder / "annotations.jsonl"
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                record = _parse(line, f"{path}:{number}", set_name, folder)
                if split is None or record.split == split:
                    yield record


def load_records(
    roots: Path | Iterable[Path], split: str | None = None, sets: Sequence[str] | None = None
) -> list[PhotoRecord]:
    """All records below one or several roots, optionally of one split and of some sets."""
    folders = [roots] if isinstance(roots, Path) else list(roots)
    records = [r for root in folders for r in iter_records(root, split)]
    if sets is not None:
        unknown = set(sets) - {r.set_name for r in records}
        if unknown:
            raise UsageError(f"no photos of set {', '.join(sorted(unknown))} in split {split}")
        records = [r for r in records if r.set_name in sets]
    return records


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
