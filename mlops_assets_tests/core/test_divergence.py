"""Distances against closed forms and row by row, bounds that hold, and exact laws of chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.divergence import (
    Cells,
    cells_of,
    chance_of_psi,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    psi_estimate,
    wasserstein,
)
from mlops_assets.core.profile import CategoryBins, CategoryProfile, NumberBins, NumberProfile

COUNTS = st.lists(st.integers(0, 10_000), min_size=4, max_size=4).filter(any)
SAMPLE = st.lists(st.floats(-100, 100), min_size=1, max_size=60)


def pair(reference: np.ndarray, window: np.ndarray) -> tuple[NumberProfile, NumberProfile]:
    bins = NumberBins.of(reference)
    return NumberProfile.of(reference, bins), NumberProfile.of(window, bins)


def test_psi_of_many_rows_is_its_definition() -> None:
    q, p = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    exact = ((p - q) * np.log(p / q)).sum()
    assert psi(1e7 * q, 1e7 * p) == pytest.approx(exact, rel=1e-5)


@given(COUNTS, COUNTS)
def test_psi_is_finite_and_not_negative(r: list[int], w: list[int]) -> None:
    assert 0 <= psi(r, w) < np.inf


@given(COUNTS, st.integers(1, 5))
def test_equal_shares_have_no_distance(r: list[int], times: int) -> None:
    assert jensen_shannon(r, [times * x for x in r]) == pytest.approx(0, abs=1e-7)


@given(COUNTS, COUNTS)
def test_jensen_shannon_is_scipys(r: list[int], w: list[int]) -> None:
    from scipy.spatial.distance import jensenshannon

    assert jensen_shannon(r, w) == pytest.approx(jensenshannon(r, w, base=2), abs=1e-6)
    assert jensen_shannon(r, w) == pytest.approx(jensen_shannon(w, r))


def test_a_shift_of_a_normal_column_has_its_known_psi() -> None:
    rng = np.random.default_rng(0)
    cells = cells_of(*pair(rng.normal(size=200_000), rng.normal(0.5, size=200_000)))
    # The shift of d standard deviations has d squared; bins lose a little of it.
    assert psi_estimate(*cells.with_unseen).value == pytest.approx(0.25, rel=0.04)


def test_chance_is_taken_off_the_psi() -> None:
    rng, values, raw = np.random.default_rng(0), [], []
    for _ in range(200):
        w = rng.multinomial(500, np.full(10, 0.1))
        values.append(psi_estimate(np.full(10, 1e6), w).value)
        raw.append(psi(np.full(10, 1e6), w))
    assert np.mean(raw) == pytest.approx(9 / 500, rel=0.1)
    assert np.mean(values) < 0.3 * np.mean(raw)


@given(SAMPLE, SAMPLE)
def test_bounds_of_wasserstein_hold_that_of_the_rows(a: list[float], b: list[float]) -> None:
    from scipy.stats import wasserstein_distance

    found = wasserstein(*pair(np.array(a), np.array(b)))
    if np.std(a) < 1e-3:
        return
    assert found is not None
    exact = wasserstein_distance(a, b) / np.std(a)
    slack = 1e-7 * (1 + exact)
    assert found.low - slack <= exact <= found.high + slack
    assert found.low <= found.value <= found.high


def test_wasserstein_of_smooth_columns_is_close_to_that_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    found = wasserstein(*pair(rng.normal(size=20_000), rng.normal(0, 1.5, size=20_000)))
    assert found is not None
    assert found.value == pytest.approx(0.5 * (2 / np.pi) ** 0.5, rel=0.2)


def test_a_constant_reference_has_no_unit_for_wasserstein() -> None:
    assert wasserstein(*pair(np.ones(10), np.arange(10.0))) is None


@given(SAMPLE, SAMPLE)
def test_bounds_of_kolmogorov_smirnov_hold_that_of_the_rows(a: list[float], b: list[float]) -> None:
    found, p_value = kolmogorov_smirnov(*pair(np.array(a), np.array(b)))
    f, g = (np.searchsorted(np.sort(x), [*a, *b], "right") / len(x) for x in (a, b))
    assert found.low - 1e-12 <= np.abs(f - g).max() <= found.high + 1e-12
    assert 0 <= p_value <= 1


def test_the_p_value_of_kolmogorov_smirnov_is_that_of_the_rows_or_larger() -> None:
    from scipy.stats import kstwobign

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=2_000), rng.normal(0.08, size=2_000)
    found, p_value = kolmogorov_smirnov(*pair(a, b))
    assert p_value == pytest.approx(kstwobign.sf(found.value * 1000**0.5), rel=1e-6)


@pytest.mark.parametrize("unseen", [1, 4, 12])
def test_rows_out_of_range_have_the_exact_law_of_extremes(unseen: int) -> None:
    from scipy.stats import betabinom

    n, m, gaps = 1_000, 1_000, 2
    r = np.full(4, m / 4)
    w = np.full(4, (n - unseen) / 4)
    exact = betabinom.sf(unseen - 1, n, gaps, m + 1 - gaps)
    assert chance_of_psi(Cells(r, w, unseen, gaps)) == pytest.approx(min(1.0, 2 * exact), rel=1e-6)


def test_a_row_out_of_range_is_no_surprise_and_many_are() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(1_000)
    few, many = (
        cells_of(*pair(reference, np.r_[rng.random(1_000), np.full(k, 9.0)])) for k in (1, 30)
    )
    assert (few.unseen, few.gaps) == (1, 3)
    assert chance_of_psi(few) > 0.05
    assert chance_of_psi(many) < 1e-6


def test_a_simulated_p_value_is_the_chi_squares_where_both_hold() -> None:
    from scipy.stats import chi2

    r = np.full(10, 49.0)  # just few enough to be simulated
    for w in ([57, 41, 49, 49, 49, 49, 49, 49, 57, 41], [64, 34, 60, 38, 49, 49, 49, 49, 49, 49]):
        x = psi(r, w) / (2 / 490 * (490 / 495) ** 2)
        assert chance_of_psi(Cells(r, np.array(w, float), 0, 2)) == pytest.approx(
            min(1.0, 2 * chi2.sf(x, 9)), rel=0.25
        )


def test_a_p_value_is_the_same_each_time() -> None:
    cells = Cells(np.full(10, 20.0), np.arange(11.0, 31.0, 2), 0, 2)
    assert chance_of_psi(cells) == chance_of_psi(cells)


def test_cells_that_expect_few_rows_are_joined_with_their_neighbours() -> None:
    reference, window = pair(np.arange(2_000.0), np.arange(0, 2_000.0, 40))
    cells = cells_of(reference, window)
    assert cells.reference.tolist() == [200.0] * 10
    assert cells.window.tolist() == [5.0] * 10


def test_the_rarest_categories_are_joined_whatever_they_are_called() -> None:
    bins = CategoryBins(("a", "b", "c", "d", "e"))
    reference = CategoryProfile.of({"a": 2, "b": 900, "c": 3, "d": 500, "e": 1}, bins)
    window = CategoryProfile.of({"b": 600, "d": 806}, bins)
    cells = cells_of(reference, window)
    assert cells.reference.tolist() == [6.0, 500.0, 900.0]
    assert cells.window.tolist() == [0.0, 806.0, 600.0]


def test_categories_that_were_seen_once_let_new_ones_be_expected() -> None:
    bins = CategoryBins(tuple("abcdefgh"))
    counts = {"a": 1_000, **dict.fromkeys("bcdefgh", 1)}
    window = CategoryProfile.of({"a": 1_000, "x": 4, "y": 3}, bins)
    cells = cells_of(CategoryProfile.of(counts, bins), window)
    assert (cells.unseen, cells.gaps) == (7, 9)
    assert chance_of_psi(cells) > 0.05


def test_rare_categories_of_a_reference_that_lists_not_all_are_no_new_ones() -> None:
    bins = CategoryBins(("a",), complete=False)
    reference = CategoryProfile.of({"a": 900, "z": 100}, bins)
    cells = cells_of(reference, CategoryProfile.of({"a": 900, "y": 100}, bins))
    assert cells.unseen == 0
    assert psi_estimate(*cells.with_unseen).value == 0


def test_nulls_that_are_rare_in_the_reference_are_joined_with_the_cell_before() -> None:
    values = np.r_[np.arange(2_000.0), [np.nan] * 4]
    cells = cells_of(*pair(values, np.r_[np.arange(1_000.0), [np.nan] * 50]))
    assert cells.reference.tolist() == [100.0] * 19 + [104.0]
    assert cells.window[-1] == 50
