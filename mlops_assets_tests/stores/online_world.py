"""What the tests of the online store build with: views, rows, stores, and a real Redis."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String

from mlops_assets_tests.stores.asof_world import STORE as OFFLINE
from mlops_assets_tests.stores.asof_world import source

ONLINE = "mlops_assets.stores.online_store.NewestOnlineStore"
REDIS_URL = os.environ.get("MLOPS_TEST_REDIS_URL", "redis://127.0.0.1:6379")
NOW = datetime(2024, 5, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRESENT, NOT_FOUND, EXPIRED = (
    FieldStatus.PRESENT,
    FieldStatus.NOT_FOUND,
    FieldStatus.OUTSIDE_MAX_AGE,
)

ORIGIN = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
DEST = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING)
REFS = ["delays:mean", "delays:flights"]


def ago(hours: float) -> datetime:
    return NOW - hours * HOUR


def redis_settings() -> dict[str, Any]:
    """Settings with a prefix of their own; skips without a server, fails in CI."""
    import redis

    try:
        redis.Redis.from_url(REDIS_URL).ping()
    except redis.RedisError as error:
        reason = f"no Redis at {REDIS_URL}: {error}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return {"connection_string": REDIS_URL, "key_prefix": f"test-{uuid.uuid4().hex}"}


def redis_keys(settings: dict[str, Any]) -> list[bytes]:
    import redis

    with redis.Redis.from_url(REDIS_URL) as client:
        return list(client.scan_iter(match=f"{settings['key_prefix']}:*", count=1_000))


def settings_for(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Settings of a backend; its keys are gone afterwards."""
    if kind == "sqlite":
        yield {"path": str(folder / "online.db")}
        return
    import redis

    settings = redis_settings()
    yield settings
    with redis.Redis.from_url(REDIS_URL) as client:
        for key in redis_keys(settings):
            client.delete(key)


def make_config(folder: Path, online: dict[str, Any]) -> RepoConfig:
    settings = {"type": ONLINE, "as_of": NOW} | online
    if settings["type"] == "sqlite":
        del settings["as_of"]
    return RepoConfig(
        project="demo",
        provider="local",
        registry=str(folder / f"registry-{uuid.uuid4().hex}.db"),
        offline_store={"type": OFFLINE, "threads": 1},
        online_store=settings,
        entity_key_serialization_version=3,
    )


def make_store(folder: Path, online: dict[str, Any]) -> FeatureStore:
    return FeatureStore(config=make_config(folder, online))


def view(path: Path | str, name: str = "delays", **more: Any) -> FeatureView:
    """A view of `mean` and `flights` by origin (and by what `entities` says)."""
    entities = more.pop("entities", [ORIGIN])
    keys = [Field(name=entity.join_key, dtype=String) for entity in entities]
    features = [Field(name="mean", dtype=Float64), Field(name="flights", dtype=Int64)]
    defaults = {"schema": [*keys, *features], "ttl": 24 * HOUR, "source": source(path)}
    return FeatureView(name=name, entities=entities, **(defaults | more))


def delays_store(folder: Path, online: dict[str, Any], *rows: tuple[Any, ...]) -> FeatureStore:
    """A store that knows the view `delays`, by origin, over a file of rows; nothing is loaded."""
    store = make_store(folder, online)
    store.apply([ORIGIN, view(write(folder / "d.parquet", *rows))])
    return store


def table(*rows: tuple[Any, ...], keys: tuple[str, ...] = ("origin",)) -> pa.Table:
    """Rows of (keys, event, created, mean, flights)."""
    zoned = pa.timestamp("us", "UTC")
    types = [*((key, pa.string()) for key in keys), ("event", zoned), ("created", zoned)]
    schema = pa.schema([*types, ("mean", pa.float64()), ("flights", pa.int64())])
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def frame(*rows: tuple[Any, ...], keys: tuple[str, ...] = ("origin",)) -> pd.DataFrame:
    return table(*rows, keys=keys).to_pandas()


def write(path: Path, *rows: tuple[Any, ...], keys: tuple[str, ...] = ("origin",)) -> Path:
    pq.write_table(table(*rows, keys=keys), path)
    return path


def key(**names: str) -> EntityKey:
    values = [Value(string_val=value) for value in names.values()]
    return EntityKey(join_keys=list(names), entity_values=values)


def feast_row(origin: str, event: datetime, created: datetime | None, mean: float) -> Any:
    values = {"mean": Value(double_val=mean), "flights": Value(int64_val=1)}
    return key(origin=origin), values, event, created


def answers(store: FeatureStore, refs: Any, rows: list[dict[str, Any]], **more: Any) -> Any:
    """Values and statuses by feature."""
    response = store.get_online_features(refs, rows, **more)
    names = response.proto.metadata.feature_names.val
    statuses = {
        name: list(vector.statuses)
        for name, vector in zip(names, response.proto.results, strict=True)
    }
    return response.to_dict(), statuses


def serialized(entity_key: EntityKey) -> bytes:
    return serialize_entity_key(entity_key, entity_key_serialization_version=3)


def means(plain: Any, *origins: str) -> list[float | None]:
    """What `plain` (store, config, view) answers for origins."""
    store, config, one = plain
    rows = store.online_read(config, one, [key(origin=name) for name in origins])
    return [None if values is None else values["mean"].double_val for _, values in rows]
