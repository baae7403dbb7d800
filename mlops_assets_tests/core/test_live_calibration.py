"""The calibration error of a canary, with bounds that hold at every look."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.live_calibration import EDGES, bin_of, calibration_bounds, reading, sums_of
from mlops_assets.core.sequential import Sums

ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(ROWS)
def test_the_error_is_the_largest_mean_over_all_signs_of_the_bins(
    rows: list[tuple[float, int]],
) -> None:
    bins = sums_of([score for score, _ in rows], [label for _, label in rows])
    used = sorted(bins)[:8]
    kept = {number: bins[number] for number in used}
    n = sum(one.n for one in kept.values())
    largest = max(
        sum(sign * kept[number].total for sign, number in zip(signs, used, strict=True)) / n
        for signs in itertools.product((-1, 1), repeat=len(used))
    )
    assert calibration_bounds(kept, 0.05)[0] == pytest.approx(largest)


@given(st.floats(0, 1))
def test_a_score_is_in_the_bin_between_its_edges(score: float) -> None:
    ends = (-1.0, *EDGES, 2.0)
    number = bin_of(score)
    assert ends[number] <= score < ends[number + 1]


def test_without_rows_or_with_few_it_could_be_anything() -> None:
    assert calibration_bounds({}, 0.05) == (0.0, 0.0, 1.0)
    assert calibration_bounds({3: Sums(99, 40.0, 30.0)}, 0.05)[1:] == (0.0, 1.0)
    assert reading({}, 0.05, 0.05).finding == "open"


def test_rows_that_are_all_alike_are_not_believed_at_once() -> None:
    _, low, high = calibration_bounds({0: Sums(100, 0.0, 0.0)}, 0.05)
    assert low == 0.0
    assert high > 0.05


def test_more_rows_narrow_the_bounds_and_a_smaller_level_widens_them() -> None:
    def high(n: int, alpha: float) -> float:
        return calibration_bounds({5: Sums(n, 0.0, n * 0.2)}, alpha)[2]

    assert high(1_000, 0.05) > high(10_000, 0.05) > high(100_000, 0.05)
    assert high(10_000, 0.01) > high(10_000, 0.05)


@pytest.mark.parametrize(
    ("gap", "finding"), [(0.0, "no harm"), (0.2, "harm"), (-0.2, "harm"), (0.05, "open")]
)
def test_the_finding_is_what_the_bounds_say(gap: float, finding: str) -> None:
    scores = np.random.default_rng(0).uniform(0.3, 0.7, 20_000)
    labels = np.random.default_rng(1).random(20_000) < scores - gap
    bins = sums_of(scores.tolist(), labels.astype(int).tolist())
    assert reading(bins, 0.05, 0.00625).finding == finding
