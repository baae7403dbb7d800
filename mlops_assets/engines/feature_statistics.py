"""Statistics of feature views by day: one row per day and feature, in one pass of DuckDB.

Only how they are computed and kept, as the lake's table `statistics/<view>` with one file per day.
Whether a value may be there is judged in `feature_contract.py`; drift is decided elsewhere.
"""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import SourceError
from mlops_assets.stores.lake import FINGERPRINT, Lake, quoted, text
from mlops_assets.tables import EVENT_TIME, Column, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
NUMBERS = ("mean", "std", *QUANTILES, "minimum", "maximum")
"""What a feature of text has no answer to: null there."""


def table(view: FeatureView) -> str:
    """Table of a view's statistics in the lake."""
    return f"statistics/{view.name}"


def statistics_fingerprint(view: FeatureView, mark: str) -> str:
    """Fingerprint of the statistics: the feature table's `mark`, and how they are computed."""
    return fingerprint.of_values(mark, _values(view), _aggregates(view))


def missing_days(lake: Lake, view: FeatureView, days: list[dt.date]) -> list[dt.date]:
    """The days whose feature file is not there."""
    return [day for day in days if not lake.day_file(engine.features(view), day).exists()]


def parquet_files(paths: list[Path]) -> str:
    """An SQL list of files, as DuckDB's functions on Parquet files take it."""
    return f"[{', '.join(text(path) for path in paths)}]"


def write_statistics(lake: Lake, view: FeatureView, days: list[dt.date], mark: str) -> "pa.Table":
    """Compute and keep the statistics of some days, exactly these; return them.

    Returns:
        One row per day and feature, in this order: `event_timestamp` (the day's midnight),
        `feature`, `count` (rows of the day), `null_share`, `mean`, `std` (of the sample), the
        quantiles, `distinct_values` (approximate), `minimum`, `maximum`. NaN and infinity count
        as nulls. Of a day without rows the count is 0 and everything else null.

    Raises:
        SourceError: when the feature file of a day is missing or cannot be read.
    """
    import duckdb

    if missing := missing_days(lake, view, days):
        raise SourceError(
            f"the feature view {view.name!r} has no file for {len(missing)} of {len(days)} days, "
            f"the first is {missing[0]}",
            expected="a file for every day, if need be without rows",
            do=f"materialize these days of {engine.features(view)!r} first",
        )
    files = [lake.day_file(engine.features(view), day) for day in days]
    with lake.connect() as connection:
        try:
            found = connection.sql(_query(view, days, files)).to_arrow_table()
        except duckdb.Error as broken:
            raise SourceError(
                f"the feature view {view.name!r} has no statistics: {str(broken).splitlines()[0]}",
                expected="readable files with the declared columns",
                do=f"materialize the days of {engine.features(view)!r} again",
            ) from broken
    lake.write_arrow_days(found, table(view), days, {FINGERPRINT: mark})
    return found


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
