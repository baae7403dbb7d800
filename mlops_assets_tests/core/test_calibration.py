"""Reliability bins, ECE and proper scores: shapes, closed forms, agreement, bad input."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.calibration import (
    ReliabilityBins,
    brier_score,
    debiased_ece,
    expected_calibration_error,
    log_loss,
    maximum_bin_deviation,
    reliability_bins,
    validate_scores,
)
from mlops_assets.core.intervals import ece_upper_bound
from mlops_assets.errors import GateError


def _world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return rng.random(n) < scores, scores


def _deviation_table(shift: float, n: int) -> ReliabilityBins:
    """15 bins that deviate by exactly `shift`, up to one row."""
    scores = np.repeat((np.arange(15) + 0.5) / 15, n // 15)
    place = np.tile((np.arange(n // 15) + 0.5) / (n // 15), 15)
    return reliability_bins(place < np.clip(scores + shift, 0, 1), scores)


def test_mass_bins_hold_equally_many_rows() -> None:
    table = reliability_bins(*_world(30_000))
    assert [row.n for row in table.bins] == [2_000] * 15


def test_few_rows_make_few_bins_of_at_least_min_rows() -> None:
    table = reliability_bins(*_world(730))
    assert len(table.bins) == 7
    assert min(row.n for row in table.bins) >= 100
    assert len(reliability_bins(*_world(30)).bins) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.1, 0.25, 0.5, 1.0]), min_size=30, max_size=300),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from(["mass", "width"]),
)
def test_ties_share_a_bin_and_every_row_is_in_one(scores, n_bins, min_rows, strategy) -> None:
    labels = np.arange(len(scores)) % 2
    table = reliability_bins(labels, scores, n_bins=n_bins, min_rows=min_rows, strategy=strategy)
    assert sum(row.n for row in table.bins) == len(scores)
    assert len(table.bins) == 1 or min(row.n for row in table.bins) >= min_rows
    assert len(table.bins) <= n_bins
    edges = [(row.lower, row.upper) for row in table.bins]
    assert all(a[1] < b[0] for a, b in pairwise(edges))
    for row in table.bins:
        inside = (np.array(scores) >= row.lower) & (np.array(scores) <= row.upper)
        assert inside.sum() == row.n
        assert row.observed == pytest.approx(labels[inside].mean())
        assert row.mean_probability == pytest.approx(np.array(scores)[inside].mean())


def test_order_of_rows_does_not_matter() -> None:
    labels, scores = _world(3_000)
    order = np.random.default_rng(1).permutation(3_000)
    assert reliability_bins(labels, scores) == reliability_bins(labels[order], scores[order])


def test_width_bins_give_the_ece_of_mapie() -> None:
    from mapie.metrics.calibration import expected_calibration_error as mapie_ece

    labels, scores = _world(5_000)
    table = reliability_bins(labels, scores, n_bins=10, strategy="width", min_rows=1)
    theirs = mapie_ece(labels, scores, num_bins=10)
    # MAPIE spreads its bins from the lowest to the highest score; ours from 0 to 1.
    assert expected_calibration_error(table).value == pytest.approx(theirs, abs=2e-3)


def test_bins_are_those_of_scikit_learns_calibration_curve() -> None:
    from sklearn.calibration import calibration_curve

    labels, scores = _world(5_000)
    observed, expected = calibration_curve(labels, scores, n_bins=10)
    table = reliability_bins(labels, scores, n_bins=10, strategy="width", min_rows=1)
    assert table.column("observed") == pytest.approx(observed)
    assert table.column("mean_probability") == pytest.approx(expected)


def test_brier_and_log_loss_agree_with_scikit_learn_even_at_zero_and_one() -> None:
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as their_log_loss

    labels, scores = _world(500)
    scores[:4] = [0.0, 1.0, 0.0, 1.0]
    labels[:4] = [False, False, True, True]
    assert brier_score(labels, scores).value == pytest.approx(brier_score_loss(labels, scores))
    assert log_loss(labels, scores).value == pytest.approx(their_log_loss(labels, scores))


def test_bin_intervals_are_clopper_pearson_of_scipy() -> None:
    from scipy.stats import binomtest

    table = reliability_bins(*_world(3_000))
    row = table.bins[0]
    level = 0.95 ** (1 / 15)
    theirs = binomtest(round(row.observed * row.n), row.n).proportion_ci(level, "exact")
    assert row.low + row.mean_probability == pytest.approx(theirs.low)
    assert row.high + row.mean_probability == pytest.approx(theirs.high)


def test_debiased_ece_is_that_of_the_resampling_it_replaces() -> None:
    table = reliability_bins(*_world(5_000))
    share = table.column("n") / table.n
    plug_in = expected_calibration_error(table).value
    noise = np.random.default_rng(0).normal(size=(100_000, 15)) * table.column("standard_error")
    resampled = (np.abs(table.column("deviation") + noise) @ share).mean()
    assert debiased_ece(table) == pytest.approx(max(0.0, 2 * plug_in - resampled), abs=1e-4)


def test_a_known_deviation_is_inside_the_interval_which_narrows_with_n() -> None:
    small, large = (
        expected_calibration_error(_deviation_table(0.02, n)) for n in (15_000, 600_000)
    )
    assert small.low < 0.02 < small.high
    assert large.low < 0.02 < large.high
    assert large.high - large.low < (small.high - small.low) / 4


def test_perfect_bins_have_an_interval_from_zero() -> None:
    estimate = expected_calibration_error(_deviation_table(0.0, 15_000))
    assert estimate.low == 0.0
    assert 0.0 < estimate.high < 0.02


def test_small_deviations_to_one_side_widen_the_upper_bound() -> None:
    scale = np.full(15, 0.001)
    one_side = np.full(15, 0.0008)
    both_sides = one_side * (-1.0) ** np.arange(15)
    error = 0.001 * 15**0.5
    assert ece_upper_bound(one_side, scale, 0.05) == pytest.approx(0.012 + 2.326 * error, rel=1e-3)
    assert ece_upper_bound(both_sides, scale, 0.05) < 0.016


def test_maximum_bin_deviation_spans_the_widest_bin_interval() -> None:
    table = _deviation_table(0.1, 15_000)
    estimate = maximum_bin_deviation(table)
    assert estimate.value == pytest.approx(0.1, abs=1e-3)
    assert estimate.low == max(row.low for row in table.bins)
    assert estimate.high == max(row.high for row in table.bins)


def test_labels_that_follow_from_the_scores_leave_no_interval() -> None:
    table = reliability_bins([0, 1] * 500, [0.0, 1.0] * 500)
    estimate = expected_calibration_error(table)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    assert debiased_ece(table) == 0.0


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([], [], "shape"),
        ([0, 1], [0.5], "2 labels"),
        ([0, 1], [0.5, float("nan")], "nan"),
        ([0, 1], [0.5, float("inf")], "inf"),
        ([0, 1], [0.5, 1.1], "1.1"),
        ([0, 1], [-0.1, 0.5], "-0.1"),
        ([1, 1], [0.5, 0.5], "all 2 labels are 1"),
        ([0, 0], [0.5, 0.5], "all 2 labels are 0"),
        ([0, 2], [0.5, 0.5], "other values"),
        ([0, float("nan")], [0.5, 0.5], "other values"),
        (["a", "b"], [0.5, 0.5], "other values"),
        ([0, 1], ["0.5", "0.5"], "type"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]], "shape"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(labels, scores, said) -> None:
    with pytest.raises(GateError, match=said):
        validate_scores(labels, scores)
    with pytest.raises(GateError):
        reliability_bins(labels, scores)


@pytest.mark.parametrize(
    "wrong", [{"n_bins": 0}, {"min_rows": 0}, {"strategy": "x"}, {"level": 1.0}]
)
def test_arguments_without_meaning_are_refused(wrong) -> None:
    with pytest.raises(GateError, match=next(iter(wrong))):
        reliability_bins(*_world(200), **wrong)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 1e-300, 1e-14, 0.3, 0.5, 1 - 1e-16, 1.0])),
        min_size=2,
        max_size=60,
    ),
    st.integers(1, 5),
)
def test_extreme_scores_still_give_finite_ordered_intervals(rows, n_bins) -> None:
    labels, scores = np.array([y for y, _ in rows]), np.array([p for _, p in rows])
    labels[:2] = [True, False]
    table = reliability_bins(labels, scores, n_bins=n_bins, min_rows=1)
    for estimate in (expected_calibration_error(table), maximum_bin_deviation(table)):
        assert 0 <= estimate.low <= estimate.high <= 1
        assert estimate.low <= estimate.value <= 1
    assert 0 <= debiased_ece(table) <= expected_calibration_error(table).value + 1e-12
    assert np.isfinite(log_loss(labels, scores).value)
