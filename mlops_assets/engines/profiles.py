"""Profiles of all columns of a selection by day and slice, in one pass of DuckDB.

Only how they are counted: what a profile is stands in `core/profile.py`, and nothing is judged
here. A selection is a query of one row per row of the window.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mlops_assets.core.profile import (
    LARGEST,
    MOST_CATEGORIES,
    MOST_NAMES,
    N_BINS,
    Bins,
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
)
from mlops_assets.errors import SourceError, UnknownNameError
from mlops_assets.stores.lake import Lake, quoted, text
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import duckdb

_WHOLE = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
_WHOLE |= {f"U{name}" for name in _WHOLE}
_TEXTS = ("VARCHAR", "ENUM", "UUID")


@dataclass(frozen=True, slots=True)
class DayProfiles:
    """Profiles of a day, UTC, by column; `group` has the values of what it was grouped by."""

    day: dt.date
    group: tuple[str | None, ...]
    rows: int
    columns: Mapping[str, Profile]


def reference_profiles(
    lake: Lake, selection: str, columns: Sequence[str], *, n_bins: int = N_BINS
) -> dict[str, Profile]:
    """Profiles of the reference by column, with the bins that its own rows give.

    Each column is read twice, alone the first time: to find its bins.

    Args:
        lake: gives the connection.
        selection: the rows of the reference.
        columns: what to profile; texts become categories and all else numbers (a time its seconds
            since 1970).
        n_bins: bins of a number.

    Raises:
        SourceError: when rows cannot be read, or a column is neither number nor text.
    """
    with lake.connect() as connection:
        types = _types(connection, selection, columns)
        bins = {name: _bins(connection, selection, name, types[name], n_bins) for name in columns}
        (found,) = _days(connection, _query(selection, bins, types, ()), bins)
    return dict(found.columns)


def daily_profiles(
    lake: Lake,
    selection: str,
    bins: Mapping[str, Bins],
    *,
    by: Sequence[str] = (),
    time: str = EVENT_TIME,
) -> list[DayProfiles]:
    """Profiles of all columns by day and group, in order, in one scan of the selection.

    Args:
        lake: gives the connection.
        selection: the rows.
        bins: bins of each column that is profiled, those of the reference.
        by: further columns to group by: slices, `version`, `arm`.
        time: the column that tells the day.

    Raises:
        SourceError: when rows cannot be read, or a column has another type than the reference.
    """
    with lake.connect() as connection:
        types = _types(connection, selection, [*bins, *by, time])
        query = _query(selection, bins, types, (f"{quoted(time)}::DATE", *map(_named, by)))
        return _days(connection, query, bins)


def _named(column: str) -> str:
    return f"{quoted(column)}::VARCHAR"


def _types(
    connection: "duckdb.DuckDBPyConnection", selection: str, columns: Sequence[str]
) -> dict[str, str]:
    """DuckDB's type of each column, without reading rows."""
    found = {str(name): str(kind) for name, kind, *_ in _read(connection, f"DESCRIBE {selection}")}
    for name in columns:
        if name not in found:
            raise UnknownNameError.of("column of the selection", name, found)
    return {name: found[name] for name in columns}


def _read(connection: "duckdb.DuckDBPyConnection", query: str) -> list[tuple[Any, ...]]:
    import duckdb

    try:
        return connection.execute(query).fetchall()
    except duckdb.Error as broken:
        raise SourceError(
            f"a selection cannot be profiled: {str(broken).splitlines()[0]}",
            expected="readable rows with the columns of the reference",
            do="look at the files, and whether the model version belongs to them",
        ) from broken


def _bins(
    connection: "duckdb.DuckDBPyConnection", selection: str, name: str, kind: str, n_bins: int
) -> Bins:
    value = _value(name, kind)
    if kind.startswith(_TEXTS):
        counts = f"SELECT {value} AS value, count(*) AS n FROM ({selection}) GROUP BY value"
        frequent = (
            f"SELECT * FROM ({counts}) WHERE value IS NOT NULL "
            f"ORDER BY n DESC, value LIMIT {MOST_CATEGORIES + 1}"
        )
        return CategoryBins.of(dict(_read(connection, frequent)))
    rows = connection.sql(f"SELECT {value} AS value FROM ({selection}) WHERE value IS NOT NULL")
    return NumberBins.of(rows.fetchnumpy()["value"], n_bins)


def _value(name: str, kind: str) -> str:
    """A column as text, or as a number that is null where it is not finite."""
    column = quoted(name)
    if kind.startswith(_TEXTS):
        return f"{column}::VARCHAR"
    if kind in _WHOLE or kind.startswith("DECIMAL"):
        return f"{column}::DOUBLE"
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isfinite({column}) THEN {column}::DOUBLE END"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"CASE WHEN isfinite({column}) THEN epoch({column}) END"
    raise SourceError(
        f"the column {name!r} has the type {kind}",
        expected="numbers, flags, times or texts",
        do="profile a number or text that is made of it",
    )


def _query(
    selection: str, bins: Mapping[str, Bins], types: Mapping[str, str], by: Sequence[str]
) -> str:
    """One aggregate struct per column, by groups."""
    for name, kind in bins.items():
        if isinstance(kind, CategoryBins) != types[name].startswith(_TEXTS):
            raise SourceError(
                f"the column {name!r} has the type {types[name]}",
                expected=f"{'texts' if isinstance(kind, CategoryBins) else 'numbers'}, "
                "as in the reference",
                do="look for what changed the column, or profile with the reference of its version",
            )
    groups = [f"{sql} AS g{i}" for i, sql in enumerate(by)]
    values = [f"{_value(name, types[name])} AS v{i}" for i, name in enumerate(bins)]
    # What is compared with every bound has no nulls, which would slow it by half: nulls lie above
    # all bounds. Taking off zero unpacks what the file holds as a dictionary, once for all bounds.
    placed = [
        f"coalesce(v{i}, {_double(math.inf)}) - 0e0 AS p{i}"
        for i, kind in enumerate(bins.values())
        if isinstance(kind, NumberBins)
    ]
    names = [f"g{i}" for i in range(len(by))]
    keys = f"[{', '.join(f'{name}::VARCHAR' for name in names)}]::VARCHAR[]"
    structs = [_aggregate(f"v{i}", f"p{i}", kind) for i, kind in enumerate(bins.values())]
    order = ", ".join(names)
    return (
        f"SELECT {', '.join((keys, 'count(*)', *structs))} "
        # Rows are counted even where no column is asked for.
        f"FROM (SELECT {', '.join(('*', *placed))} "
        f"FROM (SELECT {', '.join(('1', *groups, *values))} FROM ({selection})))"
        + (f" GROUP BY {order} ORDER BY {order}" if order else "")
    )


def _aggregate(name: str, placed: str, bins: Bins) -> str:
    if isinstance(bins, CategoryBins):
        # A sign before each, as DuckDB counts all others under the empty text.
        known = ", ".join(text(f"={category}") for category in bins.categories)
        new = f" FILTER ({name} NOT IN ({', '.join(map(text, bins.categories))}))" if known else ""
        return (
            f"row(histogram_exact('=' || {name}, [{known}]::VARCHAR[]), count({name}), "
            f"min(DISTINCT {name}, {MOST_NAMES}){new})"
        )
    # For 20 bins, comparing whole vectors with each bound costs less than DuckDB's `histogram`,
    # which searches the bin of every value.
    below = ", ".join(f"count_if({placed} <= {_double(bound)})" for bound in bins.bounds)
    off = f"({name} - {_double(bins.center)})"
    near = f"CASE WHEN abs({off}) <= {_double(LARGEST)} THEN {off}"
    return (
        f"row([{below}], count({name}), sum({near} END), sum({near} * {off} END), "
        f"min({name}), max({name}))"
    )


def _double(number: float) -> str:
    """A number as SQL that is read as a double, and exactly: without exponent it is a decimal."""
    if math.isinf(number):
        return "'inf'::DOUBLE"
    return repr(number) if "e" in repr(number) else f"{number!r}e0"


def _days(
    connection: "duckdb.DuckDBPyConnection", query: str, bins: Mapping[str, Bins]
) -> list[DayProfiles]:
    """Run a query and read its rows; without groups the day is that of 1970."""
    return [
        DayProfiles(
            day=dt.date.fromisoformat(keys[0]) if keys else dt.date(1970, 1, 1),
            group=tuple(keys[1:]),
            rows=rows,
            columns={
                name: _profile(kind, found, rows)
                for (name, kind), found in zip(bins.items(), structs, strict=True)
            },
        )
        for keys, rows, *structs in _read(connection, query)
    ]


def _profile(bins: Bins, found: Sequence[Any], rows: int) -> Profile:
    if isinstance(bins, CategoryBins):
        by_name, values, names = found
        counts = tuple((by_name or {}).get(f"={name}", 0) for name in bins.categories)
        others = values - sum(counts)
        return CategoryProfile(bins, counts, others, tuple(names or ()), rows - values)
    below, values, total, squares, least, most = found
    return NumberProfile(
        bins,
        tuple(high - low for low, high in pairwise((0, *(n or 0 for n in below), values))),
        rows - values,
        Fraction(total or 0.0),
        Fraction(squares or 0.0),
        least,
        most,
    )
