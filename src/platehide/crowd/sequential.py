"""Decide on a worker one control answer at a time.

Wald's sequential probability ratio test (A. Wald, "Sequential tests of statistical hypotheses",
1945) between a good worker (0.85 right) and a bad one (0.40), its log ratio kept from running
below the trust bound (E. S. Page, "Continuous inspection schemes", 1954) so that a worker who
turns bad after a good start is still found; and E. B. Wilson's score interval (1927) from eight
control answers on. A fixed "60 % of the last 10" bans 6.2 % of good workers instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["probation", "trusted", "banned"]


@dataclass(frozen=True)
class ControlPolicy:
    """How control answers decide.

    Attributes:
        good: share of right answers of a good worker.
        bad: share of right answers of a bad one.
        ban_good: largest accepted chance to ban a good worker (alpha).
        trust_bad: largest accepted chance to trust a bad worker (beta).
        wilson_from: control answers from which Wilson's bound is asked too.
        wilson_bar: ban where the upper bound of the right share lies below this.
        z: of Wilson's interval (1.96 is 95 %).
    """

    good: float = 0.85
    bad: float = 0.40
    ban_good: float = 0.02
    trust_bad: float = 0.05
    wilson_from: int = 8
    wilson_bar: float = 0.60
    z: float = 1.96

    def __post_init__(self) -> None:
        if not 0.0 < self.bad < self.good < 1.0:
            raise ValueError(f"0 < bad < good < 1, got bad {self.bad}, good {self.good}")
        if not (0.0 < self.ban_good < 0.5 and 0.0 < self.trust_bad < 0.5):
            raise ValueError("ban_good and trust_bad lie in 0…0.5")

    @property
    def ban_at(self) -> float:
        """Log likelihood ratio (bad over good) from which a worker is banned."""
        return math.log((1.0 - self.trust_bad) / self.ban_good)

    @property
    def trust_at(self) -> float:
        """Log likelihood ratio (bad over good) down to which a worker is on probation."""
        return math.log(self.trust_bad / (1.0 - self.ban_good))


@dataclass(frozen=True)
class ControlState:
    """What a worker's control answers say so far. Start with ``ControlState()``.

    ``verdict`` is ``banned`` for good once reached, ``trusted`` once the trust bound was reached.
    """

    right: int = 0
    total: int = 0
    log_ratio: float = 0.0
    verdict: Verdict = "probation"
    reason: str = ""


def wilson(right: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a share; (0, 1) where ``total`` is 0."""
    if total <= 0:
        return 0.0, 1.0
    p, zz = right / total, z * z / total
    centre = (p + zz / 2.0) / (1.0 + zz)
    half = z * math.sqrt(max(p * (1.0 - p), 0.0) / total + zz / (4.0 * total)) / (1.0 + zz)
    return max(0.0, centre - half), min(1.0, centre + half)


def advance(state: ControlState, right: bool, policy: ControlPolicy) -> ControlState:
    """The state after one more control answer."""
    step = (
        math.log(policy.bad / policy.good)
        if right
        else math.log((1.0 - policy.bad) / (1.0 - policy.good))
    )
    log_ratio = max(state.log_ratio + step, policy.trust_at)
    n_right, total = state.right + int(right), state.total + 1
    verdict, reason = state.verdict, state.reason
    if verdict != "banned":
        high = wilson(n_right, total, policy.z)[1]
        if log_ratio >= policy.ban_at:
            verdict = "banned"
            reason = f"control tasks: {n_right} of {total} right (sequential test)"
        elif total >= policy.wilson_from and high < policy.wilson_bar:
            verdict = "banned"
            reason = (
                f"control tasks: {n_right} of {total} right "
                f"(at most {high:.0%} with 95 % confidence)"
            )
        elif log_ratio <= policy.trust_at:
            verdict = "trusted"
    return ControlState(n_right, total, log_ratio, verdict, reason)


def judge(results: Iterable[bool], policy: ControlPolicy | None = None) -> ControlState:
    """The state after control answers in the order in which they were given."""
    chosen = policy or ControlPolicy()
    state = ControlState()
    for right in results:
        state = advance(state, right, chosen)
    return state
