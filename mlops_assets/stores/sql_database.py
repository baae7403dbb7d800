"""A database in a file of SQLite or in Postgres: its connections, transactions and tables.

What the ledger and the outbox of alerts have in common; nothing of what they keep. Passwords in an
address are never shown.
"""

import contextlib
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from mlops_assets.errors import DeclarationError, MlopsAssetsError

WAIT_SECONDS = 30
"""How long to wait for a lock that another process holds."""

_LOCKS = 0x6D6C6F_00000000
"""Where our keys begin among the advisory locks of a Postgres database."""


class SqlDatabase:
    """A database; shared by threads and processes.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://...`.
        name: what it is, for errors.
        is_current: whether its tables are there as they have to be.
        migrate: makes them so, in one transaction and by one process at a time; asked on first use.
        error: what is raised when it cannot be used.

    Raises:
        DeclarationError: when the address is neither of these.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        is_current: Callable[[Connection], bool],
        migrate: Callable[[Connection], None],
        error: type[MlopsAssetsError],
    ) -> None:
        self.name = name
        self._url = _checked(url, name)
        self._is_current, self._migrate, self._error = is_current, migrate, error
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
        """Whether it lies in a file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path:
        """Where a file of SQLite lies."""
        return Path(str(self._url.database))

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
        with self.explained(), self.engine.connect() as connection:
            if one_moment and not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes all or nothing."""
        with self.explained(), _writing(self.engine) as connection:
            yield connection

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        if self._engine is not None and self._owner == os.getpid():
            self._engine.dispose()

    def lock(self, connection: Connection, name: str) -> None:
        """Take an advisory lock of Postgres until the transaction ends; names may share one."""
        key = zlib.crc32(f"mlops_assets {self.name} {name}".encode())
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCKS + key})

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Tell errors of the database in words of ours."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            why = error.orig if isinstance(error, DBAPIError) else error
            # The error below would show statements with all that they carry.
            raise self.unusable(str(why).strip()) from None

    def unusable(self, why: str) -> MlopsAssetsError:
        """The error of a database that cannot be used."""
        return self._error(
            f"the {self.name} {self.shown} cannot be used: {why}",
            expected=f"a database that answers, and locks that are free within {WAIT_SECONDS} "
            "seconds",
            do="look for a process that hangs, for a full disk, and whether the database is up and "
            "may be written",
        )

    def _ready(self) -> Engine:
        """A new engine, after the tables were made or brought up to date."""
        options: dict[str, Any] = {"timeout": WAIT_SECONDS} if self.is_sqlite else {}
        if not (self.is_sqlite or "connect_timeout" in self._url.query):
            options["connect_timeout"] = WAIT_SECONDS
        with self.explained():
            if self.is_sqlite:
                self.file.parent.mkdir(parents=True, exist_ok=True)
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
            if self._is_current(connection):
                return
        with _writing(engine) as connection:
            if not self.is_sqlite:
                self.lock(connection, "schema")
            self._migrate(connection)


def _checked(url: str, name: str) -> URL:
    with contextlib.suppress(ArgumentError):
        found = make_url(url)
        backend = found.get_backend_name()
        if backend == "postgresql":
            return found.set(drivername="postgresql+psycopg")
        if backend == "sqlite" and found.database not in (None, "", ":memory:"):
            return found
    raise DeclarationError(
        f"an address of the {name} that names no SQLite file and no Postgres database",
        expected="sqlite:///file or postgresql+psycopg://user@host/database",
        do="correct the address; it is not shown here because it may hold a password",
    )


@contextlib.contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # SQLAlchemy begins transactions by the function below, sqlite3 must not.
    connection.isolation_level = None
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # What was written must not be forgotten after a power cut.
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
