"""Feast: what is declared in `tables.py` as entities, views and services, and features read back.

The only file that talks to Feast's API. The point-in-time join itself is `asof_offline_store.py`;
computing the tables that the views point at belongs to `engines/`.
"""

import datetime as dt
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.stores import lake
from mlops_assets.tables import (
    CREATED_TIME,
    EVENT_TIME,
    Column,
    FeatureService,
    FeatureView,
    RequestFeatures,
)

if TYPE_CHECKING:
    import feast
    import pandas as pd
    import pyarrow as pa

    from mlops_assets.stores.online_materialize import Materialized
    from mlops_assets.stores.online_reader import OnlineReader, Status

OFFLINE_STORE = "mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore"
ONLINE_STORE = "mlops_assets.stores.online_store.NewestOnlineStore"


@contextmanager
def _quiet() -> Iterator[None]:
    """Feast warns on every use of an on-demand view that it is experimental: we know."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature")
        yield


@dataclass(frozen=True)
class FeatureStore:
    """A Feast project whose views read the lake.

    Args:
        project: name of the Feast project.
        folder: where registry and online store lie.
        view_folder: gives the folder of a view's daily files.
        online_url: Redis as the online store; empty means an SQLite file in `folder`.
        now: answer online as of this time; None means the clock.
    """

    project: str
    folder: Path
    view_folder: Callable[[FeatureView], Path]
    online_url: str = field(default="", repr=False)
    now: dt.datetime | None = None

    @cached_property
    def feast(self) -> "feast.FeatureStore":
        """Feast's own store, for all that this class does not offer."""
        import feast
        from feast.infra.registry.sql import SqlRegistryConfig

        self.folder.mkdir(parents=True, exist_ok=True)
        with _quiet():
            return feast.FeatureStore(
                config=feast.RepoConfig(
                    project=self.project,
                    provider="local",
                    registry=SqlRegistryConfig(
                        registry_type="sql", path=f"sqlite:///{self.folder / 'registry.db'}"
                    ),
                    offline_store={"type": OFFLINE_STORE},
                    online_store={
                        "type": ONLINE_STORE,
                        "path": str(self.folder / "online.db"),
                        "connection_string": self.online_url or None,
                        "key_prefix": self.project,
                        "as_of": self.now,
                    },
                    entity_key_serialization_version=3,
                )
            )

    def apply(self, services: tuple[FeatureService, ...]) -> dict[str, int]:
        """Declare services, and all that they rest on, in the registry; return counts by kind."""
        import feast

        entities: dict[str, Any] = {}
        views: dict[str, Any] = {}
        feast_services = []
        for service in services:
            for view in service.views:
                for entity in view.entities:
                    entities.setdefault(entity.name, _entity(entity.name, entity.description))
                if view.name not in views:
                    views[view.name] = self._view(view, entities)
            for request in service.request:
                if request.name not in views:
                    views[request.name] = _request(request)
            members = [
                views[one.name][[feature.name for feature in service.used(one)]]
                for one in service.groups
                if service.used(one)
            ]
            feast_services.append(
                feast.FeatureService(
                    name=service.name, features=members, description=service.description
                )
            )
        with _quiet():
            self.feast.apply([*entities.values(), *views.values(), *feast_services])
        return {
            "entities": len(entities),
            "feature_views": len(views),
            "feature_services": len(services),
        }

    def historical(self, service: FeatureService, rows: "pd.DataFrame") -> "pa.Table":
        """Give each row the features as they were known at its `event_timestamp`.

        Args:
            service: the features wanted; must be in the registry.
            rows: entity columns, inputs of the request features, `event_timestamp`, and any other
                columns, which come back as they are. Shape (n, k).

        Returns:
            The rows in their order, with all features of the service. Shape (n, k + features).
        """
        with _quiet():
            declared = self.feast.get_feature_service(service.name)
            return self.feast.get_historical_features(rows, declared).to_arrow()

    def to_online(self, view: FeatureView, end: dt.datetime) -> "Materialized":
        """Load the newest row per key into the online store, as far as it is not expired at `end`.

        A newer row that is there already stays.
        """
        from mlops_assets.stores.online_materialize import materialize

        with _quiet():
            return materialize(self.feast, view.name, end - view.ttl, end)

    def reader(self, features: str | list[str]) -> "OnlineReader":
        """A reader of online features: a service by name, or references `view:feature`."""
        from mlops_assets.stores.online_reader import OnlineReader

        with _quiet():
            return OnlineReader(self.feast, features)

    def at(
        self, view: FeatureView, key: Mapping[str, str], time: dt.datetime
    ) -> "tuple[dict[str, Any], Status, dt.datetime | None]":
        """The features of one entity as they were known at a time; None where there was none.

        Returns:
            Values by name, what they mean, and the event time of the newest row that was known,
            however old; None when there was no row.
        """
        import pandas as pd

        from mlops_assets.stores.online_reader import Status

        frame = pd.DataFrame([{**key, EVENT_TIME: time}])
        with _quiet():
            row = self.feast.get_historical_features(frame, references(view)).to_arrow()
        values = {feature.name: row[feature.name][0].as_py() for feature in view.features}
        newest = self._newest(view, key, time)
        if newest is None:
            return values, Status.NOT_FOUND, None
        expired = newest < time - view.ttl
        return values, Status.OUTSIDE_MAX_AGE if expired else Status.PRESENT, newest

    def _newest(
        self, view: FeatureView, key: Mapping[str, str], time: dt.datetime
    ) -> dt.datetime | None:
        """Event time of the newest row of an entity that was known at a time."""
        import duckdb

        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            lake.view(connection, "rows", self.view_folder(view))
            known = f"greatest({EVENT_TIME}, {CREATED_TIME}) <= ?"
            keyed = " AND ".join(f"{lake.quoted(name)}::VARCHAR = ?" for name in key)
            found = connection.execute(
                f"SELECT max({EVENT_TIME}) FROM rows WHERE {known} AND {keyed}",
                [time, *key.values()],
            ).fetchone()
        return found[0].astimezone(dt.UTC) if found and found[0] else None

    def _view(self, view: FeatureView, entities: dict[str, Any]) -> Any:
        import feast

        source = feast.FileSource(
            name=view.name,
            path=str(self.view_folder(view)),
            timestamp_field=EVENT_TIME,
            created_timestamp_column=CREATED_TIME,
        )
        keys = [Column(name=e.name, type=e.type) for e in view.entities]
        return feast.FeatureView(
            name=view.name,
            description=view.description,
            entities=[entities[e.name] for e in view.entities],
            ttl=view.ttl,
            schema=[_field(column) for column in (*keys, *view.features)],
            source=source,
        )


def references(view: FeatureView) -> list[str]:
    """All features of a view as Feast refers to them."""
    return [f"{view.name}:{feature.name}" for feature in view.features]


def service_digest(service: FeatureService, definitions: dict[str, str]) -> str:
    """Digest of what a service means.

    Args:
        service: the service.
        definitions: SQL of each of its views, by name.
    """
    views = {v.name: [definitions[v.name], str(v.ttl)] for v in service.views}
    requests = {
        r.name: [inspect.getsource(r.compute), [(c.name, c.type, c.nullable) for c in r.inputs]]
        for r in service.request
    }
    names = [feature.name for feature in service.features]
    return fingerprint.of_values(service.name, views, requests, names)


def _type(column: Column) -> Any:
    from feast import types

    kinds = {
        "string": types.String,
        "int": types.Int64,
        "float": types.Float64,
        "bool": types.Bool,
        "time": types.UnixTimestamp,
    }
    return kinds[column.type]


def _field(column: Column) -> "feast.Field":
    import feast

    return feast.Field(name=column.name, dtype=_type(column), description=column.description)


def _entity(name: str, description: str) -> "feast.Entity":
    import feast

    return feast.Entity(
        name=name,
        join_keys=[name],
        value_type=feast.ValueType.STRING,
        description=description,
    )


def _request(request: RequestFeatures) -> "feast.OnDemandFeatureView":
    import feast
    from feast.transformation.pandas_transformation import PandasTransformation

    from mlops_assets.stores.online_request import RequestFunction

    function = RequestFunction.of(request)
    inputs = feast.RequestSource(
        name=f"{request.name}_request", schema=[_field(column) for column in request.inputs]
    )
    with _quiet():
        return feast.OnDemandFeatureView(
            name=request.name,
            description=request.description,
            sources=[inputs],
            # Feast infers these fields too and wants them equal, so without a description.
            schema=[feast.Field(name=c.name, dtype=_type(c)) for c in request.features],
            feature_transformation=PandasTransformation(udf=function, udf_string=function.source),
            mode="pandas",
        )
