"""Read and write rule files, every complaint with the place inside the document."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from platehide.crowd.collectors import COLLECTORS
from platehide.crowd.rule_types import ACTIONS, OPERATORS, Action, Condition, Rule, RuleError

_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|==|<|>)\s*(\S+)\s*\Z")
_TEXT_FIELDS = {"verdict", "last"}


def _fail(where: str, reason: str) -> NoReturn:
    raise RuleError(f"{where}: {reason}")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        _fail(where, f"must be a mapping, got {type(value).__name__}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(where, f"must be a number, got {value!r}")
    if not -sys.float_info.max <= value <= sys.float_info.max:
        _fail(where, f"must be finite, got {str(value)[:40]}")
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
