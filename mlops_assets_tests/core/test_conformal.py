"""Conformal rules: equal to MAPIE's sets, and the exact law of coverage."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from mlops_assets.core.conformal import ConformalRule, coverage, fit_conformal_rule, set_size
from mlops_assets.core.coverage_law import conformal_rank, coverage_estimate
from mlops_assets.errors import GateError


class _Given:
    """A fitted classifier whose features are its probabilities, a column per class."""

    def __init__(self, k: int) -> None:
        self.classes_ = np.arange(k)
        self.n_features_in_ = k

    def predict_proba(self, features):
        return np.asarray(features)

    def predict(self, features):
        return np.asarray(features).argmax(axis=1)

    def fit(self, features, labels):
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _rows(n: int, seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), decimals)
    return scores, (rng.random(n) < scores).astype(int)


def _classes(n: int, k: int, seed: int, decimals: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = np.round(rng.dirichlet(np.full(k, 0.6), n), decimals)
    p[:, 0] = np.maximum(0, 1 - p[:, 1:].sum(axis=1))
    p /= p.sum(axis=1, keepdims=True)
    labels = (np.cumsum(p, axis=1)[:, :-1] < rng.random((n, 1))).sum(axis=1)
    return p, labels


def _mapie_sets(fit, labels, new, confidence: float, score: str) -> np.ndarray:
    from mapie.classification import SplitConformalClassifier

    theirs = SplitConformalClassifier(
        _Given(fit.shape[1]), confidence_level=confidence, conformity_score=score, random_state=0
    ).conformalize(fit, labels)
    return theirs.predict_set(new)[1][:, :, 0]


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("decimals", [1, 2, 12])  # many ties, some, none
@pytest.mark.parametrize("n", [20, 99, 100, 1_000])
def test_binary_sets_equal_mapies(confidence: float, decimals: int, n: int) -> None:
    scores, labels = _rows(n + 1, n, decimals)
    both = np.column_stack([1 - scores, scores])
    grid = np.unique(np.r_[np.linspace(0, 1, 1_001), scores, 1 - scores])
    theirs = _mapie_sets(both, labels, np.column_stack([1 - grid, grid]), confidence, "lac")
    for given in (scores, both):
        rule = fit_conformal_rule(given, labels, confidence)
        np.testing.assert_array_equal(rule.prediction_sets(grid), theirs)


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("decimals", [1, 12])  # many ties and zeros, none
@pytest.mark.parametrize("confidence", [0.6, 0.9])
def test_sets_of_every_score_equal_mapies(
    score: str, k: int, decimals: int, confidence: float
) -> None:
    fit, labels = _classes(600, k, 1, decimals)
    new, _ = _classes(2_000, k, 2, decimals)
    rule = fit_conformal_rule(fit, labels, confidence, score=score)
    assert (rule.score, rule.n_classes) == (score, k)
    theirs = _mapie_sets(fit, labels, new, confidence, score)
    np.testing.assert_array_equal(rule.prediction_sets(new), theirs)


def test_sets_equal_mapies_for_a_real_classifier() -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 3))
    labels = (rng.random(900) < 1 / (1 + np.exp(-features[:, 0]))).astype(int)
    model = LogisticRegression().fit(features[:300], labels[:300])
    rule = fit_conformal_rule(model.predict_proba(features[300:600]), labels[300:600], 0.9)
    theirs = SplitConformalClassifier(model, confidence_level=0.9).conformalize(
        features[300:600], labels[300:600]
    )
    one = model.predict_proba(features[600:])[:, 1]
    np.testing.assert_array_equal(
        rule.prediction_sets(one), theirs.predict_set(features[600:])[1][:, :, 0]
    )


def test_scores_in_single_precision_give_the_rule_that_mapie_gives_them() -> None:
    from mapie.classification import SplitConformalClassifier

    scores, labels = _rows(500, 9, 12)
    both = np.column_stack([1 - scores, scores]).astype(np.float32)
    theirs = SplitConformalClassifier(_Given(2), confidence_level=0.9).conformalize(both, labels)
    rule = fit_conformal_rule(both, labels, 0.9)
    assert rule.quantile == np.sort(theirs.conformity_scores.ravel())[rule.rank - 1]


def test_a_class_that_no_row_has_is_still_a_class() -> None:
    p, labels = _classes(500, 4, 3)
    labels[labels == 2] = 1
    rule = fit_conformal_rule(p, labels, 0.9, score="aps")
    assert rule.prediction_sets(p).shape == (500, 4)


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_a_rule_survives_json(score: str) -> None:
    rule = fit_conformal_rule(*_classes(500, 3, 4), 0.9, score=score)
    assert ConformalRule(**json.loads(json.dumps(asdict(rule)))) == rule


def test_the_three_numbers_of_older_rules_are_a_binary_lac_rule() -> None:
    rule = ConformalRule(confidence=0.9, quantile=0.5, n_conformalize=100)
    assert (rule.score, rule.n_classes, rule.over_coverage) == ("lac", 2, 0.0)
    assert rule.expected_coverage == 91 / 101


@pytest.mark.parametrize("score", ["aps", "raps"])
def test_adaptive_rules_know_what_their_own_rows_show_them_to_cover(score: str) -> None:
    p, labels = _classes(2_000, 5, 5)
    rule = fit_conformal_rule(p, labels, 0.8, score=score)
    held = rule.prediction_sets(p)[np.arange(2_000), labels].sum()
    assert rule.own_coverage == held / 2_001
    assert rule.over_coverage == pytest.approx(held / 2_001 - 0.8)
    assert rule.over_coverage > 0.05


def test_adaptive_sets_are_never_empty_and_hold_the_likeliest_class() -> None:
    p, labels = _classes(1_000, 5, 6)
    sets = fit_conformal_rule(p, labels, 0.6, score="aps").prediction_sets(p)
    assert sets[np.arange(1_000), p.argmax(axis=1)].all()


def test_adaptive_sets_end_with_the_class_that_reaches_the_quantile() -> None:
    rule = ConformalRule(0.9, 0.9, 100, score="aps", n_classes=4, own_coverage=0.9)
    # 0.6 + 0.3 is 0.9 but for rounding.
    assert rule.prediction_sets([[0.6, 0.3, 0.06, 0.04]]).tolist() == [[True, True, False, False]]


def test_classes_of_no_probability_are_in_no_adaptive_set() -> None:
    rule = ConformalRule(0.9, 1.0, 100, score="aps", n_classes=4, own_coverage=0.9)
    # The rest to 1 is missing by rounding in single precision.
    row = [[0.5, 0.499995, 0.0, 0.0]]
    assert rule.prediction_sets(row).tolist() == [[True, True, False, False]]


def test_a_penalty_on_classes_beyond_the_free_ones_makes_sets_smaller() -> None:
    aps = ConformalRule(0.9, 0.95, 100, score="aps", n_classes=4, own_coverage=0.9)
    row = [[0.1, 0.4, 0.3, 0.2]]
    sizes = [
        int(
            replace(aps, score="raps", penalty=penalty, free_classes=free)
            .prediction_sets(row)
            .sum()
        )
        for penalty, free in [(0.0, 0), (0.5, 0), (0.5, 1), (0.5, 2), (0.04, 2)]
    ]
    # Mass with penalty reaches 0.95 at: 1.0; 0.4 + 0.5 + 0.3 + ...; 0.7 + 0.5; 0.9 + 0.5; 0.94 + ..
    assert sizes == [4, 2, 2, 3, 4]


def test_coverage_is_mapies_and_set_size_is_the_mean() -> None:
    from mapie.metrics.classification import classification_coverage_score

    scores, labels = _rows(800, 1, 12)
    rule = ConformalRule(0.9, 0.8, 500)
    sets = rule.prediction_sets(scores)
    theirs = classification_coverage_score(labels, sets[:, :, None])[0]
    assert coverage(labels, sets, rule).value == pytest.approx(theirs)
    assert set_size(sets).value == pytest.approx(sets.sum() / 800)


def test_coverage_of_many_classes_counts_the_true_class() -> None:
    p, labels = _classes(800, 4, 8)
    rule = ConformalRule(0.9, 0.8, 500, n_classes=4)
    sets = rule.prediction_sets(p)
    held = sum(sets[i, label] for i, label in enumerate(labels))
    assert coverage(labels, sets, rule) == coverage_estimate(held, 800, 500)


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


@pytest.mark.parametrize(("n", "rank"), [(9, 9), (10, 10), (99, 90), (100, 91), (999, 900)])
def test_the_rank_is_the_least_that_covers(n: int, rank: int) -> None:
    assert conformal_rank(n, 0.9) == rank
    assert rank / (n + 1) >= 0.9 - 1e-12 > (rank - 1) / (n + 1)


def test_too_few_rows_for_the_confidence_are_refused() -> None:
    with pytest.raises(GateError, match="n_conformalize=8"):
        fit_conformal_rule(*_rows(8, 0, 12), 0.9)


def test_too_few_rows_for_the_tenth_that_raps_sets_aside_are_refused() -> None:
    with pytest.raises(GateError, match="MAPIE cannot conformalize 50 rows") as refused:
        fit_conformal_rule(*_classes(50, 3, 0), 0.9, score="raps")
    assert "longer conformalize window" in refused.value.do


@pytest.mark.parametrize("wrong", [(1.0, 0.5, 100), (0.9, float("nan"), 100), (0.9, 0.5, 0)])
def test_a_rule_without_meaning_is_refused(wrong) -> None:
    with pytest.raises(GateError, match="conformal rule"):
        ConformalRule(*wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": "top_k"},
        {"n_classes": 1},
        {"penalty": -1.0},
        {"free_classes": -1},
        {"own_coverage": 0.95},  # not of lac
        {"score": "aps", "n_classes": 3},  # lacks own_coverage
        {"score": "aps", "n_classes": 2, "own_coverage": 0.9},
        {"score": "aps", "n_classes": 3, "own_coverage": float("nan")},
    ],
)
def test_options_without_meaning_are_refused(wrong) -> None:
    with pytest.raises(GateError, match="conformal rule"):
        replace(ConformalRule(0.9, 0.5, 100), **wrong)


def test_scores_outside_the_unit_interval_get_no_set() -> None:
    rule = ConformalRule(0.9, 0.5, 100)
    for wrong in ([float("nan")], [1.2], [[0.5, 0.5]]):
        with pytest.raises(GateError, match="probabilities"):
            rule.prediction_sets(wrong)


@pytest.mark.parametrize(
    "wrong", [[0.5], [[0.5, 0.5]], [[0.5, 0.4, 0.2]], [[1.5, -0.5, 0.0]], [[float("nan")] * 3]]
)
def test_rows_that_are_no_probabilities_of_the_classes_get_no_set(wrong) -> None:
    with pytest.raises(GateError, match="probabilities of shape"):
        ConformalRule(0.9, 0.5, 100, n_classes=3).prediction_sets(wrong)


@pytest.mark.parametrize("wrong", [[0, 1, 3], [0, 1, float("nan")], [1, 1, 1], [], [0.5, 1, 2]])
def test_labels_that_are_none_of_the_classes_are_refused(wrong) -> None:
    with pytest.raises(GateError, match="labels"):
        fit_conformal_rule(np.full((3, 3), 1 / 3), wrong, 0.5)
    with pytest.raises(GateError, match="labels"):
        coverage(wrong, np.ones((3, 3), dtype=bool), ConformalRule(0.9, 0.5, 100, n_classes=3))


def test_labels_and_rows_of_different_number_are_refused() -> None:
    with pytest.raises(GateError, match="2 labels, 3 rows"):
        fit_conformal_rule(np.full(3, 0.5), [0, 1], 0.5)
    with pytest.raises(GateError, match="score='top_k'"):
        fit_conformal_rule(np.full(2, 0.5), [0, 1], 0.5, score="top_k")
    with pytest.raises(GateError, match="2 classes and score='aps'"):
        fit_conformal_rule(np.full(2, 0.5), [0, 1], 0.5, score="aps")


def test_coverage_of_mismatched_or_empty_rows_is_refused() -> None:
    rule = ConformalRule(0.9, 0.5, 100)
    with pytest.raises(GateError, match="2 labels and 3 sets"):
        coverage([0, 1], np.ones((3, 2), dtype=bool), rule)
    with pytest.raises(GateError, match="shape"):
        coverage([], np.ones((0, 2), dtype=bool), rule)
    with pytest.raises(GateError, match="sets of shape"):
        set_size(np.ones((3, 2)))


@pytest.mark.parametrize("wrong", [(11, 10, 100), (-1, 10, 100), (0, 0, 100), (5, 10, 0)])
def test_counts_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(GateError, match="rows covered"):
        coverage_estimate(*wrong)


def test_binary_labels_other_than_0_and_1_are_refused() -> None:
    with pytest.raises(GateError, match="other values than 0 and 1"):
        fit_conformal_rule(np.full(100, 0.5), np.arange(100) % 2 + 1, 0.9)
