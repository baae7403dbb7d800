"""Every sensor and schedule of a code location ticks wherever the daemon may find it."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.defs.checks.aliases import alias_sensor
from mlops_assets.platform import Platform
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets_tests.defs.shop_home import NOW, ShopHome

WITH_ITS_OWN_RUNS = {"empty": set[str](), "tables": {"stale_tables"}}
"""Sensors that have something to do in a home."""


@pytest.fixture
def kept() -> Iterator[dg.DagsterInstance]:
    """An instance with files: a schedule's context takes no ephemeral one."""
    with dg.instance_for_test() as found:
        yield found


@pytest.mark.parametrize("state", ["empty", "tables"])
def test_all_tick_without_an_error_where_no_model_was_ever_trained(
    tmp_path: Path, kept: dg.DagsterInstance, state: str
) -> None:
    home = ShopHome.empty(tmp_path, kept)
    if state == "tables":
        home.materialize()
        home.sell("a,tea,2024-01-05T08:00:00Z,3")
    repository = home.definitions.get_repository_def()
    assert repository.get_all_jobs()
    asked = set()
    for sensor in repository.sensor_defs:
        if isinstance(sensor, dg.AutomationConditionSensorDefinition):
            continue  # evaluated by the daemon itself
        for _ in range(2):
            context = dg.build_sensor_context(
                kept,
                repository_def=repository,
                sensor_name=sensor.name,
                resources={"platform": home.platform},
            )
            if sensor.evaluate_tick(context).run_requests:
                asked.add(sensor.name)
    for schedule in repository.schedule_defs:
        context = dg.build_schedule_context(
            kept, resources={"platform": home.platform}, scheduled_execution_time=NOW
        )
        assert not schedule.evaluate_tick(context).run_requests
    assert asked == WITH_ITS_OWN_RUNS[state]
    assert all(
        sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs
    )


def test_looking_for_aliases_makes_no_registry(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    home = ShopHome.empty(tmp_path, instance)
    context = dg.build_sensor_context(instance, resources={"platform": home.platform})
    assert isinstance(alias_sensor((home.spec,))(context), dg.SkipReason)
    assert not home.platform.settings.mlflow.exists()


def test_a_log_file_is_asked_for_once_its_writer_has_left_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    home = ShopHome.empty(tmp_path, instance)
    log = InferenceLog(home.platform.settings.root / "inference_log", "w")
    log.append_all([prediction(home.platform)])

    def asked() -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance, resources={"platform": home.platform})
        found = home.definitions.resolve_sensor_def("fresh_windows")(context)
        return list(found.run_requests or []) if isinstance(found, dg.SensorResult) else []

    assert asked() == []
    log.close()
    [request] = asked()
    assert request.job_name == "compact_logs"


def prediction(platform: Platform) -> Prediction:
    return Prediction(
        id="p1",
        time=NOW,
        model="returns",
        version="1",
        arm="champion",
        entity={},
        features={},
        event_times={},
        statuses={},
        outputs={"probability": 0.5},
        latency_ms=1.0,
    )
