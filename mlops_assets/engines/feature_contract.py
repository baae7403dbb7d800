"""The contract of a feature view, asked of its day files: schema, ranges, unique rows, freshness.

Each question is one statement of DuckDB over the files of the days asked for, and always has an
answer: a missing or unreadable file breaks the contract. Asset checks ask in `defs/checks/`;
contracts of raw tables and training sets are not judged here.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.engines import duckdb as engine
from mlops_assets.engines.feature_statistics import missing_days, parquet_files
from mlops_assets.stores.lake import Lake, quoted, text
from mlops_assets.tables import CREATED_TIME, EVENT_TIME, Column, FeatureView

if TYPE_CHECKING:
    import duckdb

TYPES = {
    "string": ("VARCHAR",),
    "int": (
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    ),
    "float": ("DOUBLE", "FLOAT"),
    "bool": ("BOOLEAN",),
    "time": ("TIMESTAMP WITH TIME ZONE",),
}
"""DuckDB's types of a declared type."""


@dataclass(frozen=True)
class Finding:
    """Whether a rule holds, why not, and what was counted."""

    holds: bool
    reason: str
    counts: Mapping[str, float] = field(default_factory=dict)


Question = Callable[["duckdb.DuckDBPyConnection", str, FeatureView], Finding]


def asked_of_days(lake: Lake, view: FeatureView, days: list[dt.date], ask: Question) -> Finding:
    """Ask a question of exactly these days of a view."""
    import duckdb

    table = engine.features(view)
    if missing := missing_days(lake, view, days):
        shown = ", ".join(f"{day}" for day in missing[:3]) + (", …" if len(missing) > 3 else "")
        return Finding(
            False,
            f"table {table}: no file for {len(missing):,} of {len(days):,} days: {shown}; "
            "expected a file for every day, if need be without rows",
            {"days": len(days), "missing_days": len(missing)},
        )
    files = parquet_files([lake.day_file(table, day) for day in days])
    try:
        with lake.connect() as connection:
            found = ask(connection, files, view)
    except duckdb.Error as broken:
        reason = f"table {table}: the files cannot be judged: {str(broken).splitlines()[0]}"
        return Finding(False, reason, {"days": len(days)})
    return Finding(found.holds, found.reason, {"days": len(days), **found.counts})


def schema(connection: "duckdb.DuckDBPyConnection", files: str, view: FeatureView) -> Finding:
    """Every file has exactly the declared columns, with the declared types."""
    rows = connection.execute(
        f"SELECT name, duckdb_type, count(*), min(file_name) FROM parquet_schema({files}) "
        f"WHERE coalesce(num_children, 0) = 0 GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    total = connection.execute(f"SELECT len({files})").fetchall()[0][0]
    declared = {column.name: column for column in view.columns}
    wrong = []
    for name, column in declared.items():
        of_files = sum(n for found, _, n, _ in rows if found == name)
        if of_files < total:
            wrong.append(f"column {name} is missing in {total - of_files:,} of {total:,} files")
        wrong += [
            f"column {name} has type {kind} in {n:,} of {total:,} files, expected {column.type}; "
            f"for example {Path(file).name}"
            for found, kind, n, file in rows
            if found == name and kind not in TYPES[column.type]
        ]
    wrong += [
        f"column {name} is not declared, in {n:,} of {total:,} files; for example {Path(file).name}"
        for name, _, n, file in rows
        if name not in declared
    ]
    return _finding(view, wrong, f"{len(declared)} columns", {"columns": len(declared)})


def ranges(connection: "duckdb.DuckDBPyConnection", files: str, view: FeatureView) -> Finding:
    """Every value is allowed by its column's declaration, and every float is a finite number."""
    rules = [(column.name, *rule) for column in view.columns for rule in _rules(column)]
    counts = ", ".join(f"count(*) FILTER ({broken})" for _, _, broken in rules)
    total, *found = connection.execute(
        f"SELECT count(*), {counts} FROM read_parquet({files})"
    ).fetchall()[0]
    wrong = []
    for (name, rule, broken), count in zip(rules, found, strict=True):
        if count:
            example = _example(connection, f"SELECT * FROM read_parquet({files}) WHERE {broken}")
            wrong.append(f"column {name}: rule {rule}; {count:,} of {total:,} rows; {example}")
    return _finding(view, wrong, f"{total:,} rows", {"rows": total, "values_refused": sum(found)})


def _rules(column: Column) -> list[tuple[str, str]]:
    """The rules of a column in words, and in SQL when a value breaks them."""
    name = quoted(column.name)
    rules = []
    if column.type == "float":
        rules.append(("finite", f"NOT isfinite({name})"))
    if not column.nullable:
        rules.append(("no value is missing", f"{name} IS NULL"))
    if column.minimum is not None:
        rules.append((f"at least {column.minimum:g}", f"{name} < {column.minimum!r}"))
    if column.maximum is not None:
        rules.append((f"at most {column.maximum:g}", f"{name} > {column.maximum!r}"))
    if column.allowed is not None:
        values = ", ".join(text(value) for value in column.allowed)
        rules.append((f"one of {', '.join(column.allowed)}", f"{name} NOT IN ({values})"))
    return rules


def unique(connection: "duckdb.DuckDBPyConnection", files: str, view: FeatureView) -> Finding:
    """No two rows have the same keys, event time and created time."""
    keys = [*(entity.name for entity in view.entities), EVENT_TIME, CREATED_TIME]
    names = ", ".join(quoted(name) for name in keys)
    total, twice, example = connection.execute(
        f"SELECT coalesce(sum(copies), 0)::BIGINT, count(*) FILTER (copies > 1), "
        f"arg_min({{{', '.join(f'{quoted(name)}: {quoted(name)}' for name in keys)}}}, "
        f"({names})) FILTER (copies > 1) "
        f"FROM (SELECT {names}, count(*) AS copies FROM read_parquet({files}) GROUP BY ALL)"
    ).fetchall()[0]
    wrong = []
    if twice:
        shown = _shown(example)
        wrong.append(f"columns {', '.join(keys)}: rule unique; {twice:,} more than once; {shown}")
    return _finding(view, wrong, f"{total:,} rows", {"rows": total, "rows_repeated": twice})


def fresh(lake: Lake, view: FeatureView, now: dt.datetime) -> Finding:
    """The newest event is not older than the view's TTL, at the end of its events or now."""
    import duckdb

    table, until = engine.features(view), expected_until(view, now)
    files = sorted(lake.folder(table).glob("*.parquet"), reverse=True)
    newest = None
    try:
        with lake.connect() as connection:
            for path in files:
                # From the newest day back: the first file with a row has the newest event.
                newest = connection.execute(
                    f"SELECT max({EVENT_TIME})::TIMESTAMP FROM read_parquet({text(path)})"
                ).fetchall()[0][0]
                if newest is not None:
                    break
    except duckdb.Error as broken:
        return Finding(False, f"table {table}: cannot be read: {str(broken).splitlines()[0]}")
    if newest is None:
        return Finding(False, f"table {table}: no rows in {len(files):,} files; expected events")
    age = until - newest.replace(tzinfo=dt.UTC)
    counts = {
        "age_hours": age.total_seconds() / 3600,
        "limit_hours": view.ttl.total_seconds() / 3600,
    }
    said = f"the newest event is of {newest:%Y-%m-%d %H:%M}, {age} before {until:%Y-%m-%d %H:%M}"
    wrong = [f"{said}; expected at most {view.ttl}, the TTL"] if age > view.ttl else []
    return _finding(view, wrong, said, counts)


def expected_until(view: FeatureView, now: dt.datetime) -> dt.datetime:
    """Until when events are expected: the end of events or calendar if it is past, else now."""
    end = view.events_end or view.calendar.end
    if end is None:
        return now
    return min(now, dt.datetime.combine(end, dt.time(), dt.UTC))


def _example(connection: "duckdb.DuckDBPyConnection", query: str) -> str:
    cursor = connection.execute(f"{query} ORDER BY ALL LIMIT 1")
    names = [column[0] for column in cursor.description or []]
    return _shown(dict(zip(names, cursor.fetchall()[0], strict=True)))


def _shown(row: Mapping[str, Any]) -> str:
    values = {
        k: f"{v:%Y-%m-%d %H:%M:%S}" if isinstance(v, dt.datetime) else v for k, v in row.items()
    }
    return f"for example {values}"


def _finding(
    view: FeatureView, wrong: list[str], right: str, counts: Mapping[str, float]
) -> Finding:
    if wrong:
        return Finding(False, f"table {engine.features(view)}, {'; '.join(wrong)}", counts)
    return Finding(True, right, counts)
