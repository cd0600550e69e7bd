from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platehide.cli import main
from platehide.crowd.aggregate import AggregatePolicy, Label, aggregate, aggregate_task
from platehide.crowd.audit import doubtful_controls
from platehide.crowd.clusters import structure
from platehide.crowd.consensus import huber_mean
from platehide.crowd.judgements import Judgement
from platehide.geometry import order_corners, vertex_distance
from platehide.types import FloatArray

Make = Callable[..., Judgement]


def one(judgements: list[Judgement], policy: AggregatePolicy | None = None) -> Label:
    labels = aggregate(judgements, policy).labels
    assert len(labels) == 1
    return labels[0]


def test_no_judgements() -> None:
    result = aggregate([])
    assert (result.labels, result.workers) == ((), ())


def test_single_answer_is_open(judge_one: Make, quad: FloatArray) -> None:
    label = one([judge_one("t", "a", quad)])
    assert (label.status, label.judgements) == ("open", 1)
    np.testing.assert_allclose(label.plates[0].quad, quad)


def test_two_agreeing_answers_are_agreed(judge_one: Make, quad: FloatArray) -> None:
    label = one([judge_one("t", "a", quad), judge_one("t", "b", np.roll(quad, 2, axis=0)[::-1])])
    assert label.status == "agreed"
    assert label.posterior >= 0.99
    np.testing.assert_allclose(label.plates[0].quad, quad)
    assert (label.plates[0].agreement, label.plates[0].spread_px) == (1.0, 0.0)


def test_two_say_no_plate(judge_one: Make) -> None:
    label = one([judge_one("t", "a"), judge_one("t", "b")])
    assert (label.status, label.plates) == ("agreed", ())


def test_majority_of_three(judge_one: Make, quad: FloatArray) -> None:
    label = one(
        [judge_one("t", "a", quad), judge_one("t", "b", quad + 1), judge_one("t", "c", quad + 200)]
    )
    assert (label.status, label.judgements) == ("agreed", 3)
    np.testing.assert_allclose(label.plates[0].quad, quad + 0.5)
    assert label.plates[0].agreement == pytest.approx(2 / 3)
    assert label.plates[0].spread_px == pytest.approx(np.hypot(0.5, 0.5))


def test_two_that_differ_are_open_five_that_differ_are_escalated(
    judge_one: Make, quad: FloatArray
) -> None:
    answers = [judge_one("t", f"w{k}", quad + 80 * k) for k in range(5)]
    assert one(answers[:2]).status == "open"
    assert one(answers).status == "escalated"
    assert one(answers[:3], AggregatePolicy(max_answers=3)).status == "escalated"


def test_a_tie_of_two_groups_is_escalated(judge_one: Make, quad: FloatArray) -> None:
    answers = [judge_one("t", w, quad) for w in "ab"] + [judge_one("t", w) for w in "cd"]
    assert one(answers).status == "escalated"
    far = [judge_one("t", w, quad) for w in "ab"] + [judge_one("t", w, quad + 90) for w in "cd"]
    assert one(far).status == "escalated"


def test_skips_count_as_answers_but_say_nothing(judge_one: Make, quad: FloatArray) -> None:
    skips = [judge_one("t", f"s{k}", skip=True) for k in range(5)]
    label = one(skips)
    assert (label.status, label.judgements, label.posterior) == ("escalated", 5, 0.0)
    assert one(skips[:1]).status == "open"
    both = one([*skips[:1], judge_one("t", "a", quad), judge_one("t", "b", quad)])
    assert (both.status, both.judgements, both.plates[0].agreement) == ("agreed", 3, 1.0)


def test_several_plates_are_matched_across_workers(judge_one: Make, quad: FloatArray) -> None:
    second, third = quad + np.array([200, 50]), quad + np.array([50, 200])
    label = one(
        [
            judge_one("t", "a", quad, second, third),
            judge_one("t", "b", third + 1, quad + 1, second + 1),
            judge_one("t", "c", second, quad),
        ]
    )
    assert label.status == "agreed"
    assert len(label.plates) == 3
    for truth in (quad, second, third):
        assert min(vertex_distance(p.quad, truth) for p in label.plates) < 1.5
    assert sorted(round(p.agreement, 2) for p in label.plates) == [0.67, 1.0, 1.0]


def test_a_plate_partly_outside_keeps_its_place(judge_one: Make, quad: FloatArray) -> None:
    outside = quad - np.array([60.0, 15.0])
    label = one([judge_one("t", "a", outside), judge_one("t", "b", outside)])
    np.testing.assert_allclose(label.plates[0].quad, outside)


def test_degenerate_answers_do_no_harm(judge_one: Make, quad: FloatArray) -> None:
    point = np.full((4, 2), 50.0)
    label = one([judge_one("t", "a", quad), judge_one("t", "b", quad), judge_one("t", "c", point)])
    assert label.status == "agreed"
    np.testing.assert_allclose(label.plates[0].quad, quad, atol=1e-6)
    assert one([judge_one("t", "a", point), judge_one("t", "b", point)]).plates


def test_last_answer_of_a_worker_counts(judge_one: Make, quad: FloatArray) -> None:
    label = one(
        [
            judge_one("t", "a", quad + 99, at=1),
            judge_one("t", "a", quad, at=2),
            judge_one("t", "b", quad, at=1),
        ]
    )
    assert (label.status, label.judgements) == ("agreed", 2)


def test_control_tasks_ban_and_drop(judge_one: Make, quad: FloatArray) -> None:
    controls = [
        judge_one(f"g{k}", w, *([quad] if w == "good" else []), at=k, golden=[quad])
        for k in range(4)
        for w in ("good", "bot")
    ]
    photo = [judge_one("t", "good", quad), judge_one("t", "bot")]
    result = aggregate([*controls, *photo])
    workers = {w.worker: w for w in result.workers}
    assert (workers["bot"].golden_right, workers["bot"].golden_total) == (0, 4)
    assert workers["bot"].banned
    assert "0 of 4" in workers["bot"].reason or "0 of 3" in workers["bot"].reason
    assert (workers["good"].golden_right, workers["good"].banned) == (4, False)
    assert workers["good"].skill > 0.85
    assert workers["bot"].skill < 0.5
    labels = {label.task: label for label in result.labels}
    assert (labels["t"].status, labels["t"].judgements) == ("open", 2)
    assert labels["t"].plates[0].agreement == 1.0
    np.testing.assert_allclose(labels["g0"].plates[0].quad, quad)
    assert labels["g0"].status == "agreed"


def test_skill_is_leave_one_out(judge_one: Make, quad: FloatArray) -> None:
    """A worker who always differs gains nothing from a majority that includes itself."""
    rng = np.random.default_rng(1)
    judgements = []
    for k in range(40):
        truth = quad + rng.uniform(0, 300, 2)
        judgements += [
            judge_one(f"t{k}", w, truth + rng.normal(0, 1.0, (4, 2))) for w in ("a", "b", "c")
        ]
        judgements.append(judge_one(f"t{k}", "x", quad + rng.uniform(0, 300, 2)))
    workers = {w.worker: w for w in aggregate(judgements).workers}
    assert workers["x"].skill < 0.25
    assert workers["x"].banned
    assert "agreement" in workers["x"].reason
    assert all(workers[w].skill > 0.95 and not workers[w].banned for w in "abc")


def test_copies_count_once_where_honest_answers_differ(judge_one: Make, quad: FloatArray) -> None:
    rng = np.random.default_rng(2)
    judgements = []
    for k in range(60):
        truth = quad + rng.uniform(0, 300, 2)
        judgements += [judge_one(f"t{k}", w, truth + rng.normal(0, 1.3, (4, 2))) for w in "abc"]
    ring = quad + 250
    judgements += [judge_one("r0", "p", ring, at=1), judge_one("r0", "q", ring, at=2)]
    label = {x.task: x for x in aggregate(judgements).labels}["r0"]
    assert label.status == "open"
    for k in range(1, 3):
        judgements += [judge_one(f"r{k}", "p", ring, at=1), judge_one(f"r{k}", "q", ring, at=2)]
    workers = {w.worker: w for w in aggregate(judgements).workers}
    assert workers["q"].banned
    assert "copies" in workers["q"].reason


def test_any_line_order_gives_the_same_bytes(judge_one: Make, quad: FloatArray) -> None:
    rng = np.random.default_rng(5)
    judgements = []
    for k in range(30):
        truth = quad + rng.uniform(0, 300, 2)
        for w in rng.choice(8, 3, replace=False):
            off = rng.uniform(0, 300, 2) if w == 0 else rng.normal(0, 1.3, (4, 2))
            golden = [truth] if k % 5 == 0 else None
            judgements.append(judge_one(f"t{k}", f"w{w}", truth + off, at=float(k), golden=golden))
    first = aggregate(judgements)
    for seed in range(3):
        random.Random(seed).shuffle(judgements)
        again = aggregate(judgements)
        assert [x.row() for x in again.labels] == [x.row() for x in first.labels]
        assert [x.row() for x in again.workers] == [x.row() for x in first.workers]


def test_one_task_alone_gives_the_label_of_the_whole(judge_one: Make, quad: FloatArray) -> None:
    judgements = [judge_one("t", w, quad + k) for k, w in enumerate("abc")]
    result = aggregate(judgements)
    alone = aggregate_task(judgements, result.model)
    assert alone.row() == result.labels[0].row()
    with pytest.raises(ValueError, match="exactly one task"):
        aggregate_task([], result.model)


def test_structure_does_not_chain_sloppy_answers(judge_one: Make, quad: FloatArray) -> None:
    # Each neighbour agrees with the next; the ends do not agree with each other.
    answers = [judge_one("t", w, quad + np.array([6.0 * k, 0.0])) for k, w in enumerate("abcd")]
    groups = structure([answers])[0].variants
    assert len(groups) > 1
    assert all(len(g.members) <= 2 for g in groups)


def test_huber_mean_resists_one_outlier() -> None:
    good = np.zeros((1, 4, 4, 2))
    good[0, 3] = 30.0
    weights, scale = np.ones((1, 4)), np.full((1, 4), 1.0)
    assert np.abs(huber_mean(good, weights, scale)).max() < 1.1
    assert np.abs(good.mean(axis=1)).max() == pytest.approx(7.5)
    same = np.full((2, 1, 4, 2), 5.0)
    np.testing.assert_array_equal(huber_mean(same, np.ones((2, 1)), np.ones((2, 1))), same[:, 0])


# --- the command -----------------------------------------------------------------------------


def write_rows(path: Path, rows: list[Judgement]) -> None:
    path.write_text("".join(json.dumps(j.row()) + "\n" for j in rows), encoding="utf-8")


def test_command_writes_labels_and_workers(
    tmp_path: Path, judge_one: Make, quad: FloatArray, capsys: pytest.CaptureFixture[str]
) -> None:
    source, labels, workers = (tmp_path / n for n in ("j.jsonl", "l.jsonl", "w.jsonl"))
    write_rows(source, [judge_one("t", "a", quad), judge_one("t", "b", quad)])
    assert main(["aggregate", str(source), "-o", str(labels), "--workers", str(workers)]) == 0
    row = json.loads(labels.read_text())
    assert list(row) == ["task", "plates", "status", "judgements", "posterior"]
    assert list(row["plates"][0]) == ["quad", "agreement", "spread_px"]
    assert row["plates"][0]["quad"] == quad.tolist()
    rows = [json.loads(line) for line in workers.read_text().splitlines()]
    assert [r["worker"] for r in rows] == ["a", "b"]
    assert list(rows[0]) == [
        "worker", "skill", "golden_right", "golden_total", "banned", "reason",
    ]  # fmt: skip
    assert "1 agreed" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j.jsonl", "l.jsonl", "w.jsonl"]


def test_command_refuses_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, labels = tmp_path / "j.jsonl", tmp_path / "l.jsonl"
    source.write_text('{"task": "t"}\n')
    assert main(["aggregate", str(source), "-o", str(labels)]) == 2
    assert "j.jsonl:1: 'worker' is missing" in capsys.readouterr().err
    assert main(["aggregate", str(tmp_path / "no.jsonl"), "-o", str(labels)]) == 2
    assert "no.jsonl" in capsys.readouterr().err
    assert main(["aggregate", str(source), "-o", str(source)]) == 2
    assert main(["aggregate", str(source)]) == 2
    assert main(["aggregate", str(source), "-o", str(labels), "--posterior", "2"]) == 2
    assert not labels.exists()


def test_command_applies_and_tries_rules(
    tmp_path: Path, judge_one: Make, quad: FloatArray, capsys: pytest.CaptureFixture[str]
) -> None:
    source, labels, rules = (tmp_path / n for n in ("j.jsonl", "l.jsonl", "r.json"))
    fast = [judge_one(f"t{k}", "a", quad, at=k, seconds=0.4) for k in range(5)]
    write_rows(source, [*fast, *(judge_one(f"t{k}", "b", quad, at=k) for k in range(5))])
    rules.write_text(
        json.dumps(
            {
                "rules": [
                    {
                        "name": "fast",
                        "collector": {"type": "submit_time", "fast_seconds": 1},
                        "conditions": ["fast >= 3"],
                        "action": "ban",
                    }
                ]
            }
        )
    )
    assert main(["aggregate", str(source), "--rules", str(rules), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "fast: would have banned 1 of 2 workers (a), dropped 3 answers and spared 2" in out
    assert main(["aggregate", str(source), "-o", str(labels), "--rules", str(rules)]) == 0
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    assert {r["status"] for r in rows} == {"open"}


def test_a_wrong_golden_answer_is_found(judge_one: Make, quad: FloatArray) -> None:
    judgements = []
    for k in range(12):
        truth = quad + 10 * k
        golden = [truth + 60] if k == 4 else [truth]
        judgements += [judge_one(f"g{k:02}", w, truth, at=k, golden=golden) for w in "abcd"]
    result = aggregate(judgements)
    assert not any(w.banned for w in result.workers)
    found = doubtful_controls(judgements, result)
    assert [(d.task, d.answers, d.right) for d in found] == [("g04", 4, 0)]
    assert "g04" in str(found[0])


def test_command_needs_the_base_install_only() -> None:
    code = (
        "import sys, platehide.cli.aggregate\n"
        "extras = {'yaml', 'scipy', 'shapely', 'pandas', 'sqlalchemy', 'fastapi', 'torch'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.strip() == "[]"


# --- whatever comes in -----------------------------------------------------------------------

_points = st.lists(st.tuples(st.integers(-50, 700), st.integers(-50, 500)), min_size=4, max_size=4)
_answers = st.tuples(
    st.sampled_from(["t1", "t2", "g"]),
    st.sampled_from(["a", "b", "c", "d", "e", "f"]),
    st.lists(_points, max_size=4),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_answers, max_size=30))
def test_any_answers_give_labels_that_keep_the_rules(
    rows: list[tuple[str, str, list[list[tuple[int, int]]], bool]],
) -> None:
    truth = (np.array([[10.0, 10.0], [110.0, 12.0], [110.0, 34.0], [10.0, 32.0]]),)
    judgements = [
        Judgement(
            task, worker, 640, 480, float(k), 3.0,
            () if skip else tuple(order_corners(p) for p in plates),
            skip, truth if task == "g" else None,
        )
        for k, (task, worker, plates, skip) in enumerate(rows)
    ]  # fmt: skip
    result = aggregate(judgements)
    assert [x.task for x in result.labels] == sorted({r[0] for r in rows})
    assert [x.worker for x in result.workers] == sorted({r[1] for r in rows})
    for label in result.labels:
        assert 0.0 <= label.posterior <= 1.0 + 1e-9
        assert label.judgements == len({r[1] for r in rows if r[0] == label.task})
        if label.status == "agreed":
            assert label.posterior >= 0.99
            assert label.judgements >= 2 or label.task == "g"
        for plate in label.plates:
            assert np.isfinite(plate.quad).all()
            assert 0.0 <= plate.agreement <= 1.0
            assert plate.spread_px >= 0.0
    for worker in result.workers:
        assert 0.0 < worker.skill < 1.0
        assert worker.banned == bool(worker.reason)


def test_a_grid_of_plates_wins_nothing(judge_one: Make, quad: FloatArray) -> None:
    grid = [quad + np.array([x, y]) for x in range(0, 480, 60) for y in range(0, 400, 50)]
    answers = [judge_one("t", "bot", *grid), judge_one("t", "a", quad), judge_one("t", "b", quad)]
    label = one([*answers, judge_one("t", "c", quad)])
    assert (label.status, len(label.plates)) == ("agreed", 1)


def test_very_many_answers_on_one_task_stay_cheap(judge_one: Make, quad: FloatArray) -> None:
    rng = np.random.default_rng(9)
    answers = [judge_one("t", f"w{k}", quad + rng.uniform(0, 4000, 2)) for k in range(200)]
    assert one(answers).status == "escalated"
    answers += [judge_one("t", f"g{k}", quad + rng.normal(0, 1.0, (4, 2))) for k in range(60)]
    label = one(answers)
    assert (label.status, len(label.plates)) == ("agreed", 1)
    assert vertex_distance(label.plates[0].quad, quad) < 0.6


def test_command_writes_into_pipes_and_new_folders(
    tmp_path: Path, judge_one: Make, quad: FloatArray
) -> None:
    """A pipe (as /dev/stdout is one) is written to, not replaced by a file."""
    source, pipe, workers = tmp_path / "j.jsonl", tmp_path / "pipe", tmp_path / "new/w.jsonl"
    write_rows(source, [judge_one("t", "a", quad), judge_one("t", "b", quad)])
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    assert main(["aggregate", str(source), "-o", str(pipe), "--workers", str(workers)]) == 0
    reader.join(240)
    assert not reader.is_alive(), "the pipe was never closed"
    assert json.loads(got[0])["status"] == "agreed"
    assert pipe.is_fifo()
    assert len(workers.read_text().splitlines()) == 2


def test_command_runs_on_the_base_install(
    tmp_path: Path, judge_one: Make, quad: FloatArray
) -> None:
    """Nothing of an extra is imported, whatever is installed here."""
    write_rows(tmp_path / "j.jsonl", [judge_one("t", "a", quad), judge_one("t", "b", quad)])
    code = (
        "import sys\n"
        "extras = sys.argv.pop(1).split(',')\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in extras:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from platehide.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    extras = "yaml,fsspec,sqlalchemy,fastapi,starlette,uvicorn,shapely,scipy,pandas,torch,pyarrow"
    arguments = ["aggregate", str(tmp_path / "j.jsonl"), "-o", str(tmp_path / "l.jsonl")]
    done = subprocess.run(
        [sys.executable, "-c", code, extras, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "l.jsonl").read_text())["status"] == "agreed"
