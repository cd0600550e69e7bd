"""Shadow and split, and the comparison of two answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_client import Running, until
from serve_fakes import NONE, TWO, UNSURE, jpeg

from platehide import assignment
from platehide.serve import exposures
from platehide.serve.twomodels import compare
from platehide.types import Detection, HideResult


def test_split_is_sticky_logged_and_labelled(tmp_path: Path) -> None:
    log = tmp_path / "exposures.jsonl"
    with Running(
        ["--candidate", "cand@2", "--candidate-mode", "split", "--candidate-share", "0.5",
         "--experiment", "exp-1", "--unit-header", "X-Seller", "--exposure-log", str(log)]
    ) as running:  # fmt: skip
        seen: dict[str, set[str]] = {}
        for number in range(40):
            unit = f"seller-{number % 20}"
            answer = running.ask("POST", "/v1/hide", jpeg(), {"X-Seller": unit})
            assert answer.status == 200
            seen.setdefault(unit, set()).add(answer.headers["x-model-version"])
        assert all(len(models) == 1 for models in seen.values())
        shares = {"control": 0.5, "treatment": 0.5}
        expected = {u: assignment.assign("exp-1", u, shares) for u in seen}
        model = {"control": "fake@1", "treatment": "cand@2"}
        assert {u: next(iter(m)) for u, m in seen.items()} == {
            u: model[str(v)] for u, v in expected.items()
        }
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert len(rows) == 40
        assert all(r["variant"] == expected[r["unit"]] for r in rows)
        assert all(r["model"] == model[r["variant"]] for r in rows)
        assert {r["experiment"] for r in rows} == {"exp-1"}
        # no unit, or a model by name: the current one, and nothing is logged
        plain = running.ask("POST", "/v1/hide", jpeg())
        named = running.ask("POST", "/v1/hide?model=cand", jpeg(), {"X-Seller": "s"})
        assert plain.headers["x-model-version"] == "fake@1"
        assert named.headers["x-model-version"] == "cand@2"
        assert len(log.read_text().splitlines()) == 40
        treated = sum(1 for r in rows if r["variant"] == "treatment")
        assert running.metric("platehide_exposures_total", arm="treatment") == treated
        answered = running.metric("platehide_photos_total", model="cand@2", outcome="hidden")
        assert answered == treated + 1
        assert running.ask("POST", "/v1/hide", jpeg(), {"X-Seller": "s" * 300}).status == 400


def test_exposures_as_parquet_survive_a_kill_and_are_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    data = pytest.importorskip("platehide.experiment.data", reason="needs the extra experiment")
    folder = tmp_path / "exposures"
    arguments = [
        "--candidate", "cand@2", "--candidate-mode", "split", "--candidate-share", "0.5",
        "--experiment", "exp-1", "--exposure-log", str(folder), "--exposure-format", "parquet",
    ]  # fmt: skip

    def serve(units: range, kill: bool) -> None:
        with Running(arguments) as running:
            for unit in units:
                headers = {"X-Unit-Id": f"seller-{unit}"}
                assert running.ask("POST", "/v1/hide", jpeg(), headers).status == 200
            if kill:
                running.process.kill()
                assert running.process.wait(60) == -9

    def read() -> Any:
        return data.read_table(folder).frame

    serve(range(10), kill=True)
    (left,) = folder.iterdir()
    assert left.name.endswith(".open.jsonl")
    assert len(read()) == 10
    with left.open("ab") as file:
        file.write(b'{"time": "2026-')  # killed in the middle of a line, on a full disk say
    serve(range(10, 30), kill=False)
    assert {path.suffix for path in folder.iterdir()} == {".parquet"}
    frame = read()
    assert sorted(frame["unit"]) == sorted(f"seller-{i}" for i in range(30))
    assert str(frame["time"].dtype).startswith("datetime64")
    shares = {"control": 0.5, "treatment": 0.5}
    assert all(assignment.assign("exp-1", u, shares) == v
               for u, v in zip(frame["unit"], frame["variant"], strict=True))  # fmt: skip
    assert set(frame["model"]) == {"fake@1", "cand@2"}


def test_a_full_open_file_becomes_parquet_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    data = pytest.importorskip("platehide.experiment.data", reason="needs the extra experiment")
    monkeypatch.setattr(exposures, "ROLL_ROWS", 3)
    log = exposures.open_exposures(tmp_path / "log", "parquet")
    other = exposures.open_exposures(tmp_path / "log", "parquet")  # leaves the first one's alone
    row = dict.fromkeys(exposures.FIELDS, "x") | {"time": "2026-11-02T10:00:00.125Z"}
    for number in range(8):
        log.write(row | {"unit": f"u{number}"})
    other.write(row | {"unit": "other"})
    until(lambda: len(list((tmp_path / "log").glob("*.parquet"))) == 2, "two Parquet files")
    assert len(data.read_table(tmp_path / "log").frame) == 9
    log.close()
    other.close()
    frame = data.read_table(tmp_path / "log").frame
    assert sorted(frame["unit"]) == sorted([*(f"u{i}" for i in range(8)), "other"])
    assert str(frame["time"][0]) == "2026-11-02 10:00:00.125000+00:00"


def test_shadow_compares_and_never_answers() -> None:
    with Running(
        ["--candidate", "other", "--candidate-mode", "shadow", "--candidate-share", "1"]
    ) as running:
        for number, width in enumerate((320, NONE, UNSURE, TWO), 1):
            answer = running.ask("POST", "/v1/hide", jpeg(width))
            assert answer.headers["x-model-version"] == "fake@1"
            running.until_metric("platehide_shadow_comparisons_total", number)

        def count(result: str) -> float:
            return running.metric("platehide_shadow_comparisons_total", result=result)

        # 'other' sees every plate half a photo further right
        assert count("agree") >= 1  # the photo without a plate
        assert count("geometry") + count("outcome") + count("skipped") >= 2
        assert running.metric("platehide_photos_total", model="other@1") == 0


def result(status: str, *lefts: float) -> HideResult:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], dtype=float)
    plates = tuple(Detection(square + np.array([left, 0]), 0.9) for left in lefts)
    return HideResult(status, b"", plates, (), "m@1", {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b", "verdict", "matches"),
    [
        (result("none"), result("none"), "agree", 0),
        (result("hidden", 0), result("hidden", 1), "agree", 1),
        (result("hidden", 0), result("hidden", 8), "geometry", 0),
        (result("hidden", 0, 50), result("hidden", 50), "count", 1),
        (result("hidden", 0), result("unsure"), "outcome", 0),
        (result("hidden", 0, 2), result("hidden", 1, 60), "geometry", 1),
    ],
)
def test_compare(a: HideResult, b: HideResult, verdict: str, matches: int) -> None:
    found, ious = compare(a, b)
    assert (found, len(ious)) == (verdict, matches)
