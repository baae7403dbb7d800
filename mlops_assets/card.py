"""The model card of a version, put together from its evidence and from where it comes from.

Collecting only: what a card can say stands in `core/model_card.py`, which also draws the page.
"""

import json
import platform as machine
from collections.abc import Mapping
from importlib.metadata import version as installed_version

import numpy as np

from mlops_assets.core import model_card as cards
from mlops_assets.core.calibration import expected_calibration_error
from mlops_assets.core.comparison import classification_metrics
from mlops_assets.core.conformal import covered, set_size
from mlops_assets.core.evidence import GATES, RULES, Evidence
from mlops_assets.core.mondrian import GroupCoverage, MondrianRule, coverage_by_group
from mlops_assets.core.training import Choice
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import SPLITS, Windows

FILE = "model_card.html"
"""Name of the card among the files of a version's report."""

LIBRARIES = ("mlops-assets", "scikit-learn", "numpy", "mapie", "pandas")
METRICS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "accuracy": "Accuracy at the threshold",
    "f1": "F1 at the threshold",
}


def model_card(
    platform: Platform,
    spec: ModelSpec,
    version: ModelVersion,
    data: TrainingSet,
    evidence: Evidence,
    choice: Choice,
    importance: Mapping[str, float],
) -> cards.ModelCard:
    """Put a card together.

    Args:
        platform: the stores.
        spec: the model.
        version: the version that is judged.
        data: the snapshot that it was trained on.
        evidence: its scores on the holdout.
        choice: how it was chosen.
        importance: how much each input matters.
    """
    bins = evidence.bins(spec.gates)
    sets = evidence.rule.prediction_sets(evidence.probabilities)
    counts, _ = np.histogram(evidence.probabilities, 50, (0, 1))
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
            spec.threshold,
        ),
        aliases=version.aliases,
        gates=cards.Gates(
            verdicts=tuple(judge(evidence, spec.gates) for judge in GATES.values()),
            rules={name: RULES[name].format(**spec.gates.model_dump()) for name in GATES},
        ),
        comparison=_comparison(evidence),
        reliability=cards.Reliability(
            bins,
            spec.gates.bin_limit,
            expected_calibration_error(bins),
            spec.gates.ece_limit,
            tuple(counts.tolist()),
        ),
        performance=_performance(evidence),
        coverage=cards.Coverage(
            evidence.rule.confidence,
            spec.gates.coverage_tolerance,
            evidence.coverage(),
            evidence.rule.n_conformalize,
            set_size(sets),
            groups=_groups(evidence),
            grouped_by=next(iter(evidence.slices), "group"),
        ),
        slices=evidence.slice_report(),
        choice=cards.Choice(choice.selection, calibration=choice.calibration, losses=choice.losses),
        features=cards.Features(importance),
        data=_data(platform, spec, data),
        lineage=cards.Lineage(
            git_commit=version.tags.get("mlops.git_commit"),
            dagster_run=version.tags.get("mlops.dagster_run"),
            mlflow_run=version.run_id,
            versions={
                "python": machine.python_version(),
                **{name: installed_version(name) for name in LIBRARIES},
            },
        ),
        holdout=_holdout_use(platform, spec, version),
    )


def _groups(evidence: Evidence) -> tuple[GroupCoverage, ...]:
    """Coverage by level of the first slice, all intervals at once; empty without a slice."""
    for levels in evidence.slices.values():
        held = covered(evidence.labels, evidence.rule.prediction_sets(evidence.probabilities))
        apart = 0.95 ** (1 / len(np.unique(levels)))
        return coverage_by_group(held, levels, MondrianRule(evidence.rule), level=apart)
    return ()


def _comparison(evidence: Evidence) -> cards.Comparison | None:
    champion = evidence.champion
    if champion is None:
        return None
    if champion.overlap_rows:
        note = f"The champion has learned from {champion.overlap_rows:,} of these rows."
        return cards.Comparison(champion.version, (), note)
    return cards.Comparison(champion.version, evidence.differences() or ())


def _performance(evidence: Evidence) -> cards.Performance:
    from sklearn.metrics import precision_recall_curve, roc_curve

    labels, scores = evidence.labels, evidence.probabilities
    measured = classification_metrics(labels, scores, evidence.threshold)
    false_rate, true_rate, _ = roc_curve(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    decided, positive = scores >= evidence.threshold, labels == 1
    found = float(decided[positive].mean())
    right = float(positive[decided].mean()) if decided.any() else float("nan")
    return cards.Performance(
        metrics={words: measured[name] for name, words in METRICS.items()},
        n=len(labels),
        base_rate=float(labels.mean()),
        roc=tuple(zip(false_rate.tolist(), true_rate.tolist(), strict=True)),
        precision_recall=tuple(zip(recall.tolist(), precision.tolist(), strict=True)),
        roc_at=(float(decided[~positive].mean()), found),
        precision_recall_at=(found, right),
    )


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
