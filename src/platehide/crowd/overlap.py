"""How many answers a task gets and how often a control task comes."""

from __future__ import annotations

from dataclasses import dataclass

from platehide.crowd.aggregate import Label
from platehide.crowd.sequential import ControlState


@dataclass(frozen=True)
class OverlapPolicy:
    """Start with ``first`` answers, add one at a time up to ``most``.

    Attributes:
        first: answers that are asked for at once.
        most: answers a task gets at most. ``first == most`` is a fixed overlap.
        precise_px: ask for one more answer while the expected standard error of a corner's
            coordinate is larger (a large plate scatters by more pixels); ``None`` never does.
        precise_most: answers a task gets at most for the sake of ``precise_px``.
        control_share_new: share of control tasks while a worker is on probation.
        control_share_trusted: share of control tasks afterwards.
    """

    first: int = 2
    most: int = 5
    precise_px: float | None = 2.0
    precise_most: int = 3
    control_share_new: float = 0.5
    control_share_trusted: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.most:
            raise ValueError(f"1 <= first <= most, got {self.first} and {self.most}")
        for name in ("control_share_new", "control_share_trusted"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} lies in 0…1, got {getattr(self, name)}")


def slots_wanted(label: Label | None, counted: int, leased: int, policy: OverlapPolicy) -> int:
    """Further answers to hand out now for a task: 0 when it is agreed, escalated or full.

    Args:
        label: the task's newest label, ``None`` before the first answer.
        counted: answers that count (banned workers' left out, skips included).
        leased: slots that workers hold at this moment.
        policy: how many.
    """
    under_way = counted + leased
    if under_way >= policy.most:
        return 0
    if counted < policy.first or label is None:
        return max(0, policy.first - under_way)
    if label.status == "escalated" or leased > 0:
        return 0
    if label.status == "open":
        return 1
    if policy.precise_px is None or counted >= min(policy.precise_most, policy.most):
        return 0
    return int(any(p.error_px > policy.precise_px for p in label.plates))


def control_due(state: ControlState, draw: float, policy: OverlapPolicy) -> bool:
    """Whether the next task of a worker is a control task; ``draw`` is uniform in 0…1.

    The share depends on the worker's own record alone, so that a new worker (every bot is one)
    is known after a few tasks and a trusted one costs little.
    """
    trusted = state.verdict == "trusted"
    return draw < (policy.control_share_trusted if trusted else policy.control_share_new)
