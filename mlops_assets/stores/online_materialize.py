"""Loading a feature view from the lake into the online store.

Feast's own way reads every row of the window, builds a protobuf object per value and writes row by
row. Here DuckDB picks the newest row per key while it reads the Parquet files, the rows arrive in
Arrow batches, are packed a column at a time, and are written by the batch. Memory holds the newest
rows of one pass and one batch; a window with many rows is read in several passes, each over a part
of the keys.

Every batch is a transaction of its own and every write is conditional, so a run that was killed is
repeated from the start without harm, and rows that are there already are not written again.

Only the way from a view's source to the backend belongs here.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import feast
import pyarrow as pa
from feast.errors import FeatureViewNotFoundException
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.utils import make_tzaware
from feast.value_type import ValueType

from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.stores import asof_retrieval, asof_source, online_codec
from mlops_assets.stores.asof_join import quoted
from mlops_assets.stores.asof_retrieval import Settings
from mlops_assets.stores.asof_source import Scan, Window, microseconds
from mlops_assets.stores.online_keys import Keys
from mlops_assets.stores.online_store import NewestOnlineStore, stored_name

# Names that no feature has.
EVENT, CREATED, _ROW = "event time", "created time", '"newest row"'

# DuckDB holds one row per key while it reads: 2M keys with 8 features took 430 MB, and so did 6M.
ROWS_PER_PASS = 2_000_000
ROWS_PER_BATCH = 20_000


@dataclass(frozen=True)
class Materialized:
    """What was loaded.

    Attributes:
        view: the feature view.
        source_rows: rows of the window that have a key.
        keys: distinct keys among them; so many rows were offered to the store.
        seconds: how long it took.
    """

    view: str
    source_rows: int
    keys: int
    seconds: float


def materialize(
    store: feast.FeatureStore,
    view: str,
    start: datetime,
    end: datetime,
    *,
    rows_per_pass: int = ROWS_PER_PASS,
    record: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> Materialized:
    """Load the newest row per key of a window of event time, both ends included.

    Rows with a null key are left out: nobody could ask for them.

    Args:
        store: a feature store whose online store is a `NewestOnlineStore`.
        view: name of the feature view.
        start: first event time.
        end: last event time.
        rows_per_pass: source rows per pass over the files; fewer rows need less memory.
        record: note the window in Feast's registry, where `materialize_incremental` looks.
        progress: called with the number of rows after each batch.
    """
    started = time.perf_counter()
    online = newest_store(store)
    found = _view(store, view)
    if microseconds(start) > microseconds(end):
        raise DeclarationError(
            f"the window starts at {start} and ends at {end}",
            expected="start not after end",
            do="swap the two times",
        )
    load = _Load.of(found)
    target, backend = stored_name(store.config, found), online.backend(store.config)
    layout = online_codec.layout_of(online_codec.declared(found.features))
    keys = 0
    window = Window(microseconds(start), microseconds(end))
    with load.rows(store.config, window, rows_per_pass) as (source_rows, batches):
        for batch in batches:
            columns = [
                online_codec.from_arrow(name, batch.column(name), value_type)
                for name, value_type in load.features.items()
            ]
            packed = layout.pack(columns, batch.num_rows)
            key_columns = [batch.column(name) for name in load.keys.names]
            times = [batch.column(name).to_pylist() for name in (EVENT, CREATED)]
            new = zip(load.keys.of_arrow(key_columns), *times, packed, strict=True)
            backend.write(target, layout, list(new))
            keys += batch.num_rows
            if progress is not None:
                progress(batch.num_rows)
    if record:
        # As Feast's `materialize` does at its end.
        store.registry.apply_materialization(
            found, store.project, make_tzaware(start), make_tzaware(end)
        )
    return Materialized(view, source_rows, keys, time.perf_counter() - started)


def newest_store(store: feast.FeatureStore) -> NewestOnlineStore:
    """The online store of a feature store.

    Raises:
        DeclarationError: it is another one.
    """
    online = getattr(store._get_provider(), "online_store", None)
    if not isinstance(online, NewestOnlineStore):
        raise DeclarationError(
            f"the online store is {type(online).__name__}",
            expected="NewestOnlineStore",
            do="set online_store.type to mlops_assets.stores.online_store.NewestOnlineStore",
        )
    return online


@dataclass(frozen=True)
class _Load:
    """One view, as it is read from its source."""

    view: FeatureView
    keys: Keys
    features: Mapping[str, ValueType]

    @classmethod
    def of(cls, view: FeatureView) -> "_Load":
        keys = {field.name: field.dtype.to_value_type() for field in view.entity_columns}
        features = {field.name: field.dtype.to_value_type() for field in view.features}
        return cls(view, Keys(keys), features)

    @contextmanager
    def rows(
        self, config: Any, window: Window, rows_per_pass: int
    ) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """Count the window's rows and stream the newest per key."""
        source = self.view.batch_source
        assert source is not None  # noqa: S101 - `_view` has looked
        offline = config.offline_store
        settings = Settings(
            repo_path=str(config.repo_path or "."),
            memory_limit=getattr(offline, "memory_limit", None),
            threads=getattr(offline, "threads", None),
        )
        event, created = source.timestamp_field, source.created_timestamp_column
        columns = [*self._stored_keys, *self.features, event, *([created] if created else [])]
        with asof_retrieval.connection(settings) as database:
            # The order of rows does not matter, and keeping it takes memory.
            database.execute("SET preserve_insertion_order = false")
            scan = asof_source.scan(database, source, settings.repo_path, columns, event, window)
            with asof_source.readable(scan.label):
                condition = " AND ".join(
                    [scan.within(event, window)]
                    + [f"{quoted(scan.column(key))} IS NOT NULL" for key in self._stored_keys]
                )
                query = f"SELECT count(*) FROM {scan.relation} WHERE {condition}"
                [(count,)] = database.execute(query).fetchall()
                passes = max(1, -(-count // rows_per_pass))
                yield count, self._stream(database, scan, condition, passes)

    def _stream(
        self, database: duckdb.DuckDBPyConnection, scan: Scan, condition: str, passes: int
    ) -> Iterator[pa.RecordBatch]:
        keys = [quoted(scan.column(key)) for key in self._stored_keys]
        parts = [condition]
        if keys and passes > 1:
            share = f"hash({', '.join(keys)}) % {passes}"
            parts = [f"{condition} AND {share} = {number}" for number in range(passes)]
        for part in parts:
            reader = database.sql(self._newest(scan, keys, part)).to_arrow_reader(ROWS_PER_BATCH)
            yield from (batch for batch in reader if batch.num_rows)

    def _newest(self, scan: Scan, keys: Sequence[str], condition: str) -> str:
        source = self.view.batch_source
        assert source is not None  # noqa: S101 - `_view` has looked
        moment = quoted(scan.column(source.timestamp_field))
        event = f"epoch_us({scan.time(source.timestamp_field)})"
        created = event
        if source.created_timestamp_column:
            # A row without created time was known at its event time.
            created = f"coalesce(epoch_us({scan.time(source.created_timestamp_column)}), {event})"
        values = {name: quoted(scan.column(name)) for name in self.features}
        values |= {EVENT: event, CREATED: created}
        row = ", ".join(f"{quoted(name)} := {value}" for name, value in values.items())
        named = [
            f"{key} AS {quoted(name)}" for key, name in zip(keys, self._stored_keys, strict=True)
        ] or [f"'{DUMMY_ENTITY_VAL}' AS {quoted(DUMMY_ENTITY_ID)}"]
        grouped = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
        # First the newest time per key, from two columns; DuckDB then skips the row groups that
        # cannot hold it, and compares created times only among rows that are left.
        newest = (
            f"SELECT {', '.join([*keys, f'max({moment}) AS {moment}'])} FROM {scan.relation} "
            f"WHERE {condition} {grouped}"
        )
        # In the order of the keys, a store like SQLite appends instead of splitting its pages.
        order = ", ".join(str(place + 1) for place in range(len(named)))
        return (
            f"SELECT * EXCLUDE ({_ROW}), unnest({_ROW}) FROM (SELECT {', '.join(named)}, "
            f"arg_max(struct_pack({row}), {created}) AS {_ROW} FROM {scan.relation} "
            f"JOIN ({newest}) USING ({', '.join([*keys, moment])}) WHERE {condition} {grouped}) "
            f"ORDER BY {order}"
        )

    @property
    def _stored_keys(self) -> list[str]:
        return [name for name in self.keys.names if name != DUMMY_ENTITY_ID]


def _view(store: feast.FeatureStore, name: str) -> FeatureView:
    try:
        view = store.registry.get_any_feature_view(name, store.project)
    except FeatureViewNotFoundException as missing:
        known = [one.name for one in store.list_feature_views()]
        raise UnknownNameError.of("feature view", name, known) from missing
    computed = [
        what for what in ("aggregations", "feature_transformation") if getattr(view, what, None)
    ]
    if not isinstance(view, FeatureView) or view.batch_source is None or computed:
        raise DeclarationError(
            f"the view {name!r} has {' and '.join(computed) or 'no table of its own'}",
            expected="a view whose source holds its features as they are",
            do="load this view with Feast's own `materialize`",
        )
    if not view.online:
        raise DeclarationError(
            f"the view {name!r} is declared with online=False",
            expected="a view that is served online",
            do="declare it with online=True, or leave it out",
        )
    return view
