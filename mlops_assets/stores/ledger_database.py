"""The database of the ledger, and the lock of a model in it.

Nothing of entries or aliases: what is read and written is in `ledger`.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from sqlalchemy import text

from mlops_assets.errors import LedgerError
from mlops_assets.stores import ledger_schema, sql_database
from mlops_assets.stores.sql_database import SqlDatabase


class LedgerDatabase(SqlDatabase):
    """A database that holds a ledger; shared by threads and processes.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://...`; the tables are made on first use.

    Raises:
        DeclarationError: when the address is neither of these.
    """

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            "ledger",
            is_current=ledger_schema.is_current,
            migrate=ledger_schema.migrate,
            error=LedgerError,
        )

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
            with self.explained():
                lock = os.open(f"{self.file}.lock", os.O_RDWR | os.O_CREAT, 0o640)
            try:
                self._wait_for(lock)
                yield
            finally:
                # A child that was forked meanwhile has the file open too: closing is not enough.
                fcntl.flock(lock, fcntl.LOCK_UN)
                os.close(lock)
            return
        with contextlib.ExitStack() as held:
            with self.explained():
                connection = held.enter_context(engine.connect())
                wait = sql_database.WAIT_SECONDS
                connection.execute(text(f"SET LOCAL lock_timeout = '{wait}s'"))
                self.lock(connection, name)
            yield

    def _wait_for(self, lock: int) -> None:
        deadline = time.monotonic() + sql_database.WAIT_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self.unusable("another process holds its lock") from None
                time.sleep(0.005)
