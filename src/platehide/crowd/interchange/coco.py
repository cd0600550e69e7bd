"""COCO keypoints: a plate is an object with four keypoints TL, TR, BR, BL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    line_of,
    load_json,
    make_quad,
    need,
    number,
    one_a_photo,
    pixels,
    write_text,
)
from platehide.geometry import area, hull_box
from platehide.types import FloatArray

KEYPOINTS = ("top_left", "top_right", "bottom_right", "bottom_left")


def _quad(row: Any, where: str) -> FloatArray:
    points = need(row, "keypoints", where)
    if not isinstance(points, list) or len(points) != 12:
        count = len(points) if isinstance(points, list) else repr(points)
        fail(where, f"'keypoints' must be four times x, y, visibility, got {count} numbers")
    values = [number(p, "a keypoint", where) for p in points]
    if any(v == 0 for v in values[2::3]):
        fail(where, "a corner is not labelled (visibility 0)")
    return make_quad(list(zip(values[0::3], values[1::3], strict=True)), where)


def read_coco(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read ``images`` and ``annotations`` with four keypoints each; all categories are plates."""
    del sizes
    document, name = load_json(path)
    top = line_of(document, name)
    images, rows = need(document, "images", top), need(document, "annotations", top)
    if not isinstance(images, list) or not isinstance(rows, list):
        fail(top, "'images' and 'annotations' must be lists")
    photos: dict[object, tuple[str, int, int, str]] = {}
    for image in images:
        where = line_of(image, name)
        key = need(image, "id", where)
        if not isinstance(key, str | int):
            fail(where, f"'id' must be a number or text, got {key!r}")
        if key in photos:
            fail(where, f"a second image has the id {key!r}")
        photos[key] = (
            str(need(image, "file_name", where)),
            pixels(need(image, "width", where), "width", where),
            pixels(need(image, "height", where), "height", where),
            str(image.get("split") or ""),
        )
    plates: dict[object, list[FloatArray]] = {key: [] for key in photos}
    for row in rows:
        where = line_of(row, name)
        key = need(row, "image_id", where)
        if not isinstance(key, str | int) or key not in plates:
            fail(where, f"there is no image with the id {key!r}")
        if row.get("iscrowd"):
            fail(where, "a crowd region has no four corners")
        plates[key].append(_quad(row, where))
    return [
        Annotation(image, width, height, tuple(plates[key]), split=split)
        for key, (image, width, height, split) in photos.items()
    ]


def write_coco(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write COCO keypoints with the polygon as segmentation; the split goes into the image."""
    one_a_photo(annotations, "COCO keypoints")
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number_, a in enumerate(annotations, start=1):
        image: dict[str, Any] = {
            "id": number_,
            "file_name": a.image,
            "width": a.width,
            "height": a.height,
        }
        if a.split:
            image["split"] = a.split
        images.append(image)
        for quad in a.plates:
            flat = [round(float(v), 4) for v in quad.ravel()]
            x0, y0, x1, y1 = (float(v) for v in hull_box(quad))
            keypoints = [v for x, y in zip(flat[0::2], flat[1::2], strict=True) for v in (x, y, 2)]
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number_,
                    "category_id": 1,
                    "bbox": [round(v, 4) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round(area(quad), 4),
                    "iscrowd": 0,
                    "segmentation": [flat],
                    "num_keypoints": 4,
                    "keypoints": keypoints,
                }
            )
    category = {
        "id": 1,
        "name": "plate",
        "supercategory": "vehicle",
        "keypoints": list(KEYPOINTS),
        "skeleton": [[1, 2], [2, 3], [3, 4], [4, 1]],
    }
    document = {"images": images, "annotations": rows, "categories": [category]}
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
