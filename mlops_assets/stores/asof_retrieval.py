"""One retrieval: the job that Feast holds, and the joins it runs when asked for its table.

Here belongs the bridge from Feast's views to the plan in `asof_join`, view by view. What Feast
calls is in `asof_offline_store`.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.offline_stores import duckdb as feast_duckdb
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.stores import asof_join, asof_source, asof_write
from mlops_assets.stores.asof_entities import TIME_COLUMN, EntityRows, of_table
from mlops_assets.stores.asof_join import EntitySide, FeatureSide, quoted
from mlops_assets.stores.asof_source import Scan, Window

# Below this many entity rows a semi join on the keys costs less than it saves.
_FEW_ROWS = 100_000
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True)
class Settings:
    """How a retrieval runs; the fields of the store's config."""

    repo_path: str
    as_known: bool = True
    memory_limit: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class ViewRequest:
    """What to fetch from one view.

    Attributes:
        name: the view as errors name it.
        source: its batch source.
        keys: (column of the entity frame, column of the view) pairs.
        features: (name in the answer, feature) pairs.
        ttl: None for unlimited.
    """

    name: str
    source: DataSource
    keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]
    ttl: timedelta | None

    @classmethod
    def of(cls, view: FeatureView, feature_refs: Sequence[str], full_names: bool) -> "ViewRequest":
        """Read the request from a projected view and the references `view:feature`."""
        if view.batch_source is None:
            raise DeclarationError(
                f"view {view.name!r} has no batch source",
                expected="a source with the history of the features",
                do="give the view a batch source, or leave it out of historical retrieval",
            )
        projection = view.projection
        prefix = f"{projection.name_to_use()}:"
        wanted = dict.fromkeys(ref.split(":")[1] for ref in feature_refs if ref.startswith(prefix))
        base = projection.name_alias or view.name
        columns = [field.name for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
        return cls(
            name=projection.name_to_use(),
            source=view.batch_source,
            # A map may rename some keys of a view and leave the others as they are.
            keys=tuple((projection.join_key_map.get(name, name), name) for name in columns),
            features=tuple((f"{base}__{name}" if full_names else name, name) for name in wanted),
            ttl=view.ttl or None,
        )

    @property
    def columns(self) -> list[str]:
        """All columns of the view that the retrieval reads, by Feast's names."""
        times = [self.source.timestamp_field, self.source.created_timestamp_column]
        names = [key for _, key in self.keys] + [feature for _, feature in self.features]
        return [name for name in [*names, *times] if name]

    @property
    def ttl_us(self) -> int | None:
        """TTL in microseconds."""
        return None if self.ttl is None else self.ttl // timedelta(microseconds=1)


class AsofRetrievalJob(IbisRetrievalJob):
    """A retrieval that runs when its table is asked for, each time anew."""

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        *,
        on_demand_views: Sequence[OnDemandFeatureView],
        full_feature_names: bool,
        metadata: RetrievalMetadata | None,
        config: "object",
        repo_path: str,
    ) -> None:
        # Substrait views are ibis expressions over the whole table; all others are Feast's to run.
        self._substrait = [view for view in on_demand_views if view.mode == "substrait"]
        self._evaluate = evaluate
        super().__init__(
            table=None,
            on_demand_feature_views=[v for v in on_demand_views if v.mode != "substrait"],
            full_feature_names=full_feature_names,
            metadata=metadata,
            data_source_writer=feast_duckdb._write_data_source,
            staging_location=getattr(config, "staging_location", None),
            staging_location_endpoint_override=getattr(
                config, "staging_location_endpoint_override", None
            ),
            repo_path=repo_path,
        )

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        table = self._evaluate()
        for view in self._substrait:
            expression = view.transform_ibis(ibis.memtable(table), self.full_feature_names)
            table = expression.to_pyarrow()
        return table

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the answer, with its on-demand features, where `storage` says."""
        source = storage.to_data_source()
        path = asof_source.local_parquet(source, self.repo_path)
        if path is not None:
            asof_write.replace(self.to_arrow, path, overwrite=allow_overwrite)
        else:
            table = ibis.memtable(self.to_arrow())
            self.data_source_writer(table, source, self.repo_path, "overwrite", allow_overwrite)

    def to_remote_storage(self) -> list[str]:
        """Export the answer to the staging location."""
        self.table = ibis.memtable(self.to_arrow())
        return list(super().to_remote_storage())


@contextmanager
def connection(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB of its own, in memory, for one retrieval."""
    database = duckdb.connect()
    try:
        database.execute("SET TimeZone = 'UTC'")
        # Larger-than-memory work spills here; the default is a folder in the working directory.
        # One folder per retrieval: DuckDB's file names repeat between processes.
        spill = str(Path(tempfile.gettempdir()) / f"asof-{uuid.uuid4().hex}").replace("'", "''")
        database.execute(f"SET temp_directory = '{spill}'")
        if settings.memory_limit is not None:
            limit = settings.memory_limit.replace("'", "''")
            database.execute(f"SET memory_limit = '{limit}'")
        if settings.threads is not None:
            database.execute(f"SET threads = {settings.threads:d}")
        yield database
    finally:
        database.close()


def join_views(rows: EntityRows, requests: Sequence[ViewRequest], settings: Settings) -> pa.Table:
    """Return the entity rows with the features of all views, one view at a time."""
    table = rows.table
    with connection(settings) as database:
        # Every join ends in an ORDER BY; the order of reading does not matter.
        database.execute("SET preserve_insertion_order = false")
        for request in requests:
            features = _join_view(database, rows, request, settings)
            for name, column in zip(features.column_names, features.columns, strict=True):
                table = table.append_column(name, column)
    return table


def check_names(rows_columns: Sequence[str], requests: Sequence[ViewRequest]) -> None:
    """Refuse answers with two columns of one name."""
    taken = dict.fromkeys(rows_columns, "the entity frame")
    for request in requests:
        for name, _ in request.features:
            if name in taken:
                raise DeclarationError(
                    f"column {name!r} comes from {taken[name]} and from view {request.name!r}",
                    expected="one column per name",
                    do="ask with full_feature_names=True, or rename the column",
                )
            taken[name] = f"view {request.name!r}"


def entities_in(requests: Sequence[ViewRequest], window: Window, settings: Settings) -> EntityRows:
    """Return one row per combination of keys seen in the window, at the window's end."""
    selects = []
    with connection(settings) as database:
        for request in requests:
            scan = _scan(database, request, settings, window)
            condition = scan.within(request.source.timestamp_field, window)
            created = request.source.created_timestamp_column
            if settings.as_known and created:
                known = f"coalesce(epoch_us({scan.time(created)}) <= {window.until}, true)"
                condition += f" AND {known}"
            keys = [f"{quoted(scan.column(key))} AS {quoted(name)}" for name, key in request.keys]
            if keys:
                selects.append(
                    f"SELECT DISTINCT {', '.join(keys)} FROM {scan.relation} WHERE {condition}"
                )
        moment = f"make_timestamptz({window.until}::BIGINT) AS {quoted(TIME_COLUMN)}"
        seen = f"({' UNION BY NAME '.join(selects)})" if selects else "(SELECT 1 AS only)"
        star = "*, " if selects else ""
        with asof_source.readable(f"views {', '.join(request.name for request in requests)}"):
            table = database.sql(f"SELECT {star}{moment} FROM {seen} ORDER BY ALL").to_arrow_table()
    return of_table(table, TIME_COLUMN)


def _scan(
    database: duckdb.DuckDBPyConnection, request: ViewRequest, settings: Settings, window: Window
) -> Scan:
    event = request.source.timestamp_field
    return asof_source.scan(
        database, request.source, settings.repo_path, request.columns, event, window
    )


def _join_view(
    database: duckdb.DuckDBPyConnection, rows: EntityRows, request: ViewRequest, settings: Settings
) -> pa.Table:
    window = _window(rows, request.ttl_us)
    scan = _scan(database, request, settings, window or Window(None, None))
    entities = _register_entities(database, rows, request, scan)
    side = _feature_side(scan, request, window)
    with asof_source.readable(f"view {request.name!r}: {scan.label}"):
        if side.created is None:
            return database.sql(asof_join.plain(side, entities)).to_arrow_table()
        # If every row was known by its event time the cutoff changes nothing, and the plain join
        # is faster. Its own last column still proves it, should the source change in between.
        if settings.as_known and database.execute(asof_join.late_rows(side)).fetchall():
            return database.sql(asof_join.as_known(side, entities)).to_arrow_table()
        answer = database.sql(asof_join.plain(side, entities)).to_arrow_table()
        late = answer.column(answer.num_columns - 1)
        if settings.as_known and pc.any(late).as_py():
            return database.sql(asof_join.as_known(side, entities)).to_arrow_table()
        return answer.remove_column(answer.num_columns - 1)


def _window(rows: EntityRows, ttl: int | None) -> Window | None:
    span = rows.span
    if span is None:
        return None
    first, last = span
    since = None if ttl is None else first - ttl
    # Before the years that DuckDB's timestamps can name there is nothing to cut off.
    return Window(since if since is not None and since > -(2**55) else None, last)


def _feature_side(scan: Scan, request: ViewRequest, window: Window | None) -> FeatureSide:
    event = request.source.timestamp_field
    created = request.source.created_timestamp_column
    return FeatureSide(
        relation=scan.relation,
        condition="false" if window is None else scan.within(event, window),
        keys=tuple(quoted(scan.column(key)) for _, key in request.keys),
        event=scan.time(event),
        created=scan.time(created) if created else None,
        features=tuple((name, quoted(scan.column(source))) for name, source in request.features),
        ttl=request.ttl_us,
    )


def _register_entities(
    database: duckdb.DuckDBPyConnection, rows: EntityRows, request: ViewRequest, scan: Scan
) -> EntitySide:
    columns = {"row": pa.array(np.arange(rows.table.num_rows)), "time": rows.times}
    casts = []
    for i, (name, key) in enumerate(request.keys):
        theirs = scan.types[scan.column(key)]
        column = rows.key(name, request.name)
        if pa.types.is_null(column.type):
            casts.append(f"CAST(NULL AS {theirs}) AS k{i}")
            continue
        columns[f"k{i}"] = _like(column, theirs)
        casts.append(f"k{i}")
    database.register("entity_rows", pa.table(columns))
    described = database.execute("DESCRIBE SELECT * FROM entity_rows").fetchall()
    ours = {row[0]: row[1] for row in described}
    for i, (name, key) in enumerate(request.keys):
        theirs = scan.types[scan.column(key)]
        if f"k{i}" in ours and _kind(ours[f"k{i}"]) != _kind(theirs):
            raise ContractError(
                f"join key {name!r} of the entity frame is {ours[f'k{i}']}",
                expected=f"{theirs}, as column {key!r} of view {request.name!r}",
                do=f"convert the column {name!r} before asking",
            )
    relation = f"(SELECT {', '.join(['row', 'time', *casts])} FROM entity_rows)"
    return EntitySide(relation, few=rows.table.num_rows <= _FEW_ROWS)


def _like(column: pa.Array, duckdb_type: str) -> pa.Array:
    # pandas turns whole numbers with gaps into floats; as numbers they match exactly.
    if pa.types.is_floating(column.type) and duckdb_type.lstrip("U") in _NUMBERS[:5]:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    return column


def _kind(duckdb_type: str) -> str:
    base = duckdb_type.split("(")[0].lstrip("U")
    if base in _NUMBERS:
        return "number"
    return "time" if base.startswith(("TIMESTAMP", "DATE")) else base
