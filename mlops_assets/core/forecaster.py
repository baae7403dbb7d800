"""The two models of a regression as one scikit-learn regressor, so that they are kept as one file.

Nothing is fitted here. The class below is a scikit-learn estimator, so this module imports
scikit-learn: import it inside functions.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from mlops_assets.core.intervals import Floats

if TYPE_CHECKING:
    import pandas as pd


class Forecaster(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted regressor and maybe a fitted model of how far off it is.

    Args:
        regressor: its `predict` is the mean of the target.
        spread: its `predict` is positive; None for intervals of one width.
    """

    def __init__(self, regressor: Any = None, spread: Any = None) -> None:
        self.regressor = regressor
        self.spread = spread

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, inputs: "pd.DataFrame") -> Floats:
        """The forecast of each row, shape (n,)."""
        return np.asarray(self.regressor.predict(inputs), dtype=np.float64)
