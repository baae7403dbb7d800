"""The calibration report: what holdout says about the candidate, next to the champion."""

import json
from typing import Any

import dagster as dg
import numpy as np

from mlops_assets.card import FILE, model_card
from mlops_assets.core import plots, splits
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.importance import importance as importance_of
from mlops_assets.core.levels import levels
from mlops_assets.core.model_card import render
from mlops_assets.defs import keys, metadata, records
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION, ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.tables import EVENT_TIME
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
        evidence = Evidence(
            labels=holdout.labels,
            probabilities=fitted.probabilities(holdout.inputs),
            rule=fitted.rule,
            champion=_champion(platform, spec, version, data),
            selection=fitted.choice.selection,
            slices=slices_of(spec, data),
            threshold=spec.threshold,
        )
        row_ids = data.part("holdout")[spec.rows.row_id].combine_chunks()
        digest = platform.scores.write(spec.name, version.version, row_ids, evidence)

        importance = importance_of(fitted, holdout, seed=spec.seed)
        measured = evidence.metrics(spec.gates)
        pictures = _pictures(spec, version, evidence, importance)
        card = render(
            model_card(platform, spec, version, data, evidence, fitted.choice, importance)
        )
        _log(platform, version, evidence, measured, {**pictures, FILE: card}, importance)
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
                "bins": metadata.bins(evidence.bins(spec.gates)),
                "differences": _differences(evidence),
                "importance": metadata.table(
                    [
                        {"column": name, "importance": metadata.rounded(value)}
                        for name, value in importance.items()
                    ]
                ),
            }
        )

    return calibration_report


def slices_of(spec: ModelSpec, data: TrainingSet) -> dict[str, np.ndarray[Any, Any]]:
    """Level of each holdout row by slice."""
    holdout = data.part("holdout")
    return {
        one.name: levels(holdout[one.of].to_pandas().to_numpy(), one.edges) for one in spec.slices
    }


def _champion(
    platform: Platform, spec: ModelSpec, version: ModelVersion, data: TrainingSet
) -> Champion | None:
    """Score the holdout with the champion; None when there is none or it is this version."""
    champion = platform.registry.alias(spec.name, CHAMPION)
    if champion is None or champion.version == version.version:
        return None
    times = data.part("holdout")[EVENT_TIME].to_pandas().dt.tz_localize(None).to_numpy()
    learned = Windows.model_validate(json.loads(champion.tags["mlops.windows"]))
    seen = np.zeros(times.shape, dtype=bool)
    for name, window in learned.items():
        if name in splits.LEARNED:
            seen |= splits.in_window(times, window)
    fitted = platform.registry.load(champion)
    inputs = data.rows("holdout").inputs
    return Champion(champion.version, fitted.probabilities(inputs), int(seen.sum()), spec.threshold)


def _pictures(
    spec: ModelSpec, version: ModelVersion, evidence: Evidence, importance: dict[str, float]
) -> dict[str, bytes]:
    name = f"{spec.name} version {version.version}"
    decided = (evidence.probabilities >= spec.threshold).astype(np.int64)
    counts = np.bincount(evidence.labels * 2 + decided, minlength=4).reshape(2, 2)
    return {
        "reliability_diagram.png": plots.reliability_diagram(
            evidence.bins(spec.gates), title=f"{name}: reliability", limit=spec.gates.bin_limit
        ),
        "feature_importance.png": plots.importance_chart(
            importance, title=f"{name}: permutation importance"
        ),
        "confusion_matrix.png": plots.confusion_chart(
            counts, title=f"{name}: decisions at {spec.threshold:g}"
        ),
    }


def _log(
    platform: Platform,
    version: ModelVersion,
    evidence: Evidence,
    measured: dict[str, float],
    files: dict[str, bytes | str],
    importance: dict[str, float],
) -> None:
    """Log metrics, pictures, card and texts to the version's MLflow run."""
    from sklearn.metrics import classification_report

    decided = (evidence.probabilities >= evidence.threshold).astype(np.int64)
    texts = {
        "classification_report.txt": classification_report(
            evidence.labels, decided, zero_division=0
        ),
        "feature_importance.json": json.dumps(importance, indent=1),
    }
    platform.registry.log(version.run_id, measured, {**files, **texts})


def _differences(evidence: Evidence) -> dg.MetadataValue:
    found = evidence.differences()
    if found is None:
        return dg.MetadataValue.text("no champion to compare with")
    rows: list[dict[str, Any]] = [
        {
            "metric": d.metric,
            **{
                name: metadata.rounded(getattr(d, name))
                for name in ("candidate", "champion", "difference", "low", "high")
            },
        }
        for d in found
    ]
    return metadata.table(rows)
