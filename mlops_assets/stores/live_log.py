"""The log as it is at this moment: what is in the lake, and what lies in log files still.

For whoever cannot wait for a compaction. Each record is seen exactly once, whatever is written or
compacted meanwhile: first the intact lines of the log files are copied, then the files of the days
are held by links, and of a file that is in both the rows of the day count. How log files go into
the lake is the matter of `inference_compaction`.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.errors import DataError
from mlops_assets.stores.append_log import SUFFIX, LoggedTable, intact
from mlops_assets.stores.inference_compaction import CONSUMED
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import Lake, parquet_files, quoted, text
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import duckdb


@contextmanager
def living(
    log_folder: Path,
    lake: Lake,
    table: LoggedTable = PREDICTIONS,
    *,
    first: date | None = None,
    last: date | None = None,
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Show all records of a log as one view, named like its table, with the table's columns.

    Args:
        log_folder: where the log files lie.
        lake: the lake.
        table: what the lines are.
        first: the first day to show, UTC; from the beginning when left out.
        last: the last day to show; to the end when left out.

    Yields:
        A connection with the view; both are gone after the block.

    Raises:
        DataError: when DuckDB reads other records than were logged.
    """
    with lake.scratch() as scratch, lake.connect() as connection:
        lines = _copied(log_folder, scratch)
        staged = _staged(connection, scratch, table, lines)
        days = _held(lake, table, scratch, first, last)
        consumed = [
            f"({text(day)}::DATE, {text(name)})"
            for day, path in days.items()
            for name in json.loads(lake.notes(path).get(CONSUMED, "[]"))
        ]
        bounds = [
            f"{quoted(EVENT_TIME)}::DATE {sign} {text(day)}::DATE"
            for sign, day in ((">=", first), ("<=", last))
            if day is not None
        ]
        if consumed:
            bounds.append(
                f"({quoted(EVENT_TIME)}::DATE, source) NOT IN (VALUES {', '.join(consumed)})"
            )
        query = (
            f"SELECT * EXCLUDE (source) FROM read_parquet({text(staged)}) "
            f"WHERE {' AND '.join(bounds) or 'true'}"
        )
        if days:
            # Days that were written before a column was thought of lack it.
            whole = f"read_parquet({parquet_files(days.values())}, union_by_name = true)"
            query = f"FROM {whole} UNION ALL BY NAME {query}"
        connection.execute(f"CREATE TEMP VIEW {quoted(table.name)} AS {query}")
        try:
            yield connection
        finally:
            connection.execute(f"DROP VIEW {quoted(table.name)}")


def _copied(log_folder: Path, scratch: Path) -> int:
    """Copy the intact lines of all log files; a last line may be written at this moment."""
    count = 0
    for path in sorted(log_folder.glob(f"*{SUFFIX}")):
        # One that is gone was compacted: its rows are in the days, which are read later.
        with (
            contextlib.suppress(FileNotFoundError),
            path.open("rb") as lines,
            (scratch / path.name).open("wb") as kept,
        ):
            for line in lines:
                if intact(line):
                    kept.write(line)
                    count += 1
    return count


def _staged(
    connection: "duckdb.DuckDBPyConnection", scratch: Path, table: LoggedTable, lines: int
) -> Path:
    """Parse the copied lines into one file, with the name of the log file as `source`."""
    (scratch / f"none{SUFFIX}").touch()
    fields = ", ".join(f"{quoted(name)}: {text(kind)}" for name, kind in table.fields.items())
    columns = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in table.columns.items())
    staged = scratch / "lines.parquet"
    found = connection.execute(
        f"COPY (SELECT {columns}, parse_filename(filename) AS source FROM read_json("
        f"{text(scratch / f'*{SUFFIX}')}, format = 'newline_delimited', filename = true, "
        f"columns = {{{fields}}})) TO {text(staged)} (FORMAT parquet)"
    ).fetchone()
    read = int(found[0]) if found else 0
    if read != lines:
        raise DataError(
            f"of {lines:,} logged records of {table.name}, {read:,} were read",
            expected="all of them",
            do="look at the log files; nothing was changed",
        )
    return staged


def _held(
    lake: Lake, table: LoggedTable, scratch: Path, first: date | None, last: date | None
) -> dict[date, Path]:
    """Links to the files of the days: whatever replaces them meanwhile, these stay."""
    found = {}
    for day in lake.days(table.name):
        if (first is None or day >= first) and (last is None or day <= last):
            held = scratch / f"{day}.parquet"
            with contextlib.suppress(FileNotFoundError):  # expired at this moment
                os.link(lake.day_file(table.name, day), held)
                found[day] = held
    return found
