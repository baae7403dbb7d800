"""A day and a week of monitoring: read, judge, write.

A day reads the predictions of that day once for drift, and the labelled ones of its trailing days
once for all else. A week is judged on the merged profiles of its days, and on its labelled rows.
What the numbers mean stands in `drifts`, `labelled` and `results`; which windows have to be
computed, in `late`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import DataError, RegistryError
from mlops_assets.monitoring import results
from mlops_assets.monitoring.drifts import (
    day_profiles,
    drift_rows,
    merged,
    no_data_rows,
    profiles_of_rows,
)
from mlops_assets.monitoring.labelled import MONITORS, Rows, Scored, labelled_rows, scored
from mlops_assets.monitoring.labelled_slices import slice_rows
from mlops_assets.monitoring.labels import deliveries, read_labelled
from mlops_assets.monitoring.late import mark_of_day, mark_of_week
from mlops_assets.monitoring.predictions import count_strays, selection
from mlops_assets.monitoring.reference import Reference, importance_of, read_reference
from mlops_assets.monitoring.results import DRIFTS, KINDS, NONE
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    import pyarrow as pa

EMPTY = "the window has no predictions"
WEEK = 7


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """What is known of the versions that predicted in a window.

    Args:
        references: by version.
        importance: of the inputs, by version.
        silent: why there is no reference, by version.
    """

    references: Mapping[str, Reference]
    importance: Mapping[str, Mapping[str, float]]
    silent: Mapping[str, str]


def versions_of(platform: Platform, spec: ModelSpec, names: Sequence[str]) -> Versions:
    """Read what is kept with versions; one that cannot be read is told, and nothing is raised."""
    references: dict[str, Reference] = {}
    silent: dict[str, str] = {}
    for name in names:
        try:
            references[name] = read_reference(platform, spec, name)
        except (RegistryError, DataError) as lacking:
            silent[name] = lacking.found
    importance = {name: importance_of(platform, spec, name) for name in references}
    return Versions(references, importance, silent)


def compute_day(
    platform: Platform, spec: ModelSpec, day: dt.date, as_of: dt.datetime
) -> dict[str, "pa.Table"]:
    """Compute and write all monitors of a day; return the tables by kind.

    Args:
        platform: the stores.
        spec: the model.
        day: the day, UTC.
        as_of: labels that became known later are not there yet.
    """
    trailing = [day - dt.timedelta(i) for i in range(spec.monitoring.trailing_days - 1, -1, -1)]
    # Made first: what is added meanwhile makes the window stale, and is never taken for judged.
    mark = mark_of_day(platform, spec, day, as_of)
    table = read_labelled(platform, spec, trailing, as_of)
    found = scored(spec, table) if table is not None and table.num_rows else None
    today = found.since(day) if found is not None else None
    names = _names(found)
    known = versions_of(platform, spec, names)
    rows: dict[str, Rows] = {kind: [] for kind in KINDS}
    _drift_of_day(platform, spec, day, known, _counts(today), rows)
    if found is not None and today is not None and today.ok.size:
        _add(rows, labelled_rows(spec, today, known.references, as_of, "day"))
    if found is not None:
        _add(rows, labelled_rows(spec, found, known.references, as_of, "trailing"))
        _add(rows, slice_rows(spec, found, known.references, as_of, "trailing"))
    rows["performance"] += _of_no_version(platform, spec, day, as_of)
    _tell_silence(rows, "trailing")
    return results.write(platform.lake, spec, day, rows, mark)


def compute_week(
    platform: Platform, spec: ModelSpec, monday: dt.date, as_of: dt.datetime
) -> dict[str, "pa.Table"]:
    """Compute and write all monitors of an ISO week out of its days; return the tables by kind.

    Args:
        platform: the stores.
        spec: the model.
        monday: the first day of the week.
        as_of: as for a day.

    Raises:
        DataError: when the week does not start on a Monday.
    """
    if monday.weekday() != 0:
        raise DataError(
            f"a week that starts on {monday:%A, %Y-%m-%d}",
            expected="a Monday",
            do="give the first day of an ISO week",
        )
    days = [monday + dt.timedelta(i) for i in range(WEEK)]
    mark = mark_of_week(platform, spec, monday, as_of)
    table = read_labelled(platform, spec, days, as_of)
    found = scored(spec, table) if table is not None and table.num_rows else None
    kept = {kind: results.read(platform.lake, spec, kind, days) for kind in DRIFTS}
    drifted = {str(row["version"]) for rows in kept.values() for row in rows} - {NONE}
    names = sorted({*_names(found), *drifted})
    known = versions_of(platform, spec, names)
    rows: dict[str, Rows] = {kind: [] for kind in KINDS}
    for kind in DRIFTS:
        by_day: dict[dt.datetime, Rows] = {}
        for row in kept[kind]:
            by_day.setdefault(row["event_timestamp"], []).append(row)
        week = merged(profiles_of_rows(of_day, known.references) for of_day in by_day.values())
        rows[kind] += drift_rows(spec, week, known.references, known.importance, kind)
        told = {part.version for part in week}
        for name in names:
            if name not in told:
                why = known.silent.get(name, "no day of the week was profiled with its reference")
                rows[kind] += no_data_rows(spec, kind, name, 0, why)
        if not rows[kind]:
            rows[kind] += no_data_rows(spec, kind, NONE, 0, EMPTY)
    if found is not None:
        _add(rows, labelled_rows(spec, found, known.references, as_of, "week"))
        _add(rows, slice_rows(spec, found, known.references, as_of, "week"))
    _tell_silence(rows, "week")
    return results.write(platform.lake, spec, monday, rows, mark, weekly=True)


def _drift_of_day(
    platform: Platform,
    spec: ModelSpec,
    day: dt.date,
    known: Versions,
    counts: Mapping[str, int],
    rows: dict[str, Rows],
) -> None:
    """Add the verdicts of a day on each version that predicted on it."""
    selected = selection(platform, spec, [day], inputs=True, slices=True)
    for version, n in counts.items():
        reference = known.references.get(version)
        if reference is None or selected is None:
            why = known.silent.get(version, "its predictions were kept without their inputs")
            for kind in DRIFTS:
                rows[kind] += no_data_rows(spec, kind, version, n, why)
            continue
        profiles = day_profiles(platform.lake, spec, selected, version, reference)
        for kind in DRIFTS:
            made = drift_rows(spec, profiles, known.references, known.importance, kind)
            rows[kind] += made or no_data_rows(
                spec, kind, version, n, "no prediction of the window was answered"
            )
    for kind in DRIFTS if not counts else ():
        rows[kind] += no_data_rows(spec, kind, NONE, 0, EMPTY)


def _names(found: Scored | None) -> list[str]:
    return sorted(set(found.versions.tolist())) if found is not None else []


def _counts(found: Scored | None) -> dict[str, int]:
    """Predictions by version."""
    if found is None:
        return {}
    return {name: int((found.versions == name).sum()) for name in _names(found)}


def _of_no_version(platform: Platform, spec: ModelSpec, day: dt.date, as_of: dt.datetime) -> Rows:
    """Counts that belong to no version: labels as they were delivered, and stray records."""
    found = deliveries(platform, spec, day, as_of)
    counts = {
        "labels_delivered": found.labels,
        "unknown_labels": found.unknown,
        "unusable_labels": found.unusable,
        "stray_records": count_strays(platform, spec, day),
    }
    return [
        {"version": NONE, "arm": "all", "slice": "all", "level": "all", "window": "day",
         "metric": name, "kind": "count", "value": float(count), "n": found.labels}
        for name, count in counts.items()
    ]  # fmt: skip


def _tell_silence(rows: dict[str, Rows], window: str) -> None:
    """Give each monitor without a judged row one that says that there are no data."""
    for monitor in MONITORS:
        if not any(row["window"] == window for row in rows[monitor]):
            rows[monitor].append(
                {"version": NONE, "arm": "all", "slice": "all", "level": "all", "window": window,
                 "metric": monitor, "kind": "measured", "n": 0, "outcome": "no data",
                 "reason": f"no data: {EMPTY}"}
            )  # fmt: skip


def _add(rows: dict[str, Rows], more: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    for monitor, found in more.items():
        rows[monitor] += found
