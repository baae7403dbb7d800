"""The calibration report: what holdout says about the candidate, next to the champion."""

import json

import dagster as dg
import numpy as np

from mlops_assets.core import splits, tasks
from mlops_assets.core.evidence import Champion
from mlops_assets.core.importance import importance as importance_of
from mlops_assets.core.levels import levels
from mlops_assets.core.model_card import render
from mlops_assets.core.regression_evidence import RegressionChampion
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.defs import keys, metadata, records
from mlops_assets.errors import ArtifactError
from mlops_assets.platform import Platform
from mlops_assets.reports import report as reports
from mlops_assets.reports.card import FILE, model_card
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION, ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import Windows


def report_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Build the asset of a model's calibration report."""

    @dg.asset(
        key=keys.report(spec),
        group_name=spec.name,
        kinds={"scikitlearn", "mlflow"},
        description=f"Holdout scores of the candidate of {spec.name}: the evidence for its gates.",
        deps=[keys.candidate(spec)],
        owners=list(spec.owners),
    )
    def calibration_report(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        record = records.needed(context.instance, keys.candidate(spec))
        version = platform.registry.version(spec.name, record["version"])
        data = platform.training_sets.read(spec.name, record["snapshot"])
        fitted = platform.registry.load(version)
        holdout = data.rows("holdout")
        evidence = tasks.judged(
            fitted,
            holdout,
            _champion(platform, spec, version, data),
            slices_of(spec, data),
            spec.threshold,
        )
        row_ids = data.part("holdout")[spec.rows.row_id].combine_chunks()
        digest = platform.scores.write(spec.name, version.version, row_ids, evidence)

        importance = importance_of(fitted, holdout, seed=spec.seed)
        measured = evidence.metrics(spec.gates)
        pictures = reports.pictures(spec, version.version, evidence, importance)
        card = render(model_card(platform, spec, version, data, evidence, fitted, importance))
        texts = reports.texts(evidence, importance)
        platform.registry.log(version.run_id, measured, {**pictures, **texts, FILE: card})
        return dg.MaterializeResult(
            metadata={
                "version": version.version,
                "snapshot": data.snapshot,
                "evidence": digest,
                "champion_compared": evidence.champion.version if evidence.champion else "none",
                "holdout_rows": len(holdout.labels),
                "model_card": dg.MetadataValue.path(platform.registry.report_file(version, FILE)),
                **{
                    name.removesuffix(".png"): metadata.picture(png, name)
                    for name, png in pictures.items()
                },
                **metadata.numbers(measured),
                **{
                    name: metadata.table(rows) if rows else dg.MetadataValue.text("none")
                    for name, rows in reports.tables(spec, evidence, importance).items()
                },
            }
        )

    return calibration_report


def slices_of(spec: ModelSpec, data: TrainingSet) -> tasks.Levels:
    """Level of each holdout row by slice."""
    holdout = data.part("holdout")
    return {
        one.name: levels(holdout[one.of].to_pandas().to_numpy(), one.edges) for one in spec.slices
    }


def _champion(
    platform: Platform, spec: ModelSpec, version: ModelVersion, data: TrainingSet
) -> Champion | RegressionChampion | Incomparable | None:
    """Score the holdout with the champion; None when there is none or it is this version."""
    champion = platform.registry.alias(spec.name, CHAMPION)
    if champion is None or champion.version == version.version:
        return None
    holdout = data.rows("holdout")
    learned = Windows.model_validate(json.loads(champion.tags["mlops.windows"]))
    seen = np.zeros(holdout.times.shape, dtype=bool)
    for name, window in learned.items():
        if name in splits.LEARNED:
            seen |= splits.in_window(holdout.times, window)
    try:
        fitted = platform.registry.load(champion)
        return tasks.champion(
            fitted, champion.version, holdout.inputs, int(seen.sum()), spec.threshold
        )
    except ArtifactError as damaged:
        return Incomparable(champion.version, damaged.found)
    except (KeyError, ValueError) as unfit:  # scikit-learn's words for inputs that it lacks
        return Incomparable(champion.version, f"it does not take these inputs: {unfit}")
