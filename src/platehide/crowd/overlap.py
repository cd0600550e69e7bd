"""How many answers a task gets and how often a control task comes (skeleton)."""

from __future__ import annotations

from dataclasses import dataclass

from platehide.crowd.aggregate import Label
from platehide.crowd.sequential import ControlState


@dataclass(frozen=True)
class OverlapPolicy:
    """Start with ``first`` answers, add one at a time up to ``most``.

    Attributes:
        first: answers that are asked for at once.
        most: answers a task gets at most.
        control_share_new: share of control tasks while a worker is on probation.
        control_share_trusted: share of control tasks afterwards.
    """

    first: int = 2
    most: int = 5
    control_share_new: float = 0.5
    control_share_trusted: float = 0.05


def slots_wanted(label: Label | None, counted: int, leased: int, policy: OverlapPolicy) -> int:
    """Further answers to hand out now for a task: 0 when it is agreed, escalated or full.

    Args:
        label: the task's newest label, ``None`` before the first answer.
        counted: answers that count (banned workers' left out, skips included).
        leased: slots that workers hold at this moment.
        policy: how many.
    """
    raise NotImplementedError


def control_due(state: ControlState, draw: float, policy: OverlapPolicy) -> bool:
    """Whether the next task of a worker is a control task; ``draw`` is uniform in 0…1."""
    raise NotImplementedError
