"""Find control tasks whose golden answer is probably wrong: they ban honest workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from platehide.crowd.aggregate import Aggregation, aggregate_task
from platehide.crowd.judgements import Judgement, golden_of, latest
from platehide.crowd.labels import AggregatePolicy
from platehide.crowd.matching import answer_right


@dataclass(frozen=True)
class DoubtfulControl:
    """A control task on which the crowd agrees on something else than its golden answer.

    Attributes:
        task: name.
        answers: of workers who are not banned.
        right: of them that fit the golden answer.
        posterior: of what the crowd says instead.
    """

    task: str
    answers: int
    right: int
    posterior: float

    def __str__(self) -> str:
        return (
            f"control task {self.task}: the crowd agrees on another answer than its golden one "
            f"({self.right} of {self.answers} answers fit)"
        )


def doubtful_controls(
    judgements: Iterable[Judgement],
    aggregation: Aggregation,
    policy: AggregatePolicy | None = None,
) -> tuple[DoubtfulControl, ...]:
    """Control tasks to look at, by name.

    Each control task is labelled as if nobody knew its truth, by the workers who are not banned;
    it is doubtful where they agree (at least three of them) and the result is not the truth.

    Args:
        judgements: those that ``aggregation`` is of.
        aggregation: result of ``aggregate``.
        policy: what makes an agreement.
    """
    banned = {w.worker for w in aggregation.workers if w.banned}
    kept = latest(judgements)
    golden = golden_of(kept)
    by_task: dict[str, list[Judgement]] = {}
    for j in kept:
        if j.task in golden and j.worker not in banned and not j.skip:
            by_task.setdefault(j.task, []).append(replace(j, golden=None))
    chosen = replace(policy or AggregatePolicy(), min_agreeing=3)
    doubtful = []
    for task, answers in sorted(by_task.items()):
        if len(answers) < chosen.min_agreeing:
            continue
        label = aggregate_task(answers, aggregation.model, chosen)
        truth = golden[task]
        if label.status == "agreed" and not answer_right([p.quad for p in label.plates], truth):
            right = sum(answer_right(j.plates, truth) for j in answers)
            doubtful.append(DoubtfulControl(task, len(answers), right, label.posterior))
    return tuple(doubtful)
