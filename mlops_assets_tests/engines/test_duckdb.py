"""Tables computed with DuckDB: bad sources, days alone and together, definitions, fingerprints."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DeclarationError, SourceError
from mlops_assets.showcase.flights.features import FLIGHT_FEATURES
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Calendar, Column, FeatureView
from mlops_assets_tests.shop_world import (
    ORDERS_CSV,
    SALES_CSV,
    day,
    order_rows,
    orders,
    recent_sales,
    sales,
    sums,
)

SELECT = sales(Path("sales.csv")).select


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_text(SALES_CSV)
    return path


def column(lake: Lake, path: Path, name: str) -> list[Any]:
    return lake.read(f"SELECT {name} FROM t ORDER BY ALL", t=path)[name].to_pylist()


def test_a_source_is_copied_under_its_declared_names_and_types(lake: Lake, csv: Path) -> None:
    count, _ = engine.write_source(lake, sales(csv))
    found = lake.read("FROM t", t=lake.file("raw/sales"))
    assert count == found.num_rows == 5
    assert found.schema.field("sold_at").type == pa.timestamp("us", tz="UTC")
    assert found["amount"].to_pylist() == [1, 2, 40, None, 8]


def test_a_parquet_file_is_a_source_too(lake: Lake, csv: Path) -> None:
    path = csv.with_suffix(".parquet")
    pq.write_table(pa.table({"n": [1]}), path)
    change = {"raw_columns": ("n",), "columns": (Column(name="n", type="int"),), "time": None}
    source = sales(path, select="SELECT n FROM file").model_copy(update=change)
    assert engine.write_source(lake, source)[0] == 1


def test_a_select_that_lacks_a_declared_column_is_refused(lake: Lake, csv: Path) -> None:
    source = sales(csv, select=SELECT.replace("item,", ""))
    with pytest.raises(SourceError, match=r"the source 'sales' cannot be read: .*item. not found"):
        engine.write_source(lake, source)


BROKEN = {
    "missing": (None, "has no file at"),
    "without bytes": ("", "lacks the columns"),
    "without rows": (SALES_CSV.splitlines()[0], "is empty: .* has no rows"),
    "without a column": (
        SALES_CSV.replace("amount", "price"),
        "lacks the columns amount: .* price",
    ),
    "uncastable": (SALES_CSV.replace("40", "forty"), "cannot be read: .*\"forty\" to 'DOUBLE'"),
    "ragged": (SALES_CSV + "a,tea\n", 'cannot be read: .*sales.csv".*dialect\n'),
    "binary": ("\0\1\2\n" * 9, "(lacks the columns|cannot be read)"),
}


@pytest.mark.parametrize(("content", "found"), BROKEN.values(), ids=BROKEN)
def test_a_broken_source_says_what_was_found(
    content: str | None, found: str, lake: Lake, csv: Path
) -> None:
    csv.unlink()
    if content is not None:
        csv.write_text(content)
    with pytest.raises(SourceError, match=f"the source 'sales' .*{found}"):
        engine.write_source(lake, sales(csv))


@pytest.mark.parametrize("content", [content for content, _ in BROKEN.values()], ids=BROKEN)
def test_a_broken_source_leaves_the_old_table(content: str | None, lake: Lake, csv: Path) -> None:
    engine.write_source(lake, sales(csv))
    csv.unlink()
    if content is not None:
        csv.write_text(content)
    with pytest.raises(SourceError):
        engine.write_source(lake, sales(csv))
    assert lake.read("SELECT * FROM t", t=lake.file("raw/sales")).num_rows == 5
    assert [path.name for path in lake.root.iterdir()] == ["raw"]


def test_a_broken_parquet_file_says_what_was_found(lake: Lake, csv: Path) -> None:
    path = csv.with_suffix(".parquet")
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match="the source 'sales' cannot be read"):
        engine.write_source(lake, sales(path))


def test_a_value_that_cannot_be_cast_is_refused_before_anything_is_written(
    lake: Lake, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS_CSV.replace("o5,a,tea,5", "o5,a,tea,five"))
    source = orders(path)
    with lake.connect() as connection:
        query, _ = engine.open_source(connection, source, tmp_path)
        with pytest.raises(SourceError, match=r"the source 'orders' cannot be read: .*five"):
            engine.preview_rows(connection, order_rows(source), {"orders": query})


def test_rows_can_be_seen_before_anything_is_written(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS_CSV)
    table = order_rows(orders(path))
    with lake.connect() as connection:
        query, _ = engine.open_source(connection, table.sources[0], tmp_path)
        name = engine.preview_rows(connection, table, {"orders": query})
        assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (8,)


def test_rows_are_written_in_order_of_time(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    header, *lines = ORDERS_CSV.splitlines(keepends=True)
    path.write_text(header + "".join(lines[::-1]))
    table = order_rows(orders(path))
    engine.write_source(lake, table.sources[0])
    assert engine.write_rows(lake, table, "mark") == 8
    found = pq.read_table(lake.file("rows/placed_orders"))["order_id"].to_pylist()
    assert found == [f"o{number}" for number in range(1, 9)]
    assert lake.fingerprint(lake.file("rows/placed_orders")) == "mark"


def test_a_feature_looks_back_over_the_days_before(lake: Lake, csv: Path) -> None:
    engine.write_source(lake, sales(csv))
    counts = engine.write_features(lake, recent_sales(sales(csv)), [day(2)])
    assert counts == {day(2): 3}
    found = lake.read("FROM t ORDER BY shop, item", t=lake.folder("features/recent_sales"))
    assert found["amount_2d"].to_pylist() == [40, 3, None]


def test_features_of_sources_that_are_not_there_are_refused(lake: Lake, csv: Path) -> None:
    with pytest.raises(SourceError, match="materialize raw/sales first"):
        engine.write_features(lake, recent_sales(sales(csv)), [day(2)])


def test_the_days_of_a_calendar_end_before_its_end() -> None:
    view = recent_sales(sales(Path("sales.csv")))
    assert engine.days_of(view) == [day(number) for number in range(1, 6)]


def test_the_days_of_an_open_calendar_end_before_today(csv: Path) -> None:
    view = recent_sales(sales(csv)).model_copy(update={"calendar": Calendar(start=day(1))})
    assert engine.days_of(view, until=day(3)) == [day(1), day(2)]
    assert engine.days_of(view)[-1] == dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


def without_amount(tables: Any) -> Any:
    return sums(tables).drop("amount_2d")


def doubled_amount(tables: Any) -> Any:
    return sums(tables).mutate(amount_2d=sums(tables).amount_2d * 2)


def test_a_definition_that_lacks_a_declared_column_is_refused(csv: Path) -> None:
    view = recent_sales(sales(csv), build=without_amount)
    with pytest.raises(DeclarationError, match="does not give the columns amount_2d"):
        engine.definition(view)


DEFINITIONS = """
from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY

tables = (*FLIGHT_DELAY.features.views, FLIGHT_DELAY.rows)
print(fingerprint.of_values([engine.definition(table) for table in tables]))
"""


def test_a_definition_is_the_same_in_every_process() -> None:
    found = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", DEFINITIONS]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(ran.stdout)
    assert len(found) == 1


def mark(view: FeatureView, **marks: str) -> str:
    return engine.features_fingerprint(view, {"sales": "1", "orders": "1", **marks})


def test_a_fingerprint_changes_with_the_definition(csv: Path) -> None:
    source = sales(csv)
    views = [recent_sales(source, build=build) for build in (sums, doubled_amount)]
    assert mark(views[0]) != mark(views[1])


def test_a_fingerprint_changes_with_the_raw_table_under_it_only(csv: Path) -> None:
    view = recent_sales(sales(csv))
    assert mark(view) == mark(view, orders="2") != mark(view, sales="2")


def test_a_fingerprint_does_not_change_with_the_wording(csv: Path) -> None:
    view = recent_sales(sales(csv))
    assert mark(view) == mark(view.model_copy(update={"description": "other words"}))


def test_the_fingerprint_of_rows_changes_with_the_raw_table_under_them(tmp_path: Path) -> None:
    table = order_rows(orders(tmp_path / "orders.csv"))
    found = {engine.rows_fingerprint(table, {"orders": mark}) for mark in ("1", "2")}
    assert len(found) == 2


def test_the_fingerprint_of_a_source_changes_with_file_and_select(lake: Lake, csv: Path) -> None:
    other = SELECT.replace("amount::DOUBLE", "amount::FLOAT")
    found = [engine.write_source(lake, sales(csv))[1].whole for _ in range(2)]
    found.append(engine.write_source(lake, sales(csv, select=other))[1].whole)
    csv.write_text(SALES_CSV.replace("40", "41"))
    found.append(engine.write_source(lake, sales(csv))[1].whole)
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with the real raw tables and a month of all features."""
    lake = Lake(tmp_path_factory.mktemp("flights"))
    for source in FLIGHT_DELAY.sources:
        engine.write_source(lake, source)
    days = [dt.date(2013, 12, 1) + dt.timedelta(days=i) for i in range(31)]
    for view in FLIGHT_FEATURES.views:
        engine.write_features(lake, view, days)
    return lake


@pytest.mark.parametrize("view", FLIGHT_FEATURES.views, ids=lambda view: view.name)
def test_a_day_computed_alone_equals_the_same_day_of_a_range(
    view: FeatureView, flights: Lake
) -> None:
    within = dt.date(2013, 12, 20)
    path = flights.day_file(engine.features(view), within)
    of_range = pq.read_table(path)
    mark = flights.fingerprint(path)
    engine.write_features(flights, view, [within])
    assert of_range.num_rows > 50
    assert pq.read_table(path).equals(of_range)
    assert flights.fingerprint(path) == mark
