"""The database of the ledger: connections, transactions and locks, in SQLite or Postgres.

Nothing of entries or aliases: what is read and written is in `ledger`. Passwords in an address
are never shown.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from mlops_assets.errors import DeclarationError, LedgerError
from mlops_assets.stores import ledger_schema

WAIT_SECONDS = 30
"""How long to wait for a lock that another process holds."""

_LOCKS = 0x6D6C6F_00000000
"""Where our keys begin among the advisory locks of a Postgres database."""


class LedgerDatabase:
    """A database that holds a ledger; shared by threads and processes.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://...`; the tables are made on first use.

    Raises:
        DeclarationError: when the address is neither of these.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._engine: Engine | None = None
        self._owner = 0
        self._opening = threading.Lock()
        self._inherited: list[Engine] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address without what is secret: a password may stand in the options too."""
        return self._url.set(query={}).render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger lies in a file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """The engine, with all tables up to date."""
        with self._opening:
            if self._engine is None or self._owner != os.getpid():
                if self._engine is not None:
                    # Connections must not cross a fork, nor be closed by the child: kept unused.
                    self._inherited.append(self._engine)
                self._engine, self._owner = self._ready(), os.getpid()
            return self._engine

    @contextlib.contextmanager
    def reading(self, *, one_moment: bool = False) -> Iterator[Connection]:
        """A transaction that waits for nobody.

        Args:
            one_moment: whether all its statements see the same moment; SQLite's always do.
        """
        with self._explained(), self.engine.connect() as connection:
            if one_moment and not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes all or nothing."""
        with self._explained(), _writing(self.engine) as connection:
            yield connection

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Hold a lock that is gone when the process dies, whatever it was doing.

        Other transactions, also of the holder, are not held up. In SQLite there is one lock for
        all names.

        Args:
            name: what to lock.

        Raises:
            LedgerError: when another process does not let go of it in time.
        """
        engine = self.engine
        if self.is_sqlite:
            with self._explained():
                lock = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT, 0o640)
            try:
                self._wait_for(lock)
                yield
            finally:
                # A child that was forked meanwhile has the file open too: closing is not enough.
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)
            return
        with contextlib.ExitStack() as held:
            with self._explained():
                connection = held.enter_context(engine.connect())
                connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
                _lock(connection, name)
            yield

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        if self._engine is not None and self._owner == os.getpid():
            self._engine.dispose()

    @property
    def _file(self) -> Path:
        return Path(str(self._url.database))

    def _ready(self) -> Engine:
        """A new engine, after the tables were made or brought up to date."""
        options: dict[str, Any] = {"timeout": WAIT_SECONDS} if self.is_sqlite else {}
        if not (self.is_sqlite or "connect_timeout" in self._url.query):
            options["connect_timeout"] = WAIT_SECONDS
        with self._explained():
            if self.is_sqlite:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                self._url,
                connect_args=options,
                hide_parameters=True,
                max_overflow=-1,  # those who wait for a lock must not use up the connections
                pool_pre_ping=not self.is_sqlite,
            )
            if self.is_sqlite:
                event.listen(engine, "connect", _prepare_sqlite)
                event.listen(engine, "begin", _begin_sqlite)
            try:
                self._bring_up_to_date(engine)
            except BaseException:
                engine.dispose()
                raise
        return engine

    def _bring_up_to_date(self, engine: Engine) -> None:
        with engine.connect() as connection:
            if ledger_schema.is_current(connection):
                return
        with _writing(engine) as connection:
            if not self.is_sqlite:
                _lock(connection, "schema")
            ledger_schema.migrate(connection)

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._unusable("another process holds its lock") from None
                time.sleep(0.005)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            why = error.orig if isinstance(error, DBAPIError) else error
            # The error below would show statements with all that they carry.
            raise self._unusable(str(why).strip()) from None

    def _unusable(self, why: str) -> LedgerError:
        return LedgerError(
            f"the ledger {self.shown} cannot be used: {why}",
            expected=f"a database that answers, and locks that are free within {WAIT_SECONDS} "
            "seconds",
            do="look for a process that hangs, and whether the database is up and may be written",
        )


def _checked(url: str) -> URL:
    with contextlib.suppress(ArgumentError):
        found = make_url(url)
        backend = found.get_backend_name()
        if backend == "postgresql":
            return found.set(drivername="postgresql+psycopg")
        if backend == "sqlite" and found.database not in (None, "", ":memory:"):
            return found
    raise DeclarationError(
        "an address of the ledger that names no SQLite file and no Postgres database",
        expected="sqlite:///file or postgresql+psycopg://user@host/database",
        do="correct the address; it is not shown here because it may hold a password",
    )


@contextlib.contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def _lock(connection: Connection, name: str) -> None:
    """Take an advisory lock of Postgres until the transaction ends; names may share one."""
    key = zlib.crc32(f"mlops_assets ledger {name}".encode())
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCKS + key})


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # SQLAlchemy begins transactions by the function below, sqlite3 must not.
    connection.isolation_level = None
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # What was released must not be forgotten after a power cut.
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.OperationalError as error:
            # Two processes that turn on WAL at once: SQLite refuses one without waiting.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # The write lock from the start: one that reads first and writes later may be refused.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
