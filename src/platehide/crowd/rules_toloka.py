"""Rules in the shape of Toloka's ``quality_control``: ``configs`` of collector and rules.

Rates are percent there and shares (0…1) here. A restriction for good becomes a ban (which drops
the answers and reopens the photos), one for a time a pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platehide.crowd.rule_types import Action, Condition, Rule, RuleError
from platehide.crowd.rules_read import make_action, make_condition, make_parameters

_OPERATORS = {"GT": ">", "GTE": ">=", "LT": "<", "LTE": "<=", "EQ": "=="}

_RIGHT = {
    "total_answers_count": ("total", 1.0),
    "correct_answers_rate": ("right_rate", 0.01),
    "incorrect_answers_rate": ("wrong_rate", 0.01),
}

# Toloka's collector -> ours, and its condition keys -> (our field, factor).
_COLLECTORS: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    "GOLDEN_SET": (
        "control_tasks",
        {
            **_RIGHT,
            "golden_set_answers_count": ("total", 1.0),
            "golden_set_correct_answers_rate": ("right_rate", 0.01),
            "golden_set_incorrect_answers_rate": ("wrong_rate", 0.01),
        },
    ),
    "MAJORITY_VOTE": ("agreement", _RIGHT),
    "TRAINING": ("training", {**_RIGHT, "submitted_assignments_count": ("total", 1.0)}),
    "CAPTCHA": (
        "captcha",
        {
            "stored_results_count": ("total", 1.0),
            "success_rate": ("passed_rate", 0.01),
            "fail_rate": ("failed_rate", 0.01),
        },
    ),
    "INCOME": ("income", {"income_sum_for_last_24_hours": ("sum", 1.0)}),
    "SKIPPED_IN_ROW_ASSIGNMENTS": ("skipped_in_row", {"skipped_in_row_count": ("count", 1.0)}),
    "ANSWER_COUNT": ("answers", {"assignments_accepted_count": ("total", 1.0)}),
    "ASSIGNMENT_SUBMIT_TIME": (
        "submit_time",
        {"total_submitted_count": ("total", 1.0), "fast_submitted_count": ("fast", 1.0)},
    ),
    "ACCEPTANCE_RATE": (
        "assessment",
        {
            "total_assignments_count": ("total", 1.0),
            "accepted_assignments_rate": ("accepted_rate", 0.01),
            "rejected_assignments_rate": ("rejected_rate", 0.01),
        },
    ),
    "ASSIGNMENTS_ASSESSMENT": (
        "assessment",
        {
            "accepted_assignments_count": ("accepted", 1.0),
            "rejected_assignments_count": ("rejected", 1.0),
            "assessment_event": ("last", 1.0),
        },
    ),
    "USERS_ASSESSMENT": ("bans", {"pool_access_revoked_reason": ("total", 1.0)}),
}

# The majority here is weighed by skill, so the number of votes that make one has no counterpart.
_IGNORED_PARAMETERS = {"answer_threshold"}
_PARAMETERS = {"history_size": "history", "fast_submit_threshold_seconds": "fast_seconds"}
_SECONDS = {"MINUTES": 60.0, "HOURS": 3600.0, "DAYS": 86_400.0}
_SCOPES = {"POOL": "project", "PROJECT": "project", "ALL_PROJECTS": "everywhere"}
_EVENTS = {"ACCEPT": "accept", "ACCEPT_AFTER_REJECT": "accept", "REJECT": "reject"}
_BOTH = {"total_answers_count", "correct_answers_rate", "incorrect_answers_rate"}


def is_toloka(document: object) -> bool:
    """True for a ``quality_control`` object or a pool that holds one."""
    if not isinstance(document, Mapping):
        return False
    return "configs" in document or "quality_control" in document


def _get(row: object, key: str, where: str) -> Any:
    if not isinstance(row, Mapping) or key not in row:
        raise RuleError(f"{where}: '{key}' is missing")
    return row[key]


def _condition(row: object, kind: str, where: str) -> Condition:
    collector, keys = _COLLECTORS[kind]
    key = str(_get(row, "key", where))
    if key not in keys:
        raise RuleError(f"{where}: {kind} has no condition {key!r}; it has {', '.join(keys)}")
    name, factor = keys[key]
    op = str(_get(row, "operator", where))
    if op not in _OPERATORS:
        raise RuleError(f"{where}: unknown operator {op!r}; use one of {', '.join(_OPERATORS)}")
    value = _get(row, "value", where)
    if key == "assessment_event":
        if value not in _EVENTS:
            raise RuleError(f"{where}: unknown assessment_event {value!r}")
        value = _EVENTS[value]
    elif key == "pool_access_revoked_reason":
        if value != "RESTRICTION":
            raise RuleError(f"{where}: only pool_access_revoked_reason RESTRICTION is known here")
        return make_condition("total", ">=", 1, collector, where)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise RuleError(f"{where}: 'value' must be a number, got {value!r}")
    else:
        value = value * factor
    return make_condition(name, _OPERATORS[op], value, collector, where)


def _action(row: object, kind: str, where: str) -> Action:
    collector, keys = _COLLECTORS[kind]
    name = str(_get(row, "type", where))
    parameters = row.get("parameters") or {} if isinstance(row, Mapping) else {}
    if not isinstance(parameters, Mapping):
        raise RuleError(f"{where}.parameters: must be a mapping")
    comment = str(parameters.get("private_comment") or parameters.get("public_comment") or "")
    out: dict[str, Any] = {"comment": comment}
    if name in ("RESTRICTION", "RESTRICTION_V2"):
        scope = str(_get(parameters, "scope", f"{where}.parameters"))
        if scope not in _SCOPES:
            raise RuleError(f"{where}.parameters.scope: unknown scope {scope!r}")
        out["scope"] = _SCOPES[scope]
        seconds = _restriction_seconds(parameters, name, f"{where}.parameters")
        out |= {"type": "ban"} if seconds is None else {"type": "pause", "seconds": seconds}
    elif name == "SET_SKILL":
        value = _get(parameters, "skill_value", f"{where}.parameters")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RuleError(f"{where}.parameters.skill_value: must be a number, got {value!r}")
        out |= {"type": "set_skill", "value": value * 0.01}
    elif name == "SET_SKILL_FROM_OUTPUT_FIELD":
        source = str(_get(parameters, "from_field", f"{where}.parameters"))
        if source not in keys:
            raise RuleError(f"{where}.parameters.from_field: {kind} has no field {source!r}")
        out |= {"type": "set_skill", "source": keys[source][0]}
    elif name == "CHANGE_OVERLAP":
        out |= {"type": "more_overlap", "value": _get(parameters, "delta", f"{where}.parameters")}
    elif name == "REJECT_ALL_ASSIGNMENTS":
        out["type"] = "reject"
    elif name == "APPROVE_ALL_ASSIGNMENTS":
        out["type"] = "accept"
    else:
        raise RuleError(f"{where}: unknown action {name!r}")
    return make_action(out, collector, where)


def _restriction_seconds(parameters: Mapping[str, Any], name: str, where: str) -> float | None:
    """Seconds of a restriction, ``None`` for good."""
    if name == "RESTRICTION":
        amount, unit = parameters.get("duration_days"), "DAYS"
        if amount is None:
            return None
    else:
        unit = str(_get(parameters, "duration_unit", where))
        if unit == "PERMANENT":
            return None
        amount = _get(parameters, "duration", where)
    if unit not in _SECONDS:
        raise RuleError(f"{where}.duration_unit: unknown unit {unit!r}")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or amount <= 0:
        raise RuleError(f"{where}: the duration must be a positive number, got {amount!r}")
    return float(amount) * _SECONDS[unit]


def toloka_rules(document: Mapping[str, Any], where: str) -> tuple[Rule, ...]:
    """Rules from a ``quality_control`` object, or from a pool that holds one.

    Raises:
        RuleError: something has no counterpart here; names the place.
    """
    control = document.get("quality_control", document)
    configs = _get(control, "configs", where)
    if not isinstance(configs, list):
        raise RuleError(f"{where}: configs: must be a list")
    rules: list[Rule] = []
    for c, config in enumerate(configs):
        at = f"{where}: configs[{c}]"
        source = _get(config, "collector_config", at)
        kind = str(_get(source, "type", f"{at}.collector_config"))
        if kind not in _COLLECTORS:
            raise RuleError(f"{at}.collector_config: unknown collector {kind!r}")
        collector = _COLLECTORS[kind][0]
        given = source.get("parameters") or {}
        if not isinstance(given, Mapping):
            raise RuleError(f"{at}.collector_config.parameters: must be a mapping")
        mapped = {}
        for key, value in given.items():
            if key in _IGNORED_PARAMETERS or value is None:
                continue
            if key not in _PARAMETERS:
                raise RuleError(f"{at}.collector_config.parameters: unknown parameter {key!r}")
            mapped[_PARAMETERS[key]] = value
        entries = _get(config, "rules", at)
        if not isinstance(entries, list):
            raise RuleError(f"{at}.rules: must be a list")
        for r, row in enumerate(entries):
            place = f"{at}.rules[{r}]"
            conditions = _get(row, "conditions", place)
            if not isinstance(conditions, list) or not conditions:
                raise RuleError(f"{place}.conditions: must be a list with at least one condition")
            extra = dict(mapped)
            if kind == "GOLDEN_SET" and any(
                isinstance(x, Mapping) and x.get("key") in _BOTH for x in conditions
            ):
                # Toloka counts training answers in these three.
                extra["training"] = 1
            rules.append(
                Rule(
                    name=f"{kind} {c + 1}.{r + 1}",
                    collector=collector,
                    conditions=tuple(
                        _condition(x, kind, f"{place}.conditions[{k}]")
                        for k, x in enumerate(conditions)
                    ),
                    action=_action(_get(row, "action", place), kind, f"{place}.action"),
                    parameters=make_parameters(extra, collector, f"{at}.collector_config"),
                )
            )
    return tuple(rules)
