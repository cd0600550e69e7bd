"""Boxes and quads of other detectors are read, placed, and judged like a model's."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, PlateLabel, load_records
from platehide.evaluate.metrics import summarise
from platehide.evaluate.predictions import (
    by_record,
    judge_predictions,
    load_function,
    read_predictions,
)
from platehide.evaluate.shapes import quad_of_box, quad_of_matrix, quad_of_rotated
from platehide.pixels import ArrayPixels
from platehide.types import as_quad

BOX = [100.0, 100.0, 200.0, 140.0]
QUAD = [[100.0, 100.0], [200.0, 100.0], [200.0, 140.0], [100.0, 140.0]]


def record(name: str, *, plate: bool = True) -> PhotoRecord:
    set_name, folder, file = name.split("/")
    plates = (PlateLabel(np.array(BOX), as_quad(QUAD)),) if plate else ()
    path = Path(set_name) / folder / file
    return PhotoRecord(set_name, path, 640, 480, "val", plates, "g", "l", True)


RECORDS = [
    record("a/images/1.jpg"),
    record("b/images/1.jpg"),
    record("b/images/2.jpg", plate=False),
]


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_every_shape_becomes_the_same_quad() -> None:
    assert quad_of_box(BOX).tolist() == QUAD
    assert np.allclose(quad_of_rotated([150, 120, 100, 40, 0]), QUAD)
    assert np.allclose(quad_of_matrix([100, 0, 150, 0, 40, 120]), QUAD)
    assert np.allclose(quad_of_matrix([[100, 0, 150], [0, 40, 120], [0, 0, 1]]), QUAD)
    turned = quad_of_rotated([0, 0, 2, 1, 90])
    assert np.allclose(turned[0], [0.5, -1.0])  # clockwise on the screen: TL goes to the top right
    leaning = quad_of_matrix([100, 0, 150, 0, 40, 120, 0.001, 0.2])
    assert np.ptp(leaning[:2, 0]) > np.ptp(leaning[2:, 0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: quad_of_box([3, 0, 1, 2]),
        lambda: quad_of_box([1, 2, 3]),
        lambda: quad_of_rotated([0, 0, -1, 2, 0]),
        lambda: quad_of_rotated([0, 0, 1, 2]),
        lambda: quad_of_matrix([1, 2, 3]),
        lambda: quad_of_matrix([1, 0, 0, 0, 1, 0, 2.0, 0, 1]),
    ],
)
def test_shapes_that_are_none(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


def test_a_file_of_boxes_is_judged(tmp_path: Path) -> None:
    path = write(
        tmp_path / "peer.jsonl",
        {"image": "x/y/a/images/1.jpg", "boxes": [BOX], "scores": [0.9], "ms": 10},
        {"image": "b/images/1.jpg", "boxes": [[0, 0, 50, 20]], "ms": 30},
        {"image": "2.jpg", "quads": [], "ms": 20},
        {"image": "other/images/9.jpg", "boxes": []},
    )
    result = summarise(judge_predictions(RECORDS, read_predictions(path), "peer"))
    assert result["recall50"]["count"] == 1
    assert result["leak_ge32"]["count"] == 1
    assert result["false_covers"] | {"low": 0, "high": 0} == {
        "count": 0, "total": 1, "value": 0.0, "low": 0, "high": 0,
    }  # fmt: skip
    assert result["ms_p50"] == 20


def test_growing_covers_what_a_tight_shape_leaves(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"image": "a/images/1.jpg", "boxes": [[103, 100, 197, 140]]},
        {"image": "b/images/1.jpg", "boxes": [[103, 100, 197, 140]], "painted": [QUAD]},
        {"image": "b/images/2.jpg", "boxes": []},
    )
    answers = read_predictions(path)
    as_is = summarise(judge_predictions(RECORDS, answers, "p"))
    grown = summarise(judge_predictions(RECORDS, answers, "p", grow=0.1))
    assert as_is["leak"]["count"] == 1  # 94 %; the second one painted more than it reported
    assert grown["leak"]["count"] == 0
    assert as_is["ms_p50"] is None


def test_scores_below_the_cut_are_not_painted(tmp_path: Path) -> None:
    rows = [{"image": r.name, "boxes": [BOX, [0, 0, 9, 9]], "scores": [0.9, 0.2]} for r in RECORDS]
    answers = read_predictions(write(tmp_path / "p.jsonl", *rows))
    outcomes = judge_predictions(RECORDS, answers, "p", conf=0.5)
    assert [o.painted for o in outcomes] == [1, 1, 1]


def test_odd_plates_are_judged_not_refused(tmp_path: Path) -> None:
    """Corners in another order are painted as their hull; outside the picture nothing is."""
    crossed = [QUAD[0], QUAD[1], QUAD[3], QUAD[2]]
    path = write(
        tmp_path / "p.jsonl",
        {"image": "a/images/1.jpg", "quads": [crossed]},
        {"image": "b/images/1.jpg", "boxes": [BOX, [900, 10, 990, 40]], "scores": [0.5, 0.9]},
        {"image": "b/images/2.jpg", "boxes": [[-90, 10, -9, 40]]},
    )
    outcomes = judge_predictions(RECORDS, read_predictions(path), "p")
    assert [o.plates[0].covered for o in outcomes[:2]] == [1.0, 1.0]
    assert [o.reported for o in outcomes] == [1, 1, 0]
    assert [o.status for o in outcomes] == ["hidden", "hidden", "none"]
    result = summarise(outcomes)
    assert result["false_covers"]["count"] == 0
    assert result["precision50"]["value"] == 1.0


def test_our_own_report_rows_are_read(tmp_path: Path) -> None:
    plates = [{"quad": QUAD, "confidence": 0.9}]
    path = write(
        tmp_path / "p.jsonl",
        {"image": "a/images/1.jpg", "status": "hidden", "plates": plates, "ms": {"detect": 5}},
        {"image": "b/images/1.jpg", "status": "unsure", "plates": []},
        {"image": "b/images/2.jpg", "status": "none", "plates": []},
    )
    result = summarise(judge_predictions(RECORDS, read_predictions(path), "p"))
    assert result["recall50"]["count"] == 1
    assert result["unsure"]["count"] == 1
    assert result["ms_p50"] == 5


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"boxes": []}, "'image' is missing"),
        ({"image": "a"}, "needs one of"),
        ({"image": "a", "boxes": [[1, 2, 3]]}, "four numbers"),
        ({"image": "a", "boxes": [BOX], "scores": []}, "1 plates, 0 scores"),
        ({"image": "a", "boxes": [BOX], "scores": [math.nan]}, "not a number"),
        ({"image": "a", "quads": [[[0, 0]]]}, "shape"),
        ({"image": "a", "boxes": [], "ms": -1}, "ms"),
        ({"image": "a", "boxes": [], "ms": math.inf}, "ms"),
        ({"image": "a", "boxes": None}, "boxes is a list"),
        ({"image": "a", "boxes": {"x": 1}}, "boxes is a list"),
        ({"image": "a", "boxes": [BOX], "painted": [[[0, 0], [9, 9]]]}, "three or more"),
        ({"image": "a", "boxes": [BOX], "painted": [[[0, 0], [9, math.nan], [9, 9]]]}, "finite"),
        ({"image": "a", "boxes": [], "status": "maybe"}, "status"),
        ({"image": "a", "matrices": [[1, 2]]}, "9 numbers"),
    ],
)
def test_broken_rows_name_file_and_line(
    tmp_path: Path, row: dict[str, object], reason: str
) -> None:
    path = write(tmp_path / "p.jsonl", {"image": "ok", "boxes": []}, row)
    with pytest.raises(UsageError, match=reason) as error:
        read_predictions(path)
    assert "p.jsonl:2" in str(error.value)


def test_an_image_twice_and_no_file(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *[{"image": "a", "boxes": []}] * 2)
    with pytest.raises(UsageError, match="a second time"):
        read_predictions(path)
    with pytest.raises(UsageError, match="No such file"):
        read_predictions(tmp_path / "none.jsonl")


def test_a_photo_without_a_row_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"image": "1.jpg", "boxes": []})  # two sets have a 1.jpg
    with pytest.raises(UsageError, match="no row for 3 of 3 photos"):
        by_record(read_predictions(path), RECORDS, "p")


def detect_rows(picture: np.ndarray) -> dict[str, object]:
    assert picture.shape == (480, 640, 3)
    return {"boxes": [BOX], "scores": [0.7]}


def broken(picture: np.ndarray) -> dict[str, object]:
    return {"boxes": [[1, 2, 3]]}


def test_a_python_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    picture = ArrayPixels(np.zeros((480, 640, 3), np.uint8))
    seen = load_function("test_predictions:detect_rows")(picture)
    assert seen.quads.tolist() == [QUAD]
    assert seen.ms >= 0
    assert load_function("test_predictions:detect_rows", conf=0.8)(picture).status == "none"
    with pytest.raises(UsageError, match="four numbers"):
        load_function("test_predictions:broken")(picture)
    for name in ("nothing", "no_such_module:x", "test_predictions:nothing"):
        with pytest.raises(UsageError, match="--predictor"):
            load_function(name)


def test_the_recipe_for_other_detectors_works(tmp_path: Path) -> None:
    """The program in docs/evaluation-formats.md, with a detector of its own photos."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "evaluation-formats.md").read_text()
    block = text[text.index("    # peer_rows.py") :].split("\n\n`detector` is")[0]
    program: dict[str, Any] = {}
    exec(compile(textwrap.dedent(block), "peer_rows.py", "exec"), program)
    folder = tmp_path / "cars" / "images"
    folder.mkdir(parents=True)
    rows = []
    for i in range(2):
        Image.new("RGB", (640, 480), (90 * i, 90, 90)).save(folder / f"{i}.png")
        plates = [{"box": BOX, "quad": None}] if i else []
        row = {"image": f"images/{i}.png", "width": 640, "height": 480, "split": "test"}
        rows.append(json.dumps(row | {"plates": plates}) + "\n")
    (folder.parent / "annotations.jsonl").write_text("".join(rows))

    def detector(picture: np.ndarray) -> tuple[list[list[float]], list[float]]:
        return ([BOX], [0.9]) if picture[0, 0, 0] else ([], [])

    out = tmp_path / "peer.jsonl"
    program["write_rows"](detector, str(tmp_path), "test", str(out))
    outcomes = judge_predictions(load_records(tmp_path, "test"), read_predictions(out), "peer")
    result = summarise(outcomes)
    assert result["recall50"]["value"] == 1.0
    assert result["false_covers"]["count"] == 0
    assert result["ms_p50"] is not None
