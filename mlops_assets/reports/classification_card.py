"""What only the model card of a classifier says, made from its evidence.

The parts that both kinds of model share (gates, comparison, features, data, lineage) are put
together in `card.py`; what a card can say stands in `core/model_card.py`.
"""

from typing import TypedDict

import numpy as np

from mlops_assets.core import model_card as cards
from mlops_assets.core.calibration import expected_calibration_error
from mlops_assets.core.comparison import classification_metrics
from mlops_assets.core.conformal import covered, set_size
from mlops_assets.core.evidence import Evidence
from mlops_assets.core.mondrian import GroupCoverage, MondrianRule, coverage_by_group
from mlops_assets.core.shared_gates import Policy
from mlops_assets.core.slices import SliceReport
from mlops_assets.core.training import Choice

LEVEL = 0.95
SCORE_BINS = 50
METRICS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "accuracy": "Accuracy at the threshold",
    "f1": "F1 at the threshold",
}


class ClassificationParts(TypedDict):
    """Parts of a `ModelCard` by the name of its field."""

    reliability: cards.Reliability
    performance: cards.Performance
    coverage: cards.Coverage
    slices: SliceReport | None
    choice: cards.Choice


def classification_parts(evidence: Evidence, policy: Policy, choice: Choice) -> ClassificationParts:
    """The parts of the card that a classifier has in a form of its own.

    Args:
        evidence: its scores on the holdout.
        policy: the limits.
        choice: how it was chosen.
    """
    bins = evidence.bins(policy)
    counts, _ = np.histogram(evidence.probabilities, SCORE_BINS, (0, 1))
    return {
        "reliability": cards.Reliability(
            bins,
            policy.bin_limit,
            expected_calibration_error(bins),
            policy.ece_limit,
            tuple(counts.tolist()),
        ),
        "performance": _performance(evidence),
        "coverage": cards.Coverage(
            evidence.rule.confidence,
            policy.coverage_tolerance,
            evidence.coverage(),
            evidence.rule.n_conformalize,
            set_size(evidence.rule.prediction_sets(evidence.probabilities)),
            groups=_groups(evidence),
            grouped_by=next(iter(evidence.slices), "group"),
        ),
        "slices": evidence.slice_report,
        "choice": cards.Choice(
            choice.selection, calibration=choice.calibration, losses=choice.losses
        ),
    }


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


def _groups(evidence: Evidence) -> tuple[GroupCoverage, ...]:
    """Coverage by level of the first slice, all intervals at once; empty without a slice."""
    for levels in evidence.slices.values():
        held = covered(evidence.labels, evidence.rule.prediction_sets(evidence.probabilities))
        apart = LEVEL ** (1 / len(np.unique(levels)))
        return coverage_by_group(held, levels, MondrianRule(evidence.rule), level=apart)
    return ()
