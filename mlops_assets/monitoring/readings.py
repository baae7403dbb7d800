"""What a window says for incidents: one reading per subject and window.

Subjects are the columns of a drift monitor, the judged metrics, and the slices that are large
enough; a window without predictions is a reading of the subject `predictions` alone. Of several
versions in one window the worst counts; where none is bad, the one with most rows, so that few rows
that are fine do not hide that nothing is known of many. When an incident opens is decided in
`core/incident.py`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import PREDICTIONS, Health, Reading, Subject
from mlops_assets.monitoring import results
from mlops_assets.monitoring.drifts import ALL
from mlops_assets.monitoring.results import DRIFTS, KINDS, NONE, NOT_DUE
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake

HEALTH: Mapping[str, Health] = {
    "stable": "fine", "warning": "warning", "drifted": "critical", "no data": "no data",
    "fine": "fine", "critical": "critical", NOT_DUE: "no data",
}  # fmt: skip
"""Health by outcome, of either kind of monitor."""

_COLUMNS = ("version", "arm", "slice", "outcome", "reason", "n", "low", "high")


def readings(
    lake: Lake,
    spec: ModelSpec,
    window: dt.date,
    *,
    weekly: bool = False,
    monitors: Sequence[str] = KINDS,
) -> list[tuple[Subject, Reading]]:
    """The readings of a window that was computed, in order of monitor and subject.

    Args:
        lake: the lake.
        spec: the model.
        window: the day, or the Monday of the week.
        weekly: whether it is a week; its monitors are called `..._weekly`.
        monitors: those that are wanted.
    """
    found = []
    for monitor in monitors:
        own = ("feature", "psi") if monitor in DRIFTS else ("level", '"window"', "metric", "value")
        rows = results.read(
            lake,
            spec,
            monitor,
            [window],
            weekly=weekly,
            where="outcome IS NOT NULL",
            columns=(*_COLUMNS, *own),
        )
        found += readings_of(spec, monitor, window, rows, weekly=weekly)
    return found


def readings_of(
    spec: ModelSpec,
    monitor: str,
    window: dt.date,
    rows: Sequence[Mapping[str, Any]],
    *,
    weekly: bool = False,
) -> list[tuple[Subject, Reading]]:
    """The readings of rows of one monitor and window."""
    start = dt.datetime.combine(window, dt.time(), dt.UTC)
    name = f"{monitor}{'_weekly' if weekly else ''}"
    judged = [
        row
        for row in rows
        # Single days are told of and not judged, also where nothing is known of them yet.
        if row["outcome"] is not None and row["version"] != NONE and row.get("window") != "day"
    ]
    if not judged:
        reason = next((row["reason"] for row in rows if row["outcome"] == "no data"), "")
        reading = Reading(start, "no data", reason or "no data: the window was not computed")
        return [(Subject(spec.name, name, PREDICTIONS), reading)]
    versions = sorted({row["version"] for row in judged})
    seen = Reading(start, "fine", f"predictions of version {', '.join(versions)}")
    about: dict[str, list[Mapping[str, Any]]] = {}
    for row in judged:
        if (subject := _subject(monitor, row)) is not None:
            about.setdefault(subject, []).append(row)
    return [
        (Subject(spec.name, name, PREDICTIONS), seen),
        *(
            (Subject(spec.name, name, subject), _reading(start, _worst(about[subject])))
            for subject in sorted(about)
        ),
    ]


def _subject(monitor: str, row: Mapping[str, Any]) -> str | None:
    """What a row is about; None for those that are shown and not watched."""
    if row["arm"] != ALL:
        return None
    if monitor in DRIFTS:
        # The floors of a column are those of all rows: slices are shown, and not watched.
        return str(row["feature"]) if row["slice"] == ALL else None
    if row["slice"] == ALL:
        return str(row["metric"])
    if row["outcome"] == "no data":
        return None
    return f"{row['slice']}={row['level']}"


def _worst(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row that counts of those of several versions."""
    bad = [row for row in rows if HEALTH[row["outcome"]] in ("warning", "critical")]
    if bad:
        return max(bad, key=lambda row: HEALTH[row["outcome"]] == "critical")
    return max(rows, key=lambda row: (row["n"], HEALTH[row["outcome"]] == "no data"))


def _reading(start: dt.datetime, row: Mapping[str, Any]) -> Reading:
    value = row["psi"] if "psi" in row else row["value"]
    estimate = None
    if value is not None and row["low"] is not None and row["high"] is not None:
        estimate = Estimate(value, row["low"], row["high"], int(row["n"]))
    return Reading(
        start,
        HEALTH[row["outcome"]],
        f"version {row['version']}: {row['reason']}",
        estimate,
        "time" if row["outcome"] == NOT_DUE else "data",
    )
