"""Fitting a candidate on rows of which one column tells the label."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.training import FittedModel, Rows, fit, importance
from mlops_assets.core.venn_abers import fit_venn_abers
from mlops_assets.errors import GateError


def rows(n: int, seed: int, *, steepness: float = 2.0) -> Rows:
    random = np.random.default_rng(seed)
    told = random.normal(size=n)
    inputs = pd.DataFrame({"noise": random.normal(size=n), "told": told, "flat": np.ones(n)})
    labels = random.random(n) < 1 / (1 + np.exp(-steepness * told))
    return Rows(inputs, labels.astype("int64"))


def estimator(seed: int = 0) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=5, random_state=seed)


def fitted(**change: Any) -> FittedModel:
    given = {
        "calibration": "sigmoid",
        "confidence": 0.9,
        "train": rows(600, 1),
        "calibrate": rows(400, 2),
        "conformalize": rows(400, 3),
    }
    return fit(estimator(), **{**given, **change})


HOLDOUT = rows(2_000, 4)


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return fitted()


def test_the_same_rows_give_the_same_model(model: FittedModel) -> None:
    again = fitted()
    assert again.rule == model.rule
    scores = [m.probabilities(HOLDOUT.inputs) for m in (model, again)]
    np.testing.assert_array_equal(*scores)


def test_the_estimator_learns_from_the_train_rows_only(model: FittedModel) -> None:
    alone = estimator().fit(rows(600, 1).inputs, rows(600, 1).labels)
    inner = model.classifier.estimator.estimator
    expected = alone.predict_proba(HOLDOUT.inputs)
    np.testing.assert_array_equal(inner.predict_proba(HOLDOUT.inputs), expected)


def test_venn_abers_calibration_gives_pairs_that_enclose_the_probabilities() -> None:
    calibrated = fitted(calibration="venn_abers")
    low, high = calibrated.classifier.intervals(HOLDOUT.inputs).T
    scores = calibrated.probabilities(HOLDOUT.inputs)
    assert ((low < high) & (low <= scores) & (scores <= high)).all()


def test_venn_abers_learns_from_the_calibrate_rows_and_the_estimator_from_train() -> None:
    alone = estimator().fit(rows(600, 1).inputs, rows(600, 1).labels)
    held = rows(400, 2)
    steps = fit_venn_abers(alone.predict_proba(held.inputs)[:, 1], held.labels)
    expected = steps.probabilities(alone.predict_proba(HOLDOUT.inputs)[:, 1])
    given = fitted(calibration="venn_abers").probabilities(HOLDOUT.inputs)
    np.testing.assert_array_equal(given, expected)


def test_probabilities_are_those_of_the_positive_class(model: FittedModel) -> None:
    likely = HOLDOUT.inputs["told"] > 1
    assert model.probabilities(HOLDOUT.inputs[likely]).mean() > 0.8


def test_calibration_follows_the_calibrate_rows() -> None:
    rare = rows(400, 2)
    rare = Rows(rare.inputs, np.where(np.arange(400) % 10 == 0, rare.labels, 0))
    means = [m.probabilities(HOLDOUT.inputs).mean() for m in (fitted(), fitted(calibrate=rare))]
    assert means[0] == pytest.approx(0.5, abs=0.05)
    assert means[1] == pytest.approx(rare.labels.mean(), abs=0.05)


def test_without_calibration_scores_stay_as_they_are() -> None:
    plain = fitted(calibration="none").classifier
    assert type(plain) is type(estimator())


@pytest.mark.parametrize("calibration", ["none", "sigmoid", "isotonic"])
def test_sets_cover_the_stated_share_of_new_rows(calibration: str) -> None:
    model = fitted(calibration=calibration, conformalize=rows(2_000, 3))
    sets = model.rule.prediction_sets(model.probabilities(HOLDOUT.inputs))
    covered = sets[np.arange(len(sets)), HOLDOUT.labels].mean()
    assert covered == pytest.approx(0.9, abs=0.025)


def test_the_rule_knows_confidence_and_rows(model: FittedModel) -> None:
    assert (model.rule.confidence, model.rule.n_conformalize) == (0.9, 400)


def test_too_few_rows_to_conformalize_are_refused() -> None:
    with pytest.raises(GateError, match="n_conformalize=8"):
        fitted(conformalize=rows(8, 5))


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
    importance(FittedModel(counting, model.rule), HOLDOUT, seed=0, most=100)
    assert counting.asked == [100] * 4


def test_importance_of_a_model_that_is_sure_and_wrong_is_finite() -> None:
    class Sure:
        def predict_proba(self, inputs: pd.DataFrame) -> np.ndarray:
            ones = (inputs["told"] < 0).to_numpy().astype(float)
            return np.column_stack([1 - ones, ones])

    found = importance(FittedModel(Sure(), fitted().rule), HOLDOUT, seed=0)
    assert np.isfinite(list(found.values())).all()
