"""Do the aliases in MLflow say what the ledger says? A check, and a sensor that asks each minute.

The sensor also tells Dagster of champions that were made without a run.

Nothing is put back by itself: whether a move by hand is reverted or adopted is a person's decision.
"""

from collections.abc import Sequence

import dagster as dg

from mlops_assets.core.release_state import Drift
from mlops_assets.defs import keys, releasing
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

NAME = "alias_matches_ledger"
SECONDS = 60


def alias_check(spec: ModelSpec) -> dg.AssetChecksDefinition:
    """The check of a model's aliases."""

    @dg.asset_check(
        asset=keys.champion(spec),
        name=NAME,
        blocking=True,
        description="The aliases of the model in MLflow are where the ledger has them.",
    )
    def alias_matches_ledger(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        drift = platform.releases(spec).drift(spec.name)
        return dg.AssetCheckResult(
            passed=not drift,
            severity=dg.AssetCheckSeverity.ERROR,
            description=told(spec, drift),
            metadata={"drift": told(spec, drift)},
        )

    return alias_matches_ledger


def alias_sensor(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """The sensor of all models: finishes what a crash has left, and reports moves by hand."""
    models = tuple(specs)

    @dg.sensor(
        name=f"{NAME}_sensor",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports aliases that were moved by hand, and finishes releases that a crash "
        "has left.",
    )
    def alias_matches_ledger_sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        settings = platform.settings
        if not (settings.tracking_uri or (settings.mlflow / "mlflow.db").exists()):
            # Looking would make the database, beside a first run that makes it too.
            return dg.SkipReason("nothing was ever registered here")
        # The ledger too: aliases that are all gone were moved by hand as well.
        known = {state.model for state in platform.ledger.states()}
        if not any(spec.name in known or platform.registry.aliases(spec.name) for spec in models):
            return dg.SkipReason("no model has an alias yet")
        found = []
        for spec in models:
            releases = platform.releases(spec)
            releases.reconcile(spec.name, actor=platform.settings.who)
            found.append((spec, releases.drift(spec.name)))
        moved = [releasing.unseen(context.instance, platform, spec) for spec in models]
        champions = [event for event in moved if event is not None]
        state = "; ".join(told(spec, drift) for spec, drift in found)
        if state == context.cursor:
            if champions:
                return dg.SensorResult(asset_events=champions, cursor=state)
            return dg.SkipReason(state)
        # Only what changed is news; the history of a check is no log of ticks.
        return dg.SensorResult(
            asset_events=[
                *champions,
                *(
                    dg.AssetCheckEvaluation(
                        asset_key=keys.champion(spec),
                        check_name=NAME,
                        passed=not drift,
                        severity=dg.AssetCheckSeverity.ERROR,
                        description=told(spec, drift),
                        metadata={"drift": told(spec, drift)},
                    )
                    for spec, drift in found
                ),
            ],
            cursor=state,
        )

    return alias_matches_ledger_sensor


def told(spec: ModelSpec, drift: Sequence[Drift]) -> str:
    """What was moved by hand, and what can be done about it."""
    if not drift:
        return f"{spec.name}: every alias is where the ledger has it"
    moved = "; ".join(map(str, drift))
    return (
        f"{spec.name}: moved by hand: {moved}. To put it back: mlops-assets revert {spec.name}; "
        f"to let the ledger take it over: mlops-assets adopt {spec.name}"
    )
