from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from platehide.crowd.engine import Engine, EnginePolicy
from platehide.crowd.judgements import Judgement
from platehide.crowd.labels import Label, LabelledPlate
from platehide.crowd.overlap import OverlapPolicy, control_due, slots_wanted
from platehide.crowd.sequential import judge
from platehide.crowd.sim_workers import BOT_KINDS, Human, make_bots, make_photo
from platehide.crowd.sim_world import make_world, score_label
from platehide.crowd.simulate import EngineServer, SimSettings, pool, run, table
from platehide.types import FloatArray

SMALL = SimSettings(photos=100, controls=60, workers=20, seed=5)


def label(status: str, error_px: float = 1.0) -> Label:
    plate = LabelledPlate(np.zeros((4, 2)), 1.0, 0.0, error_px)
    return Label("t", (plate,), status, 2, 0.995)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "counted", "leased", "wanted"),
    [
        (None, 0, 0, 2),
        (None, 0, 1, 1),
        (None, 0, 2, 0),
        (label("open"), 1, 0, 1),
        (label("open"), 1, 1, 0),
        (label("open"), 2, 0, 1),
        (label("open"), 2, 1, 0),
        (label("open"), 5, 0, 0),
        (label("agreed"), 2, 0, 0),
        (label("agreed", 9.0), 2, 0, 1),
        (label("agreed", 9.0), 3, 0, 0),
        (label("escalated"), 4, 0, 0),
    ],
)
def test_slots_wanted(state: Label | None, counted: int, leased: int, wanted: int) -> None:
    assert slots_wanted(state, counted, leased, OverlapPolicy()) == wanted


def test_control_tasks_are_frequent_until_a_worker_is_trusted() -> None:
    policy = OverlapPolicy(control_share_new=0.5, control_share_trusted=0.05)
    new, trusted = judge([True]), judge([True] * 10)
    assert control_due(new, 0.49, policy)
    assert not control_due(new, 0.51, policy)
    assert control_due(trusted, 0.04, policy)
    assert not control_due(trusted, 0.06, policy)


def answer(task: str, worker: str, *plates: FloatArray) -> Judgement:
    return Judgement(task, worker, 640, 480, 0.0, 5.0, plates)


def test_engine_never_gives_a_slot_twice_nor_a_task_again(quad: FloatArray) -> None:
    engine = Engine(["a", "b"], {}, EnginePolicy(overlap=OverlapPolicy(precise_px=None)))
    assert engine.next_task("w1") == "a"
    assert engine.next_task("w1") is None
    assert engine.next_task("w2") == "a"
    assert engine.next_task("w3") == "b"
    assert engine.submit(answer("a", "w1", quad))
    assert not engine.submit(answer("a", "w1", quad))
    assert not engine.submit(answer("b", "w1", quad))
    assert engine.submit(answer("a", "w2", quad))
    assert engine.next_task("w1") == "b"
    engine.release("w1", "b")
    assert engine.next_task("w2") == "b"
    assert [x.status for x in engine.labels()] == ["agreed"]


def test_engine_ban_drops_answers_and_reopens(quad: FloatArray) -> None:
    engine = Engine(["a"], {})
    for worker in ("w1", "w2"):
        engine.next_task(worker)
        engine.submit(answer("a", worker, quad))
    assert engine.next_task("w3") is None
    assert engine.ban("w1", "test") == ["a"]
    assert engine.next_task("w3") == "a"
    assert engine.next_task("w1") is None
    engine.submit(answer("a", "w3", quad))
    assert [(x.status, len(engine.log)) for x in engine.labels()] == [("agreed", 3)]


def test_engine_replays_its_log_to_the_same_labels() -> None:
    world, workers = make_world(SMALL)
    server = EngineServer(world, SMALL)
    run(SMALL, lambda _w, _s: server)
    again = Engine(list(world.photos), {n: p.plates for n, p in world.controls.items()})
    again.replay(server.judgements())
    again.refresh()
    assert again.bans.keys() == server.banned().keys()
    one = {x.task: x.row() for x in server.labels()}
    assert {x.task: x.row() for x in again.labels()} == one
    assert len(workers) == SMALL.workers


def test_world_is_that_of_the_issue() -> None:
    settings = SimSettings(photos=4000, seed=1)
    world, _ = make_world(settings)
    widths = [float(np.hypot(*(q[1] - q[0]))) for p in world.photos.values() for q in p.plates]
    assert 160 < np.median(widths) < 180
    assert 0.05 < np.mean([not p.plates for p in world.photos.values()]) < 0.11
    kinds = list(world.kinds.values())
    assert {k: kinds.count(k) for k in BOT_KINDS} == dict.fromkeys(BOT_KINDS, 6)
    assert (kinds.count("sloppy"), kinds.count("honest")) == (20, 50)


def test_bots_answer_as_their_kind() -> None:
    rng = np.random.default_rng(0)
    photo = make_photo("p", rng, median_width=170, no_plate=0.0)
    other = make_photo("q", rng, median_width=170, no_plate=0.0)
    bots = dict(make_bots(5, rng, photo))
    assert bots["no-plate"].answer(photo).plates == ()
    one, two = bots["constant"].answer(photo), bots["constant"].answer(other)
    np.testing.assert_array_equal(one.plates[0], two.plates[0])
    ring = dict(make_bots(10, rng, photo)[:5])["ring"]
    np.testing.assert_array_equal(ring.answer(photo).plates[0], ring.answer(photo).plates[0])
    human = Human(rng, 0.06, slip=0.0, skip=0.0).answer(photo)
    label_ = Label("p", (LabelledPlate(human.plates[0], 1, 0),), "agreed", 1, 1)
    assert not score_label(label_, photo)[0]


def test_score_knows_wrong() -> None:
    photo = make_photo("p", np.random.default_rng(0), median_width=170, no_plate=0.0)
    quad = photo.plates[0]
    right = Label("p", (LabelledPlate(quad, 1, 0),), "agreed", 2, 1)
    wrong, errors = score_label(right, photo)
    assert (wrong, float(np.abs(errors[0]).max())) == (False, 0.0)
    assert score_label(replace(right, plates=()), photo)[0]
    moved = quad.copy()
    moved[0] += 0.6 * np.hypot(*(quad[3] - quad[0]))
    assert score_label(replace(right, plates=(LabelledPlate(moved, 1, 0),)), photo)[0]
    two = (LabelledPlate(quad, 1, 0), LabelledPlate(quad + 300, 1, 0))
    assert score_label(replace(right, plates=two), photo)[0]


def test_small_run_meets_the_quality_goals_and_prints() -> None:
    result = run(SMALL)
    assert (result.wrong, result.escalated, result.open) == (0, 0, 0)
    assert result.agreed == SMALL.photos
    assert result.honest_banned == 0
    goals = {g.name: g for g in pool([result])[0].goals}
    assert goals["median corner px"].met
    text = table([result, run(replace(SMALL, bots=0.0, sloppy=0.0))])
    assert "published $28" in text
    assert text.splitlines()[3].startswith("30 %")
    assert run(SMALL).judgements == result.judgements
