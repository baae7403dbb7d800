"""How far probabilities are from what they say: reliability bins and the numbers made of them.

Labels are binary; a multiclass or regression caller brings its own labels and scores. Only binned
estimates and their intervals belong here: scores of single rows are in `proper_scores`, the error
without bins in `smooth_ece`. Whether a number is good enough is decided in `gates`, and pictures
are drawn in `plots`.

Rows may have weights. Equal ones change nothing. With others, a mean is a weighted mean and a
number of rows is Kish's effective number, (sum w)^2 / sum w^2: the intervals are wider, and never
narrower than those of equal weights for as many rows.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.binning import Strategy, bin_sums
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import (
    Flags,
    Floats,
    clopper_pearson,
    ece_lower_bound,
    ece_upper_bound,
    effective_rows,
    folded_cumulants,
    pooled_ece_bounds,
)
from mlops_assets.errors import GateError


@dataclass(frozen=True, slots=True)
class Bin:
    """One reliability bin: rows whose scores lie in [lower, upper], both taken by some row.

    `deviation` is observed share minus mean probability; `low` and `high` bound the true deviation
    of all bins at once. `standard_error` is that of the deviation. `share` is the bin's part of all
    weight, `effective_n` the rows that its interval counts; without weights these are n / all rows
    and n. `group` tells the tables apart that were pooled into one (see `multiclass`).
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
    share: float
    effective_n: float
    group: int = 0


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Reliability bins in order of score, and how they were asked for.

    `n_bins` is the number wanted; there are fewer `bins` when rows or distinct scores are few.
    `n` counts the rows in all bins, `effective_n` those that an estimate rests on: fewer when rows
    have weights, or when each row stands in several pooled tables.
    """

    bins: tuple[Bin, ...]
    n: int
    effective_n: int
    n_bins: int
    min_rows: int
    strategy: Strategy
    distinct_scores: int
    level: float = 0.95

    def __post_init__(self) -> None:
        """Raise a GateError for damaged bins, so that no estimate is ever made of them."""
        names = [field.name for field in fields(Bin)]
        numbers = [getattr(row, name) for row in self.bins for name in names]
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


def validate_weights(weights: ArrayLike | None, n: int) -> Floats | None:
    """Check the weights of `n` rows; only their ratios count, so the largest becomes 1.

    Returns:
        Shape (n,), or None if all weights are equal, which is the same as no weights.

    Raises:
        GateError: not one number per row, or numbers that are negative, infinite, NaN or all zero.

    >>> validate_weights([2, 0, 4], 3).tolist(), validate_weights([3, 3], 2)
    ([0.5, 0.0, 1.0], None)
    """
    if weights is None:
        return None
    w = np.asarray(weights)
    if w.shape != (n,) or w.dtype.kind not in "biuf":
        raise GateError(
            f"weights of shape {w.shape} and type {w.dtype} for {n} rows",
            expected="one number per row",
            do="give the weights of exactly the rows that are judged",
        )
    low, high = float(w.min()), float(w.max())
    if not (low >= 0.0 and 0.0 < high < np.inf):  # false for NaN too
        raise GateError(
            f"weights range from {low} to {high}",
            expected="finite numbers of at least 0, not all 0",
            do="look for rows whose weight was divided by 0 or is missing",
        )
    return None if low == high else w.astype(np.float64) / high


def validate_weighted(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None
) -> tuple[Flags, Floats, Floats | None]:
    """Check labels, probabilities and weights; rows of weight 0 are left out.

    Returns:
        Labels, probabilities and weights of the rows that count, weights as `validate_weights`.

    Raises:
        GateError: see `validate_scores` and `validate_weights`; both classes need some weight.
    """
    flags, scores = validate_scores(labels, probabilities)
    w = validate_weights(weights, flags.size)
    if w is None or w.all():
        return flags, scores, w
    kept = w > 0
    return validate_labels(flags[kept]), scores[kept], validate_weights(w[kept], int(kept.sum()))


def reliability_bins(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
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

    With weights, "mass" bins hold about equal weight, and `min_rows` as well as the intervals
    count effective rows (Korn and Graubard 1998), which is on the safe side.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        weights: shape (n,), at least 0; None means that all rows count alike.
        n_bins: how many bins are wanted.
        strategy: "mass" or "width".
        min_rows: least rows of a bin (unless there is only one bin).
        level: joint level of the deviation intervals.

    Raises:
        GateError: the scores cannot be judged (see `validate_weighted`), or an argument is no good.

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
    rows = validate_weighted(labels, probabilities, weights)
    return bins_of(*rows, n_bins=n_bins, strategy=strategy, min_rows=min_rows, level=level)


def bins_of(
    flags: Flags,
    probabilities: Floats,
    weights: Floats | None = None,
    *,
    n_bins: int = 15,
    strategy: Strategy = "mass",
    min_rows: int = 100,
    level: float = 0.95,
) -> ReliabilityBins:
    """`reliability_bins` of rows that are known to be valid; here they may all be of one class."""
    sums, distinct = bin_sums(
        flags, probabilities, weights, n_bins=n_bins, strategy=strategy, min_rows=min_rows
    )
    n = sums.effective_n
    low, high = clopper_pearson(sums.hits, n, 1 - level ** (1 / n.size))
    columns = (
        sums.lower, sums.upper, sums.rows, sums.expected, sums.observed,
        sums.observed - sums.expected, low - sums.expected, high - sums.expected,
        np.sqrt(sums.variance / n), sums.share, n,
    )  # fmt: skip
    return ReliabilityBins(
        bins=tuple(Bin(*row) for row in zip(*(c.tolist() for c in columns), strict=True)),
        n=flags.size,
        effective_n=flags.size if weights is None else max(1, int(effective_rows(weights))),
        n_bins=n_bins,
        min_rows=min_rows,
        strategy=strategy,
        distinct_scores=distinct,
        level=level,
    )


def expected_calibration_error(bins: ReliabilityBins) -> Estimate:
    """Binned ECE: the mean over rows of the absolute deviation of their bin (Naeini et al. 2015).

    The value is the plug-in estimate, which noise inflates: a perfect model has about
    sqrt(2 bins / (pi n)) E sqrt(p (1 - p)). The interval is for the true binned ECE of these bins,
    whose bounds are derived in `intervals`. Of pooled tables it is the mean of their ECEs.

    >>> table = reliability_bins([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], n_bins=2, min_rows=1)
    >>> expected_calibration_error(table).value
    0.25
    """
    share, error, group = (bins.column(c) for c in ("share", "standard_error", "group"))
    parts, scale = share * bins.column("deviation"), share * error
    value, alpha = float(np.abs(parts).sum()), 1 - bins.level
    if group.any():
        low, high = pooled_ece_bounds(parts, scale, group, alpha)
    else:
        low, high = ece_lower_bound(parts, scale, alpha), ece_upper_bound(parts, scale, alpha)
    return Estimate(value, low, max(low, min(1.0, high)), n=bins.effective_n, level=bins.level)


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
        n=bins.effective_n,
        level=bins.level,
    )


def debiased_ece(bins: ReliabilityBins) -> float:
    """ECE less its estimated bias, not below 0 (Kumar, Liang and Ma 2019, for the L1 norm).

    They estimate the bias by resampling normal deviations around the observed ones; the mean of
    the folded normal gives the same number without resampling.
    """
    share, error = bins.column("share"), bins.column("standard_error")
    size = np.abs(bins.column("deviation"))
    ratio = np.divide(size, error, out=np.zeros_like(size), where=error > 0)
    excess = (folded_cumulants(ratio)[0] * error - size).clip(0.0)
    return max(0.0, float((share * (size - excess)).sum()))
