"""The tables of results in the lake: one file per day (or week) and kind, written whole.

`monitoring/<model>/<kind>` and `monitoring/<model>/<kind>_weekly`, a week by its Monday. Long
tables: a row per number. The same content gives the same file.

All tables: `event_timestamp` (start of the window, UTC), `model`, `version`, `arm` (`all`: all
predictions of the version; `batch`: those that were not served), `slice` and `level` (`all`: all
rows), `outcome`, `reason` (the verdict in words), `n` (rows; where there are no data, all that
might have had some).

`feature_drift`, `prediction_drift`: `feature`; `outcome` is `stable`, `warning`, `drifted` or
`no data`; `psi` less what chance adds, with `low` and `high`; `floor` that was crossed or not;
`own_floor`, that of the column itself; `p_value`; the distances `wasserstein` in standard
deviations of the reference, `kolmogorov_smirnov` (of numbers both) and `jensen_shannon`;
`null_share`; `importance` of the input and `rank_share`, its part of importance times
drift; and the profile: `reference` (whose bins it has), `counts`, `nulls`, `others`, `names`,
`total`, `squares`, `minimum`, `maximum`, `mean` (see `core/profile.py`).

`calibration_drift`, `coverage`, `performance`: `window` is `day` (told, not judged), `trailing`
(the day and those before it, judged) or `week`; `metric`; `kind` is `measured` on mature labels,
`estimate` without labels, `score` (the estimate less what labels showed; `inside` its interval?) or
`count`; `value`, `low`, `high`, `threshold`; `outcome` is `fine`, `warning`, `critical`, `no data`,
`not due` before labels are, or null where nothing is judged; of the rows `bin` the ends of the bin
`lower` and `upper`, `mean_probability` and `observed`.

Only the way into the lake and back belongs here.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake, parquet_files
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import pyarrow as pa

DRIFTS = ("feature_drift", "prediction_drift")
KINDS = (*DRIFTS, "calibration_drift", "coverage", "performance")
MARK = "mark"
"""Note in the files of a window: what it was computed from; see `late`."""

NOT_DUE = "not due"
"""Outcome of what cannot be judged before the labels of its window are due."""

NONE = "none"
"""Version of a window without predictions, and of what belongs to no version."""

_COMMON = {EVENT_TIME: "time", "model": "text", "version": "text", "arm": "text",
           "slice": "text", "level": "text"}  # fmt: skip
_DRIFT = {
    **_COMMON,
    "feature": "text", "outcome": "text", "psi": "number", "low": "number", "high": "number",
    "floor": "number", "own_floor": "number", "p_value": "number", "wasserstein": "number",
    "kolmogorov_smirnov": "number", "jensen_shannon": "number", "null_share": "number",
    "n": "count", "importance": "number", "rank_share": "number",
    "reason": "text", "reference": "text", "counts": "counts", "nulls": "count",
    "others": "count", "names": "texts", "total": "text", "squares": "text",
    "minimum": "number", "maximum": "number", "mean": "number",
}  # fmt: skip
_LABELLED = {
    **_COMMON,
    "window": "text", "metric": "text", "kind": "text", "value": "number", "low": "number",
    "high": "number", "n": "count", "threshold": "number", "outcome": "text", "reason": "text",
    "inside": "flag", "lower": "number", "upper": "number", "mean_probability": "number",
    "observed": "number",
}  # fmt: skip

Row = Mapping[str, Any]


def table(spec: ModelSpec, kind: str, *, weekly: bool = False) -> str:
    """The table of a kind of results."""
    return f"monitoring/{spec.name}/{kind}{'_weekly' if weekly else ''}"


def schema(kind: str) -> "pa.Schema":
    """The columns of a kind of results."""
    import pyarrow as pa

    types = {
        "time": pa.timestamp("us", tz="UTC"),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "number": pa.float64(),
        "count": pa.int64(),
        "counts": pa.list_(pa.int64()),
        "flag": pa.bool_(),
    }
    columns = _DRIFT if kind in DRIFTS else _LABELLED
    return pa.schema([(name, types[type_]) for name, type_ in columns.items()])


def write(
    lake: Lake,
    spec: ModelSpec,
    day: dt.date,
    rows: Mapping[str, Sequence[Row]],
    mark: str,
    *,
    weekly: bool = False,
) -> dict[str, "pa.Table"]:
    """Write the results of a window, each kind a file of its own; return the tables.

    Windows beyond those that the policy keeps are removed.

    Args:
        lake: the lake.
        spec: the model.
        day: the day, or the Monday of the week.
        rows: rows by kind.
        mark: what they were computed from.
        weekly: whether it is a week.
    """
    import pyarrow as pa

    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    written = {}
    for kind, of_kind in rows.items():
        columns = schema(kind)
        found = pa.Table.from_pylist(
            [{**row, EVENT_TIME: start, "model": spec.name} for row in of_kind], columns
        )
        name = table(spec, kind, weekly=weekly)
        notes = {day: {MARK: mark}}
        lake.write_days(found, name, [day], notes)
        _forget(lake, spec, name)
        written[kind] = found
    return written


def read(
    lake: Lake,
    spec: ModelSpec,
    kind: str,
    days: Sequence[dt.date],
    *,
    weekly: bool = False,
    where: str = "true",
    columns: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The rows of some windows in order; windows that were not computed give none.

    Args:
        lake: the lake.
        spec: the model.
        kind: the kind of results.
        days: the windows.
        weekly: whether they are weeks.
        where: SQL condition on the rows.
        columns: those that are wanted; all when left out.
    """
    name = table(spec, kind, weekly=weekly)
    files = [path for day in days if (path := lake.day_file(name, day)).exists()]
    if not files:
        return []
    query = (
        f"SELECT {', '.join(columns) or '*'} FROM read_parquet({parquet_files(files)}, "
        f"union_by_name = true) WHERE {where}"
    )
    with lake.connect() as connection:
        return list(connection.sql(query).to_arrow_table().to_pylist())


def marks(lake: Lake, spec: ModelSpec, *, weekly: bool = False) -> dict[dt.date, str]:
    """What each window was computed from, of those that have all kinds of results."""
    per_kind = [_marks(lake, table(spec, kind, weekly=weekly)) for kind in KINDS]
    first, *others = per_kind
    return {day: mark for day, mark in first.items() if all(one.get(day) == mark for one in others)}


def _marks(lake: Lake, name: str) -> dict[dt.date, str]:
    return {day: lake.notes(lake.day_file(name, day)).get(MARK, "") for day in lake.days(name)}


def _forget(lake: Lake, spec: ModelSpec, name: str) -> None:
    days = list(lake.days(name).items())
    for _, files in days[: max(0, len(days) - spec.monitoring.windows_kept)]:
        for path in files.paths:
            # Another run may forget it too.
            path.unlink(missing_ok=True)
