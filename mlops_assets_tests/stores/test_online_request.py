"""Request features: one function, the same features offline, through Feast, and by the reader."""

import datetime as dt
from pathlib import Path
from typing import Any

import dill
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.stores.feature_store import FeatureStore
from mlops_assets.stores.online_reader import OnlineReader
from mlops_assets.stores.online_request import RequestFunction
from mlops_assets.tables import Arrays, Column, FeatureService, RequestFeatures
from mlops_assets_tests.shop_world import BASKET, recent_sales, sales, service

NOW = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
TYPES = {
    "string": ["ü", "", None],
    "int": [3, -(2**40), None],
    "float": [2.5, -0.0, None],
    "bool": [True, False, None],
    "time": [NOW + dt.timedelta(microseconds=1), NOW.astimezone(dt.timezone(-HOUR)), None],
}


def echoed(given: Arrays) -> Arrays:
    return {"y": given["x"]}


def dtype(given: Arrays) -> Arrays:
    return {"y": np.full(len(given["x"]), str(given["x"].dtype))}


def function(compute: Any, kind: Any, gives: Any = None, **more: Any) -> RequestFunction:
    """A function of `x`, of some kind, that gives `y`."""
    declared = {"name": "some", "description": "", "compute": compute}
    inputs, features = Column(name="x", type=kind, **more), Column(name="y", type=gives or kind)
    return RequestFunction.of(RequestFeatures(**declared, inputs=(inputs,), features=(features,)))


def offline(asked: RequestFunction, values: list[Any]) -> list[Any]:
    """As Feast calls it: with a frame that came from Arrow, and went back into it."""
    frame = pa.table({"unasked": [1] * len(values), "x": values}).to_pandas()
    return pa.Table.from_pandas(asked(frame))["y"].to_pylist()


def online(asked: RequestFunction, values: list[Any]) -> list[Any]:
    return asked.of_values({"x": values})["y"]


ways = pytest.mark.parametrize("way", [offline, online])


@ways
@pytest.mark.parametrize("kind", TYPES)
def test_values_and_nulls_of_every_type_come_back_as_they_were(kind: str, way: Any) -> None:
    values = TYPES[kind]
    for some in (values, values[:1], values[:2], values[2:]):
        assert way(function(echoed, kind), some) == some


@ways
@pytest.mark.parametrize(
    ("kind", "plain", "nullable"),
    [
        ("string", "object", "object"),
        ("int", "int64", "float64"),
        ("float", "float64", "float64"),
        ("bool", "bool", "object"),
        ("time", "datetime64[us]", "datetime64[us]"),
    ],
)
def test_the_function_gets_the_declared_type_whether_a_null_is_there_or_not(
    kind: str, plain: str, nullable: str, way: Any
) -> None:
    values = TYPES[kind]
    assert way(function(dtype, kind, "string", nullable=False), values[:2]) == [plain] * 2
    assert way(function(dtype, kind, "string"), values[:2]) == [nullable] * 2
    assert way(function(dtype, kind, "string"), values) == [nullable] * 3


@ways
@pytest.mark.parametrize(
    ("kind", "gives", "values", "expected"),
    [
        ("int", "float", [3], [3.0]),
        ("float", "int", [3.0, None], [3, None]),
        ("float", "float", [3, float("nan")], [3.0, None]),
        ("int", "int", [np.int64(7), 7.0], [7, 7]),
    ],
)
def test_numbers_take_the_declared_type(
    kind: str, gives: str, values: list[Any], expected: list[Any], way: Any
) -> None:
    found = way(function(echoed, kind, gives), values)
    assert [(type(value), value) for value in found] == [(type(v), v) for v in expected]


@ways
@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int", 1.5, "truncated"),
        ("int", "1", "of type string"),
        ("float", True, "of type bool"),
        ("string", 1, "of type int64"),
        ("time", 1, "of type int64"),
        ("int", None, "1 of 1 values are null"),
        ("float", float("nan"), "1 of 1 values are null"),
        ("string", None, "1 of 1 values are null"),
    ],
)
def test_an_input_that_is_not_as_declared_is_refused(
    kind: str, value: Any, message: str, way: Any
) -> None:
    with pytest.raises(ContractError, match=f"input 'x' of the request features 'some'.*{message}"):
        way(function(echoed, kind, nullable=False), [value])


def test_a_number_that_is_too_large_is_refused() -> None:
    with pytest.raises(ContractError, match="too large"):
        online(function(echoed, "int", nullable=False), [2**70])


def misnamed(given: Arrays) -> Arrays:
    return {"z": given["x"]}


def one_too_many(given: Arrays) -> Arrays:
    return {"y": given["x"], "z": given["x"]}


def too_short(given: Arrays) -> Arrays:
    return {"y": given["x"][1:]}


def one_number(given: Arrays) -> Arrays:
    return {"y": given["x"].sum()}


def framed(given: Arrays) -> Any:
    return pd.DataFrame({"y": given["x"]})


def halved(given: Arrays) -> Arrays:
    return {"y": given["x"] / 2}


def told(given: Arrays) -> Arrays:
    return {"y": given["x"].astype(str)}


@ways
@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (misnamed, "gives the features z"),
        (one_too_many, "gives the features y, z"),
        (too_short, r"gives 'y' the shape \(1,\) for 2 rows"),
        (one_number, r"gives 'y' the shape \(\) for 2 rows"),
        (framed, "gives a DataFrame"),
        (halved, "gives 'y' values that do not fit: .*truncated"),
        (told, "gives 'y' values that do not fit: .*string"),
    ],
)
def test_a_function_that_gives_something_else_is_refused(
    compute: Any, message: str, way: Any
) -> None:
    with pytest.raises(
        DeclarationError, match=f"test_online_request:{compute.__name__}.*{message}"
    ):
        way(function(compute, "int", nullable=False), [1, 3])


def test_a_function_that_is_gone_is_named_when_it_is_called() -> None:
    gone = RequestFunction("some", "mlops_assets.tables:gone", (("x", "int", True),), ())
    with pytest.raises(DeclarationError, match="tables:gone, which cannot be imported"):
        online(gone, [1])


def test_the_text_in_the_registry_and_a_pickle_are_the_same_function() -> None:
    asked = RequestFunction.of(BASKET)
    again = rehydrate_udf_from_source(asked.source, preferred_name=asked.__name__)
    for one in (again, dill.loads(dill.dumps(asked, recurse=True))):  # noqa: S301
        assert one == asked
        assert one.of_values({"size": [4, None]}) == {"size_doubled": [8.0, None]}


def parcel(given: Arrays) -> Arrays:
    return {
        "sent": given["ordered"] + np.timedelta64(90, "m"),
        "pieces": given["size"] + 1,
        "weight": given["size"] * 0.5,
        "text": given["note"],
        "wrapped": given["gift"],
    }


PARCEL = RequestFeatures(
    name="parcel",
    description="known with the order",
    inputs=(
        Column(name="ordered", type="time"),
        Column(name="size", type="int"),
        Column(name="note", type="string"),
        Column(name="gift", type="bool"),
    ),
    features=(
        Column(name="sent", type="time"),
        Column(name="pieces", type="int"),
        Column(name="weight", type="float"),
        Column(name="text", type="string"),
        Column(name="wrapped", type="bool"),
    ),
    compute=parcel,
)


ROW = {"shop": "a", "item": "tea", "ordered": NOW, "size": 3, "note": "ü", "gift": True}
NULLS = {**ROW, "ordered": None, "size": None, "note": None, "gift": None}
EXPECTED = {
    "amount_last": [1.0, 1.0],
    "amount_2d": [2.0, 2.0],
    "sent": [NOW + 1.5 * HOUR, None],
    "pieces": [4, None],
    "weight": [1.5, None],
    "text": ["ü", None],
    "wrapped": [True, None],
    "size_doubled": [6.0, None],
}


@pytest.fixture
def all_features(tmp_path: Path) -> FeatureService:
    return service(recent_sales(sales(tmp_path / "sales.csv")), request=(PARCEL, BASKET))


@pytest.fixture
def store(tmp_path: Path, all_features: FeatureService) -> FeatureStore:
    """A store with one row, written as a push writes it, that reads the registry of another one."""
    moments = pa.array([NOW], pa.timestamp("us", "UTC"))
    times = {"event_timestamp": moments, "created_timestamp": moments}
    amounts = {"amount_last": [1.0], "amount_2d": [2.0]}
    sold = pa.table({"shop": ["a"], "item": ["tea"], **times, **amounts})
    pq.write_table(sold, tmp_path / "sold.parquet")
    for _ in range(2):
        store = FeatureStore("shops", tmp_path, lambda _: tmp_path / "sold.parquet", now=NOW + HOUR)
        store.apply((all_features,))
    store.feast.write_to_online_store("recent_sales", sold.to_pandas())
    return store


def feasts_answer(store: FeatureStore, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    asked = store.feast.get_feature_service("return_features")
    answer = store.feast.get_online_features(asked, list(rows)).to_dict()
    return {name: answer[name] for name in EXPECTED}


def readers_answer(store: FeatureStore, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    read = store.reader("return_features").read(rows)
    return dict(zip(read.names, map(list, zip(*read.values, strict=True)), strict=True))


def test_features_are_the_same_offline_in_feasts_answer_and_in_the_readers(
    store: FeatureStore, all_features: FeatureService
) -> None:
    rows = pd.DataFrame([ROW, NULLS]).assign(event_timestamp=NOW)
    joined = store.historical(all_features, rows)
    assert joined.select(list(EXPECTED)).to_pydict() == EXPECTED
    assert feasts_answer(store, ROW, NULLS) == EXPECTED
    assert readers_answer(store, ROW, NULLS) == EXPECTED


@pytest.mark.parametrize(
    "row", [ROW, NULLS, {**ROW, "ordered": NOW + dt.timedelta(milliseconds=700)}], ids=str
)
def test_the_reader_answers_one_row_as_feast_does(store: FeatureStore, row: dict[str, Any]) -> None:
    assert readers_answer(store, row) == feasts_answer(store, row)


def test_the_reader_makes_no_frame(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestFunction, "__call__", lambda *_: pytest.fail("a frame was made"))
    assert readers_answer(store, ROW)["weight"] == [1.5]


def test_the_reader_gives_full_names(store: FeatureStore) -> None:
    refs = ["basket:size_doubled", "parcel:weight"]
    answer = OnlineReader(store.feast, refs, full_feature_names=True).read([ROW])
    assert (answer.names, answer.values) == (("basket__size_doubled", "parcel__weight"), [[6, 1.5]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({name: value for name, value in ROW.items() if name != "size"}, "lack size"),
        ({**ROW, "size": "large"}, "input 'size' of the request features"),
    ],
)
def test_the_reader_names_what_is_wrong_with_a_request(
    store: FeatureStore, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        readers_answer(store, row)
