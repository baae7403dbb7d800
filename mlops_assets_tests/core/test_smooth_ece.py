"""Smooth ECE: closed forms, the definition by brute force, weights, bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.smooth_ece import CELLS, _Grid, _smooth, smooth_ece
from mlops_assets.errors import GateError


def _world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 2, n)
    return rng.random(n) < scores, scores


def _by_definition(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """All pairs of rows and evaluation points, no grid for the scores; halving for the bandwidth.

    Blasiok and Nakkiran 2023: the mean over t of |E[(y - f) K(t, f)]|, K reflected at 0 and 1.
    """
    t = (np.arange(1_500) + 0.5) / 1_500
    images = [-scores, scores, 2 - scores]

    def error(width: float) -> float:
        kernel = sum(np.exp(-((t[:, None] - f) ** 2) / (2 * width**2)) for f in images)
        kernel /= width * np.sqrt(2 * np.pi)
        return float(np.abs(kernel @ (weights * (labels - scores))).mean() / weights.sum())

    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return low


@pytest.mark.parametrize("shift", [0.0, 0.02, -0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_value_is_that_of_the_definition(shift, seed) -> None:
    labels, scores = _world(600, seed)
    moved = (scores + shift).clip(0, 1)
    expected = _by_definition(labels, moved, np.ones(600))
    assert smooth_ece(labels, moved).value == pytest.approx(expected, rel=2e-3)


def test_the_weighted_value_is_that_of_the_definition() -> None:
    labels, scores = _world(600)
    weights = np.random.default_rng(1).lognormal(size=600)
    found = smooth_ece(labels, scores, weights=weights)
    assert found.value == pytest.approx(_by_definition(labels, scores, weights), rel=2e-3)
    assert found.n == int(weights.sum() ** 2 / (weights**2).sum())


@pytest.mark.parametrize("shift", [0.01, 0.05, -0.05])
def test_a_shift_of_all_scores_is_the_smooth_ece(shift) -> None:
    scores = np.tile(np.linspace(0.1, 0.9, 400), 400)
    place = np.repeat((np.arange(400) + 0.5) / 400, 400)
    found = smooth_ece(place < scores + shift, scores)
    assert found.value == pytest.approx(abs(shift), rel=0.02)
    assert found.low < abs(shift) < found.high


def test_deviations_that_cancel_within_the_bandwidth_count_for_little() -> None:
    """Two scores 0.002 apart, one 0.3 too high, one 0.3 too low: useless apart, right together."""
    scores = np.repeat([0.499, 0.501], 1_000)
    labels = np.concatenate([np.arange(1_000) % 5 < 1, np.arange(1_000) % 5 < 4])
    assert smooth_ece(labels, scores).value < 0.03


def test_labels_that_follow_from_the_scores_leave_no_interval() -> None:
    found = smooth_ece([0, 1] * 500, [0.0, 1.0] * 500)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    wrong = smooth_ece([1, 0] * 500, [0.0, 1.0] * 500)
    assert 0.2 < wrong.low <= wrong.value <= wrong.high <= 1


def test_the_interval_narrows_with_n() -> None:
    small, large = (smooth_ece(*_world(n)) for n in (2_000, 200_000))
    assert small.low == large.low == 0.0
    assert large.high < small.high / 4


def test_order_of_rows_and_equal_weights_do_not_matter() -> None:
    labels, scores = _world(2_000)
    order = np.random.default_rng(1).permutation(2_000)
    plain = smooth_ece(labels, scores)
    assert smooth_ece(labels[order], scores[order]).value == pytest.approx(plain.value, rel=1e-8)
    assert smooth_ece(labels, scores, weights=np.full(2_000, 7.0)) == plain


def test_whole_weights_give_the_value_of_repeated_rows_and_a_wider_interval() -> None:
    labels, scores = _world(1_000)
    times = np.random.default_rng(1).integers(1, 5, 1_000)
    found = smooth_ece(labels, scores, weights=times)
    copies = smooth_ece(labels.repeat(times), scores.repeat(times))
    assert found.value == pytest.approx(copies.value, rel=1e-8)
    assert found.high > copies.high


def test_weights_widen_the_interval() -> None:
    labels, scores = _world(5_000)
    weights = np.random.default_rng(1).lognormal(size=5_000)
    weighted, plain = smooth_ece(labels, scores, weights=weights), smooth_ece(labels, scores)
    assert weighted.high > 1.2 * plain.high


def test_a_shift_is_bounded_by_the_mean_residual_even_where_noise_hides_its_pattern() -> None:
    scores = np.tile(np.linspace(0.1, 0.9, 50), 40)
    place = np.repeat((np.arange(40) + 0.5) / 40, 50)
    shift, error = 0.05, (scores * (1 - scores)).mean() ** 0.5 / 2_000**0.5
    found = smooth_ece(place < scores + shift, scores)
    assert found.low == pytest.approx(shift - 1.75 * error, abs=3e-3)


@pytest.mark.parametrize("bandwidth", [0.02, 0.1])
@pytest.mark.parametrize("center", [0.0, 0.5, 1.0])
def test_the_noise_of_smoothed_cells_is_known_at_the_walls_too(bandwidth, center) -> None:
    cells = 256
    noise = np.exp(-((np.arange(cells) / cells - center) ** 2) / 0.002)
    kernel = np.column_stack([_smooth(row, bandwidth) for row in np.eye(cells)])
    exact = np.sqrt(kernel**2 @ noise).sum()
    assert _Grid(noise, noise).spread(bandwidth) == pytest.approx(exact, rel=0.02)


def test_flipping_classes_mirrors_the_grid() -> None:
    labels, scores = _world(3_000)
    there, back = smooth_ece(labels, scores), smooth_ece(~labels, 1 - scores)
    for name in ("value", "low", "high"):
        assert getattr(back, name) == pytest.approx(getattr(there, name), abs=2 / CELLS)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 1e-300, 0.3, 0.5, 1 - 1e-16, 1.0])),
        min_size=2,
        max_size=60,
    ),
)
def test_extreme_scores_still_give_finite_ordered_intervals(rows) -> None:
    labels, scores = np.array([y for y, _ in rows]), np.array([p for _, p in rows])
    labels[:2] = [True, False]
    found = smooth_ece(labels, scores)
    assert 0 <= found.low <= found.high <= 1
    assert found.low <= found.value <= 1


def test_rows_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(GateError, match="nan"):
        smooth_ece([0, 1], [0.5, float("nan")])
    with pytest.raises(GateError, match="weights"):
        smooth_ece([0, 1], [0.5, 0.5], weights=[1.0, -1.0])
    with pytest.raises(GateError, match="level"):
        smooth_ece([0, 1], [0.5, 0.5], level=1.0)
