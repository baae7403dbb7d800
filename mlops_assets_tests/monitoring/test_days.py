"""A day of monitoring: what is found, and what bad input gives."""

import datetime as dt

import pytest

from mlops_assets.monitoring import results
from mlops_assets.stores.lake import Lake, parquet_files
from mlops_assets_tests.monitoring.world import (
    DAY,
    FIRST,
    NOW,
    START,
    World,
    count,
    date,
    reference,
    whole,
)


def outcomes(rows: list[dict], name: str = "feature") -> dict[str, str]:
    return {row[name]: row["outcome"] for row in rows}


def filled(world: World, days: int = 7, **change: object) -> None:
    for number in range(days):
        world.label(world.predict(number, **change))


def test_a_model_that_is_as_it_was_is_fine_everywhere(world: World) -> None:
    filled(world)
    found = world.day(6)
    assert set(outcomes(whole(found["feature_drift"])).values()) == {"stable"}
    assert set(outcomes(whole(found["prediction_drift"])).values()) == {"stable"}
    judged = whole(found["calibration_drift"], window="trailing")
    assert {r["metric"]: r["outcome"] for r in judged if r["metric"] != "bin"} == {
        "ece": "fine", "worst_bin": "fine"
    }  # fmt: skip
    assert [r["n"] for r in judged if r["metric"] == "ece"] == [2_100]
    assert sum(r["metric"] == "bin" for r in judged) == 15


def test_a_shift_is_drift_of_that_feature_and_is_ranked(world: World) -> None:
    world.predict(0, shift=3.0)
    rows = whole(world.day(0)["feature_drift"])
    assert outcomes(rows) == {
        "item": "stable", "amount_last": "drifted", "amount_2d": "stable", "size_doubled": "stable"
    }  # fmt: skip
    assert {r["feature"]: r["rank_share"] for r in rows if r["rank_share"]} == {"amount_last": 1.0}
    # A shift of 1.5 standard deviations; of a text there is one distance only.
    (moved,), (text,) = (whole(rows, feature=name) for name in ("amount_last", "item"))
    assert moved["wasserstein"] == pytest.approx(1.5, abs=0.15)
    assert moved["kolmogorov_smirnov"] == pytest.approx(0.55, abs=0.08)
    assert 0.4 < moved["jensen_shannon"] < 0.7
    assert (text["wasserstein"], text["kolmogorov_smirnov"]) == (None, None)
    assert text["jensen_shannon"] < 0.1


def test_a_feature_that_moves_so_in_its_reference_does_not_alert(world: World) -> None:
    world.references["1"].effects["amount_last"] = (0.0, 9.0)  # type: ignore[index]
    world.predict(0, shift=3.0)
    (row,) = whole(world.day(0)["feature_drift"], feature="amount_last")
    assert (row["outcome"], row["own_floor"]) == ("stable", 9.0)
    assert "as far as days of the reference differ" in row["reason"]


def test_a_window_without_traffic_says_no_data(world: World) -> None:
    found = world.day(0)
    for kind in results.KINDS:
        judged = [r for r in found[kind] if r["outcome"] is not None]
        assert {r["outcome"] for r in judged} == {"no data"}, kind
        assert {r["version"] for r in judged} == {"none"}
    assert count(found, "labels_delivered") == 0


def test_a_window_without_labels_has_estimates_that_are_marked(world: World) -> None:
    for number in range(3):
        world.predict(number)
    found = world.day(2)
    judged = whole(found["calibration_drift"], window="trailing")
    assert {(r["outcome"], r["n"]) for r in judged} == {("no data", 900)}
    assert "0 of 900 predictions have a mature label" in judged[0]["reason"]
    kinds = {r["kind"] for r in whole(found["performance"], metric="log_loss", window="day")}
    assert kinds == {"measured", "estimate"}
    (estimate,) = whole(found["performance"], metric="log_loss", window="day", kind="estimate")
    assert estimate["value"] > 0
    assert "estimate" in estimate["reason"]


def test_estimates_are_scored_once_labels_come(world: World) -> None:
    filled(world, 3)
    found = whole(world.day(2)["performance"], window="day")
    by_kind = {(r["metric"], r["kind"]): r for r in found}
    error = by_kind["log_loss", "estimate"]["value"] - by_kind["log_loss", "measured"]["value"]
    assert by_kind["log_loss", "score"]["value"] == pytest.approx(error)
    assert by_kind["log_loss", "score"]["inside"] is True


def test_labels_that_are_not_due_are_not_judged(world: World) -> None:
    filled(world, 3)
    early = world.day(2, as_of=START + 3 * DAY)
    judged = whole(early["calibration_drift"], window="trailing", metric="ece")
    assert [r["outcome"] for r in judged] == ["not due"]
    assert judged[0]["reason"].startswith("not due: 601 of 900 predictions have a mature label")
    late = world.day(2, as_of=START + 4 * DAY)
    judged = whole(late["calibration_drift"], window="trailing", metric="ece")
    assert [r["outcome"] for r in judged] == ["fine"]


@pytest.mark.parametrize("labelled", [True, False])
def test_what_has_no_limit_is_never_judged(world: World, labelled: bool) -> None:
    for number in range(3):
        rows = world.predict(number)
        world.label(rows if labelled else [])
    for window, judged in (("trailing", {"log_loss"}), ("day", set())):
        found = whole(world.day(2)["performance"], window=window, kind="measured")
        assert {r["metric"] for r in found} == {"log_loss", "brier", "auc"}
        assert {r["metric"] for r in found if r["outcome"]} == judged


def test_a_window_of_one_class_is_measured_as_far_as_it_can_be(world: World) -> None:
    for number in range(3):
        world.label(world.predict(number), label=0)
    found = world.day(2)
    (auc,) = whole(found["performance"], metric="auc", window="trailing", kind="measured")
    assert (auc["outcome"], auc["reason"]) == (None, "no data: all 900 labels are 0")
    (ece,) = whole(found["calibration_drift"], metric="ece", window="trailing")
    assert ece["outcome"] == "critical"
    (slices,) = (r for r in found["calibration_drift"] if r["metric"] == "slices")
    assert slices["outcome"] == "no data"


def test_a_new_category_is_named(world: World) -> None:
    world.predict(0, change={"item": "cup"})
    (row,) = whole(world.day(0)["feature_drift"], feature="item")
    assert row["outcome"] == "drifted"
    assert "new: 'cup'" in row["reason"]
    assert row["names"] == ["cup"]


@pytest.mark.parametrize(("value", "remark"), [(7.0, "all values are 7"), (None, "all rows are")])
def test_a_feature_that_became_constant_or_null_drifts(
    world: World, value: float | None, remark: str
) -> None:
    world.predict(0, change={"amount_last": value})
    (row,) = whole(world.day(0)["feature_drift"], feature="amount_last")
    assert row["outcome"] == "drifted"
    assert remark in row["reason"]
    assert row["null_share"] == (value is None)


@pytest.mark.parametrize("value", [1e200, -1.7e308])
def test_a_value_that_has_no_square_stops_no_monitor(world: World, value: float) -> None:
    world.predict(0, 150)
    world.predict(0, 1, change={"amount_last": value}, seed=2)
    (row,) = whole(world.day(0)["feature_drift"], feature="amount_last")
    assert (row["outcome"], row["n"]) == ("stable", 151)
    assert value in (row["minimum"], row["maximum"])
    (row,) = whole(world.week()["feature_drift"], feature="amount_last")
    assert (row["outcome"], row["n"]) == ("stable", 151)


def test_refused_predictions_are_counted_and_not_judged(world: World) -> None:
    world.predict(0, 200)
    world.predict(0, 50, status="refused", seed=2)
    found = world.day(0)
    assert count(found, "predictions") == 250
    assert count(found, "not_scored") == 50
    assert {r["n"] for r in whole(found["feature_drift"])} == {200}


def test_records_out_of_order_are_of_the_day_that_they_tell(world: World) -> None:
    world.predict(1, 150)
    world.predict(0, 120)
    world.predict(1, 30, seed=9)
    assert count(world.day(0), "predictions") == 120
    assert count(world.day(1), "predictions") == 180


def test_a_record_in_the_file_of_another_day_is_counted_as_stray(world: World) -> None:
    world.predict(0, 120)
    world.predict(1, 150)
    lake = world.platform.lake
    first, second = (lake.day_file("inference_log", date(number)) for number in (0, 1))
    with lake.connect() as connection:
        both = f"FROM read_parquet({parquet_files([first, second])})"
        lake.write(connection, both, second)
    first.unlink()
    found = world.day(1)
    assert count(found, "stray_records") == 120
    assert {r["n"] for r in whole(found["feature_drift"])} == {150}
    assert count(found, "predictions") == 150


def test_a_label_from_before_its_prediction_is_still_its_label(world: World) -> None:
    for number in range(3):
        world.label(world.predict(number), after=-dt.timedelta(hours=2))
    assert count(world.day(2), "labels_mature") == 300


def test_a_day_computed_twice_gives_the_same_files(world: World) -> None:
    filled(world, 3)
    lake = world.platform.lake
    paths = [lake.day_file(results.table(world.spec, kind), date(2)) for kind in results.KINDS]
    world.day(2)
    first = [path.read_bytes() for path in paths]
    world.day(2, as_of=NOW + DAY)
    assert [path.read_bytes() for path in paths] == first


def test_a_version_that_is_gone_from_the_registry_has_no_data_and_says_why(world: World) -> None:
    for number in range(3):
        world.label(world.predict(number, version="9"))
    found = world.day(2)
    drift = whole(found["feature_drift"])
    assert outcomes(drift) == dict.fromkeys(world.spec.inputs, "no data")
    assert drift[0]["reason"] == "no data: the registry has no version 9"
    (ece,) = whole(found["calibration_drift"], metric="ece", window="trailing")
    assert ece["outcome"] == "fine"  # calibration is measured without a reference
    (coverage,) = whole(found["coverage"], window="trailing")
    assert coverage["outcome"] == "no data"
    (loss,) = whole(found["performance"], metric="log_loss", window="trailing", kind="measured")
    assert loss["outcome"] == "no data"
    assert loss["value"] is not None


def test_versions_and_arms_are_told_apart(world: World) -> None:
    world.references["2"] = reference(5)
    world.predict(0, 200)
    world.predict(0, 150, version="2", arm="canary")
    world.predict(0, 130, version="2", arm="requested", seed=3)
    rows = [r for r in world.day(0)["feature_drift"] if r["slice"] == "all"]
    sizes = {(r["version"], r["arm"]): r["n"] for r in rows}
    assert sizes == {("1", "all"): 200, ("2", "all"): 280, ("2", "canary"): 150,
                     ("2", "requested"): 130}  # fmt: skip


def test_results_beyond_what_the_policy_keeps_are_removed(world: World) -> None:
    policy = world.spec.monitoring.model_copy(update={"windows_kept": 7})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    for number in range(9):
        world.day(number)
    kept = list(world.platform.lake.days(results.table(world.spec, "coverage")))
    assert kept == [date(number) for number in range(2, 9)]


def test_a_window_that_another_run_has_removed_meanwhile_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        world.day(number)
    policy = world.spec.monitoring.model_copy(update={"windows_kept": 1})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    lake = world.platform.lake
    before = lake.days(results.table(world.spec, "coverage"))
    world.day(1)
    monkeypatch.setattr(Lake, "days", lambda *_: before)
    world.day(1)
    assert not lake.day_file(results.table(world.spec, "coverage"), date(0)).exists()


def test_calibration_that_is_lost_is_critical(world: World) -> None:
    for number in range(4):
        rows = world.predict(number)
        world.label([{**row, "y": int(row["p"] > 0.3)} for row in rows])
    (ece,) = whole(world.day(3)["calibration_drift"], metric="ece", window="trailing")
    assert ece["outcome"] == "critical"
    assert ece["threshold"] == world.spec.gates.ece_limit
    assert date(0) == FIRST
