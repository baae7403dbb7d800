"""A made-up world whose numbers are hard to forecast on one side, for the tests of regressions.

The target is 10 times what an input tells, and noise: of standard deviation 1 where the side is
calm, 4 where it is wild.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.core.conformal_intervals import fit_interval_rule
from mlops_assets.core.predictive import fit_predictive_distribution
from mlops_assets.core.regression_evidence import RegressionChampion, RegressionEvidence
from mlops_assets.core.regression_training import FittedRegression, fit_regression
from mlops_assets.core.selection import Fold, Score, Selection
from mlops_assets.core.training import Rows
from mlops_assets.spec import FoldPolicy

N = 20_000
SCORE = Score(0.5, 0.8, 0.005, 5_000)
SELECTION = Selection("linear", tuple(Fold("linear", k, f"2026-0{k}-01", SCORE, SCORE)
                                      for k in (1, 2, 3)))  # fmt: skip


def rows(n: int, seed: int, *, days: int = 60) -> Rows:
    random = np.random.default_rng(seed)
    wild = random.random(n) < 0.5
    inputs = pd.DataFrame(
        {
            "told": random.uniform(-1, 1, n),
            "noise": random.normal(size=n),
            "side": np.where(wild, "wild", "calm"),
        }
    )
    labels = 10 * inputs["told"].to_numpy() + np.where(wild, 4, 1) * random.normal(size=n)
    times = np.datetime64("2026-01-01", "us") + (np.arange(n) * days * 86_400 // n).astype(
        "timedelta64[s]"
    )
    return Rows(inputs, labels, times, times + np.timedelta64(1, "h"))


def linear(seed: int) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    columns = ColumnTransformer([("numbers", "passthrough", ["told", "noise"])])
    return Pipeline([("columns", columns), ("ridge", Ridge(random_state=seed))])


def mean(seed: int) -> Any:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


WINDOWS = {"train": rows(2_000, 1), "calibrate": rows(2_000, 2), "conformalize": rows(2_000, 3)}


def fitted(**change: Any) -> FittedRegression:
    given: dict[str, Any] = {
        "intervals": "normalized",
        "folds": FoldPolicy(),
        "confidence": 0.9,
        "seed": 0,
        **WINDOWS,
    }
    estimators = change.pop("estimators", {"mean": mean, "linear": linear})
    return fit_regression(estimators, **{**given, **change})


def evidence(
    *, n: int = N, m: int = N, bias: float = 0.0, seed: int = 7, **change: Any
) -> RegressionEvidence:
    """A right model of the world on n holdout rows, `bias` added to its forecasts of these."""
    random = np.random.default_rng(seed)
    told = 10 * random.uniform(-1, 1, n + 2 * m)
    spreads = np.where(random.random(n + 2 * m) < 0.5, 4.0, 1.0)
    labels = told + spreads * random.normal(size=n + 2 * m)
    held, known, ranked = slice(0, n), slice(n, n + m), slice(n + m, None)
    law = fit_predictive_distribution(labels[known], told[known], spreads[known])
    rule = fit_interval_rule(
        "normalized", labels[ranked], told[ranked], 0.9, spread=spreads[ranked]
    )
    found = RegressionEvidence(
        labels[held], told[held] + bias, spreads[held], rule, law, None, SELECTION
    )
    return replace(found, **change)


def champion(of: RegressionEvidence, *, noise: float = 0.0, overlap: int = 0) -> RegressionChampion:
    """Who forecasts as the evidence does, and noise."""
    off = noise * np.random.default_rng(8).normal(size=len(of.points))
    return RegressionChampion("3", of.points + off, of.spreads, of.law, overlap)


def sides(of: RegressionEvidence) -> dict[str, Any]:
    return {"side": np.where(of.spreads > 2, "wild", "calm")}
