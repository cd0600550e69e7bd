from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from platehide.errors import UsageError
from platehide.evaluate.dataset import (
    PhotoRecord,
    PlateLabel,
    data_hash,
    load_records,
    require_photos,
    seen_in_training,
)
from platehide.evaluate.metrics import (
    Prediction,
    core_of_box,
    match_plates,
    score_photo,
    summarise,
    wilson,
)
from platehide.evaluate.report import (
    html_report,
    markdown_table,
    text_report,
    text_table,
    worst_first,
)
from platehide.geometry import box_to_quad, clip_convex, grow_polygon
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
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('{"image": "a"}', "'width' is missing"),
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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split": "valid"}, "none of train, val, test"),
        ({"width": 0}, "a photo of 0"),
        ({"plates": [{"box": [5, 5, 5, 20]}]}, "x0 < x1"),
        ({"plates": [{"box": [50, 5, 20, 20]}]}, "x0 < x1"),
        ({"plates": [{"box": [5, 5, float("nan"), 20]}]}, "x0 < x1"),
        ({"plates": [{"box": [5, 5, float("inf"), 20]}]}, "finite"),
        ({"plates": [{"box": [5, 5, 20]}]}, "a box is"),
        ({"plates": [{"quad": [[1, 1], [90, 1], [1, 30], [90, 30]]}]}, "do not run round"),
        ({"plates": [{"quad": [[5, 5]] * 4}]}, "do not run round"),
        ({"plates": [{"box": [900, 5, 990, 20]}]}, "outside the picture 640"),
        ({"plates": [[1, 2, 3, 4]]}, "attribute"),
        ({"plates": None}, "iterable"),
    ],
)
def test_labels_that_nothing_could_match_are_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    size = {"width": 640, "height": 480}
    write_set(tmp_path, [row(), row(**{"image": "images/b.jpg", **size, **change})])
    with pytest.raises(UsageError, match=r"annotations.jsonl:2: .*" + reason):
        load_records(tmp_path)


def test_every_photo_is_counted_once(tmp_path: Path) -> None:
    write_set(tmp_path / "a", [row(), row(split="test")])
    assert len(load_records(tmp_path / "a")) == 2
    with pytest.raises(UsageError, match="every photo is counted once"):
        load_records([tmp_path / "a", tmp_path / "a"])
    write_set(tmp_path / "b", [row(), row()])
    with pytest.raises(UsageError, match=r"annotations.jsonl:2: .* a second time in split"):
        load_records(tmp_path / "b")
    (tmp_path / "b" / "s" / "annotations.jsonl").write_bytes(b'{"image": "\xe9"}\n')
    with pytest.raises(UsageError, match="not UTF-8"):
        load_records(tmp_path / "b")


def test_photos_that_were_trained_on_are_told(tmp_path: Path) -> None:
    names = [("a", "train"), ("b", "val"), ("c", "test"), ("d", "train")]
    rows = [row(image=f"images/{n}.jpg", split=s) for n, s in names]
    write_set(tmp_path, rows)
    records = load_records(tmp_path)
    with pytest.raises(UsageError, match=r"a\.jpg: named in the annotations and not there"):
        require_photos(records)
    for record_, data in zip(records, (b"same", b"same", b"else", b"more"), strict=True):
        record_.path.parent.mkdir(exist_ok=True)
        record_.path.write_bytes(data)
    require_photos(records)
    assert [(j.path.stem, t.path.stem) for j, t in seen_in_training(records)] == [("b", "a")]


def test_overlapping_covers_count_once_and_take_no_time() -> None:
    """A detector without suppression reports a plate hundreds of times."""
    outcome = score_photo(record(label(QUAD)), predict(*[QUAD] * 200))
    once = score_photo(record(label(QUAD)), predict(QUAD))
    assert outcome.over_cover == pytest.approx(once.over_cover)
    moved = [QUAD + [i / 10, i / 20] for i in range(40)]
    spread = score_photo(record(label(QUAD)), predict(*moved))
    assert spread.plates[0].covered == pytest.approx(1.0)
    assert once.over_cover < spread.over_cover < 1.0


def test_what_lies_beyond_the_frame_cannot_leak() -> None:
    outside = QUAD - [150.0, 0.0]
    painted = clip_convex(outside, box_to_quad([0, 0, 640, 480]))
    seen = Prediction(outside[None], np.array([0.9]), (painted,))
    assert score_photo(record(label(outside)), seen).plates[0].covered == pytest.approx(1.0)


def test_a_terminal_sees_widths_intervals_and_costs() -> None:
    found = {"model": "m@1", "split": "val", "sets": {}, "all": summarise(
        [score_photo(record(label(QUAD)), predict(QUAD))]
    )}  # fmt: skip
    found["all"] |= {"ms_p50": 20.0, "ms_p95": 30.0, "ms_p99": 40.0, "memory_mib": 131.2}
    found["all"] |= {"ratio_p50": 1.5, "ratio_p95": 2.5, "ratio_p99": 3.0}
    text = text_report(found)
    assert "64-128 px" in text
    assert "0.0 to 79.3 %" in text
    assert "p95 30.0 ms" in text
    assert "1.50 / 2.50 / 3.00 × the reference" in text
    assert "peak memory 131 MiB" in text
    page = html_report(found, "m@1", [])
    assert "131 MiB" in page
    assert "0.0 to 79.3 %" in page
