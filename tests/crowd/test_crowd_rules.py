from __future__ import annotations

import json
from pathlib import Path

import pytest

from platehide.crowd.collectors import COLLECTORS
from platehide.crowd.events import Event, EventKind, events_from_judgements
from platehide.crowd.judgements import Judgement
from platehide.crowd.rules import (
    Action,
    Condition,
    Rule,
    RuleError,
    Watcher,
    default_rules,
    dry_run,
    dump_rules,
    evaluate,
    load_rules,
    parse_rules,
    parse_rules_text,
)

YAML = """
version: 1
rules:
  - name: control tasks
    collector: {type: control_tasks}
    conditions: [verdict == banned]
    action: {type: ban, comment: fails control tasks}
  - name: too fast
    collector: {type: submit_time, fast_seconds: 2, history: 5}
    conditions:
      - {field: fast, operator: ">=", value: 3}
      - total >= 4
    action: {type: pause, seconds: 3600}
"""


def log(kind: EventKind, values: list[float], worker: str = "w", step: float = 1.0) -> list[Event]:
    return [Event(k * step, worker, kind, v, f"t{k}") for k, v in enumerate(values)]


def rule(collector: str, *conditions: str, action: object = "flag", **parameters: float) -> Rule:
    document = {
        "rules": [
            {
                "name": "r",
                "collector": {"type": collector, **parameters},
                "conditions": list(conditions),
                "action": action,
            }
        ]
    }
    return parse_rules(document, "test")[0]


def times(one: Rule, events: list[Event]) -> list[float]:
    return [d.at for d in evaluate([one], events)]


def test_no_rules_and_no_events() -> None:
    assert evaluate([], log("control", [0.0])) == ()
    assert evaluate(default_rules(), []) == ()
    assert parse_rules({"rules": []}, "f") == ()


def test_yaml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(YAML, encoding="utf-8")
    rules = load_rules(path)
    assert [r.name for r in rules] == ["control tasks", "too fast"]
    assert rules[1] == Rule(
        "too fast",
        "submit_time",
        (Condition("fast", ">=", 3.0), Condition("total", ">=", 4.0)),
        Action("pause", seconds=3600.0),
        {"fast_seconds": 2.0, "history": 5.0},
    )
    (tmp_path / "again.json").write_text(json.dumps(dump_rules(rules)), encoding="utf-8")
    assert load_rules(tmp_path / "again.json") == rules
    assert parse_rules(dump_rules(default_rules()), "default") == default_rules()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("control_tasks", "controls", "rules[0].collector: unknown collector 'controls'"),
        ("verdict == banned", "verdict < banned", "rules[0].conditions[0]: verdict is a word"),
        ("verdict == banned", "wrongness > 1", "has no field 'wrongness'"),
        ("verdict == banned", "total > many", "'many' is not a number"),
        ("verdict == banned", "total ~ 3", "must read like"),
        ("type: ban", "type: kill", "rules[0].action: unknown action 'kill'"),
        (", seconds: 3600", "", "rules[1].action: a pause needs 'seconds'"),
        ("fast_seconds: 2, ", "", "rules[1].collector: collector submit_time needs"),
        ("history: 5", "history: 0", "rules[1].collector.history"),
        ("too fast", "control tasks", "a second rule is called 'control tasks'"),
        ("version: 1", "version: 2", "only version 1"),
        ("    action: {type: ban", "    actoin: {type: ban", "unknown key 'actoin'"),
        ("rules:", "rules: [", "line"),
    ],
)
def test_bad_rules_name_the_place(old: str, new: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_rules_text(YAML.replace(old, new, 1), "rules.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("rules.yaml")


def test_every_collector_gives_the_fields_it_promises() -> None:
    for name, kind in COLLECTORS.items():
        collector = kind.make({"fast_seconds": 1.0} if "fast_seconds" in kind.required else {})
        for event_kind in kind.listens:
            collector.add(Event(1.0, "w", event_kind, 1.0))
        missing = set(kind.fields) ^ set(collector.fields())
        # A collector fed with training alone holds nothing yet unless it was told to.
        assert not missing, (name, missing)


def test_control_tasks_ban_sequentially_and_once() -> None:
    one = rule("control_tasks", "verdict == banned", action="ban")
    assert times(one, log("control", [0.0] * 6)) == [2.0]
    assert times(one, log("control", [1.0] * 20)) == []


def test_rate_over_a_history_fires_on_the_edge_and_again_after_recovery() -> None:
    one = rule("control_tasks", "total >= 4", "right_rate < 0.5", history=4)
    wrong_then_right = [0.0] * 4 + [1.0] * 4 + [0.0] * 4
    assert times(one, log("control", wrong_then_right)) == [3.0, 10.0]


def test_submit_time_and_skips_in_a_row() -> None:
    fast = rule("submit_time", "fast >= 3", fast_seconds=2.0, history=5)
    assert times(fast, log("submitted", [1.0, 9.0, 1.0, 9.0, 1.0])) == [4.0]
    assert times(fast, log("submitted", [1.0, 9.0, 9.0, 1.0, 9.0, 9.0, 1.0])) == []
    skips = rule("skipped_in_row", "count >= 3")
    events = [*log("skipped", [1.0] * 2), Event(2.0, "w", "submitted", 9.0)]
    assert times(skips, events) == []
    assert times(skips, [*events, *(Event(3.0 + k, "w", "skipped") for k in range(3))]) == [5.0]


def test_income_is_of_the_last_24_hours() -> None:
    cap = rule("income", "sum >= 10", action={"type": "pause", "seconds": 86400})
    hourly = [Event(k * 3600.0, "w", "paid", 0.4) for k in range(60)]
    assert times(cap, hourly) == []
    rich = [Event(k * 3600.0, "w", "paid", 1.0) for k in range(60)]
    # At the tenth, and again when the day is over and the income still too high.
    assert times(cap, rich) == [9 * 3600.0, 33 * 3600.0, 57 * 3600.0]


def test_captcha_agreement_assessment_answers() -> None:
    captcha = rule("captcha", "failed_in_row >= 2")
    assert times(captcha, log("captcha", [0.0, 1.0, 0.0, 0.0])) == [3.0]
    agreement = rule("agreement", "total >= 8", "wilson_high < 0.4", action="ban")
    assert times(agreement, log("agreement", [0.1] * 12)) == [10.0]
    assessed = rule("assessment", "last == reject", action={"type": "more_overlap", "value": 1})
    decisions = evaluate([assessed], log("assessed", [1.0, 0.0, 0.0, 1.0, 0.0]))
    assert [(d.at, d.value) for d in decisions] == [(1.0, 1.0), (4.0, 1.0)]
    answers = rule("answers", "total >= 3", action={"type": "set_skill", "source": "total"})
    assert [d.value for d in evaluate([answers], log("submitted", [9.0] * 5))] == [3.0]


def test_workers_are_judged_apart_and_order_does_not_matter() -> None:
    one = rule("control_tasks", "verdict == banned", action="ban")
    events = log("control", [0.0] * 5, "bad") + log("control", [1.0] * 5, "good")
    decisions = evaluate([one], events)
    assert [d.worker for d in decisions] == ["bad"]
    assert evaluate([one], events[::-1]) == decisions
    watcher = Watcher([one])
    fed = [d for e in sorted(events, key=lambda e: (e.at, e.worker)) for d in watcher.feed(e)]
    assert tuple(fed) == decisions
    assert "verdict banned" in decisions[0].reason


def test_dry_run_counts_what_would_have_been_dropped_and_spared() -> None:
    one = rule("submit_time", "fast >= 2", action="ban", fast_seconds=2.0)
    events = log("submitted", [1.0, 1.0, 1.0, 1.0], "fast") + log("submitted", [9.0] * 4, "slow")
    events += [Event(float(k), "fast", "paid", 0.5) for k in range(4)]
    run = dry_run([one], events)[0]
    assert (run.workers, run.workers_seen) == (("fast",), 2)
    assert (run.answers_dropped, run.answers_spared, run.paid_spared) == (2, 2, 1.0)
    assert run.sentence == (
        "would have banned 1 of 2 workers (fast), dropped 2 answers and spared 2 worth 1.00"
    )
    nobody = dry_run([one], log("submitted", [9.0]))[0]
    assert nobody.sentence == "would have banned none of 1 workers"


TOLOKA = {
    "captcha_frequency": "MEDIUM",
    "configs": [
        {
            "collector_config": {
                "uuid": "bdc3f4a5-0000-4000-8000-000000000001",
                "type": "GOLDEN_SET",
                "parameters": {"history_size": 10},
            },
            "rules": [
                {
                    "conditions": [
                        {"key": "golden_set_answers_count", "operator": "GTE", "value": 4},
                        {
                            "key": "golden_set_correct_answers_rate",
                            "operator": "LT",
                            "value": 60,
                        },
                    ],
                    "action": {
                        "type": "RESTRICTION_V2",
                        "parameters": {
                            "scope": "ALL_PROJECTS",
                            "duration_unit": "PERMANENT",
                            "private_comment": "bad controls",
                        },
                    },
                },
                {
                    "conditions": [{"key": "total_answers_count", "operator": "GT", "value": 2}],
                    "action": {
                        "type": "SET_SKILL_FROM_OUTPUT_FIELD",
                        "parameters": {"skill_id": "1", "from_field": "correct_answers_rate"},
                    },
                },
            ],
        },
        {
            "collector_config": {
                "type": "ASSIGNMENT_SUBMIT_TIME",
                "parameters": {"fast_submit_threshold_seconds": 20, "history_size": 5},
            },
            "rules": [
                {
                    "conditions": [{"key": "fast_submitted_count", "operator": "GT", "value": 3}],
                    "action": {
                        "type": "RESTRICTION_V2",
                        "parameters": {"scope": "POOL", "duration": 2, "duration_unit": "HOURS"},
                    },
                }
            ],
        },
        {
            "collector_config": {"type": "ASSIGNMENTS_ASSESSMENT"},
            "rules": [
                {
                    "conditions": [
                        {"key": "assessment_event", "operator": "EQ", "value": "REJECT"}
                    ],
                    "action": {
                        "type": "CHANGE_OVERLAP",
                        "parameters": {"delta": 1, "open_pool": True},
                    },
                }
            ],
        },
    ],
}


def test_toloka_rules() -> None:
    rules = parse_rules(TOLOKA, "toloka.json")
    assert [r.collector for r in rules] == [
        "control_tasks", "control_tasks", "submit_time", "assessment",
    ]  # fmt: skip
    golden, skill, fast, overlap = rules
    assert golden.conditions == (
        Condition("total", ">=", 4.0),
        Condition("right_rate", "<", pytest.approx(0.6)),  # type: ignore[arg-type]
    )
    assert golden.action == Action("ban", scope="everywhere", comment="bad controls")
    assert golden.parameters == {"history": 10.0}
    assert skill.parameters == {"history": 10.0, "training": 1.0}
    assert (skill.action.kind, skill.action.source) == ("set_skill", "right_rate")
    assert fast.action == Action("pause", seconds=7200.0)
    assert overlap.action == Action("more_overlap", value=1.0)
    assert parse_rules({"quality_control": TOLOKA}, "pool.json") == rules
    assert parse_rules(dump_rules(rules), "ours") == rules


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"GOLDEN_SET"', '"SILVER_SET"', "configs[0].collector_config: unknown collector"),
        ('"GTE"', '"NEAR"', "configs[0].rules[0].conditions[0]: unknown operator 'NEAR'"),
        ('"fast_submitted_count"', '"fail_rate"', "has no condition 'fail_rate'"),
        ('"PERMANENT"', '"WEEKS"', "'duration' is missing"),
        ('"HOURS"', '"WEEKS"', "unknown unit 'WEEKS'"),
        ('"POOL"', '"PLANET"', "unknown scope 'PLANET'"),
        ('"CHANGE_OVERLAP"', '"DANCE"', "configs[2].rules[0].action: unknown action 'DANCE'"),
        ('"delta": 1', '"delta": 0', "a whole number from 1"),
        ('"value": 4', '"value": "4"', "'value' must be a number"),
        ('"history_size": 10', '"memory": 10', "unknown parameter 'memory'"),
    ],
)
def test_bad_toloka_rules_name_the_place(old: str, new: str, message: str) -> None:
    text = json.dumps(TOLOKA)
    assert old in text
    with pytest.raises(RuleError) as caught:
        parse_rules_text(text.replace(old, new, 1), "q.json", yaml=False)
    assert message in str(caught.value)


def test_events_of_past_judgements() -> None:
    import numpy as np

    quad = np.array([[10.0, 10.0], [110.0, 12.0], [110.0, 34.0], [10.0, 32.0]])

    def judgement(task: str, worker: str, at: float, golden: bool = False) -> Judgement:
        plates = () if worker == "bot" else (quad,)
        truth = (quad,) if golden else None
        return Judgement(task, worker, 640, 480, at, 4.0, plates, False, truth)

    controls = [judgement(f"g{k}", w, float(k), True) for k in range(4) for w in ("a", "b", "bot")]
    photos = [judgement("t", w, 9.0) for w in ("a", "b", "bot")]
    events = events_from_judgements([*controls, *photos], price=0.01)
    kinds = [e.kind for e in events if e.worker == "bot"]
    assert (kinds.count("control"), kinds.count("submitted"), kinds.count("paid")) == (4, 5, 5)
    agreement = {e.worker: e.value for e in events if e.kind == "agreement"}
    assert agreement["bot"] == 0.0
    assert agreement["a"] > 0.9
    banned = [d.worker for d in evaluate(default_rules(), events) if d.action.kind == "ban"]
    assert banned == ["bot"]
