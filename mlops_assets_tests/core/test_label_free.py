"""Estimates without labels are the mean over all labels that the probabilities allow."""

from itertools import product

import numpy as np
import pytest

from mlops_assets.core.comparison import classification_metrics
from mlops_assets.core.label_free import estimate_performance, score_estimates
from mlops_assets.core.performance import classification_performance
from mlops_assets.errors import GateError

P = np.array([0.1, 0.3, 0.3, 0.55, 0.6, 0.8, 0.95])


def test_expected_losses_are_the_mean_over_all_labels() -> None:
    found = estimate_performance(P)
    means = {"brier": 0.0, "log_loss": 0.0, "accuracy": 0.0}
    for bits in product([0, 1], repeat=P.size):
        y = np.array(bits)
        chance = float(np.where(y, P, 1 - P).prod())
        means["brier"] += chance * ((P - y) ** 2).mean()
        means["log_loss"] -= chance * np.log(np.where(y, P, 1 - P)).mean()
        means["accuracy"] += chance * ((P >= 0.5) == y).mean()
    for name, exact in means.items():
        assert found.metrics[name].value == pytest.approx(exact)


def test_the_expected_auc_is_that_of_all_pairs_of_different_rows() -> None:
    pairs = [(i, j) for i in range(P.size) for j in range(P.size) if i != j]
    right = sum(P[i] * (1 - P[j]) * ((P[i] > P[j]) + (P[i] == P[j]) / 2) for i, j in pairs)
    weight = sum(P[i] * (1 - P[j]) for i, j in pairs)
    assert estimate_performance(P).metrics["auc"].value == pytest.approx(right / weight)


def test_intervals_are_as_wide_as_labels_vary() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(2, 4, 2_000)
    found = estimate_performance(p).metrics
    draws = [classification_metrics(rng.random(p.size) < p, p) for _ in range(200)]
    for name, estimate in found.items():
        spread = np.std([draw[name] for draw in draws])
        assert (estimate.high - estimate.low) / 2 / 1.96 == pytest.approx(spread, rel=0.25)


def test_few_calibrate_rows_widen_the_intervals() -> None:
    p = np.random.default_rng(0).random(900)
    sure, unsure = (estimate_performance(p, n_calibrate=m).metrics["brier"] for m in (None, 300))
    assert unsure.high - unsure.low == pytest.approx(2 * (sure.high - sure.low))


def test_no_rows_have_no_estimate() -> None:
    found = estimate_performance([])
    assert (found.n, dict(found.metrics)) == (0, {})
    assert set(found.missing.values()) == {"no rows"}


def test_probabilities_of_one_class_only_have_no_auc() -> None:
    assert estimate_performance(np.zeros(5)).missing == {
        "auc": "only one class is expected",
        "f1": "no positives are expected or predicted",
    }


@pytest.mark.parametrize("wrong", [[0.5, 1.5], [np.nan, 0.5]])
def test_what_is_no_probability_is_refused(wrong: list[float]) -> None:
    with pytest.raises(GateError):
        estimate_performance(wrong)


def test_an_estimate_is_scored_by_the_labels_that_come() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(2, 4, 3_000)
    right = classification_performance(rng.random(p.size) < p, p)
    wrong = classification_performance(rng.random(p.size) < (p + 1) / 2, p)
    assert all(score.inside for score in score_estimates(estimate_performance(p), right))
    scores = {score.metric: score for score in score_estimates(estimate_performance(p), wrong)}
    assert not scores["brier"].inside


def test_an_estimate_is_scored_on_its_own_rows_only() -> None:
    measured = classification_performance([0, 1], [0.2, 0.8])
    with pytest.raises(GateError, match="7 rows, and 2 rows"):
        score_estimates(estimate_performance(P), measured)
