"""The lake: tables as Parquet files, one per partition, written whole or not at all.

Reading, writing and finding files, and DuckDB connections that never outlive a step. What the
tables hold is computed in `engines/`; their meaning stands in `tables.py`.
"""

import contextlib
import datetime as dt
import fcntl
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.errors import DataError, SourceError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FINGERPRINT = "fingerprint"
SCRATCH = ".scratch-"
ROW_GROUP = 122_880
YOUNG = 60.0
"""Seconds in which a scratch folder's owner surely has locked it."""


def quoted(name: object) -> str:
    """Quote an SQL identifier."""
    return '"' + str(name).replace('"', '""') + '"'


def text(value: object) -> str:
    """Quote an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def parquet_files(paths: Iterable[Path]) -> str:
    """An SQL list of files, as DuckDB's functions on Parquet files take it."""
    return f"[{', '.join(text(path) for path in paths)}]"


@dataclass(frozen=True)
class Lake:
    """The Parquet files below one folder.

    A table is either one file `<root>/<table>.parquet`, or a folder `<root>/<table>/` with one
    file per day, `YYYY-MM-DD.parquet`, and rows added to a day since, `YYYY-MM-DD.added-*.parquet`.
    """

    root: Path

    def file(self, table: str) -> Path:
        """Where a table of one file lies."""
        return self.root / f"{table}.parquet"

    def folder(self, table: str) -> Path:
        """Where the daily files of a table lie."""
        return self.root / table

    def day_file(self, table: str, day: dt.date) -> Path:
        """Where a day of a table lies."""
        return self.folder(table) / f"{day}.parquet"

    @contextmanager
    def connect(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open a DuckDB connection in memory, in UTC, closed at the end of the block.

        What is made on it must be temporary: tables and views that are not are seen by all.
        """
        with _database().cursor() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the lake's own disk, so that files can be renamed out of it."""
        with _scratch(self.root) as folder:
            yield folder

    def write(
        self,
        connection: "duckdb.DuckDBPyConnection",
        query: str,
        path: Path,
        notes: Mapping[str, str] | None = None,
    ) -> int:
        """Write the rows of a query as one file that appears whole; return the row count.

        Args:
            connection: where the query runs.
            query: any SELECT.
            path: the file, replaced if it is there.
            notes: key-value metadata kept in the file, such as its fingerprint.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            fresh = folder / path.name
            row = connection.execute(
                f"COPY ({query}) TO {text(fresh)} (FORMAT parquet{_notes(notes)})"
            ).fetchone()
            fresh.replace(path)
        return int(row[0]) if row else 0

    def write_arrow(
        self, table: "pa.Table", path: Path, notes: Mapping[str, str] | None = None
    ) -> int:
        """Write an Arrow table as one file that appears whole; return the row count."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            fresh = folder / path.name
            _write_parquet(table.replace_schema_metadata(dict(notes or {})), fresh)
            fresh.replace(path)
        return int(table.num_rows)

    def write_days(
        self,
        rows: "pa.Table",
        table: str,
        days: Sequence[dt.date],
        notes: Mapping[dt.date, Mapping[str, str]] | None = None,
    ) -> dict[dt.date, int]:
        """Write rows as one file per day of `event_timestamp` (UTC); return rows per day.

        Exactly the given days are replaced, each file whole, and what was added to them since; a
        day without rows gets an empty file.

        Args:
            rows: an Arrow table with `event_timestamp`, in any order of days.
            table: the table, a folder of the lake.
            days: the days to replace.
            notes: key-value metadata kept in the file of each day.

        Raises:
            DataError: when rows belong to other days.
        """
        import numpy as np

        of_row = rows["event_timestamp"].to_numpy().astype("datetime64[D]")
        if not (of_row[1:] >= of_row[:-1]).all():  # also when a time is null: these come last
            order = np.argsort(of_row, kind="stable")
            rows, of_row = rows.take(order), of_row[order]
        wanted = np.array(sorted(days), dtype="datetime64[D]")
        starts = np.searchsorted(of_row, wanted)
        stops = np.searchsorted(of_row, wanted + 1)
        if (stops - starts).sum() != of_row.size:
            raise DataError(
                f"{of_row.size - (stops - starts).sum():,} of {of_row.size:,} rows for {table} "
                f"are not of the {len(days):,} days that are written",
                expected="rows of these days only",
                do="correct the times of the definition that computed the rows",
            )
        self.folder(table).mkdir(parents=True, exist_ok=True)
        added: dict[dt.date, list[Path]] = {}
        for path in self.folder(table).glob("*.added-*.parquet"):
            added.setdefault(_day(path), []).append(path)
        counts = {}
        with self.scratch() as folder:
            for day, start, stop in zip(wanted.tolist(), starts, stops, strict=True):
                of_day = rows.slice(start, stop - start)
                noted = of_day.replace_schema_metadata(dict((notes or {}).get(day, {})))
                _write_parquet(noted, folder / f"{day}")
                counts[day] = int(stop - start)
            for day in counts:
                # First what was added: a crash in between leaves a day with its old notes.
                for path in added.get(day, ()):
                    path.unlink()
                (folder / f"{day}").replace(self.day_file(table, day))
        return counts

    def days(self, table: str) -> dict[dt.date, "DayFiles"]:
        """The days of a table that have files, in order, with those added to them."""
        folder = self.folder(table)
        found: dict[dt.date, list[os.DirEntry[str]]] = {}
        with os.scandir(folder) if folder.exists() else contextlib.nullcontext(()) as entries:
            for entry in entries:
                if entry.name.endswith(".parquet") and not entry.name.startswith("."):
                    found.setdefault(_day(Path(entry.name)), []).append(entry)
        return {day: DayFiles.of(sorted(found[day], key=lambda e: e.name)) for day in sorted(found)}

    def read(self, query: str, **files: Path) -> "pa.Table":
        """Run a query over files, each seen under the name of its keyword."""
        with self.connect() as connection:
            for name, path in files.items():
                view(connection, name, path)
            return connection.sql(query).to_arrow_table()

    def notes(self, path: Path) -> dict[str, str]:
        """Key-value metadata of a file; empty when there is no readable file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            found = pq.read_metadata(path).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return {}
        return {key.decode(): value.decode("utf-8", "replace") for key, value in found.items()}

    def fingerprint(self, path: Path) -> str | None:
        """The fingerprint in a file; None when it has none, or there is no readable file."""
        return self.notes(path).get(FINGERPRINT)

    def day_fingerprints(self, table: str) -> dict[dt.date, str | None]:
        """The fingerprint of each day that has files; rows added since do not change it."""
        return {day: self.fingerprint(self.day_file(table, day)) for day in self.days(table)}


@dataclass(frozen=True)
class DayFiles:
    """The files of a day, and a mark that changes when any of them is replaced or added."""

    paths: tuple[Path, ...]
    mark: str

    @classmethod
    def of(cls, entries: Sequence["os.DirEntry[str]"]) -> "DayFiles":
        """Describe directory entries without opening the files."""
        stats = [(entry.name, entry.stat()) for entry in entries]
        described = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        mark = fingerprint.of_values(described)[:16]
        return cls(tuple(Path(entry.path) for entry in entries), mark)


def _day(path: Path) -> dt.date:
    """The day that begins a file's name."""
    try:
        return dt.date.fromisoformat(path.name[:10])
    except ValueError as wrong:
        raise DataError(
            f"the file {path} lies among the daily files of a table",
            expected="names that begin with a day, YYYY-MM-DD",
            do="move the file away",
        ) from wrong


@functools.cache
def _database() -> "duckdb.DuckDBPyConnection":
    """The process's one DuckDB instance, without data: a new one costs 100 times a connection."""
    import atexit

    import duckdb

    # Let go of at exit: what still lives then is told of as leaked.
    atexit.register(_database.cache_clear)
    return duckdb.connect(":memory:")


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A temporary folder in another one, locked as long as its owner lives."""
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    lock = os.open(folder, os.O_RDONLY)
    try:
        # Where folders cannot be locked (NFS), none is ever swept.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


@functools.cache
def _sweep(parent: Path) -> None:
    """Remove the scratch folders that killed processes left; once per process and folder."""
    for folder in parent.glob(f"{SCRATCH}*"):
        # One that is locked has an owner; one that is gone was removed by another sweep.
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG:
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _write_parquet(table: "pa.Table", path: Path) -> None:
    """Write a file without statistics of floats: they leave out NaN, and DuckDB believes them.

    In row groups of DuckDB's size: it reads one group per thread.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    exact = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    pq.write_table(table, path, write_statistics=exact, row_group_size=ROW_GROUP)


def _notes(notes: Mapping[str, str] | None) -> str:
    if not notes:
        return ""
    pairs = ", ".join(f"{key}: {text(value)}" for key, value in notes.items())
    return f", KV_METADATA {{{pairs}}}"


def view(connection: "duckdb.DuckDBPyConnection", name: str, path: Path) -> None:
    """Show a file, or the daily files of a folder, as a view of the connection.

    Raises:
        SourceError: when nothing is there, or it cannot be read.
    """
    import duckdb

    pattern = path / "*.parquet" if path.suffix != ".parquet" else path
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS "
            f"SELECT * FROM read_parquet({text(pattern)})"
        )
    except (duckdb.IOException, duckdb.InvalidInputException) as broken:
        raise SourceError(
            f"the table {name!r} cannot be read from {path}: {str(broken).splitlines()[0]}",
            expected="readable Parquet files there",
            do=f"materialize the asset that writes {name!r}",
        ) from broken


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document that appears whole or not at all."""
    content = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    with _scratch(path.parent) as folder:
        fresh = folder / path.name
        fresh.write_text(content)
        fresh.replace(path)
