"""Ends runs whose process is gone, so that what they were for is tried again.

Dagster's code server ends the runs of its own processes that die. When it died too, or the machine
was started anew, such runs would be in progress for ever: they would hold places of the queue, and
a retrain that is under way keeps others from beginning.
"""

import json
import re

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher

SECONDS = 60
PROCESS = re.compile(r"(?:Started process for run|Executing steps in process) \(pid: (\d+)\)")
"""What the process of a run says of itself first: one that was launched, or that of a command."""

SLACK = 5.0
"""Seconds by which a process may seem to be younger than what it said."""


def lost_runs_sensor() -> dg.SensorDefinition:
    """Build the sensor."""

    @dg.sensor(
        name="lost_runs",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process is gone.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        if not isinstance(instance.run_launcher, DefaultRunLauncher):
            return dg.SkipReason("runs are processes of other machines: their launcher knows them")
        started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        gone = [run.run_id for run in started if is_gone(instance, run.run_id)]
        before: list[str] = json.loads(context.cursor or "[]")
        # Seen twice: the first time its code server may be about to say so itself.
        lost = [run_id for run_id in gone if run_id in before]
        for run_id in lost:
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                instance.report_run_failed(
                    run, "its process is gone, and nobody was left to say so"
                )
        left = [run_id for run_id in gone if run_id not in lost]
        return dg.SensorResult(
            skip_reason=f"{len(started)} runs in progress, {len(gone)} of them without a process",
            cursor=json.dumps(left),
        )

    return lost_runs


def is_gone(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run's process has ended; False when the run does not say which it is."""
    # Feast brings it along; whatever else has the number now began later.
    import psutil

    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        if found := PROCESS.search(entry.message):
            try:
                process = psutil.Process(int(found[1]))
                dead = process.status() == psutil.STATUS_ZOMBIE
                return dead or process.create_time() > entry.timestamp + SLACK
            except psutil.NoSuchProcess:
                return True
    return False
