"""Forecasts of a number are monitored too: drift, bias, coverage and error."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.core.profile import NumberBins, NumberProfile
from mlops_assets.spec import Slice
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.outcomes_log import Outcome
from mlops_assets_tests.monitoring.world import START, World, count, made, reference, whole

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = made(
        tmp_path, monkeypatch, task="regression", slices=(Slice(name="half", column="size_doubled",
        edges=(10,)),)
    )  # fmt: skip
    rng = np.random.default_rng(0)
    old = reference()
    values = {"forecast": rng.normal(20, 5, 4_000), "width": np.full(4_000, 4.0)}
    columns = {
        **{name: old.columns[name] for name in found.spec.inputs},
        **{name: NumberProfile.of(v, NumberBins.of(v)) for name, v in values.items()},
    }
    object.__setattr__(old, "columns", columns)
    found.references["1"] = old
    return found


def predict(world: World, bias: float = 0.0, absurd: float | None = None) -> None:
    """Three days of forecasts whose errors are normal, of the deviation 1.25; one may be absurd."""
    rng = np.random.default_rng(1)
    log = InferenceLog(world.platform.settings.root / "inference_log", "w")
    outcomes = []
    for i in range(900):
        at = START + (i % 3) * 24 * HOUR + i * dt.timedelta(seconds=3)
        forecast = float(rng.normal(20, 5))
        features = {"item": "tea", "amount_last": float(rng.normal(10, 2)),
                    "amount_2d": float(rng.exponential(5)),
                    "size_doubled": float(rng.integers(1, 10) * 2)}  # fmt: skip
        said = forecast if absurd is None or i < 899 else absurd
        outputs = {"forecast": said, "low": forecast - 2.06, "high": forecast + 2.06}
        log.append(
            Prediction(f"p{i}", at, world.spec.name, "1", "champion", {"shop": "a"}, features,
                       {}, {}, outputs, 1.0)
        )  # fmt: skip
        label = forecast + float(rng.normal(0, 1.25)) - bias
        outcomes.append(Outcome(world.spec.name, label, at + HOUR, f"p{i}"))
    log.close()
    compact(world.platform.settings.root / "inference_log", world.platform.lake)
    world.deliver(outcomes)


def test_good_forecasts_are_fine_and_nothing_is_estimated_without_labels(world: World) -> None:
    predict(world)
    found = world.day(2)
    judged = {
        row["metric"]: row["outcome"]
        for kind in ("calibration_drift", "coverage", "performance")
        for row in whole(found[kind], window="trailing", kind="measured")
    }
    assert judged == {"mean_error": "fine", "coverage": "fine", "mae": "fine", "rmse": None}
    assert not whole(found["performance"], kind="estimate")
    slices = [r for r in found["coverage"] if r["slice"] == "half"]
    assert {r["level"] for r in slices} == {"below 10", "10 and above"}


def test_a_bias_is_lost_calibration_coverage_and_performance(world: World) -> None:
    predict(world, bias=2.0)
    found = world.day(2)
    for kind, metric in (
        ("calibration_drift", "mean_error"),
        ("coverage", "coverage"),
        ("performance", "mae"),
    ):
        (row,) = whole(found[kind], window="trailing", metric=metric, kind="measured")
        assert row["outcome"] == "critical", metric


def test_an_absurd_forecast_is_counted_and_hides_no_other(world: World) -> None:
    predict(world, bias=2.0, absurd=1e200)
    found = world.day(2)
    for kind, metric in (("calibration_drift", "mean_error"), ("performance", "mae")):
        (row,) = whole(found[kind], window="trailing", metric=metric, kind="measured")
        assert row["outcome"] == "critical", row
    assert count(found, "not_scored") == 1


def test_what_forecasts_say_is_watched(world: World) -> None:
    predict(world)
    rows = {row["feature"]: row for row in whole(world.day(2)["prediction_drift"])}
    assert set(rows) == {"forecast", "width"}
    assert rows["forecast"]["outcome"] == "stable"
    assert rows["width"]["outcome"] == "drifted"  # 4.12 where it was 4
