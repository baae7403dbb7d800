"""A run whose process is gone is ended, once nobody else has said so."""

import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from mlops_assets.defs.sensors import lost_runs

STARTED = dg.DagsterRunStatus.STARTED
LAUNCHED = "Started process for run (pid: {})."
OF_A_COMMAND = "Executing steps in process (pid: {})"


@pytest.fixture
def process() -> subprocess.Popen[bytes]:
    """A process that waits until it is killed."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def run_of(instance: dg.DagsterInstance, pid: int, said: str = LAUNCHED) -> dg.DagsterRun:
    run = create_run_for_test(instance, job_name="retrain_returns", status=STARTED)
    instance.report_engine_event(said.format(pid), run)
    return run


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> str | None:
    found = lost_runs.lost_runs_sensor()(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(found, dg.SensorResult)
    return found.cursor


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.mark.parametrize("said", [LAUNCHED, OF_A_COMMAND])
def test_a_run_is_ended_when_its_process_was_missed_twice(
    process: subprocess.Popen[bytes], said: str
) -> None:
    with dg.instance_for_test() as instance, process:
        run = run_of(instance, process.pid, said)
        cursor = tick(instance, tick(instance))
        assert status(instance, run) is STARTED
        process.kill()
        process.wait()
        cursor = tick(instance, cursor)
        assert status(instance, run) is STARTED
        assert tick(instance, cursor) == "[]"
        assert status(instance, run) is dg.DagsterRunStatus.FAILURE


def test_another_process_of_the_same_number_is_not_the_run(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.instance_for_test() as instance, process:
        run = run_of(instance, process.pid)
        assert not lost_runs.is_gone(instance, run.run_id)
        monkeypatch.setattr(lost_runs, "SLACK", -60.0)  # as if the run had said it a minute ago
        assert lost_runs.is_gone(instance, run.run_id)
        process.kill()


def test_a_run_in_this_process_says_what_is_looked_for() -> None:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def job() -> None:
        nothing()

    with dg.instance_for_test() as instance:
        run = job.execute_in_process(instance=instance)
        entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        (found,) = {m[1] for one in entries if (m := lost_runs.PROCESS.search(one.message))}
        assert int(found) == os.getpid()


def test_a_run_that_does_not_name_its_process_is_left_alone() -> None:
    with dg.instance_for_test() as instance:
        run = create_run_for_test(instance, job_name="retrain_returns", status=STARTED)
        assert not lost_runs.is_gone(instance, run.run_id)
