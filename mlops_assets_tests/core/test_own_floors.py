"""Floors that columns bring along make verdicts milder, and never harder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.drift import DriftPolicy, judge
from mlops_assets.core.own_floors import above_own_floors, daily_effects, own_floor
from mlops_assets.core.profile import NumberBins, NumberProfile

RANK = ["no data", "stable", "warning", "drifted"]
POLICY = DriftPolicy()
VALUES = np.random.default_rng(0).normal(size=4_000)
BINS = NumberBins.of(VALUES)
REFERENCE = NumberProfile.of(VALUES, BINS)


def window(shift: float, n: int = 1_000) -> NumberProfile:
    return NumberProfile.of(VALUES[:n] + shift, BINS)


@given(
    effects=st.lists(st.floats(0, 10), min_size=1, max_size=40),
    quantile=st.floats(0.5, 1, exclude_min=True),
)
def test_a_floor_is_the_smallest_effect_that_so_many_do_not_exceed(
    effects: list[float], quantile: float
) -> None:
    floor = own_floor(effects, quantile)
    assert floor in effects
    reached = [e for e in effects if np.mean(np.array(effects) <= e) >= quantile - 1e-9]
    assert floor == min(reached)


def test_days_that_are_like_the_reference_give_no_floor_and_others_do() -> None:
    same = daily_effects(REFERENCE, [window(0.0)], 100)
    moved = daily_effects(REFERENCE, [window(1.0), window(0.0)], 100)
    assert same[0] < 0.01
    assert moved == tuple(sorted(moved))
    assert moved[-1] > 0.5


def test_days_of_few_rows_are_left_out() -> None:
    assert daily_effects(REFERENCE, [window(1.0, 99)], 100) == ()


@given(shift=st.floats(0, 2), floor=st.floats(0, 3))
def test_a_floor_only_makes_a_verdict_milder(shift: float, floor: float) -> None:
    plain = judge({"x": REFERENCE}, {"x": window(shift)}, POLICY)
    (lifted,) = above_own_floors(plain, {"x": floor}, POLICY)
    assert RANK.index(lifted.outcome) <= RANK.index(plain[0].outcome)
    assert lifted.estimate is not None
    assert lifted.has_drifted is (plain[0].has_drifted and lifted.estimate.value > floor)
    if lifted.has_drifted:
        assert lifted.estimate.value > max(lifted.floor, POLICY.warn)


def test_the_reason_keeps_what_stands_out() -> None:
    (found,) = judge({"x": REFERENCE}, {"x": window(9.0)}, POLICY)
    for floor in (0.5, 99.0):
        (lifted,) = above_own_floors([found], {"x": floor}, POLICY)
        assert "out of the range of the reference" in lifted.reason


@pytest.mark.parametrize("floors", [{}, {"x": 0.05}])
def test_without_a_higher_floor_a_verdict_stays(floors: dict[str, float]) -> None:
    found = judge({"x": REFERENCE}, {"x": window(1.0)}, POLICY)
    assert above_own_floors(found, floors, POLICY) == found
