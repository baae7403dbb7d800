"""Inductive Venn-Abers calibration: probabilities with the width of what is not known.

For a new row, isotonic regression is fitted twice on the calibrate rows and the row itself, once
with label 0 and once with label 1 (Vovk, Petej and Fedorova 2015). The two values at the row, p0
and p1, enclose the calibrated probability; one of them is valid without any assumption but that
rows are exchangeable. All values there can be are computed once, so that a new row costs a search.

Only binary Venn-Abers belongs here. The class below is a scikit-learn classifier, so this module
imports scikit-learn: import it inside functions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from mlops_assets.core.calibration import validate_labels
from mlops_assets.core.intervals import Floats
from mlops_assets.core.predictive import real_numbers


@dataclass(frozen=True, slots=True, eq=False)
class VennAbers:
    """Two step functions of the score: p0 steps after its knots, p1 at them.

    `knots0` and `knots1` are ascending scores, shapes (k,) and (j,); `values0` and `values1` are
    the probabilities before, between and beyond them, shapes (k + 1,) and (j + 1,).

    >>> steps = fit_venn_abers([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1])
    >>> steps.intervals([0.0, 0.5, 1.0]).round(3).tolist()
    [[0.0, 0.333], [0.0, 1.0], [0.667, 1.0]]
    >>> steps.probabilities([0.0, 0.5, 1.0]).round(3).tolist()
    [0.25, 0.5, 0.75]
    """

    knots0: Floats
    values0: Floats
    knots1: Floats
    values1: Floats

    def intervals(self, scores: ArrayLike) -> Floats:
        """p0 and p1 of scores of shape (n,): shape (n, 2).

        Raises:
            GateError: scores that are NaN or infinite.
        """
        at = real_numbers("scores", scores)
        low = self.values0[np.searchsorted(self.knots0, at, "right")]
        high = self.values1[np.searchsorted(self.knots1, at, "left")]
        return np.column_stack([low, high])

    def probabilities(self, scores: ArrayLike) -> Floats:
        """p1 / (1 - p0 + p1) of scores of shape (n,): the minimax merger for log loss.

        Raises:
            GateError: scores that are NaN or infinite.
        """
        low, high = self.intervals(scores).T
        return np.asarray(high / (1 - low + high))


def fit_venn_abers(scores: ArrayLike, labels: ArrayLike) -> VennAbers:
    """The steps of calibrate rows; O(n log n) for the sort, O(n) beyond it.

    Args:
        scores: shape (n,), larger for rows likelier of class 1; any scale.
        labels: shape (n,), 0/1 or bool.

    Raises:
        GateError: labels of one class, scores that are NaN or infinite, lengths that differ.
    """
    flags = validate_labels(labels)
    knots, place = np.unique(real_numbers("scores", scores, flags.shape), return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    hits = np.bincount(place, weights=flags).astype(np.float64)
    # Label 0 below is label 1 above, with classes and order turned around.
    lower = 1 - _values_with_label_1(rows[::-1], (rows - hits)[::-1])[::-1]
    return VennAbers(*_steps(knots, lower), *_steps(knots, _values_with_label_1(rows, hits)))


class VennAbersClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted binary classifier with Venn-Abers calibration on top; it is not fitted again.

    Holds the steps as arrays of its own, so that skops stores it as one type.

    Args:
        estimator: fitted classifier with `predict_proba` and two classes.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, inputs: Any, labels: ArrayLike) -> "VennAbersClassifier":
        """Calibrate on rows that the estimator has not learned from.

        Args:
            inputs: shape (n, k), as the estimator takes them.
            labels: shape (n,), of the estimator's two classes.

        Raises:
            GateError: labels that are not both of the estimator's classes.
        """
        self.classes_ = np.asarray(self.estimator.classes_)
        steps = fit_venn_abers(self._scores(inputs), self._flags(labels))
        self.knots0_, self.values0_ = steps.knots0, steps.values0
        self.knots1_, self.values1_ = steps.knots1, steps.values1
        return self

    def intervals(self, inputs: Any) -> Floats:
        """p0 and p1, the ends of the probability of class 1: shape (n, 2)."""
        return self._steps().intervals(self._scores(inputs))

    def predict_proba(self, inputs: Any) -> Floats:
        """Calibrated probabilities, shape (n, 2)."""
        one = self._steps().probabilities(self._scores(inputs))
        return np.column_stack([1 - one, one])

    def predict(self, inputs: Any) -> NDArray[Any]:
        """The likelier class of each row, shape (n,)."""
        return self.classes_[(self.predict_proba(inputs)[:, 1] >= 0.5).astype(np.intp)]

    def _steps(self) -> VennAbers:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return VennAbers(self.knots0_, self.values0_, self.knots1_, self.values1_)

    def _scores(self, inputs: Any) -> Floats:
        return np.asarray(self.estimator.predict_proba(inputs)[:, 1], dtype=np.float64)

    def _flags(self, labels: ArrayLike) -> ArrayLike:
        given = np.asarray(labels)
        if list(self.classes_) == [0, 1]:
            return given
        # Labels that are neither class become 2, which is refused.
        return np.select([given == c for c in self.classes_[:2]], [0, 1], 2)


def _values_with_label_1(rows: Floats, hits: Floats) -> Floats:
    """Isotonic value at a further row of label 1, before each group and after all: (groups + 1,).

    Isotonic regression is the slope of the lower convex hull of the cumulated labels over the
    cumulated rows. Algorithms 1 and 2 of the paper: the point before the new row moves along the
    diagram, and the hull to its right, kept as a stack, only loses corners.

    Args:
        rows: shape (groups,), rows of each distinct score, ascending.
        hits: shape (groups,), how many of them are of class 1.
    """
    # Point i + 1 ends group i; the step from point 0 to point 1 is the new row.
    x = np.r_[-1.0, 0.0, np.cumsum(rows)].tolist()
    y = np.r_[-1.0, 0.0, np.cumsum(hits)].tolist()
    hull: list[tuple[float, float]] = []
    for point in zip(reversed(x), reversed(y), strict=True):
        _push(hull, point)
    values = []
    for i in range(len(rows) + 1):
        (x0, y0), (x1, y1) = hull[-1], hull[-2]
        values.append((y1 - y0) / (x1 - x0))
        if i < len(rows):  # the new row moves behind group i
            point = (x[i + 2] - 1, y[i + 2] - 1)
            if (point[1] - y0) * (x1 - x0) < (y1 - y0) * (point[0] - x0):
                hull.pop()
                _push(hull, point)
    return np.array(values)


def _push(hull: list[tuple[float, float]], point: tuple[float, float]) -> None:
    """Put a point left of all others on the stack, which keeps the corners of the lower hull."""
    while len(hull) > 1:
        (x0, y0), (x1, y1) = hull[-1], hull[-2]
        if (y0 - point[1]) * (x1 - x0) < (y1 - y0) * (x0 - point[0]):
            break
        hull.pop()
    hull.append(point)


def _steps(knots: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Knots at which the value changes, and the values around them."""
    changes = np.flatnonzero(np.diff(values))
    return knots[changes], values[np.r_[0, changes + 1]]
