"""Declarative quality rules: collector + condition + action.

A rule file is YAML or JSON, ours or in the shape of Toloka's ``quality_control``::

    rules:
      - name: control tasks
        collector: {type: control_tasks}
        conditions: [verdict == banned]
        action: {type: ban, comment: fails control tasks}

All conditions of a rule must hold. ``docs/annotation-quality.md`` lists collectors, fields and
actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from platehide.crowd.collectors import COLLECTORS, Collector, Fields
from platehide.crowd.events import Event
from platehide.crowd.rule_types import (
    ACTIONS,
    OPERATORS,
    Action,
    Condition,
    Decision,
    DryRun,
    Rule,
    RuleError,
)
from platehide.crowd.rules_read import (
    default_rules,
    dump_rules,
    load_rules,
    parse_rules,
    parse_rules_text,
)

__all__ = [
    "ACTIONS",
    "OPERATORS",
    "Action",
    "Condition",
    "Decision",
    "DryRun",
    "Rule",
    "RuleError",
    "Watcher",
    "default_rules",
    "dry_run",
    "dump_rules",
    "evaluate",
    "load_rules",
    "parse_rules",
    "parse_rules_text",
]


@dataclass
class _Watch:
    collector: Collector
    held: bool = False
    until: float | None = None
    forever: bool = False


class Watcher:
    """Evaluates rules one event at a time; feeding a log again gives the same decisions."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._watch: dict[tuple[int, str], _Watch] = {}

    def feed(self, event: Event) -> tuple[Decision, ...]:
        """The decisions that ``event`` brings about. Events come by time."""
        decisions = []
        for index, rule in enumerate(self._rules):
            kind = COLLECTORS[rule.collector]
            if event.kind not in kind.listens:
                continue
            key = (index, event.worker)
            watch = self._watch.get(key)
            if watch is None:
                watch = self._watch[key] = _Watch(kind.make(rule.parameters))
            watch.collector.add(event)
            fields = watch.collector.fields()
            holds = all(c.holds(fields) for c in rule.conditions)
            ran_out = watch.until is not None and event.at >= watch.until
            if holds and not watch.forever and (not watch.held or ran_out):
                decisions.append(_decide(rule, fields, event))
                watch.until = (
                    None if rule.action.seconds is None else event.at + rule.action.seconds
                )
                watch.forever = rule.action.kind == "ban" and rule.action.seconds is None
            watch.held = holds
        return tuple(decisions)


def _decide(rule: Rule, fields: Fields, event: Event) -> Decision:
    used = dict.fromkeys(c.field for c in rule.conditions)
    if "total" in fields:
        used["total"] = None
    figures = ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:.3g}'}"
        for name in used
        if (value := fields.get(name)) is not None
    )
    value = rule.action.value
    if rule.action.source:
        found = fields.get(rule.action.source)
        value = found if isinstance(found, float) else None
    reason = f"{rule.name}: {figures}" + (
        f" ({rule.action.comment})" if rule.action.comment else ""
    )
    return Decision(event.at, event.worker, rule.name, rule.action, reason, value)


def evaluate(rules: Sequence[Rule], events: Iterable[Event]) -> tuple[Decision, ...]:
    """Every firing of every rule over the log, by time; a pure function of its input.

    A rule fires for a worker when its conditions become true, and again only after they were
    false or, for a timed action, after the time ran out. A ban for good fires once.
    """
    watcher = Watcher(rules)
    ordered = sorted(events, key=lambda e: (e.at, e.worker, e.task, e.kind, e.value))
    return tuple(d for event in ordered for d in watcher.feed(event))


def dry_run(rules: Sequence[Rule], events: Iterable[Event]) -> tuple[DryRun, ...]:
    """Each rule alone on past data: whom it would have banned, when and why."""
    log = list(events)
    seen = {e.worker for e in log}
    runs = []
    for rule in rules:
        decisions = evaluate([rule], log)
        first: dict[str, float] = {}
        for d in decisions:
            first.setdefault(d.worker, d.at)
        hit = [e for e in log if e.worker in first]
        given = [e for e in hit if e.kind == "submitted"]
        runs.append(
            DryRun(
                rule=rule.name,
                action=rule.action.kind,
                decisions=decisions,
                workers_seen=len(seen),
                workers=tuple(first),
                answers_dropped=sum(e.at <= first[e.worker] for e in given),
                answers_spared=sum(e.at > first[e.worker] for e in given),
                paid_spared=sum(
                    e.value for e in hit if e.kind == "paid" and e.at > first[e.worker]
                ),
            )
        )
    return tuple(runs)
