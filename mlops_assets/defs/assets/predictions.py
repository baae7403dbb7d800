"""Batch predictions: the champion on the window after its holdout."""

import json

import dagster as dg

from mlops_assets.defs import keys, metadata
from mlops_assets.defs.automation import after_release
from mlops_assets.inference import batch
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION
from mlops_assets.windows import Windows


def predictions_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Build the asset of a model's batch predictions."""

    @dg.asset(
        key=keys.predictions(spec),
        group_name=spec.name,
        kinds={"parquet"},
        description=f"Predictions of the champion of {spec.name} after its holdout, by day.",
        deps=[keys.champion(spec), keys.FEATURE_REGISTRY, keys.rows(spec.rows)],
        owners=list(spec.owners),
        automation_condition=after_release(spec),
    )
    def batch_predictions(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        version = platform.registry.alias(spec.name, CHAMPION)
        if version is None:
            raise dg.Failure(description=f"{spec.name} has no champion", allow_retries=False)
        windows = Windows.model_validate(json.loads(version.tags["mlops.windows"]))
        if windows.predict is None:
            return dg.MaterializeResult(metadata={"dagster/row_count": 0, "window": "none"})
        found = batch.predict_window(platform, spec, version, windows.predict)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": int(found["rows"]),
                "dagster/uri": str(platform.lake.folder(f"predictions/{spec.name}")),
                "version": version.version,
                "window": str(windows.predict),
                **metadata.numbers({k: v for k, v in found.items() if k != "rows"}),
            }
        )

    return batch_predictions
