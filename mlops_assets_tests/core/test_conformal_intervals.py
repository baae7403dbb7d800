"""Interval rules: equal to MAPIE's intervals, and by the same law of coverage as sets."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from mlops_assets.core.conformal_intervals import (
    IntervalRule,
    fit_absolute,
    fit_normalized,
    fit_quantile,
    holds,
    interval_coverage,
    interval_width,
)
from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.gates import coverage_within_tolerance
from mlops_assets.errors import GateError

NAN, INF = float("nan"), float("inf")


class _Column:
    """A fitted regressor that predicts one of its features."""

    def __init__(self, column: int) -> None:
        self.column = column
        self.n_features_in_ = 3

    def fit(self, features, target):
        return self

    def predict(self, features):
        return np.asarray(features)[:, self.column]

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _rows(n: int, seed: int, decimals: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and features: forecast, forecast plus 1, spread."""
    rng = np.random.default_rng(seed)
    forecast, spread = np.round(rng.normal(size=n), decimals), 0.5 + rng.random(n)
    target = np.round(forecast + spread * rng.normal(size=n), decimals)
    return target, np.column_stack([forecast, forecast + 1, spread])


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("decimals", [0, 12])  # many ties, none
@pytest.mark.parametrize("n", [20, 99, 100, 1_000])
def test_absolute_intervals_equal_mapies(confidence: float, decimals: int, n: int) -> None:
    from mapie.regression import SplitConformalRegressor

    (y, x), (_, new) = _rows(n, n, decimals), _rows(200, 1, decimals)
    theirs = SplitConformalRegressor(_Column(0), confidence_level=confidence).conformalize(x, y)
    rule = fit_absolute(y, x[:, 0], confidence)
    expected = theirs.predict_interval(new)[1][:, :, 0]
    np.testing.assert_allclose(rule.intervals(new[:, 0]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [20, 1_000])
def test_normalized_intervals_equal_mapies(confidence: float, n: int) -> None:
    from mapie.conformity_scores import ResidualNormalisedScore
    from mapie.regression import SplitConformalRegressor

    (y, x), (_, new) = _rows(n, n), _rows(200, 1)
    score = ResidualNormalisedScore(residual_estimator=_Column(2), prefit=True)
    theirs = SplitConformalRegressor(
        _Column(0), confidence_level=confidence, conformity_score=score
    ).conformalize(x, y)
    rule = fit_normalized(y, x[:, 0], x[:, 2], confidence)
    np.testing.assert_allclose(
        rule.intervals(new[:, 0], spread=new[:, 2]),
        theirs.predict_interval(new)[1][:, :, 0],
        atol=1e-12,
    )


@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("n", [20, 1_000])
def test_quantile_intervals_equal_mapies(confidence: float, n: int) -> None:
    from mapie.regression import ConformalizedQuantileRegressor

    (y, x), (_, new) = _rows(n, n), _rows(200, 1)
    theirs = ConformalizedQuantileRegressor(
        [_Column(0), _Column(1), _Column(0)], confidence_level=confidence, prefit=True
    ).conformalize(x, y)
    expected = theirs.predict_interval(new, symmetric_correction=True)[1][:, :, 0]
    rule = fit_quantile(y, x[:, :2], confidence)
    np.testing.assert_allclose(rule.intervals(new[:, :2]), expected, atol=1e-12)


def test_the_quantile_is_the_score_of_its_rank() -> None:
    y = np.random.default_rng(0).permutation(99.0 + np.arange(99))
    rule = fit_absolute(y, np.zeros(99), 0.9)
    assert (rule.rank, rule.quantile) == (90, np.sort(y)[89])
    assert rule.expected_coverage == 0.9


def test_intervals_scale_with_the_spread() -> None:
    y, x = _rows(500, 2)
    once = fit_normalized(y, x[:, 0], x[:, 2])
    tenfold = fit_normalized(y, x[:, 0], 10 * x[:, 2])
    np.testing.assert_allclose(
        once.intervals(x[:, 0], spread=x[:, 2]), tenfold.intervals(x[:, 0], spread=10 * x[:, 2])
    )


def test_a_negative_quantile_shortens_intervals_but_never_turns_them_around() -> None:
    rule = IntervalRule(0.9, -2.0, 100, "quantile")
    assert rule.intervals([[0.0, 10.0], [0.0, 3.0]]).tolist() == [[2.0, 8.0], [1.5, 1.5]]


def test_quantiles_that_cross_are_put_in_order() -> None:
    y, x = _rows(300, 3)
    assert fit_quantile(y, x[:, [1, 0]]) == fit_quantile(y, x[:, :2])
    rule = IntervalRule(0.9, 1.0, 100, "quantile")
    assert rule.intervals([[5.0, 4.0]]).tolist() == [[3.0, 6.0]]


def test_a_rule_survives_json() -> None:
    y, x = _rows(300, 4)
    for rule in (fit_absolute(y, x[:, 0]), fit_quantile(y, x[:, :2])):
        assert IntervalRule(**json.loads(json.dumps(asdict(rule)))) == rule


def test_coverage_counts_ends_in_and_follows_the_law() -> None:
    rule = IntervalRule(0.9, 1.0, 300)
    truth = np.r_[np.zeros(89), 1.0, np.full(10, 1.001)]
    estimate = interval_coverage(truth, rule.intervals(np.zeros(100)), rule)
    assert estimate == coverage_estimate(90, 100, 300)


def test_coverage_is_mapies() -> None:
    from mapie.metrics.regression import regression_coverage_score

    y, x = _rows(700, 5)
    intervals = IntervalRule(0.9, 1.0, 300).intervals(x[:, 0])
    theirs = regression_coverage_score(y, intervals[:, :, None])[0]
    assert holds(y, intervals).mean() == pytest.approx(theirs)


def test_the_gate_of_sets_judges_intervals() -> None:
    rule = IntervalRule(0.9, 1.0, 50_000)
    for share, outcome in ((0.9, "passed"), (0.86, "failed"), (0.94, "failed")):
        truth = np.where(np.arange(20_000) < share * 20_000, 0.0, 2.0)
        estimate = interval_coverage(truth, rule.intervals(np.zeros(20_000)), rule)
        assert coverage_within_tolerance(estimate, rule).outcome == outcome


def test_width_has_a_normal_interval() -> None:
    ends = np.column_stack([np.zeros(400), np.tile([1.0, 3.0], 200)])
    estimate = interval_width(ends)
    assert estimate.value == 2.0
    assert estimate.high - 2.0 == pytest.approx(1.959964 * (400 / 399) ** 0.5 / 20)


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    bad, good = np.array([1.0, wrong, 2.0]), np.ones(3)
    rule = IntervalRule(0.5, 1.0, 3)
    for call in (
        lambda: fit_absolute(bad, good, 0.5),
        lambda: fit_absolute(good, bad, 0.5),
        lambda: fit_normalized(good, good, bad, 0.5),
        lambda: fit_quantile(good, np.column_stack([good, bad]), 0.5),
        lambda: rule.intervals(bad),
        lambda: holds(bad, np.ones((3, 2))),
        lambda: interval_width(np.column_stack([good, bad])),
    ):
        with pytest.raises(GateError, match="finite"):
            call()


def test_lengths_that_differ_are_refused() -> None:
    two, three, pairs = np.ones(2), np.ones(3), np.ones((3, 2))
    for call in (
        lambda: fit_absolute(two, three, 0.5),
        lambda: fit_normalized(three, three, two, 0.5),
        lambda: fit_quantile(two, pairs, 0.5),
        lambda: fit_quantile(three, three, 0.5),
        lambda: fit_absolute(three, pairs, 0.5),
        lambda: interval_coverage(two, pairs, IntervalRule(0.5, 1.0, 3)),
        lambda: interval_width([]),
    ):
        with pytest.raises(GateError, match="of shape") as refused:
            call()
        assert refused.value.expected
        assert refused.value.do


@pytest.mark.parametrize("spread", [[1.0, 0.0], [1.0, -1.0]])
def test_a_spread_that_is_not_positive_is_refused(spread) -> None:
    with pytest.raises(GateError, match="spread as low as"):
        IntervalRule(0.9, 1.0, 100, "normalized").intervals([1.0, 1.0], spread=spread)


def test_a_spread_is_wanted_by_the_normalized_rule_and_by_no_other() -> None:
    with pytest.raises(GateError, match="without a spread"):
        IntervalRule(0.9, 1.0, 100, "normalized").intervals([1.0])
    with pytest.raises(GateError, match="with a spread"):
        IntervalRule(0.9, 1.0, 100).intervals([1.0], spread=[1.0])


def test_too_few_rows_for_the_confidence_are_refused() -> None:
    with pytest.raises(GateError, match="n_conformalize=8"):
        fit_absolute(np.ones(8), np.ones(8), 0.9)


def test_intervals_turned_around_have_no_width() -> None:
    with pytest.raises(GateError, match="1 of 2 intervals"):
        interval_width([[0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    "wrong",
    [(1.0, 1.0, 100), (0.9, NAN, 100), (0.9, -1.0, 100), (0.9, 1.0, 0), (0.9, 1.0, 100, "gamma")],
)
def test_a_rule_without_meaning_is_refused(wrong) -> None:
    with pytest.raises(GateError, match="an interval rule with"):
        IntervalRule(*wrong)
