"""Label Studio's JSON: tasks with annotations; polygons in percent of the photo.

Truth of a control task is an annotation marked ``ground_truth``; a skipped task is one marked
``was_cancelled``. An annotation without regions carries no size of the photo, so ``width`` and
``height`` are written into the task's ``data`` too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    find_size,
    iso_time,
    line_of,
    load_json,
    make_quad,
    need,
    number,
    pixels,
    seconds_of,
    write_text,
)
from platehide.types import FloatArray


def _worker(value: object, where: str) -> str:
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    if value is None or isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        fail(where, "'completed_by' does not say who drew this")
    return str(value)


def _region(region: Any, name: str, where: str) -> tuple[tuple[int, int], FloatArray]:
    at = line_of(region, name) if isinstance(region, dict) else where
    kind = str(need(region, "type", at))
    if kind not in ("polygonlabels", "polygon"):
        fail(at, f"a region of type {kind!r} has no four free corners")
    if region.get("image_rotation", 0):
        fail(at, "the photo was rotated in Label Studio; undo image_rotation first")
    width = pixels(need(region, "original_width", at), "original_width", at)
    height = pixels(need(region, "original_height", at), "original_height", at)
    points = need(need(region, "value", at), "points", at)
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        fail(at, "'points' must be a list of [x, y]")
    corners = [
        [number(p[0], "x", at) * width / 100.0, number(p[1], "y", at) * height / 100.0]
        for p in points
    ]
    return (width, height), make_quad(corners, at)


def _task_size(
    data: Any, image: str, regions: Sequence[tuple[int, int]], sizes: Sizes | None, where: str
) -> tuple[int, int]:
    if regions:
        if any(r != regions[0] for r in regions):
            fail(where, "regions of one photo give different original sizes")
        return regions[0]
    if data.get("width") is not None and data.get("height") is not None:
        return pixels(data["width"], "width", where), pixels(data["height"], "height", where)
    return find_size(sizes, image, where)


def read_label_studio(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read a JSON export (not JSON_MIN). Predictions are left aside."""
    document, name = load_json(path)
    if not isinstance(document, list):
        fail(f"{name}:1", "must be a list of tasks")
    found: list[Annotation] = []
    for task in document:
        where = line_of(task, name)
        data = need(task, "data", where)
        image = need(data, "image", where)
        if not isinstance(image, str) or not image:
            fail(where, f"'image' must be the photo's name, got {image!r}")
        annotations = need(task, "annotations", where)
        if not isinstance(annotations, list):
            fail(where, "'annotations' must be a list")
        parsed, regions_seen = [], []
        for entry in annotations:
            at = line_of(entry, name)
            cancelled = bool(entry.get("was_cancelled")) if isinstance(entry, dict) else False
            result = [] if cancelled else need(entry, "result", at)
            if not isinstance(result, list):
                fail(at, "'result' must be a list")
            regions = [_region(r, name, at) for r in result]
            regions_seen += [size for size, _ in regions]
            parsed.append((entry, at, cancelled, tuple(quad for _, quad in regions)))
        size = _task_size(data, image, regions_seen, sizes, where)
        golden = next((q for e, _, c, q in parsed if e.get("ground_truth") and not c), None)
        task_id = str(data.get("task") or "")
        for entry, at, cancelled, quads in parsed:
            if entry.get("ground_truth"):
                continue
            created = entry.get("created_at")
            lead = entry.get("lead_time")
            found.append(
                Annotation(
                    image=image,
                    width=size[0],
                    height=size[1],
                    plates=quads,
                    worker=_worker(entry.get("completed_by"), at),
                    task=task_id,
                    submitted_at=None if created is None else seconds_of(created, "created_at", at),
                    seconds=None if lead is None else number(lead, "lead_time", at),
                    skip=cancelled,
                    golden=golden,
                )
            )
        if golden is not None and len(parsed) == 1:
            found.append(Annotation(image, *size, plates=golden, task=task_id, golden=golden))
    return found


def _result(quads: Sequence[FloatArray], a: Annotation) -> list[dict[str, Any]]:
    return [
        {
            "id": f"plate{k}",
            "type": "polygonlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": a.width,
            "original_height": a.height,
            "image_rotation": 0,
            "value": {
                "points": [
                    [round(float(x) * 100.0 / a.width, 8), round(float(y) * 100.0 / a.height, 8)]
                    for x, y in quad
                ],
                "closed": True,
                "polygonlabels": ["plate"],
            },
        }
        for k, quad in enumerate(quads, start=1)
    ]


def write_label_studio(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write tasks with their annotations, one task a photo; every answer needs its worker.

    An annotation without worker but with a golden answer is written as a control task.
    """
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    for a in annotations:
        if not a.worker and a.golden is None:
            fail(a.image, "Label Studio's JSON needs the worker of every answer")
        key = (a.image, a.task)
        task = tasks.get(key)
        if task is None:
            data: dict[str, Any] = {"image": a.image, "width": a.width, "height": a.height}
            if a.task:
                data["task"] = a.task
            task = tasks[key] = {"id": len(tasks) + 1, "data": data, "annotations": []}
            if a.golden is not None:
                task["annotations"].append(
                    {"result": _result(a.golden, a), "ground_truth": True, "was_cancelled": False}
                )
        if not a.worker:
            continue
        entry: dict[str, Any] = {
            "completed_by": {"email": a.worker},
            "result": [] if a.skip else _result(a.plates, a),
            "was_cancelled": a.skip,
            "ground_truth": False,
        }
        if a.submitted_at is not None:
            entry["created_at"] = iso_time(a.submitted_at)
        if a.seconds is not None:
            entry["lead_time"] = round(a.seconds, 6)
        task["annotations"].append(entry)
    write_text(path, json.dumps(list(tasks.values()), ensure_ascii=False, indent=1) + "\n")
