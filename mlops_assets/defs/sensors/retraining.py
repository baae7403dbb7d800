"""Trains a model again when events call for it: labels that have come, drift, lost calibration."""

import dagster as dg

from mlops_assets.defs import retraining
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

SECONDS = 300


def retrain_sensor(spec: ModelSpec) -> dg.SensorDefinition:
    """Build the sensor of a model."""

    @dg.sensor(
        name=f"{retraining.job(spec)}_sensor",
        job_name=retraining.job(spec),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Trains {spec.name} again on new labels, drift or lost calibration.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.RunRequest | dg.SkipReason:
        return retraining.asked(context.instance, platform, spec)

    return sensor
