"""One feature source as DuckDB reads it: which files, which columns, which rows can matter.

Here belongs everything about reading Feast data sources; what is done with the rows is told
elsewhere. Local Parquet (a file, a folder, a glob) is read by DuckDB itself, only the needed
columns and only files whose times can matter. All other sources (Delta, remote storage, Iceberg,
Lance) go through Feast's own reader.

Files are skipped by the minimum and maximum of the event time in their Parquet footers, not by
their names: it holds for daily files as well as for any other layout, and a row in the wrong
file is still found. Footers are remembered per process, so a second retrieval only asks the file
system whether a file changed.
"""

import copy
import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores import duckdb as feast_duckdb
from feast.infra.offline_stores.file_source import FileOptions, FileSource

from mlops_assets.errors import SourceError, UnknownNameError
from mlops_assets.stores.asof_join import quoted

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Window(NamedTuple):
    """Event times that can matter, in microseconds, both ends included; None is unbounded."""

    since: int | None
    until: int | None


@dataclass(frozen=True)
class Scan:
    """A source, ready to stand in a FROM clause.

    Attributes:
        relation: the FROM item.
        types: column name to DuckDB type.
        label: the source as errors name it.
        renamed: names that Feast uses to the source's own (the field mapping, reversed).
    """

    relation: str
    types: dict[str, str]
    label: str
    renamed: dict[str, str]

    def column(self, name: str) -> str:
        """Return the source's own name of the column that Feast calls `name`."""
        for candidate in (self.renamed.get(name), name):
            if candidate in self.types:
                return candidate
        hint = UnknownNameError.of("column", name, self.types).do
        raise SourceError(
            f"{self.label} has no column {name!r}",
            expected=f"a column {name!r}; found: {', '.join(self.types)}",
            do=f"{hint}; or correct the source's columns or field mapping",
        )

    def time(self, name: str) -> str:
        """Return the column as a TIMESTAMPTZ expression; a time without zone is UTC."""
        column = self.column(name)
        zoned = self.types[column] == "TIMESTAMP WITH TIME ZONE"
        return quoted(column) if zoned else f"CAST({quoted(column)} AS TIMESTAMPTZ)"

    def within(self, name: str, window: Window) -> str:
        """Return the condition that the time column lies in the window.

        The bare column is compared with a constant of its own type, so DuckDB can skip row groups.
        """
        column = self.column(name)
        naive = self.types[column].startswith("TIMESTAMP") and "ZONE" not in self.types[column]
        left = quoted(column) if naive else self.time(name)
        make = "make_timestamp" if naive else "make_timestamptz"
        bounds = [
            f"{left} {sign} {make}({value}::BIGINT)"
            for sign, value in ((">=", window.since), ("<=", window.until))
            if value is not None
        ]
        return " AND ".join([f"{left} IS NOT NULL", *bounds])


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970; a time without zone is UTC.

    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // _MICROSECOND


def scan(
    connection: duckdb.DuckDBPyConnection,
    source: DataSource,
    repo_path: str,
    wanted: Iterable[str],
    event: str,
    window: Window,
) -> Scan:
    """Open a source for reading the `wanted` columns in a window of the time column `event`.

    Raises:
        SourceError: the source is missing, empty of files or cannot be read.
    """
    renamed = {new: old for old, new in source.field_mapping.items()}
    path = local_parquet(source, repo_path)
    label = f"source {source.name!r}" if path is None else f"source {path}"
    if path is None:
        relation = _through_feast(connection, source, repo_path, wanted, renamed, label)
    else:
        events = {event, renamed.get(event, event)}
        files = _files_that_matter(path, events, window)
        names = ", ".join(_literal(file) for file in files)
        # By name if columns come, go or change type over the days: for that DuckDB reads every
        # footer anew in every statement, and one alone if they do not.
        union = "" if _alike(files, events) else ", union_by_name = true"
        relation = f"read_parquet([{names}]{union})"
    with readable(label):
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return Scan(relation, {row[0]: row[1] for row in described}, label, renamed)


def local_parquet(source: DataSource | None, repo_path: str) -> str | None:
    """Return the absolute path or glob of a local Parquet source, None for any other source."""
    if not isinstance(source, FileSource):
        return None
    parsed = urlparse(source.path)
    if parsed.scheme and parsed.netloc:
        return None
    if not (source.file_format is None or isinstance(source.file_format, ParquetFormat)):
        return None
    return str(Path(_absolute(source.path, repo_path)))


def parquet_files(path: str) -> list[Path]:
    """Return the Parquet files at a path: a file, a folder (and below) or a glob, in name order.

    Names that begin with a dot or underscore are not data: half-written and bookkeeping files.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [file for file in place.rglob("*.parquet") if not _hidden(file.relative_to(place))]
    else:
        found = [Path(name) for name in glob.glob(path, recursive=True)]  # noqa: PTH207 - absolute
        found = [file for file in found if file.is_file() and file.name[0] not in "._"]
    if not found:
        raise SourceError(
            f"source {path} {'holds no Parquet file' if place.is_dir() else 'does not exist'}",
            expected="a Parquet file, a folder or a glob of Parquet files",
            do="write the feature table first, or correct the source's path",
        )
    return sorted(found)


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Turn what DuckDB and Arrow say about a source's files into a SourceError that names it."""
    try:
        yield
    except (
        duckdb.IOException,
        duckdb.InvalidInputException,
        duckdb.ConversionException,
        duckdb.SerializationException,
        pa.ArrowInvalid,
        OSError,
    ) as error:
        raise SourceError(
            f"{label} cannot be read: {str(error).splitlines()[0]}",
            expected="whole Parquet files, with times in the time columns, there until the end",
            do="write the named file again; a writer should rename finished files into place",
        ) from error


def _absolute(path: str, repo_path: str) -> str:
    return str(FileSource.get_uri_for_file_path(Path(repo_path).absolute(), path))


def _literal(file: Path) -> str:
    # A name may hold the signs of a glob or a quote: both stand for themselves here.
    plain = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(file))
    return "'" + plain.replace("'", "''") + "'"


def _hidden(relative: Path) -> bool:
    return any(part[0] in "._" for part in relative.parts)


def _through_feast(
    connection: duckdb.DuckDBPyConnection,
    source: DataSource,
    repo_path: str,
    wanted: Iterable[str],
    renamed: dict[str, str],
    label: str,
) -> str:
    if isinstance(source, FileSource) and not urlparse(source.path).netloc:
        # Feast's reader takes a relative path from the working directory, its writer from the
        # repository: we mean the repository.
        options = source.file_options
        source = copy.copy(source)
        source.file_options = FileOptions(
            uri=_absolute(source.path, repo_path),
            file_format=options.file_format,
            s3_endpoint_override=options.s3_endpoint_override,
        )
    with readable(label):
        table = feast_duckdb._read_data_source(source, repo_path)
        names = {renamed.get(name, name) for name in wanted} | set(wanted)
        rows = table.select([name for name in table.columns if name in names]).to_pyarrow()
    name = f"feast_source_{abs(hash(label))}"
    connection.register(name, rows)
    return quoted(name)


class _Footer(NamedTuple):
    changed: tuple[int, int]
    first: datetime | None
    last: datetime | None
    rows: int
    columns: str


_footers: dict[tuple[str, frozenset[str]], _Footer] = {}


def _files_that_matter(path: str, event_names: set[str], window: Window) -> Sequence[Path]:
    files = parquet_files(path)
    if len(files) == 1:
        return files
    names = frozenset(event_names)
    # The newest file always takes part: it tells the columns even if no file matters.
    return [file for file in files[:-1] if _matters(file, names, window)] + files[-1:]


def _alike(files: Sequence[Path], event_names: set[str]) -> bool:
    names = frozenset(event_names)
    return len(files) == 1 or len({_footer(file, names).columns for file in files}) == 1


def _matters(file: Path, event_names: frozenset[str], window: Window) -> bool:
    footer = _footer(file, event_names)
    if footer.rows == 0:
        return False
    if footer.first is None or footer.last is None:
        return True
    since, until = window
    return (until is None or microseconds(footer.first) <= until) and (
        since is None or microseconds(footer.last) >= since
    )


def _footer(file: Path, event_names: frozenset[str]) -> _Footer:
    with readable(f"source {file}"):
        status = file.stat()
        changed = (status.st_mtime_ns, status.st_size)
        known = _footers.get((str(file), event_names))
        if known is not None and known.changed == changed:
            return known
        metadata = pq.read_metadata(file)
    first, last = _time_range(metadata, event_names)
    # Names, types and their order, as text: small, and one for all files that are alike. Its first
    # line is the address of the object.
    columns = sys.intern(str(metadata.schema).partition("\n")[2])
    footer = _Footer(changed, first, last, metadata.num_rows, columns)
    _footers[str(file), event_names] = footer
    return footer


def _time_range(
    metadata: pq.FileMetaData, event_names: frozenset[str]
) -> tuple[datetime | None, datetime | None]:
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    index = [i for i, path in enumerate(paths) if path in event_names]
    if len(index) != 1:
        return None, None
    bounds = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(index[0]).statistics
        if statistics is None or not statistics.has_min_max:
            return None, None
        bounds += [statistics.min, statistics.max]
    if not bounds or not all(isinstance(bound, datetime) for bound in bounds):
        return None, None
    aware = [bound if bound.tzinfo else bound.replace(tzinfo=UTC) for bound in bounds]
    return min(aware), max(aware)
