"""Loading the online store from the lake: the same rows as Feast loads, in batches, repeatable."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import BatchFeatureView, FeatureView, Field
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    String,
    UnixTimestamp,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.errors import ContractError, DeclarationError, UnknownNameError
from mlops_assets.stores import online_materialize
from mlops_assets.stores.online_materialize import Materialized, materialize
from mlops_assets.stores.online_reader import OnlineReader
from mlops_assets_tests.stores.asof_world import source
from mlops_assets_tests.stores.online_world import (
    DEST,
    NOW,
    ORIGIN,
    REFS,
    ago,
    answers,
    delays_store,
    frame,
    make_store,
    table,
    view,
    write,
)


@pytest.fixture
def sqlite(tmp_path: Path) -> dict[str, Any]:
    return {"path": str(tmp_path / "online.db")}


LONG_AGO = ago(100)


def load(store: Any, start: datetime = LONG_AGO, end: datetime = NOW, **more: Any) -> Materialized:
    return materialize(store, "delays", start, end, **more)


def flights(store: Any, *origins: str) -> list[int | None]:
    return answers(store, REFS, [{"origin": name} for name in origins])[0]["flights"]


def test_the_newest_row_of_each_key_in_the_window_is_loaded(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    store = make_store(tmp_path, online)
    folder = tmp_path / "delays"
    folder.mkdir()
    write(folder / "1.parquet", ("EWR", ago(9), ago(9), 1.0, 1), ("EWR", ago(5), NOW, 1.0, 2))
    # A later file with an older row, one of equal time known earlier, and one without created time.
    write(folder / "2.parquet", ("EWR", ago(7), NOW, 1.0, 3), ("EWR", ago(5), ago(4), 1.0, 4))
    write(folder / "3.parquet", ("JFK", ago(3), ago(2), 1.0, 5), ("JFK", ago(3), None, 1.0, 6))
    write(folder / "4.parquet", (None, ago(1), NOW, 1.0, 7), ("LGA", ago(0), NOW, 1.0, 8))
    store.apply([ORIGIN, view(folder)])
    assert load(store, ago(9), ago(1)).keys == 2
    assert flights(store, "EWR", "JFK", "LGA") == [2, 5, None]
    done = load(store, ago(9), ago(0))
    assert (done.source_rows, done.keys) == (7, 3)
    assert flights(store, "EWR", "JFK", "LGA") == [2, 5, 8]


rows = st.tuples(
    st.sampled_from(["a", "b", "ü", ""]),
    st.integers(0, 5).map(ago),
    st.none() | st.integers(0, 5).map(ago),
    st.none() | st.floats(allow_infinity=True),
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
unique_rows = st.lists(rows, max_size=12, unique_by=lambda row: (row[0], row[1], row[2] or row[1]))
steps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4)


@given(data=unique_rows, windows=steps, pushed=st.lists(rows, max_size=3), passes=st.integers(1, 3))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_windows_in_any_order_and_pushes_between_end_with_the_newest(
    tmp_path: Path, online: dict[str, Any], data: Any, windows: Any, pushed: Any, passes: int
) -> None:
    store = delays_store(tmp_path, online, *data)
    store._get_provider().online_store.teardown(
        store.config, [store.get_feature_view("delays")], []
    )
    truth: dict[str, Any] = {}

    def happen(origin: str, event: datetime, created: datetime | None, mean: Any, n: Any) -> None:
        rank = (event, created or event)
        if origin not in truth or rank >= truth[origin][0]:
            truth[origin] = (rank, None if mean != mean else mean, n)

    for step, (start, end) in enumerate(windows):
        first, last = ago(max(start, end)), ago(min(start, end))
        load(store, first, last, rows_per_pass=-(-len(data) // passes) or 1)
        for row in sorted(data, key=lambda row: (row[1], row[2] or row[1])):
            if first <= row[1] <= last:
                happen(*row)
        for row in pushed[step : step + 1]:
            if row[3] == row[3] and (row[3], row[4]) != (None, None):
                online_frame = frame(row)
                store.write_to_online_store("delays", online_frame.astype({"flights": "Int64"}))
                happen(*row)
    names = ["a", "b", "ü", ""]
    values, _ = answers(store, REFS, [{"origin": name} for name in names])
    expected = [truth.get(name, (None, None, None)) for name in names]
    assert values["mean"] == [one[1] for one in expected]
    assert values["flights"] == [one[2] for one in expected]


def test_every_type_is_loaded_as_feast_loads_it(tmp_path: Path, online: dict[str, Any]) -> None:
    zoned = pa.timestamp("us", "UTC")
    columns: dict[str, Any] = {
        "i32": (Int32, pa.int32(), [2**31 - 1, -(2**31)]),
        "narrow": (Int64, pa.int16(), [7, -7]),
        "wide": (Int64, pa.int64(), [2**53 + 1, -(2**63)]),
        "as_float": (Int64, pa.float64(), [3.0, None]),
        "f32": (Float32, pa.float32(), [0.1, float("inf")]),
        "cut": (Float32, pa.float64(), [0.1, None]),
        "whole": (Float64, pa.int64(), [5, 6]),
        "nan": (Float64, pa.float64(), [float("nan"), -0.0]),
        "flag": (Bool, pa.bool_(), [True, None]),
        "text": (String, pa.string(), ["ü☃ \x00", None]),
        "empty": (String, pa.string(), ["", "a"]),
        "raw": (Bytes, pa.binary(), [b"\x00\xff", None]),
        "time": (UnixTimestamp, zoned, [NOW, ago(1.5)]),
        "list": (Array(Float64), pa.list_(pa.float64()), [[1.0, 2.5], []]),
        "words": (Array(String), pa.list_(pa.string()), [["a"], None]),
        "map": (Map, pa.struct([("x", pa.int64())]), [{"x": 1}, None]),
        "void": (Float64, pa.float64(), [None, None]),
    }
    data = table(("EWR", ago(2), NOW, 1.0, 1), ("JFK", ago(1), NOW, 1.0, 1))
    for name, (_, arrow, values) in columns.items():
        data = data.append_column(name, pa.array(values, arrow))
    pq.write_table(data, tmp_path / "d.parquet")
    fields = [Field(name=name, dtype=dtype) for name, (dtype, _, _) in columns.items()]
    schema = [Field(name="origin", dtype=String), *fields]
    asked = [f"delays:{name}" for name in columns]
    found = []
    for kind in ({"type": "sqlite", "path": str(tmp_path / "feast.db")}, online):
        store = make_store(tmp_path, kind)
        store.apply([ORIGIN, view(tmp_path / "d.parquet", schema=schema)])
        if kind is online:
            load(store)
        else:
            store.materialize(ago(100), NOW)
        found.append(answers(store, asked, [{"origin": "EWR"}, {"origin": "JFK"}]))
    assert found[0] == found[1]
    read = OnlineReader(store, asked).read([{"origin": "EWR"}, {"origin": "JFK"}])
    columns = map(list, zip(*read.values, strict=True))
    assert dict(zip(columns_of(asked), columns, strict=True)) == {
        name: found[0][0][name] for name in columns_of(asked)
    }


def columns_of(refs: list[str]) -> list[str]:
    return [ref.split(":")[1] for ref in refs]


def test_a_pushed_row_is_packed_as_the_materialized_one_and_a_repeat_writes_nothing(
    tmp_path: Path, sqlite: dict[str, Any]
) -> None:
    data = [("EWR", ago(2), NOW, 1.5, 3), ("JFK", ago(1), NOW, None, 4)]
    store = delays_store(tmp_path, sqlite, *data)
    load(store)

    def files() -> list[bytes]:
        return [(tmp_path / name).read_bytes() for name in ("online.db", "online.db-wal")]

    before = files()
    load(store)
    store.write_to_online_store("delays", frame(*data))
    assert files() == before


def test_a_run_that_was_cut_short_is_completed_by_the_next(
    tmp_path: Path, online: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online_materialize, "ROWS_PER_BATCH", 2048)
    data = [(f"k{i}", ago(2), NOW, 1.0, i) for i in range(5_000)]
    store = delays_store(tmp_path, online, *data)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(store, progress=stop)
    origins = [row[0] for row in data]
    partly = flights(store, *origins)
    assert 0 < partly.count(None) < 5_000
    assert not store.get_feature_view("delays").materialization_intervals
    load(store)
    assert flights(store, *origins) == list(range(5_000))
    assert store.get_feature_view("delays").materialization_intervals == [(ago(100), NOW)]


def test_composite_keys_field_mappings_and_naive_times(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    keys = ("origin", "dest")
    data = table(("1", "23", ago(1), NOW, 1.0, 1), ("12", "3", ago(2), NOW, 2.0, 2), keys=keys)
    naive = data.set_column(2, "event", data["event"].cast(pa.timestamp("ms")))
    pq.write_table(naive.rename_columns(["o", "d", "e", "c", "m", "n"]), tmp_path / "d.parquet")
    mapped = source(
        tmp_path / "d.parquet",
        timestamp_field="e",
        created_timestamp_column="c",
        field_mapping={"o": "origin", "d": "dest", "m": "mean", "n": "flights"},
    )
    store = make_store(tmp_path, online)
    store.apply([ORIGIN, DEST, view("", source=mapped, entities=[DEST, ORIGIN])])
    load(store)
    asked = [{"origin": o, "dest": d} for o, d in (("1", "23"), ("12", "3"), ("123", ""))]
    assert answers(store, REFS, asked)[0]["flights"] == [1, 2, None]


def test_a_view_without_entities_or_created_time_is_loaded(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    store = make_store(tmp_path, online)
    path = write(tmp_path / "d.parquet", ("", ago(2), NOW, 1.0, 1), ("", ago(1), NOW, 2.0, 2))
    schema = [Field(name="mean", dtype=Float64), Field(name="flights", dtype=Int64)]
    undated = source(path, created_timestamp_column="")
    store.apply([FeatureView(name="delays", schema=schema, source=undated)])
    assert load(store).keys == 1
    assert answers(store, REFS, [{"x": 1}])[0]["flights"] == [2]
    assert load(store, ago(900), ago(800)).keys == 0


# Feast says so on every batch feature view.
@pytest.mark.filterwarnings("ignore:Batch feature views are experimental:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("delais", (ago(1), NOW), "did you mean delays"),
        ("delays", (NOW, ago(1)), "swap the two times"),
        ("offline", (ago(1), NOW), "online=False"),
        ("doubles", (ago(1), NOW), "has feature_transformation"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    tmp_path: Path, sqlite: dict[str, Any], name: str, window: Any, message: str
) -> None:
    store = make_store(tmp_path, sqlite)
    path = write(tmp_path / "d.parquet")

    def double(table: Any) -> Any:
        return table

    doubles = BatchFeatureView(
        name="doubles",
        mode="python",
        entities=[ORIGIN],
        source=source(path),
        online=True,
        schema=[Field(name="origin", dtype=String), Field(name="double", dtype=Int64)],
        udf=double,
        udf_string="def double(table):\n    return table\n",
    )
    store.apply([ORIGIN, view(path), view(path, name="offline", online=False), doubles])
    with pytest.raises((UnknownNameError, DeclarationError), match=message):
        materialize(store, name, *window)


def test_another_online_store_is_refused(tmp_path: Path) -> None:
    store = delays_store(tmp_path, {"type": "sqlite", "path": str(tmp_path / "feast.db")})
    with pytest.raises(DeclarationError, match="SqliteOnlineStore"):
        load(store)


@pytest.mark.parametrize(("dtype", "value"), [(Int32, 2**31), (Int64, 1e30), (Float64, "much")])
def test_a_value_that_does_not_fit_its_type_stops_the_load(
    tmp_path: Path, sqlite: dict[str, Any], dtype: Any, value: Any
) -> None:
    store = make_store(tmp_path, sqlite)
    data = table(("EWR", ago(1), NOW, 1.0, 1)).append_column("odd", pa.array([value]))
    pq.write_table(data, tmp_path / "d.parquet")
    schema = [Field(name="origin", dtype=String), Field(name="odd", dtype=dtype)]
    store.apply([ORIGIN, view(tmp_path / "d.parquet", schema=schema)])
    with pytest.raises(ContractError, match="'odd'"):
        load(store)


def test_feasts_own_materialize_keeps_the_newest_too(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    data = [("EWR", ago(2), NOW, 1.0, 1), ("EWR", ago(1), NOW, 2.0, 2)]
    store = delays_store(tmp_path, online, *data)
    store.materialize(ago(3), NOW)
    store.materialize(ago(3), NOW - timedelta(minutes=90))
    assert flights(store, "EWR") == [2]
