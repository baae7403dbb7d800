"""Keeps tables current: late or corrected source rows make a run over the days that they touch.

Finds what is stale with `defs/staleness.py` and asks for one run. It starts nothing on an empty
home: the first run is a person's decision. Training is not its business.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from mlops_assets.core import fingerprint
from mlops_assets.defs import keys, partitions, staleness
from mlops_assets.defs.runs import IN_PROGRESS, LONGEST_RUN, REASON, STATE
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError
from mlops_assets.platform import Platform
from mlops_assets.recipe import source_marks
from mlops_assets.spec import ModelSpec, all_sources

SECONDS = 60

FIRST_PAUSE, LONGEST_PAUSE = dt.timedelta(minutes=5), dt.timedelta(hours=6)
"""Pause after a run that failed, doubled by every further one up to the longest."""

MOST_FAILURES = 100


def stale_tables_sensor(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """Build the sensor of some models."""
    models = tuple(specs)

    @dg.sensor(
        name="stale_tables",
        target=dg.AssetSelection.assets(*keys.table_keys(models)),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Materializes tables whose sources have changed, the days touched and no more.",
    )
    def stale_tables(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        sources = all_sources(models)
        if not any(platform.lake.file(engine.raw(source)).exists() for source in sources):
            return dg.SkipReason("nothing was ever materialized here")
        recent = dt.datetime.now(dt.UTC) - LONGEST_RUN
        if instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS, created_after=recent), limit=1):
            return dg.SkipReason("a run is in progress")
        try:
            marks = source_marks(platform, sources)
        except DataError as broken:
            return dg.SkipReason(f"the tables stay as they are: {broken}")
        found = staleness.of_tables(instance, platform, models, marks)
        stale = (*found.tables, *found.beside)
        if not stale:
            return dg.SkipReason("every table is what its sources say")
        days = f"{found.days[0]} to {found.days[1]}" if found.days else "no days"
        named = ", ".join(key.to_user_string() for key in stale)
        wholes = {name: mark.whole for name, mark in marks.items()}
        done = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
        state = fingerprint.of_values(wholes, named, days, [run.run_id for run in done])
        # Asked for once until some run succeeds; one that fails again after longer and longer
        # pauses, because what it lacked may have come back.
        failed = instance.get_run_records(dg.RunsFilter(tags={STATE: state}), limit=MOST_FAILURES)
        if failed and (wait := _wait(failed, dt.datetime.now(dt.UTC))):
            return dg.SkipReason(f"{len(failed)} runs failed; tried again at {wait}")
        return dg.RunRequest(
            run_key=f"{state}/{len(failed)}",
            asset_selection=list(stale),
            tags={
                STATE: state,
                REASON: f"stale: {named} ({days})"[:250],
                **(partitions.tags(*found.days) if found.days else {}),
            },
        )

    return stale_tables


def _wait(failed: Sequence[dg.RunRecord], now: dt.datetime) -> dt.datetime | None:
    """When a run that failed is tried again; None for now."""
    ended = max(record.end_time or record.create_timestamp.timestamp() for record in failed)
    pause = min(FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE)
    until = dt.datetime.fromtimestamp(ended, dt.UTC) + pause
    return until if until > now else None
