"""Declarations in a Feast registry, and features as they were known at a row's time."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.stores.feature_store import FeatureStore, service_digest
from mlops_assets.stores.online_reader import Status
from mlops_assets.tables import Arrays, FeatureService, FeatureView
from mlops_assets_tests.shop_world import BASKET, SALES_CSV, recent_sales, sales, service


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def view(platform: Platform) -> FeatureView:
    """The view, with all of its days in the lake; a sale is known an hour after it."""
    path = platform.settings.root / "sales.csv"
    path.write_text(SALES_CSV)
    found = recent_sales(sales(path))
    engine.write_source(platform.lake, found.sources[0])
    engine.write_features(platform.lake, found, engine.days_of(found))
    return found


@pytest.fixture(scope="module")
def all_features(view: FeatureView) -> FeatureService:
    return service(view)


@pytest.fixture(scope="module")
def some(view: FeatureView) -> FeatureService:
    return service(view, name="some_features", without=("amount_2d", "size_doubled"))


@pytest.fixture(scope="module")
def store(platform: Platform, all_features: FeatureService, some: FeatureService) -> FeatureStore:
    platform.features.apply((all_features, some))
    return platform.features


def at(day: int, hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(2024, 1, day, hour, minute, tzinfo=dt.UTC)


def ask(*rows: tuple[str, str, dt.datetime], **more: Any) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["shop", "item", "event_timestamp"])
    return frame.assign(**{"size": range(len(rows)), **more})


@pytest.mark.parametrize(
    ("moment", "last", "both"),
    [
        (at(1, 10, 59), None, None),  # sold at ten, known at eleven
        (at(1, 11), 1, 1),
        (at(2, 9, 59), 1, 1),
        (at(2, 10), 2, 3),
        (at(4, 8, 59), 2, 3),
        (at(4, 9), 8, 10),
        (at(6, 8), 8, 10),
        (at(6, 8, 1), None, None),  # older than the time to live of two days
    ],
    ids=str,
)
def test_a_row_gets_what_was_known_at_its_time(
    moment: dt.datetime, last: float, both: float, store: FeatureStore, all_features: FeatureService
) -> None:
    found = store.historical(all_features, ask(("a", "tea", moment)))
    assert found["amount_last"].to_pylist() == [last]
    assert found["amount_2d"].to_pylist() == [both]


def test_both_keys_of_a_view_count(store: FeatureStore, all_features: FeatureService) -> None:
    keys = [("a", "tea"), ("a", "pot"), ("b", "tea"), ("b", "pot"), ("c", "tea")]
    found = store.historical(all_features, ask(*((*key, at(2, 20)) for key in keys)))
    assert found["amount_last"].to_pylist() == [2, 40, None, None, None]


def test_rows_keep_their_order_and_their_columns(
    store: FeatureStore, all_features: FeatureService
) -> None:
    rows = ask(("b", "tea", at(4, 1)), ("a", "tea", at(1, 1)), ("b", "tea", at(4, 1)), note="x")
    found = store.historical(all_features, rows).to_pandas()
    kept = ["shop", "item", "size", "note"]
    pd.testing.assert_frame_equal(found[kept], rows[kept])
    assert (found["event_timestamp"] == rows["event_timestamp"]).all()


def test_request_features_are_computed_from_the_rows(
    store: FeatureStore, all_features: FeatureService
) -> None:
    rows = ask(("a", "tea", at(1, 1)), ("b", "pot", at(1, 1)), size=[3, 5])
    assert store.historical(all_features, rows)["size_doubled"].to_pylist() == [6.0, 10.0]


def test_features_that_are_left_out_do_not_come(store: FeatureStore, some: FeatureService) -> None:
    found = store.historical(some, ask(("a", "tea", at(2, 10))))
    assert set(found.column_names) - {"size"} == {"shop", "item", "event_timestamp", "amount_last"}


def test_a_new_process_reads_the_same_registry(
    platform: Platform, store: FeatureStore, all_features: FeatureService
) -> None:
    again = FeatureStore(store.project, store.folder, store.view_folder)
    found = again.historical(all_features, ask(("a", "tea", at(2, 10)), size=[3]))
    assert found.select(["amount_2d", "size_doubled"]).to_pylist() == [
        {"amount_2d": 3.0, "size_doubled": 6.0}
    ]


def test_all_that_is_declared_is_in_the_registry(
    store: FeatureStore, all_features: FeatureService, some: FeatureService
) -> None:
    counts = store.apply((all_features, some))
    assert counts == {"entities": 2, "feature_views": 2, "feature_services": 2}
    declared = store.feast.get_feature_view("recent_sales")
    assert (declared.join_keys, declared.ttl) == (["shop", "item"], dt.timedelta(days=2))


def other(given: Arrays) -> Arrays:
    return {"size_doubled": given["size"] * 3.0}


def digest(of: FeatureService, sql: str = "SELECT 1") -> str:
    return service_digest(of, {"recent_sales": sql})


def test_the_digest_of_a_service_changes_with_its_meaning(
    view: FeatureView, all_features: FeatureService, some: FeatureService
) -> None:
    longer = service(view.model_copy(update={"ttl": dt.timedelta(days=3)}))
    tripled = service(view, request=(BASKET.model_copy(update={"compute": other}),))
    whole = BASKET.inputs[0].model_copy(update={"nullable": False})
    no_nulls = service(view, request=(BASKET.model_copy(update={"inputs": (whole,)}),))
    digests = {digest(one) for one in (all_features, some, longer, tripled, no_nulls)}
    assert len({*digests, digest(all_features, "SELECT 2")}) == 6


def test_the_digest_of_a_service_does_not_change_with_words(all_features: FeatureService) -> None:
    reworded = all_features.model_copy(update={"description": "other words"})
    assert digest(reworded) == digest(all_features)


def test_opening_the_store_writes_nothing(tmp_path: Path) -> None:
    FeatureStore("shops", tmp_path / "feast", lambda _: tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shop", "moment", "value", "status", "newest"),
    [
        ("a", at(4, 10), 8.0, Status.PRESENT, at(4, 8)),
        ("a", at(4, 8, 30), 2.0, Status.PRESENT, at(2, 9)),  # the sale is not known yet
        ("a", at(7, 8, 1), None, Status.OUTSIDE_MAX_AGE, at(4, 8)),
        ("z", at(4, 10), None, Status.NOT_FOUND, None),
        ("a", at(1, 10, 30), None, Status.NOT_FOUND, None),
    ],
)
def test_what_was_known_at_a_time_is_told_from_what_is_expired_or_unknown(
    store: FeatureStore,
    view: FeatureView,
    shop: str,
    moment: dt.datetime,
    value: float | None,
    status: Status,
    newest: dt.datetime | None,
) -> None:
    values, *meaning = store.at(view, {"shop": shop, "item": "tea"}, moment)
    assert values["amount_last"] == value
    assert meaning == [status, newest]
