"""The online store's rows in a SQLite file.

One table per view, one row per key. The file is in WAL mode: readers never wait for a writer, and
a writer that is killed leaves what it committed before. Several processes may read and write.
Here belongs SQL and nothing of features; `online_redis` has the same functions for Redis.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from mlops_assets.errors import DataError
from mlops_assets.stores.online_backend import NewRow, Stored
from mlops_assets.stores.online_codec import Layout

WAIT_SECONDS = 30.0
_KEYS_PER_QUERY = 10_000


class SqliteBackend:
    """Rows in one SQLite file.

    Args:
        path: the file; made on first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Connections belong to one thread, and must not cross a fork.
        self._local = threading.local()
        self._layouts: dict[bytes, Layout] = {}

    def create(self, tables: Sequence[str]) -> None:
        """Make room for tables; those that exist stay as they are."""
        with self._transaction() as connection:
            for table in tables:
                connection.execute(_create(table))

    def drop(self, tables: Sequence[str]) -> None:
        """Remove tables and their rows; those that do not exist are no error."""
        if not self.path.exists():
            return
        with self._transaction() as connection:
            for table in tables:
                connection.execute(f"DROP TABLE IF EXISTS {_quoted(table)}")
                connection.execute("DELETE FROM layouts WHERE name = ?", (table,))

    def write(self, table: str, layout: Layout, rows: Sequence[NewRow]) -> None:
        """Write rows of one layout in one transaction, except where a newer row is there."""
        # In the order of the keys neighbours share a page; rows of one key keep their order.
        ordered = sorted(rows, key=itemgetter(0))
        with self._transaction() as connection:
            connection.execute(_create(table))
            connection.execute(
                "INSERT OR IGNORE INTO layouts VALUES (?, ?, ?)", (table, layout.mark, layout.text)
            )
            connection.executemany(_upsert(table), ordered)

    def read(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[dict[bytes, Stored]]:
        """Return, for each (table, keys), the rows that are there, as of one moment."""
        found: list[dict[bytes, Stored]] = [{} for _ in wanted]
        if sum(len(keys) for _, keys in wanted) > _KEYS_PER_QUERY:
            for rows, (table, keys) in zip(found, wanted, strict=True):
                for at in range(0, len(keys), _KEYS_PER_QUERY):
                    rows.update(*self.read([(table, keys[at : at + _KEYS_PER_QUERY])]))
            return found
        query = _select(tuple([(table, len(keys)) for table, keys in wanted]))
        arguments = [key for _, keys in wanted for key in keys]
        with self._explained():
            connection = self._connection()
            try:
                rows_found = connection.execute(query, arguments).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return self._read_existing(connection, wanted)
        for place, key, event, packed in rows_found:
            found[place][key] = (event, packed)
        return found

    def layout(self, table: str, mark: bytes) -> Layout:
        """Return the layout that the mark of a table's row names."""
        known = self._layouts.get(mark)
        if known is None:
            with self._explained():
                query = "SELECT fields FROM layouts WHERE name = ? AND mark = ?"
                row = self._connection().execute(query, (table, mark)).fetchone()
            if row is None:
                raise DataError(
                    f"{self.path} does not know the layout {mark.hex()} of a row in {table!r}",
                    expected="every layout in the table of layouts",
                    do="remove the file and materialize again",
                )
            known = self._layouts[mark] = Layout.of_text(row[0])
        return known

    def close(self) -> None:
        """Close this thread's connection; the next call opens a new one."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def _read_existing(
        self, connection: sqlite3.Connection, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> list[dict[bytes, Stored]]:
        # A view that nobody has applied or written yet: it has no rows, the others may have.
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = {name for (name,) in connection.execute(query)}
        return [self.read([(table, keys)])[0] if table in tables else {} for table, keys in wanted]

    def _connection(self) -> sqlite3.Connection:
        local = self._local
        if getattr(local, "connection", None) is None or local.process != os.getpid():
            local.connection, local.process = self._open(), os.getpid()
        return local.connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Autocommit: we open transactions ourselves, and only for writing.
        connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # Safe against a killed process; after a power cut the last writes may be missing.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS layouts "
                    "(name TEXT, mark BLOB, fields TEXT, PRIMARY KEY (name, mark))"
                )
            except sqlite3.OperationalError as error:
                # Two processes that turn on WAL at once: SQLite refuses one without waiting.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.02)
            else:
                return connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            connection = self._connection()
            # The write lock from the start: one that reads first and writes later may be refused.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise DataError(
                f"the online store {self.path} cannot be used: {error}",
                expected=f"a SQLite file that can be written within {WAIT_SECONDS:g} seconds",
                do="look for a process that holds a write lock; a damaged file can be removed "
                "and materialized again",
            ) from error


def _quoted(table: str) -> str:
    return f'"{table}"'


def _create(table: str) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {_quoted(table)} (key BLOB PRIMARY KEY, "
        "event INTEGER NOT NULL, created INTEGER NOT NULL, packed BLOB NOT NULL) WITHOUT ROWID"
    )


def _upsert(table: str) -> str:
    # Rows that change nothing are not written: materializing a window again costs no page.
    return (
        f"INSERT INTO {_quoted(table)} VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "event = excluded.event, created = excluded.created, packed = excluded.packed "
        "WHERE (excluded.event, excluded.created) > (event, created) "
        "OR (excluded.event, excluded.created) = (event, created) AND excluded.packed <> packed"
    )


@lru_cache(maxsize=256)
def _select(wanted: tuple[tuple[str, int], ...]) -> str:
    # One statement for all views: one round through Python, and one snapshot.
    parts = []
    for place, (table, count) in enumerate(wanted):
        marks = ", ".join("?" * count)
        parts.append(
            f"SELECT {place}, key, event, packed FROM {_quoted(table)} WHERE key IN ({marks})"
        )
    return " UNION ALL ".join(parts)
