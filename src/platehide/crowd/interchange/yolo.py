"""YOLO-pose: a folder with ``labels/SPLIT/NAME.txt``, a line a plate, in shares of the photo.

A line is ``class cx cy w h`` and four times ``x y [visibility]``. The size of the photos is no
part of the format: it is taken from ``sizes.json`` (which the export writes), from the sizes that
are handed in, or from the photos in ``images/SPLIT/``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    load_json,
    make_quad,
    number,
    one_a_photo,
    pixels,
    read_text,
)
from platehide.geometry import hull_box
from platehide.types import FloatArray

_ORIENTATION = 0x0112
_DATA_YAML = """\
path: .
train: images/train
val: images/val
test: images/test
kpt_shape: [4, 3]
flip_idx: [1, 0, 3, 2]
names:
  0: plate
"""


def _photo_size(path: Path, where: str) -> tuple[int, int]:
    """Width and height of a photo as displayed (its EXIF orientation applied)."""
    try:
        with Image.open(path) as photo:
            width, height = photo.size
            turned = photo.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except (OSError, UnidentifiedImageError) as error:
        fail(where, f"the photo {path.name} cannot be read: {error}")
    return (height, width) if turned else (width, height)


def _recorded(folder: Path) -> dict[str, tuple[str, int, int]]:
    """``split/stem`` -> (image, width, height) of ``sizes.json``."""
    path = folder / "sizes.json"
    if not path.is_file():
        return {}
    document, name = load_json(path)
    if not isinstance(document, dict):
        fail(f"{name}:1", "must be an object")
    found = {}
    for key, value in document.items():
        if not isinstance(value, list) or len(value) != 3:
            fail(name, f"{key!r} must be [image, width, height]")
        found[key] = (
            str(value[0]),
            pixels(value[1], "width", name),
            pixels(value[2], "height", name),
        )
    return found


def _line(line: str, size: tuple[int, int], where: str) -> FloatArray:
    values = [number(v, "a value", where) for v in line.split()]
    if len(values) not in (13, 17):
        fail(
            where,
            "a plate needs class, box and four corners (13 or 17 numbers), "
            f"got {len(values)}" + (": a box has no corners" if len(values) == 5 else ""),
        )
    step = 2 if len(values) == 13 else 3
    points = values[5:]
    if step == 3 and any(v == 0 for v in points[2::3]):
        fail(where, "a corner is not labelled (visibility 0)")
    corners = [
        [x * size[0], y * size[1]] for x, y in zip(points[0::step], points[1::step], strict=True)
    ]
    return make_quad(corners, where)


def read_yolo(folder: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read all of ``labels/``, splits and files by name. An empty file says "no plate"."""
    labels = folder / "labels"
    if not labels.is_dir():
        fail(str(folder), "there is no labels folder")
    recorded = _recorded(folder)
    by_stem = {PurePosixPath(name).stem: (name, size) for name, size in (sizes or {}).items()}
    found = []
    for path in sorted(labels.rglob("*.txt")):
        inside = path.relative_to(labels)
        split = inside.parent.as_posix() if inside.parent != Path() else ""
        key = inside.with_suffix("").as_posix()
        photo = next(
            (
                p
                for p in sorted((folder / "images" / inside.parent).glob(f"{path.stem}.*"))
                if p.stem == path.stem
            ),
            None,
        )
        if key in recorded:
            image, width, height = recorded[key]
        elif path.stem in by_stem:
            image, (width, height) = by_stem[path.stem]
        elif photo is not None:
            image = photo.name
            width, height = _photo_size(photo, str(path))
        else:
            fail(
                f"{path}:1",
                f"the size of the photo is missing: no images/{inside.parent / path.stem}.*, "
                "no sizes.json",
            )
        plates = [
            _line(line, (width, height), f"{path}:{count}")
            for count, line in enumerate(read_text(path).splitlines(), start=1)
            if line.strip()
        ]
        found.append(Annotation(image, width, height, tuple(plates), split=split))
    return found


def _text(a: Annotation) -> str:
    lines = []
    for quad in a.plates:
        x0, y0, x1, y1 = (float(v) for v in hull_box(quad))
        # The box ends at the photo's edge; the corners keep their place beyond it.
        x0, x1 = max(0.0, x0), min(float(a.width), x1)
        y0, y1 = max(0.0, y0), min(float(a.height), y1)
        box = [(x0 + x1) / 2 / a.width, (y0 + y1) / 2 / a.height]
        box += [max(0.0, x1 - x0) / a.width, max(0.0, y1 - y0) / a.height]
        corners = [f"{x / a.width:.9f} {y / a.height:.9f} 2" for x, y in quad]
        lines.append(" ".join(["0", *(f"{v:.9f}" for v in box), *corners]) + "\n")
    return "".join(lines)


def write_yolo(folder: Path, annotations: Sequence[Annotation]) -> None:
    """Write ``data.yaml``, ``labels/`` and ``sizes.json`` into a new folder."""
    one_a_photo(annotations, "YOLO-pose")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(str(folder), "exists and is not an empty folder")
    files: dict[str, str] = {}
    recorded: dict[str, list[object]] = {}
    for a in annotations:
        split = a.split or "train"
        stem = PurePosixPath(a.image.replace("\\", "/")).stem
        if not stem or split not in ("train", "val", "test"):
            fail(a.image, f"no file name for split {split!r}")
        key = f"{split}/{stem}"
        if key in recorded:
            fail(a.image, f"two photos would both be labels/{key}.txt")
        files[key] = _text(a)
        recorded[key] = [a.image, a.width, a.height]
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            (temporary / "data.yaml").write_text(_DATA_YAML, encoding="utf-8")
            sizes = json.dumps(recorded, ensure_ascii=False, indent=1) + "\n"
            (temporary / "sizes.json").write_text(sizes, encoding="utf-8")
            for key, text in files.items():
                path = temporary / "labels" / f"{key}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        fail(str(folder), error.strerror or str(error))
