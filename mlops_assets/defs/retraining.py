"""What is known of a model's retrains and what calls for one, read from the graph's own records.

Runs carry a tag with the model that they train again, so nothing else is kept. When one is started
is decided in `core.retraining`; who asks is in `schedules.py` and `sensors/retraining.py`.
"""

import datetime as dt
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.core.incident import Incident
from mlops_assets.core.retraining import Breach, Decision, RetrainState, Signals, decide
from mlops_assets.core.tasks import GATES
from mlops_assets.defs import keys
from mlops_assets.defs.runs import LONGEST_RUN
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import MlopsAssetsError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import quoted, text
from mlops_assets.tables import EVENT_TIME
from mlops_assets.windows import SPLITS, Windows

if TYPE_CHECKING:
    # Dagster gives what its own function returns no public name.
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

TAG = "mlops_assets/retrain"
"""Tag of a run: the model that it trains again."""

CAUSE = "mlops_assets/retrain_cause"
"""Tag of a run: why."""

AT = "mlops_assets/retrain_at"
"""Tag of a run: the present of the platform when it was asked for."""

BY_HAND = "by hand"
NO_CHAMPION = "there is no champion yet: the first run is a person's decision"
LOOK_BACK = 20
"""Runs that are looked at: more failures in a row make no difference."""

CALIBRATION = ("calibration_drift", "coverage", "performance")
_ENDED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)


def job(spec: ModelSpec) -> str:
    """Name of the job that trains a model again."""
    return f"retrain_{spec.name}"


def retrain_job(spec: ModelSpec) -> "UnresolvedAssetJobDefinition":
    """The job of a model: from its training set to its release, with all gates."""
    return dg.define_asset_job(
        job(spec),
        selection=dg.AssetSelection.assets(*keys.model_keys(spec)),
        tags={TAG: spec.name, CAUSE: BY_HAND},
        description=f"Train {spec.name} again, judge it, and release it if its gates let it pass.",
    )


def windows_at(spec: ModelSpec, now: dt.datetime) -> Windows:
    """The windows of a retrain: those of the spec, moved to the last days with labels.

    Raises:
        DeclarationError: when no day is left to learn from.
    """
    policy = spec.retraining
    end = now.date() - dt.timedelta(days=policy.label_delay_days)
    return spec.windows.until(end, train_days=policy.train_days)


def note_start(context: dg.AssetExecutionContext, now: dt.datetime) -> None:
    """Note the present of the platform on a retrain that somebody has started by hand.

    Args:
        context: of a step of the run.
        now: the present.
    """
    run = context.run
    if TAG in run.tags and AT not in run.tags:
        context.instance.add_run_tags(run.run_id, {AT: now.isoformat()})


def state(instance: dg.DagsterInstance, spec: ModelSpec, now: dt.datetime) -> RetrainState:
    """What the runs so far say, at a present."""
    runs = instance.get_run_records(dg.RunsFilter(tags={TAG: spec.name}), limit=LOOK_BACK)
    found = RetrainState()
    for record in reversed(runs):
        if found.running:
            # Somebody started another one by hand; the first is waited for.
            break
        run = record.dagster_run
        found = RetrainState(
            last_end=found.last_end,
            last_outcome=found.last_outcome,
            failures=found.failures,
            answered=found.answered,
        ).started(_began(record, now))
        if run.status in _ENDED:
            good = run.status is dg.DagsterRunStatus.SUCCESS or _judged(instance, spec, run)
            created = record.create_timestamp.timestamp()
            lasted = dt.timedelta(seconds=(record.end_time or created) - created)
            found = found.ended(_began(record, now) + lasted, "succeeded" if good else "failed")
        elif dt.datetime.now(dt.UTC) - record.create_timestamp > LONGEST_RUN:
            # Nobody was left to say that it ended.
            found = found.ended(_began(record, now) + LONGEST_RUN, "failed")
    return found


def signals(platform: Platform, spec: ModelSpec, known: RetrainState, now: dt.datetime) -> Signals:
    """What was observed about a model by now.

    Raises:
        DeclarationError: when no day is left to learn from.
        SourceError: when there are no entity rows.
    """
    windows = windows_at(spec, now)
    since = known.answered or dt.datetime.min.replace(tzinfo=dt.UTC)
    label, told = quoted(spec.label.column), quoted(spec.label.known_at)
    time = quoted(EVENT_TIME)
    # Each part needs rows: a window that lies where no labels are cannot be learned from.
    of_parts = ", ".join(
        f"count(*) FILTER ({time} >= {text(part.start)}::TIMESTAMPTZ "
        f"AND {time} < {text(part.end)}::TIMESTAMPTZ)"
        for name, part in windows.items()
        if name in SPLITS
    )
    path = platform.lake.file(engine.rows(spec.rows))
    counts = platform.lake.read(
        f"SELECT least({of_parts}), "
        f"count(*) FILTER ({told} > {text(since.isoformat())}::TIMESTAMPTZ) "
        f"FROM entity_rows WHERE {label} IS NOT NULL AND "
        f"{told} <= {text(now.isoformat())}::TIMESTAMPTZ",
        entity_rows=path,
    )
    labels, fresh = (int(column[0].as_py()) for column in counts.columns)
    incidents = platform.incidents.open(spec.name)
    return Signals(
        labels=labels,
        new_labels=fresh,
        drift=_breach(incidents, ("feature_drift", "prediction_drift")),
        calibration=_breach(incidents, CALIBRATION),
    )


def decision(
    instance: dg.DagsterInstance,
    platform: Platform,
    spec: ModelSpec,
    *,
    every: dt.timedelta | None = None,
) -> tuple[Decision, RetrainState]:
    """Whether a model is trained again now.

    Args:
        instance: where the runs are.
        platform: the stores.
        spec: the model.
        every: when it is due by the clock; None where only events are asked for.

    Raises:
        DeclarationError, SourceError: as `signals`.
    """
    now = platform.now
    known = state(instance, spec, now)
    found = signals(platform, spec, known, now)
    return decide(now, known, spec.retraining.rules(every), found), known


def asked(
    instance: dg.DagsterInstance,
    platform: Platform,
    spec: ModelSpec,
    *,
    every: dt.timedelta | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """What a tick answers: the run of a retrain that is to start now, or why there is none.

    Args:
        instance: where the runs are.
        platform: the stores.
        spec: the model.
        every: as in `decision`.
    """
    if platform.ledger.state(spec.name).aliases.champion is None:
        return dg.SkipReason(NO_CHAMPION)
    try:
        decided, known = decision(instance, platform, spec, every=every)
    except MlopsAssetsError as obstacle:
        return dg.SkipReason(str(obstacle))
    if not decided.start:
        return dg.SkipReason(decided.reason)
    return request(platform, spec, decided, known)


def request(
    platform: Platform, spec: ModelSpec, decided: Decision, known: RetrainState
) -> dg.RunRequest:
    """The run of a retrain; asking twice in one state asks for one run."""
    now = platform.now
    last = known.last_start.isoformat() if known.last_start else "none"
    return dg.RunRequest(
        run_key=f"{spec.name}/{decided.cause}/{last}",
        run_config=until(spec, windows_at(spec, now).holdout.end),
        tags={
            TAG: spec.name,
            CAUSE: f"{decided.cause}: {decided.reason}"[:250],
            AT: now.isoformat(),
        },
    )


def until(spec: ModelSpec, end: dt.date) -> dict[str, object]:
    """The config of a run whose holdout ends on a day."""
    op = "__".join(keys.training_set(spec).path)
    return {"ops": {op: {"config": {"until": end.isoformat(), "holdout": ""}}}}


def _began(record: dg.RunRecord, now: dt.datetime) -> dt.datetime:
    """When a run began, by the present of the platform, which may be behind the clock."""
    told = record.dagster_run.tags.get(AT)
    return dt.datetime.fromisoformat(told) if told else min(record.create_timestamp, now)


def _judged(instance: dg.DagsterInstance, spec: ModelSpec, run: dg.DagsterRun) -> bool:
    """Whether a failed run came to a version that all gates judged, and was then told no.

    A worker that was killed was told nothing, whatever it had done by then.
    """
    kinds = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    events = [one.dagster_event for one in instance.all_logs(run.run_id, of_type=kinds)]
    judged = {
        event.asset_check_evaluation_data.check_name
        for event in events
        if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    return judged >= set(GATES[spec.task]) and any(
        event and event.is_step_failure for event in events
    )


def _breach(incidents: list[Incident], monitors: tuple[str, ...]) -> Breach | None:
    """The open incidents of some monitors as one breach; None when there is none."""
    found = [
        one
        for one in incidents
        if one.subject.monitor.removesuffix("_weekly") in monitors and one.severity == "critical"
    ]
    if not found:
        return None
    newest = max(found, key=lambda incident: incident.opened)
    told = f"{newest.subject}: {newest.worst.reason}"
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Breach(newest.opened, told + more)
