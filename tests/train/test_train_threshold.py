"""The threshold weighs a leak ten times as much as a false cover, and leaves room in a gap."""

from __future__ import annotations

import numpy as np
import pytest

from platehide.train.calibrate import LEAST_HIDE, MOST_HIDE, choose_threshold


def chosen(plates: list[float], false: list[float], *, wide: bool = True) -> float:
    confidence = np.array(plates + false)
    truth = np.arange(len(confidence)) < len(plates)
    return choose_threshold(confidence, truth, truth & wide)


def test_it_lies_in_a_gap_but_not_at_its_upper_end() -> None:
    found = chosen([0.97] * 50 + [0.6] * 3, [0.02] * 20 + [0.1] * 5)
    assert 0.12 < found < 0.45


def test_readable_plates_pull_it_further_down_than_tiny_ones() -> None:
    plates, false = [0.9] * 20 + [0.4] * 4, [0.3] * 10
    assert chosen(plates, false) < chosen(plates, false, wide=False)


def test_more_false_finds_push_it_up() -> None:
    assert chosen([0.9] * 20, [0.3] * 60) > chosen([0.9] * 20, [0.3])


@pytest.mark.parametrize("plates, false", [([0.99], []), ([], [0.99]), ([], [])])
def test_it_stays_within_bounds(plates: list[float], false: list[float]) -> None:
    assert LEAST_HIDE <= chosen(plates, false) <= MOST_HIDE + 1e-9
