"""Computes tables with DuckDB: raw tables, feature views by range of days, entity rows.

The only engine that the embedded profile needs. Definitions come from `tables.py`, files from
`stores/lake.py`; what follows from a table is none of this file's business.
"""

import datetime as dt
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.engines import marks
from mlops_assets.engines.marks import SourceMark
from mlops_assets.errors import DeclarationError, SourceError
from mlops_assets.stores.lake import FINGERPRINT, Lake, quoted, text, view
from mlops_assets.tables import EVENT_TIME, EntityRows, FeatureView, Source

if TYPE_CHECKING:
    import duckdb

TYPES = {
    "string": "string",
    "int": "int64",
    "float": "float64",
    "bool": "boolean",
    "time": "timestamp('UTC')",
}

CSV = (
    "header = true, delim = ',', quote = '\"', escape = '\"', comment = '', skip = 0, "
    "all_varchar = true, nullstr = ['NA', '']"
)


def raw(source: Source) -> str:
    """Table of a source in the lake."""
    return f"raw/{source.name}"


def features(feature_view: FeatureView) -> str:
    """Table of a feature view in the lake."""
    return f"features/{feature_view.name}"


def rows(entity_rows: EntityRows) -> str:
    """Table of entity rows in the lake."""
    return f"rows/{entity_rows.name}"


@functools.cache
def definition(table: FeatureView | EntityRows) -> str:
    """The SQL that a definition means; two definitions that mean the same give the same."""
    import ibis

    sources = {
        source.name: ibis.table(
            {column.name: TYPES[column.type] for column in source.columns}, name=source.name
        )
        for source in table.sources
    }
    expression = table.build(sources)
    names = {column.name for column in table.columns}
    if missing := sorted(names - set(expression.columns)):
        raise DeclarationError(
            f"the definition of {table.name!r} does not give the columns {', '.join(missing)}",
            expected=f"all declared columns; it gives {', '.join(expression.columns)}",
            do=f"add them to the build function of {table.name!r}, or drop the declaration",
        )
    columns = [column.name for column in table.columns]
    return _ordered(str(ibis.to_sql(expression.select(columns), dialect="duckdb")))


def _ordered(query: str) -> str:
    """Sort the lists of EXCLUDE, which Ibis writes in the order of a set: it differs by process."""
    import sqlglot
    from sqlglot import expressions

    tree = sqlglot.parse_one(query, dialect="duckdb")
    for star in tree.find_all(expressions.Star):
        for name in ("except", "except_"):
            if star.args.get(name):
                star.set(name, sorted(star.args[name], key=lambda column: column.sql()))
    return tree.sql(dialect="duckdb", pretty=True)


def open_source(
    connection: "duckdb.DuckDBPyConnection", source: Source, folder: Path
) -> tuple[str, Path]:
    """Show a source's file as the relation `file`; return its SQL and its path.

    Text files are read as comma-separated text ("NA" and the empty field are null), so that a
    column's type is what the source's SELECT casts it to, and neither type nor delimiter is a
    guess from the first rows.

    Raises:
        SourceError: when the file is missing, empty, or lacks a column.
    """
    path = source.fetch(folder)
    if not path.exists():
        raise SourceError(
            f"the source {source.name!r} has no file at {path}",
            expected="a Parquet or CSV file",
            do="restore the file, or correct the source's declaration",
        )
    if path.suffix == ".parquet":
        relation = f"read_parquet({text(path)})"
    else:
        relation = f"read_csv({text(path)}, {CSV})"
    described, some = _try(
        connection,
        source,
        f"DESCRIBE SELECT * FROM {relation}",
        f"SELECT count(*) FROM (SELECT 1 FROM {relation} LIMIT 1)",
    )
    columns = [row[0] for row in described]
    if missing := [name for name in source.raw_columns if name not in columns]:
        raise SourceError(
            f"the source {source.name!r} lacks the columns {', '.join(missing)}: "
            f"{path.name} has {', '.join(columns)}",
            expected=f"the columns {', '.join(source.raw_columns)}",
            do="restore the columns, or correct the source's declaration",
        )
    if not some[0][0]:
        raise SourceError(
            f"the source {source.name!r} is empty: {path} has no rows",
            expected="at least one row",
            do="restore the file; the table in the lake stays as it is until then",
        )
    return source.select.replace("FROM file", f"FROM {relation}"), path


def _try(connection: "duckdb.DuckDBPyConnection", source: Source, *queries: str) -> list[Any]:
    with readable_source(source):
        return [connection.execute(query).fetchall() for query in queries]


@contextmanager
def readable_source(source: Source) -> Iterator[None]:
    """Tell what DuckDB found wrong with a source in the words of a SourceError."""
    import duckdb

    try:
        yield
    except duckdb.Error as broken:
        # DuckDB says first what is wrong; after an empty line or a list, which options it has.
        told = takewhile(lambda line: line and line[-1] != ":", str(broken).splitlines())
        reason = "; ".join(told)
        raise SourceError(
            f"the source {source.name!r} cannot be read: {reason}",
            expected=f"a file with the columns {', '.join(source.raw_columns)}, of values that "
            "the source's SELECT can cast",
            do="restore or correct the file, or correct the source's declaration",
        ) from broken


def source_fingerprint(source: Source, path: Path) -> str:
    """Fingerprint of a raw table: the file's bytes and the SQL that reads them."""
    return fingerprint.of_values(fingerprint.of_file(path), source.select)


def write_source(lake: Lake, source: Source) -> tuple[int, SourceMark]:
    """Copy a source into the lake; return the row count and the mark of the raw table."""
    with lake.scratch() as folder, lake.connect() as connection:
        query, path = open_source(connection, source, folder)
        mark = source_fingerprint(source, path)
        with readable_source(source):
            count = lake.write(connection, query, lake.file(raw(source)), {FINGERPRINT: mark})
            copied = f"read_parquet({text(lake.file(raw(source)))})"
            days = marks.source_days(connection, source, copied)
        # After the table: if this is never written, all days of its features are stale.
        found = SourceMark(mark, days)
        marks.keep(lake, raw(source), source.time, found)
    return count, found


def source_mark(lake: Lake, source: Source) -> SourceMark | None:
    """The mark of a raw table in the lake; None when it is not there."""
    whole = lake.fingerprint(lake.file(raw(source)))
    return None if whole is None else marks.kept(lake, raw(source), source.time, whole)


def days_of(feature_view: FeatureView, until: dt.date | None = None) -> list[dt.date]:
    """The days of a feature view's calendar."""
    start = feature_view.calendar.start
    end = feature_view.calendar.end or until or dt.datetime.now(dt.UTC).date()
    return [start + dt.timedelta(days=i) for i in range((end - start).days)]


def features_fingerprint(feature_view: FeatureView, sources: Mapping[str, str]) -> str:
    """Fingerprint of a feature table: what it means, and the raw tables under it."""
    used = {source.name: sources[source.name] for source in feature_view.sources}
    return fingerprint.of_values(definition(feature_view), used)


def features_marks(
    feature_view: FeatureView, sources: Mapping[str, SourceMark], days: Sequence[dt.date]
) -> dict[dt.date, str]:
    """Mark of each day of a feature view: what it means, and the source rows it can see."""
    return marks.feature_days(feature_view, definition(feature_view), sources, days)


def stale_days(
    lake: Lake, feature_view: FeatureView, sources: Mapping[str, SourceMark]
) -> list[dt.date]:
    """Days of the calendar whose file is missing, or rests on other rows or another definition."""
    found, days = lake.day_fingerprints(features(feature_view)), days_of(feature_view)
    if not found:
        return days
    wanted = features_marks(feature_view, sources, days)
    return [day for day, mark in wanted.items() if found.get(day) != mark]


def write_features(
    lake: Lake,
    feature_view: FeatureView,
    days: Sequence[dt.date],
    sources: Mapping[str, SourceMark] | None = None,
) -> dict[dt.date, int]:
    """Compute a feature view for a run of days in one statement; return rows per day.

    Exactly these days are replaced. Sources are read from `lookback` before the first day to
    `lookahead` after the last: a row's windows see the same whether a day is computed alone or
    with the whole year.

    Args:
        lake: where raw tables are read and feature files written.
        feature_view: the view.
        days: the days, without a gap.
        sources: marks of the raw tables by name; read from the lake when not given.
    """
    first, last = min(days), max(days)
    found = sources or {s.name: needed_mark(lake, s) for s in feature_view.sources}
    noted = {
        day: {FINGERPRINT: mark} for day, mark in features_marks(feature_view, found, days).items()
    }
    with lake.connect() as connection:
        _show_sources(lake, connection, feature_view, marks.reach(feature_view, first, last))
        order = ", ".join([EVENT_TIME, *(quoted(e.name) for e in feature_view.entities)])
        rows = connection.sql(
            f"SELECT * FROM ({definition(feature_view)}) "
            f"WHERE {EVENT_TIME} >= {text(first)}::TIMESTAMPTZ "
            f"AND {EVENT_TIME} < {text(last + dt.timedelta(days=1))}::TIMESTAMPTZ ORDER BY {order}"
        ).to_arrow_table()
    return lake.write_days(rows, features(feature_view), days, noted)


def needed_mark(lake: Lake, source: Source) -> SourceMark:
    """The mark of a raw table in the lake; SourceError when it is not there."""
    found = source_mark(lake, source)
    if found is None:
        raise SourceError(
            f"the raw table {source.name!r} is not at {lake.file(raw(source))}, or has no mark",
            expected="a raw table that was copied into the lake",
            do=f"materialize raw/{source.name} first",
        )
    return found


def _show_sources(
    lake: Lake,
    connection: "duckdb.DuckDBPyConnection",
    table: FeatureView | EntityRows,
    reach: tuple[dt.date, dt.date] | None = None,
) -> None:
    for source in table.sources:
        path = lake.file(raw(source))
        if reach is None or source.time is None:
            view(connection, source.name, path)
            continue
        whole = f"all {source.name}"
        view(connection, whole, path)
        since, until = (f"{text(day)}::TIMESTAMPTZ" for day in reach)
        connection.execute(
            f"CREATE TEMP VIEW {quoted(source.name)} AS SELECT * FROM {quoted(whole)} "
            f"WHERE {quoted(source.time)} >= {since} AND {quoted(source.time)} < {until}"
        )


def rows_fingerprint(table: EntityRows, sources: Mapping[str, str]) -> str:
    """Fingerprint of a table of entity rows: what it means, and the raw tables under it."""
    used = {source.name: sources[source.name] for source in table.sources}
    return fingerprint.of_values(definition(table), used)


def write_rows(lake: Lake, table: EntityRows, mark: str) -> int:
    """Compute a table of entity rows; return the row count."""
    with lake.connect() as connection:
        _show_sources(lake, connection, table)
        query = f"SELECT * FROM ({definition(table)}) ORDER BY {EVENT_TIME}, {quoted(table.row_id)}"
        return lake.write(connection, query, lake.file(rows(table)), {FINGERPRINT: mark})


def preview_rows(
    connection: "duckdb.DuckDBPyConnection", table: EntityRows, queries: Mapping[str, str]
) -> str:
    """Name the table of entity rows straight over the sources, before anything is written.

    Args:
        connection: where the sources' files can be read.
        table: the entity rows.
        queries: the SQL of each source, as `open_source` gives it.

    Returns:
        The name of a view.

    Raises:
        SourceError: when a source cannot be read as declared.
    """
    for source in table.sources:
        copy = f"CREATE TEMP TABLE {quoted(source.name)} AS {queries[source.name]}"
        _try(connection, source, copy)
    connection.execute(f"CREATE TEMP VIEW preview AS {definition(table)}")
    return "preview"
