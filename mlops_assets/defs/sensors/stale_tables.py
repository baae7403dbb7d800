"""Keeps tables current: late or corrected source rows make a run over the days that they touch.

Finds what is stale with `defs/staleness.py` and asks for one run. It starts nothing on an empty
home: the first run is a person's decision. Training is not its business.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from mlops_assets.core import fingerprint
from mlops_assets.defs import keys, partitions, staleness
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError
from mlops_assets.platform import Platform
from mlops_assets.recipe import source_marks
from mlops_assets.spec import ModelSpec, all_sources

SECONDS = 60
LONGEST_RUN = dt.timedelta(hours=6)
"""A run that was started before and never ended is taken for one that was killed."""

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
REASON = "mlops_assets/reason"
"""Tag of a run that says why it was started."""


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
        # Asked for once until some run succeeds: one that fails is not started over and over.
        done = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
        wholes = {name: mark.whole for name, mark in marks.items()}
        state = fingerprint.of_values(wholes, named, days, [run.run_id for run in done])
        return dg.RunRequest(
            run_key=state,
            asset_selection=list(stale),
            tags={
                REASON: f"stale: {named} ({days})"[:250],
                **(partitions.tags(*found.days) if found.days else {}),
            },
        )

    return stale_tables
