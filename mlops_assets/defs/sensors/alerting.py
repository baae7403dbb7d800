"""Sensors that alert of incidents, checks, runs and what the ledger says, and one that delivers.

They only put alerts into the outbox, which tells every incident once; so each may be ticked twice,
and none waits for a channel. When there is an incident is decided in `core.incident`.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.alert import Alert
from mlops_assets.core.incident import Message, Severity
from mlops_assets.core.ledger_chain import Action, Entry
from mlops_assets.defs import metadata
from mlops_assets.defs.runs import STATE
from mlops_assets.monitoring import results
from mlops_assets.monitoring.readings import readings
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import DayFiles

if TYPE_CHECKING:
    from dagster._core.execution.plan.objects import StepFailureData

SECONDS = 60
DELIVERY_SECONDS = 30
MOST_AT_ONCE = 200
"""Windows of monitors or entries that one tick takes in; the next goes on behind them."""

LATE = dt.timedelta(minutes=2)
"""A file keeps the time at which it was written, and appears later: as long as this at most."""

FORGET = dt.timedelta(days=400)
"""Incidents of which nothing was heard for so long are forgotten."""

STOPPED = "DagsterAssetCheckFailedError"
"""What Dagster calls the failure of a step because of a check."""

TOLD: Mapping[Action, Severity] = {
    "rollback": "critical",
    "abort": "critical",
    "rejection": "warning",
    "adopt": "warning",
    "revert": "warning",
    "retire": "warning",
}
"""Entries of the ledger that somebody is told of."""

NEXT: Mapping[str, str] = {
    "feature_drift": "look at the source of the feature, then: mlops-assets run {model}",
    "prediction_drift": "compare with feature_drift, then: mlops-assets run {model}",
    "calibration_drift": "mlops-assets run {model}",
    "coverage": "mlops-assets run {model}",
    "performance": "mlops-assets run {model}, or go back: mlops-assets rollback {model} --reason",
}
"""What to do next about an incident of a monitor."""


def alert_sensors(
    specs: Sequence[ModelSpec], checks: Sequence[dg.AssetCheckKey]
) -> list[dg.SensorDefinition]:
    """Build the sensors of some models.

    Args:
        specs: the models.
        checks: checks whose failure is told of at once; those of monitors are told of as incidents.
    """
    return [
        monitor_alerts(tuple(specs)),
        check_alerts(tuple(checks)),
        ledger_alerts(),
        run_alerts(),
        alert_delivery(),
    ]


def monitor_alerts(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """The sensor that reads new and recomputed windows of the monitors."""

    @dg.sensor(
        name="monitor_alerts",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts when drift, lost calibration, coverage or performance persists.",
    )
    def monitor_alerts_sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        # A cursor of another form begins anew: what was told is not told again.
        cursor: dict[str, list[str]] = {
            table: marks
            for table, marks in json.loads(context.cursor or "{}").items()
            if isinstance(marks, list)
        }
        told = read = 0
        for spec in specs:
            fresh = _fresh(platform, spec, cursor)[: MOST_AT_ONCE - read]
            if not fresh:
                continue
            # All at once: what is known of a model is one file.
            told += platform.incidents.observe(
                spec.name,
                [
                    reading
                    for one in fresh
                    for reading in readings(
                        platform.lake, spec, one.window, weekly=one.weekly, monitors=(one.monitor,)
                    )
                ],
                spec.monitoring.incidents,
                lambda message: platform.alerts.put(_of_monitor(platform, message)),
                now=platform.now,
            )
            for one in fresh:
                table = results.table(spec, one.monitor, weekly=one.weekly)
                cursor[table] = _seen([*cursor.get(table, ()), one.mark])
            read += len(fresh)
        if not read:
            return dg.SkipReason("no window is new")
        context.log.info(f"{read} windows read, {told} messages")
        return dg.SensorResult(cursor=json.dumps(cursor, sort_keys=True))

    return monitor_alerts_sensor


def check_alerts(checks: Sequence[dg.AssetCheckKey]) -> dg.SensorDefinition:
    """The sensor that tells of checks that fail, and when they pass again."""

    @dg.sensor(
        name="check_alerts",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts when a gate or another check fails, and when it passes again.",
    )
    def check_alerts_sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        storage = context.instance.event_log_storage
        newest = storage.get_latest_asset_check_execution_by_key(list(checks))
        # Of each check that fails: the incident that was told of, and since when.
        open_: dict[str, list[str]] = json.loads(context.cursor or "{}")
        before = dict(open_)
        for key, record in newest.items():
            evaluation = record.evaluation
            if not isinstance(evaluation, dg.AssetCheckEvaluation):
                continue
            name = f"{key.asset_key.to_user_string()}/{key.name}"
            told = open_.get(name)
            if evaluation.passed:
                if told:
                    platform.alerts.put(_of_check(platform, key, evaluation, told, over=True))
                    del open_[name]
            elif told is None and metadata.UNDECIDED not in evaluation.metadata:
                since = dt.datetime.fromtimestamp(record.create_timestamp, dt.UTC)
                told = [f"check/{name}/{record.id}", since.isoformat()]
                platform.alerts.put(_of_check(platform, key, evaluation, told))
                open_[name] = told
        if open_ == before:
            return dg.SkipReason(f"{len(open_)} checks fail, all told of")
        return dg.SensorResult(cursor=json.dumps(open_, sort_keys=True))

    return check_alerts_sensor


def ledger_alerts() -> dg.SensorDefinition:
    """The sensor that tells of rollbacks, aborted rollouts, and of what was moved by hand."""

    @dg.sensor(
        name="ledger_alerts",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts of rollbacks, aborted rollouts and refusals that the ledger has.",
    )
    def ledger_alerts_sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        last = platform.ledger.head().seq
        if not context.cursor:
            # What was before anybody listened is history, not news.
            return dg.SensorResult(cursor=str(last))
        since = int(context.cursor)
        if last <= since:
            return dg.SkipReason("the ledger has nothing new")
        entries = platform.ledger.since(since, MOST_AT_ONCE)
        for entry in entries:
            if entry.action in TOLD:
                platform.alerts.put(_of_entry(platform, entry))
        return dg.SensorResult(cursor=str(entries[-1].seq))

    return ledger_alerts_sensor


def run_alerts() -> dg.SensorDefinition:
    """The sensor that tells of failed runs."""

    @dg.run_failure_sensor(
        name="run_alerts",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts when a run fails.",
    )
    def run_alerts_sensor(
        context: dg.RunFailureSensorContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SkipReason | None:
        run, instance = context.dagster_run, context.instance
        failed = context.get_step_failure_events()
        if failed and all(_by_check(event.step_failure_data) for event in failed):
            return dg.SkipReason("checks stopped it, and check_alerts tells of each")
        steps = [f"{event.step_key}: {_why(event.step_failure_data)}" for event in failed]
        stats = instance.get_run_stats(run.run_id)
        began = stats.start_time or stats.launch_time
        (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
        # A run that failed before its launch has neither time.
        since = dt.datetime.fromtimestamp(began, dt.UTC) if began else record.create_timestamp
        platform.alerts.put(
            Alert(
                # Tables that fail again for the same reason are no second incident.
                incident=f"run/{run.tags.get(STATE, run.run_id)}",
                kind="opened",
                severity="warning",
                what=f"run of {run.job_name} failed",
                since=since,
                reason="; ".join(steps) or context.failure_event.message or "no step says why",
                plot=f"{platform.settings.ui_url}/runs/{run.run_id}",
                command="look at the run; what is stale is tried again by itself",
            )
        )
        return None

    return run_alerts_sensor


def alert_delivery() -> dg.SensorDefinition:
    """The sensor that sends what waits, to all channels at once."""

    @dg.sensor(
        name="alert_delivery",
        minimum_interval_seconds=DELIVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends alerts; a channel that is down gets them when it is up again.",
    )
    def alert_delivery_sensor(platform: dg.ResourceParam[Platform]) -> dg.SkipReason:
        if not platform.alerts.channels:
            return dg.SkipReason("there are no channels: see MLOPS_ALERT_CHANNELS")
        done = platform.alerts.deliver()
        platform.alerts.forget(dt.datetime.now(dt.UTC) - FORGET)
        return dg.SkipReason(
            f"{len(done.sent)} messages taken"
            + (f"; not by {', '.join(done.failed)}" if done.failed else "")
        )

    return alert_delivery_sensor


def _by_check(failure: "StepFailureData") -> bool:
    """Whether a step failed because a check that blocks did not pass, and for nothing else."""
    return bool(failure.error and failure.error.cls_name == STOPPED)


def _why(failure: "StepFailureData") -> str:
    """Why a step failed, in one line: its own words, or the error at the root."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description.splitlines()[0]
    error = failure.error
    while error and error.cause:
        error = error.cause
    return error.message.strip().splitlines()[-1] if error else "no error was recorded"


@dataclass(frozen=True, slots=True, order=True)
class _Window:
    """A window of a monitor; the mark is when it was written, and which it is."""

    mark: str
    monitor: str
    weekly: bool
    window: dt.date


def _fresh(
    platform: Platform, spec: ModelSpec, cursor: Mapping[str, Sequence[str]]
) -> list[_Window]:
    """Windows of a model that were written and not taken in, oldest first."""
    found = []
    for weekly in (False, True):
        for monitor in results.KINDS:
            table = results.table(spec, monitor, weekly=weekly)
            seen = cursor.get(table, ())
            first = _first(seen)
            for window, files in platform.lake.days(table).items():
                written = _written(files)
                mark = f"{written:020d} {window}"
                if written and mark not in seen and mark > first:
                    found.append(_Window(mark, monitor, weekly, window))
    return sorted(found)


def _written(files: DayFiles) -> int:
    """When a window was written, in nanoseconds; 0 when it is removed at this moment."""
    try:
        return max(path.stat().st_mtime_ns for path in files.paths)
    except FileNotFoundError:
        return 0


def _seen(marks: Sequence[str]) -> list[str]:
    """The marks beside which one that appears late may still be new."""
    first = _first(marks)
    return sorted(mark for mark in marks if mark > first)


def _first(marks: Sequence[str]) -> str:
    """Place in time before which nothing appears any more."""
    if not marks:
        return ""
    newest = int(max(marks).partition(" ")[0])
    return f"{newest - LATE // dt.timedelta(microseconds=1) * 1000:020d}"


def _of_monitor(platform: Platform, message: Message) -> Alert:
    subject = message.incident.subject
    monitor = subject.monitor.removesuffix("_weekly")
    return Alert.of(
        message,
        where=subject.name if "=" in subject.name else "",
        plot=f"{platform.settings.ui_url}/assets/{subject.model}/{subject.monitor}",
        command=""
        if message.kind == "resolved"
        else NEXT.get(monitor, "").format(model=subject.model),
    )


def _of_check(
    platform: Platform,
    key: dg.AssetCheckKey,
    evaluation: dg.AssetCheckEvaluation,
    told: Sequence[str],
    *,
    over: bool = False,
) -> Alert:
    incident, since = told
    path = "/".join(key.asset_key.path)
    error = evaluation.severity is dg.AssetCheckSeverity.ERROR
    return Alert(
        incident=incident,
        kind="resolved" if over else "opened",
        severity="critical" if error else "warning",
        what=f"{key.asset_key.to_user_string()}/{key.name}",
        since=dt.datetime.fromisoformat(since),
        reason=evaluation.description or "",
        plot=f"{platform.settings.ui_url}/assets/{path}?view=checks",
        command="" if over else "mlops-assets status",
    )


def _of_entry(platform: Platform, entry: Entry) -> Alert:
    version = f" of version {entry.version}" if entry.version else ""
    now = entry.after.get("champion", "none")
    return Alert(
        incident=f"ledger/{entry.seq}",
        kind="opened",
        severity=TOLD[entry.action],
        what=f"{entry.model}: {entry.action}{version} by {entry.actor}",
        since=entry.time,
        reason=f"{entry.reason}; champion: {now}",
        plot=f"{platform.settings.ui_url}/assets/{entry.model}/champion",
        command=f"mlops-assets ledger show --model {entry.model}",
    )
