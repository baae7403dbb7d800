"""The lake: tables as Parquet files, one per partition, written whole or not at all.

Reading, writing and finding files, and DuckDB connections that never outlive a step. What the
tables hold is computed in `engines/`; their meaning stands in `tables.py`.
"""

import datetime as dt
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import SourceError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FINGERPRINT = "fingerprint"


def quoted(name: object) -> str:
    """Quote an SQL identifier."""
    return '"' + str(name).replace('"', '""') + '"'


def text(value: object) -> str:
    """Quote an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class Lake:
    """The Parquet files below one folder.

    A table is either one file `<root>/<table>.parquet`, or a folder `<root>/<table>/` with one
    file per day, `YYYY-MM-DD.parquet`.
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
        return self.folder(table) / f"{day:%Y-%m-%d}.parquet"

    @contextmanager
    def connect(self, threads: int | None = None) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open a DuckDB connection in memory, in UTC, closed at the end of the block."""
        import duckdb

        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if threads:
                connection.execute(f"SET threads = {threads}")
            yield connection

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder on the lake's own disk, so that files can be renamed out of it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=self.root) as folder:
            yield Path(folder)

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
        with self.connect() as connection:
            connection.register("arrow_rows", table)
            return self.write(connection, "SELECT * FROM arrow_rows", path, notes)

    def write_days(
        self,
        connection: "duckdb.DuckDBPyConnection",
        relation: str,
        table: str,
        days: list[dt.date],
        notes: Mapping[str, str] | None = None,
    ) -> dict[dt.date, int]:
        """Write a relation as one file per day of `event_timestamp`; return rows per day.

        Exactly the given days are replaced, each file whole; a day without rows gets an empty
        file. The relation must hold no other days.
        """
        self.folder(table).mkdir(parents=True, exist_ok=True)
        counts = dict.fromkeys(days, 0)
        with self.scratch() as folder:
            # One thread: more would write several files for one day.
            connection.execute("SET threads = 1")
            connection.execute(
                f"COPY (SELECT *, event_timestamp::DATE AS day_of_row FROM {relation}) "
                f"TO {text(folder)} (FORMAT parquet, PARTITION_BY (day_of_row), "
                f"OVERWRITE_OR_IGNORE{_notes(notes)})"
            )
            connection.execute("RESET threads")
            counted = connection.execute(
                f"SELECT event_timestamp::DATE, count(*) FROM {relation} GROUP BY 1"
            ).fetchall()
            counts.update(counted)
            for day in days:
                target = self.day_file(table, day)
                if counts[day]:
                    (folder / f"day_of_row={day}" / "data_0.parquet").replace(target)
                else:
                    self.write(connection, f"SELECT * FROM {relation} LIMIT 0", target, notes)
        return counts

    def write_arrow_days(
        self,
        rows: "pa.Table",
        table: str,
        days: list[dt.date],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Write an Arrow table, in order of `event_timestamp`, as one file per day.

        The same promise as `write_days`, at a third of its cost where days have a few rows each.
        """
        import numpy as np
        import pyarrow.parquet as pq

        self.folder(table).mkdir(parents=True, exist_ok=True)
        found = rows["event_timestamp"].to_numpy().astype("datetime64[D]")
        rows = rows.replace_schema_metadata(dict(notes or {}))
        with self.scratch() as folder:
            for day in days:
                start, end = np.searchsorted(found, [np.datetime64(day), np.datetime64(day) + 1])
                pq.write_table(rows.slice(start, end - start), folder / f"{day}")
            for day in days:
                (folder / f"{day}").replace(self.day_file(table, day))

    def read(self, query: str, **files: Path) -> "pa.Table":
        """Run a query over files, each seen under the name of its keyword."""
        with self.connect() as connection:
            for name, path in files.items():
                view(connection, name, path)
            return connection.sql(query).to_arrow_table()

    def fingerprints(self, path: Path) -> dict[str, str]:
        """The fingerprint in each file, by file name; empty when there is no file.

        Args:
            path: a file, or a folder of daily files.
        """
        if not path.exists() or (path.is_dir() and not any(path.glob("*.parquet"))):
            return {}
        pattern = path / "*.parquet" if path.is_dir() else path
        with self.connect() as connection:
            rows = connection.execute(
                f"SELECT file_name, decode(value) FROM parquet_kv_metadata({text(pattern)}) "
                f"WHERE decode(key) = '{FINGERPRINT}'"
            ).fetchall()
        return {Path(name).name: value for name, value in rows}


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
            f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * FROM read_parquet({text(pattern)})"
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
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        fresh.write_text(content)
        fresh.replace(path)
