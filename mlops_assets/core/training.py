"""Fitting a candidate: choose, train, calibrate, conformalize, each on rows of its own.

Takes frames, gives a fitted model; where rows come from and where the model goes is not known here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mlops_assets.core import calibrators
from mlops_assets.core.calibrators import Calibration
from mlops_assets.core.conformal import ConformalRule, fit_conformal_rule
from mlops_assets.core.proper_scores import log_losses
from mlops_assets.core.selection import Build, Cut, Selection, day_groups, select, time_folds
from mlops_assets.errors import WindowError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
CALIBRATION_GROUPS = 5
"""Groups of days among which calibrations are cross-fitted."""


@dataclass(frozen=True)
class Rows:
    """Inputs of shape (n, k); labels, times and times at which labels were known of shape (n,).

    Labels are 0 or 1, or float64 targets; times are UTC without zone.
    """

    inputs: "pd.DataFrame"
    labels: npt.NDArray[Any]
    times: npt.NDArray[np.datetime64]
    known_at: npt.NDArray[np.datetime64]


class Folds(Protocol):
    """How train is cut to let estimators compete; declared in `spec.FoldPolicy`."""

    @property
    def folds(self) -> int: ...  # noqa: D102
    @property
    def share(self) -> float: ...  # noqa: D102
    @property
    def most_rows(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True)
class Choice:
    """How a candidate was chosen, without the holdout.

    Args:
        selection: which estimator won, with all folds.
        calibration: the method that won.
        losses: mean cross-fitted log loss by method.
    """

    selection: Selection
    calibration: Calibration
    losses: Mapping[str, float]


@dataclass(frozen=True)
class FittedModel:
    """A classifier whose `predict_proba` is calibrated, the rule of its sets, how it was chosen."""

    classifier: Any
    rule: ConformalRule
    choice: Choice

    @property
    def selection(self) -> Selection:
        """Which estimator won, with all folds."""
        return self.choice.selection

    def probabilities(self, inputs: "pd.DataFrame") -> Floats:
        """Probability of the positive class, shape (n,)."""
        scores: Floats = self.classifier.predict_proba(inputs)[:, 1]
        return scores

    def losses(self, inputs: "pd.DataFrame", labels: npt.NDArray[Any]) -> Floats:
        """Log loss of each row, shape (n,)."""
        return _log_losses(self.classifier, inputs, labels)


def fit(
    estimators: Mapping[str, Build],
    *,
    calibrations: Sequence[Calibration],
    folds: Folds,
    confidence: float,
    seed: int,
    train: Rows,
    calibrate: Rows,
    conformalize: Rows,
) -> FittedModel:
    """Let estimators and calibrations compete, fit the winners and what lies on top of them.

    The estimator is chosen on the last part of train and then fitted on all of it.

    Args:
        estimators: functions that get the seed and return an unfitted scikit-learn classifier.
        calibrations: ways from scores to probabilities that compete; one is taken as it is.
        folds: how train is cut.
        confidence: stated coverage of the conformal sets.
        seed: seed of every fit.
        train: rows that the estimator learns from.
        calibrate: rows that the calibration is chosen on and learns from.
        conformalize: rows that give the conformal quantile.

    Raises:
        WindowError: train spans too few days for the folds, or a fold has only one class.
    """
    cuts = cuts_of(train, folds)
    _refuse_one_class(cuts, train.labels)
    selection = select(
        estimators,
        train.inputs,
        train.labels,
        cuts,
        seed=seed,
        losses=_log_losses,
        constant=_constant_losses,
    )
    classifier = estimators[selection.winner](seed).fit(train.inputs, train.labels)
    method, losses = calibrators.choose(
        calibrations,
        classifier,
        calibrate.inputs,
        calibrate.labels,
        day_groups(calibrate.times, CALIBRATION_GROUPS),
    )
    classifier = calibrators.calibrated(method, classifier, calibrate.inputs, calibrate.labels)
    scores = classifier.predict_proba(conformalize.inputs)
    rule = fit_conformal_rule(scores, conformalize.labels, confidence)
    return FittedModel(classifier, rule, Choice(selection, method, losses))


def cuts_of(train: Rows, folds: Folds) -> tuple[Cut, ...]:
    """The folds of the train rows; WindowError when these span too few days."""
    return time_folds(
        train.times,
        train.known_at,
        folds=folds.folds,
        share=folds.share,
        most_rows=folds.most_rows,
    )


def _refuse_one_class(cuts: Sequence[Cut], labels: npt.NDArray[Any]) -> None:
    for cut in cuts:
        for name, rows in (("before", cut.train), ("from", cut.validation)):
            if len(np.unique(labels[rows])) < 2:
                raise WindowError(
                    f"the {len(rows):,} train rows {name} {cut.starts} have only one class",
                    expected="both classes in every fold that estimators compete on",
                    do="take a longer train window, fewer folds, or a larger share for each",
                )


def _log_losses(fitted: Any, inputs: "pd.DataFrame", labels: npt.NDArray[Any]) -> Floats:
    return log_losses(labels.astype(bool), fitted.predict_proba(inputs)[:, 1])


def _constant_losses(labels: npt.NDArray[Any]) -> Floats:
    return log_losses(labels.astype(bool), np.full(len(labels), labels.mean()))
