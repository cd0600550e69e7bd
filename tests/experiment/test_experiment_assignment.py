from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platehide.assignment import assign, check_variants, uniform
from platehide.errors import UsageError

HALVES = {"control": 0.5, "candidate": 0.5}


def test_is_pinned_forever() -> None:
    # A changed answer would move sellers in a running experiment: these values are a contract.
    assert [assign("e1", f"seller-{i}", HALVES) for i in range(8)] == [
        "control",
        "candidate",
        "control",
        "control",
        "candidate",
        "candidate",
        "candidate",
        "control",
    ]


def test_does_not_depend_on_the_order_of_variants() -> None:
    turned = dict(reversed(HALVES.items()))
    units = [str(i) for i in range(500)]
    assert [assign("e", u, HALVES) for u in units] == [assign("e", u, turned) for u in units]


@pytest.mark.parametrize(
    "variants",
    [HALVES, {"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.3, "c": 0.5}, {"a": 1.0, "b": 0.0}],
)
def test_shares_are_met(variants: dict[str, float]) -> None:
    n = 20_000
    got = [assign("shares", f"u{i}", variants, salt="s") for i in range(n)]
    for name, share in variants.items():
        # five standard errors: a fixed seedless draw, so this passes for ever or never
        assert abs(got.count(name) - share * n) <= 5 * math.sqrt(n * share * (1 - share))


def test_growing_a_share_moves_units_only_towards_it() -> None:
    units = [f"u{i}" for i in range(3000)]
    ramp = [{"control": 1 - s, "candidate": s} for s in (0.05, 0.25, 0.5, 1.0)]
    for before, after in itertools.pairwise(ramp):
        was = {u for u in units if assign("r", u, before) == "candidate"}
        now = {u for u in units if assign("r", u, after) == "candidate"}
        assert was < now


def test_more_traffic_moves_nobody() -> None:
    units = [f"u{i}" for i in range(2000)]
    part = {u: assign("t", u, HALVES, traffic=0.3) for u in units}
    whole = {u: assign("t", u, HALVES) for u in units}
    inside = {u: v for u, v in part.items() if v is not None}
    assert 500 < len(inside) < 700
    assert all(whole[u] == v for u, v in inside.items())


def test_experiments_and_salts_are_independent() -> None:
    units = [f"u{i}" for i in range(4000)]
    one = [assign("one", u, HALVES) for u in units]
    for other in (
        [assign("two", u, HALVES) for u in units],
        [assign("one", u, HALVES, salt="x") for u in units],
    ):
        agree = sum(a == b for a, b in zip(one, other, strict=True))
        assert abs(agree - 2000) < 5 * math.sqrt(1000)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_uniform_is_in_the_open_interval(parts: list[str]) -> None:
    assert 0.0 < uniform(*parts) < 1.0


def test_uniform_keeps_parts_apart() -> None:
    assert uniform("ab", "c") != uniform("a", "bc")


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ({}, "two or more"),
        ({"a": 1.0}, "two or more"),
        ({"a": 0.5, "b": 0.6}, "1.1, not 1"),
        ({"a": 1.5, "b": -0.5}, "0…1"),
        ({"a": "x", "b": 0.5}, "a number"),
        ({"a": True, "b": 0.0}, "a number"),
        ({"": 0.5, "b": 0.5}, "needs a name"),
        ({"a": math.nan, "b": 0.5}, "0…1"),
    ],
)
def test_refuses_bad_variants(variants: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_variants(variants)


def test_refuses_empty_ids_and_odd_traffic() -> None:
    with pytest.raises(UsageError, match="unit"):
        assign("e", "", HALVES)
    with pytest.raises(UsageError, match="experiment"):
        assign("", "u", HALVES)
    with pytest.raises(UsageError, match="traffic"):
        assign("e", "u", HALVES, traffic=1.1)
