"""How far off each forecast of a number is likely to be: what normalized residuals are divided by.

Only the model of the spread belongs here. What is made of it is in `predictive` (distributions) and
`conformal_intervals` (intervals); both hold for any positive spread, and are the sharper the better
it tells difficult rows from easy ones. The class below is a scikit-learn regressor, so this module
imports scikit-learn: import it inside functions.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin

from mlops_assets.core.intervals import Floats
from mlops_assets.core.predictive import real_numbers
from mlops_assets.errors import GateError

if TYPE_CHECKING:
    import pandas as pd

FLOOR = 0.1
"""Smallest spread, as a share of the mean absolute residual of the rows learned from.

Trees that learn by squared error may predict 0 or less. A spread near 0 would also make an enormous
scaled residual of an ordinary one, and the few rows that have it would widen the intervals of all
others. So no interval is narrower than a tenth of what one width for all would about be.
"""


class SpreadRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Mean absolute residual by inputs, never below a floor.

    A small gradient boosting: the size of errors is noisy, and little of it can be learned.
    Categories are numbered in the order of their names, so that any number of them will do.

    Args:
        seed: seed of the fit.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, inputs: "pd.DataFrame", residuals: ArrayLike) -> "SpreadRegressor":
        """Learn from rows that the forecasts have not learned from.

        Args:
            inputs: shape (n, k).
            residuals: shape (n,), targets less forecasts.

        Raises:
            GateError: residuals that are NaN, infinite, or all 0.
        """
        sizes = np.abs(real_numbers("residuals", residuals, (len(inputs),)))
        if not sizes.any():
            raise GateError(
                f"forecasts of {sizes.size:,} rows without any error",
                expected="rows that are hard to forecast, more or less",
                do="look for an input that holds the label; else take intervals of one width",
            )
        # scikit-learn cannot bin a column without a value, which a short window may well have.
        self.columns_ = list(inputs.columns[inputs.notna().any()])
        self.floor_ = float(FLOOR * sizes.mean())
        self.estimator_ = _boosting(self.seed).fit(inputs[self.columns_], sizes)
        return self

    def predict(self, inputs: "pd.DataFrame") -> Floats:
        """Positive spreads in the unit of the target, shape (n,)."""
        return np.maximum(self.estimator_.predict(inputs[self.columns_]), self.floor_)


def _boosting(seed: int) -> Any:
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    text = make_column_selector(dtype_exclude=("number", "bool"))
    columns = ColumnTransformer([("categories", encode, text)], remainder="passthrough")
    boosting = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=50,
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", columns), ("boosting", boosting)])
