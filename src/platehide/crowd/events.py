"""The event log that quality rules look at, and how to make one from past judgements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from platehide.crowd.aggregate import AggregatePolicy, aggregate
from platehide.crowd.judgements import Judgement, golden_of, latest
from platehide.crowd.matching import answer_right

EventKind = Literal[
    "submitted",  # value: seconds the server measured between handing out and submit
    "skipped",  # a worker skipped a task
    "control",  # value: 1 right, 0 wrong
    "training",  # value: 1 right, 0 wrong
    "agreement",  # value: 0…1, leave-one-out agreement with the other workers on a closed task
    "captcha",  # value: 1 passed, 0 failed
    "paid",  # value: amount in the project's currency
    "assessed",  # value: 1 accepted, 0 rejected by the requester
    "banned",  # the worker lost access
]

_KNOWN = 0.5
"""Leave-one-out evidence below this weight leaves the truth open and is no event."""


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``at`` is Unix seconds; see ``EventKind`` for ``value``."""

    at: float
    worker: str
    kind: EventKind
    value: float = 1.0
    task: str = ""


def events_from_judgements(
    judgements: Iterable[Judgement],
    *,
    price: float = 0.0,
    policy: AggregatePolicy | None = None,
) -> list[Event]:
    """Events of past judgements, by time, for a dry run of rules on them.

    Every answer gives ``submitted`` or ``skipped``, one on a control task ``control``, one on a
    photo whose truth the other workers know ``agreement`` (at the time it was submitted), and
    with a ``price`` above 0 ``paid``. A judgement without ``seconds`` gives no submit time.
    """
    kept = latest(judgements)
    golden = golden_of(kept)
    result = aggregate(kept, policy)
    labels = {label.task: label for label in result.labels}
    events: list[Event] = []
    for j in kept:
        if j.skip:
            events.append(Event(j.submitted_at, j.worker, "skipped", task=j.task))
            continue
        if j.seconds is not None:
            events.append(Event(j.submitted_at, j.worker, "submitted", j.seconds, j.task))
        if price > 0:
            events.append(Event(j.submitted_at, j.worker, "paid", price, j.task))
        if j.task in golden:
            right = float(answer_right(j.plates, golden[j.task]))
            events.append(Event(j.submitted_at, j.worker, "control", right, j.task))
            continue
        evidence = result.evidence.get((j.task, j.worker))
        if evidence is not None:
            right, weight = evidence
            if weight >= _KNOWN:
                value = right / weight
                events.append(Event(j.submitted_at, j.worker, "agreement", value, j.task))
        elif labels[j.task].status == "agreed":
            # A banned worker's answer is no part of the label: the label itself is the others'.
            value = float(answer_right(j.plates, [p.quad for p in labels[j.task].plates]))
            events.append(Event(j.submitted_at, j.worker, "agreement", value, j.task))
    return sorted(events, key=lambda e: (e.at, e.worker, e.task, e.kind))
