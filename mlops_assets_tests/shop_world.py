"""A small made-up world for the tests: shops that sell things, and orders that are returned."""

import datetime as dt
from pathlib import Path
from typing import Any

from mlops_assets.spec import Label, ModelSpec
from mlops_assets.tables import (
    Arrays,
    Calendar,
    Column,
    Entity,
    EntityRows,
    FeatureService,
    FeatureView,
    RequestFeatures,
    Source,
    Tables,
)
from mlops_assets.windows import Window, Windows

SALES_CSV = """\
shop,item,sold_at,amount
a,tea,2024-01-01T10:00:00Z,1
a,tea,2024-01-02T09:00:00Z,2
a,pot,2024-01-02T09:00:00Z,40
b,tea,2024-01-02T12:00:00Z,NA
a,tea,2024-01-04T08:00:00Z,8
"""

ORDERS_CSV = """\
order_id,shop,item,size,ordered_at,returned,known_at
o1,a,tea,1,2024-01-01T12:00:00Z,0,2024-01-01T18:00:00Z
o2,a,tea,2,2024-01-01T13:00:00Z,1,2024-01-01T19:00:00Z
o3,b,tea,3,2024-01-02T12:00:00Z,0,2024-01-02T18:00:00Z
o4,a,pot,4,2024-01-02T13:00:00Z,1,2024-01-02T19:00:00Z
o5,a,tea,5,2024-01-03T12:00:00Z,0,2024-01-03T18:00:00Z
o6,b,pot,6,2024-01-03T13:00:00Z,1,2024-01-03T19:00:00Z
o7,a,tea,7,2024-01-04T12:00:00Z,0,2024-01-04T18:00:00Z
o8,a,pot,8,2024-01-04T13:00:00Z,1,2024-01-04T19:00:00Z
"""

DAY = dt.timedelta(days=1)
CALENDAR = Calendar(start=dt.date(2024, 1, 1), end=dt.date(2024, 1, 6))
SHOP, ITEM = Entity(name="shop"), Entity(name="item")


def day(number: int) -> dt.date:
    return dt.date(2024, 1, number)


def sales(path: Path, **change: Any) -> Source:
    return Source(
        name="sales",
        description="things sold",
        fetch=lambda _: path,
        raw_columns=("shop", "item", "sold_at", "amount"),
        columns=(
            Column(name="shop", type="string"),
            Column(name="item", type="string"),
            Column(name="sold_at", type="time"),
            Column(name="amount", type="float"),
        ),
        key=("shop", "item", "sold_at"),
        time="sold_at",
        **{
            "select": "SELECT shop, item, sold_at::TIMESTAMPTZ AS sold_at, "
            "amount::DOUBLE AS amount FROM file",
            **change,
        },
    )


def orders(path: Path) -> Source:
    return Source(
        name="orders",
        description="things ordered",
        fetch=lambda _: path,
        raw_columns=("order_id", "shop", "item", "size", "ordered_at", "returned", "known_at"),
        select="SELECT order_id, shop, item, size::BIGINT AS size, "
        "ordered_at::TIMESTAMPTZ AS ordered_at, returned::BIGINT AS returned, "
        "known_at::TIMESTAMPTZ AS known_at FROM file",
        columns=(
            *(Column(name=name, type="string") for name in ("order_id", "shop", "item")),
            Column(name="size", type="int"),
            Column(name="ordered_at", type="time"),
            Column(name="returned", type="int"),
            Column(name="known_at", type="time"),
        ),
        key=("order_id",),
    )


def sums(tables: Tables) -> Any:
    """Amount sold of an item in a shop, up to each sale and known an hour after it."""
    import ibis

    found = tables["sales"]
    two_days = ibis.range_window(
        group_by=["shop", "item"],
        order_by="sold_at",
        preceding=ibis.interval(hours=48),
        following=ibis.interval(hours=0),
    )
    return found.select(
        "shop",
        "item",
        event_timestamp=found.sold_at,
        created_timestamp=found.sold_at + ibis.interval(hours=1),
        amount_last=found.amount,
        amount_2d=found.amount.sum().over(two_days),
    )


def recent_sales(source: Source, **change: Any) -> FeatureView:
    return FeatureView(
        name="recent_sales",
        description="what a shop sold of an item",
        entities=(SHOP, ITEM),
        features=(
            Column(name="amount_last", type="float"),
            Column(name="amount_2d", type="float"),
        ),
        ttl=2 * DAY,
        calendar=CALENDAR,
        sources=(source,),
        lookback=2 * DAY,
        **{"build": sums, **change},
    )


def doubled(given: Arrays) -> Arrays:
    return {"size_doubled": given["size"] * 2.0}


BASKET = RequestFeatures(
    name="basket",
    description="known with the order",
    inputs=(Column(name="size", type="int"),),
    features=(Column(name="size_doubled", type="float"),),
    compute=doubled,
)


def ordered(tables: Tables) -> Any:
    found = tables["orders"]
    return found.select(
        "order_id", "shop", "item", "size", "returned", "known_at", event_timestamp=found.ordered_at
    )


def order_rows(source: Source) -> EntityRows:
    return EntityRows(
        name="placed_orders",
        description="orders when they are placed",
        row_id="order_id",
        sources=(source,),
        columns=(
            *(Column(name=name, type="string") for name in ("order_id", "shop", "item")),
            Column(name="size", type="int"),
            Column(name="event_timestamp", type="time"),
            Column(name="returned", type="int"),
            Column(name="known_at", type="time"),
        ),
        build=ordered,
    )


def windows() -> Windows:
    """One day for each part."""
    names = ("train", "calibrate", "conformalize", "holdout", "predict")
    return Windows(**{n: Window(start=day(i), end=day(i + 1)) for i, n in enumerate(names, 1)})


def boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=5, early_stopping=False, random_state=seed)


def service(view: FeatureView, **change: Any) -> FeatureService:
    return FeatureService(
        views=(view,),
        **{"name": "return_features", "description": "all", "request": (BASKET,), **change},
    )


def returns(folder: Path, **change: Any) -> ModelSpec:
    """The spec over two files in the folder, which are written."""
    (folder / "sales.csv").write_text(SALES_CSV)
    (folder / "orders.csv").write_text(ORDERS_CSV)
    return ModelSpec(
        name="returns",
        description="is the order returned?",
        **{
            "rows": order_rows(orders(folder / "orders.csv")),
            "label": Label(column="returned", known_at="known_at"),
            "features": service(recent_sales(sales(folder / "sales.csv"))),
            "estimators": {"boosting": boosting},
            "windows": windows(),
            **change,
        },
    )
