"""`NewestOnlineStore`: a Feast online store that keeps the newest row and minds its age.

Name it in a `feature_store.yaml`:

    online_store:
      type: mlops_assets.stores.online_store.NewestOnlineStore
      path: online.db                                # SQLite; or Redis:
      connection_string: redis://127.0.0.1:6379/0

Two things differ from Feast's own stores. A row never overwrites a newer one (by event time, then
created time), in whatever order rows arrive. And a value older than its view's TTL is answered as
missing, with the status `OUTSIDE_MAX_AGE`.

Where the TTL is enforced: Feast's `online_read` returns a time and values and has no place for a
status, and Feast marks every value it gets as `PRESENT`. So `online_read` leaves out the values of
an expired row and keeps its time (Feast then says `NOT_FOUND`), and the step one above it,
`_read_features_per_fv`, which Feast offers to stores that read many views at once, writes the
exact status. All of `get_online_features` goes through the latter.

Here belongs what Feast calls. Loading from the lake is in `online_materialize`, reading without
Feast's work per call in `online_reader`; vector search is not offered.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from feast import utils
from feast.entity import Entity
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field

from mlops_assets.errors import ContractError
from mlops_assets.stores import online_codec, online_keys
from mlops_assets.stores.asof_source import EPOCH, microseconds
from mlops_assets.stores.online_backend import Backend, NewRow, Stored, open_backend, table_name

MICROSECOND = timedelta(microseconds=1)
_NO_ENTITY = online_keys.of_protos({DUMMY_ENTITY_ID: Value(string_val=DUMMY_ENTITY_VAL)})
_OUTSIDE_MAX_AGE = FieldStatus.OUTSIDE_MAX_AGE

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""What Feast writes: key, values, event time, created time."""
Answer = tuple[datetime | None, dict[str, Value] | None]
"""What Feast reads: event time and values."""


class NewestOnlineStoreConfig(FeastConfigBaseModel):
    """The `online_store` block of `feature_store.yaml`.

    Attributes:
        type: this store.
        path: the SQLite file; a relative path starts at the repository.
        connection_string: Redis instead of SQLite: `redis://host:port/db`, or Feast's form
            `host:port,db=0,password=...`.
        key_prefix: what the names of all keys in Redis begin with.
        as_of: answer as if this were the present, for past data; None for the real one.
    """

    type: str = "mlops_assets.stores.online_store.NewestOnlineStore"
    path: str = "online.db"
    connection_string: str | None = Field(default=None, repr=False)
    key_prefix: str = "mlops"
    as_of: datetime | None = None


class NewestOnlineStore(OnlineStore):
    """Newest row per key, TTL at reading, in SQLite or Redis."""

    _versioned_read_supported = True
    _backend: Backend | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both, in a thread."""
        return SupportedAsyncMethods(read=True, write=True)

    def backend(self, config: RepoConfig) -> Backend:
        """Where the rows are."""
        if self._backend is None:
            settings = config.online_store
            path = Path(config.repo_path or ".") / settings.path
            self._backend = open_backend(path, settings.connection_string, settings.key_prefix)
        return self._backend

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows, except where a newer row is there."""
        for names, rows in _by_features(data).items():
            declared = dict(online_codec.declared(table.features))
            columns, fields = [], []
            for name in names:
                values = [row[1][name] for row in rows]
                kind = online_codec.fitting_kind(declared.get(name, online_codec.WHOLE), values)
                columns.append(online_codec.from_values(values, kind))
                fields.append((name, kind))
            layout = online_codec.layout_of(tuple(fields))
            packed = layout.pack(columns, len(rows))
            new = [_new_row(row, bytes_) for row, bytes_ in zip(rows, packed, strict=True)]
            self.backend(config).write(stored_name(config, table), layout, new)
            if progress is not None:
                progress(len(rows))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Answer]:
        """Return event time and values per key; without values when expired or never written."""
        keys = [_key_of(entity_key) for entity_key in entity_keys]
        wanted = list(dict.fromkeys(key for key in keys if key is not None))
        backend = self.backend(config)
        name = stored_name(config, table)
        [rows] = backend.read([(name, wanted)])
        oldest = oldest_event(ttl_of(table), present(config))
        found = {
            key: _answer(backend, name, row, requested_features, oldest)
            for key, row in rows.items()
        }
        return [found.get(key, (None, None)) if key is not None else (None, None) for key in keys]

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Answer]:
        """Read in a thread."""
        return await asyncio.to_thread(
            self.online_read, config, table, entity_keys, requested_features
        )

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Read all views at once and fill Feast's response, with the status of expired values."""
        asked = [
            _Asked.of(view, features, entity_name_to_join_key_map, join_key_values)
            for view, features in grouped_refs
        ]
        backend = self.backend(config)
        names = [stored_name(config, one.view) for one in asked]
        found = backend.read(
            [(name, list(one.rows)) for name, one in zip(names, asked, strict=True)]
        )
        now = present(config)
        for name, one, rows in zip(names, asked, found, strict=True):
            oldest = oldest_event(ttl_of(one.view), now)
            answers = {
                key: _answer(backend, name, row, one.features, oldest) for key, row in rows.items()
            }
            before = len(online_features_response.results)
            utils._populate_response_from_feature_data(
                one.features,
                [answers.get(key, (None, None)) for key in one.rows],
                list(one.rows.values()),
                online_features_response,
                full_feature_names,
                one.view,
                one.count,
                include_feature_view_version_metadata,
            )
            for key, (_, values) in answers.items():
                if values is not None:
                    continue
                for vector in online_features_response.results[before:]:
                    for place in one.rows[key]:
                        vector.statuses[place] = _OUTSIDE_MAX_AGE

    async def _read_features_per_fv_async(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(self._read_features_per_fv, *args, **kwargs)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make room for views and remove those that are gone."""
        backend = self.backend(config)
        backend.create([stored_name(config, view) for view in tables_to_keep])
        backend.drop([stored_name(config, view) for view in tables_to_delete])

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Remove the views' rows; a SQLite file stays, for others may have it open."""
        backend = self.backend(config)
        backend.drop([stored_name(config, view) for view in tables])
        backend.close()


def stored_name(config: RepoConfig, view: FeatureView) -> str:
    """The table in which a view's rows are kept."""
    versioning = config.registry.enable_online_feature_view_versioning
    return table_name(config.project, compute_versioned_name(view, versioning))


def present(config: RepoConfig) -> int:
    """The moment as of which ages are reckoned, in microseconds."""
    as_of = config.online_store.as_of
    return time.time_ns() // 1_000 if as_of is None else microseconds(as_of)


def ttl_of(view: FeatureView) -> timedelta | None:
    """The TTL of a view; an on-demand view that is written online has none."""
    return getattr(view, "ttl", None)


def oldest_event(ttl: timedelta | None, now: int) -> int | None:
    """The oldest event time that still holds, inclusive; None for any."""
    return now - ttl // MICROSECOND if ttl else None


@dataclass(frozen=True)
class _Asked:
    """What a request wants of one view.

    Attributes:
        view: the view.
        features: names of the features.
        rows: packed key to the places of the rows that ask for it.
        count: number of rows.
    """

    view: FeatureView
    features: list[str]
    rows: dict[bytes, list[int]]
    count: int

    @classmethod
    def of(
        cls,
        view: FeatureView,
        features: list[str],
        join_keys: dict[str, str],
        given: dict[str, list[Value]],
    ) -> "_Asked":
        values = utils._get_table_entity_values(view, join_keys, given)
        wanted = [join_keys[name] for name in view.entities]
        renamed = view.projection.join_key_map
        if missing := sorted(renamed.get(name, name) for name in wanted if name not in values):
            raise missing_keys(missing, view.projection.name_to_use(), given)
        names = list(values)
        columns = list(values.values())
        rows: dict[bytes, list[int]] = {}
        # A row with a null key stays without an answer: nothing is known of nobody.
        for place, row in enumerate(zip(*columns, strict=True)):
            key = online_keys.of_protos(dict(zip(names, row, strict=True)))
            if key is not None:
                rows.setdefault(key, []).append(place)
        return cls(view, features, rows, len(columns[0]))


def missing_keys(missing: Sequence[str], view: str, given: Mapping[str, Any]) -> ContractError:
    """The error for entity rows that lack join keys."""
    return ContractError(
        f"the entity rows lack the join key {', '.join(missing)} of the view {view!r}; "
        f"they have {', '.join(given) or 'none'}",
        expected="all join keys of every requested view",
        do="add the keys to the entity rows, or ask for fewer views",
    )


def _by_features(data: Sequence[FeastRow]) -> dict[tuple[str, ...], list[FeastRow]]:
    groups: dict[tuple[str, ...], list[FeastRow]] = {}
    for row in data:
        groups.setdefault(tuple(row[1]), []).append(row)
    return groups


def _new_row(row: FeastRow, packed: bytes) -> NewRow:
    entity_key, _, event_time, created_time = row
    key = _key_of(entity_key)
    if key is None:
        raise ContractError(
            "a row has no value in one of its join keys",
            expected="a value in every join key",
            do="drop these rows: nobody could ask for them",
        )
    event = online_codec.microseconds_of(event_time)
    return key, event, online_codec.microseconds_of(created_time, missing=event), packed


def _key_of(entity_key: EntityKey) -> bytes | None:
    if not entity_key.join_keys:
        # Feast pushes a view without entities under no key at all, and reads it under this one.
        return _NO_ENTITY
    return online_keys.of_protos(
        dict(zip(entity_key.join_keys, entity_key.entity_values, strict=True))
    )


def _answer(
    backend: Backend, table: str, row: Stored, features: Sequence[str] | None, oldest: int | None
) -> Answer:
    event, packed = row
    moment = EPOCH + MICROSECOND * event
    if oldest is not None and event < oldest:
        return moment, None
    layout = backend.layout(table, packed[: online_codec.MARK_BYTES])
    values = layout.unpack(packed)
    wanted = [name for name, _ in layout.fields] if features is None else features
    places = layout.places(wanted)
    return moment, {
        name: online_codec.to_value(layout.kinds[place], values[place])
        for name, place in zip(wanted, places, strict=True)
        if place is not None
    }
