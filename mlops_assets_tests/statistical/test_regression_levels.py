"""How often the rules of a regression pass, fail and abstain on models whose truth is known.

Forecasts have a spread that changes from row to row, and the residuals of the calibrate rows are
drawn anew on every run. A share is held against its demand with the luck of a finite simulation
allowed for (three standard errors).
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from mlops_assets.core.gates import no_metric_below_champion
from mlops_assets.core.predictive import fit_predictive_distribution
from mlops_assets.core.regression import (
    LEVELS,
    QuantileCalibration,
    maximum_quantile_deviation,
    quantile_calibration,
    quantile_calibration_error,
)
from mlops_assets.core.regression_comparison import Forecasts, compare_forecasts
from mlops_assets.core.regression_gates import qce_below_limit, quantiles_within_limit

pytestmark = pytest.mark.statistical

# On holdout, residuals are shift + factor * spread * N(0, 1); 1 / 0.7 is a spread 30% too small.
PATTERNS = {
    "calibrated": (0.0, 1.0),
    "to one side": (0.1, 1.0),
    "far to one side": (0.5, 1.0),
    "spread too small": (0.0, 1 / 0.7),
    "spread too large": (0.0, 0.7),
    "both": (0.1, 1.2),
}


def _at_most(count: int, share: float, runs: int) -> bool:
    return count <= runs * share + 3 * (runs * share * (1 - share)) ** 0.5


def _at_least(count: int, share: float, runs: int) -> bool:
    return _at_most(runs - count, 1 - share, runs)


def _draws(n: int, m: int, pattern: str, runs: int, seed: int) -> Iterator[QuantileCalibration]:
    shift, factor = PATTERNS[pattern]
    rng = np.random.default_rng([seed, n, m])
    for _ in range(runs):
        forecast, spread = rng.normal(size=n + m), 0.5 + rng.random(n + m)
        y = forecast + spread * rng.standard_normal(n + m)
        law = fit_predictive_distribution(y[:m], forecast[:m], spread[:m])
        y = forecast + spread * (shift + factor * (y - forecast) / spread)
        quantiles = law.quantile(LEVELS, forecast[m:], spread[m:])
        yield quantile_calibration(y[m:], quantiles, n_calibrate=m)


def _truth(pattern: str) -> np.ndarray:
    from scipy.special import ndtr, ndtri

    shift, factor = PATTERNS[pattern]
    return ndtr((ndtri(np.array(LEVELS)) - shift) / factor) - LEVELS


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("n", "m"), [(500, 1_500), (3_000, 1_000)])
def test_intervals_hold_the_true_deviations(pattern: str, n: int, m: int) -> None:
    runs = 120
    true = _truth(pattern)
    qce = largest = joint = 0
    for found in _draws(n, m, pattern, runs, seed=21):
        estimate = quantile_calibration_error(found)
        qce += estimate.low <= np.abs(true).mean() <= estimate.high
        estimate = maximum_quantile_deviation(found)
        largest += estimate.low <= np.abs(true).max() <= estimate.high
        joint += ((found.column("low") <= true) & (true <= found.column("high"))).all()
    assert _at_least(qce, 0.94, runs)
    assert _at_least(largest, 0.95, runs)
    assert _at_least(joint, 0.94, runs)


def test_a_valid_model_passes_with_enough_rows_and_does_not_fail() -> None:
    qce, levels = Counter(), Counter()
    for found in _draws(10_000, 10_000, "calibrated", 60, seed=22):
        qce[qce_below_limit(found).outcome] += 1
        levels[quantiles_within_limit(found).outcome] += 1
    assert _at_least(qce["passed"], 0.99, 60)
    assert _at_least(levels["passed"], 0.99, 60)
    assert (qce["failed"], levels["failed"]) == (0, 0)


@pytest.mark.parametrize(("n", "m"), [(1_500, 1_500), (5_000, 1_000)])
def test_a_valid_model_does_not_fail_on_fewer_rows(n: int, m: int) -> None:
    for found in _draws(n, m, "calibrated", 60, seed=23):
        assert qce_below_limit(found).outcome != "failed"
        assert quantiles_within_limit(found).outcome != "failed"


@pytest.mark.parametrize("pattern", ["spread too small", "spread too large", "far to one side"])
def test_a_model_with_a_wrong_law_is_failed(pattern: str) -> None:
    for found in _draws(10_000, 10_000, pattern, 15, seed=24):
        assert qce_below_limit(found).outcome == "failed"
        assert quantiles_within_limit(found).outcome == "failed"


def test_a_model_a_little_above_the_limit_rarely_passes() -> None:
    """Off by 0.1 spreads to one side the QCE is 0.0295: beyond 0.02, but no level beyond 0.05."""
    outcomes = Counter(
        qce_below_limit(found).outcome
        for found in _draws(10_000, 10_000, "to one side", 50, seed=25)
    )
    assert outcomes["passed"] == 0
    assert outcomes["failed"] > 20


def test_the_rows_an_inconclusive_verdict_asks_for_usually_decide() -> None:
    asked = decided = 0
    for pattern, n, m in (("calibrated", 2_500, 20_000), ("to one side", 2_500, 50_000)):
        for found in _draws(n, m, pattern, 20, seed=26):
            needed = qce_below_limit(found).rows_needed
            if needed is None or needed > 40_000:
                continue
            asked += 1
            more = next(_draws(n + needed, m, pattern, 1, seed=27))
            decided += qce_below_limit(more).outcome != "inconclusive"
    assert asked >= 12
    assert decided / asked > 0.7


def _rivals(n: int, noise: float, rng: np.random.Generator) -> tuple:
    """Targets with heavy tails and two models; the champion's noise is 0.4."""
    signal = rng.normal(size=n)
    y = signal + rng.standard_t(5, size=n)
    reach = np.linspace(-2.0, 2.0, 19)
    points = [signal + off * rng.normal(size=n) for off in (noise, 0.4)]
    return y, *(Forecasts(p, p[:, None] + reach) for p in points)


def test_equally_good_models_do_not_fail() -> None:
    runs = 200
    rng = np.random.default_rng(28)
    failed = held = 0
    for _ in range(runs):
        differences = compare_forecasts(*_rivals(2_000, 0.4, rng))
        failed += no_metric_below_champion(differences).outcome == "failed"
        held += all(d.low <= 0 <= d.high for d in differences)
    assert _at_most(failed, 0.025, runs)
    assert _at_least(held, 0.95, runs)


def test_a_worse_model_fails() -> None:
    rng = np.random.default_rng(29)
    for _ in range(30):
        differences = compare_forecasts(*_rivals(10_000, 0.7, rng))
        assert no_metric_below_champion(differences).outcome == "failed"
