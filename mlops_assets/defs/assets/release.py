"""The champion: the version that production uses, moved only with the guard's clearance."""

import datetime as dt
import getpass

import dagster as dg

from mlops_assets.defs import guard, keys
from mlops_assets.errors import ReleaseRefusedError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION


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
            cleared = guard.clearance(context.instance, spec)
        except ReleaseRefusedError as refused:
            # A refusal is an answer: trying again would not change it.
            raise dg.Failure(description=str(refused), allow_retries=False) from refused
        now = platform.registry.alias(spec.name, CHAMPION)
        current = now.version if now else "none"
        if current not in (cleared.version, cleared.champion_compared):
            raise dg.Failure(
                description=f"the champion of {spec.name} is version {current} now, and the "
                f"verdicts compared with {cleared.champion_compared}\n  expected: evidence against "
                "the champion that would be replaced\n  to do: materialize the calibration "
                "report and its checks again",
                allow_retries=False,
            )
        before = platform.registry.promote(
            spec.name,
            cleared.version,
            tags={
                "mlops.released_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "mlops.released_by": _user(),
                "mlops.released_in": context.run.run_id,
                "mlops.evidence": cleared.evidence,
            },
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{spec.name}/{cleared.version}"),
            metadata={
                "version": cleared.version,
                "version_before": before or "none",
                "snapshot": cleared.snapshot,
                "evidence": cleared.evidence,
                "verdicts": cleared.verdicts,
            },
        )

    return champion


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"
