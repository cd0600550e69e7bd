"""Toloka's TSV: ``INPUT:``, ``GOLDEN:``, ``OUTPUT:`` and ``ASSIGNMENT:`` columns.

Polygons are ``[{"type": "polygon", "data": [{"x": 0.14, "y": 0.80}, …]}]`` in shares of the
photo's width and height. The size of the photo is no part of the format: ``INPUT:width`` and
``INPUT:height`` are read and written, else the sizes of the photos are needed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    find_size,
    iso_time,
    make_quad,
    need,
    number,
    pixels,
    read_text,
    seconds_of,
    write_text,
)
from platehide.types import FloatArray

_MAX_FIELD = 16 * 1024 * 1024


def _column(header: Sequence[str], prefix: str, names: Sequence[str]) -> str | None:
    """The column of ``prefix`` with one of ``names``, else the only one of ``prefix``."""
    for name in names:
        if prefix + name in header:
            return prefix + name
    found = [h for h in header if h.startswith(prefix)]
    return found[0] if len(found) == 1 else None


def _polygons(text: str, size: tuple[int, int], name: str, where: str) -> tuple[FloatArray, ...]:
    try:
        shapes = json.loads(text)
    except ValueError as error:
        fail(where, f"{name} is not JSON: {error}")
    if not isinstance(shapes, list):
        fail(where, f"{name} must be a list of polygons, got {shapes!r}")
    quads = []
    for shape in shapes:
        kind = need(shape, "type", f"{where}: {name}")
        if kind != "polygon":
            fail(where, f"{name} holds a {kind}, which has no four free corners")
        data = need(shape, "data", f"{where}: {name}")
        if not isinstance(data, list):
            fail(where, f"the data of a polygon in {name} must be a list of points")
        points = [
            [
                number(need(p, "x", where), "x", where) * size[0],
                number(need(p, "y", where), "y", where) * size[1],
            ]
            for p in data
        ]
        quads.append(make_quad(points, f"{where}: {name}"))
    return tuple(quads)


def _size(row: Mapping[str, str], image: str, sizes: Sizes | None, where: str) -> tuple[int, int]:
    width, height = row.get("INPUT:width") or "", row.get("INPUT:height") or ""
    if width and height:
        return pixels(width, "INPUT:width", where), pixels(height, "INPUT:height", where)
    return find_size(sizes, image, where)


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes")


def read_toloka(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read a TSV of assignments; a row with a ``GOLDEN:`` answer and no other is a control task."""
    csv.field_size_limit(_MAX_FIELD)
    rows = csv.reader(io.StringIO(read_text(path), newline=""), delimiter="\t", strict=True)
    found: list[Annotation] = []
    try:
        header = next(rows, [])
        place = f"{path}:1"
        image_column = _column(header, "INPUT:", ("image", "image_url", "photo", "url"))
        if image_column is None:
            fail(place, "no INPUT:image column")
        golden_column = _column(header, "GOLDEN:", ("result",))
        output_column = _column(header, "OUTPUT:", ("result",))
        if output_column is None and golden_column is None:
            fail(place, "no OUTPUT:result and no GOLDEN:result column")
        if output_column is not None and "ASSIGNMENT:worker_id" not in header:
            fail(place, "no ASSIGNMENT:worker_id column")
        while True:
            # A quoted field may hold line breaks: a row begins after the last one's end.
            where = f"{path}:{rows.line_num + 1}"
            values = next(rows, None)
            if values is None:
                break
            if not any(values):
                continue
            if len(values) != len(header):
                fail(where, f"{len(values)} columns where the header has {len(header)}")
            row = dict(zip(header, values, strict=True))
            found.append(_annotation(row, image_column, golden_column, output_column, sizes, where))
    except csv.Error as error:
        fail(f"{path}:{rows.line_num}", str(error))
    return found


def _annotation(
    row: Mapping[str, str],
    image_column: str,
    golden_column: str | None,
    output_column: str | None,
    sizes: Sizes | None,
    where: str,
) -> Annotation:
    image = row[image_column]
    if not image:
        fail(where, f"{image_column} is empty")
    size = _size(row, image, sizes, where)
    golden = None
    if golden_column is not None and row[golden_column]:
        golden = _polygons(row[golden_column], size, golden_column, where)
    answered = output_column is not None and (row[output_column] or row["ASSIGNMENT:worker_id"])
    if output_column is None or (golden is not None and not answered):
        if golden is None:
            fail(where, f"{golden_column} is empty")
        return Annotation(image, *size, plates=golden, golden=golden)
    skip = _is_true(row.get("OUTPUT:skip", ""))
    if not row[output_column] and not skip:
        fail(where, f"{output_column} is empty ('[]' says that there is no plate)")
    worker = row["ASSIGNMENT:worker_id"]
    if not worker:
        fail(where, "ASSIGNMENT:worker_id is empty")
    submitted = row.get("ASSIGNMENT:submitted", "")
    started = row.get("ASSIGNMENT:started", "")
    at = seconds_of(submitted, "ASSIGNMENT:submitted", where) if submitted else None
    begun = seconds_of(started, "ASSIGNMENT:started", where) if started else None
    return Annotation(
        image=image,
        width=size[0],
        height=size[1],
        plates=() if skip else _polygons(row[output_column], size, output_column, where),
        worker=worker,
        task=row.get("ASSIGNMENT:task_id", ""),
        submitted_at=at,
        seconds=None if at is None or begun is None else max(0.0, at - begun),
        skip=skip,
        golden=golden,
    )


def _text(quads: Sequence[FloatArray], a: Annotation) -> str:
    shapes = [
        {
            "type": "polygon",
            "data": [
                {"x": round(float(x) / a.width, 10), "y": round(float(y) / a.height, 10)}
                for x, y in quad
            ],
        }
        for quad in quads
    ]
    return json.dumps(shapes)


def write_toloka(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write a TSV of assignments; ``OUTPUT:skip`` is true where the worker could not say.

    An annotation without worker but with a golden answer is written as a control task.
    """
    header = [
        "INPUT:image",
        "INPUT:width",
        "INPUT:height",
        "GOLDEN:result",
        "OUTPUT:result",
        "OUTPUT:skip",
        "ASSIGNMENT:task_id",
        "ASSIGNMENT:worker_id",
        "ASSIGNMENT:status",
        "ASSIGNMENT:started",
        "ASSIGNMENT:submitted",
    ]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    for a in annotations:
        task_only = not a.worker and a.golden is not None
        if not a.worker and not task_only:
            fail(a.image, "Toloka's TSV needs the worker of every answer")
        at = a.submitted_at
        begun = None if at is None or a.seconds is None else at - a.seconds
        writer.writerow(
            [
                a.image,
                a.width,
                a.height,
                "" if a.golden is None else _text(a.golden, a),
                "" if a.skip or task_only else _text(a.plates, a),
                "true" if a.skip else "",
                a.task,
                a.worker,
                "" if task_only else "SUBMITTED",
                "" if begun is None else iso_time(begun),
                "" if at is None else iso_time(at),
            ]
        )
    write_text(path, out.getvalue())
