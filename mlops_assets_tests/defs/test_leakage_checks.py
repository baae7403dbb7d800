"""The leakage checks of a training set: what was not knowable, or is the label, is found."""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.defs import keys
from mlops_assets.defs.checks import features as checks
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import knowable
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests.shop_world import returns


def spec_of(tmp_path: Path) -> ModelSpec:
    """The shop's model, with features from its view only."""
    spec = returns(tmp_path)
    return spec.model_copy(update={"features": spec.features.model_copy(update={"request": ()})})


def training_set(platform: Platform, spec: ModelSpec, n: int = 400, **change: Any) -> str:
    """Features of every hour, each known an hour later, and rows that ask for them."""
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    hours = [start + dt.timedelta(hours=i) for i in range(96)]
    later = [hour + dt.timedelta(hours=1) for hour in hours]
    [view] = spec.features.views
    rows = pa.table(
        {
            "shop": ["a"] * 96,
            "item": ["tea"] * 96,
            "event_timestamp": pa.array(hours, pa.timestamp("us", tz="UTC")),
            "created_timestamp": pa.array(later, pa.timestamp("us", tz="UTC")),
            "amount_last": [float(i) for i in range(96)],
            "amount_2d": [float(i % 7) for i in range(96)],
        }
    )
    days = [dt.date(2024, 1, day) for day in range(1, 5)]
    platform.lake.write_days(rows, engine.features(view), days)
    asked_at = [start + dt.timedelta(minutes=30 + 13 * i) for i in range(n)]
    # Half past h: the row of the hour before is the newest that is known.
    known = [int((t - start).total_seconds() // 3600) - 1 for t in asked_at]
    columns = {
        "order_id": [f"o{i}" for i in range(n)],
        "shop": ["a"] * n,
        "item": ["tea"] * n,
        "event_timestamp": pa.array(asked_at, pa.timestamp("us", tz="UTC")),
        "returned": [i % 2 for i in range(n)],
        "split": ["train"] * n,
        "amount_last": [float(i) if i >= 0 else None for i in known],
        "amount_2d": [float(i % 7) if i >= 0 else None for i in known],
        **change,
    }
    return platform.training_sets.write(spec.name, pa.table(columns), {}).snapshot


def judged(
    platform: Platform, spec: ModelSpec, snapshot: str, instance: dg.DagsterInstance
) -> dict[str, dg.AssetCheckEvaluation]:
    @dg.asset(key=keys.training_set(spec))
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"snapshot": snapshot})

    result = dg.materialize(
        [table, *checks.leakage_checks(spec)],
        instance=instance,
        resources={"platform": platform},
        raise_on_error=False,
    )
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(Settings(home=tmp_path / "home"))


def test_a_training_set_of_what_was_known_passes(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    snapshot = training_set(platform, spec)
    told = judged(platform, spec, snapshot, instance)
    assert {name: e.passed for name, e in told.items()} == {
        "leakage_free": True,
        "no_label_in_features": True,
    }
    assert "all 800 values" in str(told["leakage_free"].description)
    assert told["leakage_free"].metadata["snapshot"].value == snapshot


def test_a_value_that_was_created_later_is_a_leak(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    # As if created times did not count: the event of the running hour.
    hours = [float((30 + 13 * i) // 60) for i in range(400)]
    told = judged(platform, spec, training_set(platform, spec, amount_last=hours), instance)
    assert not told["leakage_free"].passed
    assert "feature amount_last, row o" in str(told["leakage_free"].description)
    assert "400 of 800 values" in str(told["leakage_free"].description)


def test_a_feature_that_is_the_label_is_named(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    label = [float(i % 2) for i in range(400)]
    told = judged(platform, spec, training_set(platform, spec, amount_2d=label), instance)
    assert not told["no_label_in_features"].passed
    assert "amount_2d (AUC 1.0000)" in str(told["no_label_in_features"].description)


def test_values_older_than_the_ttl_were_not_knowable(platform: Platform, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    [view] = spec.features.views
    training_set(platform, spec)
    end = dt.datetime(2024, 1, 4, 23, tzinfo=dt.UTC)
    rows = pa.table(
        {
            "shop": ["a", "a", None, "b"],
            "item": ["tea"] * 4,
            "event_timestamp": pa.array(
                [end + view.ttl, end + view.ttl + dt.timedelta(microseconds=1), end, end],
                pa.timestamp("us", tz="UTC"),
            ),
            "place": range(4),
        }
    )
    found = knowable.answers(platform.lake, view, rows, "known", view.features[:1])
    assert found == {"amount_last": [95.0, None, None, None]}
    future = knowable.answers(platform.lake, view, rows, "future", view.features[:1])
    assert future == {"amount_last": [None, None, None, None]}


def test_the_sample_is_the_same_for_a_seed_whatever_the_order(
    platform: Platform, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path)
    path = platform.training_sets.file(spec.name, training_set(platform, spec))
    drawn = knowable.sample(platform.lake, path, ["shop"], "order_id", 50, 0)
    turned = tmp_path / "turned.parquet"
    platform.lake.write_arrow(platform.lake.read("FROM t ORDER BY order_id DESC", t=path), turned)
    assert knowable.sample(platform.lake, turned, ["shop"], "order_id", 50, 0).equals(drawn)
    other = knowable.sample(platform.lake, path, ["shop"], "order_id", 50, 1)
    assert other["order_id"].to_pylist() != drawn["order_id"].to_pylist()
    assert drawn["place"].to_pylist() == list(range(50))
