"""The law of a forecast is that of the residuals of other rows."""

import numpy as np
import pytest

from mlops_assets.core.predictive import GRID, PredictiveDistribution, fit_predictive_distribution
from mlops_assets.errors import GateError

NAN, INF = float("nan"), float("inf")


def test_999_residuals_are_the_grid() -> None:
    """Of m residuals, the one of rank k is the quantile of level k / (m + 1)."""
    residuals = np.random.default_rng(0).normal(size=999)
    law = fit_predictive_distribution(residuals, np.zeros(999))
    np.testing.assert_allclose(law.residuals, np.sort(residuals), atol=1e-12)


def test_new_residuals_are_below_a_quantile_with_the_probability_of_its_level() -> None:
    rng = np.random.default_rng(1)
    shares = [
        (fit_predictive_distribution(rng.random(99), np.zeros(99)).residuals).clip(0, 1)
        for _ in range(2_000)
    ]
    inner = slice(9, -9)  # with 99 residuals, 0.01 to 0.99 can be told apart
    np.testing.assert_allclose(np.mean(shares, axis=0)[inner], GRID[inner], atol=0.003)


def test_quantiles_move_with_the_forecast_and_scale_with_the_spread() -> None:
    rng = np.random.default_rng(2)
    spread = 1 + rng.random(5_000)
    law = fit_predictive_distribution(3 + spread * rng.random(5_000), np.full(5_000, 3.0), spread)
    levels = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(
        law.quantile(levels, [0.0, 10.0], [1.0, 4.0]),
        [np.array(levels), 10 + 4 * np.array(levels)],
        atol=0.1,
    )


def test_cdf_and_quantile_undo_each_other() -> None:
    law = fit_predictive_distribution(np.random.default_rng(3).normal(size=4_000), np.zeros(4_000))
    levels = np.linspace(0.002, 0.998, 500)
    values = law.quantile(levels, [5.0], None)[0]
    np.testing.assert_allclose(law.cdf(values, np.full(500, 5.0)), levels, atol=1e-9)


def test_tied_residuals_give_the_middle_of_the_jump() -> None:
    residuals = np.repeat([-1.0, 0.0, 1.0], [200, 500, 299])
    law = fit_predictive_distribution(residuals, np.zeros(999))
    # 200 of 999 are below 0, 700 at most 0: the grid jumps from level 0.201 to 0.700.
    np.testing.assert_allclose(law.cdf([0.0], [0.0]), [(0.201 + 0.7) / 2])
    np.testing.assert_allclose(law.cdf([10.0], [10.0]), [(0.201 + 0.7) / 2])


def test_values_beyond_all_residuals_are_in_the_middle_of_the_tail() -> None:
    law = fit_predictive_distribution(np.arange(999.0), np.zeros(999))
    np.testing.assert_allclose(law.cdf([-1.0, 999.0], [0.0, 0.0]), [0.0005, 0.9995])


def test_pits_of_new_rows_are_uniform() -> None:
    rng = np.random.default_rng(4)
    forecast, spread = rng.normal(size=40_000), 0.5 + rng.random(40_000)
    y = forecast + spread * rng.gumbel(size=40_000)
    half = slice(20_000), slice(20_000, None)
    law = fit_predictive_distribution(*(a[half[0]] for a in (y, forecast, spread)))
    pits = np.sort(law.cdf(*(a[half[1]] for a in (y, forecast, spread))))
    assert np.abs(pits - np.arange(0.5, 20_000) / 20_000).max() < 1.63 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("wrong", [NAN, INF])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    bad, good = np.r_[np.ones(30), wrong], np.ones(31)
    law = fit_predictive_distribution(np.arange(31.0), good)
    for call in (
        lambda: fit_predictive_distribution(bad, good),
        lambda: fit_predictive_distribution(good, bad),
        lambda: fit_predictive_distribution(good, good, bad),
        lambda: law.quantile([0.5], bad),
        lambda: law.cdf(bad, good),
    ):
        with pytest.raises(GateError, match="not all finite"):
            call()


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(GateError, match=r"targets of shape \(30,\)"):
        fit_predictive_distribution(np.ones(30), np.ones(31))
    with pytest.raises(GateError, match=r"spread of shape \(30,\)"):
        fit_predictive_distribution(np.ones(31), np.ones(31), np.ones(30))


def test_text_is_no_number() -> None:
    with pytest.raises(GateError, match="forecasts of shape"):
        fit_predictive_distribution(np.ones(30), np.full(30, "1"))


def test_a_spread_of_zero_is_refused() -> None:
    with pytest.raises(GateError, match="spread as low as 0"):
        fit_predictive_distribution(np.ones(30), np.ones(30), np.zeros(30))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(GateError, match="from 18 rows"):
        fit_predictive_distribution(np.arange(18.0), np.zeros(18))


@pytest.mark.parametrize("level", [0.0, 0.0005, 0.9995, 1.0, NAN])
def test_levels_beyond_the_grid_are_refused(level: float) -> None:
    law = fit_predictive_distribution(np.arange(31.0), np.zeros(31))
    with pytest.raises(GateError, match="levels"):
        law.quantile([level], [0.0])


@pytest.mark.parametrize("wrong", [np.ones(998), GRID[::-1], np.full(999, NAN)])
def test_damaged_distributions_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(GateError, match="residual quantiles"):
        PredictiveDistribution(wrong, 1_000)
