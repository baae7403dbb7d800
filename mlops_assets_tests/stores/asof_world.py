"""What the tests of the offline store build with: times, rows, views and feature stores."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64

STORE = "mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore"
START = datetime(2024, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FEAST_WARNINGS = [
    # Feast says so on every saved dataset.
    pytest.mark.filterwarnings("ignore:.*is an experimental feature:RuntimeWarning"),
    # ibis 12 calls a method that duckdb 2.0 deprecates (substrait views and Feast's own store).
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis"),
]


def at(minutes: float) -> datetime:
    return START + minutes * MINUTE


def day(number: int, hour: float = 0) -> datetime:
    return datetime(2024, 5, number, tzinfo=UTC) + timedelta(hours=hour)


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


def renamed_source(folder: Path, *, times: bool = False) -> FileSource:
    """The history under other column names, mapped to the view's; the times only if asked."""
    path = folder / "raw.parquet"
    pq.write_table(HISTORY.rename_columns(["d", "e", "c", "t", "r"]), path)
    names = {"d": "driver", "t": "trips", "r": "rating"}
    if times:
        return source(path, field_mapping=names | {"e": "event", "c": "created"})
    return source(path, field_mapping=names, timestamp_field="e", created_timestamp_column="c")


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


def trips_of(store: FeatureStore, drivers: Sequence[Any], moments: Sequence[Any]) -> list[Any]:
    """The feature `trips` of drivers as it was known at moments."""
    answer = store.get_historical_features(ask(drivers, moments), ["stats:trips"])
    return answer.to_df()["trips"].tolist()


def daily_folder(folder: Path, rows: pa.Table = HISTORY) -> Path:
    folder.mkdir()
    days = rows["event"].cast(pa.date32())
    for moment in sorted(set(days.to_pylist())):
        part = rows.filter(pa.compute.equal(days, pa.scalar(moment)))
        pq.write_table(part, folder / f"{moment}.parquet")
    return folder
