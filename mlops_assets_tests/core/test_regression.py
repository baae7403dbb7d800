"""Quantile calibration: shares, deviations and their simultaneous bounds in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core.intervals import clopper_pearson
from mlops_assets.core.regression import (
    LEVELS,
    QuantileCalibration,
    debiased_qce,
    maximum_quantile_deviation,
    quantile_calibration,
    quantile_calibration_error,
)
from mlops_assets.errors import GateError

NAN = float("nan")


def _found(n: int, m: int | None, deviation: float = 0.0, **change) -> QuantileCalibration:
    """Targets of which exactly the share level + deviation lies below each quantile."""
    y = (np.arange(n) + 0.5) / n
    levels = np.array(LEVELS) + deviation
    return quantile_calibration(y, np.tile(levels, (n, 1)), n_calibrate=m, **change)


def _joint_alpha(found: QuantileCalibration) -> float:
    """The alpha at which the bounds of the middle level were cut, found by search."""
    from scipy.optimize import brentq

    row, n = found.shares[9], float(found.n)

    def gap(alpha: float) -> float:
        return clopper_pearson(np.array([row.observed * n]), np.array([n]), alpha)[0][0] - (
            row.low + row.level
        )

    return brentq(gap, 1e-6, 0.2)


def test_shares_below_are_counted_with_equality() -> None:
    found = quantile_calibration(
        [1.0, 2.0, 3.0, 4.0], [[2.0, 3.5]] * 4, n_calibrate=None, levels=[0.6, 0.7]
    )
    assert [row.observed for row in found.shares] == [0.5, 0.75]
    assert [row.deviation for row in found.shares] == pytest.approx([-0.1, 0.05])


def test_a_level_within_a_jump_is_not_off() -> None:
    y = np.repeat([0.0, 1.0], [600, 400])  # P(y < 0) = 0, P(y <= 0) = 0.6
    found = quantile_calibration(y, np.zeros((1_000, 3)), n_calibrate=None, levels=[0.3, 0.6, 0.7])
    assert [row.observed for row in found.shares] == [0.3, 0.6, 0.6]


def test_errors_count_holdout_and_calibrate_rows() -> None:
    levels = np.array(LEVELS)
    for n, m in [(2_000, 500), (2_000, 50_000)]:
        expected = np.sqrt(levels * (1 - levels) * (1 / n + 1 / m))
        np.testing.assert_allclose(_found(n, m).column("standard_error"), expected, rtol=5e-3)
    expected = np.sqrt(levels * (1 - levels) / 2_000)
    np.testing.assert_allclose(_found(2_000, None).column("standard_error"), expected, rtol=5e-3)


def test_bounds_are_clopper_pearson_with_the_n_of_both_samples() -> None:
    alone, both = _found(1_000, None), _found(2_000, 2_000)
    np.testing.assert_allclose(alone.column("low"), both.column("low"), atol=5e-5)
    np.testing.assert_allclose(alone.column("high"), both.column("high"), atol=5e-5)


def test_joint_bounds_lie_between_those_of_one_level_and_sidaks() -> None:
    alpha = _joint_alpha(_found(4_000, None))
    assert 1 - 0.95 ** (1 / 19) < alpha < 0.05


def test_joint_bounds_hold_for_a_brownian_bridge_as_often_as_they_say() -> None:
    from scipy.special import ndtri

    critical = -ndtri(_joint_alpha(_found(4_000, None)) / 2)
    levels = np.array(LEVELS)
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((100_000, 20)) / 20**0.5, axis=1)
    bridge = walk[:, :-1] - levels * walk[:, -1:]
    largest = np.abs(bridge / np.sqrt(levels * (1 - levels))).max(axis=1)
    assert (largest <= critical).mean() == pytest.approx(0.95, abs=0.002)


def test_joint_bounds_are_mostly_narrower_than_dvoretzky_kiefer_wolfowitz() -> None:
    found = _found(10_000, None)
    dkw = (np.log(2 / 0.05) / 20_000) ** 0.5
    half = (found.column("high") - found.column("low")) / 2
    assert (half < dkw).sum() >= 14
    assert half.max() < 1.05 * dkw


def test_one_level_needs_no_joint_bounds() -> None:
    found = quantile_calibration(
        np.arange(1_000.0), np.full((1_000, 1), 499.5), n_calibrate=None, levels=[0.5]
    )
    low, high = clopper_pearson(np.array([500]), np.array([1_000.0]), 0.05)
    row = found.shares[0]
    assert (row.low, row.high) == pytest.approx((low[0] - 0.5, high[0] - 0.5), abs=1e-5)


def test_qce_is_the_mean_absolute_deviation() -> None:
    assert quantile_calibration_error(_found(10_000, None, 0.03)).value == pytest.approx(0.03)
    assert quantile_calibration_error(_found(10_000, None, -0.03)).value == pytest.approx(0.03)


def test_the_interval_of_the_qce_is_the_law_of_the_mean_absolute_bridge() -> None:
    """Its 95% quantile, simulated here as a random walk, times sqrt(1 / n + 1 / m)."""
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.standard_normal((100_000, 20)) / 20**0.5, axis=1)
    bridge = walk[:, :-1] - np.array(LEVELS) * walk[:, -1:]
    quantile = np.quantile(np.abs(bridge).mean(axis=1), 0.95)
    for n, m in [(2_000, 500), (5_000, 5_000)]:
        estimate = quantile_calibration_error(_found(n, m, 0.03))
        half = quantile * (1 / n + 1 / m) ** 0.5
        # Only shares away from their level change the law, and by little.
        assert estimate.high - estimate.value == pytest.approx(half, rel=0.03)
        assert estimate.low == max(0.0, estimate.value - (estimate.high - estimate.value))


def test_debiasing_takes_what_noise_adds_and_no_more() -> None:
    null, far = _found(500, 500), _found(500, 500, 0.04)
    assert debiased_qce(null) == 0.0
    assert 0.025 < debiased_qce(far) < quantile_calibration_error(far).value
    rng = np.random.default_rng(2)
    quantiles = np.tile(np.array(LEVELS), (2_000, 1))
    raw, less = np.mean(
        [
            (quantile_calibration_error(found).value, debiased_qce(found))
            for found in (
                quantile_calibration(rng.random(2_000), quantiles, n_calibrate=None)
                for _ in range(100)
            )
        ],
        axis=0,
    )
    assert less < 0.7 * raw


def test_the_largest_deviation_is_bounded_by_the_joint_bounds() -> None:
    found = _found(10_000, 10_000, 0.03)
    estimate = maximum_quantile_deviation(found)
    assert estimate.value == pytest.approx(0.03)
    assert estimate.low == found.column("low").max()
    assert estimate.high == found.column("high").max()
    mirrored = maximum_quantile_deviation(_found(10_000, 10_000, -0.03))
    assert (mirrored.low, mirrored.high) == pytest.approx((estimate.low, estimate.high))


def test_the_same_rows_give_the_same_numbers() -> None:
    assert _found(1_000, 700, 0.01) == _found(1_000, 700, 0.01)


def test_more_calibrate_rows_narrow_the_intervals() -> None:
    few, many = _found(5_000, 500), _found(5_000, 500_000)
    assert many.noise < few.noise / 2
    width = [f.column("high") - f.column("low") for f in (many, few)]
    assert (width[0] < width[1] / 2).all()


@pytest.mark.parametrize("deviation", [-0.05, 0.05])
def test_quantiles_that_all_or_none_of_the_rows_lie_below_can_be_judged(deviation: float) -> None:
    found = _found(200, 200, deviation)
    assert found.shares[-1 if deviation > 0 else 0].observed in (0.0, 1.0)
    assert np.isfinite(found.column("high")).all()


@pytest.mark.parametrize("wrong", [NAN, float("inf")])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(GateError, match=r"targets .* not all finite"):
        quantile_calibration([1.0, wrong], np.ones((2, 19)), n_calibrate=None)
    with pytest.raises(GateError, match=r"quantiles .* not all finite"):
        quantile_calibration([1.0, 2.0], np.full((2, 19), wrong), n_calibrate=None)


def test_shapes_that_do_not_fit_are_refused() -> None:
    for quantiles in (np.ones((3, 19)), np.ones((2, 18)), np.ones(2)):
        with pytest.raises(GateError, match="quantiles of shape"):
            quantile_calibration([1.0, 2.0], quantiles, n_calibrate=None)
    with pytest.raises(GateError, match="targets of shape"):
        quantile_calibration([], np.ones((0, 19)), n_calibrate=None)


@pytest.mark.parametrize("levels", [[], [0.5, 0.5], [0.6, 0.4], [0.0, 0.5], [0.5, 1.0], [NAN]])
def test_levels_out_of_order_or_range_are_refused(levels) -> None:
    with pytest.raises(GateError, match="levels"):
        quantile_calibration([1.0], np.ones((1, len(levels))), n_calibrate=None, levels=levels)


def test_no_calibrate_rows_at_all_are_refused() -> None:
    with pytest.raises(GateError, match="n_calibrate=0"):
        _found(100, 0)


def test_damaged_shares_are_refused() -> None:
    found = _found(100, None)
    broken = replace(found.shares[0], observed=NAN)
    for change in ({"shares": ()}, {"shares": (broken,)}, {"noise": NAN}, {"n": 0}):
        with pytest.raises(GateError, match="quantile shares"):
            replace(found, **change)
