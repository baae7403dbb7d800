"""The online store as Feast calls it, on both backends: newest wins, TTL, keys, push, processes."""

import asyncio
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FeatureView, Field, PushSource
from feast.data_source import PushMode
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.errors import ContractError, DataError, DeclarationError
from mlops_assets.stores import online_keys
from mlops_assets.stores.online_store import NewestOnlineStore, NewestOnlineStoreConfig
from mlops_assets_tests.stores.asof_world import source
from mlops_assets_tests.stores.online_world import (
    DEST,
    EXPIRED,
    HOUR,
    NOT_FOUND,
    NOW,
    ORIGIN,
    PRESENT,
    REFS,
    ago,
    answers,
    delays_store,
    feast_row,
    frame,
    key,
    make_config,
    make_store,
    means,
    redis_keys,
    serialized,
    view,
    write,
)

# Newest wins

moments = st.integers(0, 4).map(ago)
writes = st.tuples(st.sampled_from("abc"), moments, st.none() | moments, st.floats(0, 9))


@given(batches=st.lists(st.lists(writes, max_size=6), max_size=6))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_sequence_of_writes_ends_with_the_newest_row_per_key(plain: Any, batches: Any) -> None:
    store, config, one = plain
    store.teardown(config, [one], [])
    truth: dict[str, Any] = {}
    for batch in batches:
        store.online_write_batch(config, one, [feast_row(*row) for row in batch], None)
        for origin, event, created, mean in batch:
            rank = (event, created or event)
            if origin not in truth or rank >= truth[origin][0]:
                truth[origin] = (rank, mean)
    expected = [truth[name][1] if name in truth else None for name in "abc"]
    assert means(plain, *"abc") == expected


def test_a_late_row_does_not_overwrite_and_a_repeat_changes_nothing(plain: Any) -> None:
    store, config, one = plain
    newest = feast_row("EWR", ago(1), ago(1), 1.0)
    for row in (newest, feast_row("EWR", ago(2), NOW, 2.0), newest):
        store.online_write_batch(config, one, [row], None)
    assert means(plain, "EWR") == [1.0]


def test_of_equal_event_times_the_later_created_stays(plain: Any) -> None:
    store, config, one = plain
    rows = [feast_row("EWR", ago(5), created, mean) for created, mean in ((NOW, 1.0), (ago(1), 2))]
    for row in rows:
        store.online_write_batch(config, one, [row], None)
    assert means(plain, "EWR") == [1.0]


def test_times_before_1970_and_far_ahead_are_ordered_too(plain: Any) -> None:
    store, config, one = plain
    first, last = NOW.replace(year=1), NOW.replace(year=9999)
    for event, mean in (
        (NOW.replace(year=1969), 1.0),
        (first, 2.0),
        (last, 3.0),
        (NOW, 4.0),
        (first, 5.0),
    ):
        store.online_write_batch(config, one, [feast_row("EWR", event, None, mean)], None)
    assert means(plain, "EWR") == [3.0]
    assert store.online_read(config, one, [key(origin="EWR")])[0][0] == last


def test_a_row_without_event_time_or_key_is_refused(plain: Any) -> None:
    store, config, one = plain
    with pytest.raises(ContractError, match="no event time"):
        store.online_write_batch(config, one, [feast_row("EWR", pd.NaT, None, 1.0)], None)
    nobody = EntityKey(join_keys=["origin"], entity_values=[Value()])
    with pytest.raises(ContractError, match="join keys"):
        store.online_write_batch(config, one, [(nobody, {}, NOW, None)], None)


# Keys

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
parts = st.one_of(
    texts.map(lambda text: Value(string_val=text)),
    st.binary(max_size=5).map(lambda raw: Value(bytes_val=raw)),
    st.integers(-(2**31), 2**31 - 1).map(lambda number: Value(int32_val=number)),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: Value(int64_val=number)),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: Value(unix_timestamp_val=number)),
)


@given(st.dictionaries(texts, parts, max_size=3))
def test_packed_keys_are_feasts_own(values: dict[str, Value]) -> None:
    entity_key = EntityKey(join_keys=list(values), entity_values=list(values.values()))
    assert online_keys.of_protos(values) == serialized(entity_key)


def test_keys_that_collide_when_glued_stay_apart_and_their_order_does_not_matter(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    keys = ("origin", "dest")
    store = make_store(tmp_path, online)
    write(tmp_path / "d.parquet", keys=keys)
    store.apply([ORIGIN, DEST, view(tmp_path / "d.parquet", entities=[ORIGIN, DEST])])
    rows = [("1", "23"), ("12", "3"), ("", "123"), ("ü", "☃"), ("a:b", "c")]
    data = frame(*[(*row, NOW, NOW, float(i), i) for i, row in enumerate(rows)], keys=keys)
    store.write_to_online_store("delays", data)
    asked = [{"dest": dest, "origin": origin} for origin, dest in [*rows, ("123", ""), ("Ü", "☃")]]
    values, _ = answers(store, REFS, asked)
    assert values["flights"] == [0, 1, 2, 3, 4, None, None]


def test_a_missing_join_key_is_named_and_a_null_one_is_not_found(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    store = make_store(tmp_path, online)
    both = view(tmp_path / "d.parquet", entities=[ORIGIN, DEST])
    write(tmp_path / "d.parquet", keys=("origin", "dest"))
    store.apply([ORIGIN, DEST, both])
    with pytest.raises(ContractError, match="lack the join key dest"):
        store.get_online_features(REFS, [{"origin": "EWR"}])
    _, statuses = answers(store, REFS, [{"origin": "EWR", "dest": None}])
    assert statuses["mean"] == [NOT_FOUND]


def test_tables_of_unlike_names_stay_apart(tmp_path: Path, online: dict[str, Any]) -> None:
    store, config = NewestOnlineStore(), make_config(tmp_path, online)
    names = ["delays", "Delays", "de:lays", 'de"lays', "de*ays", "%64elays"]
    views = [view(tmp_path / "none", name=name, ttl=timedelta(0)) for name in names]
    for mean, one in enumerate(views):
        store.online_write_batch(config, one, [feast_row("EWR", NOW, None, mean)], None)
    store.update(config, [views[4]], [], [], [], True)
    found = [means((store, config, one), "EWR")[0] for one in views]
    assert found == [0.0, 1.0, 2.0, 3.0, None, 5.0]


# TTL and statuses


@pytest.mark.parametrize(
    ("ttl", "age", "status"),
    [
        (24 * HOUR, 24 * HOUR, PRESENT),
        (24 * HOUR, 24 * HOUR + timedelta(microseconds=1), EXPIRED),
        (24 * HOUR, -HOUR, PRESENT),
        (timedelta(0), 10_000 * HOUR, PRESENT),
        (None, 10_000 * HOUR, PRESENT),
    ],
)
def test_a_value_older_than_its_ttl_is_null_and_says_so(
    tmp_path: Path, online: dict[str, Any], ttl: Any, age: timedelta, status: int
) -> None:
    store = make_store(tmp_path, online)
    write(tmp_path / "d.parquet")
    one = view(tmp_path / "d.parquet", ttl=ttl)
    store.apply([ORIGIN, one])
    store.write_to_online_store("delays", frame(("EWR", NOW - age, NOW, 1.5, 3)))
    response = store.get_online_features(REFS, [{"origin": "EWR"}, {"origin": "JFK"}])
    values, statuses = answers(store, REFS, [{"origin": "EWR"}, {"origin": "JFK"}])
    assert values["mean"] == [1.5 if status == PRESENT else None, None]
    assert statuses["mean"] == statuses["flights"] == [status, NOT_FOUND]
    stamp = response.proto.results[1].event_timestamps[0]
    assert stamp.ToMicroseconds() == (NOW - age).timestamp() * 1e6
    raw = store._get_provider().online_read(store.config, one, [key(origin="EWR")])
    assert (raw[0][0], raw[0][1] is None) == (NOW - age, status == EXPIRED)


def test_without_as_of_ages_are_reckoned_against_the_clock(
    tmp_path: Path, online: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = delays_store(tmp_path, online | {"as_of": None})
    store.write_to_online_store("delays", frame(("EWR", ago(23), NOW, 1.5, 3)))
    found = []
    for moment in (NOW, NOW + 2 * HOUR):
        monkeypatch.setattr(time, "time_ns", lambda at=moment: int(at.timestamp() * 1e9))
        found.append(answers(store, REFS, [{"origin": "EWR"}])[1]["mean"])
    monkeypatch.undo()
    assert found == [[PRESENT], [EXPIRED]]


def test_a_null_value_is_present_and_nan_is_null(tmp_path: Path, online: dict[str, Any]) -> None:
    store = delays_store(tmp_path, online)
    data = frame(("EWR", NOW, NOW, None, 3), ("JFK", NOW, NOW, float("nan"), 4))
    store.write_to_online_store("delays", data)
    values, statuses = answers(store, REFS, [{"origin": "EWR"}, {"origin": "JFK"}])
    assert values["mean"] == [None, None]
    assert statuses["mean"] == [PRESENT, PRESENT]


# What Feast offers, as Feast does it


def test_same_names_full_names_aliases_and_key_maps_give_feasts_own_answer(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    found = []
    for kind in ({"type": "sqlite", "path": str(tmp_path / "feast.db")}, online):
        store = make_store(tmp_path, kind)
        write(tmp_path / "d.parquet")
        delays, weather = (view(tmp_path / "d.parquet", name=name) for name in ("delays", "wind"))
        there = delays.with_name("there").with_join_key_map({"origin": "dest"})
        service = FeatureService(name="all", features=[weather[["mean"]], there])
        store.apply([ORIGIN, DEST, delays, weather, service])
        store.write_to_online_store(
            "delays", frame(("EWR", NOW, NOW, 1, 1), ("LAX", NOW, NOW, 2, 2))
        )
        store.write_to_online_store("wind", frame(("EWR", NOW, NOW, 7.5, 9)))
        rows = [{"origin": o, "dest": d} for o, d in (("EWR", "LAX"), ("LAX", "?"), ("EWR", "EWR"))]
        found.append(answers(store, service, rows, full_feature_names=True))
        short = store.get_online_features(["wind:mean", "delays:flights"], rows).to_dict()
        found.append(short)
    assert found[0] == found[2]
    assert found[1] == found[3]


def test_the_async_way_gives_the_same_answer(tmp_path: Path, online: dict[str, Any]) -> None:
    store = make_store(tmp_path, online)
    push = PushSource(name="stream", batch_source=source(write(tmp_path / "d.parquet")))
    store.apply([ORIGIN, view("", source=push)])
    rows = [{"origin": "EWR"}, {"origin": "JFK"}]

    async def run() -> Any:
        await store.push_async("stream", frame(("EWR", NOW, NOW, 1.5, 3)))
        return await store.get_online_features_async(REFS, rows)

    response = asyncio.run(run())
    assert response.to_dict() == store.get_online_features(REFS, rows).to_dict()
    assert response.to_dict()["mean"] == [1.5, None]


def test_push_reaches_the_online_and_the_offline_store(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    store = make_store(tmp_path, online)
    path = write(tmp_path / "d.parquet", ("EWR", ago(9), ago(9), 0.0, 0))
    push = PushSource(name="stream", batch_source=source(path))
    store.apply([ORIGIN, view("", source=push)])
    modes = (PushMode.ONLINE, PushMode.OFFLINE, PushMode.ONLINE_AND_OFFLINE)
    for hours, mode in zip((3, 2, 1), modes, strict=True):
        store.push("stream", frame(("EWR", ago(hours), NOW, float(hours), hours)), to=mode)
        found = answers(store, REFS, [{"origin": "EWR"}])[0]["flights"]
        assert found == [1 if hours == 1 else 3]
    assert sorted(pq.read_table(path)["flights"].to_pylist()) == [0, 1, 2]


def test_a_row_of_an_older_schema_stays_readable(tmp_path: Path, online: dict[str, Any]) -> None:
    store = delays_store(tmp_path, online)
    store.write_to_online_store("delays", frame(("EWR", ago(2), NOW, 1.5, 3)))
    fields = {"origin": String, "flights": Int64, "gusts": Float64}
    schema = [Field(name=name, dtype=dtype) for name, dtype in fields.items()]
    store.apply([view(tmp_path / "d.parquet", schema=schema)])
    newer = frame(("JFK", ago(1), NOW, 2.5, 4)).rename(columns={"mean": "gusts"})
    store.write_to_online_store("delays", newer)
    other = make_store(tmp_path, online)  # another process knows no layout yet
    other.apply([ORIGIN, view(tmp_path / "d.parquet", schema=schema)])
    rows = [{"origin": "EWR"}, {"origin": "JFK"}]
    values, statuses = answers(other, ["delays:gusts", "delays:flights"], rows)
    assert (values["flights"], values["gusts"]) == ([3, 4], [None, 2.5])
    assert statuses["gusts"] == [NOT_FOUND, PRESENT]


def test_a_view_read_before_anybody_wrote_or_applied_it_has_no_rows(plain: Any) -> None:
    store, config, one = plain
    assert store.online_read(config, one, [key(origin="EWR")]) == [(None, None)]
    assert store.online_read(config, one, []) == []


def test_deleted_views_and_teardown_leave_no_rows(tmp_path: Path, online: dict[str, Any]) -> None:
    store = make_store(tmp_path, online)
    gone, kept = (view(write(tmp_path / "d.parquet"), name=name) for name in ("gone", "kept"))
    store.apply([ORIGIN, gone, kept])
    for name in ("gone", "kept"):
        store.write_to_online_store(name, frame(("EWR", NOW, NOW, 1.5, 3)))
    store.apply([ORIGIN, kept], objects_to_delete=[gone], partial=False)
    plugin = (store._get_provider().online_store, store.config)
    assert [means((*plugin, one), "EWR")[0] for one in (gone, kept)] == [None, 1.5]
    store.teardown()
    assert means((*plugin, kept), "EWR") == [None]
    if "key_prefix" in online:
        assert redis_keys(online) == []


def test_more_keys_than_one_query_takes_are_read_in_parts(plain: Any) -> None:
    store, config, one = plain
    rows = [feast_row(f"k{i}", NOW, None, i) for i in range(12_000)]
    store.online_write_batch(config, one, rows, None)
    assert means(plain, *(f"k{i}" for i in range(12_001))) == [*range(12_000), None]


# What can be wrong


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "online.db").write_bytes(b"not a database" * 1000)
    config = make_config(tmp_path, {"path": str(tmp_path / "online.db")})
    with pytest.raises(DataError, match=r"online\.db cannot be used"):
        NewestOnlineStore().online_read(config, view("none"), [key(origin="EWR")])


def test_a_held_lock_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_assets.stores.online_sqlite.WAIT_SECONDS", 0.05)
    store, config = NewestOnlineStore(), make_config(tmp_path, {"path": "online.db"})
    config.repo_path = tmp_path
    store.online_write_batch(config, view("none"), [feast_row("EWR", NOW, None, 1.0)], None)
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="locked"):
        store.online_write_batch(config, view("none"), [feast_row("EWR", NOW, None, 1.0)], None)
    other.close()


def test_an_unreachable_redis_and_an_unreadable_address_are_named(tmp_path: Path) -> None:
    config = make_config(tmp_path, {"connection_string": "127.0.0.1:1,socket_timeout=1"})
    with pytest.raises(DataError, match="Redis cannot be used"):
        NewestOnlineStore().online_read(config, view("none"), [key(origin="EWR")])
    secret = make_config(tmp_path, {"connection_string": "host,password=hunter2"})
    with pytest.raises(DeclarationError) as caught:
        NewestOnlineStore().backend(secret)
    assert "hunter2" not in str(caught.value) + repr(secret.online_store)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="conection_string"):
        NewestOnlineStoreConfig(conection_string="redis://127.0.0.1")


def test_a_view_of_no_entity_has_one_row(tmp_path: Path, online: dict[str, Any]) -> None:
    store = make_store(tmp_path, online)
    path = write(tmp_path / "d.parquet")
    schema = [Field(name="mean", dtype=Float64), Field(name="flights", dtype=Int64)]
    store.apply([ORIGIN, FeatureView(name="delays", schema=schema, source=source(path))])
    store.write_to_online_store("delays", frame(("", NOW, NOW, 1.5, 3)))
    assert answers(store, REFS, [{"x": 1}, {"x": 2}])[0]["flights"] == [3, 3]
