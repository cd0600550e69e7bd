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

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from platehide.crowd.collectors import COLLECTORS, Collector, Fields
from platehide.crowd.events import Event
from platehide.errors import UsageError

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}

ACTIONS = {
    "ban": "drop the worker's answers, reopen the photos, give no more tasks",
    "pause": "give no tasks for a time; the answers stay",
    "captcha": "ask for a captcha before the next task",
    "reject": "reject all the worker's answers: they are dropped and not paid",
    "accept": "accept all the worker's answers",
    "set_skill": "set the worker's skill to a value or to a field of the collector",
    "more_overlap": "ask for further answers on the worker's photos",
    "flag": "tell the requester",
}

_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|<|>)\s*(\S+)\s*\Z")
_TEXT_FIELDS = {"verdict", "last"}


class RuleError(UsageError):
    """A rule file is wrong; the message names the file, the place inside it and the reason."""

    code = "rules"


@dataclass(frozen=True)
class Condition:
    """``field`` of the collector compared with ``value`` (operator: ``< <= > >= ==``)."""

    field: str
    operator: str
    value: float | str

    def holds(self, fields: Fields) -> bool:
        """Whether it holds; False while the field has no value yet."""
        found = fields.get(self.field)
        return found is not None and OPERATORS[self.operator](found, self.value)

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.field} {self.operator} {value}"


@dataclass(frozen=True)
class Action:
    """What happens when a rule fires.

    Attributes:
        kind: a key of ``ACTIONS``.
        seconds: how long a pause or ban lasts; ``None`` is for good.
        value: the skill of ``set_skill``, the further answers of ``more_overlap``.
        source: the collector's field whose value ``set_skill`` takes instead of ``value``.
        scope: ``project`` or ``everywhere``.
        comment: shown to the requester.
    """

    kind: str
    seconds: float | None = None
    value: float | None = None
    source: str = ""
    scope: str = "project"
    comment: str = ""


@dataclass(frozen=True)
class Rule:
    """All ``conditions`` on ``collector`` (with its ``parameters``) hold -> ``action``."""

    name: str
    collector: str
    conditions: tuple[Condition, ...]
    action: Action
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A rule that fired for a worker at a time, with the figures in ``reason``.

    ``value`` is what ``set_skill`` sets and ``more_overlap`` adds.
    """

    at: float
    worker: str
    rule: str
    action: Action
    reason: str
    value: float | None = None


@dataclass(frozen=True)
class DryRun:
    """What one rule alone would have done to past data.

    Attributes:
        rule: name.
        action: kind of its action.
        decisions: every firing, by time.
        workers_seen: workers in the data.
        workers: those for whom it fired, in the order of the first firing.
        answers_dropped: answers that these workers gave up to then.
        answers_spared: answers that they gave afterwards and would not have given.
        paid_spared: paid for the latter.
    """

    rule: str
    action: str
    decisions: tuple[Decision, ...]
    workers_seen: int
    workers: tuple[str, ...]
    answers_dropped: int
    answers_spared: int
    paid_spared: float

    @property
    def sentence(self) -> str:
        """For example "would have banned 2 of 40 workers (w1, w7)…"."""
        verbs = {
            "ban": "banned",
            "pause": "paused",
            "captcha": "asked for a captcha",
            "reject": "rejected the answers of",
            "accept": "accepted the answers of",
            "set_skill": "set the skill of",
            "more_overlap": "raised the overlap for",
            "flag": "flagged",
        }
        who = f"{len(self.workers)} of {self.workers_seen} workers"
        if not self.workers:
            return f"would have {verbs[self.action]} none of {self.workers_seen} workers"
        names = ", ".join(self.workers[:10]) + (", …" if len(self.workers) > 10 else "")
        text = f"would have {verbs[self.action]} {who} ({names})"
        if self.action in ("ban", "reject"):
            text += f", dropped {self.answers_dropped} answers and spared {self.answers_spared}"
            if self.paid_spared:
                text += f" worth {self.paid_spared:.2f}"
        return text


# --- reading and writing ---------------------------------------------------------------------


def _fail(where: str, reason: str) -> NoReturn:
    raise RuleError(f"{where}: {reason}")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _fail(where, f"must be a mapping, got {type(value).__name__}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(where, f"must be a number, got {value!r}")
    if not math.isfinite(value):
        _fail(where, f"must be finite, got {value!r}")
    return float(value)


def _only(value: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    names = sorted(allowed)
    for key in value:
        if key not in names:
            _fail(where, f"unknown key {key!r}; it has {', '.join(names)}")


def _condition(value: object, collector: str, where: str) -> Condition:
    if isinstance(value, str):
        match = _CONDITION.match(value)
        if match is None:
            _fail(where, f"must read like 'right_rate < 0.6', got {value!r}")
        name, op, text = match.groups()
        raw: object = text
        if name not in _TEXT_FIELDS:
            try:
                raw = float(text)
            except ValueError:
                _fail(where, f"{text!r} is not a number")
    else:
        row = _mapping(value, where)
        _only(row, ("field", "operator", "value"), where)
        for key in ("field", "operator", "value"):
            if key not in row:
                _fail(where, f"'{key}' is missing")
        name, op, raw = str(row["field"]), str(row["operator"]), row["value"]
    return make_condition(name, op, raw, collector, where)


def make_condition(name: str, op: str, raw: object, collector: str, where: str) -> Condition:
    """A condition, checked against what ``collector`` has. Raises ``RuleError``."""
    kind = COLLECTORS[collector]
    if name not in kind.fields:
        _fail(
            where, f"collector {collector} has no field {name!r}; it has {', '.join(kind.fields)}"
        )
    if op not in OPERATORS:
        _fail(where, f"unknown operator {op!r}; use one of {' '.join(OPERATORS)}")
    if name in _TEXT_FIELDS:
        if op != "==":
            _fail(where, f"{name} is a word and can only be compared with ==")
        return Condition(name, op, str(raw))
    return Condition(name, op, _number(raw, where))


def make_action(row: Mapping[str, Any], collector: str, where: str) -> Action:
    """An action, checked. Raises ``RuleError``."""
    _only(row, ("type", "seconds", "value", "source", "scope", "comment"), where)
    kind = str(row.get("type", ""))
    if kind not in ACTIONS:
        _fail(where, f"unknown action {kind!r}; use one of {', '.join(ACTIONS)}")
    seconds = None if row.get("seconds") is None else _number(row["seconds"], f"{where}.seconds")
    value = None if row.get("value") is None else _number(row["value"], f"{where}.value")
    source = str(row.get("source", ""))
    if seconds is not None and seconds <= 0:
        _fail(f"{where}.seconds", f"must be positive, got {seconds:g}")
    if kind == "pause" and seconds is None:
        _fail(where, "a pause needs 'seconds'")
    if kind == "more_overlap" and (value is None or value < 1 or value != int(value)):
        _fail(where, "more_overlap needs 'value', a whole number from 1")
    if kind == "set_skill":
        if (value is None) == (source == ""):
            _fail(where, "set_skill needs either 'value' or 'source'")
        if source and source not in COLLECTORS[collector].fields:
            _fail(f"{where}.source", f"collector {collector} has no field {source!r}")
    scope = str(row.get("scope", "project"))
    if scope not in ("project", "everywhere"):
        _fail(f"{where}.scope", f"must be 'project' or 'everywhere', got {scope!r}")
    return Action(kind, seconds, value, source, scope, str(row.get("comment", "")))


def make_parameters(row: Mapping[str, Any], collector: str, where: str) -> dict[str, float]:
    """Parameters of a collector, checked. Raises ``RuleError``."""
    kind = COLLECTORS[collector]
    _only(row, kind.parameters, where)
    parameters = {k: _number(v, f"{where}.{k}") for k, v in row.items()}
    for key, number in parameters.items():
        if number < 0 or (key == "history" and (number < 1 or number != int(number))):
            _fail(f"{where}.{key}", f"must be positive, got {number:g}")
    for key in kind.required:
        if key not in parameters:
            _fail(where, f"collector {collector} needs '{key}'")
    try:
        kind.make(parameters)
    except ValueError as error:
        _fail(where, str(error))
    return parameters


def _rule(value: object, index: int, where: str) -> Rule:
    row = _mapping(value, where)
    _only(row, ("name", "collector", "conditions", "action"), where)
    for key in ("collector", "conditions", "action"):
        if key not in row:
            _fail(where, f"'{key}' is missing")
    raw = row["collector"]
    config = {"type": raw} if isinstance(raw, str) else dict(_mapping(raw, f"{where}.collector"))
    collector = str(config.pop("type", ""))
    if collector not in COLLECTORS:
        _fail(
            f"{where}.collector",
            f"unknown collector {collector!r}; use one of {', '.join(COLLECTORS)}",
        )
    parameters = make_parameters(config, collector, f"{where}.collector")
    conditions = row["conditions"]
    if not isinstance(conditions, list) or not conditions:
        _fail(f"{where}.conditions", "must be a list with at least one condition")
    raw_action = row["action"]
    action = {"type": raw_action} if isinstance(raw_action, str) else raw_action
    return Rule(
        name=str(row.get("name") or f"rule {index + 1}"),
        collector=collector,
        conditions=tuple(
            _condition(c, collector, f"{where}.conditions[{k}]") for k, c in enumerate(conditions)
        ),
        action=make_action(_mapping(action, f"{where}.action"), collector, f"{where}.action"),
        parameters=parameters,
    )


def parse_rules(document: object, where: str) -> tuple[Rule, ...]:
    """Rules from a parsed document, ours or Toloka-shaped.

    Raises:
        RuleError: names the place inside the document, e.g. ``rules[2].conditions[0]``.
    """
    from platehide.crowd.rules_toloka import is_toloka, toloka_rules

    if is_toloka(document):
        rules = toloka_rules(_mapping(document, where), where)
    else:
        row = _mapping(document, where)
        _only(row, ("version", "rules"), where)
        if row.get("version", 1) != 1:
            _fail(f"{where}: version", f"only version 1 is known, got {row['version']!r}")
        if not isinstance(row.get("rules"), list):
            _fail(where, "'rules' must be a list")
        rules = tuple(_rule(r, k, f"{where}: rules[{k}]") for k, r in enumerate(row["rules"]))
    seen: set[str] = set()
    for k, rule in enumerate(rules):
        if rule.name in seen:
            _fail(f"{where}: rules[{k}]", f"a second rule is called {rule.name!r}")
        seen.add(rule.name)
    return rules


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Rules from a .yaml/.yml (needs pyyaml) or .json file. Raises ``RuleError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: {error}") from error
    return parse_rules_text(text, str(path), yaml=path.suffix.lower() in (".yaml", ".yml"))


def parse_rules_text(text: str, where: str, *, yaml: bool = True) -> tuple[Rule, ...]:
    """Rules from the text of a file; syntax errors name the line. Raises ``RuleError``."""
    if yaml:
        try:
            import yaml as pyyaml
        except ModuleNotFoundError as error:
            raise RuleError(
                f"{where}: YAML needs pyyaml (pip install 'platehide[annotate]'); "
                "rules may also be given as JSON"
            ) from error

        try:
            document = pyyaml.safe_load(text)
        except pyyaml.YAMLError as error:
            raise RuleError(f"{where}: not YAML: {error}") from error
    else:
        try:
            document = json.loads(text)
        except ValueError as error:
            raise RuleError(f"{where}: not JSON: {error}") from error
    return parse_rules(document, where)


def dump_rules(rules: Sequence[Rule]) -> dict[str, Any]:
    """The document of rules, as ``parse_rules`` reads it."""
    rows = []
    for rule in rules:
        action: dict[str, Any] = {"type": rule.action.kind, "scope": rule.action.scope}
        for key in ("seconds", "value"):
            if getattr(rule.action, key) is not None:
                action[key] = getattr(rule.action, key)
        for key in ("source", "comment"):
            if getattr(rule.action, key):
                action[key] = getattr(rule.action, key)
        rows.append(
            {
                "name": rule.name,
                "collector": dict[str, Any]({"type": rule.collector}, **rule.parameters),
                "conditions": [
                    {"field": c.field, "operator": c.operator, "value": c.value}
                    for c in rule.conditions
                ],
                "action": action,
            }
        )
    return {"version": 1, "rules": rows}


def default_rules() -> tuple[Rule, ...]:
    """The rules of a new project."""
    day, hour = 86_400.0, 3_600.0
    return (
        Rule(
            "control tasks",
            "control_tasks",
            (Condition("verdict", "==", "banned"),),
            Action("ban", comment="fails control tasks"),
        ),
        Rule(
            "agreement",
            "agreement",
            (Condition("total", ">=", 10.0), Condition("wilson_high", "<", 0.4)),
            Action("ban", comment="disagrees with everyone else"),
        ),
        Rule(
            "too fast",
            "submit_time",
            (Condition("fast", ">=", 6.0),),
            Action("pause", seconds=day, comment="answers faster than anyone can look"),
            {"fast_seconds": 1.5, "history": 10.0},
        ),
        Rule(
            "captcha",
            "captcha",
            (Condition("failed_in_row", ">=", 3.0),),
            Action("pause", seconds=day, comment="fails captchas"),
        ),
        Rule(
            "skips",
            "skipped_in_row",
            (Condition("count", ">=", 10.0),),
            Action("pause", seconds=hour, comment="skips everything"),
        ),
        Rule(
            "income",
            "income",
            (Condition("sum", ">=", 20.0),),
            Action("pause", seconds=day, comment="daily income reached"),
            {"hours": 24.0},
        ),
    )


# --- evaluation ------------------------------------------------------------------------------


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
