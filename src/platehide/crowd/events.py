"""The event log that quality rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal[
    "submitted",  # value: seconds the server measured between handing out and submit
    "skipped",  # a worker skipped a task
    "control",  # value: 1 right, 0 wrong
    "agreement",  # value: 0…1, leave-one-out agreement with the other workers on a closed task
    "captcha",  # value: 1 passed, 0 failed
    "paid",  # value: amount in the project's currency
    "assessed",  # value: 1 accepted, 0 rejected by the requester
]


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``at`` is Unix seconds; see ``EventKind`` for ``value``."""

    at: float
    worker: str
    kind: EventKind
    value: float = 1.0
    task: str = ""
