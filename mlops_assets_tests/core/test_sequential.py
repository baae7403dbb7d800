"""Bounds from sums: their closed forms, their limits, and what they refuse."""

from math import inf, isinf, log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.sequential import (
    FEWEST,
    Prior,
    Sums,
    mean_difference,
    more_evidence,
    share_difference,
    split_evidence,
)
from mlops_assets.errors import DataError, DeclarationError

PRIOR = Prior(0.02)
COUNTS = st.integers(0, 3_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def flags(n: int, hits: float) -> Sums:
    return Sums(n, hits, hits)


def log_likelihood(sums: Sums, p: np.ndarray) -> np.ndarray:
    from scipy.special import xlog1py, xlogy

    return xlogy(sums.total, p) + xlog1py(sums.n - sums.total, -p)


@given(st.lists(st.floats(-1e3, 1e3), max_size=30), st.integers(0, 30))
def test_sums_of_several_workers_add_up_to_those_of_one(values: list[float], cut: int) -> None:
    whole, parts = Sums.of(values), Sums.of(values[:cut]) + Sums.of(values[cut:])
    assert parts.n == whole.n
    assert (parts.total, parts.squares) == pytest.approx((whole.total, whole.squares))


def test_sums_know_mean_and_variance() -> None:
    values = [1.0, 2.0, 4.0]
    assert Sums.of(values).mean == pytest.approx(np.mean(values))
    assert Sums.of(values).variance == pytest.approx(np.var(values, ddof=1))
    assert (Sums().mean, Sums().variance) == (0.0, 0.0)


@pytest.mark.parametrize(
    "sums", [(-1, 0.0, 0.0), (1, nan, 1.0), (1, 1.0, inf), (2, 2.0, 1.0), (0, 0.5, 0.5)]
)
def test_sums_of_no_values_are_refused(sums: tuple[int, float, float]) -> None:
    with pytest.raises(DataError, match="observations with the sums"):
        Sums(*sums)


@pytest.mark.parametrize(("n", "hits"), [(1, 0), (10, 10), (300, 7), (5_000, 900)])
def test_a_share_is_bounded_where_the_beta_mixture_exceeds_its_likelihood(
    n: int, hits: int
) -> None:
    from scipy.integrate import quad
    from scipy.stats import beta, binom

    def averaged(a: float, b: float) -> float:
        likely = [hits / n]
        return quad(lambda p: beta.pdf(p, a, b) * binom.pmf(hits, n, p), 0, 1, points=likely)[0]

    weights = (10_000 / 8, 1_000 / 8)
    mixed = sum(averaged(w * 0.02, w * 0.98) for w in weights) + averaged(0.5, 0.5)
    # Without a control its mean may be anything: what is left are the bounds of one mean.
    low, high = share_difference(flags(n, hits), Sums(), PRIOR)
    for end in (low + 1, high):
        if 0 < end < 1:
            assert mixed / 3 / binom.pmf(hits, n, end) == pytest.approx(20, rel=1e-3)


@given(COUNTS, COUNTS)
def test_a_difference_is_bounded_as_a_search_over_both_means_bounds_it(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    canary, control = flags(*one), flags(*other)
    low, high = share_difference(canary, control, PRIOR)
    p = np.linspace(0, 1, 801)
    ratio = PRIOR.log_mixture(canary, control) - (
        log_likelihood(canary, p)[:, None] + log_likelihood(control, p)[None, :]
    )
    found = (p[:, None] - p[None, :])[ratio < log(20)]
    if found.size:
        assert low <= found.min() + 1e-9
        assert high >= found.max() - 1e-9
        assert (low, high) == pytest.approx((found.min(), found.max()), abs=0.01)


@given(COUNTS, COUNTS)
def test_swapping_the_arms_mirrors_the_bounds(one: tuple[int, int], other: tuple[int, int]) -> None:
    low, high = share_difference(flags(*one), flags(*other), PRIOR)
    back = share_difference(flags(*other), flags(*one), PRIOR)
    assert (-high, -low) == pytest.approx(back, abs=1e-7)


def test_without_observations_everything_is_possible() -> None:
    assert share_difference(Sums(), Sums(), PRIOR) == pytest.approx((-1.0, 1.0))


def test_bounds_become_narrow() -> None:
    low, high = share_difference(flags(10**7, 2 * 10**5), flags(10**7, 2 * 10**5), PRIOR)
    assert -0.0005 < low < 0 < high < 0.0005


def test_a_wrong_expectation_costs_width_but_less_than_half() -> None:
    sums = flags(10_000, 3_000), flags(10_000, 3_000)
    right, wrong = (share_difference(*sums, Prior(p))[1] for p in (0.3, 0.001))
    assert right < wrong < 1.5 * right


@pytest.mark.parametrize("sums", [Sums(10, -1.0, 1.0), Sums(10, 11.0, 15.0), Sums(10, 5.0, 6.0)])
def test_sums_that_shares_cannot_have_are_refused(sums: Sums) -> None:
    with pytest.raises(DataError, match="expected: values from 0 to 1"):
        share_difference(sums, flags(10, 1), PRIOR)
    with pytest.raises(DataError):
        share_difference(flags(10, 1), sums, PRIOR)


@pytest.mark.parametrize("prior", [(0.0, 1), (1.0, 1), (0.5, 0), (nan, 1)])
def test_a_prior_outside_of_its_range_is_refused(prior: tuple[float, int]) -> None:
    with pytest.raises(DeclarationError):
        Prior(*prior)


@pytest.mark.parametrize("size", [FEWEST, 2_000, 10**6])
def test_a_mean_is_bounded_by_the_published_formula(size: int) -> None:
    # Waudby-Smith et al. 2021, theorem 2.2: t observations, of variance 2 (1.5 + 2.5).
    canary, control = Sums(size, 0.0, (size - 1) * 1.5), Sums(size, 0.0, (size - 1) * 2.5)
    t, variance, rho2 = 2 * size, 2 * (1.5 + 2.5), 8.0 / (2 * 10_000)
    half = 2 * (t * rho2 + 1) / (t**2 * rho2) * log((t * rho2 + 1) ** 0.5 / 0.05) * variance
    low, high = mean_difference(canary, control)
    assert (-low, high) == pytest.approx([half**0.5] * 2)


@pytest.mark.parametrize(("n", "spread"), [(FEWEST - 1, 1.0), (0, 0.0), (1, 0.0), (10**6, 0.0)])
def test_few_or_equal_values_say_nothing_about_a_mean(n: int, spread: float) -> None:
    low, high = mean_difference(Sums(n, 0.0, n * spread), Sums(n, 0.0, n * spread))
    assert isinf(low)
    assert isinf(high)


@pytest.mark.parametrize("counts", [(0, 0), (30, 70), (600, 400)])
def test_evidence_on_a_split_is_that_of_the_beta_binomial(counts: tuple[int, int]) -> None:
    from scipy.stats import betabinom, binom

    n = sum(counts)
    exact = betabinom.logpmf(counts[0], n, 200, 800) - binom.logpmf(counts[0], n, 0.2)
    assert split_evidence(counts, [1, 4]) == pytest.approx(exact)


def test_a_split_off_by_a_point_is_found_with_enough_entities() -> None:
    assert split_evidence([51_000, 49_000], [1, 1]) > log(1_000)
    assert split_evidence([50_100, 49_900], [1, 1]) < 0


def test_a_split_of_three_arms_is_judged_as_one() -> None:
    assert split_evidence([3_000, 3_000, 3_000], [1, 1, 1]) < 0
    assert split_evidence([3_000, 3_300, 2_700], [1, 1, 1]) > log(1_000)


@pytest.mark.parametrize(
    ("counts", "shares"), [([1], [1, 1]), ([], []), ([1, 1], [1, 0]), ([-1, 1], [1, 1])]
)
def test_a_split_without_shares_is_refused(counts: list[int], shares: list[float]) -> None:
    with pytest.raises(DeclarationError, match="a count from 0"):
        split_evidence(counts, shares)


@given(st.integers(0, 200), st.integers(0, 200))
def test_evidence_on_more_errors_is_the_average_over_all_unfair_coins(more: int, less: int) -> None:
    q = (np.arange(100_000) + 0.5) / 200_000 + 0.5
    terms = more * np.log(2 * q) + less * np.log(2 - 2 * q)
    expected = float(np.log(np.mean(np.exp(terms - terms.max()))) + terms.max())
    found = more_evidence(Sums(500, more, more), Sums(500, less, less))
    assert found == pytest.approx(expected, abs=0.01)


def test_evidence_on_more_errors_grows_with_them_and_needs_no_rows_without_any() -> None:
    rare = more_evidence(Sums(10**6, 30, 30), Sums(10**6, 10, 10))
    assert rare == more_evidence(Sums(30, 30, 30), Sums(10, 10, 10)) > 0
    assert more_evidence(Sums(500, 40, 40), Sums(500, 10, 10)) > rare
    assert more_evidence(Sums(500, 10, 10), Sums(500, 30, 30)) < 0
    assert more_evidence(Sums(10**5, 10, 10), Sums(10**5, 9_000, 9_000)) < -1_000
    assert more_evidence(Sums(), Sums()) == 0


def test_evidence_on_more_errors_needs_values_from_0_to_1() -> None:
    with pytest.raises(DataError, match="values from 0 to 1"):
        more_evidence(Sums(2, 3.0, 5.0), Sums())
