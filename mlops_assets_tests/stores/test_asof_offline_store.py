"""The offline store against the brute-force oracle, and through every path of a FeatureStore."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    RequestSource,
    ValueType,
)
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import PushMode
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores import duckdb as feast_duckdb
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.transformation.substrait_transformation import SubstraitTransformation
from feast.types import Float64, Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.errors import ContractError, DeclarationError, SourceError
from mlops_assets.stores import asof_join, asof_retrieval, asof_source
from mlops_assets.stores.asof_offline_store import (
    AsofDuckDBOfflineStore,
    AsofDuckDBOfflineStoreConfig,
)
from mlops_assets_tests.stores.asof_oracle import Row, possible_answers

pytestmark = [
    # Feast says so on every saved dataset.
    pytest.mark.filterwarnings("ignore:.*is an experimental feature:RuntimeWarning"),
    # ibis 12 calls a method that duckdb 2.0 deprecates (substrait views and Feast's own store).
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis"),
]

STORE = "mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore"
START = datetime(2024, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return START + minutes * MINUTE


def day(number: int, hour: float = 0) -> datetime:
    return datetime(2024, 5, number, tzinfo=UTC) + timedelta(hours=hour)


# --- against the oracle ----------------------------------------------------------------------

# Few pairs, so that many rows meet. Glued together the first two are the same.
PAIRS = st.sampled_from([("1", "23"), ("12", "3"), ("12", "23"), (None, "3")])
MINUTES = st.integers(0, 9)
LAGS = st.sampled_from([None, -2, 0, 0, 1, 2, 5])
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5.5)), timezone(timedelta(hours=-9))])
MODES = ["as known", "plain", "no created column"]
TTLS = st.sampled_from([None, timedelta(0), MINUTE, 3 * MINUTE, timedelta(seconds=90)])


@st.composite
def feature_rows(draw: st.DrawFn) -> list[Row]:
    fewest = draw(st.sampled_from([0, 5, 20]))
    one = st.tuples(PAIRS, MINUTES, LAGS)
    drawn = draw(st.lists(one, min_size=fewest, max_size=25))
    return [
        {
            "a": a,
            "b": b,
            "event": at(minute),
            "created": None if lag is None else at(minute + lag),
            "value": number,
            "text": None if number % 4 == 0 else f"row {number}",
        }
        for number, ((a, b), minute, lag) in enumerate(drawn)
    ]


@st.composite
def entity_rows(draw: st.DrawFn) -> list[Row]:
    half_minutes = st.one_of(st.none(), st.integers(-1, 28))
    fewest = draw(st.sampled_from([0, 10]))
    drawn = draw(st.lists(st.tuples(PAIRS, half_minutes, ZONES), min_size=fewest, max_size=15))
    rows = [
        {"a": a, "b": b, "time": None if h is None else at(h / 2).astimezone(zone)}
        for (a, b), h, zone in drawn
    ]
    return rows + rows[: draw(st.integers(0, 3))]


class NoOnDemandViews:
    """A registry as far as a retrieval without on-demand views needs one."""

    def list_on_demand_feature_views(self, *_: Any, **__: Any) -> list[Any]:
        return []


def view_of(path: Path, keys: Sequence[str], ttl: timedelta | None, created: bool) -> FeatureView:
    return FeatureView(
        name="facts",
        entities=[Entity(name=k, join_keys=[k], value_type=ValueType.STRING) for k in keys],
        ttl=ttl,
        schema=[
            *(Field(name=key, dtype=String) for key in keys),
            Field(name="value", dtype=Int64),
            Field(name="text", dtype=String),
        ],
        source=FileSource(
            path=str(path),
            file_format=ParquetFormat(),
            timestamp_field="event",
            created_timestamp_column="created" if created else "",
        ),
    )


FEATURES = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("event", pa.timestamp("us", "UTC")),
        ("created", pa.timestamp("us", "UTC")),
        ("value", pa.int64()),
        ("text", pa.string()),
    ]
)


def answers(
    view: FeatureView, frame: pd.DataFrame, as_known: bool, store: Any = AsofDuckDBOfflineStore
) -> list[Row]:
    config = RepoConfig(
        project="p",
        provider="local",
        registry="unused.db",
        offline_store={"type": STORE, "as_known": as_known},
        entity_key_serialization_version=3,
    )
    job = store.get_historical_features(
        config, [view], ["facts:value", "facts:text"], frame, NoOnDemandViews(), "p"
    )
    return job.to_arrow().to_pylist()


def check_against_oracle(
    folder: Path,
    features: list[Row],
    entities: list[Row],
    *,
    keys: Sequence[str],
    ttl: timedelta | None,
    mode: str,
    files: int = 1,
    strings: bool = False,
) -> None:
    if mode == "no created column":
        features = [{**row, "created": None} for row in features]
    for part in range(files):
        rows = pa.Table.from_pylist(features[part::files], schema=FEATURES)
        pq.write_table(rows, folder / f"part-{part}.parquet")
    times = [row["time"] for row in entities]
    if strings:
        times = [None if moment is None else moment.isoformat() for moment in times]
    frame = pd.DataFrame(
        {
            "a": pd.Series([row["a"] for row in entities], dtype=object),
            "b": pd.Series([row["b"] for row in entities], dtype=object),
            "event_timestamp": pd.Series(times, dtype=object),
            "label": range(len(entities)),
        }
    )
    before = frame.copy(deep=True)

    view = view_of(folder, keys, ttl, created=mode != "no created column")
    found = answers(view, frame, as_known=mode == "as known")

    pd.testing.assert_frame_equal(frame, before)
    assert [row["label"] for row in found] == list(range(len(entities)))
    for entity, row in zip(entities, found, strict=True):
        given = (row["a"], row["b"], row["event_timestamp"])
        assert given == (entity["a"], entity["b"], entity["time"])
        possible = possible_answers(entity, features, keys, ttl, mode == "as known")
        assert (row["value"], row["text"]) in [
            (None, None) if answer is None else (answer["value"], answer["text"])
            for answer in possible
        ]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    features=feature_rows(),
    entities=entity_rows(),
    ttl=TTLS,
    keys=st.sampled_from([("a", "b"), ("b",)]),
    mode=st.sampled_from(MODES),
    files=st.sampled_from([1, 3]),
    strings=st.booleans(),
    few=st.booleans(),
)
def test_every_answer_is_the_oracles(
    tmp_path_factory: pytest.TempPathFactory,
    features: list[Row],
    entities: list[Row],
    ttl: timedelta | None,
    keys: tuple[str, ...],
    mode: str,
    files: int,
    strings: bool,
    few: bool,
) -> None:
    folder = tmp_path_factory.mktemp("source")
    with patch.object(asof_retrieval, "_FEW_ROWS", 100_000 if few else -1):
        check_against_oracle(
            folder, features, entities, keys=keys, ttl=ttl, mode=mode, files=files, strings=strings
        )


@pytest.mark.parametrize("keys", [("a", "b"), ("b",)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("few", [True, False])
def test_every_answer_is_the_oracles_where_many_rows_meet(
    tmp_path: Path, keys: tuple[str, ...], mode: str, few: bool
) -> None:
    luck = random.Random(f"{keys} {mode} {few}")  # noqa: S311 - test data
    pairs = [("1", "23"), ("12", "3"), ("12", "23"), (None, "3"), ("1", "3")]
    features = []
    for number in range(300):
        a, b = luck.choice(pairs)
        minute, lag = luck.randrange(60), luck.choice([None, -2, -1, 0, 1, 2, 5, 20])
        created = None if lag is None else at(minute + lag)
        row = {"a": a, "b": b, "event": at(minute), "created": created}
        features.append({**row, "value": number, "text": None})
    entities = []
    for _ in range(150):
        a, b = luck.choice(pairs)
        entities.append({"a": a, "b": b, "time": at(luck.randrange(-2, 160) / 2)})
    with patch.object(asof_retrieval, "_FEW_ROWS", 100_000 if few else -1):
        for ttl in (None, 4 * MINUTE):
            check_against_oracle(tmp_path, features, entities, keys=keys, ttl=ttl, mode=mode)


def test_more_rows_than_one_batch_come_back_in_order_and_equal_to_the_oracle(
    tmp_path: Path,
) -> None:
    features = [
        {
            "a": "x",
            "b": str(n % 7),
            "event": at(n // 7),
            "created": at(n // 7 + n % 5),
            "value": n,
            "text": None,
        }
        for n in range(700)
    ]
    pq.write_table(pa.Table.from_pylist(features, schema=FEATURES), tmp_path / "f.parquet")
    moments = pd.date_range(START, periods=6_000, freq="s")[::-1]
    frame = pd.DataFrame({"b": [str(n % 7) for n in range(6_000)], "event_timestamp": moments})

    found = answers(view_of(tmp_path / "f.parquet", ["b"], 4 * MINUTE, True), frame, True)

    for row in found[::37]:
        entity = {"b": row["b"], "time": row["event_timestamp"]}
        (answer,) = possible_answers(entity, features, ["b"], 4 * MINUTE, True)
        assert row["value"] == (None if answer is None else answer["value"])
    assert [row["event_timestamp"] for row in found] == list(moments)


# --- Feast's own store on the same definition ------------------------------------------------


def feast_answers(view: FeatureView, frame: pd.DataFrame, known: bool) -> list[Row]:
    config = SimpleNamespace(
        repo_path=".",
        offline_store=SimpleNamespace(staging_location=None, staging_location_endpoint_override=""),
    )
    job = feast_duckdb.DuckDBOfflineStore.get_historical_features(
        config,
        [view],
        ["facts:value", "facts:text"],
        frame.copy(),
        NoOnDemandViews(),
        "p",
        filter_by_created_timestamp=known,
    )
    return job.to_arrow().to_pylist()


def one_view(tmp_path: Path, rows: list[tuple[Any, ...]], **view: Any) -> FeatureView:
    names = FEATURES.names
    table = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], schema=FEATURES
    )
    pq.write_table(table, tmp_path / "one.parquet")
    return view_of(tmp_path / "one.parquet", **{"keys": ["b"], "ttl": None, "created": True} | view)


def test_on_clean_data_feasts_own_store_gives_the_same_answer_of_the_same_types(
    tmp_path: Path,
) -> None:
    rows = [("x", str(n % 3), at(n), at(n + n % 4), n, f"row {n}") for n in range(30)]
    view = one_view(tmp_path, rows, ttl=5 * MINUTE)
    frame = pd.DataFrame(
        {
            "b": ["0", "1", "2", "9", "1"],
            "event_timestamp": [at(20), at(7.5), at(400), at(3), at(12)],
        }
    )
    for known in (True, False):
        theirs = sorted(map(str, feast_answers(view, frame, known)))
        assert sorted(map(str, answers(view, frame, known))) == theirs


FEAST_DIFFERS = pytest.mark.xfail(strict=True, reason="Feast 0.67 differs from the definition")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(answers, id="ours"),
        pytest.param(feast_answers, id="feast", marks=FEAST_DIFFERS),
    ],
)
class TestWhereFeastsOwnStoreDiffers:
    def test_a_row_without_created_time_counts_as_created_at_its_event(
        self, tmp_path: Path, ask: Callable[..., list[Row]]
    ) -> None:
        view = one_view(tmp_path, [("x", "1", at(0), None, 7, None)])
        frame = pd.DataFrame({"b": ["1"], "event_timestamp": [at(1)]})
        assert [row["value"] for row in ask(view, frame, True)] == [7]

    def test_a_join_key_map_of_one_of_two_keys_still_joins_by_both(
        self, tmp_path: Path, ask: Callable[..., list[Row]]
    ) -> None:
        rows = [("x", "1", at(0), at(0), 7, None), ("y", "1", at(1), at(1), 8, None)]
        view = one_view(tmp_path, rows, keys=["a", "b"]).with_join_key_map({"b": "other"})
        frame = pd.DataFrame({"a": ["x"], "other": ["1"], "event_timestamp": [at(2)]})
        assert [row["value"] for row in ask(view, frame, True)] == [7]


# --- through a FeatureStore ------------------------------------------------------------------

DRIVER = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)


def trips(*rows: tuple[Any, ...]) -> pa.Table:
    """Rows of (driver, event, created, trips, rating)."""
    names = ["driver", "event", "created", "trips", "rating"]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    schema = pa.schema(
        [
            ("driver", pa.int64()),
            ("event", pa.timestamp("us", "UTC")),
            ("created", pa.timestamp("us", "UTC")),
            ("trips", pa.int64()),
            ("rating", pa.float64()),
        ]
    )
    return pa.table([pa.array(column) for column in columns], names=names).cast(schema)


HISTORY = trips(
    (1, day(1), day(1), 10, 4.5),
    (1, day(2), day(2), 11, 4.6),
    (2, day(1), day(1), 20, 3.5),
    (2, day(2), day(5), 21, 3.6),  # known three days late
)


def source(path: Path | str, **more: Any) -> FileSource:
    times = {"timestamp_field": "event", "created_timestamp_column": "created"}
    return FileSource(path=str(path), file_format=ParquetFormat(), **(times | more))


def view(path: Path | str, *, name: str = "stats", **more: Any) -> FeatureView:
    schema = [
        Field(name="driver", dtype=Int64),
        Field(name="trips", dtype=Int64),
        Field(name="rating", dtype=Float64),
    ]
    if "source" not in more:
        more["source"] = source(path)
    return FeatureView(
        name=name, **({"entities": [DRIVER], "schema": schema, "ttl": timedelta(days=30)} | more)
    )


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.parquet"
    pq.write_table(HISTORY, path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def make_store(folder: Path, **offline: Any) -> FeatureStore:
    settings = {"type": STORE, **offline}
    lines = [f"  {key}: {value}" for key, value in settings.items()]
    text = "\n".join(
        [
            "project: demo",
            "provider: local",
            "registry: registry.db",
            "entity_key_serialization_version: 3",
            "online_store: {type: sqlite, path: online.db}",
            "offline_store:",
            *lines,
        ]
    )
    (folder / "feature_store.yaml").write_text(text)
    return FeatureStore(repo_path=str(folder))


def ask(drivers: Sequence[Any], moments: Sequence[Any], **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"driver": drivers, "event_timestamp": moments, **more})


def test_a_row_sees_only_what_was_known_at_its_time(store: FeatureStore, history: Path) -> None:
    store.apply([DRIVER, view(history)])
    frame = ask([2, 2, 2], [day(1, 1), day(4), day(5)])
    answer = store.get_historical_features(frame, ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [20, 20, 21]


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
    answer = store.get_historical_features(ask([2], [day(4)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [20]


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
    pq.write_table(HISTORY.rename_columns(["d", "e", "c", "t", "r"]), tmp_path / "raw.parquet")
    names = {"d": "driver", "t": "trips", "r": "rating"}
    times = {"timestamp_field": "e", "created_timestamp_column": "c"}
    if mapped_times:
        names |= {"e": "event", "c": "created"}
        times = {"timestamp_field": "event", "created_timestamp_column": "created"}
    mapped = source(tmp_path / "raw.parquet", field_mapping=names, **times)
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


def test_pushed_rows_are_appended_to_a_file(store: FeatureStore, history: Path) -> None:
    pushed = PushSource(name="push", batch_source=source(history))
    store.apply([DRIVER, view("", source=pushed)])
    store.push("push", trips((3, day(4), day(4), 30, 5.0)).to_pandas(), to=PushMode.OFFLINE)
    answer = store.get_historical_features(ask([1, 3], [day(6)] * 2), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [11, 30]
    assert sorted(path.name for path in history.parent.glob("*hist*")) == [history.name]


def daily_folder(folder: Path, rows: pa.Table = HISTORY) -> Path:
    folder.mkdir()
    days = rows["event"].cast(pa.date32())
    for moment in sorted(set(days.to_pylist())):
        part = rows.filter(pa.compute.equal(days, pa.scalar(moment)))
        pq.write_table(part, folder / f"{moment}.parquet")
    return folder


def test_written_rows_become_new_files_of_their_days_beside_the_old_ones(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.apply([DRIVER, view(folder)])
    new = trips((1, day(3), day(3), 12, 1.0), (1, day(4, 23), day(4, 23), 13, 1.0))
    store.write_to_offline_store("stats", new.to_pandas())
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:10] for name in names] == ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
    assert {name: (folder / name).read_bytes() for name in old} == old
    answer = store.get_historical_features(ask([1] * 2, [day(4), day(6)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [12, 13]


def test_rows_that_do_not_fit_are_refused_and_nothing_changes(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(folder)])
    words = trips((1, day(3), day(3), 12, 1.0)).to_pandas().assign(trips="many")
    dateless = trips((1, None, day(3), 12, 1.0)).to_pandas()
    for frame in (words, dateless):
        with pytest.raises(ContractError):
            store.write_to_offline_store("stats", frame)
    assert len(list(folder.iterdir())) == 2


def test_only_files_that_can_matter_are_read(tmp_path: Path) -> None:
    rows = trips(*((1, day(n), day(n), n, 1.0) for n in range(1, 21)))
    folder = daily_folder(tmp_path / "daily", rows)
    window = asof_source.Window(
        asof_source.microseconds(day(5)), asof_source.microseconds(day(7, 12))
    )
    files = asof_source._files_that_matter(str(folder), {"event"}, window)
    # The newest file is always there: it tells the columns.
    assert [file.stem for file in files] == [
        "2024-05-05",
        "2024-05-06",
        "2024-05-07",
        "2024-05-20",
    ]


@pytest.mark.parametrize("path", ["daily", "daily/*.parquet", "daily/2024-05-0?.parquet"])
def test_a_relative_folder_or_glob_is_found_from_the_repository(
    store: FeatureStore, tmp_path: Path, path: str
) -> None:
    daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(path)])
    answer = store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [11]


def test_a_row_in_the_file_of_another_day_is_still_found(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily", trips(*((1, day(n), day(n), n, 1.0) for n in (1, 9))))
    stray = trips((1, day(6), day(6), 66, 1.0))
    pq.write_table(stray, folder / "2024-05-02.parquet")
    store.apply([DRIVER, view(folder, ttl=timedelta(days=1))])
    answer = store.get_historical_features(ask([1], [day(6, 1)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [66]


def test_a_rewritten_file_is_seen_at_once(store: FeatureStore, tmp_path: Path) -> None:
    folder = daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(folder, ttl=timedelta(days=2))])
    before = store.get_historical_features(ask([1], [day(9)]), ["stats:trips"]).to_df()
    pq.write_table(trips((1, day(8), day(8), 80, 1.0)), folder / "2024-05-01.parquet")
    after = store.get_historical_features(ask([1], [day(9)]), ["stats:trips"]).to_df()
    assert before["trips"].isna().all()
    assert after["trips"].tolist() == [80]


def test_a_feature_that_older_files_lack_is_null_there(store: FeatureStore, tmp_path: Path) -> None:
    folder = daily_folder(tmp_path / "daily")
    first = folder / "2024-05-01.parquet"
    pq.write_table(pq.read_table(first).drop_columns(["rating"]), first)
    store.apply([DRIVER, view(folder)])
    answer = store.get_historical_features(
        ask([1, 1], [day(1, 1), day(3)]), ["stats:trips", "stats:rating"]
    ).to_df()
    assert answer["trips"].tolist() == [10, 11]
    assert answer["rating"].isna().tolist() == [True, False]


def test_a_delta_source_is_read_by_feasts_own_reader(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def reader(data_source: FileSource, repo_path: str) -> Any:
        asked.append(data_source.path)
        return ibis.memtable(HISTORY)

    monkeypatch.setattr(feast_duckdb, "_read_data_source", reader)
    delta = FileSource(
        path="table",
        file_format=DeltaFormat(),
        timestamp_field="event",
        created_timestamp_column="created",
    )
    store.apply([DRIVER, view("", source=delta)])
    answer = store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [11]
    assert set(asked) == {str(tmp_path / "table")}


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


def test_a_frame_of_no_rows_gives_no_rows_of_the_same_columns(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    for frame in (ask([], []), ask([1], [day(3)]).iloc[:0]):
        answer = store.get_historical_features(frame, ["stats:trips"]).to_arrow()
        assert answer.num_rows == 0
        assert answer.schema.field("trips").type == pa.int64()
        assert answer.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")


# --- odd frames ------------------------------------------------------------------------------


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


# --- odd sources -----------------------------------------------------------------------------


def test_a_missing_source_is_named(store: FeatureStore, tmp_path: Path) -> None:
    store.apply([DRIVER, view(tmp_path / "nowhere.parquet")])
    with pytest.raises(SourceError, match=r"nowhere\.parquet does not exist"):
        store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()
    (tmp_path / "nowhere.parquet").mkdir()
    with pytest.raises(SourceError, match="holds no Parquet file"):
        store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()


@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_truncated_source_is_named(
    store: FeatureStore, tmp_path: Path, history: Path, layout: str
) -> None:
    broken = history if layout == "file" else daily_folder(tmp_path / "d") / "2024-05-01.parquet"
    broken.write_bytes(broken.read_bytes()[:300])
    store.apply([DRIVER, view(history if layout == "file" else broken.parent)])
    with pytest.raises(SourceError, match=broken.name):
        store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()


def test_a_source_without_the_column_is_named_with_the_nearest(
    store: FeatureStore, tmp_path: Path, history: Path
) -> None:
    pq.write_table(HISTORY.rename_columns([*HISTORY.column_names[:-1], "ratings"]), history)
    store.apply([DRIVER, view(history)])
    with pytest.raises(SourceError, match="no column 'rating'") as caught:
        store.get_historical_features(ask([1], [day(3)]), ["stats:rating"]).to_df()
    assert "did you mean ratings" in str(caught.value)


def test_a_failed_write_leaves_the_file_as_it_was(
    store: FeatureStore, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = history.read_bytes()

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    store.apply([DRIVER, view(history)])
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", fails)
    with pytest.raises(SourceError, match="disk full"):
        store.write_to_offline_store("stats", HISTORY.to_pandas())
    assert history.read_bytes() == before
    assert not list(history.parent.glob(".history*"))


def test_a_limit_of_memory_and_threads_is_obeyed(tmp_path: Path, history: Path) -> None:
    store = make_store(tmp_path, memory_limit="300MB", threads=1)
    store.apply([DRIVER, view(history)])
    assert isinstance(store.config.offline_store, AsofDuckDBOfflineStoreConfig)
    answer = store.get_historical_features(ask([1], [day(3)]), ["stats:trips"]).to_df()
    assert answer["trips"].tolist() == [11]
