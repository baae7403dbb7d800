"""The newest numbers of the monitors are those of their tables, and reach the server's metrics."""

import math

import pytest

from mlops_assets.monitoring.newest import newest
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets_tests.monitoring.world import DAY, START, Row, World, date, whole

DAYS = 4
"""Trailing days are judged from three on."""


def monitored(world: World, *, labelled: bool = True, shift: float = 0.0) -> dict[str, list[Row]]:
    for day in range(DAYS):
        rows = world.predict(day, n=600, shift=shift * day)
        if labelled:
            world.label(rows)
        results = world.day(day)
    return results


def test_numbers_are_those_of_the_newest_day(world: World) -> None:
    results = monitored(world, shift=2.0)
    found = {(one.monitor, one.name): one for one in newest(world.platform.lake, world.spec)}
    (drift,) = (r for r in whole(results["feature_drift"]) if r["feature"] == "amount_last")
    one = found["feature_drift", "amount_last"]
    assert (one.value, one.version) == (drift["psi"], "1")
    assert one.window.date() == date(DAYS - 1)
    assert one.value > 0.2
    (ece,) = whole(results["calibration_drift"], metric="ece", window="trailing", kind="measured")
    assert found["calibration_drift", "ece"].value == ece["value"]
    assert all(math.isfinite(one.value) for one in found.values())


def test_a_model_without_windows_has_no_numbers(world: World) -> None:
    assert newest(world.platform.lake, world.spec) == []


def test_the_server_shows_them_and_forgets_those_that_are_gone(world: World) -> None:
    monitored(world)
    metrics = Metrics()
    numbers = newest(world.platform.lake, world.spec)
    metrics.monitors(numbers)
    page = metrics.page().decode()
    assert 'mlops_monitor_value{model="returns",monitor="feature_drift",name="amount_last"' in page
    start = START + (DAYS - 1) * DAY
    (window,) = [line for line in page.splitlines() if 'monitor="coverage"}' in line]
    assert float(window.rpartition(" ")[2]) == start.timestamp()
    metrics.monitors([one for one in numbers if one.monitor == "coverage"])
    gone = [line for line in metrics.page().decode().splitlines() if 'name="amount_last"' in line]
    assert [line.rpartition(" ")[2] for line in gone] == ["NaN"]


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_not_judged_on_labels_is_left_out(world: World, labelled: bool) -> None:
    monitored(world, labelled=labelled)
    monitors = {one.monitor for one in newest(world.platform.lake, world.spec)}
    assert ("performance" in monitors) is labelled
    assert "feature_drift" in monitors


def test_a_file_that_cannot_be_read_stops_no_server(world: World) -> None:
    monitored(world)
    lake, table = world.platform.lake, "monitoring/returns/feature_drift"
    lake.day_file(table, date(DAYS - 1)).write_bytes(b"no parquet at all")
    worker = Worker(world.platform, (world.spec,), ServeOptions())
    worker.look()
    assert b'mlops_away{store="registry"}' in worker.metrics.page()
