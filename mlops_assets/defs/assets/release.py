"""The champion: the version that production uses, moved only with the guard's clearance."""

import dagster as dg

from mlops_assets.defs import keys, releasing
from mlops_assets.errors import ReleaseConflictError, ReleaseRefusedError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec


def champion_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Build the asset of a model's champion."""

    @dg.asset(
        key=keys.champion(spec),
        group_name=spec.name,
        kinds={"mlflow"},
        description=f"The version of {spec.name} that production uses.",
        deps=[keys.candidate(spec), keys.report(spec)],
        owners=list(spec.owners),
    )
    def champion(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        try:
            released = releasing.release(
                context.instance,
                platform,
                spec,
                actor=platform.settings.who,
                reason=f"the gates let it through in run {context.run.run_id}",
            )
        except (ReleaseRefusedError, ReleaseConflictError) as refused:
            # A refusal is an answer: trying again would not change it.
            raise dg.Failure(description=str(refused), allow_retries=False) from refused
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{spec.name}/{released.cleared.version}"),
            metadata=released.metadata(platform, spec),
        )

    return champion
