"""What a requester can set for a project, checked on the way in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from platehide.crowd.aggregate import AggregatePolicy
from platehide.crowd.overlap import OverlapPolicy
from platehide.crowd.rules import Rule, default_rules, parse_rules
from platehide.errors import UsageError

DEFAULT_INSTRUCTIONS = """\
# What to do
Mark the **four corners** of every licence plate that is asked for, as exactly as you can.

- Several plates, but only one can be marked? Take the one of the main car: the largest.
- Click the four corners of the plate itself: the outer edge of the plate, frame not included.
- The order does not matter; the corners sort themselves.
- Zoom in; brighten a dark photo. A corner should be right to a pixel or two.
- Follow the slant: the shape need not be a rectangle.
- Part of the plate is hidden or cut off? Click where the corner would be, or the picture's edge.

# When there is nothing to mark
- **No plate**: there is no licence plate on the photo.
- **Unreadable**: there is a plate, but you cannot tell where its corners are.

Some tasks are checked against a known answer. Careful people pass them without noticing.
"""


@dataclass(frozen=True)
class ProjectSettings:
    """Settings of a project.

    Attributes:
        several_plates: ask for every plate of a photo, not only the main one.
        price: paid for one accepted judgement.
        currency: shown beside amounts.
        overlap_min, overlap_max: judgements a photo: start with the first, add one at a time.
        posterior: certainty from which two agreeing answers settle a photo.
        control_share_new: share of control tasks while a worker is on probation.
        control_share: share of control tasks once a worker is trusted.
        training_tasks: training tasks before the first paid task (as many as exist at most).
        lease_seconds: how long a slot is held for a worker.
        min_seconds: an answer given faster than this counts as too fast.
        captcha_every: tasks between two captchas (0 = never; jittered by a quarter).
        income_cap: most that a worker can earn a day (0 = no cap).
        proposal_share: share of first judgements that show the model's proposal (0 = never).
        order: ``uncertain`` first, or ``random``.
        split_val, split_test: shares of groups in the export's splits.
        rules: quality rules as YAML; "" = the recommended ones.
    """

    several_plates: bool = False
    price: float = 0.0023
    currency: str = "USD"
    overlap_min: int = 2
    overlap_max: int = 5
    posterior: float = 0.99
    control_share_new: float = 0.5
    control_share: float = 0.05
    training_tasks: int = 3
    lease_seconds: float = 600.0
    min_seconds: float = 1.5
    captcha_every: int = 60
    income_cap: float = 0.0
    proposal_share: float = 0.0
    order: str = "uncertain"
    split_val: float = 0.1
    split_test: float = 0.1
    rules: str = ""

    def __post_init__(self) -> None:
        def check(ok: bool, message: str) -> None:
            if not ok:
                raise UsageError(f"project settings: {message}")

        check(self.price >= 0, f"price must not be negative, got {self.price}")
        check(0 < len(self.currency) <= 8, "currency takes 1 to 8 characters")
        check(
            1 <= self.overlap_min <= self.overlap_max <= 20,
            f"overlap must satisfy 1 ≤ min ≤ max ≤ 20, got {self.overlap_min}…{self.overlap_max}",
        )
        check(0.5 < self.posterior < 1, f"posterior lies between 0.5 and 1, got {self.posterior}")
        for name in ("control_share", "control_share_new", "proposal_share"):
            check(0 <= getattr(self, name) <= 0.9, f"{name} lies in 0…0.9")
        check(0 <= self.training_tasks <= 50, "training_tasks lies in 0…50")
        check(1 <= self.lease_seconds <= 86_400, "lease_seconds lies in 1…86400")
        check(0 <= self.min_seconds <= 120, "min_seconds lies in 0…120")
        check(self.captcha_every == 0 or self.captcha_every >= 5, "captcha_every is 0 or ≥ 5")
        check(self.income_cap >= 0, "income_cap must not be negative")
        check(self.order in {"uncertain", "random"}, "order is 'uncertain' or 'random'")
        check(
            self.split_val >= 0 and self.split_test >= 0 and self.split_val + self.split_test < 1,
            "split_val + split_test must stay below 1",
        )
        check(len(self.rules) <= 20_000, "rules are too long (20,000 characters)")

    def overlap_policy(self) -> OverlapPolicy:
        """How many answers a photo gets and how often a control task comes."""
        return OverlapPolicy(
            first=self.overlap_min,
            most=self.overlap_max,
            control_share_new=self.control_share_new,
            control_share_trusted=self.control_share,
        )

    def aggregate_policy(self) -> AggregatePolicy:
        """What makes a label."""
        return AggregatePolicy(
            min_agreeing=self.overlap_min,
            max_answers=self.overlap_max,
            posterior=self.posterior,
        )

    def quality_rules(self) -> tuple[Rule, ...]:
        """The project's rules; the recommended ones where none are given.

        Raises:
            UsageError: the YAML is broken or a rule makes no sense; says where.
        """
        if not self.rules.strip():
            return tuple(self._adjusted(rule) for rule in default_rules())
        import yaml

        try:
            document = yaml.safe_load(self.rules)
        except yaml.YAMLError as error:
            raise UsageError(f"rules: not YAML: {error}") from error
        return parse_rules(document, "rules")

    def _adjusted(self, rule: Rule) -> Rule:
        """A recommended rule with this project's own idea of too fast."""
        if rule.collector != "submit_time":
            return rule
        return replace(rule, parameters={**rule.parameters, "fast_seconds": self.min_seconds})

    def to_json(self) -> dict[str, Any]:
        """Plain values for the database and the API."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ProjectSettings:
        """Build from plain values.

        Raises:
            UsageError: an unknown name, a wrong type or a value outside its range.
        """
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(
                f"project settings: unknown {', '.join(unknown)}; known are {', '.join(known)}"
            )
        clean: dict[str, Any] = {}
        for name, value in values.items():
            kind = type(known[name].default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if type(value) is not kind:
                raise UsageError(
                    f"project settings: {name} takes {kind.__name__}, got {type(value).__name__}"
                )
            clean[name] = value
        return cls(**clean)
