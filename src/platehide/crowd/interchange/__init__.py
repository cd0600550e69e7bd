"""Read and write what other annotation tools read and write.

Every format becomes a list of ``Annotation`` and is written from one. Coordinates survive a round
trip to better than 0.01 px. ``judgements``, ``toloka`` and ``label-studio`` hold the answers of
several workers; ``labels``, ``cvat``, ``coco`` and ``yolo-pose`` hold one answer a photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from platehide.crowd.interchange.base import Annotation, InterchangeError, Sizes
from platehide.crowd.interchange.coco import read_coco, write_coco
from platehide.crowd.interchange.cvat import read_cvat, write_cvat
from platehide.crowd.interchange.jsonl import (
    read_judgement_file,
    read_labels,
    write_judgement_file,
    write_labels,
)
from platehide.crowd.interchange.label_studio import read_label_studio, write_label_studio
from platehide.crowd.interchange.toloka import read_toloka, write_toloka
from platehide.crowd.interchange.yolo import read_yolo, write_yolo

FormatName = Literal[
    "judgements",  # our JSONL of raw answers
    "labels",  # annotations.jsonl, the layout of training sets
    "toloka",
    "label-studio",
    "cvat",
    "coco",
    "yolo-pose",  # a folder
]


@dataclass(frozen=True)
class Format:
    """How one format is read and written, and the suffix its files have (empty: a folder)."""

    read: Callable[[Path, Sizes | None], list[Annotation]]
    write: Callable[[Path, Sequence[Annotation]], None]
    suffix: str


FORMATS: dict[FormatName, Format] = {
    "judgements": Format(read_judgement_file, write_judgement_file, ".jsonl"),
    "labels": Format(read_labels, write_labels, ".jsonl"),
    "toloka": Format(read_toloka, write_toloka, ".tsv"),
    "label-studio": Format(read_label_studio, write_label_studio, ".json"),
    "cvat": Format(read_cvat, write_cvat, ".xml"),
    "coco": Format(read_coco, write_coco, ".json"),
    "yolo-pose": Format(read_yolo, write_yolo, ""),
}


def _format(form: str) -> Format:
    for name in get_args(FormatName):
        if name == form:
            return FORMATS[name]
    raise InterchangeError(f"unknown format {form!r}; use one of {', '.join(FORMATS)}")


def read(path: Path, form: FormatName, *, sizes: Sizes | None = None) -> list[Annotation]:
    """Read a file (a folder for ``yolo-pose``).

    Args:
        path: what to read.
        form: its format.
        sizes: image name -> (width, height) px, for formats that do not carry it.

    Raises:
        InterchangeError: something is missing or wrong; names the file, the line and the reason.
    """
    return _format(form).read(path, sizes)


def write(path: Path, annotations: Sequence[Annotation], form: FormatName) -> None:
    """Write a file (a folder for ``yolo-pose``), under a temporary name first.

    Raises:
        InterchangeError: the format cannot hold an annotation; nothing is written.
    """
    _format(form).write(path, annotations)


__all__ = [
    "FORMATS",
    "Annotation",
    "Format",
    "FormatName",
    "InterchangeError",
    "Sizes",
    "read",
    "write",
]
