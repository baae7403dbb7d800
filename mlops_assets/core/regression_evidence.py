"""The evidence on a regression: its forecasts of the holdout rows, and the gates that judge them.

The counterpart of `evidence.py` for models of numbers: it ties the estimators to the gates of the
policy. Reading forecasts and recording verdicts belongs to others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlops_assets.core.comparison import MetricDifference
from mlops_assets.core.conformal_intervals import (
    IntervalRule,
    holds,
    interval_coverage,
    interval_width,
)
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Flags, Floats
from mlops_assets.core.predictive import PredictiveDistribution, positive_numbers, real_numbers
from mlops_assets.core.regression import (
    LEVELS,
    QuantileCalibration,
    quantile_calibration,
    quantile_calibration_error,
)
from mlops_assets.core.regression_comparison import (
    Forecasts,
    compare_forecasts,
    regression_metrics,
)
from mlops_assets.core.regression_gates import qce_below_limit, quantiles_within_limit
from mlops_assets.core.selection import Selection
from mlops_assets.core.shared_gates import SHARED, Incomparable, Policy
from mlops_assets.core.slices import SliceReport, StatedCoverage, regression_slices
from mlops_assets.core.verdict import Verdict
from mlops_assets.errors import GateError


@dataclass(frozen=True)
class RegressionChampion:
    """The champion's forecasts of the same rows, and how many of these it has learned from."""

    version: str
    points: Floats
    spreads: Floats | None
    law: PredictiveDistribution
    overlap_rows: int

    @property
    def forecasts(self) -> Forecasts:
        """Points, and quantiles at `regression.LEVELS`."""
        return Forecasts(self.points, self.law.quantile(LEVELS, self.points, self.spreads))


@dataclass(frozen=True)
class RegressionEvidence:
    """Targets and forecasts of the holdout rows, and what they are judged with.

    Args:
        labels: shape (n,), the targets.
        points: shape (n,), the forecasts.
        spreads: shape (n,), how far off each is thought to be; None for intervals of one width.
        rule: the rule of the intervals.
        law: the predictive distribution.
        champion: who is compared, or why not; None only when there is no champion.
        selection: how the estimator did on the folds of train.
        slices: level of each row by name of the slice, shape (n,); empty when none is declared.

    Raises:
        GateError: numbers that are NaN or infinite, lengths that differ, spreads that are not
            positive, or targets that are all the same.
    """

    labels: Floats
    points: Floats
    spreads: Floats | None
    rule: IntervalRule
    law: PredictiveDistribution
    champion: RegressionChampion | Incomparable | None
    selection: Selection
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Refused here and not by each gate: some of them do not look at the forecasts, and a
        # version with forecasts that cannot be judged has nothing to pass.
        shape = real_numbers("targets", self.labels).shape
        _check("forecasts", self.points, self.spreads, shape)
        if isinstance(self.champion, RegressionChampion):
            _check("forecasts of the champion", self.champion.points, self.champion.spreads, shape)
        self.intervals()  # refuses a spread that the rule does not want, or none where it wants one
        if np.ptp(self.labels) == 0:
            raise GateError(
                f"{len(self.labels):,} holdout rows with the one target {self.labels[0]}",
                expected="targets that differ: of one value every forecast of it is right",
                do="look at the label of the holdout window, or take a longer one",
            )

    @property
    def forecasts(self) -> Forecasts:
        """Points, and quantiles at `regression.LEVELS`."""
        return Forecasts(self.points, self.law.quantile(LEVELS, self.points, self.spreads))

    def intervals(self) -> Floats:
        """Prediction intervals, shape (n, 2)."""
        return self.rule.intervals(self.points, spread=self.spreads)

    def covered(self) -> Flags:
        """Whether the interval of each row holds its target, shape (n,)."""
        return holds(self.labels, self.intervals())

    def calibration(self) -> QuantileCalibration:
        """Shares of rows below the predicted quantiles."""
        quantiles = self.law.quantile(LEVELS, self.points, self.spreads)
        return quantile_calibration(self.labels, quantiles, n_calibrate=self.law.n_calibrate)

    def coverage(self) -> Estimate:
        """Coverage of the intervals."""
        return interval_coverage(self.labels, self.intervals(), self.rule)

    @cached_property
    def slice_report(self) -> SliceReport | None:
        """Mean absolute error and coverage of every slice; None when the spec declares none."""
        if not self.slices:
            return None
        stated = StatedCoverage(self.covered(), self.rule.confidence, self.rule.n_conformalize)
        return regression_slices(self.slices, np.abs(self.labels - self.points), stated)

    def differences(self) -> tuple[MetricDifference, ...] | None:
        """Metrics minus the champion's on the same rows; None when none can be compared."""
        if not isinstance(self.champion, RegressionChampion):
            return None
        return compare_forecasts(self.labels, self.forecasts, self.champion.forecasts)

    def metrics(self, policy: Policy) -> dict[str, float]:
        """All numbers of the report by name; the limits of the policy are not among them."""
        qce = quantile_calibration_error(self.calibration())
        covered = self.coverage()
        measured = regression_metrics(self.labels, self.forecasts)
        return {
            **measured,
            "r2": 1 - measured["rmse"] ** 2 / float(np.var(self.labels)),
            "qce": qce.value,
            "qce_low": qce.low,
            "qce_high": qce.high,
            "coverage": covered.value,
            "coverage_low": covered.low,
            "coverage_high": covered.high,
            "interval_width": interval_width(self.intervals()).value,
            "target_mean": float(np.mean(self.labels)),
        }


def _check(name: str, points: Floats, spreads: Floats | None, shape: tuple[int, ...]) -> None:
    real_numbers(name, points, shape)
    if spreads is not None:
        positive_numbers(f"spread of the {name}", spreads, shape)


def _qce(evidence: RegressionEvidence, policy: Policy) -> Verdict:
    return qce_below_limit(
        evidence.calibration(), limit=policy.ece_limit, min_rows=policy.min_holdout_rows
    )


def _quantiles(evidence: RegressionEvidence, policy: Policy) -> Verdict:
    return quantiles_within_limit(
        evidence.calibration(), limit=policy.bin_limit, min_rows=policy.min_holdout_rows
    )


GATES: Mapping[str, Callable[[RegressionEvidence, Policy], Verdict]] = {
    "qce_below_limit": _qce,
    "quantiles_within_limit": _quantiles,
    **SHARED,
}
"""The gates that a version must pass before it is released, by name."""

RULES: Mapping[str, str] = {
    "qce_below_limit": "QCE < {ece_limit:g} on holdout, the whole 95% interval included",
    "quantiles_within_limit": "at no level the share of rows below the predicted quantile is off "
    "by more than {bin_limit:g}",
    "coverage_within_tolerance": "interval coverage within {coverage_tolerance:g} of the stated",
    "no_metric_below_champion": "no metric below the champion's on the same rows",
    "stable_across_folds": "R2 on later parts of train differs by at most {fold_spread_limit:g}",
    "not_overfitted": "R2 on rows learned from at most {overfit_limit:g} above that on the rows "
    "after",
    "slices_hold": "in no slice coverage off by more than {slice_tolerance:g}, beyond chance",
}
"""What each gate demands, to be filled in from the policy."""
