"""The load test measures what it says: arrivals, percentiles, promises, a real (short) run."""

from __future__ import annotations

import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from serve_client import HERE, PATIENT
from serve_fakes import NONE, PLATE, jpeg

from platehide.serve import loadtest
from platehide.serve.loadclient import Outcome, arrivals
from platehide.serve.loadtest import Phase, judge, summary


def test_arrivals_are_a_poisson_process() -> None:
    times = list(arrivals(50, 200, random.Random(3)))
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == pytest.approx(10_000, rel=0.03)
    mean = sum(gaps) / len(gaps)
    variance = sum((g - mean) ** 2 for g in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.1)  # exponential
    assert times == sorted(times)
    even = list(arrivals(50, 2, random.Random(3), constant=True))
    assert [round(b - a, 9) for a, b in itertools.pairwise(even)] == [0.02] * (len(even) - 1)


def test_summary_counts_unsure_as_an_answer_and_busy_as_none() -> None:
    outcomes = [Outcome(200, ms) for ms in range(1, 99)]
    outcomes += [Outcome(422, 99, "unsure"), Outcome(422, 5, "corrupt"), Outcome(503, 1, "busy")]
    outcomes += [Outcome(-1, 1), Outcome(-2, 1)]
    phase = summary("x", outcomes, 10, [100, 100, 110, 120, 120])
    assert phase.good_per_s == 9.9
    assert phase.offered_per_s == 10.3
    assert (phase.p50_ms, phase.p95_ms, phase.p99_ms) == (50, 95, 99)
    assert phase.statuses == {
        "200": 98, "422 corrupt": 1, "422 unsure": 1, "503 busy": 1, "lost": 1, "refused": 1,
    }  # fmt: skip
    assert phase.memory_mib == (100, 120, 120)


CALM = Phase("70 %", 60, 7, 7, {"200": 400, "422 unsure": 2}, 100, 249, 260, (100, 100, 101))
RUSH = Phase("3 x", 60, 30, 9.5, {"200": 500, "503 busy": 900}, 300, 499, 600, (100, 104, 110))
STOP = Phase("SIGTERM", 8, 7, 5, {"200": 40, "refused": 20}, 100, 200, 200, (0, 0, 0))


@pytest.mark.parametrize(
    ("calm", "rush", "stop", "missed"),
    [
        ({}, {}, {}, []),
        ({"p95_ms": 251}, {}, {}, ["p95 at 70 %"]),
        ({"p95_ms": float("nan")}, {}, {}, ["p95 at 70 %"]),
        ({"statuses": {"200": 400, "503 busy": 1}}, {}, {}, ["errors at 70 %"]),
        ({}, {"good_per_s": 8.9}, {}, ["goodput at 3 x"]),
        ({}, {"p95_ms": 501}, {}, ["p95 of accepted"]),
        ({}, {"statuses": {"200": 500, "lost": 1}}, {}, ["nothing lost at 3 x"]),
        ({}, {"memory_mib": (100, 140, 140)}, {}, ["memory"]),
        ({}, {}, {"statuses": {"lost": 1}}, ["SIGTERM lost 1"]),
    ],
)
def test_each_promise_can_be_missed(
    calm: dict[str, object], rush: dict[str, object], stop: dict[str, object], missed: list[str]
) -> None:
    phases = [replace(CALM, **calm), replace(RUSH, **rush), replace(STOP, **stop)]
    broken = [text for text, kept in judge(phases, 10.0) if not kept]
    assert len(broken) == len(missed)
    assert all(text.startswith(start) for text, start in zip(broken, missed, strict=True))


def test_single_phases_are_judged_alone() -> None:
    assert [text.split(" ")[0] for text, _ in judge([CALM], 10.0)] == ["p95", "errors"]
    assert len(judge([RUSH], 10.0)) == 4
    with pytest.raises(SystemExit):
        loadtest.main(["--phases", "5 x"])


def test_a_short_run_against_a_real_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadtest, "reference_ms", lambda: None)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    for width in (PLATE, NONE):
        (tmp_path / f"{width}.jpg").write_bytes(jpeg(width))
    command = [sys.executable, str(HERE / "serve_fakes.py"), *PATIENT, "--fake-work", "0.05"]
    figures = tmp_path / "figures.json"
    loadtest.main(
        ["--photos", str(tmp_path), "--seconds", "3", "--short", "2", "--warm-up", "0.5",
         "--json", str(figures), "--", *command]
    )  # fmt: skip
    found = json.loads(figures.read_text())
    by_name = {phase["name"]: phase for phase in found["phases"]}
    assert list(by_name) == ["one client", "capacity", "70 %", "3 x", "SIGTERM"]
    # how much was served and refused is this machine's; that nothing was lost is not
    assert by_name["one client"]["statuses"].keys() == {"200"}
    assert by_name["capacity"]["statuses"]["200"] > 0
    assert found["capacity_per_s"] == by_name["capacity"]["good_per_s"] > 0
    for name in ("70 %", "3 x"):
        assert by_name[name]["statuses"].keys() <= {"200", "503 busy"}
    assert by_name["3 x"]["statuses"]["200"] > 0
    assert by_name["SIGTERM"]["statuses"].get("lost", 0) == 0
    assert by_name["one client"]["memory_mib"][2] > 20
    assert "goodput at 3 x" in capsys.readouterr().out


def test_no_photos_is_a_usage_error(tmp_path: Path) -> None:
    assert loadtest.main(["--photos", str(tmp_path)]) == 2
