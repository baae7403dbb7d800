"""Tables are stale when they would be other ones, and then with the days that would be."""

from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.defs import keys, partitions
from mlops_assets.defs.staleness import Staleness
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import feature_contract as contract
from mlops_assets.tables import Calendar, Column
from mlops_assets_tests.defs.shop_home import DAYS, ShopHome
from mlops_assets_tests.shop_world import ORDERS_CSV, day, service, sums

RAW_SALES, RAW_ORDERS = dg.AssetKey(["raw", "sales"]), dg.AssetKey(["raw", "orders"])
VIEW, STATISTICS = (dg.AssetKey([group, "recent_sales"]) for group in ("features", "statistics"))
ROWS = dg.AssetKey(["rows", "placed_orders"])
NOTHING = Staleness((), (), None)
LATE = "b,pot,2024-01-04T09:00:00Z,5"
OUT_OF_BOUNDS = "b,pot,2024-01-04T09:00:00Z,inf"


@pytest.fixture
def home(tmp_path: Path, instance: dg.DagsterInstance) -> ShopHome:
    return ShopHome.empty(tmp_path, instance).materialize()


def test_in_an_empty_home_everything_is_stale(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    found = ShopHome.empty(tmp_path, instance).stale()
    assert set(found.tables) == {RAW_SALES, RAW_ORDERS, VIEW, ROWS, keys.FEATURE_REGISTRY}
    assert set(found.beside) == {STATISTICS, keys.ONLINE}
    assert found.days == (DAYS[0], DAYS[-1])


def test_after_a_run_over_all_tables_nothing_is_stale(home: ShopHome) -> None:
    assert home.stale() == NOTHING


def test_a_late_row_makes_the_tables_stale_that_see_it_and_the_days_around(home: ShopHome) -> None:
    home.sell(LATE)
    assert home.stale() == Staleness((RAW_SALES, VIEW), (STATISTICS, keys.ONLINE), (day(3), day(5)))


def test_a_row_out_of_reach_of_the_calendar_makes_no_day_stale(home: ShopHome) -> None:
    home.sell("a,tea,2023-12-20T10:00:00Z,1")
    assert home.stale() == Staleness((RAW_SALES,), (keys.ONLINE,), None)


def test_a_changed_order_makes_the_rows_stale_and_no_day(home: ShopHome) -> None:
    (home.folder / "orders.csv").write_text(ORDERS_CSV.replace("o8,a,pot,8", "o8,a,pot,9"))
    assert home.stale() == Staleness((RAW_ORDERS, ROWS), (keys.ONLINE,), None)


def test_a_lost_day_is_stale(home: ShopHome) -> None:
    home.platform.lake.day_file("features/recent_sales", day(2)).unlink()
    assert home.stale() == Staleness((VIEW,), (STATISTICS, keys.ONLINE), (day(2), day(2)))


def test_rows_added_to_a_day_make_its_statistics_stale_and_nothing_else(home: ShopHome) -> None:
    file = home.platform.lake.day_file("features/recent_sales", day(2))
    file.with_name("2024-01-02.added-1.parquet").write_bytes(file.read_bytes())
    assert home.stale() == Staleness((), (STATISTICS,), None)


def test_lost_statistics_are_stale_alone(home: ShopHome) -> None:
    home.platform.lake.file("statistics/recent_sales").unlink()
    assert home.stale() == Staleness((), (STATISTICS,), None)


def test_another_service_makes_the_registry_stale(home: ShopHome) -> None:
    [view] = home.spec.features.views
    fewer = service(view, without=("amount_2d",))
    spec = home.spec.model_copy(update={"features": fewer})
    changed = ShopHome(home.folder, spec, home.platform, home.instance)
    assert changed.stale() == Staleness((keys.FEATURE_REGISTRY,), (keys.ONLINE,), None)


def test_what_no_run_has_recorded_is_stale_though_its_files_are_there(home: ShopHome) -> None:
    with dg.DagsterInstance.ephemeral() as other:
        found = ShopHome(home.folder, home.spec, home.platform, other).stale()
    assert set(found.tables) == {RAW_SALES, RAW_ORDERS, keys.FEATURE_REGISTRY}
    assert (found.beside, found.days) == ((keys.ONLINE,), None)


def test_a_run_that_ended_before_the_online_store_leaves_it_stale(home: ShopHome) -> None:
    home.sell(LATE)
    assert home.launch([RAW_SALES, VIEW], partitions.tags(day(3), day(5))).success
    assert home.stale() == Staleness((), (STATISTICS, keys.ONLINE), None)


def test_days_that_broke_their_contract_stay_stale_until_they_pass(home: ShopHome) -> None:
    before = (home.folder / "sales.csv").read_text()
    home.sell(OUT_OF_BOUNDS)
    touched = partitions.tags(day(3), day(5))
    assert not home.launch([RAW_SALES, VIEW, keys.ONLINE], touched).success
    again = home.stale()
    assert again == Staleness((VIEW,), (STATISTICS, keys.ONLINE), (day(3), day(5)))
    assert not home.launch(again.tables, touched).success
    assert home.stale() == again

    (home.folder / "sales.csv").write_text(before)
    assert home.launch([RAW_SALES, *again.tables, *again.beside], touched).success
    assert home.stale() == NOTHING


def test_days_that_no_run_has_judged_are_stale(home: ShopHome) -> None:
    home.sell(LATE)
    for source in home.spec.sources:
        engine.write_source(home.platform.lake, source)
    [view] = home.spec.features.views
    engine.write_features(home.platform.lake, view, [day(3), day(4), day(5)])  # and then killed
    assert home.stale().tables == (VIEW,)
    assert home.stale().days == (day(3), day(5))
    for rule in contract.RULES:
        assert contract.judged(home.platform.lake, view, rule).holds
    assert home.stale() == Staleness((), (STATISTICS,), None)


def test_views_of_different_days_are_brought_up_to_date_in_one_run(home: ShopHome) -> None:
    [view] = home.spec.features.views
    newer = view.model_copy(
        update={
            "name": "newer_sales",
            "features": (Column(name="newer_last", type="float"),),
            "calendar": Calendar(start=day(3), end=day(5)),
            "build": lambda tables: sums(tables).rename(newer_last="amount_last"),
        }
    )
    features = service(view).model_copy(update={"views": (view, newer)})
    spec = home.spec.model_copy(update={"features": features})
    both = ShopHome(home.folder, spec, home.platform, home.instance)
    home.sell(LATE)
    found = both.stale()
    result = both.launch((*found.tables, *found.beside), partitions.tags(*found.days or ()))
    assert result.success
    assert both.stale() == NOTHING
    assert list(home.platform.lake.days("features/newer_sales")) == [day(3), day(4)]
    assert list(home.platform.lake.days("features/recent_sales")) == DAYS
