"""Turn judgements into labels and into what is known of every worker (skeleton)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from platehide.crowd.judgements import Judgement
from platehide.crowd.sequential import ControlPolicy
from platehide.types import FloatArray

LabelStatus = Literal["agreed", "escalated", "open"]


@dataclass(frozen=True)
class AggregatePolicy:
    """What makes a label and what makes a ban.

    Attributes:
        min_agreeing: answers that must agree.
        max_answers: answers a task gets at most; without agreement by then it is escalated.
        posterior: needed for ``agreed``.
        control: how control answers decide on a worker.
    """

    min_agreeing: int = 2
    max_answers: int = 5
    posterior: float = 0.99
    control: ControlPolicy = field(default_factory=ControlPolicy)


@dataclass(frozen=True)
class LabelledPlate:
    """One plate of a label.

    Attributes:
        quad: ``(4, 2)`` px, TL, TR, BR, BL.
        agreement: share (0…1) of the counted answers that agree with it.
        spread_px: root mean square vertex distance of the agreeing answers to ``quad``.
    """

    quad: FloatArray
    agreement: float
    spread_px: float


@dataclass(frozen=True)
class Label:
    """The label of one task. ``plates`` are a best guess unless ``status`` is ``agreed``."""

    task: str
    plates: tuple[LabelledPlate, ...]
    status: LabelStatus
    judgements: int
    posterior: float

    def row(self) -> dict[str, Any]:
        """As a row of LABELS.jsonl."""
        raise NotImplementedError


@dataclass(frozen=True)
class WorkerReport:
    """What is known of one worker.

    Attributes:
        worker: who.
        skill: chance (0…1) that an answer is right, leave-one-out and from control tasks.
        golden_right: control tasks answered right.
        golden_total: control tasks answered.
        banned: answers are dropped.
        reason: of the ban, empty otherwise.
        scatter: standard deviation of a coordinate as a share of the plate's height.
    """

    worker: str
    skill: float
    golden_right: int
    golden_total: int
    banned: bool
    reason: str
    scatter: float

    def row(self) -> dict[str, Any]:
        """As a row of WORKERS.jsonl."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrowdModel:
    """Everything that a single task's label needs to know of the whole crowd."""

    skill: Mapping[str, float]
    scatter: Mapping[str, float]
    default_skill: float
    default_scatter: float
    no_plate_share: float
    copies_suspicious: bool


@dataclass(frozen=True)
class Aggregation:
    """Labels by task name, workers by name, and the model to go on with one task at a time."""

    labels: tuple[Label, ...]
    workers: tuple[WorkerReport, ...]
    model: CrowdModel


def aggregate(
    judgements: Iterable[Judgement],
    policy: AggregatePolicy | None = None,
    *,
    banned: Mapping[str, str] | None = None,
) -> Aggregation:
    """Labels and workers from all judgements; a pure function, whatever their order.

    Args:
        judgements: of all tasks, control tasks included.
        policy: the defaults where ``None``.
        banned: worker -> reason, of bans decided elsewhere (rules); added to those that the
            control tasks give.
    """
    raise NotImplementedError


def aggregate_task(
    judgements: Collection[Judgement], model: CrowdModel, policy: AggregatePolicy | None = None
) -> Label:
    """The label of one task (banned workers' judgements left out by the caller), quickly."""
    raise NotImplementedError


def initial_model() -> CrowdModel:
    """The model before any judgement."""
    raise NotImplementedError
