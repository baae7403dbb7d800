"""How well a model did in a window whose labels have come, and how many of them have.

Only measured performance belongs here: what can be said before labels come is in `label_free`, and
whether a number is bad enough is decided elsewhere. A metric that cannot be computed is named with
its reason, and never stands as a number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import (
    ReliabilityBins,
    bins_of,
    expected_calibration_error,
    maximum_bin_deviation,
    validate_scores,
)
from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Flags, Floats, mean_estimate
from mlops_assets.core.predictive import real_numbers
from mlops_assets.core.proper_scores import log_losses
from mlops_assets.core.slices import StatedCoverage
from mlops_assets.errors import GateError


@dataclass(frozen=True, slots=True, eq=False)
class Maturity:
    """Which predictions of a window have their label by now.

    Args:
        mature: shape (n,), the label had time to come, and came. Only these rows are judged: labels
            that come early are not like the others.
        due: predictions whose label had time to come.
    """

    mature: NDArray[np.bool_]
    due: int

    @property
    def predictions(self) -> int:
        """All predictions of the window."""
        return int(self.mature.size)

    @property
    def share(self) -> float:
        """Mature predictions over all; 0 without predictions."""
        return float(self.mature.mean()) if self.mature.size else 0.0


def label_maturity(
    predicted_at: ArrayLike, known_at: ArrayLike, *, now: np.datetime64, delay: np.timedelta64
) -> Maturity:
    """Tell which labels had time to come, and did.

    Args:
        predicted_at: shape (n,), times of the predictions.
        known_at: shape (n,), when their labels became known; NaT for those that did not.
        now: the present.
        delay: time after a prediction by which its label is expected.

    Raises:
        GateError: shapes that do not fit.

    >>> times = np.array(["2026-01-01", "2026-01-01", "2026-01-09"], dtype="M8[D]")
    >>> known = np.array(["2026-01-03", "NaT", "2026-01-09"], dtype="M8[D]")
    >>> found = label_maturity(
    ...     times, known, now=np.datetime64("2026-01-10"), delay=np.timedelta64(5, "D"))
    >>> found.mature.tolist(), found.due
    ([True, False, False], 2)
    """
    times, known = np.asarray(predicted_at, "M8[us]"), np.asarray(known_at, "M8[us]")
    if times.shape != known.shape or times.ndim != 1:
        raise GateError(
            f"{times.shape} predictions with {known.shape} times of labels",
            expected="one time per prediction, NaT where there is no label",
            do="join the labels to the predictions",
        )
    due = times + delay <= now
    return Maturity(due & (known <= now), int(np.count_nonzero(due)))


@dataclass(frozen=True, slots=True, eq=False)
class WindowPerformance:
    """Measured metrics of a window.

    Args:
        n: rows with mature labels.
        metrics: estimates by name; each interval is for this metric alone.
        missing: why a metric cannot be computed, by name.
        bins: reliability bins of a classifier.
    """

    n: int
    metrics: Mapping[str, Estimate]
    missing: Mapping[str, str] = field(default_factory=dict)
    bins: ReliabilityBins | None = None


CLASSIFICATION = ("ece", "worst_bin", "brier", "log_loss", "auc", "coverage")
REGRESSION = ("mae", "rmse", "mean_error", "coverage")


def classification_performance(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    coverage: StatedCoverage | None = None,
    n_bins: int = 15,
    min_rows: int = 100,
    level: float = 0.95,
) -> WindowPerformance:
    """Measure a binary classifier on a window, also on one without rows or with one class only.

    Args:
        labels: shape (n,), 0/1 or bool, mature ones.
        probabilities: shape (n,), the probability of class 1 that was answered.
        coverage: which rows are covered by their sets, if the model has sets.
        n_bins: as in `calibration.reliability_bins`.
        min_rows: as in `calibration.reliability_bins`.
        level: level of the intervals.

    Raises:
        GateError: labels or probabilities that are none.

    >>> found = classification_performance([0, 0, 0], [0.1, 0.2, 0.1])
    >>> sorted(found.metrics), dict(found.missing)["auc"]
    (['brier', 'ece', 'log_loss', 'worst_bin'], 'all 3 labels are 0')
    """
    y = np.asarray(labels)
    if y.size == 0:
        return _without_rows(CLASSIFICATION)
    flags, scores = _validated(y, probabilities)
    bins = bins_of(flags, scores, n_bins=n_bins, min_rows=min_rows, level=level)
    metrics = {
        "ece": expected_calibration_error(bins),
        "worst_bin": maximum_bin_deviation(bins),
        "brier": mean_estimate((scores - flags) ** 2, level),
        "log_loss": mean_estimate(log_losses(flags, scores), level),
    }
    missing = {}
    if flags.all() or not flags.any():
        missing["auc"] = f"all {flags.size:,} labels are {int(flags[0])}"
    else:
        metrics["auc"] = auc_estimate(flags, scores, level)
    _add_coverage(metrics, missing, coverage, flags.size, level)
    return WindowPerformance(flags.size, metrics, missing, bins)


def regression_performance(
    truth: ArrayLike,
    forecasts: ArrayLike,
    *,
    coverage: StatedCoverage | None = None,
    level: float = 0.95,
) -> WindowPerformance:
    """Measure forecasts of a number on a window.

    Args:
        truth: shape (n,), mature targets.
        forecasts: shape (n,), the forecasts that were answered.
        coverage: which rows are covered by their intervals, if the model has intervals.
        level: level of the intervals.

    Raises:
        GateError: numbers that are NaN or infinite, or shapes that do not fit.

    >>> found = regression_performance([1.0, 2.0], [1.0, 4.0])
    >>> found.metrics["mae"].value, round(found.metrics["rmse"].value, 3)
    (1.0, 1.414)
    """
    if np.size(truth) == 0:
        return _without_rows(REGRESSION)
    y = real_numbers("targets", truth)
    errors = real_numbers("forecasts", forecasts, y.shape) - y
    square = mean_estimate(errors**2, level)
    value, low, high = (math.sqrt(max(0.0, x)) for x in (square.value, square.low, square.high))
    metrics = {
        "mae": mean_estimate(np.abs(errors), level),
        "rmse": Estimate(value, low, high, y.size, level),
        "mean_error": mean_estimate(errors, level),
    }
    missing: dict[str, str] = {}
    _add_coverage(metrics, missing, coverage, y.size, level)
    return WindowPerformance(y.size, metrics, missing)


def auc_estimate(flags: Flags, scores: Floats, level: float = 0.95) -> Estimate:
    """Area under the ROC curve with DeLong's variance (1988), the interval on the logit scale.

    Where all rows are ranked rightly there is no variance: then the rule of three bounds it.

    Args:
        flags: shape (n,), of both classes.
        scores: shape (n,).
        level: level of the interval.

    >>> auc_estimate(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])).value
    0.75
    """
    from scipy.special import expit, logit, ndtri
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    parts, n = [], flags.size
    for own in (flags, ~flags):
        rivals = n - np.count_nonzero(own)
        parts.append((ranks[own] - rankdata(scores[own])) / rivals)
    value = float(parts[0].mean())
    fewest = min(part.size for part in parts)
    error = math.sqrt(sum(p.var(ddof=min(1, p.size - 1)) / p.size for p in parts))
    if error == 0:
        doubt = min(1.0, -math.log(1 - level) / fewest)
        return Estimate(value, max(0.0, value - doubt), min(1.0, value + doubt), n, level)
    inner = min(max(value, 1e-9), 1 - 1e-9)
    half = float(ndtri((1 + level) / 2)) * error / (inner * (1 - inner))
    low, high = (float(expit(logit(inner) + side * half)) for side in (-1, 1))
    return Estimate(value, min(low, value), max(high, value), n, level)


def _without_rows(names: tuple[str, ...]) -> WindowPerformance:
    return WindowPerformance(0, {}, dict.fromkeys(names, "no rows with mature labels"))


def _validated(labels: NDArray[np.generic], probabilities: ArrayLike) -> tuple[Flags, Floats]:
    """Labels, which may be of one class only, and probabilities, both known to be valid."""
    if np.all(labels == labels[0]) and labels.dtype.kind in "biuf":
        # One row of the other class makes the common check fit.
        one = np.append(labels, 1 - int(labels[0])), np.append(probabilities, 0.5)
        flags, scores = validate_scores(*one)
        return flags[:-1], scores[:-1]
    return validate_scores(labels, probabilities)


def _add_coverage(
    metrics: dict[str, Estimate],
    missing: dict[str, str],
    coverage: StatedCoverage | None,
    n: int,
    level: float,
) -> None:
    if coverage is None:
        return
    covered = np.asarray(coverage.covered, dtype=bool)
    if covered.shape != (n,):
        raise GateError(
            f"{covered.size} flags of coverage for {n} rows",
            expected="one flag per row with a mature label",
            do="tell of exactly these rows whether they are covered",
        )
    hits = int(np.count_nonzero(covered))
    metrics["coverage"] = coverage_estimate(hits, n, coverage.n_conformalize, level=level)
