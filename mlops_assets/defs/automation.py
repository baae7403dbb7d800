"""What Dagster starts by conditions alone: batch predictions, once there is another champion.

Here is only what follows from one asset to the next. What rests on rows that come late is asked for
by `sensors/`: a condition sees that a table was written, and not which of its days are stale.
"""

from collections.abc import Sequence

import dagster as dg

from mlops_assets.defs import keys
from mlops_assets.spec import ModelSpec

SECONDS = 60


def after_release(spec: ModelSpec) -> dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]:
    """The champion was moved by anybody but a run that predicts by itself.

    A release from a canary, an approval and a rollback are no runs over the model's assets; the
    sensor of the aliases tells Dagster of them.
    """
    moved = dg.AutomationCondition.any_deps_updated().allow(
        dg.AssetSelection.assets(keys.champion(spec))
    )
    free = ~dg.AutomationCondition.in_progress()
    return (moved.since_last_handled() & free).with_label("after a release")


def automation_sensor(specs: Sequence[ModelSpec]) -> dg.AutomationConditionSensorDefinition:
    """The sensor that starts what the conditions of the models call for."""
    return dg.AutomationConditionSensorDefinition(
        name="after_release",
        target=dg.AssetSelection.assets(*(keys.predictions(spec) for spec in specs)),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Predicts anew when the champion was moved by an approval, a canary or a "
        "rollback.",
    )
