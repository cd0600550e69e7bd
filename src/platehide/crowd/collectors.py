"""What quality rules can look at: one collector gathers one kind of fact about one worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from platehide.crowd.events import Event, EventKind
from platehide.crowd.sequential import ControlPolicy, ControlState, advance, wilson

FieldValue = float | str
Fields = dict[str, FieldValue]


class Collector:
    """Facts about one worker, fed event by event. ``fields()`` is what conditions compare.

    A fact that has no value yet (a rate of nothing) is left out; a condition on it is false.
    """

    def __init__(self, parameters: Mapping[str, float]) -> None:
        history = parameters.get("history")
        self.parameters = parameters
        self.recent: deque[Event] = deque(maxlen=None if history is None else int(history))

    def add(self, event: Event) -> None:
        """Take an event of a kind that this collector listens to."""
        self.recent.append(event)

    def fields(self) -> Fields:
        """The facts as they stand after the last event."""
        raise NotImplementedError


def _rates(right: float, total: int, good: str, bad: str) -> Fields:
    fields: Fields = {"total": float(total), good: right, bad: total - right}
    if total:
        fields[f"{good}_rate"] = right / total
        fields[f"{bad}_rate"] = 1.0 - right / total
        low, high = wilson(right, total)
        fields["wilson_low"], fields["wilson_high"] = low, high
    return fields


class _ControlTasks(Collector):
    def __init__(self, parameters: Mapping[str, float]) -> None:
        super().__init__(parameters)
        default = ControlPolicy()
        self.policy = ControlPolicy(
            good=parameters.get("good", default.good),
            bad=parameters.get("bad", default.bad),
            ban_good=parameters.get("ban_good", default.ban_good),
            trust_bad=parameters.get("trust_bad", default.trust_bad),
        )
        self.state = ControlState()

    def add(self, event: Event) -> None:
        if event.kind == "training" and not self.parameters.get("training"):
            return
        super().add(event)
        self.state = advance(self.state, event.value > 0.5, self.policy)

    def fields(self) -> Fields:
        right = sum(e.value for e in self.recent)
        return {
            **_rates(right, len(self.recent), "right", "wrong"),
            "verdict": self.state.verdict,
            "log_ratio": self.state.log_ratio,
        }


class _Shares(Collector):
    good, bad = "right", "wrong"

    def fields(self) -> Fields:
        return _rates(sum(e.value for e in self.recent), len(self.recent), self.good, self.bad)


class _Captcha(_Shares):
    good, bad = "passed", "failed"

    def fields(self) -> Fields:
        in_row = 0
        for event in reversed(self.recent):
            if event.value > 0.5:
                break
            in_row += 1
        return {**super().fields(), "failed_in_row": float(in_row)}


class _Assessment(_Shares):
    good, bad = "accepted", "rejected"

    def fields(self) -> Fields:
        fields = super().fields()
        if self.recent:
            fields["last"] = "accept" if self.recent[-1].value > 0.5 else "reject"
        return fields


class _SubmitTime(Collector):
    def fields(self) -> Fields:
        seconds = [e.value for e in self.recent]
        fast = float(sum(s < self.parameters["fast_seconds"] for s in seconds))
        fields: Fields = {"total": float(len(seconds)), "fast": fast}
        if seconds:
            fields["fast_rate"] = fast / len(seconds)
            fields["median_seconds"] = median(seconds)
        return fields


class _SkippedInRow(Collector):
    def __init__(self, parameters: Mapping[str, float]) -> None:
        super().__init__(parameters)
        self.count = 0

    def add(self, event: Event) -> None:
        self.count = self.count + 1 if event.kind == "skipped" else 0

    def fields(self) -> Fields:
        return {"count": float(self.count)}


class _Income(Collector):
    def __init__(self, parameters: Mapping[str, float]) -> None:
        super().__init__(parameters)
        self.sum = 0.0

    def add(self, event: Event) -> None:
        self.recent.append(event)
        self.sum += event.value
        window = self.parameters.get("hours", 24.0) * 3600.0
        while self.recent and self.recent[0].at <= event.at - window:
            self.sum -= self.recent.popleft().value

    def fields(self) -> Fields:
        return {"sum": self.sum}


class _Count(Collector):
    def __init__(self, parameters: Mapping[str, float]) -> None:
        super().__init__(parameters)
        self.total = 0

    def add(self, event: Event) -> None:
        self.total += 1

    def fields(self) -> Fields:
        return {"total": float(self.total)}


@dataclass(frozen=True)
class CollectorKind:
    """A kind of collector.

    Attributes:
        make: from parameters.
        listens: kinds of event.
        fields: names that conditions may use.
        parameters: names that may be set.
        required: of them, those that must be.
        text: for the documentation and the web page.
    """

    make: Callable[[Mapping[str, float]], Collector]
    listens: frozenset[EventKind]
    fields: tuple[str, ...]
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    text: str


def _share_fields(good: str, bad: str) -> tuple[str, ...]:
    return ("total", good, bad, f"{good}_rate", f"{bad}_rate", "wilson_low", "wilson_high")


COLLECTORS: dict[str, CollectorKind] = {
    "control_tasks": CollectorKind(
        _ControlTasks,
        frozenset({"control", "training"}),
        (*_share_fields("right", "wrong"), "verdict", "log_ratio"),
        ("history", "training", "good", "bad", "ban_good", "trust_bad"),
        (),
        "answers to control tasks; verdict (probation, trusted, banned) is the sequential test",
    ),
    "training": CollectorKind(
        _Shares,
        frozenset({"training"}),
        _share_fields("right", "wrong"),
        ("history",),
        (),
        "answers to training tasks",
    ),
    "agreement": CollectorKind(
        _Shares,
        frozenset({"agreement"}),
        _share_fields("right", "wrong"),
        ("history",),
        (),
        "agreement with the other workers on closed photos, the worker's own answer left out",
    ),
    "submit_time": CollectorKind(
        _SubmitTime,
        frozenset({"submitted"}),
        ("total", "fast", "fast_rate", "median_seconds"),
        ("history", "fast_seconds"),
        ("fast_seconds",),
        "seconds between handing out and submit, measured on the server",
    ),
    "captcha": CollectorKind(
        _Captcha,
        frozenset({"captcha"}),
        (*_share_fields("passed", "failed"), "failed_in_row"),
        ("history",),
        (),
        "captchas shown",
    ),
    "skipped_in_row": CollectorKind(
        _SkippedInRow,
        frozenset({"submitted", "skipped"}),
        ("count",),
        (),
        (),
        "tasks skipped one after another",
    ),
    "income": CollectorKind(
        _Income, frozenset({"paid"}), ("sum",), ("hours",), (), "paid in the last 24 hours"
    ),
    "answers": CollectorKind(
        _Count, frozenset({"submitted"}), ("total",), (), (), "answers submitted"
    ),
    "assessment": CollectorKind(
        _Assessment,
        frozenset({"assessed"}),
        (*_share_fields("accepted", "rejected"), "last"),
        ("history",),
        (),
        "answers accepted or rejected by the requester",
    ),
    "bans": CollectorKind(
        _Count, frozenset({"banned"}), ("total",), (), (), "the worker lost access"
    ),
}
