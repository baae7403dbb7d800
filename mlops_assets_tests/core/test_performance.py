"""Measured metrics agree with scikit-learn, and what cannot be measured says why."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.comparison import classification_metrics
from mlops_assets.core.performance import (
    auc_estimate,
    classification_performance,
    label_maturity,
    regression_performance,
)
from mlops_assets.core.regression_comparison import Forecasts, regression_metrics
from mlops_assets.core.slices import StatedCoverage
from mlops_assets.errors import GateError

RNG = np.random.default_rng(0)
P = RNG.beta(1, 3, 3_000)
Y = RNG.random(3_000) < P
START = np.datetime64("2026-01-01T00:00", "m")
DAY = np.timedelta64(1, "D")


def test_metrics_of_a_window_are_those_of_a_report() -> None:
    found, exact = classification_performance(Y, P).metrics, classification_metrics(Y, P)
    for name in ("brier", "log_loss", "auc"):
        assert found[name].value == pytest.approx(exact[name])
        assert found[name].low < exact[name] < found[name].high
    assert found["ece"].low < found["ece"].high


def test_coverage_is_measured_where_the_model_states_one() -> None:
    covered = np.arange(3_000) % 10 > 0
    found = classification_performance(Y, P, coverage=StatedCoverage(covered, 0.9, 1_000))
    assert found.metrics["coverage"].value == pytest.approx(0.9)
    assert "coverage" not in classification_performance(Y, P).metrics


def test_coverage_of_other_rows_is_refused() -> None:
    with pytest.raises(GateError, match="flags of coverage"):
        classification_performance(Y, P, coverage=StatedCoverage([True], 0.9, 1_000))


def test_a_window_without_mature_labels_has_no_metrics_and_says_so() -> None:
    for found in (classification_performance([], []), regression_performance([], [])):
        assert (found.n, dict(found.metrics)) == (0, {})
        assert set(found.missing.values()) == {"no rows with mature labels"}


@pytest.mark.parametrize("label", [0, 1])
def test_a_window_of_one_class_has_all_metrics_but_the_auc(label: int) -> None:
    found = classification_performance(np.full(500, label), P[:500])
    assert found.missing == {"auc": f"all 500 labels are {label}"}
    assert found.metrics["brier"].value == pytest.approx(((P[:500] - label) ** 2).mean())


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([2, 2], [0.1, 0.1]), ([0, np.nan], [0.1, 0.1]), ([0, 0], [0.1, 1.1]), ([0, 0], [0.1])],
)
def test_rows_that_cannot_be_judged_are_refused(labels: list[float], scores: list[float]) -> None:
    with pytest.raises(GateError):
        classification_performance(labels, scores)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_the_auc_is_that_of_scikit_learn_with_ties(rows: list[tuple[bool, int]]) -> None:
    from sklearn.metrics import roc_auc_score

    flags, scores = np.array([y for y, _ in rows]), np.array([s / 4 for _, s in rows])
    if flags.all() or not flags.any():
        return
    found = auc_estimate(flags, scores)
    assert found.value == pytest.approx(roc_auc_score(flags, scores))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_perfect_ranking_of_few_rows_leaves_doubt() -> None:
    flags = np.arange(40) >= 20
    found = auc_estimate(flags, flags.astype(float))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.85, abs=0.01)


def test_metrics_of_forecasts_are_those_of_a_report() -> None:
    y, forecast = RNG.normal(size=500), RNG.normal(size=500)
    found, exact = (
        regression_performance(y, forecast).metrics,
        regression_metrics(y, Forecasts(forecast)),
    )
    for name in ("mae", "rmse"):
        assert found[name].value == pytest.approx(exact[name])
        assert found[name].low < exact[name] < found[name].high
    assert found["mean_error"].value == pytest.approx((forecast - y).mean())


def test_a_label_is_mature_when_it_had_time_to_come_and_came() -> None:
    predicted = START + DAY * np.array([0, 0, 0, 9, 9])
    known = START + DAY * np.array([1, 6, 20, 10, 30])
    found = label_maturity(predicted, known, now=START + 10 * DAY, delay=5 * DAY)
    assert found.mature.tolist() == [True, True, False, False, False]
    assert (found.predictions, found.due) == (5, 3)
    assert found.share == pytest.approx(0.4)


def test_maturity_of_no_predictions_is_none() -> None:
    found = label_maturity([], [], now=START, delay=DAY)
    assert (found.share, found.due) == (0.0, 0)


def test_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GateError, match="times of labels"):
        label_maturity([START], [], now=START, delay=DAY)
