"""Verdicts on quantile calibration: each passes, fails, abstains, and says what would decide."""

from dataclasses import replace
from math import isclose

import numpy as np
import pytest

from mlops_assets.core.regression import (
    LEVELS,
    QuantileCalibration,
    QuantileShare,
    debiased_qce,
    quantile_calibration,
    quantile_calibration_error,
)
from mlops_assets.core.regression_gates import qce_below_limit, quantiles_within_limit
from mlops_assets.errors import GateError


def _found(n: int, m: int | None, deviation: float) -> QuantileCalibration:
    """Every level is off by `deviation`."""
    y = (np.arange(n) + 0.5) / n
    quantiles = np.tile(np.array(LEVELS) + deviation, (n, 1))
    return quantile_calibration(y, quantiles, n_calibrate=m)


def _one_level(deviation: float, half: float, n: int = 5_000) -> QuantileCalibration:
    """One level, with an interval of the given half width."""
    share = QuantileShare(0.5, 0.5 + deviation, deviation, deviation - half, deviation + half, half)
    return QuantileCalibration((share,), n, None, noise=half)


@pytest.mark.parametrize("judge", [qce_below_limit, quantiles_within_limit])
@pytest.mark.parametrize(
    ("deviation", "half", "outcome"),
    [(0.0, 0.005, "passed"), (0.2, 0.005, "failed"), (-0.2, 0.005, "failed")],
)
def test_clear_cases_are_decided(judge, deviation, half, outcome) -> None:
    verdict = judge(_one_level(deviation, half))
    assert verdict.outcome == outcome
    assert verdict.rows_needed is None
    assert "more holdout rows" not in verdict.reason


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.010, 0.009, "passed"),
        (0.010, 0.011, "inconclusive"),  # the interval reaches over the limit
        (0.030, 0.009, "failed"),
        (0.030, 0.011, "inconclusive"),
        (0.020, 0.000, "inconclusive"),  # not below, not surely above
    ],
)
def test_qce_passes_and_fails_with_the_whole_interval(value, half, outcome) -> None:
    verdict = qce_below_limit(_one_level(value, max(half, 1e-9)), limit=0.02)
    assert verdict.outcome == outcome
    assert (verdict.gate, verdict.threshold, verdict.estimate) == ("qce_below_limit", 0.02, value)


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.050, 0.100, "passed"),  # at the limit is within it, whatever the interval
        (-0.050, 0.100, "passed"),
        (0.051, 0.100, "inconclusive"),
        (0.060, 0.009, "failed"),
        (-0.060, 0.009, "failed"),
        (0.060, 0.011, "inconclusive"),
    ],
)
def test_levels_pass_as_observed_and_fail_when_one_is_surely_off(value, half, outcome) -> None:
    verdict = quantiles_within_limit(_one_level(value, half), limit=0.05)
    assert verdict.outcome == outcome
    assert (verdict.gate, verdict.threshold) == ("quantiles_within_limit", 0.05)


def test_a_deviation_at_the_limit_passes_despite_binary_rounding() -> None:
    verdict = quantiles_within_limit(_one_level(0.55 - 0.5, 0.01), limit=0.05)
    assert 0.55 - 0.5 > 0.05
    assert verdict.outcome == "passed"


def test_reasons_carry_the_numbers() -> None:
    found = _found(5_000, 4_000, 0.03)
    verdict = qce_below_limit(found)
    estimate = quantile_calibration_error(found)
    assert f"QCE 0.0300 (95% interval {estimate.low:.4f} to {estimate.high:.4f}" in verdict.reason
    details = dict(verdict.details)
    assert details["calibrate_rows"] == 4_000
    assert details["levels"] == 19
    assert details["debiased_qce"] == debiased_qce(found)


def test_the_worst_level_is_named() -> None:
    found = _found(5_000, None, 0.0)
    worst = replace(found.shares[2], observed=0.23, deviation=0.08, low=0.06, high=0.1)
    verdict = quantiles_within_limit(replace(found, shares=(*found.shares[:2], worst)))
    assert verdict.outcome == "failed"
    assert "level 0.15 is off by +0.0800 (0.2300 of 5,000 rows" in verdict.reason
    assert dict(verdict.details)["worst_level"] == 0.15
    assert dict(verdict.details)["calibrate_rows"] == 0


@pytest.mark.parametrize("judge", [qce_below_limit, quantiles_within_limit])
def test_below_the_policys_rows_nothing_is_decided(judge) -> None:
    verdict = judge(_one_level(0.2, 0.001, n=1_000), min_rows=1_500)
    assert verdict.outcome == "inconclusive"
    assert verdict.rows_needed >= 500
    assert "at least 1,500 rows" in verdict.reason


def test_rows_needed_follow_from_both_samples() -> None:
    found = _found(4_000, 40_000, 0.0265)
    verdict = qce_below_limit(found)
    likely, estimate = debiased_qce(found), quantile_calibration_error(found)
    assert verdict.outcome == "inconclusive"
    factor = ((likely - 0.02) / (likely - estimate.low)) ** 2
    n = 4_000 + verdict.rows_needed
    assert isclose(1 / n + 1 / 40_000, factor * (1 / 4_000 + 1 / 40_000), rel_tol=1e-3)
    assert f"about {verdict.rows_needed:,} more holdout rows" in verdict.reason


@pytest.mark.parametrize("judge", [qce_below_limit, quantiles_within_limit])
def test_when_the_calibrate_rows_are_the_doubt_more_holdout_rows_are_not_asked_for(judge) -> None:
    verdict = judge(_found(5_000, 400, 0.0551 if judge is quantiles_within_limit else 0.024))
    assert verdict.outcome == "inconclusive"
    assert verdict.rows_needed is None
    assert "400 calibrate rows are too few to decide" in verdict.reason


@pytest.mark.parametrize("judge", [qce_below_limit, quantiles_within_limit])
@pytest.mark.parametrize("limit", [-0.01, float("nan"), float("inf")])
def test_limits_without_meaning_are_refused(judge, limit) -> None:
    with pytest.raises(GateError, match="got"):
        judge(_one_level(0.0, 0.01), limit=limit)


@pytest.mark.parametrize("judge", [qce_below_limit, quantiles_within_limit])
def test_what_cannot_be_computed_is_an_error(judge) -> None:
    with pytest.raises(GateError):
        judge(quantile_calibration([float("nan")], np.ones((1, 19)), n_calibrate=None))
