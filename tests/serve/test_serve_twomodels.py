"""Shadow and split, and the comparison of two answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from serve_client import Running
from serve_fakes import NONE, TWO, UNSURE, jpeg

from platehide import assignment
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
