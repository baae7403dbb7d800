"""Every path of Feast's DuckDB store, through a FeatureStore."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureStore, Field, RequestSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.transformation.substrait_transformation import SubstraitTransformation
from feast.types import Float64, Int64

from mlops_assets.errors import DeclarationError
from mlops_assets.stores import asof_join
from mlops_assets.stores.asof_offline_store import (
    AsofDuckDBOfflineStore,
    AsofDuckDBOfflineStoreConfig,
)
from mlops_assets_tests.stores.asof_world import (
    DRIVER,
    FEAST_WARNINGS,
    HISTORY,
    ask,
    day,
    make_store,
    renamed_source,
    trips,
    trips_of,
    view,
)

pytestmark = FEAST_WARNINGS


def test_a_row_sees_only_what_was_known_at_its_time(store: FeatureStore, history: Path) -> None:
    store.apply([DRIVER, view(history)])
    assert trips_of(store, [2, 2, 2], [day(1, 1), day(4), day(5)]) == [20, 20, 21]


def test_the_cutoff_can_be_switched_off_and_feasts_own_switch_turns_it_on(
    tmp_path: Path, history: Path
) -> None:
    store = make_store(tmp_path, as_known="false")
    store.apply([DRIVER, view(history)])
    frame = ask([2], [day(4)])
    off = store.get_historical_features(frame, ["stats:trips"])
    on = store.get_historical_features(frame, ["stats:trips"], filter_by_created_timestamp=True)
    assert (off.to_df()["trips"].item(), on.to_df()["trips"].item()) == (21, 20)


def test_a_late_row_that_arrives_between_check_and_join_is_still_cut_off(
    store: FeatureStore, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.apply([DRIVER, view(history)])
    monkeypatch.setattr(asof_join, "late_rows", lambda side: "SELECT 1 WHERE false")
    assert trips_of(store, [2], [day(4)]) == [20]


def test_times_come_back_zoned_in_utc_and_numbers_as_they_are_stored(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    answer = store.get_historical_features(
        ask([1], [day(3)], seen=[datetime(2024, 5, 3)]), ["stats:trips", "stats:rating"]
    ).to_df()
    assert {name: str(dtype) for name, dtype in answer.dtypes.items()} == {
        "driver": "int64",
        "event_timestamp": "datetime64[us, UTC]",
        "seen": "datetime64[us, UTC]",
        "trips": "int64",
        "rating": "float64",
    }


@pytest.mark.parametrize("mapped_times", [False, True])
def test_field_mapping_renames_features_keys_and_times(
    store: FeatureStore, tmp_path: Path, mapped_times: bool
) -> None:
    mapped = renamed_source(tmp_path, times=mapped_times)
    store.apply([DRIVER, view("", source=mapped)])
    answer = store.get_historical_features(ask([1, 2], [day(3)] * 2), ["stats:rating"]).to_df()
    assert answer["rating"].tolist() == [4.6, 3.5]


def test_one_view_joined_twice_under_two_names_and_keys(store: FeatureStore, history: Path) -> None:
    stats = view(history)
    pair = FeatureService(
        name="pair",
        features=[
            stats[["trips"]].with_name("first").with_join_key_map({"driver": "one"}),
            stats[["trips"]].with_name("second").with_join_key_map({"driver": "other"}),
        ],
    )
    store.apply([DRIVER, stats, pair])
    frame = pd.DataFrame({"one": [1], "other": [2], "event_timestamp": [day(3)]})
    answer = store.get_historical_features(frame, pair, full_feature_names=True).to_df()
    assert answer.columns.tolist()[3:] == ["first__trips", "second__trips"]
    assert answer.iloc[0, 3:].tolist() == [11, 20]


def test_views_with_features_of_one_name_keep_apart_by_full_names(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history), view(history, name="again", ttl=timedelta(hours=1))])
    answer = store.get_historical_features(
        ask([1], [day(3)]), ["stats:trips", "again:trips"], full_feature_names=True
    ).to_df()
    assert answer[["stats__trips", "again__trips"]].astype(object).isna().to_numpy().tolist() == [
        [False, True]
    ]


def test_a_view_without_entity_gives_every_row_the_latest_value(
    store: FeatureStore, history: Path
) -> None:
    fields = [Field(name="trips", dtype=Int64)]
    store.apply([view(history, entities=[], schema=fields)])
    answer = store.get_historical_features(ask([9, 9], [day(1, 1), day(9)]), ["stats:trips"])
    # Rows of one moment are tied: either is right. The late one of day 2 is not known on day 4.
    first, last = answer.to_df()["trips"]
    assert first in (10, 20)
    assert last in (11, 21)


def test_on_demand_features_are_computed_from_the_joined_values(
    store: FeatureStore, history: Path
) -> None:
    stats = view(history)
    request = RequestSource(name="request", schema=[Field(name="extra", dtype=Int64)])

    @on_demand_feature_view(
        sources=[stats, request], schema=[Field(name="total", dtype=Int64)], mode="pandas"
    )
    def sums(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["trips"] + inputs["extra"]})

    @on_demand_feature_view(
        sources=[stats], schema=[Field(name="double", dtype=Int64)], mode="python"
    )
    def doubles(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"double": [2 * value for value in inputs["trips"]]}

    store.apply([DRIVER, stats, sums, doubles])
    answer = store.get_historical_features(
        ask([1], [day(3)], extra=[100]), ["sums:total", "doubles:double", "stats:rating"]
    ).to_df()
    assert answer[["total", "double", "rating"]].iloc[0].tolist() == [111, 22, 4.6]


def test_substrait_features_are_computed_by_their_ibis_function(
    store: FeatureStore, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = Field(name="half", dtype=Float64)
    # Writing a substrait plan needs ibis-substrait; the offline store runs the ibis function.
    monkeypatch.setattr(SubstraitTransformation, "infer_features", lambda *_, **__: [half])
    stats = view(history)
    total = OnDemandFeatureView(
        name="ratio",
        sources=[stats],
        schema=[half],
        feature_transformation=SubstraitTransformation(
            substrait_plan=b"", udf=lambda table: table.mutate(half=table["trips"] / 2)
        ),
        mode="substrait",
    )
    store.apply([DRIVER, stats, total])
    answer = store.get_historical_features(
        ask([1, 2], [day(3), day(3)]), ["stats:trips", "ratio:half"]
    ).to_df()
    assert answer["half"].tolist() == [5.5, 10.0]


@pytest.mark.parametrize("place", ["saved.parquet", "saved"])
def test_a_saved_dataset_comes_back_as_it_was_and_can_be_replaced(
    store: FeatureStore, tmp_path: Path, history: Path, place: str
) -> None:
    stats = view(history)

    @on_demand_feature_view(
        sources=[stats], schema=[Field(name="double", dtype=Int64)], mode="pandas"
    )
    def doubles(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"double": 2 * inputs["trips"]})

    store.apply([DRIVER, stats, doubles])
    job = store.get_historical_features(
        ask([2, 1], [day(3), day(3)]), ["stats:trips", "doubles:double"]
    )
    storage = SavedDatasetFileStorage(path=place)
    store.create_saved_dataset(job, "training", storage)
    assert (tmp_path / place).exists()
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        store.create_saved_dataset(job, "training", storage)
    store.create_saved_dataset(job, "training", storage, allow_overwrite=True)
    saved = store.get_saved_dataset("training").to_df()
    assert sorted(saved[["driver", "trips", "double"]].to_numpy().tolist()) == [
        [1, 11, 22],
        [2, 20, 40],
    ]


def test_materialization_takes_the_newest_row_of_each_key(
    store: FeatureStore, history: Path
) -> None:
    revised = trips((1, day(2), day(3), 12, 4.7))
    pq.write_table(pa.concat_tables([HISTORY, revised]), history)
    store.apply([DRIVER, view(history)])
    store.materialize(day(1), day(2, 1))
    answer = store.get_online_features(["stats:trips"], [{"driver": 1}, {"driver": 2}]).to_dict()
    assert answer["trips"] == [12, 21]


def test_without_a_frame_every_entity_of_the_range_comes_back_at_its_end(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    answer = store.get_historical_features(
        features=["stats:trips"], start_date=day(1), end_date=day(3)
    ).to_df()
    assert answer[["driver", "trips"]].to_numpy().tolist() == [[1, 11], [2, 20]]
    assert set(answer["event_timestamp"]) == {pd.Timestamp(day(3))}
    with pytest.raises(DeclarationError, match="starts at"):
        store.get_historical_features(features=["stats:trips"], start_date=day(3), end_date=day(1))


def test_logged_features_are_read_back(store: FeatureStore, tmp_path: Path, history: Path) -> None:
    logs = pa.table({"driver": [1, 2], "at": pa.array([day(1), day(2)])})
    destination = FileLoggingDestination(path=str(tmp_path / "logs"))
    (tmp_path / "logs").mkdir()
    for part in (logs.slice(0, 1), logs.slice(1)):
        AsofDuckDBOfflineStore.write_logged_features(
            store.config, part, None, LoggingConfig(destination=destination), store.registry
        )
    job = AsofDuckDBOfflineStore.pull_all_from_table_or_query(
        store.config, destination.to_data_source(), [], ["driver"], "at", None, day(2), day(3)
    )
    assert job.to_arrow()["driver"].to_pylist() == [2]


def test_a_limit_of_memory_and_threads_is_obeyed(tmp_path: Path, history: Path) -> None:
    store = make_store(tmp_path, memory_limit="300MB", threads=1)
    store.apply([DRIVER, view(history)])
    assert isinstance(store.config.offline_store, AsofDuckDBOfflineStoreConfig)
    assert trips_of(store, [1], [day(3)]) == [11]


def test_a_view_with_mapped_columns_or_without_entity_materializes(
    store: FeatureStore, tmp_path: Path, history: Path
) -> None:
    mapped = renamed_source(tmp_path)
    whole = view(history, name="whole", entities=[], schema=[Field(name="rating", dtype=Float64)])
    store.apply([DRIVER, view("", source=mapped), whole])
    store.materialize(day(1), day(3))
    answer = store.get_online_features(["stats:trips", "whole:rating"], [{"driver": 2}]).to_dict()
    assert answer["trips"] == [21]
    assert answer["rating"] == [3.6]
