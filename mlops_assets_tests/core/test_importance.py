"""Importance of the columns of a fitted model, of which one tells the label."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.importance import importance
from mlops_assets.core.training import FittedModel
from mlops_assets_tests.core.test_training import HOLDOUT, fitted


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return fitted()


def test_importance_finds_the_column_that_tells_the_label(model: FittedModel) -> None:
    found = importance(model, HOLDOUT, seed=0)
    assert list(found)[0] == "told"  # noqa: RUF015
    assert found["told"] > 0.3
    assert abs(found["noise"]) < 0.03
    assert found["flat"] == 0


def test_importance_is_the_same_for_the_same_seed(model: FittedModel) -> None:
    assert importance(model, HOLDOUT, seed=0) == importance(model, HOLDOUT, seed=0)
    assert importance(model, HOLDOUT, seed=0) != importance(model, HOLDOUT, seed=1)


def test_importance_leaves_the_rows_as_they_are(model: FittedModel) -> None:
    kept = HOLDOUT.inputs.copy()
    importance(model, HOLDOUT, seed=0)
    pd.testing.assert_frame_equal(HOLDOUT.inputs, kept)


class Counting:
    """A classifier that notes how many rows it is asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict_proba(self, inputs: pd.DataFrame) -> np.ndarray:
        self.asked.append(len(inputs))
        return np.full((len(inputs), 2), 0.5)


def test_importance_takes_no_more_rows_than_it_may(model: FittedModel) -> None:
    counting = Counting()
    importance(replace(model, classifier=counting), HOLDOUT, seed=0, most=100)
    assert counting.asked == [100] * 4


def test_importance_of_a_model_that_is_sure_and_wrong_is_finite(model: FittedModel) -> None:
    class Sure:
        def predict_proba(self, inputs: pd.DataFrame) -> np.ndarray:
            ones = (inputs["told"] < 0).to_numpy().astype(float)
            return np.column_stack([1 - ones, ones])

    found = importance(replace(model, classifier=Sure()), HOLDOUT, seed=0)
    assert np.isfinite(list(found.values())).all()
