"""Marks: what each day of a table rests on, so that a late source row makes few days stale.

A raw table has a mark as a whole, and one per day of its rows when its source names a time. A day
of a feature view rests on the days of its sources that its rows can see. Only marks belong here;
who computes what is stale stands in `duckdb.py` and in `defs/`.
"""

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core import fingerprint
from mlops_assets.stores.lake import Lake, quoted, write_json
from mlops_assets.tables import FeatureView, Source

if TYPE_CHECKING:
    import duckdb

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class SourceMark:
    """The mark of a raw table, and of each day of its rows (ISO date) where that is known.

    Without `days`, any change of the table touches every day of what is computed from it.
    """

    whole: str
    days: Mapping[str, str] | None = None


def source_days(
    connection: "duckdb.DuckDBPyConnection", source: Source, relation: str
) -> dict[str, str] | None:
    """Mark of the rows of each day of a source, whatever their order; None without a time.

    Args:
        connection: where the relation can be read.
        source: the source.
        relation: SQL that can stand after FROM, with the source's declared columns.
    """
    if source.time is None:
        return None
    # DuckDB combines the hashes of columns by xor: unmixed, rows that swap a value hide each other.
    row = f"hash(hash({', '.join(quoted(column.name) for column in source.columns)}))"
    time = quoted(source.time)
    found = connection.execute(
        f"SELECT {time}::DATE::VARCHAR, count(*), sum({row}::HUGEINT), bit_xor({row}) "
        f"FROM {relation} WHERE {time} IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return {day: f"{rows:x}-{total:x}-{mixed:x}" for day, rows, total, mixed in found}


def keep(lake: Lake, table: str, time: str | None, mark: SourceMark) -> None:
    """Write down the days of a raw table, by its column `time`, beside it."""
    write_json(_file(lake, table), {"whole": mark.whole, "time": time, "days": mark.days})


def kept(lake: Lake, table: str, time: str | None, whole: str) -> SourceMark:
    """The mark of a raw table; its days only when they are those of this very table by `time`."""
    try:
        found = json.loads(_file(lake, table).read_text())
        days = found["days"] if (found["whole"], found["time"]) == (whole, time) else None
    except (OSError, ValueError, TypeError, KeyError):
        return SourceMark(whole)
    return SourceMark(whole, days)


def _file(lake: Lake, table: str) -> Path:
    return lake.folder(f"{table}.days.json")


def reach(view: FeatureView, first: dt.date, last: dt.date) -> tuple[dt.date, dt.date]:
    """The days of source rows, the end exclusive, that features from first to last day can see."""
    return first - _whole_days(view.lookback), last + DAY + _whole_days(view.lookahead)


def feature_days(
    view: FeatureView,
    definition: str,
    sources: Mapping[str, SourceMark],
    days: Sequence[dt.date],
) -> dict[dt.date, str]:
    """Mark of each day of a feature view.

    Args:
        view: the view.
        definition: what it means.
        sources: marks of its raw tables, by name.
        days: the days asked for.
    """
    fixed = {}
    moving = []
    for source in view.sources:
        mark = sources[source.name]
        if mark.days is None:
            fixed[source.name] = mark.whole
        else:
            moving.append((source.name, mark.days))
    common = fingerprint.of_values(definition, fixed)
    found = {}
    for day in days:
        since, until = reach(view, day, day)
        seen = [(since + i * DAY).isoformat() for i in range((until - since).days)]
        rows = [(name, [(d, marks[d]) for d in seen if d in marks]) for name, marks in moving]
        found[day] = fingerprint.of_values(common, rows)
    return found


def _whole_days(span: dt.timedelta) -> dt.timedelta:
    return math.ceil(span / DAY) * DAY
