"""Tests of a group of rows: agreement with exact laws, symmetry, multiplicity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.significance import (
    coverage_test,
    false_discoveries_held,
    mean_deviation_test,
)


def _flags(hits: int, n: int) -> np.ndarray:
    return np.arange(n) < hits


@pytest.mark.parametrize(("n", "p"), [(500, 0.01), (500, 0.3), (3_000, 0.5), (2_000, 0.97)])
@pytest.mark.parametrize("distance", [-3.5, -1.0, 1.0, 3.5])
def test_equal_scores_give_the_binomial_test(n, p, distance) -> None:
    from scipy.stats import binom

    hits = round(max(0, n * p + distance * (n * p * (1 - p)) ** 0.5))
    exact = min(1.0, 2 * min(binom.cdf(hits, n, p), binom.sf(hits - 1, n, p)))
    found = mean_deviation_test(_flags(hits, n), np.full(n, p))
    assert found.p_value == pytest.approx(exact, rel=0.4)
    assert found.p_value > 0.99 * exact


def test_unequal_scores_give_the_poisson_binomial_test() -> None:
    scores = np.concatenate([np.full(300, 0.02), np.full(200, 0.6), np.full(100, 0.95)])
    law = np.ones(1)
    for p in scores:
        law = np.convolve(law, [1 - p, p])
    for hits in (190, 200, 220, 245):
        exact = min(1.0, 2 * min(law[: hits + 1].sum(), law[hits:].sum()))
        found = mean_deviation_test(_flags(hits, 600), scores)
        assert found.p_value == pytest.approx(exact, rel=0.05)


def test_the_interval_of_equal_scores_is_that_of_clopper_and_pearson() -> None:
    from scipy.stats import binomtest

    found = mean_deviation_test(_flags(320, 1_000), np.full(1_000, 0.3), level=0.99).estimate
    exact = binomtest(320, 1_000).proportion_ci(0.99, "exact")
    assert found.value == pytest.approx(0.02)
    # Below the score the variance of the score is kept, which is the larger.
    assert found.low == pytest.approx(exact.low - 0.3, abs=1e-3)
    assert found.low < exact.low - 0.3
    assert found.high == pytest.approx(exact.high - 0.3, abs=1e-4)


def test_scores_of_zero_and_one_leave_no_doubt() -> None:
    scores = np.repeat([0.0, 1.0], 300)
    right = mean_deviation_test(scores == 1, scores)
    assert (right.p_value, right.estimate.value) == (1.0, 0.0)
    assert mean_deviation_test(scores == 2, scores).p_value == 0.0


def test_flipping_classes_mirrors_the_test() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 9, 800)
    flags = rng.random(800) < scores
    there, back = mean_deviation_test(flags, scores), mean_deviation_test(~flags, 1 - scores)
    assert back.p_value == pytest.approx(there.p_value)
    assert back.estimate.low == pytest.approx(-there.estimate.high)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_any_rows_give_a_p_value_and_an_ordered_interval(rows) -> None:
    flags, scores = np.array([y for y, _ in rows]), np.array([p for _, p in rows])
    found = mean_deviation_test(flags, scores)
    assert 0 <= found.p_value <= 1
    assert -1 <= found.estimate.low <= found.estimate.value <= found.estimate.high <= 1


@pytest.mark.parametrize(("hits", "n", "m"), [(870, 1_000, 500), (455, 500, 3_000), (9, 10, 99)])
def test_coverage_p_values_are_those_of_the_beta_binomial(hits, n, m) -> None:
    from scipy.stats import betabinom

    rank = np.ceil((m + 1) * 0.9)
    law = betabinom(n, rank, m + 1 - rank)
    exact = min(1.0, 2 * min(law.cdf(hits), law.sf(hits - 1)))
    found = coverage_test(hits, n, confidence=0.9, n_conformalize=m)
    assert found.p_value == pytest.approx(exact, rel=1e-6)
    assert found.estimate == coverage_estimate(hits, n, m)


def test_false_discoveries_are_held_as_scipy_holds_them() -> None:
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(200) ** 3
    assert (false_discoveries_held(p, 0.1) == (false_discovery_control(p) <= 0.1)).all()
    assert false_discoveries_held([]).tolist() == []
