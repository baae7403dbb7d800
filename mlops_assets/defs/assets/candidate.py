"""The candidate: a model trained on a snapshot, calibrated, conformalized and registered."""

import json
import re
from typing import Any

import dagster as dg

from mlops_assets import judgement
from mlops_assets.core import tasks
from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.training import FittedModel
from mlops_assets.defs import keys, records, retraining
from mlops_assets.defs.tracking import mlflow_run
from mlops_assets.monitoring.reference import keep_reference, make_reference
from mlops_assets.platform import (
    THREADS_TAG,
    Platform,
    git_commit,
    libraries,
    openmp_threads,
)
from mlops_assets.reports.regression_card import CALIBRATIONS
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import SPLITS, Windows


def candidate_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Build the asset of a model's candidate."""

    @dg.asset(
        key=keys.candidate(spec),
        group_name=spec.name,
        kinds={"scikitlearn", "mlflow"},
        description=f"Newest registered version of {spec.name}: trained, calibrated, not released.",
        deps=[keys.training_set(spec)],
        owners=list(spec.owners),
    )
    def candidate(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        snapshot = records.needed(context.instance, keys.training_set(spec))["snapshot"]
        data = platform.training_sets.read(spec.name, snapshot)
        tags = version_tags(spec, data, context.run.run_id, platform.settings.who)
        with mlflow_run(context, platform, spec.name, tags) as mlflow:
            parts = ("train", "calibrate", "conformalize")
            fitted = tasks.fit(spec, **{name: data.rows(name) for name in parts})
            _log_training(mlflow, platform, spec, data, fitted)
            version = platform.registry.register(
                spec.name,
                mlflow.active_run().info.run_id,
                fitted,
                data.rows("holdout").inputs.head(5),
                metadata={"snapshot": snapshot, "inputs": list(spec.inputs)},
                # Known only now: libraries load OpenMP when they are used.
                tags={**tags, THREADS_TAG: str(openmp_threads())},
            )
            document = make_reference(platform, spec, data, fitted)
            keep_reference(platform, spec, version, document)
        _note_retrain(context.run, platform, spec, version)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{spec.name}/{version.version}"),
            metadata=_metadata(platform, version, snapshot),
        )

    return candidate


def _note_retrain(
    run: dg.DagsterRun, platform: Platform, spec: ModelSpec, version: ModelVersion
) -> None:
    """Have the ledger say why a model was trained again, where a run was a retrain."""
    if run.tags.get(retraining.TAG) != spec.name:
        return
    platform.ledger.append(
        Record(
            action="retrain",
            model=spec.name,
            actor=platform.settings.who,
            reason=run.tags.get(retraining.CAUSE, retraining.BY_HAND),
            version=version.version,
            evidence={"dagster_run": run.run_id},
            snapshot=version.tags.get("mlops.snapshot"),
            git_commit=version.tags.get("mlops.git_commit"),
        )
    )


def version_tags(spec: ModelSpec, data: TrainingSet, run_id: str, who: str) -> dict[str, str]:
    """Tags that tie a version to what it was made from."""
    return {
        "mlops.snapshot": data.snapshot,
        "mlops.recipe": data.manifest["recipe"],
        "mlops.windows": json.dumps(data.manifest["windows"], sort_keys=True),
        "mlops.feature_service": data.manifest["feature_service"],
        "mlops.feature_service_digest": data.manifest["feature_service_digest"],
        "mlops.git_commit": git_commit(),
        "mlops.dagster_run": run_id,
        "mlops.libraries": json.dumps(libraries(), sort_keys=True),
        judgement.REQUESTED_BY: who,
        "mlops.owners": ", ".join(spec.owners),
    }


def _log_training(
    mlflow: Any, platform: Platform, spec: ModelSpec, data: TrainingSet, fitted: tasks.Fitted
) -> None:
    """Log parameters, the competition and dataset inputs to the active run."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    class Snapshot(MetaDataset):
        """A split of a snapshot, known by the hash of its content."""

        profile = None

    windows = dict(Windows.model_validate(data.manifest["windows"]).items())
    winner = fitted.selection.winner
    estimator = spec.competitors[winner](spec.seed).get_params(deep=True)
    plain = {
        name: value
        for name, value in estimator.items()
        if isinstance(value, (bool, int, float, str)) or value is None
    }
    mlflow.log_params(
        {
            **plain,
            "estimator": winner,
            "calibration": calibration_of(fitted),
            "confidence": spec.confidence,
            "seed": spec.seed,
            **{f"{name}_window": str(windows[name]) for name in SPLITS},
        }
    )
    mlflow.log_metrics(_competition(fitted))
    path = platform.training_sets.file(spec.name, data.snapshot)
    source = resolve_dataset_source(str(path))
    for split in SPLITS:
        dataset = Snapshot(source, name=f"{spec.name} {split}", digest=data.snapshot[:32])
        mlflow.log_input(dataset, context=split)


def calibration_of(fitted: tasks.Fitted) -> str:
    """How scores became probabilities, or forecasts distributions."""
    if isinstance(fitted, FittedModel):
        return fitted.choice.calibration
    return CALIBRATIONS[fitted.rule.kind]


def _competition(fitted: tasks.Fitted) -> dict[str, float]:
    """Losses of all that competed, and the skill of the winner on each fold."""
    found = {}
    if isinstance(fitted, FittedModel):
        found = {f"calibration_loss_{name}": loss for name, loss in fitted.choice.losses.items()}
    selection = fitted.selection
    for fold in selection.folds:
        # MLflow takes no other punctuation in the name of a metric.
        name = re.sub(r"[^\w\-. :/]", "_", fold.estimator)
        found[f"fold_{fold.number}_loss_{name}"] = fold.validation.loss
        if fold.estimator == selection.winner:
            found[f"fold_{fold.number}_skill"] = fold.validation.skill
            found[f"fold_{fold.number}_skill_train"] = fold.train.skill
    return found


def _metadata(platform: Platform, version: ModelVersion, snapshot: str) -> dict[str, str]:
    return {
        "version": version.version,
        "snapshot": snapshot,
        "mlflow_run": version.run_id,
        "mlflow_uri": platform.registry.uri,
    }
