"""Calibrations are chosen on rows that they did not learn from, the simplest of the best first."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from mlops_assets.core import calibrators
from mlops_assets.core.calibrators import METHODS

RANDOM = np.random.default_rng(0)
X = pd.DataFrame(RANDOM.normal(size=(6_000, 3)), columns=["a", "b", "c"])
TRUTH = 1 / (1 + np.exp(-(X["a"] + 0.5 * X["b"]).to_numpy()))
Y = (RANDOM.random(6_000) < TRUTH).astype("int64")
TRAIN, REST = slice(0, 2_000), slice(2_000, 6_000)
EPS = np.finfo(float).eps
GROUPS = np.arange(4_000) % 5


def fitted(kind: Any = HistGradientBoostingClassifier, **change: Any) -> Any:
    return kind(random_state=0, **change).fit(X[TRAIN], Y[TRAIN])


@pytest.mark.parametrize("method", METHODS)
def test_the_choice_scores_what_the_calibration_would_give(method: Any) -> None:
    model = fitted()
    _, losses = calibrators.choose([method], model, X[REST], Y[REST], GROUPS)
    found = np.empty(4_000)
    for group in range(5):
        inside = group == GROUPS
        rows, labels = X[REST][~inside], Y[REST][~inside]
        given = calibrators.calibrated(method, model, rows, labels).predict_proba(X[REST][inside])
        found[inside] = np.where(Y[REST][inside] == 1, given[:, 1], given[:, 0])
    assert losses[method] == pytest.approx(-np.log(found.clip(EPS)).mean(), rel=1e-9)


def test_an_overconfident_model_gets_a_calibration() -> None:
    model = fitted(max_iter=300, learning_rate=0.3)
    chosen, losses = calibrators.choose(METHODS, model, X[REST], Y[REST], GROUPS)
    assert chosen in ("temperature", "sigmoid")
    assert losses["none"] > losses[chosen] + 0.1


class Truth:
    """Knows the truth: there is nothing to calibrate."""

    def predict_proba(self, inputs: pd.DataFrame) -> Any:
        one = 1 / (1 + np.exp(-(inputs["a"] + 0.5 * inputs["b"]).to_numpy()))
        return np.column_stack([1 - one, one])


def test_a_calibrated_model_is_left_alone() -> None:
    chosen, losses = calibrators.choose(METHODS, Truth(), X[REST], Y[REST], GROUPS)
    assert chosen == "none"
    assert set(losses) == set(METHODS)


def test_a_classifier_without_decision_values_is_calibrated_by_its_probabilities() -> None:
    model = fitted(RandomForestClassifier, n_estimators=20)
    chosen, losses = calibrators.choose(METHODS, model, X[REST], Y[REST], GROUPS)
    assert chosen != "none"
    assert losses["none"] > losses[chosen]
