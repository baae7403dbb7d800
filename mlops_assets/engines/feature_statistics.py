"""Statistics of feature views by day: one row per day and feature, in one pass of DuckDB.

Only how they are computed and kept, as the lake's table `statistics/<view>`, one small file that
knows from which files each of its days was computed.
Whether a value may be there is judged in `feature_contract.py`; drift is decided elsewhere.
"""

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import SourceError
from mlops_assets.stores.lake import DayFiles, Lake, parquet_files, quoted, text
from mlops_assets.tables import EVENT_TIME, Column, FeatureView

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MARKS = "days"
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
NUMBERS = ("mean", "std", *QUANTILES, "minimum", "maximum")
"""What a feature of text has no answer to: null there."""


def table(view: FeatureView) -> str:
    """Table of a view's statistics in the lake."""
    return f"statistics/{view.name}"


def stale_days(lake: Lake, view: FeatureView) -> list[dt.date]:
    """Days whose feature files are not those that the kept statistics were computed from."""
    kept = _kept_marks(lake, view)
    wanted = _marks(view, lake.days(engine.features(view)))
    return [day for day, mark in wanted.items() if kept.get(day.isoformat()) != mark]


def write_statistics(lake: Lake, view: FeatureView) -> tuple["pa.Table", list[dt.date]]:
    """Bring the statistics of a view up to date: only days whose files changed are computed.

    Returns:
        All statistics, and the days that were computed. One row per day and feature, in this
        order: `event_timestamp` (the day's midnight), `feature`, `count` (rows of the day),
        `null_share`, `mean`, `std` (of the sample), the quantiles, `distinct_values`
        (approximate), `minimum`, `maximum`. NaN and infinity count as nulls. Of a day without
        rows the count is 0 and everything else null.

    Raises:
        SourceError: when there are no feature files, or one cannot be read.
    """
    import duckdb

    files = lake.days(engine.features(view))
    if not files:
        raise SourceError(
            f"the feature view {view.name!r} has no files",
            expected=f"a file per day in {lake.folder(engine.features(view))}",
            do=f"materialize {engine.features(view)!r} first",
        )
    wanted, kept = _marks(view, files), _kept_marks(lake, view)
    stale = [day for day, mark in wanted.items() if kept.get(day.isoformat()) != mark]
    current = [day for day in wanted if day not in set(stale)]
    with lake.connect() as connection:
        try:
            parts = [_kept_rows(connection, lake, view, current)] if current else []
        except duckdb.Error:  # damaged: as if there were none
            parts, stale = [], list(wanted)
        try:
            if stale:
                paths = [path for day in stale for path in files[day].paths]
                parts.append(connection.sql(_query(view, stale, paths)).to_arrow_table())
        except duckdb.Error as broken:
            raise SourceError(
                f"the feature view {view.name!r} has no statistics: {str(broken).splitlines()[0]}",
                expected="readable files with the declared columns",
                do=f"materialize the days of {engine.features(view)!r} again",
            ) from broken
    found = _in_order(parts, view)
    notes = {MARKS: json.dumps({day.isoformat(): mark for day, mark in wanted.items()})}
    lake.write_arrow(found, lake.file(table(view)), notes)
    return found, stale


def _marks(view: FeatureView, files: Mapping[dt.date, DayFiles]) -> dict[dt.date, str]:
    """Mark of each day: its feature files, and how statistics are computed."""
    how = fingerprint.of_values(_values(view), _aggregates(view))[:16]
    return {day: f"{found.mark}-{how}" for day, found in files.items()}


def _kept_marks(lake: Lake, view: FeatureView) -> dict[str, str]:
    """Marks of the days that the kept statistics were computed from, by ISO date."""
    found: dict[str, str] = json.loads(lake.notes(lake.file(table(view))).get(MARKS, "{}"))
    return found


def _kept_rows(
    connection: "duckdb.DuckDBPyConnection", lake: Lake, view: FeatureView, days: list[dt.date]
) -> "pa.Table":
    chosen = ", ".join(f"{text(day)}::DATE" for day in days)
    return connection.sql(
        f"SELECT * FROM read_parquet({text(lake.file(table(view)))}) "
        f"WHERE {EVENT_TIME}::DATE IN ({chosen})"
    ).to_arrow_table()


def _in_order(parts: list["pa.Table"], view: FeatureView) -> "pa.Table":
    """The parts as one table, by day and then by feature in the order of the view."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.concat_tables(parts)
    names = pa.array([feature.name for feature in view.features])
    place = pc.index_in(rows["feature"], value_set=names)
    order = pc.sort_indices(
        pa.table({"day": rows[EVENT_TIME], "place": place}),
        sort_keys=[("day", "ascending"), ("place", "ascending")],
    )
    return rows.take(order)


def _query(view: FeatureView, days: list[dt.date], files: list[Path]) -> str:
    asked = ", ".join(text(day) for day in days)
    names = ", ".join(text(feature.name) for feature in view.features)
    rest = ", ".join(("null_share", *NUMBERS[:-2], "distinct_values", *NUMBERS[-2:]))
    return (
        f"WITH found AS (SELECT day, unnest([{_aggregates(view)}], recursive := true) FROM "
        f"(SELECT {EVENT_TIME}::DATE AS day, {_values(view)} "
        f"FROM read_parquet({parquet_files(files)})) GROUP BY day), "
        f"days AS (SELECT unnest([{asked}])::DATE AS day), "
        f"features AS (SELECT unnest([{names}]) AS feature, "
        f"generate_subscripts([{names}], 1) AS place) "
        f"SELECT day::TIMESTAMPTZ AS {EVENT_TIME}, feature, coalesce(count, 0) AS count, {rest} "
        f"FROM days CROSS JOIN features LEFT JOIN found USING (day, feature) ORDER BY day, place"
    )


def _values(view: FeatureView) -> str:
    """The features as f0, f1, ...: numbers as doubles, null where they are not finite."""
    return ", ".join(f"{_value(f)} AS f{i}" for i, f in enumerate(view.features))


def _value(feature: Column) -> str:
    name = quoted(feature.name)
    if feature.type == "string":
        return name
    if feature.type == "float":
        return f"CASE WHEN isfinite({name}) THEN {name}::DOUBLE END"
    return f"epoch({name})" if feature.type == "time" else f"{name}::DOUBLE"


def _aggregates(view: FeatureView) -> str:
    return ", ".join(_aggregate(f, f"f{i}") for i, f in enumerate(view.features))


def _aggregate(feature: Column, name: str) -> str:
    """One struct per feature; all have the same fields, so that they make a column each."""
    numbers = {
        "mean": f"avg({name})",
        "std": f"stddev_samp({name})",
        **{
            label: f"quantile_cont({name}, {list(QUANTILES.values())})[{i}]"
            for i, label in enumerate(QUANTILES, 1)
        },
        "minimum": f"min({name})",
        "maximum": f"max({name})",
    }
    if feature.type == "string":
        numbers = dict.fromkeys(numbers, "NULL::DOUBLE")
    fields = {
        "feature": text(feature.name),
        "count": "count(*)",
        "null_share": f"1 - count({name}) / count(*)",
        **numbers,
        "distinct_values": f"approx_count_distinct({name})",
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}"
