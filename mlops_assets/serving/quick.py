"""A fitted model that predicts from plain values, without frames, where that is the same model.

`quick_model` gives the same kind of fitted model whose estimators take rows of plain values, so
that all that lies on top (rules, intervals, columns of predictions) is computed by the same code.
It is compared with the model itself on rows at the edges of its trees: unless every bit is the
same, there is none, and frames are used.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.core import tasks
from mlops_assets.core.tasks import Fitted
from mlops_assets.core.training import FittedModel
from mlops_assets.serving.quick_trees import Floats, QuickTrees, Rows, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

COMPARED_ROWS = 256


def quick_model(
    fitted: Fitted, columns: Sequence[str], frame: "Callable[[Rows], pd.DataFrame]"
) -> Fitted | None:
    """The model on rows of plain values; None when it cannot be had, or is not quite the same.

    Args:
        fitted: the model.
        columns: its inputs in the order in which rows have them.
        frame: makes the frame of rows.
    """
    try:
        quick, knots = _quick(fitted, columns)
        rows = edge_rows(knots, COMPARED_ROWS)
        slow = tasks.predictions(fitted, frame(rows))
        same = tasks.predictions(quick, rows)  # type: ignore[arg-type]
    except (Unsupported, AttributeError, KeyError, TypeError, ValueError, IndexError):
        # Built otherwise than the code of `quick_trees` knows, maybe by another scikit-learn.
        return None
    equal = all(np.array_equal(slow[name], same[name]) for name in slow)
    return quick if equal else None


def edge_rows(knots: Sequence[Sequence[Any]], count: int) -> list[list[Any]]:
    """Rows of values at which answers change, drawn anew but always the same."""
    draw = random.Random(0)  # noqa: S311
    return [[draw.choice(values) for values in knots] for _ in range(count)]


def _quick(fitted: Fitted, columns: Sequence[str]) -> tuple[Fitted, list[list[Any]]]:
    if isinstance(fitted, FittedModel):
        classifier, trees = _classifier(fitted.classifier, columns)
        return replace(fitted, classifier=classifier), trees.knots()
    regressor = _Regressor(QuickTrees(fitted.regressor, columns))
    knots = regressor.trees.knots()
    if fitted.spread is None:
        return replace(fitted, regressor=regressor), knots
    own = list(fitted.spread.columns_)
    spread = _Spread(QuickTrees(fitted.spread.estimator_, own), columns, own, fitted.spread.floor_)
    for name, values in zip(own, spread.trees.knots(), strict=False):
        knots[columns.index(name)] += values
    return replace(fitted, regressor=regressor, spread=spread), knots


def _classifier(classifier: Any, columns: Sequence[str]) -> tuple[Any, QuickTrees]:
    from sklearn.calibration import CalibratedClassifierCV

    from mlops_assets.core.venn_abers import VennAbersClassifier

    if isinstance(classifier, VennAbersClassifier):
        inner, trees = _classifier(_thawed(classifier.estimator), columns)
        outer = copy.copy(classifier)
        outer.estimator = inner
        return outer, trees
    if isinstance(classifier, CalibratedClassifierCV):
        [calibrated] = classifier.calibrated_classifiers_
        trees = QuickTrees(_thawed(calibrated.estimator), columns)
        return _Calibrated(trees, calibrated.calibrators[0], calibrated.method), trees
    trees = QuickTrees(classifier, columns)
    return _Classifier(trees), trees


def _thawed(estimator: Any) -> Any:
    from sklearn.frozen import FrozenEstimator

    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


class _Classifier:
    def __init__(self, trees: QuickTrees) -> None:
        self.trees = trees

    def predict_proba(self, rows: Rows) -> Floats:
        found: Floats = self.trees.boosting._loss.predict_proba(self.trees.raw(rows)[:, None])
        return found


class _Calibrated:
    def __init__(self, trees: QuickTrees, calibrator: Any, method: str) -> None:
        self._trees, self._calibrator, self._method = trees, calibrator, method

    def predict_proba(self, rows: Rows) -> Floats:
        raw = self._trees.raw(rows)
        if self._method == "temperature":
            found: Floats = self._calibrator.predict(raw[:, None])
            return found
        one = self._calibrator.predict(raw)
        return np.column_stack([1.0 - one, one])


class _Regressor:
    def __init__(self, trees: QuickTrees) -> None:
        self.trees = trees

    def predict(self, rows: Rows) -> Floats:
        found: Floats = self.trees.boosting._loss.link.inverse(self.trees.raw(rows))
        return found


class _Spread:
    def __init__(
        self, trees: QuickTrees, columns: Sequence[str], own: Sequence[str], floor: float
    ) -> None:
        self.trees, self._floor = trees, floor
        places = [columns.index(name) for name in own]
        # Rows are taken as they are unless the spread has fewer columns.
        self._places = None if places == list(range(len(columns))) else places

    def predict(self, rows: Rows) -> Floats:
        if self._places is not None:
            rows = [[row[place] for place in self._places] for row in rows]
        return np.maximum(self.trees.boosting._loss.link.inverse(self.trees.raw(rows)), self._floor)
