from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from platehide.crowd.judgements import (
    JudgementError,
    latest,
    parse_judgement,
    parse_line,
    read_judgements,
)

QUAD = [[10, 10], [110, 12], [110, 34], [10, 32]]


def row(**change: object) -> dict[str, object]:
    base: dict[str, object] = {
        "task": "t1",
        "worker": "w1",
        "width": 640,
        "height": 480,
        "submitted_at": 1767225600,
        "seconds": 9.5,
        "answer": {"plates": [QUAD]},
    }
    base.update(change)
    return base


def test_parse_orders_corners_from_any_start_and_direction() -> None:
    for start in range(4):
        for ring in (QUAD, QUAD[::-1]):
            turned = ring[start:] + ring[:start]
            j = parse_judgement(row(answer={"plates": [turned]}), "f:1")
            np.testing.assert_array_equal(j.plates[0], np.array(QUAD, dtype=float))


def test_parse_no_plate_skip_and_golden() -> None:
    none = parse_judgement(row(answer={"plates": []}), "f:1")
    assert (none.plates, none.skip, none.golden) == ((), False, None)
    skip = parse_judgement(row(answer={"skip": True}), "f:1")
    assert (skip.plates, skip.skip) == ((), True)
    golden = parse_judgement(row(golden={"plates": []}), "f:1")
    assert golden.golden == ()
    assert parse_judgement(row(seconds=None), "f:1").seconds is None


def test_row_is_the_contract_again() -> None:
    j = parse_judgement(row(golden={"plates": [QUAD]}), "f:1")
    again = parse_judgement(json.loads(json.dumps(j.row())), "f:1")
    assert again.row() == j.row()
    assert j.row()["answer"] == {"plates": [[[float(x), float(y)] for x, y in QUAD]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": ""}, "'task'"),
        ({"worker": None}, "'worker'"),
        ({"width": 0}, "'width'"),
        ({"height": 10.5}, "'height'"),
        ({"width": True}, "'width'"),
        ({"submitted_at": "yesterday"}, "'submitted_at'"),
        ({"seconds": -1}, "'seconds'"),
        ({"answer": {}}, "'answer'"),
        ({"answer": {"skip": False}}, "neither skips"),
        ({"answer": {"skip": "yes"}}, "'skip'"),
        ({"answer": {"plates": None}}, "list of plates"),
        ({"answer": {"plates": [QUAD[:3]]}}, "four corners, got 3"),
        ({"answer": {"plates": [[*QUAD, [1, 1]]]}}, "four corners, got 5"),
        ({"answer": {"plates": [[[1, 2, 3], *QUAD[1:]]]}}, "must be [x, y]"),
        ({"answer": {"plates": [[[1, None], *QUAD[1:]]]}}, "must be a number"),
        ({"answer": {"plates": [[[1, 1e12], *QUAD[1:]]]}}, "not on any photo"),
        ({"golden": {}}, "'golden'"),
        ({"answer": {"plates": [QUAD] * 257}}, "at most 256"),
    ],
)
def test_parse_refuses_with_line_and_reason(change: dict[str, object], reason: str) -> None:
    with pytest.raises(JudgementError, match=r"f\.jsonl:7: ") as caught:
        parse_judgement(row(**change), "f.jsonl:7")
    assert reason in str(caught.value)


@pytest.mark.parametrize("key", ["task", "worker", "width", "height", "submitted_at", "answer"])
def test_parse_refuses_a_missing_field(key: str) -> None:
    broken = row()
    del broken[key]
    with pytest.raises(JudgementError, match=f"f:1: '{key}' is missing"):
        parse_judgement(broken, "f:1")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400])
def test_parse_line_refuses_numbers_that_are_none(text: str) -> None:
    line = json.dumps(row()).replace("[10, 10]", f"[10, {text}]")
    with pytest.raises(JudgementError, match="f:3"):
        parse_line(line, "f:3")


def test_read_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(row()) + "\n\n" + '{"task": "t2"\n', encoding="utf-8")
    with pytest.raises(JudgementError, match=r"j\.jsonl:3: not JSON"):
        read_judgements(path)


def test_read_refuses_a_task_of_two_sizes_and_two_truths(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    rows = [row(), row(worker="w2", width=1280)]
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    with pytest.raises(JudgementError, match=r"j\.jsonl:2.*1280x480 here but 640x480 at .*:1"):
        read_judgements(path)
    moved = [[x + 5, y] for x, y in QUAD]
    rows = [row(golden={"plates": [QUAD]}), row(worker="w2", golden={"plates": [moved]})]
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    with pytest.raises(JudgementError, match=r":2: .*another golden answer at .*:1"):
        read_judgements(path)


def test_latest_keeps_the_last_submitted_whatever_the_order() -> None:
    old = parse_judgement(row(submitted_at=1), "f")
    new = parse_judgement(row(submitted_at=2, answer={"plates": []}), "f")
    tie_a = parse_judgement(row(submitted_at=2, answer={"skip": True}), "f")
    assert latest([old, new]) == latest([new, old]) == [new]
    assert latest([new, tie_a]) == latest([tie_a, new])
    assert len(latest([old, new, tie_a])) == 1
