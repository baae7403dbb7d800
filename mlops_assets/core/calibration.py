"""How far probabilities are from what they say: reliability bins and the numbers made of them.

Labels are binary; a multiclass or regression caller brings its own labels and scores. Only
estimates and their intervals belong here; whether a number is good enough is decided in `gates`,
and pictures are drawn in `plots`.
"""

from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import (
    Flags,
    Floats,
    clopper_pearson,
    ece_lower_bound,
    ece_upper_bound,
    folded_cumulants,
    mean_estimate,
)
from mlops_assets.errors import GateError

Strategy = Literal["mass", "width"]


@dataclass(frozen=True, slots=True)
class Bin:
    """One reliability bin: rows whose scores lie in [lower, upper], both taken by some row.

    `deviation` is observed share minus mean probability; `low` and `high` bound the true deviation
    of all bins at once. `standard_error` is that of the deviation.
    """

    lower: float
    upper: float
    n: int
    mean_probability: float
    observed: float
    deviation: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Reliability bins in order of score, and how they were asked for.

    `n_bins` is the number wanted; there are fewer `bins` when rows or distinct scores are few.
    """

    bins: tuple[Bin, ...]
    n: int
    n_bins: int
    min_rows: int
    strategy: Strategy
    distinct_scores: int
    level: float = 0.95

    def __post_init__(self) -> None:
        """Raise a GateError for damaged bins, so that no estimate is ever made of them."""
        numbers = [value for row in self.bins for value in astuple(row)]
        rows = sum(row.n for row in self.bins)
        if not self.bins or rows != self.n or not np.isfinite(numbers).all():
            raise GateError(
                f"{len(self.bins)} bins with {rows} rows of {self.n}: {self.bins}",
                expected="finite numbers for every row",
                do="compute the bins anew with reliability_bins",
            )

    def column(self, name: str) -> Floats:
        """One attribute of all bins as an array of shape (bins,)."""
        return np.array([getattr(row, name) for row in self.bins], dtype=np.float64)


def validate_scores(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Flags, Floats]:
    """Check labels (0/1 or bool) and probabilities of class 1, both of shape (n,).

    Returns:
        The labels as booleans and the probabilities as float64.

    Raises:
        GateError: no rows, unequal lengths, labels other than 0 and 1, one class only, or scores
            that are NaN, infinite or outside [0, 1].
    """
    flags, p = validate_labels(labels), np.asarray(probabilities)
    if flags.shape != p.shape or p.dtype.kind not in "if":
        raise GateError(
            f"{flags.size} labels, but probabilities of shape {p.shape} and type {p.dtype}",
            expected="one number per label",
            do="score exactly the rows that have labels, and give the probability of class 1",
        )
    scores = p.astype(np.float64, copy=False)
    low, high = float(scores.min()), float(scores.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN too
        raise GateError(
            f"probabilities range from {low} to {high}",
            expected="finite numbers in [0, 1]",
            do="look for rows the model cannot score (missing features, overflow)",
        )
    return flags, scores


def validate_labels(labels: ArrayLike) -> Flags:
    """Check labels (0/1 or bool) of shape (n,) and return them as booleans.

    Raises:
        GateError: no rows, values other than 0 and 1 (missing ones too), or one class only.
    """
    y = np.asarray(labels)
    if y.ndim != 1 or y.size == 0:
        raise GateError(
            f"labels have shape {y.shape}",
            expected="a one-dimensional array with at least one row",
            do="take a window that has labelled rows",
        )
    flags = y.astype(bool) if y.dtype.kind in "biuf" else np.zeros(y.shape, dtype=bool)
    if y.dtype.kind != "b" and not np.array_equal(flags, y):  # NaN is unequal to everything
        raise GateError(
            f"labels of type {y.dtype} hold other values than 0 and 1",
            expected="binary labels without missing values",
            do="drop rows whose label is not known yet, and encode the classes as 0 and 1",
        )
    positives = int(np.count_nonzero(flags))
    if positives in (0, flags.size):
        raise GateError(
            f"all {flags.size} labels are {int(positives > 0)}",
            expected="both classes",
            do="take a longer window",
        )
    return flags


def reliability_bins(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: Strategy = "mass",
    min_rows: int = 100,
    level: float = 0.95,
) -> ReliabilityBins:
    """Group rows by score and compare, per bin, the share of class 1 with the mean probability.

    "mass" bins hold about equally many rows, "width" bins span equal ranges of the score; rows of
    one score share a bin, and bins of fewer than `min_rows` rows join their neighbours.

    The deviation intervals are Clopper-Pearson at level ** (1 / bins) (Sidak), so they hold for
    all bins at once; sums of unequal Bernoulli trials only make them safer (Hoeffding 1956).

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        n_bins: how many bins are wanted.
        strategy: "mass" or "width".
        min_rows: least rows of a bin (unless there is only one bin).
        level: joint level of the deviation intervals.

    Raises:
        GateError: the scores cannot be judged (see `validate_scores`), or an argument is no good.

    >>> table = reliability_bins([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], n_bins=2, min_rows=1)
    >>> [(row.n, row.mean_probability, row.observed, row.deviation) for row in table.bins]
    [(2, 0.25, 0.5, 0.25), (2, 0.75, 0.5, -0.25)]
    """
    if n_bins < 1 or min_rows < 1 or strategy not in ("mass", "width") or not 0 < level < 1:
        raise GateError(
            f"n_bins={n_bins}, min_rows={min_rows}, strategy={strategy!r}, level={level}",
            expected='n_bins and min_rows at least 1, strategy "mass" or "width", level in (0, 1)',
            do="correct the calibration policy of the spec",
        )
    flags, unsorted = validate_scores(labels, probabilities)
    scores, positives = np.sort(unsorted), np.sort(unsorted[flags])
    cuts = _cuts(scores, n_bins, strategy, min_rows)
    starts, stops = np.r_[0, cuts], np.r_[cuts, scores.size]
    n = (stops - starts).astype(np.float64)
    groups = np.split(scores, cuts)
    total = np.array([group.sum() for group in groups])
    squares = np.array([np.dot(group, group) for group in groups])
    hits = np.diff(np.r_[0, np.searchsorted(positives, scores[cuts], "left"), positives.size])
    expected, observed = total / n, hits / n
    deviation = observed - expected
    # The variance of a label is p (1 - p) if the score is right, q (1 - q) with q = p + deviation
    # if it is not; the larger of both serves the test of either.
    calibrated = (total - squares) / n
    shifted = calibrated + deviation * (1 - 2 * expected) - deviation**2
    error = np.sqrt(np.maximum(calibrated, shifted).clip(0.0) / n)
    low, high = clopper_pearson(hits, n, 1 - level ** (1 / n.size))
    columns = (
        scores[starts], scores[stops - 1], stops - starts, expected, observed, deviation,
        low - expected, high - expected, error,
    )  # fmt: skip
    return ReliabilityBins(
        bins=tuple(Bin(*row) for row in zip(*(c.tolist() for c in columns), strict=True)),
        n=scores.size,
        n_bins=n_bins,
        min_rows=min_rows,
        strategy=strategy,
        distinct_scores=1 + int(np.count_nonzero(scores[1:] != scores[:-1])),
        level=level,
    )


def expected_calibration_error(bins: ReliabilityBins) -> Estimate:
    """Binned ECE: the mean over rows of the absolute deviation of their bin (Naeini et al. 2015).

    The value is the plug-in estimate, which noise inflates: a perfect model has about
    sqrt(2 bins / (pi n)) E sqrt(p (1 - p)). The interval is for the true binned ECE of these bins,
    whose bounds are derived in `intervals`.

    >>> table = reliability_bins([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], n_bins=2, min_rows=1)
    >>> expected_calibration_error(table).value
    0.25
    """
    share, error = bins.column("n") / bins.n, bins.column("standard_error")
    parts, scale = share * bins.column("deviation"), share * error
    value = float(np.abs(parts).sum())
    low = ece_lower_bound(parts, scale, 1 - bins.level)
    high = ece_upper_bound(parts, scale, 1 - bins.level)
    return Estimate(value=value, low=low, high=max(low, min(1.0, high)), n=bins.n, level=bins.level)


def maximum_bin_deviation(bins: ReliabilityBins) -> Estimate:
    """Largest absolute deviation of a bin; the interval follows from the simultaneous ones.

    >>> table = reliability_bins([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], n_bins=2, min_rows=1)
    >>> maximum_bin_deviation(table).value
    0.25
    """
    low, high = bins.column("low"), bins.column("high")
    return Estimate(
        value=float(np.abs(bins.column("deviation")).max()),
        low=float(np.maximum(low, -high).max().clip(0.0)),
        high=float(np.maximum(-low, high).max()),
        n=bins.n,
        level=bins.level,
    )


def debiased_ece(bins: ReliabilityBins) -> float:
    """ECE less its estimated bias, not below 0 (Kumar, Liang and Ma 2019, for the L1 norm).

    They estimate the bias by resampling normal deviations around the observed ones; the mean of
    the folded normal gives the same number without resampling.
    """
    share, error = bins.column("n") / bins.n, bins.column("standard_error")
    size = np.abs(bins.column("deviation"))
    ratio = np.divide(size, error, out=np.zeros_like(size), where=error > 0)
    excess = (folded_cumulants(ratio)[0] * error - size).clip(0.0)
    return max(0.0, float((share * (size - excess)).sum()))


def brier_score(labels: ArrayLike, probabilities: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean squared difference of probability and label, with its normal interval.

    >>> brier_score([0, 1], [0.5, 0.5]).value
    0.25
    """
    flags, scores = validate_scores(labels, probabilities)
    return mean_estimate((scores - flags) ** 2, level)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean negative log likelihood in nats, with its normal interval.

    Scores of exactly 0 and 1 are moved inwards by one machine epsilon, as in scikit-learn.

    >>> round(log_loss([0, 1], [0.5, 0.5]).value, 6)
    0.693147
    """
    return mean_estimate(log_losses(*validate_scores(labels, probabilities)), level)


def log_losses(flags: Flags, scores: Floats) -> Floats:
    """Negative log likelihood of each row, shape (n,), of validated labels and scores."""
    eps = np.finfo(np.float64).eps
    return -np.log(np.where(flags, scores, 1 - scores).clip(eps, 1 - eps))


def _cuts(scores: Floats, n_bins: int, strategy: Strategy, min_rows: int) -> NDArray[np.intp]:
    """Positions in the sorted scores where a new bin starts; never within equal scores."""
    if strategy == "width":
        wanted = np.searchsorted(scores, np.arange(1, n_bins) / n_bins, "left")
    else:
        count = max(1, min(n_bins, scores.size // min_rows))
        middle = np.arange(1, count) * scores.size // count
        left = np.searchsorted(scores, scores[middle], "left")
        right = np.searchsorted(scores, scores[middle], "right")
        wanted = np.where(middle - left <= right - middle, left, right)
    kept: list[int] = []
    last = 0
    for cut in wanted.tolist():
        if cut - last >= min_rows and scores.size - cut >= min_rows:
            kept.append(cut)
            last = cut
    return np.array(kept, dtype=np.intp)
