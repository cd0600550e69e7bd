"""What a quality rule is, what it decides, and what a dry run finds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from platehide.crowd.collectors import Fields
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
