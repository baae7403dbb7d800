"""The model card of a version, put together from its evidence and from where it comes from.

Collecting only: what each kind of model says of itself stands in `classification_card.py` and
`regression_card.py`, what a card can say in `core/model_card.py`, which also draws the page.
"""

import json
from collections.abc import Mapping
from typing import Any

from mlops_assets.core import model_card as cards
from mlops_assets.core import tasks
from mlops_assets.core.evidence import Evidence
from mlops_assets.core.regression_evidence import RegressionEvidence
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.core.training import FittedModel
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import GateError
from mlops_assets.platform import Platform, libraries
from mlops_assets.reports.classification_card import classification_parts
from mlops_assets.reports.regression_card import regression_parts
from mlops_assets.reports.report import LOSSES
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import SPLITS, Windows

FILE = "model_card.html"
"""Name of the card among the files of a version's report."""


def model_card(
    platform: Platform,
    spec: ModelSpec,
    version: ModelVersion,
    data: TrainingSet,
    evidence: tasks.AnyEvidence,
    fitted: tasks.Fitted,
    importance: Mapping[str, float],
) -> cards.ModelCard:
    """Put a card together.

    Args:
        platform: the stores.
        spec: the model.
        version: the version that is judged.
        data: the snapshot that it was trained on.
        evidence: what it says of the holdout.
        fitted: the model.
        importance: how much each input matters.
    """
    gates = tasks.GATES[spec.task]
    return cards.ModelCard(
        model=spec.name,
        version=version.version,
        made_at=f"{version.created:%Y-%m-%d %H:%M} UTC",
        intent=cards.Intent(
            spec.description,
            spec.owners,
            spec.task,
            spec.label.column,
            spec.rows.description,
            spec.threshold if spec.task == "binary" else None,
        ),
        aliases=version.aliases,
        gates=cards.Gates(
            verdicts=tuple(judge(evidence, spec.gates) for judge in gates.values()),
            rules=tasks.rules(spec.task, spec.gates.model_dump()),
        ),
        comparison=_comparison(evidence),
        features=cards.Features(importance, f"rise of the {LOSSES[spec.task]} when shuffled"),
        data=_data(platform, spec, data),
        lineage=cards.Lineage(
            git_commit=version.tags.get("mlops.git_commit"),
            dagster_run=version.tags.get("mlops.dagster_run"),
            mlflow_run=version.run_id,
            versions=libraries(),
        ),
        holdout=_holdout_use(platform, spec, version),
        **_parts(spec, evidence, fitted),
    )


def _parts(spec: ModelSpec, evidence: tasks.AnyEvidence, fitted: tasks.Fitted) -> dict[str, Any]:
    """What only this kind of model says."""
    match evidence, fitted:
        case Evidence(), FittedModel():
            return {**classification_parts(evidence, spec.gates, fitted.choice)}
        case RegressionEvidence(), _:
            return {**regression_parts(evidence, spec.gates, spec.unit)}
        case _:
            raise GateError(
                f"evidence of {type(evidence).__name__} on a {type(fitted).__name__}",
                expected="evidence on this very model",
                do=f"materialize the calibration report of {spec.name!r} again",
            )


def _comparison(evidence: tasks.AnyEvidence) -> cards.Comparison | None:
    champion = evidence.champion
    if champion is None:
        return None
    if isinstance(champion, Incomparable):
        return cards.Comparison(champion.version, (), f"Not compared: {champion.reason}.")
    if champion.overlap_rows:
        note = f"The champion has learned from {champion.overlap_rows:,} of these rows."
        return cards.Comparison(champion.version, (), note)
    return cards.Comparison(champion.version, evidence.differences() or ())


def _data(platform: Platform, spec: ModelSpec, data: TrainingSet) -> cards.Data:
    windows = dict(Windows.model_validate(data.manifest["windows"]).items())
    labels = {name: data.part(name)[data.manifest["label"]].to_numpy() for name in SPLITS}
    marks = {source.name: engine.source_mark(platform.lake, source) for source in spec.sources}
    return cards.Data(
        windows=tuple(
            cards.Window(name, str(windows[name]), len(labels[name]), float(labels[name].mean()))
            for name in SPLITS
        ),
        snapshot=data.snapshot,
        recipe=data.manifest["recipe"],
        feature_service=data.manifest["feature_service"],
        feature_service_digest=data.manifest["feature_service_digest"],
        sources={name: mark.whole for name, mark in marks.items() if mark},
        purged=data.manifest["purged"],
    )


def _holdout_use(platform: Platform, spec: ModelSpec, version: ModelVersion) -> cards.HoldoutUse:
    """The versions of this name that were judged on the same holdout days."""

    def days(tags: Mapping[str, str]) -> object:
        return json.loads(tags.get("mlops.windows", "{}")).get("holdout")

    same = [
        one.version
        for one in platform.registry.versions(spec.name)
        if days(one.tags) == days(version.tags)
    ]
    ordered = sorted({*same, version.version}, key=int)
    return cards.HoldoutUse(len(ordered), tuple(ordered))
