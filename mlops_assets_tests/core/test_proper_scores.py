"""Brier score, log loss, their parts and Spiegelhalter's test: closed forms and agreement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.calibration import reliability_bins
from mlops_assets.core.proper_scores import (
    brier_decomposition,
    brier_score,
    log_loss,
    multiclass_brier_score,
    multiclass_log_loss,
    spiegelhalter_test,
)
from mlops_assets.errors import GateError


def _world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 3, n)
    return rng.random(n) < scores, scores


def _classes(n: int, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(k), n)
    return (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1), p


def test_brier_and_log_loss_agree_with_scikit_learn_even_at_zero_and_one() -> None:
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as their_log_loss

    labels, scores = _world(500)
    scores[:4] = [0.0, 1.0, 0.0, 1.0]
    labels[:4] = [False, False, True, True]
    weights = np.random.default_rng(2).random(500)
    for w in (None, weights):
        assert brier_score(labels, scores, weights=w).value == pytest.approx(
            brier_score_loss(labels, scores, sample_weight=w)
        )
        assert log_loss(labels, scores, weights=w).value == pytest.approx(
            their_log_loss(labels, scores, sample_weight=w)
        )


def test_multiclass_scores_agree_with_scikit_learn() -> None:
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as their_log_loss

    labels, p = _classes(500)
    theirs = brier_score_loss(labels, p, scale_by_half=True)
    assert multiclass_brier_score(labels, p).value == pytest.approx(theirs)
    assert multiclass_log_loss(labels, p).value == pytest.approx(their_log_loss(labels, p))


def test_two_classes_give_the_binary_scores_and_intervals() -> None:
    labels, scores = _world(500)
    both = np.column_stack([1 - scores, scores])
    for many, one in ((multiclass_brier_score, brier_score), (multiclass_log_loss, log_loss)):
        found, expected = many(labels.astype(int), both), one(labels, scores)
        assert (found.value, found.low) == pytest.approx((expected.value, expected.low))


def test_equal_weights_change_nothing_and_unequal_ones_widen_the_interval() -> None:
    labels, scores = _world(2_000)
    for score in (brier_score, log_loss):
        plain = score(labels, scores)
        assert score(labels, scores, weights=np.full(2_000, 3.0)) == plain
        heavy = score(labels, scores, weights=np.where(np.arange(2_000) % 10, 1.0, 20.0))
        assert heavy.n == int((1_800 + 200 * 20) ** 2 / (1_800 + 200 * 400))
        assert heavy.high - heavy.low > 1.2 * (plain.high - plain.low)


def test_heavy_rows_with_outlying_losses_widen_the_interval_beyond_kish() -> None:
    heavy = np.arange(2_000) % 10 == 0
    labels, scores = np.arange(2_000) // 10 % 2 == 0, np.where(heavy, 0.9, 0.5)
    weights = np.where(heavy, 5.0, 1.0)
    found = brier_score(labels, scores, weights=weights)
    share, spread = weights / weights.sum(), ((scores - labels) ** 2 - found.value) ** 2
    exact, kish = (share**2 @ spread) ** 0.5, (share @ spread / found.n) ** 0.5
    assert exact > 1.2 * kish
    assert found.high - found.value == pytest.approx(1.96 * exact, rel=1e-3)


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 1), st.sampled_from([0.5, 1.0, 4.0])),
        min_size=2,
        max_size=80,
    ),
    st.integers(1, 6),
)
def test_the_parts_of_the_brier_score_add_up_to_it(rows, n_bins) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    labels[:2] = [True, False]
    bins = reliability_bins(labels, scores, weights=weights, n_bins=n_bins, min_rows=1)
    parts = brier_decomposition(labels, scores, bins, weights=weights)
    assert parts.brier == pytest.approx(brier_score(labels, scores, weights=weights).value)
    assert parts.brier == pytest.approx(
        parts.reliability
        - parts.resolution
        + parts.uncertainty
        + parts.within_bin_variance
        - parts.within_bin_covariance
    )
    assert parts.brier == pytest.approx(
        parts.reliability - parts.generalized_resolution + parts.uncertainty
    )


def test_scores_that_are_equal_within_bins_leave_murphys_three_parts() -> None:
    scores = np.repeat([0.2, 0.6], 500)
    labels = np.concatenate([np.arange(500) % 4 == 0, np.arange(500) % 2 == 0])
    parts = brier_decomposition(labels, scores, reliability_bins(labels, scores, n_bins=2))
    base = 0.375
    assert parts.reliability == pytest.approx((0.05**2 + 0.1**2) / 2)
    assert parts.resolution == pytest.approx(0.125**2)
    assert parts.uncertainty == pytest.approx(base * (1 - base))
    assert (parts.within_bin_variance, parts.within_bin_covariance) == pytest.approx((0, 0))


def test_a_shift_of_the_scores_raises_reliability_and_nothing_else() -> None:
    labels, scores = _world(20_000)
    low, high = (
        brier_decomposition(labels, moved, reliability_bins(labels, moved))
        for moved in (scores / 2, scores / 2 + 0.3)
    )
    assert high.reliability > low.reliability + 0.01
    assert high.generalized_resolution == pytest.approx(low.generalized_resolution)


def test_bins_of_other_rows_are_refused() -> None:
    labels, scores = _world(3_000)
    bins = reliability_bins(labels, scores)
    with pytest.raises(GateError, match="rows that fall"):
        brier_decomposition(labels[1:], scores[1:], bins)
    with pytest.raises(GateError, match="rows that fall"):
        brier_decomposition(labels, scores**0.5, bins)


def test_spiegelhalters_z_is_that_of_mapie() -> None:
    from mapie.metrics.calibration import spiegelhalter_p_value, spiegelhalter_statistic

    labels, scores = _world(2_000)
    found = spiegelhalter_test(labels, scores)
    assert found.z == pytest.approx(spiegelhalter_statistic(labels, scores))
    one_sided = spiegelhalter_p_value(labels, scores)
    assert found.p_value == pytest.approx(2 * min(one_sided, 1 - one_sided))


def test_spiegelhalters_z_is_positive_for_an_overconfident_model() -> None:
    labels, scores = _world(5_000)
    sharper = scores**2 / (scores**2 + (1 - scores) ** 2)
    assert spiegelhalter_test(labels, sharper).z > 5
    assert spiegelhalter_test(labels, 0.3 + 0.4 * scores).z < -5


def test_scores_whose_brier_score_is_no_matter_of_chance_are_refused() -> None:
    with pytest.raises(GateError, match="depends on chance"):
        spiegelhalter_test([0, 1, 1], [0.0, 0.5, 1.0])
