"""Dagster's SQLite event log with batches: a year of daily partitions is two transactions, not 700.

Dagster's own SQLite storage opens, writes, syncs and closes two databases per event, 20 ms each;
one run over a year of five daily tables has 1,830 of them. It offers storages to take batches
(`store_event_batch`, used when `DAGSTER_EVENT_BATCH_SIZE` is set), and its SQLite storage does
not. This one does, with the same rows, and keeps the database of all runs open; that of a run is
closed after each write, which is what the UI watches to show a run while it goes on.

A check is planned per day of a run, and evaluated once: Dagster leaves the rows of the days PLANNED
for ever. Here a check is planned once; when its evaluation names a day, the plan was of that day.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._serdes import ConfigurableClassData
from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

BATCH_SIZE_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
BATCH_SIZE = 2_000
SECONDS_TO_WAIT = 30
MOST_ENGINES = 20
"""A server reads the databases of many runs, and none of them for long."""


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Dagster's SQLite event log that stores a batch of events in one transaction per database."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "BatchedSqliteEventLogStorage":
        """Build the storage from `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; those about assets and checks in one transaction per run and database."""
        assets: dict[str, list[EventLogEntry]] = {}
        checks: dict[str, list[EventLogEntry]] = {}
        for event in events:
            if event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS:
                assets.setdefault(event.run_id, []).append(event)
            elif event.is_dagster_event and event.dagster_event_type in ASSET_CHECK_EVENTS:
                checks.setdefault(event.run_id, []).append(event)
            else:
                self.store_event(event)
        for run_id, batch in assets.items():
            self._store_asset_events(run_id, batch)
        for run_id, batch in checks.items():
            self._store_check_events(run_id, batch)

    def _store_asset_events(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        with self.run_connection(run_id) as run, self.index_connection() as index:
            ids = self._insert(run, index, events)
            self._store_asset_event_tags(index, events, ids)
            # Each event of an asset overwrites what the asset's row says: the last one stays.
            last = {
                (event.get_dagster_event().asset_key, event.dagster_event_type): (event, id_)
                for event, id_ in zip(events, ids, strict=True)
            }
            for event, id_ in last.values():
                self._store_asset_event(index, event, id_)

    def _store_check_events(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        with self.run_connection(run_id) as run, self.index_connection() as index:
            ids = self._insert(run, index, events)
        for event, id_ in zip(events, ids, strict=True):
            self.store_asset_check_event(event, id_)

    def _insert(
        self, run: "Connection", index: "Connection", events: Sequence[EventLogEntry]
    ) -> list[int]:
        """Insert events into a run's database and the index; return their ids in the index."""
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        run.execute(insert, rows)
        index.execute(insert, rows)
        # SQLite counts on from the largest id, and has one writer at a time.
        last = index.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar_one()
        return list(range(last - len(rows) + 1, last + 1))

    def store_asset_check_event(self, event: EventLogEntry, event_id: int | None) -> None:
        """Store what a check's event says; one that is planned for some days as planned once."""
        told = event.get_dagster_event()
        if event.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            planned = told.asset_check_planned_data
            once = AssetCheckEvaluationPlanned(
                asset_key=planned.asset_key, check_name=planned.check_name
            )
            event = event._replace(dagster_event=told._replace(event_specific_data=once))
        elif told.asset_check_evaluation_data.partition is not None:
            self._name_day_of_plan(event.run_id, told.asset_check_evaluation_data)
        super().store_asset_check_event(event, event_id)

    def _name_day_of_plan(self, run_id: str, evaluation: AssetCheckEvaluation) -> None:
        row = AssetCheckExecutionsTable.c
        plan = AssetCheckExecutionsTable.update().where(
            row.asset_key == evaluation.asset_key.to_string(),
            row.check_name == evaluation.check_name,
            row.run_id == run_id,
            row.partition.is_(None),
            row.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value,
        )
        with self.index_connection() as index:
            index.execute(plan.values(partition=evaluation.partition))

    @contextmanager
    def _connect(self, shard: str) -> "Iterator[Connection]":
        """A transaction on a run's database, closed after it; its engine knows the statements."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        with self._db_lock:
            if shard not in self._engines:
                if len(self._engines) >= MOST_ENGINES:
                    self._engines.clear()
                self._engines[shard] = create_engine(
                    self.conn_string_for_shard(shard),
                    poolclass=NullPool,
                    connect_args={"timeout": SECONDS_TO_WAIT},
                )
            engine = self._engines[shard]
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    @cached_property
    def _engines(self) -> "dict[str, Engine]":
        return {}

    def index_connection(self) -> "AbstractContextManager[Connection]":
        """A transaction on the database of all runs, whose connection stays open."""
        return self._index.begin()

    @cached_property
    def _index(self) -> "Engine":
        from sqlalchemy import create_engine

        engine = create_engine(
            self.conn_string_for_shard(INDEX_SHARD_NAME),
            connect_args={"timeout": SECONDS_TO_WAIT},
        )
        self._initdb(engine)  # another process may just be making it
        return engine

    def dispose(self) -> None:
        """Close the database of all runs."""
        if "_index" in self.__dict__:
            self._index.dispose()
        super().dispose()
