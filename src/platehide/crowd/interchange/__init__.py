"""Read and write what other annotation tools read and write (skeleton)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platehide.types import FloatArray

FormatName = Literal[
    "judgements",  # our JSONL of raw answers
    "labels",  # annotations.jsonl, the layout of training sets
    "toloka",
    "label-studio",
    "cvat",
    "coco",
    "yolo-pose",  # a folder
]

Sizes = Mapping[str, tuple[int, int]]
"""Image name -> (width, height) px, for formats that do not carry it."""


@dataclass(frozen=True)
class Annotation:
    """One photo's plates, by one worker or agreed.

    Attributes:
        image: name of the photo.
        width: px.
        height: px.
        plates: each ``(4, 2)`` px, TL, TR, BR, BL.
        worker: who drew it; empty for a label.
        task: identity of the task; the image's name where a format has none.
        submitted_at: Unix seconds or ``None``.
        seconds: time taken or ``None``.
        skip: the worker could not say.
        golden: truth of a control task or ``None``.
        split: ``train``, ``val``, ``test`` or empty.
    """

    image: str
    width: int
    height: int
    plates: tuple[FloatArray, ...] = ()
    worker: str = ""
    task: str = ""
    submitted_at: float | None = None
    seconds: float | None = None
    skip: bool = False
    golden: tuple[FloatArray, ...] | None = None
    split: str = ""


def read(path: Path, form: FormatName, *, sizes: Sizes | None = None) -> list[Annotation]:
    """Read a file (a folder for ``yolo-pose``).

    Raises:
        UsageError: something is missing or wrong; names the file, the line and the reason.
    """
    raise NotImplementedError


def write(path: Path, annotations: Sequence[Annotation], form: FormatName) -> None:
    """Write a file (a folder for ``yolo-pose``), under a temporary name first."""
    raise NotImplementedError
