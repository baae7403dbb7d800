"""The rules that decide: estimates in, verdicts out.

Only the decision belongs here. Estimates come from `calibration`, `conformal` and `comparison`;
turning a verdict into a Dagster check is the work of `defs.checks`.

passed        the rule holds for the point estimate and no interval speaks against it
failed        the rule is broken and the interval lies wholly on the wrong side
inconclusive  all else; the reason says how many more holdout rows would decide
What cannot be computed raises a GateError and so never passes.
"""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite

from mlops_assets.core.calibration import (
    ReliabilityBins,
    debiased_ece,
    expected_calibration_error,
    maximum_bin_deviation,
)
from mlops_assets.core.comparison import MetricDifference
from mlops_assets.core.coverage_law import CoverageRule
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.verdict import (
    MOST_ROWS,
    Outcome,
    Scalar,
    Verdict,
    check_computable,
    decide,
    rows_for,
    uncomputable,
    with_interval,
)

# 15 bins of 100 rows: below it the bins are fewer than the policy says.
MIN_ROWS = 1_500
# Thresholds such as 0.9 - 0.02 are not exact in binary; no real difference is this small.
_ROUNDING = 1e-12


def ece_below_limit(
    bins: ReliabilityBins, *, limit: float = 0.02, min_rows: int = MIN_ROWS
) -> Verdict:
    """ECE < limit; passed when the whole interval is below, failed when it is all above."""
    gate = "ece_below_limit"
    estimate = expected_calibration_error(bins)
    check_computable(gate, estimate, limit)
    likely = debiased_ece(bins)
    outcome: Outcome = "inconclusive"
    if estimate.low > limit and estimate.value >= limit:
        outcome = "failed"
    elif estimate.value < limit and estimate.high < limit:
        outcome = "passed"
    text = f"ECE {with_interval(estimate)} against a limit of {limit:g}"
    far = estimate.high if likely < limit else estimate.low
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        text,
        needed=rows_for(estimate.n, abs(far - likely), abs(limit - likely)),
        min_rows=_least_rows(bins, min_rows),
        doubt=_doubt(bins),
        details=(("debiased_ece", likely), *_bin_details(bins)),
    )


def reliability_bins_within_limit(
    bins: ReliabilityBins, *, limit: float = 0.05, min_rows: int = MIN_ROWS
) -> Verdict:
    """No bin deviates by more than the limit; failed when some bin surely does.

    "Surely" is by the simultaneous intervals: the number of bins is accounted for.
    """
    gate = "reliability_bins_within_limit"
    estimate = maximum_bin_deviation(bins)
    check_computable(gate, estimate, limit)
    outcome: Outcome = "inconclusive"
    if estimate.value <= limit + _ROUNDING:
        outcome = "passed"
    elif estimate.low > limit:
        outcome = "failed"
    worst = max(bins.bins, key=lambda row: abs(row.deviation))
    pooled = any(row.group for row in bins.bins)
    whose = f" of class {worst.group}" if pooled else ""
    text = (
        f"worst bin{whose} deviates by {worst.deviation:+.4f} (scores {worst.lower:.3f} to "
        f"{worst.upper:.3f}, {worst.n:,} rows; at least {estimate.low:.4f} at the worst bin) "
        f"against a limit of {limit:g}"
    )
    gap = abs(estimate.value - limit)
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        text,
        needed=rows_for(estimate.n, estimate.value - estimate.low, gap),
        min_rows=_least_rows(bins, min_rows),
        doubt=_doubt(bins),
        details=(
            ("worst_bin_lower", worst.lower),
            ("worst_bin_upper", worst.upper),
            ("worst_bin_rows", worst.n),
            ("worst_bin_deviation", worst.deviation),
            *((("worst_bin_class", worst.group),) if pooled else ()),
            *_bin_details(bins),
        ),
    )


def coverage_within_tolerance(
    estimate: Estimate, rule: CoverageRule, *, tolerance: float = 0.02, min_rows: int = 500
) -> Verdict:
    """Coverage within `tolerance` of the stated one, on either side.

    Above, a rule that is known to cover more than it states (APS, RAPS) is allowed as much more.
    Passed when the whole interval is within, failed when it is all outside. The interval counts
    the conformalization rows too, so more holdout rows alone may never decide.
    """
    gate = "coverage_within_tolerance"
    check_computable(gate, estimate, tolerance)
    above = estimate.value - rule.confidence - rule.over_coverage
    gap = max(rule.confidence - estimate.value, above)
    floor, roof = rule.confidence - tolerance, rule.confidence + rule.over_coverage + tolerance
    outcome: Outcome = "inconclusive"
    if gap <= tolerance + _ROUNDING and floor <= estimate.low and estimate.high <= roof:
        outcome = "passed"
    elif gap > tolerance and (estimate.high < floor or estimate.low > roof):
        outcome = "failed"
    text = f"coverage {with_interval(estimate)}, stated {rule.confidence:g} within {tolerance:g}"
    # Half-width squared is z^2 v (1 / n + 1 / m): solve for n, m being what it is.
    half, m = (estimate.high - estimate.low) / 2, rule.n_conformalize
    unit = half**2 / (1 / estimate.n + 1 / m)
    share = abs(tolerance - gap) ** 2 / unit - 1 / m if unit > 0 else 0.0
    needed = ceil(1 / share) - estimate.n if share > 1 / MOST_ROWS else None
    stuck = None if needed is not None else f"{m:,} conformalization rows are too few to decide"
    return decide(
        gate,
        outcome,
        estimate,
        tolerance,
        text,
        needed=None if needed is None else max(1, needed),
        min_rows=min_rows,
        stuck=stuck,
        details=(
            ("stated_coverage", rule.confidence),
            ("conformalization_rows", m),
            ("quantile", rule.quantile),
        ),
    )


def no_metric_below_champion(
    differences: Sequence[MetricDifference] | None,
    *,
    margin: float | Mapping[str, float] = 0.0,
    min_rows: int = MIN_ROWS,
) -> Verdict:
    """No metric is below the champion's by more than its margin, on the same rows.

    With margin 0: passed when no point difference is below 0. With a margin above 0: passed when
    every interval lies above -margin (non-inferiority). Failed when some interval lies wholly
    below -margin. `differences` is None only when there is no champion yet, which passes.
    """
    gate = "no_metric_below_champion"
    if differences is None:
        return Verdict(gate, "passed", None, None, None, 0, 0.0, "no champion yet")
    if not differences:
        raise uncomputable(gate, "no metric was compared")
    unknown = set(margin) - {d.metric for d in differences} if isinstance(margin, Mapping) else ()
    if unknown:
        raise uncomputable(gate, f"margins for metrics not compared: {sorted(unknown)}")
    margins = {d.metric: _margin(gate, margin, d.metric) for d in differences}
    broken, sure, unsure = [], [], []
    for d in differences:
        check_computable(gate, _as_estimate(d), margins[d.metric])
        edge = -margins[d.metric]
        if d.high < edge:
            sure.append(d)
        if d.difference < edge:
            broken.append(d)
        elif margins[d.metric] > 0 and d.low < edge:
            unsure.append(d)
    open_ = broken or unsure
    outcome: Outcome = "failed" if sure else "inconclusive" if open_ else "passed"

    def standing(d: MetricDifference) -> float:
        return (d.difference + margins[d.metric]) / max(d.standard_error, _ROUNDING)

    worst = min(sure or open_ or differences, key=standing)
    needed = [
        rows_for(d.n, d.high - d.difference, abs(d.difference + margins[d.metric])) for d in open_
    ]
    named = ", ".join(f"{d.metric} {d.difference:+.4f}" for d in sure or open_)
    text = f"below the champion: {named}" if named else "no metric is below the champion"
    return decide(
        gate,
        outcome,
        _as_estimate(worst),
        0.0 - margins[worst.metric],
        f"{text} (worst {worst.metric}: {with_interval(_as_estimate(worst))}, "
        f"margin {margins[worst.metric]:g})",
        needed=max(needed, key=lambda rows: rows or 0, default=None),
        min_rows=min_rows,
        details=tuple(
            (f"{d.metric}_{name}", value)
            for d in differences
            for name, value in (
                ("candidate", d.candidate),
                ("champion", d.champion),
                ("difference", d.difference),
                ("low", d.low),
                ("high", d.high),
                ("margin", margins[d.metric]),
            )
        ),
    )


def champion_has_seen_holdout(overlap_rows: int, n: int) -> Verdict:
    """The comparison would be unfair: the champion was trained on some of these rows.

    Raises:
        GateError: no overlap (then compare), or counts that make no sense.
    """
    if not 0 < overlap_rows <= n:
        raise uncomputable("no_metric_below_champion", f"{overlap_rows} of {n} rows shared")
    return Verdict(
        "no_metric_below_champion",
        "inconclusive",
        None,
        None,
        None,
        int(n),
        0.0,
        f"the champion has seen {overlap_rows:,} of the {n:,} holdout rows in training: a "
        "comparison on them would favour it; use holdout rows later than its training",
        rows_needed=None,
        details=(("overlap_rows", int(overlap_rows)),),
    )


def champion_not_comparable(reason: str, n: int) -> Verdict:
    """There is a champion, and it cannot be asked about these rows: nobody knows who is better."""
    return Verdict(
        "no_metric_below_champion",
        "inconclusive",
        None,
        None,
        None,
        int(n),
        0.0,
        f"the champion cannot be compared: {reason}",
    )


def _doubt(bins: ReliabilityBins) -> str | None:
    """Why bins are too coarse to judge, if they are."""
    if bins.distinct_scores < bins.n_bins:
        return (
            f"only {bins.distinct_scores} distinct scores for {bins.n_bins} bins; more rows "
            "do not help, a model or calibration with finer scores would"
        )
    return None


def _least_rows(bins: ReliabilityBins, min_rows: int) -> int:
    """Rows below which equal-mass bins are fewer, so coarser, than the policy says."""
    return max(min_rows, bins.n_bins * bins.min_rows if bins.strategy == "mass" else 0)


def _bin_details(bins: ReliabilityBins) -> tuple[tuple[str, Scalar], ...]:
    return (
        ("bins", len(bins.bins)),
        ("bins_wanted", bins.n_bins),
        ("strategy", bins.strategy),
        ("smallest_bin_rows", min(row.n for row in bins.bins)),
    )


def _as_estimate(d: MetricDifference) -> Estimate:
    return Estimate(d.difference, d.low, d.high, d.n, d.level)


def _margin(gate: str, margin: float | Mapping[str, float], metric: str) -> float:
    value = margin.get(metric, 0.0) if isinstance(margin, Mapping) else margin
    if not (isfinite(value) and value >= 0):
        raise uncomputable(gate, f"a margin of {value!r} for {metric}")
    return float(value)
