"""Schedules: every model is trained again when its policy says that it is due."""

import datetime as dt

import dagster as dg

from mlops_assets.defs import retraining
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

AT_ONCE = dt.timedelta(seconds=1)
"""Whenever the schedule ticks, the model is due."""


def retrain_schedule(spec: ModelSpec) -> dg.ScheduleDefinition:
    """The schedule of a model that has one."""

    @dg.schedule(
        name=f"{retraining.job(spec)}_schedule",
        cron_schedule=str(spec.retraining.schedule),
        job_name=retraining.job(spec),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Trains {spec.name} again, unless it is trained, or was lately.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        return retraining.asked(context.instance, platform, spec, every=AT_ONCE)

    return schedule
