"""A small view for the tests of contracts: its rows are written, never computed."""

import datetime as dt
from typing import Any

import pyarrow as pa

from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Calendar, Column, Entity, FeatureView

DAYS = [dt.date(2024, 1, day) for day in (1, 2)]


def sold(tables: Any) -> Any:
    """Never computed: only what it means is asked."""
    import ibis

    times = dict.fromkeys(("event_timestamp", "created_timestamp"), "timestamp('UTC')")
    return ibis.table({"shop": "string", **times, "amount": "float64", "item": "string"}, name="t")


VIEW = FeatureView(
    name="sold",
    description="",
    entities=(Entity(name="shop"),),
    features=(
        Column(name="amount", type="float", minimum=0, maximum=100),
        Column(name="item", type="string", allowed=("tea", "pot"), nullable=False),
    ),
    ttl=dt.timedelta(days=1),
    calendar=Calendar(start=DAYS[0], end=dt.date(2024, 1, 3)),
    sources=(),
    lookback=dt.timedelta(0),
    build=sold,
)
SCHEMA = pa.schema(
    [
        ("shop", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("created_timestamp", pa.timestamp("us", tz="UTC")),
        ("amount", pa.float64()),
        ("item", pa.string()),
    ]
)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2024-01-{text}+00:00")


def row(when: str, **change: Any) -> dict[str, Any]:
    times = {"event_timestamp": at(when), "created_timestamp": at(when)}
    return {"shop": "a", **times, "amount": 1.0, "item": "tea", **change}


GOOD = [row("01T10:00"), row("02T10:00"), row("02T10:00", shop="b")]
BAD = {"amount": -1.0}


def write(
    lake: Lake, rows: list[dict[str, Any]], days: list[dt.date] = DAYS, schema: pa.Schema = SCHEMA
) -> Lake:
    """Write rows as days of the view."""
    lake.write_days(pa.Table.from_pylist(rows, schema), "features/sold", days)
    return lake
