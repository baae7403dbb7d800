"""Fitting a candidate on rows of which one column tells the label."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.selection import Build
from mlops_assets.core.training import FittedModel, Rows, fit
from mlops_assets.core.venn_abers import fit_venn_abers
from mlops_assets.errors import GateError, WindowError
from mlops_assets.spec import FoldPolicy
from mlops_assets_tests.core.selection_world import rows_in_time


def rows(n: int, seed: int, *, steepness: float = 2.0) -> Rows:
    random = np.random.default_rng(seed)
    told = random.normal(size=n)
    inputs = pd.DataFrame({"noise": random.normal(size=n), "told": told, "flat": np.ones(n)})
    labels = random.random(n) < 1 / (1 + np.exp(-steepness * told))
    return rows_in_time(inputs, labels.astype("int64"))


def estimator(seed: int = 0) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=5, random_state=seed)


def fitted(calibration: str = "sigmoid", **change: Any) -> FittedModel:
    given = {
        "calibrations": (calibration,),
        "folds": FoldPolicy(),
        "seed": 0,
        "confidence": 0.9,
        "train": rows(600, 1),
        "calibrate": rows(400, 2),
        "conformalize": rows(400, 3),
    }
    return fit(**{"estimators": {"boosting": estimator}, **given, **change})


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
    rare = replace(rare, labels=np.where(np.arange(400) % 10 == 0, rare.labels, 0))
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


def constant(seed: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier()


def test_the_estimator_with_the_smallest_loss_on_later_rows_is_taken() -> None:
    estimators: dict[str, Build] = {"constant": constant, "boosting": estimator}
    model = fitted(estimators=estimators)
    assert model.choice.selection.winner == "boosting"
    last = {f.estimator: f.validation.loss for f in model.choice.selection.folds if f.number == 2}
    assert last["boosting"] < last["constant"]


def test_the_calibration_that_the_calibrate_rows_ask_for_is_taken() -> None:
    calibrate = rows(4_000, 2)
    twisted = replace(calibrate, labels=1 - calibrate.labels)
    choice = fitted(calibrations=("none", "sigmoid"), calibrate=twisted).choice
    assert choice.calibration == "sigmoid"
    assert choice.losses["sigmoid"] < choice.losses["none"]


def one_day() -> Rows:
    found = rows(400, 2)
    return replace(found, times=np.full(400, found.times[0]))


def test_a_calibration_without_rivals_needs_no_second_day() -> None:
    assert fitted(calibrations=("isotonic",), calibrate=one_day()).choice.losses == {}


def test_calibrations_do_not_compete_on_a_single_day() -> None:
    with pytest.raises(WindowError, match="400 rows on one day, and 2 calibrations compete"):
        fitted(calibrations=("none", "sigmoid"), calibrate=one_day())


def test_a_fold_with_one_class_is_refused() -> None:
    train = rows(600, 1)
    late = np.where(np.arange(600) < 500, 0, train.labels)
    with pytest.raises(WindowError, match="have only one class"):
        fitted(train=replace(train, labels=late))


def test_a_train_window_of_one_day_is_refused() -> None:
    train = rows(600, 1)
    day = train.times.astype("datetime64[D]")[0]
    with pytest.raises(WindowError, match="cannot be cut into 3 folds"):
        fitted(train=replace(train, times=np.full(600, day).astype("datetime64[us]")))
