from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from platehide.crowd.judgements import Judgement
from platehide.geometry import order_corners
from platehide.types import FloatArray

MakeJudgement = Callable[..., Judgement]


@pytest.fixture
def quad() -> FloatArray:
    """A plate 100 px wide and 22 px high, a little tilted: TL, TR, BR, BL."""
    return np.array([[10.0, 10.0], [110.0, 12.0], [110.0, 34.0], [10.0, 32.0]])


@pytest.fixture
def judge_one() -> MakeJudgement:
    def make(
        task: str,
        worker: str,
        *plates: object,
        at: float = 0.0,
        skip: bool = False,
        golden: Sequence[object] | None = None,
        seconds: float | None = 5.0,
    ) -> Judgement:
        truth = None
        if golden is not None:
            truth = tuple(order_corners(np.array(g, dtype=float)) for g in golden)
        drawn = tuple(order_corners(np.array(p, dtype=float)) for p in plates)
        return Judgement(task, worker, 640, 480, at, seconds, drawn, skip, truth)

    return make
