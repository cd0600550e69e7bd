"""Our own two files: raw judgements, and the labels of a training set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    make_quad,
    need,
    number,
    one_a_photo,
    pixels,
    read_text,
    rounded,
    write_text,
)
from platehide.crowd.judgements import Judgement, read_judgements
from platehide.geometry import hull_box


def from_judgement(j: Judgement) -> Annotation:
    """A judgement as an annotation; the task's name stands for the photo's."""
    return Annotation(
        image=j.task,
        width=j.width,
        height=j.height,
        plates=j.plates,
        worker=j.worker,
        task=j.task,
        submitted_at=j.submitted_at,
        seconds=j.seconds,
        skip=j.skip,
        golden=j.golden,
    )


def to_judgement(a: Annotation) -> Judgement:
    """An annotation as a judgement. Raises ``InterchangeError`` without worker or time."""
    if not a.worker:
        fail(a.image, "a judgement needs a worker")
    if a.submitted_at is None:
        fail(a.image, f"the judgement of {a.worker} needs the time at which it was submitted")
    return Judgement(
        task=a.task_name,
        worker=a.worker,
        width=a.width,
        height=a.height,
        submitted_at=a.submitted_at,
        seconds=a.seconds,
        plates=a.plates,
        skip=a.skip,
        golden=a.golden,
    )


def read_judgement_file(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read raw judgements (docs/annotation-quality.md)."""
    del sizes
    return [from_judgement(j) for j in read_judgements(path)]


def write_judgement_file(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write raw judgements, one a line."""
    rows = [json.dumps(to_judgement(a).row(), ensure_ascii=False) for a in annotations]
    write_text(path, "".join(row + "\n" for row in rows))


def read_labels(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read an ``annotations.jsonl``. A plate with only a box is refused: it has no corners."""
    del sizes
    found = []
    for count, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{count}"
        try:
            row = json.loads(line)
        except ValueError as error:
            fail(where, f"not JSON: {error}")
        plates = need(row, "plates", where)
        if not isinstance(plates, list):
            fail(where, f"'plates' must be a list, got {plates!r}")
        quads = []
        for k, plate in enumerate(plates, start=1):
            quad = need(plate, "quad", where)
            if quad is None:
                fail(where, f"plate {k} has a box but no corners")
            if not isinstance(quad, list) or not all(
                isinstance(c, list) and len(c) == 2 for c in quad
            ):
                fail(where, f"the corners of plate {k} must be [x, y], got {quad!r}")
            corners = [[number(c, "a corner", where) for c in xy] for xy in quad]
            quads.append(make_quad(corners, where))
        found.append(
            Annotation(
                image=str(need(row, "image", where)),
                width=pixels(need(row, "width", where), "width", where),
                height=pixels(need(row, "height", where), "height", where),
                plates=tuple(quads),
                split=str(row.get("split") or ""),
            )
        )
    return found


def write_labels(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write an ``annotations.jsonl``; photos without a split go to ``train``."""
    one_a_photo(annotations, "labels")
    lines = []
    for a in annotations:
        plates = [
            {"quad": rounded(q), "box": [round(float(v), 4) for v in hull_box(q)]} for q in a.plates
        ]
        row = {
            "image": a.image,
            "width": a.width,
            "height": a.height,
            "plates": plates,
            "split": a.split or "train",
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
