"""What an experiment says: verdict words, and what stops them."""

from datetime import UTC, datetime
from math import inf
from typing import Any

import pytest

from mlops_assets.core.experiment_analysis import (
    MOST_LEVELS,
    Aim,
    Analysis,
    Brought,
    Observed,
    alphas,
    analyse,
    bounds,
    needed,
)
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import DeclarationError

ARMS = (Arm("old", "1", 5_000), Arm("new", "2", 5_000))
NOW = (datetime(2024, 3, 1, tzinfo=UTC),)
REVENUE = Aim("revenue", "higher", least=0.5)


def brought(mean: float, n: int = 5_000) -> Brought:
    return Brought(Sums(n, n * mean, n * (1 + mean**2)), n)


def said(old: Brought, new: Brought, aim: Aim = REVENUE, **seen: Any) -> Analysis:
    observed = Observed(looks=NOW, metrics={aim.name: [{"old": old, "new": new}]}, **seen)
    return analyse(ARMS, [aim], observed)


def word(*args: Any, **seen: Any) -> str:
    return said(*args, **seen).comparisons[0].said


@pytest.mark.parametrize(
    ("better", "gain", "expected"),
    [("higher", 1, "better"), ("lower", 1, "worse"), ("higher", -1, "worse"),
     ("lower", -1, "better")],
)  # fmt: skip
def test_what_is_better_depends_on_the_metric(better: Any, gain: float, expected: str) -> None:
    assert word(brought(0), brought(gain), Aim("revenue", better)) == expected


def test_a_small_interval_excludes_what_matters() -> None:
    found = said(brought(0), brought(0)).comparisons[0]
    assert found.word == "no difference"
    assert found.said == f"no difference larger than {found.high:.4g}"
    assert found.high <= 0.5


def test_without_a_least_difference_no_equality_is_claimed() -> None:
    assert word(brought(0), brought(0), Aim("revenue", "higher")) == "open"


def test_few_entities_are_open_and_say_so() -> None:
    found = said(brought(0, 99), brought(5, 99)).comparisons[0]
    assert (found.word, found.why) == ("open", "fewer than 100 entities in an arm")
    assert (found.low, found.high) == (-inf, inf)


@pytest.mark.parametrize(("old", "new", "empty"), [(0, 9, "old"), (9, 0, "new"), (0, 0, "old and")])
def test_an_arm_without_values_is_no_data(old: int, new: int, empty: str) -> None:
    found = said(brought(0, old) if old else Brought(), brought(0, new) if new else Brought())
    assert found.comparisons[0].word == "no data"
    assert f"no value of revenue is known in {empty}" in found.comparisons[0].why


def test_a_metric_that_nobody_sends_is_no_data() -> None:
    found = analyse(ARMS, [REVENUE], Observed(entities={"old": 500, "new": 500}))
    assert [one.word for one in found.comparisons] == ["no data"]


def test_a_broken_split_decides_nothing() -> None:
    found = said(brought(0), brought(9), entities={"old": 6_000, "new": 5_000})
    assert found.broken
    assert found.comparisons[0].word == "broken split"


def test_values_that_are_known_of_one_arm_more_often_decide_nothing() -> None:
    found = said(brought(0, 5_000), brought(9, 4_000), entities={"old": 6_000, "new": 6_000})
    assert not found.broken
    assert found.comparisons[0].word == "broken split"
    assert "values are known of other shares" in found.comparisons[0].why


def test_a_broken_split_holds_in_slices_too() -> None:
    slices = {("revenue", "shop", "a"): {"old": brought(0), "new": brought(9)}}
    found = said(brought(0), brought(0), entities={"old": 9_000, "new": 5_000}, slices=slices)
    assert [one.word for one in found.slices] == ["broken split"]


def test_a_small_arm_does_not_believe_in_its_small_spread() -> None:
    calm = Brought(Sums(150, 150.0, 150.0 * (1 + 1e-6)), 150)
    wild = Brought(Sums(9_850, 11_000.0, 9_850 * 400.0), 9_850)
    low, high = bounds(calm, wild, 0.05)[1:]
    assert high - low > 2 * 2 * 20 / 150**0.5


def test_the_clock_is_the_number_of_values() -> None:
    once, often = brought(0, 500), Brought(brought(0, 500).sums, 500_000)
    assert bounds(often, often, 0.05)[2] != bounds(once, once, 0.05)[2]
    # As many values as entities are what the plain bound counts.
    from mlops_assets.core.sequential import mean_difference

    assert bounds(once, once, 0.05)[1:] == mean_difference(once.sums, once.sums)


def test_the_parts_of_the_level_add_up_to_it() -> None:
    whole, part = alphas(arms=4, metrics=2, slices=3)
    assert 3 * 2 * (whole + 3 * MOST_LEVELS * part) == pytest.approx(0.05)


def test_every_arm_is_compared_with_the_first() -> None:
    arms = (Arm("a", "1", 4_000), Arm("b", "2", 3_000), Arm("c", "1", 3_000))
    found = analyse(arms, [REVENUE, Aim("minutes", "lower")], Observed())
    pairs = [(one.metric, one.arm, one.against) for one in found.comparisons]
    assert pairs == [(m, arm, "a") for m in ("revenue", "minutes") for arm in ("b", "c")]


def test_more_is_needed_for_less_effect_more_spread_and_more_arms() -> None:
    base = needed(0.2, 1.0, (1, 1))
    assert base is not None
    for more in (needed(0.1, 1.0, (1, 1)), needed(0.2, 2.0, (1, 1)), needed(0.2, 1.0, (1, 1, 1))):
        assert more is not None
        assert more > base


def test_unequal_shares_cost_traffic_as_their_harmonic_mean_does() -> None:
    equal, unequal = needed(0.2, 1.0, (1, 1)), needed(0.2, 1.0, (9, 1))
    assert equal is not None
    assert unequal == pytest.approx(equal / 4 * (1 / 0.9 + 1 / 0.1), rel=0.01)


@pytest.mark.parametrize(
    ("effect", "spread", "shares"),
    [(0.0, 1.0, (1, 1)), (float("nan"), 1.0, (1, 1)), (1.0, 0.0, (1, 1)), (1.0, 1.0, (1,)),
     (1.0, 1.0, (1, 0))],
)  # fmt: skip
def test_an_effect_that_cannot_be_planned_is_refused(
    effect: float, spread: float, shares: Any
) -> None:
    with pytest.raises(DeclarationError, match="an effect of"):
        needed(effect, spread, shares)


def test_no_traffic_finds_what_is_almost_nothing() -> None:
    assert needed(1e-9, 1.0, (1, 1)) is None
