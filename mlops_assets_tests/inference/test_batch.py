"""Batch inference: rows of a window with features as of each row's time, scored and kept by day."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.training import fit
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import WindowError
from mlops_assets.inference.batch import entity_rows, predict_window, with_features
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.windows import Window
from mlops_assets_tests.core.selection_world import rows_in_time
from mlops_assets_tests.shop_world import day, returns

# MLflow's own types, when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

PREDICTIONS = "predictions/returns"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def spec(platform: Platform) -> ModelSpec:
    """The spec, with all of its tables in the lake and its features declared."""
    folder = platform.settings.root
    found = returns(folder)
    for source in found.sources:
        engine.write_source(platform.lake, source)
    engine.write_rows(platform.lake, found.rows, "mark")
    for view in found.features.views:
        engine.write_features(platform.lake, view, engine.days_of(view))
    platform.features.apply((found.features,))
    return found


@pytest.fixture(scope="module")
def version(platform: Platform, spec: ModelSpec) -> Iterator[ModelVersion]:
    """A registered version, fitted on noise: what it says is not the point here."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    random = np.random.default_rng(0)
    inputs = pd.DataFrame({name: random.normal(size=100) for name in spec.inputs})
    noise = rows_in_time(inputs, random.integers(0, 2, 100))
    fitted = fit(
        spec.estimators,
        calibrations=("sigmoid",),
        folds=spec.folds,
        confidence=0.9,
        seed=0,
        train=noise,
        calibrate=noise,
        conformalize=noise,
    )
    run_id = platform.registry.open_run("development/tests/returns", "noise", {})
    mlflow.set_experiment("development/tests/returns")
    with mlflow.start_run(run_id=run_id):
        yield platform.registry.register(spec.name, run_id, fitted, inputs.head(), {}, {})
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def ids(platform: Platform, spec: ModelSpec, start: dt.date, end: dt.date) -> list[str]:
    return entity_rows(platform, spec, start, end)["order_id"].tolist()


def test_the_first_day_is_in_and_the_end_is_out(platform: Platform, spec: ModelSpec) -> None:
    assert ids(platform, spec, day(2), day(4)) == ["o3", "o4", "o5", "o6"]


def test_a_window_begins_and_ends_at_midnight_in_utc(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    midnights = Platform(Settings(home=tmp_path))
    rows = ", ".join(
        f"('{name}', TIMESTAMPTZ '2024-01-{time}')"
        for name, time in {
            "last of the first": "01 23:59:59.999999+00",
            "first of the second": "02 00:00:00+00",
            "last of the second": "02 23:59:59.999999+00",
            "first of the third": "03 00:00:00+00",
        }.items()
    )
    query = f"SELECT * FROM (VALUES {rows}) t(order_id, event_timestamp)"
    with midnights.lake.connect() as connection:
        midnights.lake.write(connection, query, midnights.lake.file(engine.rows(spec.rows)))
    found = ids(midnights, spec, day(2), day(3))
    assert found == ["first of the second", "last of the second"]


def test_rows_come_in_order_of_time_and_id(platform: Platform, spec: ModelSpec) -> None:
    found = entity_rows(platform, spec, day(1), day(6))
    ordered = found.sort_values(["event_timestamp", "order_id"], ignore_index=True)
    pd.testing.assert_frame_equal(found, ordered)


def test_a_window_without_rows_gives_an_empty_frame(platform: Platform, spec: ModelSpec) -> None:
    assert entity_rows(platform, spec, day(20), day(21)).empty


def test_rows_get_all_inputs_of_the_model_in_their_order(
    platform: Platform, spec: ModelSpec
) -> None:
    found = with_features(platform, spec, entity_rows(platform, spec, day(1), day(3)))
    assert found["order_id"].to_pylist() == ["o1", "o2", "o3", "o4"]
    assert found.select(spec.inputs).to_pylist()[1] == {
        "amount_last": 1.0,
        "amount_2d": 1.0,
        "size_doubled": 4.0,
    }


def test_an_empty_window_is_refused_and_nothing_is_written(
    platform: Platform, spec: ModelSpec, version: ModelVersion
) -> None:
    empty = Window(start=day(20), end=day(21))
    with pytest.raises(WindowError, match=r"no rows of 'returns' to predict \(2024-01-20"):
        predict_window(platform, spec, version, empty)
    assert not platform.lake.day_file(PREDICTIONS, day(20)).exists()


@pytest.fixture(scope="module")
def predicted(platform: Platform, spec: ModelSpec, version: ModelVersion) -> Any:
    return predict_window(platform, spec, version, Window(start=day(3), end=day(5)))


def read(platform: Platform, path: Path) -> pd.DataFrame:
    return platform.lake.read("FROM t ORDER BY order_id", t=path).to_pandas()


def test_predictions_are_kept_by_day_and_name_their_version(
    platform: Platform, predicted: Any, version: ModelVersion
) -> None:
    folder = platform.lake.folder(PREDICTIONS)
    marks = dict.fromkeys([day(3), day(4)], version.version)
    assert platform.lake.day_fingerprints(PREDICTIONS) == marks
    assert read(platform, folder)["order_id"].tolist() == ["o5", "o6", "o7", "o8"]
    assert set(read(platform, folder)["model_version"]) == {version.version}


def test_predictions_are_what_the_loaded_model_says(
    platform: Platform, spec: ModelSpec, predicted: Any, version: ModelVersion
) -> None:
    found = read(platform, platform.lake.folder(PREDICTIONS))
    rows = with_features(platform, spec, entity_rows(platform, spec, day(3), day(5)))
    fitted = platform.registry.load(version)
    expected = fitted.probabilities(rows.select(spec.inputs).to_pandas())
    np.testing.assert_array_equal(found["probability"], expected)
    sets = found[["negative_in_set", "positive_in_set"]].to_numpy()
    np.testing.assert_array_equal(sets, fitted.rule.prediction_sets(expected))


def test_predictions_keep_the_id_the_keys_and_the_time(platform: Platform, predicted: Any) -> None:
    found = read(platform, platform.lake.day_file(PREDICTIONS, day(3)))
    first = found[["order_id", "shop", "item", "event_timestamp"]].iloc[0].tolist()
    assert first == ["o5", "a", "tea", pd.Timestamp("2024-01-03 12:00", tz="UTC")]


def test_the_answer_sums_up_the_predictions(platform: Platform, predicted: Any) -> None:
    found = read(platform, platform.lake.folder(PREDICTIONS))
    size = found[["negative_in_set", "positive_in_set"]].to_numpy().sum(axis=1).mean()
    assert predicted["rows"] == 4
    assert predicted["mean_probability"] == pytest.approx(found["probability"].mean())
    assert predicted["set_size"] == pytest.approx(size)


def test_only_the_days_of_a_window_are_predicted(
    platform: Platform, spec: ModelSpec, version: ModelVersion
) -> None:
    # 2024-01-03 is day 19,725 since 1970, an odd one.
    odd = Window(start=day(3), end=day(5), days="odd")
    assert predict_window(platform, spec, version, odd)["rows"] == 2
