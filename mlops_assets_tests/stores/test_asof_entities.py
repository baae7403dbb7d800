"""Entity frames of every odd kind: a defined answer or a clear refusal."""

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.stores.asof_offline_store import AsofDuckDBOfflineStore
from mlops_assets_tests.stores.asof_world import DRIVER, FEAST_WARNINGS, ask, day, view

pytestmark = FEAST_WARNINGS


def test_a_frame_of_no_rows_gives_no_rows_of_the_same_columns(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    for frame in (ask([], []), ask([1], [day(3)]).iloc[:0]):
        answer = store.get_historical_features(frame, ["stats:trips"]).to_arrow()
        assert answer.num_rows == 0
        assert answer.schema.field("trips").type == pa.int64()
        assert answer.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    "times",
    [
        ["2024-05-03", "2024-05-01T12:00:00+02:00", None],
        [day(3), day(1, 10).astimezone(timezone(timedelta(hours=2))), pd.NaT],
        [datetime(2024, 5, 3), datetime(2024, 5, 1, 10), None],
        [date(2024, 5, 3), date(2024, 5, 1), None],
    ],
    ids=["strings", "mixed zones", "naive", "dates"],
)
def test_times_are_understood_as_utc_in_every_form(
    store: FeatureStore, history: Path, times: list[Any]
) -> None:
    store.apply([DRIVER, view(history)])
    frame = ask([1, 1, 1], pd.Series(times, dtype=object))
    answer = store.get_historical_features(frame, ["stats:trips"]).to_df()
    assert answer["trips"].astype(object).where(answer["trips"].notna(), None).tolist() == [
        11,
        10,
        None,
    ]


def test_a_single_datetime_column_of_another_name_is_the_time(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    frame = pd.DataFrame({"driver": [1], "when": [day(3)]})
    assert store.get_historical_features(frame, ["stats:trips"]).to_df()["trips"].item() == 11
    table = pa.table({"driver": [1], "when": [day(3)]})
    assert store.get_historical_features(table, ["stats:trips"]).to_df()["trips"].item() == 11


def test_whole_numbers_that_pandas_made_floats_still_match(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    answer = store.get_historical_features(ask([1, None], [day(3)] * 2), ["stats:trips"]).to_df()
    assert answer["trips"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"driver": [1]}), "no column 'event_timestamp'"),
        (ask([1], [1_700_000_000]), "numbers"),
        (ask([1], ["3/5/2024"]), "cannot be read"),
        (ask([1], [True]), "cannot be read"),
        (pd.DataFrame({"drivr": [1], "event_timestamp": [day(3)]}), "did you mean drivr"),
        (ask(["1"], [day(3)]), "join key 'driver' of the entity frame is VARCHAR"),
        (ask([1], [day(3)], odd=[[1, "x"]]), "column 'odd' mixes types"),
        (pd.DataFrame([[1, 1, day(3)]], columns=["driver", "driver", "event_timestamp"]), "same"),
    ],
)
def test_a_frame_that_cannot_be_understood_is_refused_by_name(
    store: FeatureStore, history: Path, frame: pd.DataFrame, words: str
) -> None:
    store.apply([DRIVER, view(history)])
    config = store.config
    with pytest.raises(ContractError, match=words):
        AsofDuckDBOfflineStore.get_historical_features(
            config, [view(history)], ["stats:trips"], frame, store.registry, "demo"
        ).to_arrow()


def test_a_feature_named_as_a_column_of_the_frame_is_refused(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    with pytest.raises(DeclarationError, match="'trips' comes from the entity frame"):
        store.get_historical_features(ask([1], [day(3)], trips=[1]), ["stats:trips"])
    with pytest.raises(DeclarationError, match="is a string"):
        store.get_historical_features("SELECT 1", ["stats:trips"])


def test_the_job_does_not_see_later_changes_of_the_frame(
    store: FeatureStore, history: Path
) -> None:
    frame = ask([1], [day(3)])
    job = AsofDuckDBOfflineStore.get_historical_features(
        store.config, [view(history)], ["stats:trips"], frame, store.registry, "demo"
    )
    frame.loc[0, "driver"] = 2
    assert job.to_df()[["driver", "trips"]].to_numpy().tolist() == [[1, 11]]
