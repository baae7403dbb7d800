"""Scores that a model cannot improve by saying other than it believes, and what they consist of.

Brier score and log loss, binary and multiclass, the parts of the Brier score, and Spiegelhalter's
test. Only numbers made of single rows belong here; numbers made of bins are in `calibration`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.calibration import ReliabilityBins, validate_scores, validate_weighted
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Flags, Floats, mean_estimate
from mlops_assets.core.multiclass import validate_classes
from mlops_assets.errors import GateError


@dataclass(frozen=True, slots=True)
class BrierDecomposition:
    """Brier score = reliability - resolution + uncertainty + within-bin variance - covariance.

    The first three are Murphy's (1973), exact when all scores of a bin are equal; the last two
    make up for it when they are not (Stephenson, Coelho and Jolliffe 2008).

    `reliability`: squared deviations of the bins; small is good.
    `resolution`: how far the bins' observed shares are from the base rate; large is good.
    `uncertainty`: base rate times (1 - base rate); not the model's doing.
    `within_bin_variance`: squared distance of the scores from the mean score of their bin.
    `within_bin_covariance`: twice that of score and label; what the spread within bins is good for.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float

    @property
    def generalized_resolution(self) -> float:
        """Resolution with the within-bin terms: Brier = reliability - this + uncertainty."""
        return self.resolution - self.within_bin_variance + self.within_bin_covariance


@dataclass(frozen=True, slots=True)
class CalibrationTest:
    """A test of perfect calibration: standard normal `z`, two-sided `p_value`, rows."""

    z: float
    p_value: float
    n: int


def brier_score(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Mean squared difference of probability and label, with its normal interval.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        weights: shape (n,), at least 0; the estimate's `n` then counts effective rows.
        level: level of the interval.

    Raises:
        GateError: the rows cannot be judged (see `calibration.validate_weighted`).

    >>> brier_score([0, 1], [0.5, 0.5]).value
    0.25
    """
    flags, scores, w = validate_weighted(labels, probabilities, weights)
    return mean_estimate((scores - flags) ** 2, level, w)


def log_loss(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Mean negative log likelihood in nats, with its normal interval; arguments as `brier_score`.

    Scores of exactly 0 and 1 are moved inwards by one machine epsilon, as in scikit-learn.

    >>> round(log_loss([0, 1], [0.5, 0.5]).value, 6)
    0.693147
    """
    flags, scores, w = validate_weighted(labels, probabilities, weights)
    return mean_estimate(log_losses(flags, scores), level, w)


def log_losses(flags: Flags, scores: Floats) -> Floats:
    """Negative log likelihood of each row, shape (n,), of validated labels and scores."""
    eps = np.finfo(np.float64).eps
    return -np.log(np.where(flags, scores, 1 - scores).clip(eps, 1 - eps))


def multiclass_brier_score(
    labels: ArrayLike, probabilities: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """Half the mean squared distance between the probabilities and the true class's corner.

    Half, so that it lies in [0, 1] and is the binary score for two classes; Brier's own (1950) is
    twice this, scikit-learn's is this with `scale_by_half=True`.

    Args:
        labels: shape (n,), integers 0 to K - 1.
        probabilities: shape (n, K), rows summing to 1.
        level: level of the interval.

    Raises:
        GateError: see `multiclass.validate_classes`.

    >>> multiclass_brier_score([0, 2], [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]).value
    0.375
    """
    classes, p = validate_classes(labels, probabilities)
    truth = np.take_along_axis(p, classes[:, None], axis=1)[:, 0]
    return mean_estimate(((p**2).sum(axis=1) - 2 * truth + 1) / 2, level)


def multiclass_log_loss(
    labels: ArrayLike, probabilities: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """Mean negative log probability of the true class; arguments as `multiclass_brier_score`.

    >>> round(multiclass_log_loss([0, 2], [[1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]).value, 6)
    0.346574
    """
    classes, p = validate_classes(labels, probabilities)
    truth = np.take_along_axis(p, classes[:, None], axis=1)[:, 0]
    return mean_estimate(log_losses(np.ones(truth.size, dtype=bool), truth), level)


def brier_decomposition(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: ReliabilityBins,
    *,
    weights: ArrayLike | None = None,
) -> BrierDecomposition:
    """The Brier score as the sum of its parts, on the reliability bins of the same rows.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        bins: from `reliability_bins` of the same labels, probabilities and weights.
        weights: shape (n,), at least 0.

    Raises:
        GateError: rows that cannot be judged, or that are not those of the bins.

    >>> from mlops_assets.core.calibration import reliability_bins
    >>> rows = [0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75]
    >>> parts = brier_decomposition(*rows, reliability_bins(*rows, n_bins=2, min_rows=1))
    >>> parts.reliability, parts.resolution, parts.uncertainty, parts.brier
    (0.0625, 0.0625, 0.1875, 0.1875)
    """
    flags, scores, w = validate_weighted(labels, probabilities, weights)
    place = np.searchsorted(bins.column("upper"), scores)
    rows = np.bincount(place, minlength=len(bins.bins))
    if rows.size != len(bins.bins) or (rows != bins.column("n")).any():
        raise GateError(
            f"{scores.size} rows that fall into the bins as {rows.tolist()}",
            expected=f"{bins.column('n').astype(int).tolist()} rows per bin",
            do="make the bins of exactly these rows and weights with reliability_bins",
        )
    share = np.full(scores.size, 1 / scores.size) if w is None else w / w.sum()

    def per_bin(values: Floats) -> Floats:
        return np.bincount(place, share * values, rows.size).astype(np.float64)

    truth = flags.astype(np.float64)
    mass = per_bin(np.ones(scores.size))
    expected, observed = per_bin(scores) / mass, per_bin(truth) / mass
    base = float(mass @ observed)
    within = scores - expected[place]
    return BrierDecomposition(
        brier=float(share @ (scores - truth) ** 2),
        reliability=float(mass @ (expected - observed) ** 2),
        resolution=float(mass @ (observed - base) ** 2),
        uncertainty=base * (1 - base),
        within_bin_variance=float(share @ within**2),
        within_bin_covariance=float(2 * share @ (within * (truth - observed[place]))),
    )


def spiegelhalter_test(labels: ArrayLike, probabilities: ArrayLike) -> CalibrationTest:
    """Spiegelhalter's (1986) test: is the Brier score that of a perfectly calibrated model?

    A positive z says that the Brier score is worse than the model's own probabilities promise
    (overconfident), a negative one that it is better. A model off in ways that leave the Brier
    score as promised is not noticed.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.

    Raises:
        GateError: rows that cannot be judged, or scores all 0, 0.5 or 1, which promise nothing.

    >>> test = spiegelhalter_test([0, 1, 0, 1, 0], [0.1, 0.9, 0.21, 0.9, 0.5])
    >>> round(test.z, 3), round(test.p_value, 3)
    (-0.757, 0.449)
    """
    from scipy.special import ndtr

    flags, p = validate_scores(labels, probabilities)
    variance = float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    if variance == 0.0:
        raise GateError(
            "scores that are all 0, 0.5 or 1",
            expected="scores whose Brier score depends on chance",
            do="judge such scores by their reliability bins",
        )
    z = float(((flags - p) * (1 - 2 * p)).sum()) / variance**0.5
    return CalibrationTest(z, float(2 * ndtr(-abs(z))), p.size)
