"""Fitting a regression on rows of which one column tells the target and another the difficulty."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.metrics import r2_score

from mlops_assets.core.importance import importance
from mlops_assets.core.regression_training import SPREAD_GROUPS, FittedRegression
from mlops_assets.core.selection import day_groups
from mlops_assets.core.spread import SpreadRegressor
from mlops_assets.core.training import Rows
from mlops_assets.errors import GateError, WindowError
from mlops_assets_tests.core.regression_world import WINDOWS, fitted, linear, rows

HOLDOUT = rows(2_000, 4)
WILD = (HOLDOUT.inputs["side"] == "wild").to_numpy()
TRAIN, CALIBRATE = WINDOWS["train"], WINDOWS["calibrate"]


@pytest.fixture(scope="module")
def model() -> FittedRegression:
    return fitted()


@pytest.fixture(scope="module")
def plain() -> FittedRegression:
    return fitted(intervals="absolute")


def relabelled(of: Rows, labels: Any) -> Rows:
    return replace(of, labels=np.asarray(labels))


def test_the_same_rows_give_the_same_model(model: FittedRegression) -> None:
    again = fitted()
    assert (again.rule, again.selection) == (model.rule, model.selection)
    np.testing.assert_array_equal(again.law.residuals, model.law.residuals)
    np.testing.assert_array_equal(again.intervals(HOLDOUT.inputs), model.intervals(HOLDOUT.inputs))


def test_the_estimator_learns_from_all_train_rows_and_no_others(model: FittedRegression) -> None:
    alone = linear(0).fit(TRAIN.inputs, TRAIN.labels)
    np.testing.assert_array_equal(model.points(HOLDOUT.inputs), alone.predict(HOLDOUT.inputs))


def test_the_estimator_that_knows_more_wins(model: FittedRegression) -> None:
    assert model.selection.winner == "linear"
    assert {fold.estimator for fold in model.selection.folds} == {"mean", "linear"}


def test_the_skill_of_a_fold_is_r2(model: FittedRegression) -> None:
    last = model.selection.of_winner[-1]
    after = TRAIN.times >= np.datetime64(last.starts)
    before = TRAIN.known_at < np.datetime64(last.starts)
    alone = linear(0).fit(TRAIN.inputs[before], TRAIN.labels[before])
    wanted = r2_score(TRAIN.labels[after], alone.predict(TRAIN.inputs[after]))
    assert last.validation.skill == pytest.approx(wanted)


def test_estimators_are_compared_by_squared_error_so_that_the_mean_wins() -> None:
    skewed = relabelled(TRAIN, np.random.default_rng(0).exponential(size=len(TRAIN.labels)) ** 2)
    rivals = {name: lambda seed, s=name: DummyRegressor(strategy=s) for name in ("median", "mean")}
    assert fitted(estimators=rivals, train=skewed).selection.winner == "mean"


def test_law_and_rule_know_the_rows_they_come_from() -> None:
    found = fitted(calibrate=rows(700, 2), conformalize=rows(600, 3), confidence=0.8)
    assert found.law.n_calibrate == 700
    assert (found.rule.n_conformalize, found.rule.confidence) == (600, 0.8)


def test_the_law_rests_on_spreads_that_have_not_seen_the_day(model: FittedRegression) -> None:
    groups = day_groups(CALIBRATE.times, SPREAD_GROUPS)
    residuals = CALIBRATE.labels - model.points(CALIBRATE.inputs)
    scaled = np.empty_like(residuals)
    for group in range(SPREAD_GROUPS):
        inside = groups == group
        apart = SpreadRegressor().fit(CALIBRATE.inputs[~inside], residuals[~inside])
        scaled[inside] = residuals[inside] / apart.predict(CALIBRATE.inputs[inside])
    wanted = np.quantile(scaled, np.arange(1, 1000) / 1000, method="weibull")
    np.testing.assert_allclose(model.law.residuals, wanted)


def test_the_spread_learns_from_all_calibrate_rows(model: FittedRegression) -> None:
    residuals = CALIBRATE.labels - model.points(CALIBRATE.inputs)
    alone = SpreadRegressor().fit(CALIBRATE.inputs, residuals)
    np.testing.assert_array_equal(model.spreads(HOLDOUT.inputs), alone.predict(HOLDOUT.inputs))


def test_normalized_intervals_are_wide_where_rows_are_difficult(model: FittedRegression) -> None:
    ends = model.intervals(HOLDOUT.inputs)
    width = ends[:, 1] - ends[:, 0]
    assert ends.shape == (len(WILD), 2)
    assert width[WILD].mean() / width[~WILD].mean() == pytest.approx(4, rel=0.2)
    np.testing.assert_allclose(ends.mean(axis=1), model.points(HOLDOUT.inputs))


def test_absolute_intervals_have_one_width_and_need_no_spread(plain: FittedRegression) -> None:
    ends = plain.intervals(HOLDOUT.inputs)
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * plain.rule.quantile)
    assert plain.spreads(HOLDOUT.inputs) is None


def test_quantiles_are_in_order_and_move_with_points_and_spreads(model: FittedRegression) -> None:
    found = model.quantiles(HOLDOUT.inputs, [0.1, 0.5, 0.9])
    assert found.shape == (len(WILD), 3)
    assert (np.diff(found, axis=1) > 0).all()
    scaled = (found - model.points(HOLDOUT.inputs)[:, None]) / model.spreads(HOLDOUT.inputs)[
        :, None
    ]
    np.testing.assert_allclose(scaled, np.tile(scaled[0], (len(WILD), 1)))


def test_losses_are_squared_errors_so_that_importance_can_be_told(model: FittedRegression) -> None:
    errors = HOLDOUT.labels - model.points(HOLDOUT.inputs)
    np.testing.assert_allclose(model.losses(HOLDOUT.inputs, HOLDOUT.labels), errors**2)
    found = importance(model, HOLDOUT, seed=0)
    assert found["told"] > 10 * abs(found["noise"])
    assert found["side"] == 0


def test_whole_numbers_are_targets_too() -> None:
    found = fitted(
        **{name: relabelled(one, one.labels.astype(int)) for name, one in WINDOWS.items()}
    )
    assert found.points(HOLDOUT.inputs).dtype == np.float64


@pytest.mark.parametrize("window", WINDOWS)
def test_a_constant_target_is_refused(window: str) -> None:
    constant = relabelled(WINDOWS[window], np.full(len(WINDOWS[window].labels), 3.0))
    with pytest.raises(WindowError, match=f"the {window} window has 2,000 labels: all .3"):
        fitted(**{window: constant})


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_targets_that_are_not_finite_are_refused(window: str, wrong: float) -> None:
    labels = np.r_[wrong, WINDOWS[window].labels[1:]]
    with pytest.raises(WindowError, match=f"the {window} window has .* not all of them finite"):
        fitted(**{window: relabelled(WINDOWS[window], labels)})


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("n", [0, 1])
def test_a_window_of_one_row_or_none_is_refused(window: str, n: int) -> None:
    with pytest.raises(WindowError, match=f"the {window} window has {n} labels"):
        fitted(**{window: rows(n, 5)} if n else {window: empty()})


def empty() -> Rows:
    one = rows(1, 5)
    return Rows(one.inputs[:0], one.labels[:0], one.times[:0], one.known_at[:0])


def test_a_fold_with_a_constant_target_is_refused() -> None:
    labels = np.where(np.arange(2_000) < 1_500, 3.0, TRAIN.labels)
    with pytest.raises(WindowError, match=r"train rows before .* have only one label"):
        fitted(train=relabelled(TRAIN, labels))


def test_a_spread_cannot_be_learned_from_a_single_day() -> None:
    single = rows(500, 2, days=1)
    with pytest.raises(WindowError, match="500 rows of a single day"):
        fitted(calibrate=single)
    assert fitted(calibrate=single, intervals="absolute").law.n_calibrate == 500


def test_too_few_rows_to_conformalize_are_refused() -> None:
    with pytest.raises(GateError, match="n_conformalize=8"):
        fitted(conformalize=rows(8, 5))


class Stub:
    """An estimator that says what it is told to."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def fit(self, inputs: pd.DataFrame, labels: Any) -> "Stub":
        return self

    def predict(self, inputs: pd.DataFrame) -> Any:
        return self.said(inputs)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_forecasts_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(GateError, match="forecasts of shape"):
        fitted(estimators={"broken": lambda seed: Stub(lambda x: np.full(len(x), wrong))})


def test_forecasts_without_any_error_are_refused() -> None:
    windows = {n: relabelled(one, one.inputs["told"].to_numpy()) for n, one in WINDOWS.items()}
    knows = {"knows": lambda seed: Stub(lambda x: x["told"].to_numpy())}
    with pytest.raises(GateError, match="without any error"):
        fitted(estimators=knows, **windows)


@pytest.mark.parametrize("wrong", [-1.0, 0.0, np.nan])
def test_a_spread_that_is_not_positive_gives_no_forecast(
    model: FittedRegression, wrong: float
) -> None:
    broken = replace(model, spread=Stub(lambda x: np.full(len(x), wrong)))
    for ask in (broken.intervals, lambda inputs: broken.quantiles(inputs, [0.5])):
        with pytest.raises(GateError, match="spread"):
            ask(HOLDOUT.inputs)


def test_parts_that_do_not_belong_together_are_refused(
    model: FittedRegression, plain: FittedRegression
) -> None:
    with pytest.raises(GateError, match="kind normalized without"):
        replace(model, spread=None)
    with pytest.raises(GateError, match="kind absolute with a model"):
        replace(plain, spread=model.spread)
