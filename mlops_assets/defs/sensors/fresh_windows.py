"""Asks for the days and weeks of monitoring that hold something new, and for no others.

The logs are brought into the lake first, in a run of their own, when files wait there. Then each
model's windows whose predictions or labels have changed since they were computed are requested:
a few days as a run each, many as one, and weeks when all their days are current. What is stale is
found in `monitoring/late.py`, from what lies in the lake: a tick that is lost or repeated loses
nothing.
"""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.core import fingerprint
from mlops_assets.defs import keys, partitions
from mlops_assets.defs.assets.logs import LOGS
from mlops_assets.defs.runs import IN_PROGRESS, LONGEST_RUN, REASON
from mlops_assets.engines import duckdb as engine
from mlops_assets.monitoring import results
from mlops_assets.monitoring.predictions import batch_table
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.append_log import SUFFIX, claimed

NAME = "fresh_windows"
LOGS_JOB = "compact_logs"
SECONDS = 60
MOST_DAYS = 31
"""Days of one run: more are asked for when these are done."""

MOST_SINGLE = 8
"""Days that follow each other, up to which each is a run of its own; of more, all are one run."""

Windows = Sequence[dt.date]


def fresh_windows_sensor(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """Build the sensor of some models."""
    models = tuple(specs)

    @dg.sensor(
        name=NAME,
        # Days, weeks and logs have other partitions, and a job has only one kind.
        jobs=[
            dg.define_asset_job(LOGS_JOB, dg.AssetSelection.assets(*(key for key, *_ in LOGS))),
            *(_job(spec, weekly=weekly) for spec in models for weekly in (False, True)),
        ],
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Monitors the days and weeks that have new predictions or labels.",
    )
    def fresh_windows(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        recent = dt.datetime.now(dt.UTC) - LONGEST_RUN
        running = context.instance.get_runs(
            dg.RunsFilter(
                statuses=IN_PROGRESS, created_after=recent, tags={"dagster/sensor_name": NAME}
            ),
            limit=1,
        )
        if running:
            return dg.SkipReason("windows are being computed")
        seen = looked_at(platform, models)
        before = json.loads(context.cursor or "{}")
        logs = [*_of_logs(platform, context.instance)]
        if logs:
            # What they bring would make stale what is computed beside them.
            return dg.SensorResult(run_requests=logs)
        if seen == before.get("seen"):
            return dg.SkipReason("no new predictions and labels since the last look")
        requests = [
            request for spec in models for request in _of_model(platform, spec, context.instance)
        ]
        if requests:
            # The cursor stays: what was asked for is looked at again, until it is current.
            return dg.SensorResult(run_requests=requests)
        return dg.SensorResult(
            skip_reason="every window holds what it was computed from",
            cursor=json.dumps({"seen": seen}),
        )

    return fresh_windows


def _job(spec: ModelSpec, *, weekly: bool) -> Any:
    monitors = [keys.monitor(spec, kind, weekly=weekly) for kind in results.KINDS]
    return dg.define_asset_job(
        job_name(spec, weekly=weekly),
        dg.AssetSelection.assets(*monitors),
        description=f"All monitors of {spec.name}, by {'week' if weekly else 'day'}.",
    )


def job_name(spec: ModelSpec, *, weekly: bool) -> str:
    """Name of the job of a model's monitors."""
    return f"{spec.name}_monitor_{'weeks' if weekly else 'days'}"


def looked_at(platform: Platform, specs: Sequence[ModelSpec]) -> str:
    """What lies in the lake, without opening a file, and the hour: labels become due by time."""
    lake = platform.lake
    tables = [table.name for _, table, _ in LOGS] + [batch_table(spec) for spec in specs]
    files = {
        name: {str(day): found.mark for day, found in lake.days(name).items()} for name in tables
    }
    rows = {spec.rows.name: lake.fingerprint(lake.file(engine.rows(spec.rows))) for spec in specs}
    policies = [spec.monitoring.model_dump(mode="json") for spec in specs]
    hour = f"{platform.now:%Y-%m-%dT%H}"
    return fingerprint.of_values(files, rows, policies, hour)


def _of_logs(platform: Platform, instance: dg.DagsterInstance) -> Iterator[dg.RunRequest]:
    """A run that brings the logs into the lake, when files wait that nobody writes any more.

    None when there was one for the same files: logs that cannot be read stop no monitor.
    """
    waiting = {
        key: sorted(
            path.name
            for path in (platform.settings.root / table.name).glob(f"*{SUFFIX}")
            if _is_left(path)
        )
        for key, table, _ in LOGS
    }
    chosen = [key for key, files in waiting.items() if files]
    if chosen:
        # What a run that failed has left is asked for again within the hour.
        hour = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H}"
        named = {key.to_user_string(): files for key, files in waiting.items()}
        run_key = f"logs:{fingerprint.of_values(named, hour)[:32]}"
        if instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": run_key}), limit=1):
            return
        yield dg.RunRequest(
            job_name=LOGS_JOB,
            run_key=run_key,
            asset_selection=chosen,
            tags={REASON: "logged predictions and outcomes wait"},
        )


def _is_left(path: Path) -> bool:
    """Whether no living process writes a log file."""
    with claimed(path) as free:
        return free


def _of_model(
    platform: Platform, spec: ModelSpec, instance: dg.DagsterInstance
) -> Iterator[dg.RunRequest]:
    from mlops_assets.monitoring.late import stale

    as_of = platform.now
    found = stale(platform, spec, as_of)
    # Only days and weeks that are over by the clock have a partition, and those that are over by
    # the platform's present hold all that they will.
    clock = min(dt.datetime.now(dt.UTC), as_of).date()
    days = [day for day in found.days if day < clock][:MOST_DAYS]
    marks = results.marks(platform.lake, spec)
    state = [str(marks.get(day)) for day in days]
    for first, last in stretches(days):
        length = (last - first).days + 1
        # A check is recorded for its day only in a run of one day.
        ends = (
            [(first, last)]
            if length > MOST_SINGLE
            else [(day, day) for day in (first + dt.timedelta(i) for i in range(length))]
        )
        for start, end in ends:
            yield _request(platform, spec, instance, start, end, state, weekly=False)
    weeks = [
        monday
        for monday in found.weeks
        if monday + dt.timedelta(7) <= clock
        and not any(monday <= day < monday + dt.timedelta(7) for day in found.days)
    ]
    for monday in weeks[:MOST_DAYS]:
        yield _request(platform, spec, instance, monday, monday, [], weekly=True)


def _request(
    platform: Platform,
    spec: ModelSpec,
    instance: dg.DagsterInstance,
    first: dt.date,
    last: dt.date,
    state: Sequence[str],
    *,
    weekly: bool,
) -> dg.RunRequest:
    # A run that fails is started again only when something has changed, or some run succeeded.
    done = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    key = fingerprint.of_values(
        spec.name, weekly, first, last, state, looked_at(platform, [spec]), [r.run_id for r in done]
    )
    kind = "week" if weekly else "days"
    return dg.RunRequest(
        job_name=job_name(spec, weekly=weekly),
        run_key=f"{kind}:{key[:32]}",
        asset_selection=[keys.monitor(spec, one, weekly=weekly) for one in results.KINDS],
        tags={
            REASON: f"new predictions or labels of {spec.name}: {kind} {first} to {last}",
            **({} if first == last else partitions.tags(first, last)),
        },
        partition_key=first.isoformat() if first == last else None,
    )


def stretches(days: Windows) -> Iterator[tuple[dt.date, dt.date]]:
    """First and last day of each stretch of days that follow each other.

    >>> days = [dt.date(2026, 1, day) for day in (1, 2, 5)]
    >>> [(first.day, last.day) for first, last in stretches(days)]
    [(1, 2), (5, 5)]
    """
    run: list[dt.date] = []
    for day in days:
        if run and day != run[-1] + dt.timedelta(1):
            yield run[0], run[-1]
            run = []
        run.append(day)
    if run:
        yield run[0], run[-1]
