from __future__ import annotations

import numpy as np
import pytest

from platehide.crowd.sequential import ControlPolicy, ControlState, judge, wilson


def test_nothing_known() -> None:
    assert judge([]) == ControlState()
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    low, high = wilson(81, 263, 1.959964)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    low, high = wilson(15, 148, 1.959964)
    assert (low, high) == (pytest.approx(0.0624, abs=1e-4), pytest.approx(0.1605, abs=1e-4))


def test_three_wrong_in_a_row_ban_and_five_right_trust() -> None:
    assert judge([False, False]).verdict == "probation"
    banned = judge([False, False, False])
    assert banned.verdict == "banned"
    assert "0 of 3" in banned.reason
    assert judge([True] * 3).verdict == "probation"
    assert judge([True] * 4).verdict == "trusted"


def test_a_sleeper_is_found_and_a_ban_stays() -> None:
    state = judge([True] * 50 + [False] * 6)
    assert state.verdict == "banned"
    assert judge([False] * 3 + [True] * 50).verdict == "banned"


def test_wilson_bans_a_mixed_record_from_eight_on() -> None:
    lenient = ControlPolicy(ban_good=1e-6)
    record = [False, True, False, False, True, False, False]
    assert judge(record, lenient).verdict == "probation"
    assert judge([*record, False], lenient).verdict == "banned"


@pytest.mark.parametrize(("share", "low", "high"), [(0.97, 0.0, 0.005), (0.85, 0.0, 0.06)])
def test_good_workers_are_rarely_banned(share: float, low: float, high: float) -> None:
    rng = np.random.default_rng(3)
    bans = [judge(rng.random(30) < share).verdict == "banned" for _ in range(2000)]
    assert low <= float(np.mean(bans)) <= high


@pytest.mark.parametrize("share", [0.05, 0.40])
def test_bad_workers_are_banned(share: float) -> None:
    rng = np.random.default_rng(4)
    bans = [judge(rng.random(30) < share).verdict == "banned" for _ in range(1000)]
    assert float(np.mean(bans)) > 0.95


def test_policy_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="bad < good"):
        ControlPolicy(good=0.3, bad=0.4)
    with pytest.raises(ValueError, match="ban_good"):
        ControlPolicy(ban_good=0.0)
