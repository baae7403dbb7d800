"""Conformal rules: equal to MAPIE's sets, and the exact law of coverage."""

import numpy as np
import pytest

from mlops_assets.core.conformal import ConformalRule, coverage, fit_conformal_rule, set_size
from mlops_assets.errors import GateError


class _Given:
    """A fitted classifier whose feature is its probability of class 1."""

    classes_ = np.array([0, 1])
    n_features_in_ = 1

    def predict_proba(self, features):
        one = np.asarray(features, dtype=float)[:, 0]
        return np.column_stack([1 - one, one])

    def predict(self, features):
        return (self.predict_proba(features)[:, 1] >= 0.5).astype(int)

    def fit(self, features, labels):
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _rows(n: int, seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), decimals)
    return scores[:, None], (rng.random(n) < scores).astype(int)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("decimals", [1, 2, 12])  # many ties, some, none
@pytest.mark.parametrize("n", [20, 99, 100, 1_000])
def test_sets_equal_mapies(confidence: float, decimals: int, n: int) -> None:
    from mapie.classification import SplitConformalClassifier

    features, labels = _rows(n + 1, n, decimals)
    if n + 1 < 1 / (1 - confidence):
        pytest.skip("too few rows")
    rule = fit_conformal_rule(_Given(), features, labels, confidence)
    theirs = SplitConformalClassifier(_Given(), confidence_level=confidence).conformalize(
        features, labels
    )
    grid = np.unique(np.r_[np.linspace(0, 1, 1_001), features[:, 0], 1 - features[:, 0]])
    _, sets = theirs.predict_set(grid[:, None])
    np.testing.assert_array_equal(rule.prediction_sets(grid), sets[:, :, 0])


def test_sets_equal_mapies_for_a_real_classifier() -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 3))
    labels = rng.random(900) < 1 / (1 + np.exp(-features[:, 0]))
    model = LogisticRegression().fit(features[:300], labels[:300].astype(int))
    rule = fit_conformal_rule(model, features[300:600], labels[300:600], 0.9)
    theirs = SplitConformalClassifier(model, confidence_level=0.9).conformalize(
        features[300:600], labels[300:600].astype(int)
    )
    one = model.predict_proba(features[600:])[:, 1]
    np.testing.assert_array_equal(
        rule.prediction_sets(one), theirs.predict_set(features[600:])[1][:, :, 0]
    )


def test_coverage_is_mapies_and_set_size_is_the_mean() -> None:
    from mapie.metrics.classification import classification_coverage_score

    features, labels = _rows(800, 1, 12)
    rule = ConformalRule(0.9, 0.8, 500)
    sets = rule.prediction_sets(features[:, 0])
    theirs = classification_coverage_score(labels, sets[:, :, None])[0]
    assert coverage(labels, sets, rule).value == pytest.approx(theirs)
    assert set_size(sets).value == pytest.approx(sets.sum() / 800)


@pytest.mark.parametrize(
    ("hits", "n", "size"), [(900, 1_000, 101), (45, 50, 5_001), (2_000, 2_000, 301)]
)
def test_interval_ends_are_beta_binomial_tails(hits: int, n: int, size: int) -> None:
    from scipy.stats import betabinom

    rule = ConformalRule(0.9, 0.5, size - 1)
    labels = np.zeros(n, dtype=bool)
    labels[0] = True
    sets = np.zeros((n, 2), dtype=bool)
    sets[:hits] = True
    estimate = coverage(labels, sets, rule)
    low, high = estimate.low, estimate.high
    assert betabinom.sf(hits - 1, n, low * size, (1 - low) * size) == pytest.approx(0.025, rel=1e-4)
    if hits == n:
        assert high == 1.0
    else:
        tail = betabinom.cdf(hits, n, high * size, (1 - high) * size)
        assert tail == pytest.approx(0.025, rel=1e-4)


def test_both_row_counts_narrow_the_interval() -> None:
    labels = np.arange(4_000) % 2 == 0
    sets = np.ones((4_000, 2), dtype=bool)
    sets[:400] = False
    few, many = (coverage(labels, sets, ConformalRule(0.9, 0.5, m)) for m in (200, 20_000))
    assert many.high - many.low < (few.high - few.low) / 2


def test_too_few_rows_for_the_confidence_are_refused() -> None:
    features, labels = _rows(8, 0, 12)
    with pytest.raises(GateError, match="n_conformalize=8"):
        fit_conformal_rule(_Given(), features, labels, 0.9)


@pytest.mark.parametrize("wrong", [(1.0, 0.5, 100), (0.9, float("nan"), 100), (0.9, 0.5, 0)])
def test_a_rule_without_meaning_is_refused(wrong) -> None:
    with pytest.raises(GateError, match="conformal rule"):
        ConformalRule(*wrong)


def test_scores_outside_the_unit_interval_get_no_set() -> None:
    rule = ConformalRule(0.9, 0.5, 100)
    for wrong in ([float("nan")], [1.2], [[0.5, 0.5]]):
        with pytest.raises(GateError, match="probabilities"):
            rule.prediction_sets(wrong)


def test_coverage_of_mismatched_or_empty_rows_is_refused() -> None:
    rule = ConformalRule(0.9, 0.5, 100)
    with pytest.raises(GateError, match="2 labels and 3 sets"):
        coverage([0, 1], np.ones((3, 2), dtype=bool), rule)
    with pytest.raises(GateError, match="shape"):
        coverage([], np.ones((0, 2), dtype=bool), rule)
    with pytest.raises(GateError, match="sets of shape"):
        set_size(np.ones((3, 2)))


def test_a_model_with_other_classes_is_refused() -> None:
    model = _Given()
    model.classes_ = np.array([1, 2])
    with pytest.raises(GateError, match="classes"):
        fit_conformal_rule(model, *_rows(100, 0, 12), 0.9)
