"""Labels beside the annotations: pseudo-quads for boxes, plates that the annotators missed, photos
on which somebody looked for more, and decoys that are no plates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, PlateLabel
from platehide.files import write_whole
from platehide.types import FloatArray


def _rows(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; an empty name gives none."""
    if not path:
        return
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSONL: the file appears whole or not at all."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def load_decoys(path: str) -> dict[str, list[FloatArray]]:
    """Quads ``(4, 2)`` in photo px that are no plates, by record name, from rows
    ``{"image", "quad"}`` (``platehide.train.mining`` writes them).

    Raises:
        UsageError: the file is missing or broken.
    """
    found: dict[str, list[FloatArray]] = {}
    for row in _rows(path):
        try:
            found.setdefault(row["image"], []).append(np.array(row["quad"], dtype=np.float64))
        except (KeyError, ValueError) as error:
            raise UsageError(f"{path}: {error!r}") from error
    return found


def with_pseudo_quads(records: Sequence[PhotoRecord], path: str) -> list[PhotoRecord]:
    """The records with the quads of rows ``{"image", "plate", "quad"}`` (``platehide.train.pseudo``
    writes them) where only a box is known; a known quad is never replaced.

    Raises:
        UsageError: the file is missing or broken.
    """
    quads: dict[tuple[str, int], FloatArray] = {}
    for row in _rows(path):
        try:
            quads[row["image"], int(row["plate"])] = np.array(row["quad"], np.float64)
        except (KeyError, ValueError) as error:
            raise UsageError(f"{path}: {error!r}") from error

    def filled(record: PhotoRecord, index: int) -> PlateLabel:
        plate = record.plates[index]
        quad = quads.get((record.name, index))
        return plate if plate.quad is not None or quad is None else replace(plate, quad=quad)

    return [replace(r, plates=tuple(filled(r, i) for i in range(len(r.plates)))) for r in records]


def with_missed_plates(records: Sequence[PhotoRecord], path: str) -> list[PhotoRecord]:
    """The records with the boxes round rows ``{"image", "quad"}`` added (configs/labels/ holds
    plates that were found by looking at what the detector found beside the labels of ``train``).

    Raises:
        UsageError: the file is missing or broken.
    """
    missed = load_decoys(path)

    def label(quad: FloatArray) -> PlateLabel:
        return PlateLabel(np.concatenate([quad.min(axis=0), quad.max(axis=0)]), None)

    return [
        replace(r, plates=(*r.plates, *map(label, missed[r.name]))) if r.name in missed else r
        for r in records
    ]


def with_looked_through(records: Sequence[PhotoRecord], path: str) -> list[PhotoRecord]:
    """The records with those named in a file, a name a line, taken as completely labelled:
    everything that a detector found beside their labels was looked at by a person.

    Raises:
        UsageError: the file is missing, or has a line that is no ``SET/FILE``.
    """
    if not path:
        return list(records)
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    names = {line for line in lines if line and not line.startswith("#")}
    strange = [name for name in names if "/" not in name]
    if strange:
        raise UsageError(f"{path}: {min(strange)!r} names no photo, expected SET/FILE")
    return [replace(r, complete=True) if r.name in names else r for r in records]
