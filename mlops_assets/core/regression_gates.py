"""The rules that decide on a regression's predicted quantiles: estimates in, verdicts out.

They take the place that `gates.ece_below_limit` and `gates.reliability_bins_within_limit` have for
probabilities, with the same outcomes. Only the decision belongs here. Coverage of intervals and the
comparison with the champion need no rule of their own: `gates` judges them as it judges those of
classifiers. What cannot be computed raises a GateError and so never passes.
"""

from math import ceil

from mlops_assets.core.regression import (
    QuantileCalibration,
    debiased_qce,
    maximum_quantile_deviation,
    quantile_calibration_error,
)
from mlops_assets.core.verdict import (
    MOST_ROWS,
    Outcome,
    Scalar,
    Verdict,
    check_computable,
    decide,
    with_interval,
)

# As many as the gates of probabilities want.
MIN_ROWS = 1_500
# Thresholds such as 0.55 - 0.5 are not exact in binary; no real difference is this small.
_ROUNDING = 1e-12


def qce_below_limit(
    calibration: QuantileCalibration, *, limit: float = 0.02, min_rows: int = MIN_ROWS
) -> Verdict:
    """QCE < limit; passed when the whole interval is below, failed when it is all above.

    The interval counts the calibrate rows too, so more holdout rows alone may never decide.
    """
    gate = "qce_below_limit"
    estimate = quantile_calibration_error(calibration)
    check_computable(gate, estimate, limit)
    likely = debiased_qce(calibration)
    outcome: Outcome = "inconclusive"
    if estimate.low > limit and estimate.value >= limit:
        outcome = "failed"
    elif estimate.value < limit and estimate.high < limit:
        outcome = "passed"
    far = estimate.high if likely < limit else estimate.low
    needed, stuck = _rows(calibration, abs(far - likely), abs(limit - likely))
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        f"QCE {with_interval(estimate)} against a limit of {limit:g}",
        needed=needed,
        min_rows=min_rows,
        stuck=stuck,
        details=(("debiased_qce", likely), *_details(calibration)),
    )


def quantiles_within_limit(
    calibration: QuantileCalibration, *, limit: float = 0.05, min_rows: int = MIN_ROWS
) -> Verdict:
    """No level is off by more than the limit; failed when some level surely is.

    "Surely" is by the simultaneous intervals: the number of levels is accounted for.
    """
    gate = "quantiles_within_limit"
    estimate = maximum_quantile_deviation(calibration)
    check_computable(gate, estimate, limit)
    outcome: Outcome = "inconclusive"
    if estimate.value <= limit + _ROUNDING:
        outcome = "passed"
    elif estimate.low > limit:
        outcome = "failed"
    worst = max(calibration.shares, key=lambda row: abs(row.deviation))
    needed, stuck = _rows(calibration, estimate.value - estimate.low, abs(estimate.value - limit))
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        f"level {worst.level:g} is off by {worst.deviation:+.4f} ({worst.observed:.4f} of "
        f"{calibration.n:,} rows lie below its quantile; at least {estimate.low:.4f} at the worst "
        f"level) against a limit of {limit:g}",
        needed=needed,
        min_rows=min_rows,
        stuck=stuck,
        details=(
            ("worst_level", worst.level),
            ("worst_level_observed", worst.observed),
            ("worst_level_deviation", worst.deviation),
            *_details(calibration),
        ),
    )


def _rows(
    calibration: QuantileCalibration, width: float, gap: float
) -> tuple[int | None, str | None]:
    """Further holdout rows after which an interval side is within the gap, or why none are enough.

    The side shrinks like sqrt(1 / n + 1 / m), and m calibrate rows are what they are.
    """
    n, m = calibration.n, calibration.n_calibrate
    fixed = 0.0 if m is None else 1 / m
    if gap <= 0:
        return None, None
    share = (1 / n + fixed) * (gap / width) ** 2 - fixed if width > 0 else 1 / n
    if share > 1 / MOST_ROWS:
        return max(1, ceil(1 / share) - n), None
    return None, None if m is None else f"{m:,} calibrate rows are too few to decide"


def _details(calibration: QuantileCalibration) -> tuple[tuple[str, Scalar], ...]:
    return (
        ("levels", len(calibration.shares)),
        # 0: the quantiles were not calibrated on rows of their own.
        ("calibrate_rows", calibration.n_calibrate or 0),
    )
