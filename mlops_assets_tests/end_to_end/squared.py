"""A model that ranks as well as the real one, but gives the squares of its probabilities."""

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from mlops_assets.showcase.flights.specs import SPECS


class Squared(Pipeline):
    """A pipeline that squares its probabilities."""

    def predict_proba(self, X: Any, **params: Any) -> Any:  # noqa: N803
        positive = super().predict_proba(X, **params)[:, 1] ** 2
        return np.column_stack([1 - positive, positive])


def squared(seed: int) -> Squared:
    return Squared(SPECS[0].estimators["gradient_boosting"](seed).steps)


SQUARED = SPECS[0].model_copy(
    update={"name": "squared_delay", "estimators": {"squared": squared}, "calibrations": ("none",)}
)
TYPE = f"{Squared.__module__}.{Squared.__qualname__}"
