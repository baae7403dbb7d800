"""The online store's rows in Redis.

One string per view and key: event and created time as two big-endian 64-bit numbers, then the
packed row. A script on the server compares the times and writes, so writers need no lock. Layouts
are in one hash per view. Here belong Redis commands and nothing of features; `online_sqlite` has
the same functions for SQLite.

The script is called with the keys of many rows at once: one server (or one with replicas), not a
cluster.
"""

import contextlib
import json
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import redis

from mlops_assets.errors import DataError, DeclarationError
from mlops_assets.stores.online_backend import NewRow, Stored, escaped
from mlops_assets.stores.online_codec import Layout

_TIMES = struct.Struct(">qq")
_ROWS_PER_SCRIPT = 500
_SCRIPTS_PER_TRIP = 20
_KEYS_PER_QUERY = 10_000

# Lua has no 64-bit integers: each time is compared as its upper and lower half.
_WRITE = """
for i = 1, #KEYS do
    local old = redis.call('GETRANGE', KEYS[i], 0, 15)
    local newer = #old < 16
    if not newer then
        local a, b, c, d = struct.unpack('>i4I4i4I4', ARGV[i])
        local e, f, g, h = struct.unpack('>i4I4i4I4', old)
        if a ~= e then newer = a > e
        elseif b ~= f then newer = b > f
        elseif c ~= g then newer = c > g
        else newer = d >= h end
    end
    if newer then redis.call('SET', KEYS[i], ARGV[i]) end
end
"""


class RedisBackend:
    """Rows in one Redis database, all under one prefix.

    Args:
        connection_string: a URL (`redis://`, `rediss://`, `unix://`), or Feast's form
            `host:port,db=0,password=...`.
        key_prefix: what the names of all keys begin with.
    """

    def __init__(self, connection_string: str, key_prefix: str) -> None:
        self._client = _client(connection_string)
        self._prefix = escaped(key_prefix)
        self._script = self._client.register_script(_WRITE)
        self._layouts: dict[bytes, Layout] = {}

    def create(self, tables: Sequence[str]) -> None:
        """Do nothing: Redis needs no room made."""

    def drop(self, tables: Sequence[str]) -> None:
        """Remove tables and their rows; those that do not exist are no error."""
        with self._explained():
            for table in tables:
                keys = self._client.scan_iter(match=self._head(table) + b"*", count=1_000)
                while some := list(islice(keys, 1_000)):
                    self._client.unlink(*some)

    def write(self, table: str, layout: Layout, rows: Sequence[NewRow]) -> None:
        """Write rows of one layout, except where a newer row is there."""
        head = self._head(table)
        step = _ROWS_PER_SCRIPT * _SCRIPTS_PER_TRIP
        with self._explained():
            # Each time anew: somebody may have emptied the database.
            self._client.hset(self._catalog(table), layout.mark, layout.text)  # type: ignore[arg-type]
            for start in range(0, len(rows), step):
                with self._client.pipeline(transaction=False) as pipe:
                    for at in range(start, min(start + step, len(rows)), _ROWS_PER_SCRIPT):
                        some = rows[at : at + _ROWS_PER_SCRIPT]
                        keys = [head + key for key, _, _, _ in some]
                        values = [
                            _TIMES.pack(event, created) + row for _, event, created, row in some
                        ]
                        self._script(keys=keys, args=values, client=pipe)
                    pipe.execute()

    def read(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[dict[bytes, Stored]]:
        """Return, for each (table, keys), the rows that are there."""
        names = [self._head(table) + key for table, keys in wanted for key in keys]
        values: list[bytes | None] = []
        with self._explained():
            for at in range(0, len(names), _KEYS_PER_QUERY):
                some = names[at : at + _KEYS_PER_QUERY]
                values += cast("list[bytes | None]", self._client.mget(some))
        found = []
        rest = iter(values)
        for _, keys in wanted:
            rows = zip(keys, islice(rest, len(keys)), strict=True)
            found.append({key: (_TIMES.unpack_from(row)[0], row[16:]) for key, row in rows if row})
        return found

    def layout(self, table: str, mark: bytes) -> Layout:
        """Return the layout that the mark of a table's row names."""
        known = self._layouts.get(mark)
        if known is None:
            with self._explained():
                text = cast(
                    "bytes | None",
                    self._client.hget(self._catalog(table), mark),  # type: ignore[arg-type]
                )
            if text is None:
                raise DataError(
                    f"Redis has a row in {table!r} whose layout {mark.hex()} it does not know",
                    expected=f"every layout in the hash {self._catalog(table)}",
                    do="materialize the view again",
                )
            known = self._layouts[mark] = Layout.of_text(text.decode())
        return known

    def close(self) -> None:
        """Give back connections; the next call opens new ones."""
        self._client.close()

    def _catalog(self, table: str) -> str:
        # Under the table's own head, so that both go together; no packed key looks like this.
        return f"{self._prefix}:{table}:layouts"

    def _head(self, table: str) -> bytes:
        return f"{self._prefix}:{table}:".encode()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise DataError(
                f"the online store in Redis cannot be used: {error}",
                expected="a Redis server at the configured connection_string",
                do="look whether the server runs and may be reached from here",
            ) from error


def _client(connection_string: str) -> "redis.Redis":
    if "://" in connection_string:
        return redis.Redis.from_url(connection_string)
    address, *options = connection_string.split(",")
    host, _, port = address.partition(":")
    pairs = [option.partition("=") for option in options]
    if not host or not port.isdigit() or not all(sign for _, sign, _ in pairs):
        raise DeclarationError(
            # The string itself may hold a password.
            "the connection_string of the online store cannot be read",
            expected="redis://host:port/db, or host:port,db=0,password=...",
            do="correct connection_string in the online_store block",
        )
    return redis.Redis(host=host, port=int(port), **{name: _option(v) for name, _, v in pairs})


def _option(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
