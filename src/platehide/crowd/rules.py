"""Declarative quality rules: collector + condition + action (skeleton)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platehide.crowd.events import Event


@dataclass(frozen=True)
class Condition:
    """``field`` of the collector compared with ``value`` (operator: ``< <= > >= ==``)."""

    field: str
    operator: str
    value: float | str


@dataclass(frozen=True)
class Action:
    """What happens when a rule fires.

    Attributes:
        kind: ``ban`` (drops the answers, reopens the photos), ``pause`` (no tasks for a while),
            ``captcha`` (ask one now), ``reject``, ``accept`` (all the worker's answers),
            ``set_skill``, ``more_overlap``, ``flag`` (tell the requester).
        seconds: of a pause or a ban; ``None`` is for good.
        value: of ``set_skill`` and ``more_overlap``.
        scope: ``project`` or ``everywhere``.
        comment: shown to the requester.
    """

    kind: str
    seconds: float | None = None
    value: float | None = None
    scope: str = "project"
    comment: str = ""


@dataclass(frozen=True)
class Rule:
    """All ``conditions`` on ``collector`` (with its ``parameters``) hold -> ``action``."""

    name: str
    collector: str
    conditions: tuple[Condition, ...]
    action: Action
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Decision:
    """A rule that fired for a worker at a time, with the figures in ``reason``."""

    at: float
    worker: str
    rule: str
    action: Action
    reason: str


@dataclass(frozen=True)
class DryRun:
    """What one rule alone would have done to past data."""

    rule: str
    decisions: tuple[Decision, ...]
    workers_seen: int
    answers_dropped: int

    @property
    def sentence(self) -> str:
        """"would have banned 3 of 40 workers (w1, w2, w3) and dropped 57 answers"."""
        raise NotImplementedError


def parse_rules(document: object, where: str) -> tuple[Rule, ...]:
    """Rules from a parsed document, ours or Toloka-shaped. Raises ``UsageError`` with the path
    inside the document (``rules[2].conditions[0].field``)."""
    raise NotImplementedError


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Rules from a .yaml/.yml (needs pyyaml) or .json file."""
    raise NotImplementedError


def dump_rules(rules: Sequence[Rule]) -> dict[str, Any]:
    """The document of rules, as ``parse_rules`` reads it."""
    raise NotImplementedError


def default_rules() -> tuple[Rule, ...]:
    """The rules of a new project."""
    raise NotImplementedError


def evaluate(rules: Sequence[Rule], events: Iterable[Event]) -> tuple[Decision, ...]:
    """Every firing of every rule over the log, by time; a pure function of its input.

    A rule fires for a worker when its conditions become true, and again only after they were
    false (or, for a timed action, after the time ran out).
    """
    raise NotImplementedError


def dry_run(rules: Sequence[Rule], events: Iterable[Event]) -> tuple[DryRun, ...]:
    """Each rule alone on past data: whom it would have banned, when and why."""
    raise NotImplementedError
