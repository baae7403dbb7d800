"""The contract of a feature view, asked of its day files: schema, ranges, unique rows, freshness.

Each question is one statement of DuckDB over the files of the days asked for, and always has an
answer: a missing or unreadable file breaks the contract. Asset checks ask in `defs/checks/`;
contracts of raw tables and training sets are not judged here.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.stores.lake import DayFiles, Lake, parquet_files, quoted, text, write_json
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
    """Whether a rule holds, why not, what was counted, and whether to go on if it does not."""

    holds: bool
    reason: str
    counts: Mapping[str, float] = field(default_factory=dict)
    blocks: bool = True


Question = Callable[["duckdb.DuckDBPyConnection", str, FeatureView], Finding]


def judged(lake: Lake, view: FeatureView, rule: str) -> Finding:
    """Ask one of the `RULES` of the days of a view whose files changed since they last passed.

    Which files passed is kept beside the tables, so that a day that failed, or was never judged
    because a run broke off, is judged again by the next run, whatever days that one is about.
    """
    import duckdb

    table = engine.features(view)
    files = lake.days(table)
    if not files:
        return Finding(False, f"table {table}: there are no files; expected one per day")
    wanted, passed = _wanted(view, rule, files), _passed(lake, view, rule)
    first = view.calendar.start.isoformat()
    if lost := [day for day in passed if day >= first and day not in wanted]:
        shown = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
        return Finding(
            False,
            f"table {table}: the files of {len(lost):,} days are gone: {shown}; expected a file "
            "for every day that had one, if need be without rows",
            {"days": len(wanted), "lost_days": len(lost)},
        )
    days = [day for day in files if passed.get(day.isoformat()) != wanted[day.isoformat()]]
    counts = {"days": len(wanted), "judged_days": len(days)}
    if not days:
        return Finding(True, f"all {len(wanted):,} days passed before, no file has changed", counts)
    paths = parquet_files([path for day in days for path in files[day].paths])
    try:
        with lake.connect() as connection:
            found = RULES[rule].ask(connection, paths, view)
    except duckdb.Error as broken:
        reason = f"table {table}: the files cannot be judged: {str(broken).splitlines()[0]}"
        return Finding(False, reason, counts)
    if found.holds:
        write_json(_passed_file(lake, view, rule), wanted)
    return Finding(found.holds, found.reason, {**counts, **found.counts})


def open_days(lake: Lake, view: FeatureView) -> list[dt.date]:
    """Days of the calendar whose files have not passed every rule: they failed, or a run broke off.

    Not among them are days to which rows were added: to compute these anew would drop the rows.
    """
    files = lake.days(engine.features(view))
    computed = [d for d in engine.days_of(view) if d in files and len(files[d].paths) == 1]
    found = set()
    for rule in RULES:
        wanted, passed = _wanted(view, rule, files), _passed(lake, view, rule)
        found |= {d for d in computed if passed.get(d.isoformat()) != wanted[d.isoformat()]}
    return sorted(found)


def _wanted(view: FeatureView, rule: str, files: Mapping[dt.date, DayFiles]) -> dict[str, str]:
    """Mark of each day's files and of what a rule asks of them, by ISO date."""
    how = fingerprint.of_values(rule, [column.model_dump() for column in view.columns])[:16]
    return {day.isoformat(): f"{found.mark}-{how}" for day, found in files.items()}


def _passed_file(lake: Lake, view: FeatureView, rule: str) -> Path:
    return lake.folder(f"contracts/{view.name}/{rule}.json")


def _passed(lake: Lake, view: FeatureView, rule: str) -> dict[str, str]:
    """The days that passed, by ISO date, with the mark of their files; none if not readable."""
    try:
        found = json.loads(_passed_file(lake, view, rule).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
            example = _example(connection, files, broken)
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
    """The newest event is not older than the view's TTL, at the end of its events or now.

    When the newest days are not materialized yet, this is said and nothing more: a run over days
    of the past is not at fault.
    """
    import duckdb

    table, until = engine.features(view), expected_until(view, now)
    files = lake.days(table)
    newest = None
    try:
        with lake.connect() as connection:
            for day in reversed(files):
                # From the newest day back: the first day with a row has the newest event.
                newest = connection.execute(
                    f"SELECT max({EVENT_TIME})::TIMESTAMP "
                    f"FROM read_parquet({parquet_files(files[day].paths)})"
                ).fetchall()[0][0]
                if newest is not None:
                    break
    except duckdb.Error as broken:
        return Finding(False, f"table {table}: cannot be read: {str(broken).splitlines()[0]}")
    if newest is None:
        return Finding(False, f"table {table}: no rows in {len(files):,} days; expected events")
    age = until - newest.replace(tzinfo=dt.UTC)
    counts = {
        "age_hours": age.total_seconds() / 3600,
        "limit_hours": view.ttl.total_seconds() / 3600,
    }
    said = f"the newest event is of {newest:%Y-%m-%d %H:%M}, {age} before {until:%Y-%m-%d %H:%M}"
    if age <= view.ttl:
        return Finding(True, f"table {table}, {said}", counts)
    expected = f"{said}; expected at most {view.ttl}, the TTL"
    last_day = (until - dt.timedelta(microseconds=1)).date()
    if last_day not in files:
        wait = f"; the days after {max(files)} are not materialized yet"
        return Finding(False, f"table {table}, {expected}{wait}", counts, blocks=False)
    return Finding(False, f"table {table}, {expected}", counts)


def expected_until(view: FeatureView, now: dt.datetime) -> dt.datetime:
    """Until when events are expected: the end of events or calendar if it is past.

    Else the midnight before `now`: a day is computed when it is over.
    """
    end = view.events_end or view.calendar.end
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if end is None:
        return midnight
    return min(midnight, dt.datetime.combine(end, dt.time(), dt.UTC))


@dataclass(frozen=True)
class Rule:
    """A rule of a view's day files, and the question that finds out whether it holds."""

    description: str
    ask: Question


RULES: Mapping[str, Rule] = {
    "schema_contract": Rule("Every day file has the declared columns and types.", schema),
    "value_ranges": Rule(
        "Values are within their declared bounds, finite, and there where they must be.", ranges
    ),
    "unique_rows": Rule("No two rows share keys, event time and created time.", unique),
}
"""The rules of day files, by the name of their check."""


def _example(connection: "duckdb.DuckDBPyConnection", files: str, broken: str) -> str:
    # No WHERE: a file's statistics may leave out NaN, and then it would find nothing.
    query = f"SELECT min(found) FILTER ({broken}) FROM read_parquet({files}) AS found"
    return _shown(connection.execute(query).fetchall()[0][0])


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
