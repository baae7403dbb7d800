"""Fitting a candidate that forecasts a number: choose, train, learn the spread, conformalize.

The counterpart of `training.py` for regression: frames in, a fitted model out. The model of the
spread is in `spread.py`; what is kept of a fitted model beside its estimators is turned into plain
numbers in `regression_record.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.conformal_intervals import IntervalRule, fit_interval_rule
from mlops_assets.core.intervals import Floats
from mlops_assets.core.predictive import (
    PredictiveDistribution,
    fit_predictive_distribution,
    real_numbers,
)
from mlops_assets.core.selection import (
    Build,
    Cut,
    Selection,
    cross_fit_losses,
    day_groups,
    select,
)
from mlops_assets.core.training import Folds, Rows, cuts_of
from mlops_assets.errors import GateError, WindowError

if TYPE_CHECKING:
    import pandas as pd

Intervals = Literal["absolute", "normalized"]
"""Intervals of one width, or as wide as a row is difficult."""
SPREAD_GROUPS = 5
"""Groups of days among which the spread is cross-fitted."""


@dataclass(frozen=True)
class FittedRegression:
    """A regressor, the law of its errors, the rule of its intervals, how it was chosen.

    Args:
        regressor: fitted on the train rows; its `predict` is the mean of the target.
        spread: fitted on the calibrate rows; its `predict` is positive. None for intervals of one
            width.
        law: the predictive distribution, from the calibrate rows.
        rule: the rule of the intervals, from the conformalize rows.
        selection: which estimator won, with all folds.

    Raises:
        GateError: a spread without a rule that wants one, or the other way round.
    """

    regressor: Any
    spread: Any | None
    law: PredictiveDistribution
    rule: IntervalRule
    selection: Selection

    def __post_init__(self) -> None:
        if (self.spread is None) is (self.rule.kind == "normalized"):
            raise GateError(
                f"an interval rule of kind {self.rule.kind} "
                f"{'without' if self.spread is None else 'with'} a model of the spread",
                expected="a model of the spread for kind normalized, and for no other",
                do="keep and load all parts of a model together",
            )

    def points(self, inputs: "pd.DataFrame") -> Floats:
        """The forecast of each row, shape (n,)."""
        return np.asarray(self.regressor.predict(inputs), dtype=np.float64)

    def spreads(self, inputs: "pd.DataFrame") -> Floats | None:
        """How far off each forecast is thought to be, shape (n,); None for one width."""
        if self.spread is None:
            return None
        return np.asarray(self.spread.predict(inputs), dtype=np.float64)

    def quantiles(self, inputs: "pd.DataFrame", levels: ArrayLike) -> Floats:
        """Quantiles of each row's predictive distribution, shape (n, levels).

        Args:
            inputs: shape (n, k).
            levels: shape (levels,), in [0.001, 0.999].

        Raises:
            GateError: levels outside, or forecasts that are not finite.
        """
        return self.law.quantile(levels, self.points(inputs), self.spreads(inputs))

    def intervals(self, inputs: "pd.DataFrame") -> Floats:
        """Lower and upper ends at the stated coverage, shape (n, 2).

        Raises:
            GateError: forecasts that are not finite.
        """
        return self.rule.intervals(self.points(inputs), spread=self.spreads(inputs))

    def losses(self, inputs: "pd.DataFrame", labels: NDArray[Any]) -> Floats:
        """Squared error of each row, shape (n,)."""
        return _squared_errors(self.regressor, inputs, labels)


def fit_regression(
    estimators: Mapping[str, Build],
    *,
    intervals: Intervals,
    folds: Folds,
    confidence: float,
    seed: int,
    train: Rows,
    calibrate: Rows,
    conformalize: Rows,
) -> FittedRegression:
    """Let estimators compete, fit the winner and what lies on top of it.

    Estimators are compared by squared error, whose best forecast is the mean, on the last part of
    train; the winner is then fitted on all of it. Its skill is R2.

    Args:
        estimators: functions that get the seed and return an unfitted scikit-learn regressor.
        intervals: one width, or as wide as a row is difficult.
        folds: how train is cut.
        confidence: stated coverage of the intervals.
        seed: seed of every fit.
        train: rows that the estimator learns from.
        calibrate: rows that give the spread and the predictive distribution.
        conformalize: rows that give the conformal quantile.

    Raises:
        WindowError: labels that are not finite numbers or all the same, train that spans too few
            days for the folds, or calibrate that has a single day.
        GateError: forecasts that are not finite, or for a spread without any error, or too few
            rows.
    """
    train = _checked("train", train)
    calibrate = _checked("calibrate", calibrate)
    conformalize = _checked("conformalize", conformalize)
    cuts = cuts_of(train, folds)
    _refuse_constant(cuts, train.labels)
    selection = select(
        estimators,
        train.inputs,
        train.labels,
        cuts,
        seed=seed,
        losses=_squared_errors,
        constant=_constant_errors,
    )
    regressor = estimators[selection.winner](seed).fit(train.inputs, train.labels)
    points = real_numbers("forecasts", regressor.predict(calibrate.inputs), calibrate.labels.shape)
    spread, own = None, None
    if intervals == "normalized":
        spread, own = _spread(calibrate, points, seed)
    return FittedRegression(
        regressor,
        spread,
        fit_predictive_distribution(calibrate.labels, points, own),
        fit_interval_rule(
            intervals,
            conformalize.labels,
            regressor.predict(conformalize.inputs),
            confidence,
            spread=None if spread is None else spread.predict(conformalize.inputs),
        ),
        selection,
    )


def _spread(rows: Rows, points: Floats, seed: int) -> tuple[Any, Floats]:
    """The model of the spread, and for each row what one without the row's days says of it.

    A model says too much of the rows that it has learned from: their scaled residuals are smaller
    and more alike than those of new rows, and a distribution made of them would be too narrow.
    """
    from mlops_assets.core.spread import SpreadRegressor

    groups = day_groups(rows.times, SPREAD_GROUPS)
    if len(np.unique(groups)) < 2:
        raise WindowError(
            f"the calibrate window has {len(groups):,} rows of a single day",
            expected="at least two days, so that the spread of a row is learned from other days",
            do="take a longer calibrate window, or intervals of one width",
        )
    residuals = rows.labels - points

    def fit(learned: NDArray[np.intp]) -> Callable[[NDArray[np.intp]], Floats]:
        fitted = SpreadRegressor(seed).fit(rows.inputs.iloc[learned], residuals[learned])

        def of(others: NDArray[np.intp]) -> Floats:
            return fitted.predict(rows.inputs.iloc[others])

        return of

    # Whatever number a row has can be cross-fitted, not only its loss.
    return SpreadRegressor(seed).fit(rows.inputs, residuals), cross_fit_losses(fit, groups)


def _checked(window: str, rows: Rows) -> Rows:
    """The rows with labels as float64."""
    labels = np.asarray(rows.labels)
    known = labels.dtype.kind in "biuf" and bool(np.isfinite(labels).all())
    if not known or len(np.unique(labels)) < 2:
        what = f"all {labels[:1]}" if known else "not all of them finite numbers"
        raise WindowError(
            f"the {window} window has {len(labels):,} labels: {what}",
            expected="finite numbers that differ",
            do="leave rows without an outcome out of the entity rows, or take a longer window",
        )
    return replace(rows, labels=labels.astype(np.float64, copy=False))


def _refuse_constant(cuts: Sequence[Cut], labels: Floats) -> None:
    for cut in cuts:
        for name, rows in (("before", cut.train), ("from", cut.validation)):
            if len(np.unique(labels[rows])) < 2:
                raise WindowError(
                    f"the {len(rows):,} train rows {name} {cut.starts} have only one label",
                    expected="labels that differ in every fold that estimators compete on",
                    do="take a longer train window, fewer folds, or a larger share for each",
                )


def _squared_errors(fitted: Any, inputs: "pd.DataFrame", labels: NDArray[Any]) -> Floats:
    return np.asarray(
        (labels - real_numbers("forecasts", fitted.predict(inputs), labels.shape)) ** 2
    )


def _constant_errors(labels: NDArray[Any]) -> Floats:
    return np.asarray((labels - labels.mean()) ** 2)
