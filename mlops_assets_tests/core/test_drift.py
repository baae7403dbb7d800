"""Every kind of window gets a verdict of its own, and none that says nothing is well."""

import numpy as np
import pytest

from mlops_assets.core.drift import DriftPolicy, DriftVerdict, judge, ranked
from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
)
from mlops_assets.errors import DataError, DeclarationError

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=5_000)
BINS = NumberBins.of(VALUES)
REFERENCE = NumberProfile.of(VALUES, BINS)
KNOWN = CategoryBins(("blue", "green", "red"))
COLOURS = CategoryProfile.of({"blue": 2_500, "green": 1_500, "red": 1_000}, KNOWN)


def verdict(window: Profile | None, reference: Profile = REFERENCE) -> DriftVerdict:
    windows = {} if window is None else {"x": window}
    return judge({"x": reference}, windows)[0]


def numbers(values: object) -> NumberProfile:
    return NumberProfile.of(np.asarray(values, dtype=float), BINS)


def test_a_window_like_the_reference_is_stable() -> None:
    found = verdict(numbers(RNG.normal(size=5_000)))
    assert (found.outcome, found.floor, found.n) == ("stable", 0.1, 5_000)
    assert "is not above 0.1" in found.reason


@pytest.mark.parametrize(("shift", "outcome"), [(0.4, "warning"), (0.6, "drifted")])
def test_a_shift_beyond_a_floor_and_beyond_chance_is_named(shift: float, outcome: str) -> None:
    found = verdict(numbers(RNG.normal(shift, size=5_000)))
    assert found.outcome == outcome
    assert found.estimate is not None
    assert found.p_value is not None
    assert found.estimate.low < shift**2 < found.estimate.high
    assert found.p_value < 1e-6
    assert f"is above {found.floor:g} and beyond chance" in found.reason


def test_a_shift_that_is_sure_but_small_is_stable() -> None:
    found = verdict(numbers(RNG.normal(0.15, size=50_000)))
    assert found.outcome == "stable"
    assert found.p_value is not None
    assert found.p_value < 1e-6


def test_a_large_effect_that_chance_explains_is_stable() -> None:
    reference = NumberProfile.of(VALUES[:100], NumberBins.of(VALUES[:100], 4))
    window = NumberProfile.of(VALUES[:100:4] + 0.7, reference.bins)
    found = judge({"x": reference}, {"x": window}, DriftPolicy(least_rows=10))[0]
    assert found.estimate is not None
    assert found.estimate.value > 0.1
    assert (found.outcome, "chance explains it" in found.reason) == ("stable", True)


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (None, "the window has no rows"),
        (NumberProfile.of([], BINS), "the window has no rows"),
        (numbers(VALUES[:99]), "99 rows, the policy wants at least 100"),
    ],
)
def test_a_window_without_traffic_has_no_data(window: Profile | None, reason: str) -> None:
    found = verdict(window)
    assert (found.outcome, found.estimate, found.p_value) == ("no data", None, None)
    assert reason in found.reason
    assert not found.has_drifted


def test_a_window_that_is_all_null_has_drifted() -> None:
    found = verdict(numbers(np.full(500, np.nan)))
    assert found.outcome == "drifted"
    assert "all rows are null" in found.reason


def test_a_window_that_is_all_null_like_its_reference_has_no_data() -> None:
    nulls = NumberProfile.of(np.full(500, np.nan), NumberBins.of([]))
    found = verdict(nulls, nulls)
    assert found.outcome == "no data"
    assert "so is the reference" in found.reason


def test_a_column_that_was_always_null_and_has_values_has_drifted() -> None:
    bins = NumberBins.of([])
    reference = NumberProfile.of(np.full(500, np.nan), bins)
    found = verdict(NumberProfile.of(np.ones(500), bins), reference)
    assert found.outcome == "drifted"
    assert "100.0% of the rows are out of the range" in found.reason


def test_a_third_of_nulls_is_a_drift_and_named() -> None:
    found = verdict(numbers(np.where(np.arange(3_000) % 3 == 0, np.nan, VALUES[:3_000])))
    assert found.outcome == "drifted"
    assert "33.3% of the rows are null, 0.0% before" in found.reason
    assert dict(found.details)["null_share"] == pytest.approx(1 / 3)


def test_a_window_that_became_constant_has_drifted() -> None:
    found = verdict(numbers(np.full(500, 0.25)))
    assert found.outcome == "drifted"
    assert "all values are 0.25" in found.reason


def test_a_constant_column_that_stays_constant_is_stable() -> None:
    reference = NumberProfile.of(np.full(500, 3.0), NumberBins.of([3.0]))
    found = verdict(NumberProfile.of(np.full(500, 3.0), reference.bins), reference)
    assert (found.outcome, found.p_value) == ("stable", 1.0)


def test_a_constant_column_that_takes_another_value_has_drifted() -> None:
    reference = NumberProfile.of(np.full(500, 3.0), NumberBins.of([3.0]))
    found = verdict(NumberProfile.of(np.full(500, 4.0), reference.bins), reference)
    assert found.outcome == "drifted"


def test_new_categories_are_a_drift_and_named() -> None:
    counts = {"blue": 1_000, "green": 600, "red": 400, "teal": 150, "plum": 100}
    found = verdict(CategoryProfile.of(counts, KNOWN), COLOURS)
    assert found.outcome == "drifted"
    assert "11.1% of the rows are new: 'plum', 'teal'" in found.reason


def test_a_category_that_is_gone_is_a_drift() -> None:
    found = verdict(CategoryProfile.of({"blue": 1_250, "green": 750}, KNOWN), COLOURS)
    assert found.outcome == "drifted"


def test_categories_in_their_old_proportions_are_stable() -> None:
    found = verdict(CategoryProfile.of({"blue": 252, "green": 148, "red": 100}, KNOWN), COLOURS)
    assert found.outcome == "stable"


def test_a_column_without_a_reference_has_no_data() -> None:
    found = judge({}, {"x": numbers(VALUES)})
    assert [v.outcome for v in found] == ["no data"]
    assert "the reference has no rows" in found[0].reason


def test_a_window_of_other_bins_is_refused() -> None:
    with pytest.raises(DataError, match="other bins"):
        verdict(NumberProfile.of(VALUES, NumberBins.of(VALUES, 5)))


def test_columns_are_judged_together() -> None:
    """A p-value that is small for one column is none among a hundred."""
    reference = NumberProfile.of(VALUES[:200], NumberBins.of(VALUES[:200], 5))
    odd = NumberProfile.of(
        np.r_[VALUES[:160], VALUES[(VALUES > 0.8) & (VALUES < 1.9)][:60]], reference.bins
    )
    alone = judge({"odd": reference}, {"odd": odd})[0]
    assert alone.outcome == "warning"
    assert alone.p_value is not None
    assert 0.0005 < alone.p_value < 0.05
    names = ["odd", *(f"x{i}" for i in range(100))]
    windows = {name: odd if name == "odd" else reference for name in names}
    among = judge(dict.fromkeys(names, reference), windows)
    assert {v.outcome for v in among} == {"stable"}


def test_distances_read_off_bins_come_with_their_bounds() -> None:
    details = dict(verdict(numbers(VALUES + 0.5)).details)
    for kind in ("wasserstein", "kolmogorov_smirnov"):
        assert details[f"{kind}_low"] <= details[kind] <= details[f"{kind}_high"]
    assert details["wasserstein"] == pytest.approx(0.5, rel=0.02)


def test_what_drifted_is_ranked_by_importance_times_drift() -> None:
    shifts = {"a": 0.5, "b": 1.0, "c": 0.0, "d": 2.0, "e": 1.5}
    windows = {name: numbers(VALUES + shift) for name, shift in shifts.items()}
    found = judge(dict.fromkeys(shifts, REFERENCE), windows)
    order = ranked(found, {"a": 0.5, "b": 0.01, "c": 9.0, "d": -1.0})
    assert [v.feature for v, _ in order] == ["a", "b", "d", "e"]
    assert sum(score for _, score in order) == pytest.approx(1)
    assert order[-1][1] == 0


@pytest.mark.parametrize(
    "wrong", [{"warn": 0.3}, {"rate": 0.0}, {"level": 1.0}, {"least_rows": 0}, {"warn": -0.1}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match="drift policy"):
        DriftPolicy(**wrong)
