"""A week is its days: the profiles are summed, and labelled rows are judged together."""

import pytest

from mlops_assets.core.profile import NumberProfile, merge
from mlops_assets.errors import DataError
from mlops_assets.monitoring import windows
from mlops_assets.monitoring.drifts import Part, profiles_of_rows
from mlops_assets.monitoring.results import KINDS
from mlops_assets_tests.monitoring.world import NOW, World, date, reference, whole


def filled(world: World, days: int = 7, **change: object) -> None:
    for number in range(days):
        world.label(world.predict(number, 120 + number, **change))
        world.day(number)


def test_a_week_is_judged_on_the_sum_of_its_days_and_reads_no_prediction_for_drift(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(world)
    days = [world.day(number)["feature_drift"] for number in range(7)]
    monkeypatch.setattr(windows, "selection", None)
    monkeypatch.setattr(windows, "day_profiles", None)
    week = world.week()["feature_drift"]
    (row,) = whole(week, feature="amount_last")
    assert row["n"] == sum(120 + number for number in range(7))
    parts = [profiles_of_rows(rows, world.references)[Part("1")]["amount_last"] for rows in days]
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    assert isinstance(total, NumberProfile)
    assert profiles_of_rows(week, world.references)[Part("1")]["amount_last"] == total


def test_a_small_shift_is_found_in_a_week_and_slices_are_too(world: World) -> None:
    filled(world, shift=2.0)
    rows = world.week()
    (row,) = whole(rows["feature_drift"], feature="amount_last")
    assert row["outcome"] == "drifted"
    judged = whole(rows["calibration_drift"], window="week", metric="ece")
    assert [r["n"] for r in judged] == [861]
    assert {r["level"] for r in rows["calibration_drift"]} == {"all", "pot", "tea"}


def test_days_that_were_profiled_with_another_reference_are_left_out(world: World) -> None:
    filled(world, 3)
    world.references["1"] = reference(9)
    assert {r["outcome"] for r in whole(world.week()["feature_drift"])} == {"no data"}


def test_a_week_without_predictions_says_no_data(world: World) -> None:
    found = world.week()
    for kind in KINDS:
        assert {r["outcome"] for r in found[kind]} == {"no data"}


def test_a_week_starts_on_a_monday(world: World) -> None:
    with pytest.raises(DataError, match="Tuesday"):
        windows.compute_week(world.platform, world.spec, date(1), NOW)
