"""Monitors in the graph: assets by window, checks that tell, and a sensor that asks once."""

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from mlops_assets.core.incident import Reading, Subject
from mlops_assets.defs import keys, partitions
from mlops_assets.defs.assets.monitoring import summary
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.checks.monitoring import NAME, result
from mlops_assets.monitoring.results import KINDS
from mlops_assets.monitoring.windows import compute_day
from mlops_assets.stores.append_log import SUFFIX
from mlops_assets_tests.monitoring.conftest import world as world
from mlops_assets_tests.monitoring.world import NOW, START, World, date, whole

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def definitions(world: World) -> dg.Definitions:
    return build_definitions([world.spec], {"platform": world.platform})


def launch(
    world: World, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    job = definitions(world).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=request.asset_selection,
        tags=dict(request.tags),
        partition_key=request.partition_key,
        raise_on_error=False,
    )


def evaluated(world: World, instance: dg.DagsterInstance, cursor: str | None = None):
    context = dg.build_sensor_context(
        instance, cursor=cursor, resources={"platform": world.platform}
    )
    return definitions(world).resolve_sensor_def("fresh_windows")(context)


def requests(found: object) -> list[dg.RunRequest]:
    return list(found.run_requests or []) if isinstance(found, dg.SensorResult) else []


def of_days(world: World, first: int, last: int) -> dg.RunRequest:
    return dg.RunRequest(
        asset_selection=[keys.monitor(world.spec, kind) for kind in KINDS],
        tags=partitions.tags(date(first), date(last)),
    )


def test_a_range_of_days_is_one_run_with_numbers_by_day_and_checks_that_do_not_block(
    world: World, instance: dg.DagsterInstance
) -> None:
    for number in range(3):
        world.label(world.predict(number, shift=3.0))
    done = launch(world, instance, of_days(world, 0, 2))
    assert done.success
    checks = {e.asset_key.path[-1]: e for e in done.get_asset_check_evaluations()}
    drift = checks["feature_drift"]
    assert (drift.passed, drift.severity) == (False, ERROR)
    assert (drift.description or "").startswith("critical: amount_last: version 1: PSI ")
    assert "data:image/png" in str(drift.metadata["history"].value)
    assert checks["prediction_drift"].passed
    events = done.get_asset_materialization_events()
    by_day = {
        e.partition: e.materialization.metadata["drifted"].value
        for e in events
        if e.asset_key == keys.monitor(world.spec, "feature_drift")
    }
    assert by_day == {f"{date(n)}": 1 for n in range(3)}


def test_no_data_is_a_check_that_fails_as_a_warning_and_says_so(
    world: World, instance: dg.DagsterInstance
) -> None:
    done = launch(world, instance, of_days(world, 0, 0))
    assert done.success
    for found in done.get_asset_check_evaluations():
        assert (found.passed, found.severity) == (False, WARN)
        assert (found.description or "").startswith("no data: predictions: no data: ")


def test_weeks_are_partitions_by_their_monday(world: World, instance: dg.DagsterInstance) -> None:
    world.label(world.predict(0))
    world.day(0)
    request = dg.RunRequest(
        asset_selection=[keys.monitor(world.spec, kind, weekly=True) for kind in KINDS],
        partition_key=f"{date(0)}",
    )
    done = launch(world, instance, request)
    assert done.success
    record = instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(keys.monitor(world.spec, "feature_drift", weekly=True), NAME)
    )
    assert record is not None
    assert record.partition == f"{date(0)}"


@pytest.mark.parametrize(
    ("healths", "passed", "severity", "told"),
    [
        ([], False, WARN, "no data: not computed"),
        (["fine", "fine"], True, WARN, "fine: 2 readings"),
        (["fine", "no data"], False, WARN, "no data: b"),
        (["fine", "fine", "no data"], False, WARN, "1 of 3 without data: c"),
        (["warning", "fine"], False, WARN, "warning: a"),
        (["no data", "critical"], False, ERROR, "critical: b"),
    ],
)
def test_a_check_tells_of_the_worst_reading(
    healths: list, passed: bool, severity: dg.AssetCheckSeverity, told: str
) -> None:
    readings = [
        (Subject("m", "coverage", "abc"[i]), Reading(START, health, "why"))
        for i, health in enumerate(healths)
    ]
    found = result(readings, {})
    assert (found.passed, found.severity) == (passed, severity)
    assert (found.description or "").startswith(told)


def test_the_numbers_of_a_window_are_those_of_the_version_with_most_rows(world: World) -> None:
    policy = world.spec.monitoring.model_copy(update={"trailing_days": 1})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    for version, n in (("9", 400), ("10", 150), ("11", 200)):
        world.references[version] = world.references["1"]
        world.label(world.predict(0, n, version=version))
    table = compute_day(world.platform, world.spec, date(0), NOW)["performance"]
    rows = whole(table.to_pylist(), version="9", metric="log_loss", window="trailing")
    (expected,) = (row["value"] for row in rows if row["kind"] == "measured")
    found = summary("performance", table)
    assert found["log_loss"].value == expected
    assert found["predictions"].value == 750


def test_logs_are_compacted_expired_and_damaged_lines_are_told(
    world: World, instance: dg.DagsterInstance
) -> None:
    from mlops_assets.stores.inference_log import InferenceLog
    from mlops_assets_tests.stores.log_world import prediction

    folder = world.platform.settings.root / "inference_log"
    log = InferenceLog(folder, "w")
    log.append(prediction("new", START))
    log.append(prediction("old", START.replace(year=2020)))
    log.close()
    (path,) = folder.glob(f"*{SUFFIX}")
    path.write_bytes(b"broken\n" + path.read_bytes())
    request = dg.RunRequest(asset_selection=[keys.INFERENCE_LOG, keys.OUTCOMES_LOG])
    done = launch(world, instance, request)
    assert done.success
    (event,) = done.asset_materializations_for_node("logs__inference_log")
    counts = {k: v.value for k, v in event.metadata.items()}
    assert (counts["records"], counts["damaged_lines"], counts["days_expired"]) == (2, 1, 1)
    assert list(world.platform.lake.days("inference_log")) == [START.date()]
    by_log = {e.asset_key.path[-1]: e for e in done.get_asset_check_evaluations()}
    assert (by_log["inference_log"].passed, by_log["inference_log"].severity) == (False, WARN)
    assert by_log["outcomes_log"].passed
    again = launch(world, instance, request)
    (event,) = again.asset_materializations_for_node("logs__inference_log")
    assert event.metadata["records"].value == 0


def test_the_sensor_asks_for_what_is_fresh_until_it_is_computed(
    world: World, instance: dg.DagsterInstance
) -> None:
    policy = world.spec.monitoring.model_copy(update={"trailing_days": 2})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    rows = [world.predict(number, 120) for number in range(20)]
    found = evaluated(world, instance)
    (backlog,) = requests(found)
    assert partitions.tags(date(0), date(19)).items() <= dict(backlog.tags).items()
    # A tick that is repeated asks for the same, under the same key.
    assert [r.run_key for r in requests(evaluated(world, instance))] == [backlog.run_key]
    assert launch(world, instance, backlog).success
    weeks = requests(evaluated(world, instance))
    # The last week is not over.
    assert [r.partition_key for r in weeks] == [f"{date(0)}", f"{date(7)}"]
    for request in weeks:
        assert launch(world, instance, request).success
    quiet = evaluated(world, instance)
    assert isinstance(quiet, dg.SensorResult)
    assert not quiet.run_requests
    assert isinstance(evaluated(world, instance, quiet.cursor), dg.SkipReason)
    world.label(rows[3])
    fresh = requests(evaluated(world, instance, quiet.cursor))
    assert [r.partition_key for r in fresh] == [f"{date(3)}", f"{date(4)}"]


def test_logs_that_wait_are_compacted_first(world: World, instance: dg.DagsterInstance) -> None:
    from mlops_assets.stores.inference_log import InferenceLog
    from mlops_assets_tests.stores.log_world import prediction

    log = InferenceLog(world.platform.settings.root / "inference_log", "w")
    world.predict(0, 120)
    log.append(prediction("new", START))
    log.close()
    (request,) = requests(evaluated(world, instance))
    assert request.asset_selection == [keys.INFERENCE_LOG]
    # What that run could not bring into the lake stops no monitor.
    create_run_for_test(
        instance,
        job_name=request.job_name,
        status=dg.DagsterRunStatus.FAILURE,
        tags={"dagster/run_key": request.run_key},
    )
    found = requests(evaluated(world, instance))
    assert {one.job_name for one in found} == {"returns_monitor_days"}


def test_monitors_are_no_part_of_the_main_job(world: World) -> None:
    chosen = {*keys.table_keys((world.spec,)), *keys.model_keys(world.spec)}
    assert not chosen & {keys.monitor(world.spec, kind) for kind in KINDS}
    assert NOW > START
