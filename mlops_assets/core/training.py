"""Fitting a candidate: train, calibrate, conformalize, each on rows of its own.

Takes frames, gives a fitted model; where rows come from and where the model goes is not known here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core.calibrators import Calibration, calibrated
from mlops_assets.core.conformal import ConformalRule, fit_conformal_rule

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """Inputs of shape (n, k) with their labels of shape (n,)."""

    inputs: "pd.DataFrame"
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FittedModel:
    """A classifier whose `predict_proba` is calibrated, and the rule of its conformal sets."""

    classifier: Any
    rule: ConformalRule

    def probabilities(self, inputs: "pd.DataFrame") -> npt.NDArray[np.float64]:
        """Probability of the positive class, shape (n,)."""
        scores: npt.NDArray[np.float64] = self.classifier.predict_proba(inputs)[:, 1]
        return scores


def fit(
    estimator: Any,
    *,
    calibration: Calibration,
    confidence: float,
    train: Rows,
    calibrate: Rows,
    conformalize: Rows,
) -> FittedModel:
    """Fit an unfitted estimator and everything on top of it.

    Args:
        estimator: a scikit-learn classifier with its seed set.
        calibration: how scores become probabilities; `none` takes them as they are.
        confidence: stated coverage of the conformal sets.
        train: rows that the estimator learns from.
        calibrate: rows that the calibration learns from.
        conformalize: rows that give the conformal quantile.
    """
    classifier = estimator.fit(train.inputs, train.labels)
    classifier = calibrated(calibration, classifier, calibrate.inputs, calibrate.labels)
    scores = classifier.predict_proba(conformalize.inputs)
    rule = fit_conformal_rule(scores, conformalize.labels, confidence)
    return FittedModel(classifier, rule)


def importance(model: FittedModel, rows: Rows, *, seed: int, most: int = 2_000) -> dict[str, float]:
    """How much the log loss rises when a column is shuffled (Breiman 2001), largest first.

    Args:
        model: the fitted model.
        rows: rows that it has not learned from; at most `most` of them are used.
        seed: seed of sample and shuffles.
        most: rows to use.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(rows.labels))[:most]
    inputs, labels = rows.inputs.iloc[chosen].reset_index(drop=True), rows.labels[chosen]
    base = _log_loss(model.probabilities(inputs), labels)
    found = {}
    for name in inputs.columns:
        shuffled = inputs.copy(deep=False)
        shuffled[name] = inputs[name].to_numpy()[random.permutation(len(labels))]
        found[name] = float(_log_loss(model.probabilities(shuffled), labels) - base)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _log_loss(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    of_truth = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(of_truth, 1e-15, 1)).mean())
