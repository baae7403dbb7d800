"""What an online store needs from the system that keeps its rows.

`online_sqlite.SqliteBackend` and `online_redis.RedisBackend` have these functions and no others.
Here belongs only what both share: the contract, and the choice between them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlops_assets.stores.online_codec import Layout

# Plain tuples: a window has millions of rows, and a named tuple takes longer to make than to write.
NewRow = tuple[bytes, int, int, bytes]
"""A row to be written: key, event and created time in microseconds since 1970, packed row."""

Stored = tuple[int, bytes]
"""Event time in microseconds, packed row."""


class Backend(Protocol):
    """Rows by table and key; of several writes the newest (event, created) stays.

    Rows equal in both times replace each other: a day that is computed anew keeps its times.
    """

    def create(self, tables: Sequence[str]) -> None:
        """Make room for tables; those that exist stay as they are."""

    def drop(self, tables: Sequence[str]) -> None:
        """Remove tables and their rows; those that do not exist are no error."""

    def write(self, table: str, layout: Layout, rows: Sequence[NewRow]) -> None:
        """Write rows of one layout, except where a newer row is there."""

    def read(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[dict[bytes, Stored]]:
        """Return, for each (table, keys), the rows that are there."""

    def layout(self, table: str, mark: bytes) -> Layout:
        """Return the layout that the mark of a table's row names."""

    def close(self) -> None:
        """Give back connections; the next call opens new ones."""


def table_name(project: str, view: str) -> str:
    """The table of a view: unlike for unlike projects and views, in any spelling.

    >>> table_name("shop", "origin"), table_name("a:b", "Ü")
    ('shop:origin', 'a%3Ab:%C3%9C')
    """
    return f"{escaped(project)}:{escaped(view)}"


def escaped(name: str) -> str:
    """A name in small letters, digits, `_` and `-`, all else as %XX.

    Capitals are escaped because SQLite takes `Stats` and `stats` for one table.
    """
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789_-"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in name.encode())


def open_backend(path: Path, connection_string: str | None, key_prefix: str) -> Backend:
    """Open Redis if a connection string is given, else the SQLite file."""
    if connection_string is None:
        from mlops_assets.stores.online_sqlite import SqliteBackend

        return SqliteBackend(path)
    from mlops_assets.stores.online_redis import RedisBackend

    return RedisBackend(connection_string, key_prefix)
