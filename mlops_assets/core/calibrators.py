"""Calibrators of binary classifiers: how scores become probabilities, and which way is chosen.

Fitting on rows and choosing among methods only. How far probabilities are from what they say is
measured in `calibration.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mlops_assets.core.proper_scores import log_losses
from mlops_assets.core.selection import cross_fit_losses, simplest_of_the_best
from mlops_assets.errors import WindowError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Calibration = Literal["none", "temperature", "sigmoid", "isotonic", "venn_abers"]
"""Ways from scores to probabilities, simplest first: none learned, one number, two, a staircase."""

METHODS: tuple[Calibration, ...] = get_args(Calibration)


def calibrated(
    method: Calibration, classifier: Any, inputs: "pd.DataFrame | Floats", labels: npt.NDArray[Any]
) -> Any:
    """Put a calibration on top of a fitted classifier, learned from rows of its own.

    Args:
        method: the way.
        classifier: a fitted scikit-learn classifier of two classes.
        inputs: inputs that it has not learned from, shape (n, k).
        labels: 0 or 1, shape (n,).
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    if method == "none":
        return classifier
    if method == "venn_abers":
        from mlops_assets.core.venn_abers import VennAbersClassifier

        return VennAbersClassifier(FrozenEstimator(classifier)).fit(inputs, labels)
    return CalibratedClassifierCV(FrozenEstimator(classifier), method=method).fit(inputs, labels)


def choose(
    methods: Sequence[Calibration],
    classifier: Any,
    inputs: "pd.DataFrame",
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.intp],
) -> tuple[Calibration, dict[str, float]]:
    """Choose a method by cross-fitting: each row is scored by what did not learn from its group.

    Of methods as good as the best within one standard error the simplest is taken.

    Args:
        methods: the methods that compete.
        classifier: the fitted classifier.
        inputs: rows of the calibrate window, shape (n, k).
        labels: 0 or 1, shape (n,).
        groups: the group of each row, shape (n,): days that stay together.

    Returns:
        The method, and the mean cross-fitted log loss of each; of a method without rivals on rows
        of one group no loss.

    Raises:
        WindowError: all rows are in one group, and methods compete.
    """
    if len(np.unique(groups)) < 2:
        if len(methods) == 1:
            return methods[0], {}
        raise WindowError(
            f"the calibrate window has {len(labels):,} rows on one day, and {len(methods)} "
            "calibrations compete on it",
            expected="two days or more, to learn on the ones and compare on the others",
            do="take a longer calibrate window, or name one calibration in the spec",
        )
    ordered = sorted(methods, key=METHODS.index)
    scores = _scores(classifier, inputs)
    stand_in = _stand_in(classifier)

    def losses(method: Calibration) -> Floats:
        def fit(learned: npt.NDArray[np.intp]) -> Any:
            fitted = calibrated(method, stand_in, scores[learned], labels[learned])

            def of(rows: npt.NDArray[np.intp]) -> Floats:
                probabilities = fitted.predict_proba(scores[rows])[:, 1]
                return log_losses(labels[rows].astype(bool), probabilities)

            return of

        return cross_fit_losses(fit, groups)

    found = {method: losses(method) for method in ordered}
    chosen = simplest_of_the_best(found)
    return chosen, {method: float(of_rows.mean()) for method, of_rows in found.items()}


def _scores(classifier: Any, inputs: "pd.DataFrame") -> Floats:
    """Probability of class 1 and, where the classifier has one, its decision value: (n, 1 or 2)."""
    columns = [classifier.predict_proba(inputs)[:, 1]]
    if hasattr(classifier, "decision_function"):
        columns.append(classifier.decision_function(inputs))
    return np.column_stack(columns)


def _stand_in(classifier: Any) -> Any:
    """A classifier whose inputs are the scores of another, so that these are computed once."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Probabilities(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.array([0, 1])

        def fit(self, inputs: Floats, labels: Any) -> Any:
            return self

        def predict_proba(self, inputs: Floats) -> Floats:
            return np.column_stack([1 - inputs[:, 0], inputs[:, 0]])

        def predict(self, inputs: Floats) -> Any:
            return (inputs[:, 0] >= 0.5).astype(int)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    class Decisions(Probabilities):
        def decision_function(self, inputs: Floats) -> Floats:
            values: Floats = inputs[:, 1]
            return values

    return Decisions() if hasattr(classifier, "decision_function") else Probabilities()
