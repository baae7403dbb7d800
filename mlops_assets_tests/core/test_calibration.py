"""Reliability bins and ECE, with and without weights: closed forms, agreement, bad input."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.calibration import (
    ReliabilityBins,
    debiased_ece,
    expected_calibration_error,
    maximum_bin_deviation,
    reliability_bins,
    validate_scores,
)
from mlops_assets.core.intervals import clopper_pearson, ece_upper_bound
from mlops_assets.core.proper_scores import log_loss
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


def _weighted_world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, scores = _world(n, seed)
    return labels, scores, np.random.default_rng(seed + 1).lognormal(size=n)


@pytest.mark.parametrize("strategy", ["mass", "width"])
@pytest.mark.parametrize("weight", [1, 1.0, 0.3, True])
def test_equal_weights_change_nothing(strategy, weight) -> None:
    labels, scores = _world(3_000)
    plain = reliability_bins(labels, scores, strategy=strategy)
    weights = np.full(3_000, weight)
    assert reliability_bins(labels, scores, strategy=strategy, weights=weights) == plain


@pytest.mark.parametrize("strategy", ["mass", "width"])
def test_nearly_equal_weights_change_nearly_nothing(strategy) -> None:
    labels, scores = _world(3_010)
    weights = 1 + 1e-9 * np.random.default_rng(0).random(3_010)
    plain = reliability_bins(labels, scores, strategy=strategy)
    table = reliability_bins(labels, scores, strategy=strategy, weights=weights)
    for name in ("n", "observed", "deviation", "low", "high", "standard_error", "share"):
        assert table.column(name) == pytest.approx(plain.column(name), rel=1e-6, abs=1e-9)
    assert debiased_ece(table) == pytest.approx(debiased_ece(plain), rel=1e-6)


@pytest.mark.parametrize("strategy", ["mass", "width"])
def test_rows_of_weight_zero_do_not_count(strategy) -> None:
    labels, scores, weights = _weighted_world(3_000)
    weights[::3] = 0.0
    some = weights > 0
    table = reliability_bins(labels, scores, strategy=strategy, weights=weights)
    assert table == reliability_bins(
        labels[some], scores[some], strategy=strategy, weights=weights[some]
    )
    mask = reliability_bins(labels, scores, strategy=strategy, weights=some)
    assert mask == reliability_bins(labels[some], scores[some], strategy=strategy)


def test_whole_weights_give_the_means_of_repeated_rows_on_fewer_effective_rows() -> None:
    labels, scores = _world(400)
    times = np.random.default_rng(0).integers(1, 4, 400)
    table = reliability_bins(labels, scores, n_bins=4, strategy="width", weights=times)
    copies = reliability_bins(
        labels.repeat(times), scores.repeat(times), n_bins=4, strategy="width", min_rows=1
    )
    assert len(table.bins) < 4  # bins of a hundred effective rows
    fine = reliability_bins(labels, scores, n_bins=4, strategy="width", weights=times, min_rows=1)
    for name in ("mean_probability", "observed", "deviation", "share"):
        assert fine.column(name) == pytest.approx(copies.column(name))
    assert fine.effective_n == int(times.sum() ** 2 / (times**2).sum())
    assert (fine.column("effective_n") <= fine.column("n")).all()
    assert (
        fine.column("high") - fine.column("low") > copies.column("high") - copies.column("low")
    ).all()


def test_weighted_mass_bins_hold_about_equal_weight_and_enough_effective_rows() -> None:
    table = reliability_bins(*_weighted_world(20_000)[:2], weights=_weighted_world(20_000)[2])
    assert table.column("share") == pytest.approx(np.full(15, 1 / 15), rel=0.02)
    few = reliability_bins(*_weighted_world(900)[:2], weights=_weighted_world(900)[2])
    assert 1 < len(few.bins) < 9
    assert few.column("effective_n").min() >= 100
    assert expected_calibration_error(few).n == few.effective_n < 500


def test_a_cut_between_equal_scores_moves_to_the_nearer_end_by_weight() -> None:
    scores, labels = [0.1, 0.5, 0.5, 0.9], [0, 1, 0, 1]
    plain = reliability_bins(labels, scores, n_bins=2, min_rows=1)
    assert [row.n for row in plain.bins] == [1, 3]  # both ends are as near: the lower
    tied, weights = [0.1, 0.5, 0.5, 0.5, 0.5, 0.9], [3, 6, 1, 1, 1, 6]
    heavy = reliability_bins([0, 1] * 3, tied, n_bins=2, min_rows=1, weights=weights)
    assert [row.n for row in heavy.bins] == [5, 1]


def test_few_effective_rows_make_few_bins_of_about_equal_weight() -> None:
    labels, scores = _world(3_000)
    weights = np.where(np.random.default_rng(1).random(3_000) < 0.1, 40.0, 1.0)
    table = reliability_bins(labels, scores, weights=weights)
    assert 2 < len(table.bins) < 5
    assert table.column("share").max() < 1.3 * table.column("share").min()


def test_bins_of_one_heavy_row_join_their_neighbours() -> None:
    labels, scores = _world(3_000)
    weights = np.ones(3_000)
    weights[scores.argmin()] = 300.0
    table = reliability_bins(labels, scores, weights=weights, n_bins=10, strategy="width")
    assert table.column("effective_n").min() >= 100
    assert len(table.bins) < 10


def test_bounds_of_counts_that_are_not_whole_lie_between_those_of_whole_ones() -> None:
    n = np.full(5, 10.0)
    low, high = clopper_pearson(np.array([0.0, 0.5, 1.0, 9.5, 10.0]), n, 0.05)
    assert 0 == low[0] < low[1] < low[2] / 10
    assert 1 == high[4] > high[3]
    assert 1 - high[3] == pytest.approx(low[1])


def test_a_weighted_standard_error_is_at_least_that_of_the_weighted_sum() -> None:
    labels, scores, weights = _weighted_world(100_000)
    table = reliability_bins(labels, scores, weights=weights)
    place = np.searchsorted(table.column("upper"), scores)
    share = weights / np.bincount(place, weights)[place]
    exact = np.bincount(place, share**2 * scores * (1 - scores)) ** 0.5
    assert (table.column("standard_error") >= exact - 1e-12).all()
    assert table.column("standard_error") == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_only_the_ratios_of_weights_count(scale) -> None:
    labels, scores, weights = _weighted_world(2_000)
    plain, scaled = (
        reliability_bins(labels, scores, weights=w) for w in (weights, weights * scale)
    )
    assert scaled.column("deviation") == pytest.approx(plain.column("deviation"))
    assert scaled.column("low") == pytest.approx(plain.column("low"))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], "shape"),
        ([[1.0, 1.0, 1.0]], "shape"),
        (["1", "1", "1"], "type"),
        ([1.0, 1.0, -0.1], "-0.1"),
        ([1.0, 1.0, float("nan")], "nan"),
        ([1.0, 1.0, float("inf")], "inf"),
        ([0.0, 0.0, 0.0], "0.0 to 0.0"),
        ([0.0, 1.0, 2.0], "all 2 labels are 1"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, said) -> None:
    with pytest.raises(GateError, match=said):
        reliability_bins([0, 1, 1], [0.5, 0.5, 0.5], weights=weights)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([0.0, 1e-300, 0.3, 0.3, 0.7, 1.0]),
            st.sampled_from([1e-300, 1e-9, 1.0, 1.0, 7.0, 1e9]),
        ),
        min_size=2,
        max_size=60,
    ),
    st.integers(1, 5),
    st.sampled_from(["mass", "width"]),
)
def test_extreme_weights_still_give_finite_ordered_intervals(rows, n_bins, strategy) -> None:
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    labels[:2], weights[:2] = [True, False], [1e9, 5e8]
    table = reliability_bins(
        labels, scores, weights=weights, n_bins=n_bins, strategy=strategy, min_rows=1
    )
    assert table.column("share").sum() == pytest.approx(1.0)
    for estimate in (expected_calibration_error(table), maximum_bin_deviation(table)):
        assert 0 <= estimate.low <= estimate.high <= 1 + 1e-12


def test_numbers_without_weights_stay_what_they_were() -> None:
    """Written down before weights and the one packed sort came."""
    i = np.arange(10_000)
    scores = ((7_919 * i % 10_007) / 10_007) ** 2
    table = reliability_bins((104_729 * i % 9_973) / 9_973 < scores + 0.03, scores)
    ece, worst = expected_calibration_error(table), maximum_bin_deviation(table)
    found = (ece.value, ece.low, ece.high, worst.value, worst.low, worst.high, debiased_ece(table))
    assert found == pytest.approx(
        (
            0.0307416880223416,
            0.024021918937019437,
            0.03967105621826464,
            0.03585266974402557,
            0.01583851535099339,
            0.09275640388949125,
            0.030354326718086133,
        ),
        rel=1e-10,
        abs=0,
    )
