"""The newest numbers of a model's monitors, for those who draw them beside other metrics.

The same rows as in the tables of results: all predictions of a version, the trailing days of what
is judged on labels, and the drift of each column. What the numbers mean stands in `results`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time

from mlops_assets.monitoring import results
from mlops_assets.monitoring.results import DRIFTS, NONE
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake

_OF_ALL = f"arm = 'all' AND slice = 'all' AND version <> '{NONE}'"


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a monitor in its newest window.

    Args:
        model: the model.
        monitor: the monitor.
        name: the metric, or the column whose PSI it is.
        version: the version that it is about.
        window: start of the window.
        value: the number.
    """

    model: str
    monitor: str
    name: str
    version: str
    window: datetime
    value: float


def newest(lake: Lake, spec: ModelSpec) -> list[Number]:
    """The numbers of the newest day of each monitor of a model; none where nothing was computed."""
    found = []
    for monitor in results.KINDS:
        days = lake.days(results.table(spec, monitor))
        if not days:
            continue
        last = max(days)
        drift = monitor in DRIFTS
        name, value = ("feature", "psi") if drift else ("metric", "value")
        judged = "" if drift else " AND \"window\" = 'trailing' AND kind = 'measured'"
        rows = results.read(
            lake,
            spec,
            monitor,
            [last],
            where=f"{_OF_ALL} AND {value} IS NOT NULL{judged}",
            columns=(name, "version", value),
        )
        start = datetime.combine(last, time(), UTC)
        found += [
            Number(spec.name, monitor, row[name], row["version"], start, row[value])
            for row in rows
            if not drift or row[value] == row[value]
        ]
    return found
