from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from platehide.errors import UsageError
from platehide.evaluate.dataset import PhotoRecord, PlateLabel, data_hash, load_records
from platehide.evaluate.metrics import (
    Prediction,
    core_of_box,
    match_plates,
    score_photo,
    summarise,
    wilson,
)
from platehide.evaluate.report import markdown_table, text_table, worst_first
from platehide.geometry import box_to_quad, grow_polygon
from platehide.types import as_quad

QUAD = np.array([[100.0, 100.0], [200.0, 110.0], [198.0, 140.0], [98.0, 128.0]])


def label(quad: np.ndarray, exact: bool = True) -> PlateLabel:
    box = np.concatenate([quad.min(axis=0), quad.max(axis=0)])
    return PlateLabel(box, as_quad(quad) if exact else None)


def record(*plates: PlateLabel, complete: bool = True) -> PhotoRecord:
    return PhotoRecord("s", Path("s/images/a.jpg"), 640, 480, "val", plates, "g", "l", complete)


def predict(*quads: np.ndarray, margin: float = 2.0, conf: list[float] | None = None) -> Prediction:
    array = np.array(quads).reshape(-1, 4, 2)
    painted = tuple(grow_polygon(q, margin) for q in array)
    return Prediction(array, np.array(conf or [0.9] * len(array)), painted)


def test_nothing_to_find_and_nothing_found() -> None:
    outcome = score_photo(record(), predict())
    assert outcome.plates == ()
    result = summarise([outcome])
    assert result["recall50"]["value"] is None
    assert result["false_covers"]["count"] == 0
    assert result["false_covers"]["total"] == 1


def test_perfect_quad() -> None:
    result = summarise([score_photo(record(label(QUAD)), predict(QUAD))])
    assert result["recall50"]["value"] == result["recall75"]["value"] == 1.0
    assert result["leak"]["count"] == 0
    assert result["quad_iou"] == pytest.approx(1.0)
    assert result["corner_error_median"] == 0.0
    assert 0.1 < result["over_cover"] < 0.25


def test_a_match_that_leaks() -> None:
    """IoU of 0.5 is a hit for a detector and a leak for a reader."""
    shifted = QUAD + [12.0, 4.0]
    plate = score_photo(record(label(QUAD)), predict(shifted, margin=0.5)).plates[0]
    assert plate.matched
    assert plate.leaked
    assert plate.corner_error == pytest.approx(math.hypot(12, 4) / 29.0, rel=0.02)


def test_a_reported_plate_that_was_not_painted_covers_nothing() -> None:
    unpainted = Prediction(np.array([QUAD]), np.array([0.9]), ())
    plate = score_photo(record(label(QUAD)), unpainted).plates[0]
    assert plate.leaked
    assert plate.covered == 0.0


def test_box_labels_compare_hulls_and_need_their_core_covered() -> None:
    boxed = label(QUAD, exact=False)
    plate = score_photo(record(boxed), predict(QUAD)).plates[0]
    assert plate.iou == pytest.approx(1.0)
    assert math.isnan(plate.iou_quad)
    assert math.isnan(plate.corner_error)
    core = core_of_box(boxed.box)
    assert core[0].tolist() == [98 + 0.05 * 102, 100 + 0.1 * 40]
    exact = Prediction(np.array([core]), np.array([0.9]), (core,))
    assert not score_photo(record(boxed), exact).plates[0].leaked


def test_matching_is_one_to_one_by_confidence() -> None:
    two = predict(QUAD, QUAD + 3.0, conf=[0.5, 0.9])
    assert match_plates(two, [label(QUAD)], 0.5) == {0: 1}
    both = match_plates(two, [label(QUAD), label(QUAD + 3.0)], 0.5)
    assert both == {1: 1, 0: 0}


def test_precision_counts_completely_labelled_photos_only() -> None:
    far = QUAD + [250.0, 200.0]
    known = score_photo(record(label(QUAD), complete=True), predict(QUAD, far))
    unknown = score_photo(record(label(QUAD), complete=False), predict(QUAD, far))
    assert summarise([known])["precision50"]["value"] == 0.5
    assert summarise([unknown])["precision50"]["value"] is None
    # An unlabelled background plate that was covered is not over-cover.
    assert unknown.over_cover == pytest.approx(
        score_photo(record(label(QUAD), complete=False), predict(QUAD)).over_cover
    )


def test_leaks_by_width() -> None:
    tiny = box_to_quad([0, 0, 20, 6])
    result = summarise([score_photo(record(label(tiny), label(QUAD)), predict(QUAD))])
    assert result["leak_by_width"]["<32"]["count"] == 1
    assert result["leak_by_width"]["64-128"]["count"] == 0
    assert result["leak"]["count"] == 1
    assert result["leak_ge32"]["total"] == 1


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval_against_published_values(k: int, n: int, low: float, high: float) -> None:
    """81 of 263: Newcombe 1998, table I."""
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-4)


def test_tables_name_every_set() -> None:
    result = {"all": summarise([]), "sets": {"s": summarise([score_photo(record(), predict())])}}
    assert "0/1" in text_table(result)
    assert markdown_table(result).count("\n") == 3


def test_worst_photos_come_first() -> None:
    good = score_photo(record(label(QUAD)), predict(QUAD))
    leak = score_photo(record(label(QUAD)), predict())
    false = score_photo(record(), predict(QUAD))
    assert worst_first([good, false, leak], 2) == [leak, false]


def write_set(root: Path, lines: list[str]) -> None:
    (root / "s").mkdir(parents=True, exist_ok=True)
    (root / "s" / "annotations.jsonl").write_text("\n".join(lines))


def row(**changes: object) -> str:
    base = {"image": "images/a.jpg", "width": 4, "height": 3, "split": "val", "plates": []}
    return json.dumps(base | changes)


def test_records_are_read_and_hashed(tmp_path: Path) -> None:
    write_set(tmp_path, [row(), "", row(image="images/b.jpg", split="test")])
    assert len(load_records(tmp_path)) == 2
    assert [r.name for r in load_records(tmp_path, "val")] == ["s/images/a.jpg"]
    assert [r.name for r in load_records(tmp_path / "s", "test")] == ["s/images/b.jpg"]
    before = data_hash(load_records(tmp_path))
    write_set(tmp_path, [row(plates=[{"quad": None, "box": [0, 0, 1, 1]}])])
    assert data_hash(load_records(tmp_path)) != before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "JSONDecodeError"),
        (row(plates=[{}]), "quad or a box"),
        (row(plates=[{"quad": [[0, 0]], "box": None}]), r"\(4, 2\)"),
        (row(plates=[{"quad": None, "box": [1, 2]}]), "annotations.jsonl:1"),
    ],
)
def test_broken_lines_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    write_set(tmp_path, [line])
    with pytest.raises(UsageError, match=reason):
        load_records(tmp_path)


def test_no_sets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no annotations"):
        load_records(tmp_path)
