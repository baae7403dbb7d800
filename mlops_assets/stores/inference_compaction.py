"""From closed log files to daily Parquet files in the lake: every record once, whatever happens.

The file of a day keeps the names of the log files that are in it, and appears with its rows in one
rename; a log file is removed once all its days have it. So a compaction that is killed anywhere is
simply run again. Lines that are torn or damaged are set aside in the folder `damaged` beside the
log files. Late records go into the file of their own day.

What lines mean is declared in `inference_log` and `outcomes_log`.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.errors import DataError
from mlops_assets.stores.append_log import SUFFIX, LoggedTable, claimed, intact
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import Lake, parquet_files, quoted, text, view
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import duckdb

CONSUMED = "consumed"
"""Note in the file of a day: the names of the log files that are in it."""

DAMAGED = "damaged"
BATCH_BYTES = 2**30
BATCH_FILES = 200
"""Log files that are merged together, so that an outage of days needs no memory of days."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Args:
        files: log files that were consumed.
        records: intact records in them.
        torn: last lines that a dying process left unfinished; they were never acknowledged.
        damaged: other lines that are not as they were written.
        days: days that got rows.
    """

    files: int = 0
    records: int = 0
    torn: int = 0
    damaged: int = 0
    days: tuple[date, ...] = ()

    def __add__(self, other: "Compacted") -> "Compacted":
        return Compacted(
            self.files + other.files,
            self.records + other.records,
            self.torn + other.torn,
            self.damaged + other.damaged,
            tuple(sorted({*self.days, *other.days})),
        )


def compact(
    log_folder: Path,
    lake: Lake,
    table: LoggedTable = PREDICTIONS,
    *,
    observer: Callable[[str], None] = _log.debug,
) -> Compacted:
    """Move all closed log files into the lake; those of living writers are left for later.

    Of two compactions of a table at once, the second waits for the first.

    Args:
        log_folder: where the log files lie.
        lake: the lake.
        table: what the lines are.
        observer: is told each step that is done.

    Raises:
        DataError: when DuckDB reads other records than were logged; nothing is removed then.
        SourceError: when the file of a day cannot be read.
    """
    done = Compacted()
    with _alone(lake, table):
        observer("locked")
        for batch in _batches(log_folder):
            with ExitStack() as claims:
                paths = [path for path in batch if claims.enter_context(claimed(path))]
                if paths:
                    done += _consume(paths, lake, table, observer)
    return done


def expire(
    log_folder: Path,
    lake: Lake,
    keep_days: Mapping[str, int],
    today: date,
    table: LoggedTable = PREDICTIONS,
) -> tuple[date, ...]:
    """Remove rows that are older than their model keeps them; name the days that are gone.

    Days that no model keeps are removed whole, and so are lines that were set aside before them.
    Rows of a model that is not named are kept as long as the longest.

    Args:
        log_folder: where the log files lie.
        lake: the lake.
        keep_days: days that are kept, beside today, by model.
        today: the present day, UTC.
        table: what the lines are.
    """
    longest = max(keep_days.values())
    first = today - timedelta(days=longest)
    with _alone(lake, table):
        for model, days in keep_days.items():
            if days < longest:
                _forget(lake, table, model, today - timedelta(days=days))
        expired = {day: files for day, files in lake.days(table.name).items() if day < first}
        for files in expired.values():
            for path in files.paths:
                path.unlink()
        for path in (log_folder / DAMAGED).glob(f"*{SUFFIX}"):
            if datetime.fromtimestamp(path.stat().st_mtime, UTC).date() < first:
                path.unlink()
    return tuple(expired)


def _forget(lake: Lake, table: LoggedTable, model: str, first: date) -> None:
    """Rewrite the days before `first` without the rows of a model, each once."""
    with lake.connect() as connection:
        for day in lake.days(table.name):
            path = lake.day_file(table.name, day)
            if day >= first or not path.exists():
                continue
            view(connection, "of_day", path)
            where = f"model = {text(model)}"
            if not connection.execute(f"SELECT 1 FROM of_day WHERE {where} LIMIT 1").fetchall():
                continue
            order = ", ".join(map(quoted, table.order))
            kept = f"SELECT * FROM of_day WHERE NOT ({where}) ORDER BY {order}"
            lake.write(connection, kept, path, {CONSUMED: lake.notes(path).get(CONSUMED, "[]")})
            _synced(path)


@contextmanager
def _alone(lake: Lake, table: LoggedTable) -> Iterator[None]:
    """Be the only one who changes a table; wait for it, and go as soon as the process does."""
    folder = lake.folder(table.name)
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _batches(folder: Path) -> Iterator[list[Path]]:
    """The log files of a folder in parts of bounded size, oldest names of a worker first."""
    batch: list[Path] = []
    size = 0
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
        batch.append(path)
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _consume(
    paths: Sequence[Path], lake: Lake, table: LoggedTable, observer: Callable[[str], None]
) -> Compacted:
    """Bring log files, which are held, into the lake and remove them."""
    done = Compacted()
    with lake.scratch() as scratch, lake.connect() as connection:
        for path in paths:
            done += _sifted(path, scratch / path.name)
            observer("sifted")
        if done.records:
            staged = scratch / "staged.parquet"
            of_day = _staged(connection, scratch, table, staged, done.records)
            observer("staged")
            for day, sources in of_day.items():
                _merge(connection, lake, table, staged, day, sources)
                observer("merged")
            done += Compacted(days=tuple(of_day))
    _synced(lake.folder(table.name))
    for path in paths:
        path.unlink()
        observer("removed")
    return done


def _sifted(path: Path, clean: Path) -> Compacted:
    """Copy the intact lines of a log file, and set the others aside."""
    records = torn = damaged = 0
    bad = bytearray()
    with path.open("rb") as lines, clean.open("wb") as kept:
        for line in lines:
            if intact(line):
                kept.write(line)
                records += 1
                continue
            bad += line
            if line.endswith(b"\n"):
                damaged += 1
            else:
                torn += 1
    if bad:
        aside = path.parent / DAMAGED / path.name
        aside.parent.mkdir(exist_ok=True)
        unfinished = aside.with_name(f".{aside.name}")
        unfinished.write_bytes(bad)
        _synced(unfinished)
        unfinished.replace(aside)
        _log.warning("%s: %d torn and %d damaged lines, kept in %s", path, torn, damaged, aside)
    return Compacted(1, records, torn, damaged)


def _staged(
    connection: "duckdb.DuckDBPyConnection",
    scratch: Path,
    table: LoggedTable,
    staged: Path,
    records: int,
) -> dict[date, list[str]]:
    """Parse the lines of a folder into one file; the names of the log files by day."""
    fields = ", ".join(f"{quoted(name)}: {text(kind)}" for name, kind in table.fields.items())
    columns = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in table.columns.items())
    connection.execute(
        f"COPY (SELECT {columns}, parse_filename(filename) AS source FROM read_json("
        f"{text(scratch / f'*{SUFFIX}')}, format = 'newline_delimited', filename = true, "
        f"columns = {{{fields}}})) TO {text(staged)} (FORMAT parquet)"
    )
    found = connection.execute(
        f"SELECT {quoted(EVENT_TIME)}::DATE AS day, list(DISTINCT source ORDER BY source), "
        f"count(*) FROM read_parquet({text(staged)}) WHERE day IS NOT NULL "
        f"GROUP BY day ORDER BY day"
    ).fetchall()
    read = sum(count for _, _, count in found)
    if read != records:
        raise DataError(
            f"of {records:,} logged records of {table.name}, {read:,} were read with a time",
            expected="all of them",
            do="look at the log files; they were left where they are",
        )
    return {day: sources for day, sources, _ in found}


def _merge(
    connection: "duckdb.DuckDBPyConnection",
    lake: Lake,
    table: LoggedTable,
    staged: Path,
    day: date,
    sources: Sequence[str],
) -> None:
    """Add to the file of a day the rows of those log files that are not in it yet."""
    path = lake.day_file(table.name, day)
    consumed = json.loads(lake.notes(path).get(CONSUMED, "[]"))
    fresh = [name for name in sources if name not in set(consumed)]
    if not fresh:
        return
    query = (
        f"SELECT * EXCLUDE (source) FROM read_parquet({parquet_files([staged])}) "
        f"WHERE {quoted(EVENT_TIME)}::DATE = {text(day)}::DATE "
        f"AND source IN ({', '.join(map(text, fresh))})"
    )
    if path.exists():
        view(connection, "of_day", path)
        query = f"FROM of_day UNION ALL BY NAME {query}"
    order = ", ".join(map(quoted, table.order))
    notes = {CONSUMED: json.dumps([*consumed, *fresh])}
    lake.write(connection, f"SELECT * FROM ({query}) ORDER BY {order}", path, notes)
    _synced(path)


def _synced(path: Path) -> None:
    """Have a file or folder on disk before its source is removed: a power cut loses neither."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
