"""Incidents, failed checks and entries of the ledger become alerts, each once."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from mlops_assets.core.ledger_chain import Record
from mlops_assets.defs import keys, metadata
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.sensors import alerting
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets_tests.monitoring.world import NOW, World, date, made
from mlops_assets_tests.stores.alert_world import SECRET, Server, running

CHECK = dg.AssetCheckKey(dg.AssetKey(["shop", "calibration_report"]), "ece_below_limit")


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> World:
    """A world whose alerts go to the server."""
    found = made(tmp_path, monkeypatch)
    url = f"json://user:{SECRET}@127.0.0.1:{server.port}/{SECRET}"
    channels = [{"name": "duty", "url": url}]
    settings = Settings(home=tmp_path / "home", now=NOW, alert_channels=channels)  # type: ignore[arg-type]
    found.platform = Platform(settings)
    return found


def tick(
    sensor: dg.SensorDefinition, world: World, instance: dg.DagsterInstance, cursor: str | None = ""
) -> str | None:
    """Evaluate a sensor and give its cursor afterwards."""
    context = dg.build_sensor_context(
        instance, cursor=cursor or None, resources={"platform": world.platform}
    )
    found = sensor(context)
    return found.cursor if isinstance(found, dg.SensorResult) else cursor


def waiting(world: World) -> list[str]:
    return [one.alert.title for one in world.platform.alerts.waiting()]


def drifted(world: World, days: range, shift: float) -> None:
    for day in days:
        world.predict(day, n=600, shift=shift)
        world.day(day)


def test_drift_that_persists_is_told_once_and_its_end_too(
    world: World, instance: dg.DagsterInstance, server: Server
) -> None:
    sensor = alerting.monitor_alerts((world.spec,))
    drifted(world, range(2), shift=5.0)
    cursor = tick(sensor, world, instance)
    (title,) = [one for one in waiting(world) if "feature_drift" in one]
    assert title == "CRITICAL: returns/feature_drift/amount_last"
    assert tick(sensor, world, instance, cursor) == cursor
    assert tick(sensor, world, instance)  # from the start, as after a lost cursor
    assert len([one for one in waiting(world) if "feature_drift" in one]) == 1

    tick(alerting.alert_delivery(), world, instance)
    assert waiting(world) == []
    body = next(one for one in server.taken if "feature_drift" in one["title"])
    assert "How bad:" in body["message"]
    assert "Next:" in body["message"]

    drifted(world, range(2, 4), shift=0.0)
    tick(sensor, world, instance, cursor)
    assert "RESOLVED: returns/feature_drift/amount_last" in waiting(world)


def taken_in(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows each look at the incidents takes in, from now on."""
    sizes = []
    observe = world.platform.incidents.observe

    def counted(model: str, readings: Any, *args: Any, **kwargs: Any) -> int:
        found = list(readings)
        sizes.append(len({(subject.monitor, reading.window) for subject, reading in found}))
        return observe(model, found, *args, **kwargs)

    monkeypatch.setattr(world.platform.incidents, "observe", counted)
    return sizes


def test_a_tick_takes_in_many_windows_at_once_and_the_next_goes_on(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = alerting.monitor_alerts((world.spec,))
    drifted(world, range(3), shift=0.0)
    sizes = taken_in(world, monkeypatch)
    monkeypatch.setattr(alerting, "MOST_AT_ONCE", 10)
    cursor = None
    for _ in range(3):
        cursor = tick(sensor, world, instance, cursor)
    assert sizes == [10, 5]


def test_a_window_that_appears_behind_a_newer_one_is_read(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor, lake = alerting.monitor_alerts((world.spec,)), world.platform.lake
    drifted(world, range(2), shift=0.0)
    first, second = (lake.day_file("monitoring/returns/coverage", date(n)) for n in range(2))
    away = first.replace(first.with_name(".away"))
    sizes = taken_in(world, monkeypatch)
    cursor = tick(sensor, world, instance)
    away.replace(first)
    assert first.stat().st_mtime_ns < second.stat().st_mtime_ns
    cursor = tick(sensor, world, instance, cursor)
    assert sizes == [9, 1]
    assert tick(sensor, world, instance, cursor) == cursor
    assert sizes == [9, 1]


def evaluated(instance: dg.DagsterInstance, passed: bool, **more: str) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=CHECK.asset_key,
        check_name=CHECK.name,
        passed=passed,
        description="failed: ECE 0.04" if not passed else "passed",
        metadata=more,
    )
    instance.report_runless_asset_event(evaluation)


def test_a_failed_gate_is_told_until_it_passes(world: World, instance: dg.DagsterInstance) -> None:
    sensor = alerting.check_alerts((CHECK,))
    cursor = tick(sensor, world, instance)
    assert waiting(world) == []
    for _ in range(2):  # a second version that fails it is no news
        evaluated(instance, passed=False)
        cursor = tick(sensor, world, instance, cursor)
    assert waiting(world) == ["CRITICAL: shop/calibration_report/ece_below_limit"]
    tick(alerting.alert_delivery(), world, instance)
    evaluated(instance, passed=True)
    cursor = tick(sensor, world, instance, cursor)
    assert waiting(world) == ["RESOLVED: shop/calibration_report/ece_below_limit"]
    tick(alerting.alert_delivery(), world, instance)
    evaluated(instance, passed=False)
    tick(sensor, world, instance, cursor)
    assert waiting(world) == ["CRITICAL: shop/calibration_report/ece_below_limit"]


def test_a_check_whose_answer_is_open_is_not_told(
    world: World, instance: dg.DagsterInstance
) -> None:
    evaluated(instance, passed=False, **{metadata.UNDECIDED: "too few rows"})
    tick(alerting.check_alerts((CHECK,)), world, instance)
    assert waiting(world) == []


def test_damaged_lines_of_a_log_are_told(world: World, instance: dg.DagsterInstance) -> None:
    sensor = build_definitions([world.spec]).resolve_sensor_def("check_alerts")
    key = dg.AssetCheckKey(keys.INFERENCE_LOG, "no_damaged_lines")
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=False,
            metadata={},
            severity=dg.AssetCheckSeverity.WARN,
        )
    )
    tick(sensor, world, instance)
    assert [title.split(":")[0] for title in waiting(world)] == ["WARNING"]


def entry(world: World, action: Any) -> None:
    world.platform.ledger.append(
        Record(action=action, model="returns", actor="ann", reason="it is bad", version="2")
    )


def test_a_rollback_is_told_and_history_is_not(world: World, instance: dg.DagsterInstance) -> None:
    sensor = alerting.ledger_alerts()
    entry(world, "rollback")
    cursor = tick(sensor, world, instance)
    assert waiting(world) == []
    entry(world, "rollback")
    entry(world, "request")
    entry(world, "abort")
    for _ in range(2):
        tick(sensor, world, instance, cursor)
    assert waiting(world) == [
        "CRITICAL: returns: rollback of version 2 by ann",
        "CRITICAL: returns: abort of version 2 by ann",
    ]


def test_a_channel_that_is_down_gets_its_alert_when_it_is_back(
    world: World, instance: dg.DagsterInstance, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor, delivery = alerting.ledger_alerts(), alerting.alert_delivery()
    cursor = tick(sensor, world, instance)
    server.status = 503
    entry(world, "rollback")
    tick(sensor, world, instance, cursor or "0")
    tick(delivery, world, instance)
    assert len(waiting(world)) == 1
    server.status = 200
    outbox = world.platform.alerts._outbox
    monkeypatch.setattr(outbox, "clock", lambda: 4e9)
    for _ in range(2):
        tick(delivery, world, instance)
    assert len(server.taken) == 1


def test_a_failed_run_is_told(world: World, instance: dg.DagsterInstance) -> None:
    @dg.op
    def breaks() -> None:
        raise ValueError("the disk is full")

    @dg.job
    def job() -> None:
        breaks()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    event = next(e for e in result.all_events if e.event_type_value == "PIPELINE_FAILURE")
    with dg.build_run_status_sensor_context(
        sensor_name="run_alerts",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=event,
        resources={"platform": world.platform},
    ) as context:
        alerting.run_alerts()(context.for_run_failure())
    (one,) = world.platform.alerts.waiting()
    assert one.alert.title == "WARNING: run of job failed"
    assert "the disk is full" in one.alert.reason


def test_a_run_that_failed_before_its_launch_is_told_since_it_was_created(
    world: World, instance: dg.DagsterInstance
) -> None:
    before = dt.datetime.now(dt.UTC)
    run = create_run_for_test(instance, job_name="job", status=dg.DagsterRunStatus.NOT_STARTED)
    event = instance.report_run_failed(run, "it could not be launched")
    with dg.build_run_status_sensor_context(
        sensor_name="run_alerts",
        dagster_instance=instance,
        dagster_run=instance.get_run_by_id(run.run_id),
        dagster_event=event,
        resources={"platform": world.platform},
    ) as context:
        alerting.run_alerts()(context.for_run_failure())
    (one,) = world.platform.alerts.waiting()
    assert before <= one.alert.since <= dt.datetime.now(dt.UTC)
