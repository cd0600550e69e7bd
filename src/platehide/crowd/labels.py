"""Values that aggregation takes and gives: policy, labels, workers, the model of the crowd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from platehide.crowd.posterior import PLATE_COUNTS
from platehide.crowd.sequential import ControlPolicy
from platehide.crowd.skills import DEFAULT_SCATTER, DEFAULT_SKILL
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
        peer_bar: ban where a worker is right less often than this, leave-one-out, with 95 %
            confidence; 0 never bans by this.
        peer_from: photos compared with others from which ``peer_bar`` is asked.
        peer_crowd: the crowd as a whole must agree this much before ``peer_bar`` is asked.
        copies: ban a worker whose answer equals another's earlier one this often, and in at
            least half of the answers that agree with anyone; 0 never bans by this.
    """

    min_agreeing: int = 2
    max_answers: int = 5
    posterior: float = 0.99
    control: ControlPolicy = field(default_factory=ControlPolicy)
    peer_bar: float = 0.4
    peer_from: float = 8.0
    peer_crowd: float = 0.6
    copies: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.min_agreeing <= self.max_answers:
            raise ValueError("1 <= min_agreeing <= max_answers")
        if not 0.5 <= self.posterior < 1.0:
            raise ValueError(f"posterior lies in 0.5…1, got {self.posterior}")


@dataclass(frozen=True)
class LabelledPlate:
    """One plate of a label.

    Attributes:
        quad: ``(4, 2)`` px, TL, TR, BR, BL.
        agreement: share (0…1) of the counted answers that agree with it.
        spread_px: root mean square vertex distance of the agreeing answers to ``quad``.
        error_px: expected standard error of a coordinate of ``quad``, from the scatter of the
            workers whose answers it is the mean of.
    """

    quad: FloatArray
    agreement: float
    spread_px: float
    error_px: float = 0.0


@dataclass(frozen=True)
class Label:
    """The label of one task.

    Attributes:
        task: name.
        plates: the best guess; certain enough to use only where ``status`` is ``agreed``.
        status: ``agreed``; ``open`` (another answer would be asked for); ``escalated`` (more
            answers of the crowd would not help: an expert's).
        judgements: workers who answered, skips and banned workers included.
        posterior: probability (0…1) that ``plates`` is what is on the photo.
    """

    task: str
    plates: tuple[LabelledPlate, ...]
    status: LabelStatus
    judgements: int
    posterior: float

    def row(self) -> dict[str, Any]:
        """As a row of LABELS.jsonl."""
        return {
            "task": self.task,
            "plates": [
                {
                    "quad": np.round(p.quad, 3).tolist(),
                    "agreement": round(p.agreement, 4),
                    "spread_px": round(p.spread_px, 3),
                }
                for p in self.plates
            ],
            "status": self.status,
            "judgements": self.judgements,
            "posterior": round(self.posterior, 6),
        }


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
        return {
            "worker": self.worker,
            "skill": round(self.skill, 4),
            "golden_right": self.golden_right,
            "golden_total": self.golden_total,
            "banned": self.banned,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class CrowdModel:
    """Everything that a single task's label needs to know of the whole crowd.

    Attributes:
        skill: worker -> skill.
        scatter: worker -> scatter as a share of the plate's height.
        default_skill: of a worker who is not in ``skill``.
        default_scatter: of a worker who is not in ``scatter``.
        plate_counts: share of photos with 0, 1, 2, 3, 4 or more plates.
        copies_suspicious: honest answers are seen to differ, so equal ones are copies.
    """

    skill: Mapping[str, float]
    scatter: Mapping[str, float]
    default_skill: float
    default_scatter: float
    plate_counts: tuple[float, ...]
    copies_suspicious: bool


@dataclass(frozen=True)
class Aggregation:
    """Labels by task name, workers by name, and the model to go on with one task at a time.

    ``peer_right`` and ``peer_total`` are the leave-one-out counts behind each worker's skill;
    ``evidence`` gives the same an answer: (task, worker) -> (right, weight), for the counted
    answers of tasks without a golden truth.
    """

    labels: tuple[Label, ...]
    workers: tuple[WorkerReport, ...]
    model: CrowdModel
    peer_right: Mapping[str, float]
    peer_total: Mapping[str, float]
    evidence: Mapping[tuple[str, str], tuple[float, float]]


def initial_model() -> CrowdModel:
    """The model before any judgement."""
    return CrowdModel({}, {}, DEFAULT_SKILL, DEFAULT_SCATTER, tuple(PLATE_COUNTS.tolist()), False)
