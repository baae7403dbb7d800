"""Errors equal scikit-learn's; paired differences are signed and judged like those of scores."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from mlops_assets.core.gates import no_metric_below_champion
from mlops_assets.core.regression import LEVELS
from mlops_assets.core.regression_comparison import (
    REGRESSION_METRICS,
    Forecasts,
    compare_forecasts,
    regression_metrics,
)
from mlops_assets.errors import GateError

NAN = float("nan")


def _models(n: int, seed: int = 0, noise: float = 0.6) -> tuple[np.ndarray, Forecasts, Forecasts]:
    """Targets, a model, and one that is off by `noise` where the first is by 0.3."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    y = signal + rng.normal(size=n)
    reach = np.linspace(-1.6, 1.6, 19)
    points = [signal + off * rng.normal(size=n) for off in (0.3, noise)]
    return y, *(Forecasts(p, p[:, None] + reach) for p in points)


def test_metrics_equal_scikit_learns() -> None:
    y, forecasts, _ = _models(500)
    pinball = [
        theirs.mean_pinball_loss(y, forecasts.quantiles[:, i], alpha=level)
        for i, level in enumerate(LEVELS)
    ]
    assert regression_metrics(y, forecasts) == pytest.approx(
        {
            "mae": theirs.mean_absolute_error(y, forecasts.points),
            "rmse": theirs.root_mean_squared_error(y, forecasts.points),
            "pinball": np.mean(pinball),
        }
    )


def test_differences_are_positive_where_the_candidates_error_is_smaller() -> None:
    y, good, bad = _models(20_000)
    found = compare_forecasts(y, good, bad)
    assert [d.metric for d in found] == list(REGRESSION_METRICS)
    for d in found:
        assert d.difference == pytest.approx(d.champion - d.candidate)
        assert d.low > 0
        assert d.p_value < 0.001


def test_swapping_the_models_mirrors_the_differences() -> None:
    y, one, two = _models(2_000)
    pairs = zip(compare_forecasts(y, one, two), compare_forecasts(y, two, one), strict=True)
    for there, back in pairs:
        assert there.difference == pytest.approx(-back.difference)
        assert there.low == pytest.approx(-back.high)


def test_a_model_does_not_differ_from_itself() -> None:
    y, one, _ = _models(500)
    for d in compare_forecasts(y, one, one):
        assert (d.difference, d.low, d.high, d.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_every_standard_error_is_that_of_the_paired_bootstrap() -> None:
    y, one, two = _models(3_000)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(400):
        rows = rng.integers(0, y.size, y.size)
        a, b = (
            regression_metrics(y[rows], Forecasts(f.points[rows], f.quantiles[rows]))
            for f in (one, two)
        )
        draws.append([b[m] - a[m] for m in REGRESSION_METRICS])
    ours = [d.standard_error for d in compare_forecasts(y, one, two)]
    assert ours == pytest.approx(np.std(draws, axis=0), rel=0.12)


def test_intervals_are_bonferronis_and_p_values_holms_over_the_metrics_compared() -> None:
    from scipy.special import ndtr, ndtri

    y, one, two = _models(800, noise=0.4)
    for quantiles, k in ((True, 3), (False, 2)):
        pair = [f if quantiles else Forecasts(f.points) for f in (one, two)]
        found = compare_forecasts(y, *pair, level=0.9)
        for d in found:
            half = -ndtri(0.05 / k) * d.standard_error
            assert (d.low, d.high) == pytest.approx((d.difference - half, d.difference + half))
        raw = sorted(2 * ndtr(-abs(d.difference) / d.standard_error) for d in found)
        expected = np.maximum.accumulate([min(1.0, p * (k - i)) for i, p in enumerate(raw)])
        assert sorted(d.p_value for d in found) == pytest.approx(expected)


def test_quantiles_are_compared_when_both_models_have_them() -> None:
    y, one, two = _models(300)
    for pair in ((one, Forecasts(two.points)), (Forecasts(one.points), two)):
        assert [d.metric for d in compare_forecasts(y, *pair)] == ["mae", "rmse"]


def test_forecasts_without_error_can_be_compared() -> None:
    y, one, _ = _models(2_000)
    found = {d.metric: d for d in compare_forecasts(y, Forecasts(y), Forecasts(one.points))}
    assert found["rmse"].candidate == 0.0
    assert found["rmse"].low > 0
    assert np.isfinite(found["rmse"].standard_error)


def test_the_gate_of_classifiers_judges_forecasts() -> None:
    y, good, bad = _models(5_000)
    assert no_metric_below_champion(compare_forecasts(y, good, bad)).outcome == "passed"
    verdict = no_metric_below_champion(compare_forecasts(y, bad, good))
    assert verdict.outcome == "failed"
    assert "below the champion: mae" in verdict.reason
    margin = {"mae": 1.0, "rmse": 1.0, "pinball": 1.0}
    assert no_metric_below_champion(compare_forecasts(y, bad, good), margin=margin).outcome == (
        "passed"
    )


@pytest.mark.parametrize("wrong", [[1.0], [1.0, NAN], [1.0, float("inf")], [[1.0, 1.0]]])
def test_forecasts_of_either_model_that_cannot_be_judged_are_refused(wrong) -> None:
    good = Forecasts([1.0, 2.0])
    for pair in ((Forecasts(wrong), good), (good, Forecasts(wrong))):
        with pytest.raises(GateError, match="forecasts of shape"):
            compare_forecasts([1.0, 2.0], *pair)
    with pytest.raises(GateError, match=r"(targets|forecasts) of shape"):
        compare_forecasts(wrong, good, good)


def test_quantiles_that_do_not_fit_the_levels_are_refused() -> None:
    with pytest.raises(GateError, match="quantiles of shape"):
        regression_metrics([1.0], Forecasts([1.0], [[1.0, 2.0]]))
    with pytest.raises(GateError, match="levels"):
        regression_metrics([1.0], Forecasts([1.0], [[1.0, 2.0]]), levels=[0.5, 1.0])


def test_a_level_outside_0_and_1_is_refused() -> None:
    y, one, two = _models(50)
    with pytest.raises(GateError, match=r"level=1\.0"):
        compare_forecasts(y, one, two, level=1.0)
