"""`AsofDuckDBOfflineStore`: Feast's DuckDB offline store with an exact and linear join.

Name it in a `feature_store.yaml`:

    offline_store:
      type: mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore
      as_known: true        # default: a row sees only values created by its time

Everything Feast's DuckDB store can do works as there; `get_historical_features` runs one ASOF join
per view instead of joining and ranking all pairs. Here belongs what Feast calls. The SQL is in
`asof_join`, reading in `asof_source`, writing in `asof_write`, the entity frame in `asof_entities`.

Without an entity frame, `start_date` and `end_date` ask for the state of the world at `end_date`:
one row per combination of keys that had a feature row in the range.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores import duckdb as feast_duckdb
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.utils import compute_non_entity_date_range

from mlops_assets.errors import DeclarationError
from mlops_assets.stores import asof_entities, asof_retrieval, asof_source, asof_write
from mlops_assets.stores.asof_join import quoted
from mlops_assets.stores.asof_retrieval import AsofRetrievalJob, Settings, ViewRequest
from mlops_assets.stores.asof_source import Scan, Window, microseconds


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The `offline_store` block of `feature_store.yaml`.

    Attributes:
        type: this store.
        as_known: leave out values created after an entity row's time. Feast's own switch,
            `filter_by_created_timestamp=True`, turns it on for one call.
        memory_limit: DuckDB's limit per retrieval, such as "4GB"; the rest spills to disk.
        threads: DuckDB's threads per retrieval; None for all cores.
    """

    type: str = "mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore"
    as_known: bool = True
    memory_limit: str | None = None
    threads: int | None = None


class AsofDuckDBOfflineStore(DuckDBOfflineStore):
    """Feast's DuckDB store with the ASOF join, safe writes and clear errors."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Join the features of all views to the entity rows, as they were at each row's time.

        The frame is read now and not kept: later changes to it do not reach the job. The join runs
        when the job is asked for its table.
        """
        feast_duckdb._validate_lance_feature_views(feature_views)
        settings = _settings(config)
        settings = replace(settings, as_known=settings.as_known or filter_by_created_timestamp)
        requests = [
            ViewRequest.of(view, feature_refs, full_feature_names) for view in feature_views
        ]
        if entity_df is None:
            rows, span = _rows_without_frame(
                requests, feature_views, start_date, end_date, settings
            )
        elif isinstance(entity_df, str):
            raise DeclarationError(
                "the entity frame is a string",
                expected="a pandas DataFrame; this store has no tables that SQL could name",
                do="run the query yourself and pass its rows",
            )
        else:
            rows = asof_entities.from_frame(entity_df)
            span = rows.first_and_last
        asof_retrieval.check_names(rows.table.column_names, requests)
        names = [name for name in rows.table.column_names if name != rows.time_column]
        return AsofRetrievalJob(
            lambda: asof_retrieval.join_views(rows, requests, settings),
            on_demand_views=OnDemandFeatureView.get_requested_odfvs(
                feature_refs, project, registry
            ),
            full_feature_names=full_feature_names,
            metadata=RetrievalMetadata(feature_refs, names, *span),
            config=config.offline_store,
            repo_path=settings.repo_path,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Return the newest row per key in a range of event time, both ends included."""
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        columns += [created_timestamp_column] if created_timestamp_column else []

        def query(scan: Scan, condition: str) -> str:
            event = scan.time(timestamp_field)
            created = scan.time(created_timestamp_column) if created_timestamp_column else event
            keys = ", ".join(quoted(name) for name in join_key_columns)
            partition = f"PARTITION BY {keys} " if keys else ""
            return (
                f"SELECT {_list(scan, columns, keys)} FROM {scan.relation} WHERE {condition} "
                f"QUALIFY row_number() OVER ({partition}"
                f"ORDER BY {event} DESC, coalesce({created}, {event}) DESC) = 1"
            )

        window = Window(microseconds(start_date), microseconds(end_date))
        return _pull(config, data_source, columns, timestamp_field, window, query)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return all rows in a range of event time, both ends included."""
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        columns += [created_timestamp_column] if created_timestamp_column else []

        def query(scan: Scan, condition: str) -> str:
            keys = ", ".join(join_key_columns)
            rows = f"SELECT {_list(scan, columns, keys)} FROM {scan.relation}"
            return f"{rows} WHERE {condition}" if start_date or end_date else rows

        window = Window(
            microseconds(start_date) if start_date else None,
            microseconds(end_date) if end_date else None,
        )
        return _pull(config, data_source, columns, timestamp_field, window, query)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the source of a view."""
        source = feature_view.batch_source
        path = asof_source.local_parquet(source, _settings(config).repo_path)
        if source is None or path is None:
            DuckDBOfflineStore.offline_write_batch(config, feature_view, table, progress)
            return
        asof_write.append(table, path, source.timestamp_field)
        if progress is not None:
            progress(table.num_rows)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return column names and Arrow types; of several files, those of the newest."""
        path = asof_source.local_parquet(data_source, _settings(config).repo_path)
        if path is None:
            return data_source.get_table_column_names_and_types(config=config)
        newest = asof_source.parquet_files(path)[-1]
        with asof_source.readable(f"source {newest}"):
            schema = pq.read_schema(newest)
        return [(field.name, str(field.type)) for field in schema]


def _settings(config: RepoConfig) -> Settings:
    store = config.offline_store
    return Settings(
        # A config made in code may have no repo_path: then paths start at the working folder.
        repo_path=str(config.repo_path or "."),
        as_known=store.as_known,
        memory_limit=store.memory_limit,
        threads=store.threads,
    )


def _rows_without_frame(
    requests: list[ViewRequest],
    views: list[FeatureView],
    start_date: datetime | None,
    end_date: datetime | None,
    settings: Settings,
) -> tuple[asof_entities.EntityRows, tuple[datetime | None, datetime | None]]:
    start, end = compute_non_entity_date_range(views, start_date=start_date, end_date=end_date)
    if start > end:
        raise DeclarationError(
            f"the range starts at {start} and ends at {end}",
            expected="start_date not after end_date",
            do="swap the two dates",
        )
    window = Window(microseconds(start), microseconds(end))
    return asof_retrieval.entities_in(requests, window, settings), (start, end)


def _list(scan: Scan, columns: list[str], keys: str) -> str:
    names = ", ".join(quoted(scan.column(name)) for name in dict.fromkeys(columns))
    # Feast looks for this column where a view has no entity.
    return names if keys else f"{names}, '{DUMMY_ENTITY_VAL}' AS {quoted(DUMMY_ENTITY_ID)}"


def _pull(
    config: RepoConfig,
    source: DataSource,
    columns: list[str],
    timestamp_field: str,
    window: Window,
    query: Callable[[Scan, str], str],
) -> RetrievalJob:
    settings = _settings(config)

    def evaluate() -> pa.Table:
        with asof_retrieval.connection(settings) as database:
            found = asof_source.scan(
                database, source, settings.repo_path, columns, timestamp_field, window
            )
            # Feast has already turned names into the source's own.
            scan = replace(found, renamed={})
            with asof_source.readable(scan.label):
                statement = query(scan, scan.within(timestamp_field, window))
                return database.sql(statement).to_arrow_table()

    return AsofRetrievalJob(
        evaluate,
        on_demand_views=[],
        full_feature_names=False,
        metadata=None,
        config=config.offline_store,
        repo_path=settings.repo_path,
    )
