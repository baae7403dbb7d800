"""Venn-Abers steps equal isotonic regression fitted anew for every row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.venn_abers import VennAbersClassifier, fit_venn_abers
from mlops_assets.errors import GateError


def _brute(scores: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    def at(row: float, label: int) -> float:
        fitted = IsotonicRegression().fit(np.r_[scores, row], np.r_[labels, label])
        return fitted.predict([row])[0]

    return np.array([[at(row, 0), at(row, 1)] for row in new])


def _rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return scores, (rng.random(n) < scores**2).astype(int)


class _Given:
    """A fitted classifier whose only feature is the probability of its second class."""

    n_features_in_ = 1

    def __init__(self, classes) -> None:
        self.classes_ = np.array(classes)

    def fit(self, features, labels):
        raise AssertionError("fitted again")

    def predict_proba(self, features):
        one = np.asarray(features)[:, 0]
        return np.column_stack([1 - one, one])

    def predict(self, features):
        return self.classes_[(np.asarray(features)[:, 0] > 0.5).astype(int)]

    def __sklearn_is_fitted__(self) -> bool:
        return True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_steps_equal_isotonic_regression_of_every_row(steps, seed) -> None:
    rng = np.random.default_rng(seed)
    scores = np.array(steps) / 12  # with ties
    labels = (rng.random(scores.size) < scores).astype(int)
    labels[:2] = [0, 1]
    new = np.r_[np.arange(-1, 26) / 24]  # at, between and beyond the scores
    expected = _brute(scores, labels, new)
    np.testing.assert_allclose(fit_venn_abers(scores, labels).intervals(new), expected, atol=1e-12)


def test_steps_equal_mapies_within_the_calibrate_scores() -> None:
    """Beyond the last score MAPIE 1.6 repeats the p1 before it; isotonic regression gives 1."""
    from mapie.calibration import VennAbersCalibrator

    scores, labels = _rows(400, 1)
    new = np.linspace(scores.min(), scores.max(), 500)
    with np.errstate(invalid="ignore"):
        theirs = VennAbersCalibrator(_Given([0, 1]), cv="prefit").fit(scores[:, None], labels)
    merged, pair = theirs.predict_proba(new[:, None], p0_p1_output=True)
    ours = fit_venn_abers(scores, labels)
    np.testing.assert_allclose(ours.intervals(new), pair, atol=1e-12)
    np.testing.assert_allclose(ours.probabilities(new), merged[:, 1], atol=1e-12)
    assert ours.intervals([scores.max() + 0.1])[0, 1] == 1.0


def test_one_score_gives_the_shares_with_one_row_more() -> None:
    steps = fit_venn_abers(np.zeros(10), [1] * 4 + [0] * 6)
    np.testing.assert_allclose(steps.intervals([0.0]), [[4 / 11, 5 / 11]])
    np.testing.assert_allclose(steps.probabilities([0.0]), [(5 / 11) / (1 - 4 / 11 + 5 / 11)])


def test_p0_and_p1_rise_with_the_score_and_hold_the_probability_between_them() -> None:
    scores, labels = _rows(2_000, 2)
    steps, new = fit_venn_abers(scores, labels), np.linspace(-0.1, 1.1, 3_000)
    low, high = steps.intervals(new).T
    middle = steps.probabilities(new)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert ((low < high) & (low <= middle) & (middle <= high)).all()


def test_only_the_order_of_the_scores_counts() -> None:
    scores, labels = _rows(500, 3)
    np.testing.assert_array_equal(
        fit_venn_abers(scores, labels).intervals(scores),
        fit_venn_abers(100 * scores - 7, labels).intervals(100 * scores - 7),
    )


def test_more_calibrate_rows_make_narrower_pairs() -> None:
    widths = [np.diff(fit_venn_abers(*_rows(n, 4)).intervals([0.7]))[0, 0] for n in (200, 20_000)]
    assert widths[1] < widths[0] / 5


def test_steps_are_kept_only_where_a_value_changes() -> None:
    scores, labels = _rows(10_000, 5)
    steps = fit_venn_abers(scores, labels)
    for knots, values in ((steps.knots0, steps.values0), (steps.knots1, steps.values1)):
        assert values.size == knots.size + 1 < 2_000
        assert (np.diff(values) > 0).all()


def test_a_classifier_is_calibrated_without_being_fitted_again() -> None:
    scores, labels = _rows(600, 6)
    model = VennAbersClassifier(_Given([0, 1])).fit(scores[:, None], labels)
    steps = fit_venn_abers(scores, labels)
    np.testing.assert_array_equal(model.intervals(scores[:, None]), steps.intervals(scores))
    both = model.predict_proba(scores[:, None])
    np.testing.assert_array_equal(both[:, 1], steps.probabilities(scores))
    np.testing.assert_allclose(both.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(scores[:, None]), (both[:, 1] >= 0.5).astype(int))


def test_classes_may_have_other_names() -> None:
    scores, labels = _rows(600, 7)
    names = np.array(["no", "yes"])
    model = VennAbersClassifier(_Given(names)).fit(scores[:, None], names[labels])
    numbered = VennAbersClassifier(_Given([0, 1])).fit(scores[:, None], labels)
    np.testing.assert_array_equal(
        model.predict_proba(scores[:, None]), numbered.predict_proba(scores[:, None])
    )
    assert set(model.predict(scores[:, None])) == {"no", "yes"}
    with pytest.raises(GateError, match="other values"):
        VennAbersClassifier(_Given(names)).fit(scores[:2, None], ["yes", "maybe"])


def test_a_stored_classifier_predicts_the_same_and_is_one_type_to_trust() -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    scores, labels = _rows(600, 8)
    inner = LogisticRegression().fit(scores[:300, None], labels[:300])
    model = VennAbersClassifier(inner).fit(scores[300:, None], labels[300:])
    stored = skops.io.dumps(model)
    trusted = ["mlops_assets.core.venn_abers.VennAbersClassifier"]
    assert skops.io.get_untrusted_types(data=stored) == trusted
    again = skops.io.loads(stored, trusted=trusted)
    np.testing.assert_array_equal(
        again.predict_proba(scores[:, None]), model.predict_proba(scores[:, None])
    )


def test_a_classifier_is_a_scikit_learn_classifier() -> None:
    from sklearn.base import clone, is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.frozen import FrozenEstimator

    model = clone(VennAbersClassifier(FrozenEstimator(_Given([0, 1]))))
    assert is_classifier(model)
    with pytest.raises(NotFittedError):
        model.predict_proba([[0.5]])


@pytest.mark.parametrize("wrong", [[0.1, float("nan")], [0.1, float("inf")], [0.1], [[0.1, 0.2]]])
def test_scores_that_cannot_be_used_are_refused(wrong) -> None:
    with pytest.raises(GateError, match="scores of shape"):
        fit_venn_abers(wrong, [0, 1])


def test_labels_of_one_class_are_refused() -> None:
    with pytest.raises(GateError, match="all 2 labels are 1"):
        fit_venn_abers([0.1, 0.2], [1, 1])


def test_new_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(GateError, match="finite"):
        fit_venn_abers([0.1, 0.2], [0, 1]).probabilities([float("nan")])
