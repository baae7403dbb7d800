"""Metrics equal scikit-learn's, and paired differences equal DeLong and the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from mlops_assets.core.comparison import LOSSES, METRICS, classification_metrics, compare
from mlops_assets.errors import GateError


def _models(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)

    def squash(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    labels = rng.random(n) < squash(signal - 1)
    return (
        labels,
        squash(signal - 1 + 0.3 * rng.normal(size=n)),
        squash(signal - 1 + 0.6 * rng.normal(size=n)),
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=5, max_size=80),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.2, 0.5, 0.65]),
)
def test_metrics_equal_scikit_learns_with_ties(steps, seed, threshold) -> None:
    scores = np.array(steps) / 20
    labels = np.random.default_rng(seed).random(scores.size) < 0.5
    labels[:2] = [True, False]
    guess = scores >= threshold
    assert classification_metrics(labels, scores, threshold) == pytest.approx(
        {
            "auc": theirs.roc_auc_score(labels, scores),
            "average_precision": theirs.average_precision_score(labels, scores),
            "log_loss": theirs.log_loss(labels, scores),
            "brier": theirs.brier_score_loss(labels, scores),
            "accuracy": theirs.accuracy_score(labels, guess),
            "f1": theirs.f1_score(labels, guess),
        }
    )


def test_differences_are_positive_where_the_candidate_is_better() -> None:
    labels, good, bad = _models(20_000)
    for d in compare(labels, good, bad):
        sign = -1 if d.metric in LOSSES else 1
        assert d.difference == pytest.approx(sign * (d.candidate - d.champion))
        if d.metric in ("auc", "average_precision", "log_loss", "brier"):
            assert d.low > 0


def test_swapping_the_models_mirrors_the_differences() -> None:
    labels, one, two = _models(2_000)
    for there, back in zip(compare(labels, one, two), compare(labels, two, one), strict=True):
        assert there.difference == pytest.approx(-back.difference)
        assert there.low == pytest.approx(-back.high)


def test_a_model_does_not_differ_from_itself() -> None:
    labels, one, _ = _models(500)
    for d in compare(labels, one, one):
        assert (d.difference, d.low, d.high, d.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_auc_error_is_delongs() -> None:
    labels, one, two = _models(1_500)

    def placements(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wins = np.sign(scores[labels][:, None] - scores[~labels][None, :]) / 2 + 0.5
        return wins.mean(axis=1), wins.mean(axis=0)

    (v10, v01), (w10, w01) = placements(one), placements(two)
    p, q = labels.sum(), (~labels).sum()
    delong = (v10 - w10).var(ddof=1) / p + (v01 - w01).var(ddof=1) / q
    # DeLong divides by p (p - 1) where the influence function has p squared.
    assert compare(labels, one, two)[0].standard_error == pytest.approx(delong**0.5, rel=2e-3)


def test_every_standard_error_is_that_of_the_paired_bootstrap() -> None:
    labels, one, two = _models(4_000)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(400):
        rows = rng.integers(0, labels.size, labels.size)
        a = classification_metrics(labels[rows], one[rows], 0.35)
        b = classification_metrics(labels[rows], two[rows], 0.35)
        draws.append([a[m] - b[m] for m in METRICS])
    ours = [d.standard_error for d in compare(labels, one, two, threshold=0.35)]
    assert ours == pytest.approx(np.std(draws, axis=0), rel=0.12)


def test_p_values_are_holms() -> None:
    from scipy.special import ndtr

    differences = compare(*_models(3_000))
    raw = sorted(2 * ndtr(-abs(d.difference) / d.standard_error) for d in differences)
    adjusted = sorted(d.p_value for d in differences)
    expected = np.maximum.accumulate([min(1.0, p * (6 - i)) for i, p in enumerate(raw)])
    assert adjusted == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [[0.5], [0.5, float("nan")], [0.5, 2.0]])
def test_scores_of_either_model_that_cannot_be_judged_are_refused(wrong) -> None:
    with pytest.raises(GateError):
        compare([0, 1], wrong, [0.5, 0.5])
    with pytest.raises(GateError):
        compare([0, 1], [0.5, 0.5], wrong)
