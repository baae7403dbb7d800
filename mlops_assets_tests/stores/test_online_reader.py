"""The online reader: Feast's own answer, without Feast's work per call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureStore, Field, RequestSource
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.transformation.substrait_transformation import SubstraitTransformation
from feast.types import Float64, Int64, String, UnixTimestamp

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.stores.online_materialize import materialize
from mlops_assets.stores.online_reader import OnlineReader, Status
from mlops_assets_tests.stores.online_world import (
    DEST,
    HOUR,
    NOW,
    ORIGIN,
    ago,
    frame,
    make_store,
    settings_for,
    table,
    view,
    write,
)

# Feast says so on every on-demand view.
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental")
ROWS = [
    {"origin": "EWR", "dest": "LAX", "minute": 61, "unasked": object},
    {"origin": "EWR", "dest": "EWR", "minute": 5},
    {"origin": "JFK", "dest": "???", "minute": 0},
    {"origin": "???", "dest": "OLD", "minute": 1439},
]


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield from settings_for(request.param, tmp_path)


@pytest.fixture
def store(tmp_path: Path, online: dict[str, Any]) -> FeatureStore:
    """Views by origin, by origin under the name of dest, by both; views computed at request."""
    store = make_store(tmp_path, online)
    at = ago(1)
    schema = [Field(name="origin", dtype=String), Field(name="gust", dtype=Float64)]
    rows = [("EWR", at, NOW, 1.5, 3), ("JFK", at, NOW, None, 4), ("OLD", ago(99), NOW, 9.0, 9)]
    delays = view(write(tmp_path / "d.parquet", *rows))
    gusts = table(("EWR", at, NOW, 7.5, None)).rename_columns({"mean": "gust"})
    pq.write_table(gusts, tmp_path / "w.parquet")
    wind = view(tmp_path / "w.parquet", name="wind", ttl=HOUR, schema=schema)
    keys = ("origin", "dest")
    pairs = [("EWR", "LAX", at, NOW, 2.5, 1), ("JFK", "LAX", at, NOW, 3.5, 2)]
    route = view(
        write(tmp_path / "r.parquet", *pairs, keys=keys), name="route", entities=[ORIGIN, DEST]
    )
    request = RequestSource(name="asked", schema=[Field(name="minute", dtype=Int64)])
    kinds = {"hour": Float64, "late": String, "seen": Int64}
    hours = [Field(name=name, dtype=dtype) for name, dtype in kinds.items()]
    doubles = [Field(name="double", dtype=Float64), Field(name="seen_too", dtype=Int64)]

    @on_demand_feature_view(sources=[request], schema=hours)
    def clock(frame: pd.DataFrame) -> pd.DataFrame:
        late = frame["minute"].map(lambda minute: "ü" if minute > 60 else "")
        seen = len(frame.columns)
        return pd.DataFrame({"hour": frame["minute"] / 60, "late": late, "seen": seen})

    @on_demand_feature_view(
        sources=[request, delays], schema=[Field(name="sum", dtype=Float64)], mode="python"
    )
    def total(columns: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(columns["minute"], columns["mean"], strict=True)
        return {"sum": [None if mean is None else minute + mean for minute, mean in pairs]}

    @on_demand_feature_view(sources=[delays], schema=doubles)
    def twice(frame: pd.DataFrame) -> pd.DataFrame:
        double = frame["mean"].astype("float64") * 2
        return pd.DataFrame({"double": double, "seen_too": len(frame.columns)})

    there = delays.with_name("there").with_join_key_map({"origin": "dest"})
    services = {
        "stored": [delays],
        "part": [delays[["flights"]]],
        "alias": [there, wind],
        "all": [there, wind, route, clock],
        "computed": [delays, clock, total, twice, wind],
        "only_computed": [twice[["double"]], clock[["late"]]],
    }
    made = [FeatureService(name=name, features=some) for name, some in services.items()]
    store.apply([ORIGIN, DEST, delays, wind, route, clock, total, twice, *made])
    for name in ("delays", "wind", "route"):
        materialize(store, name, ago(200), NOW)
    return store


def same_as_feast(store: FeatureStore, features: Any, full: bool, rows: Any = ROWS) -> None:
    asked = store.get_feature_service(features) if isinstance(features, str) else features
    known = [{k: v for k, v in row.items() if k != "unasked"} for row in rows]
    response = store.get_online_features(asked, known, full_feature_names=full)
    values = response.to_dict()
    vectors = dict(
        zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    )
    answer = OnlineReader(store, features, full_feature_names=full).read(rows)
    assert set(answer.names) == set(values) - {"origin", "dest"}
    for place, name in enumerate(answer.names):
        assert [row[place] for row in answer.values] == values[name]
        assert [row[place] for row in answer.statuses] == list(vectors[name].statuses)
        times = [row[place].timestamp() if row[place] else 0 for row in answer.event_times]
        assert times == [at.ToMicroseconds() / 1e6 for at in vectors[name].event_timestamps]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[3:]])
@pytest.mark.parametrize("name", ["stored", "part", "only_computed"])
def test_the_answer_is_feasts(store: FeatureStore, name: str, rows: Any) -> None:
    same_as_feast(store, name, full=False, rows=rows)


@pytest.mark.parametrize("name", ["alias", "all"])
def test_the_answer_is_feasts_with_full_names_too(store: FeatureStore, name: str) -> None:
    same_as_feast(store, name, full=True)


def test_features_computed_from_stored_ones_are_feasts(store: FeatureStore) -> None:
    same_as_feast(store, "computed", full=False)


def test_a_list_of_references_keeps_its_order(store: FeatureStore) -> None:
    refs = ["wind:gust", "delays:flights", "clock:late", "route:mean"]
    answer = OnlineReader(store, refs, full_feature_names=True).read(ROWS[:1])
    assert answer.names == ("wind__gust", "delays__flights", "clock__late", "route__mean")
    assert answer.values == [[7.5, 3, "ü", 2.5]]
    same_as_feast(store, refs, full=True)


def test_the_moment_of_reading_can_be_given(store: FeatureStore) -> None:
    reader = OnlineReader(store, "stored")
    at = [reader.read([{"origin": "EWR"}], now=ago(-hours)) for hours in (23, 24)]
    assert [one.statuses[0][0] for one in at] == [Status.PRESENT, Status.OUTSIDE_MAX_AGE]
    assert at[1].values == [[None, None]]
    assert at[1].event_times == [[ago(1), ago(1)]]


def test_no_rows_give_no_answers_and_a_null_key_is_not_found(store: FeatureStore) -> None:
    reader = OnlineReader(store, "stored")
    assert reader.read([]).values == []
    for nobody in (None, float("nan"), pd.NA):
        assert reader.read([{"origin": nobody}]).statuses == [[Status.NOT_FOUND] * 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"origin": "EWR", "dest": "LAX"}, "lack .*minute"),
        ({"dest": "LAX", "minute": 1}, "lack the join key origin"),
    ],
)
def test_what_a_row_lacks_is_named(store: FeatureStore, row: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        OnlineReader(store, "all", full_feature_names=True).read([ROWS[0], row])


def test_numbers_and_times_are_keys_too_and_others_are_named(
    tmp_path: Path, online: dict[str, Any]
) -> None:
    store = make_store(tmp_path, online)
    write(tmp_path / "d.parquet")
    features = [Field(name="mean", dtype=Float64), Field(name="flights", dtype=Int64)]
    kinds = {"number": Int64, "moment": UnixTimestamp}
    keys = {
        name: Entity(name=name, join_keys=[name], value_type=dtype.to_value_type())
        for name, dtype in kinds.items()
    }
    numbers, times = (
        view(
            tmp_path / "d.parquet",
            name=f"{name}s",
            entities=[keys[name]],
            schema=[Field(name=name, dtype=dtype), *features],
        )
        for name, dtype in kinds.items()
    )
    store.apply([*keys.values(), numbers, times])
    some = frame(("7", NOW, NOW, 1.5, 3)).drop(columns="origin")
    store.write_to_online_store("numbers", some.assign(number=7))
    store.write_to_online_store("moments", some.assign(moment=NOW))
    reader = OnlineReader(store, ["numbers:flights"])
    assert reader.read([{"number": 7}, {"number": "7"}, {"number": 7.0}]).values == [[3]] * 3
    for wrong in ("seven", 2**63, [7]):
        with pytest.raises(ContractError, match="INT64"):
            reader.read([{"number": wrong}])
    reader = OnlineReader(store, ["moments:flights"])
    assert reader.read([{"moment": NOW}, {"moment": ago(1)}]).values == [[3], [None]]


def test_a_view_that_only_feast_can_compute_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, {"path": str(tmp_path / "online.db")})
    delays = view(write(tmp_path / "d.parquet"))
    plan = SubstraitTransformation(b"", lambda table: table)
    odd = OnDemandFeatureView(
        name="odd",
        sources=[delays],
        schema=[Field(name="double", dtype=Float64)],
        feature_transformation=plan,
        mode="substrait",
    )
    store.apply([ORIGIN, delays])
    store.registry.apply_feature_view(odd, "demo")
    with pytest.raises(DeclarationError, match="mode 'substrait'"):
        OnlineReader(store, ["odd:double"])
