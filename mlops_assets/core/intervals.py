"""Confidence bounds that the calibration numbers need and scipy does not have ready.

Only bounds on arrays belong here, without a notion of labels, models or limits: those stand in
`calibration`, `conformal` and `gates`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.estimate import Estimate

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# How the interval of the ECE spends its error probability, as shares of 1 - level. A model off to
# one side is misjudged by the "shift" rules, one off to changing sides by the others, so the sum
# may exceed one: over 13 patterns of deviation and 9 sizes of it, 95% intervals held the truth
# 94.7% of the time in the worst case (the statistical tests repeat the main ones).
_SHARE_SHIFT = 0.80  # lower bound: all bins off to the same side
_SHARE_SWITCH = 0.10  # lower bound: low scores off to one side, high scores to the other
_SHARE_ANY = 0.05  # lower bound: any pattern
_SHARE_SPREAD = 1.0  # upper bound: deviations spread thinly over all bins
_SHARE_SPREAD_SHIFT = 0.20  # upper bound: and to the same side


def mean_estimate(values: Floats, level: float) -> Estimate:
    """Mean of `values`, shape (n,), with its normal interval (no width for one row).

    >>> mean_estimate(np.array([1.0, 3.0]), 0.95).value
    2.0
    """
    from scipy.special import ndtri

    center = float(values.mean())
    half = float(ndtri((1 + level) / 2) * values.std(ddof=min(1, values.size - 1)))
    half /= values.size**0.5
    return Estimate(center, center - half, center + half, int(values.size), level)


def clopper_pearson(hits: NDArray[np.intp], n: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Exact two-sided bounds of binomial shares (Clopper and Pearson 1934), shapes (k,).

    >>> low, high = clopper_pearson(np.array([0]), np.array([10.0]), 0.05)
    >>> float(low[0]), bool(np.isclose(high[0], 1 - 0.025**0.1))
    (0.0, True)
    """
    from scipy.special import betaincinv

    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, alpha / 2), 0.0)
    high = np.where(hits < n, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - alpha / 2), 1.0)
    return low, high


def folded_cumulants(mean: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """First three cumulants of |N(mean, 1)| (Leone, Nelson and Nottingham 1961).

    >>> mean, variance, _ = folded_cumulants(0.0)
    >>> bool(np.isclose(mean, (2 / np.pi) ** 0.5)), bool(np.isclose(variance, 1 - 2 / np.pi))
    (True, True)
    """
    from scipy.special import ndtr

    exact = np.asarray(mean, dtype=np.float64)
    # Beyond 40 nothing is folded; stopping there keeps mu**2 + 1 - mu**2 from being lost.
    mu = np.minimum(exact, 40.0)
    density = np.exp(-(mu**2) / 2) / np.sqrt(2 * np.pi)
    first = mu * (1 - 2 * ndtr(-mu)) + 2 * density
    second = mu**2 + 1
    third = (mu**3 + 3 * mu) * (1 - 2 * ndtr(-mu)) + 2 * (mu**2 + 2) * density
    cumulants = second - first**2, third - 3 * first * second + 2 * first**3
    return first + (exact - mu), *cumulants


def ece_lower_bound(parts: Floats, scale: Floats, alpha: float) -> float:
    """Lower bound of a true binned ECE.

    The ECE is the largest signed mean deviation over all ways to give each bin a sign. Each
    pattern of signs has an unbiased estimate, all with the same standard error, so each gives a
    lower bound: all bins to one side (the usual drift); one switch of sign (over- and
    underconfidence; Bonferroni over the switches); and the pattern seen, where the bias of the
    plug-in value is at most that of a perfect model.

    Args:
        parts: shape (bins,), share of rows times deviation of each bin, in order of score.
        scale: shape (bins,), the standard errors of `parts`.
        alpha: 1 - level of the interval of which this is one end.

    >>> round(ece_lower_bound(np.array([0.02, 0.02]), np.array([0.003, 0.004]), 0.05), 4)
    0.0312
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    error = float(np.sqrt((scale**2).sum()))
    total = float(np.abs(parts).sum())
    if error == 0.0:  # labels that follow from the scores leave no doubt
        return total
    shift = abs(float(parts.sum())) / error
    size = alpha * _SHARE_SHIFT

    def surprise(mean: float) -> float:
        return float(ndtr(mean - shift) + ndtr(-mean - shift)) - size

    bounds = [0.0, total - np.sqrt(2 / np.pi) * scale.sum() + ndtri(alpha * _SHARE_ANY) * error]
    if surprise(0.0) < 0:
        bounds.append(error * brentq(surprise, 0.0, shift + 1.0))
    if parts.size > 1:
        switches = np.abs(2 * np.cumsum(parts)[:-1] - parts.sum())
        bounds.append(switches.max() + ndtri(alpha * _SHARE_SWITCH / switches.size) * error)
    return float(max(bounds))


def ece_upper_bound(parts: Floats, scale: Floats, alpha: float) -> float:
    """Upper bound of a true binned ECE; arguments as for `ece_lower_bound`.

    It is the largest ECE for which the plug-in value is not surprisingly small in the worst case:
    of all deviations with that ECE, those in proportion to their standard errors inflate the
    plug-in value least (Lagrange; the folded normal mean is convex). Its law there is a sum of
    folded normals, by Cornish-Fisher expansion. An ECE of one-sided deviations must also be
    surprising for the plain mean deviation before it is ruled out.

    >>> round(ece_upper_bound(np.array([0.02, 0.02]), np.array([0.003, 0.004]), 0.05), 4)
    0.0516
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    total = float(np.abs(parts).sum())
    error = float(np.sqrt((scale**2).sum()))
    sums = scale.sum(), (scale**2).sum(), (scale**3).sum()
    z = float(ndtri(alpha * _SHARE_SPREAD))

    def excess(mean: float) -> float:
        first, second, third = (s * k for s, k in zip(sums, folded_cumulants(mean), strict=True))
        quantile = first + np.sqrt(second) * z + third / second * (z**2 - 1) / 6
        return float(quantile) - total

    if error == 0.0:
        return total
    shift = abs(float(parts.sum())) - float(ndtri(alpha * _SHARE_SPREAD_SHIFT)) * error
    if excess(0.0) >= 0:  # smaller than noise alone: only the shift limits it
        return shift
    top = 2.0 + total / sums[0]
    while excess(top) < 0:
        top *= 2
    return float(max(shift, sums[0] * brentq(excess, 0.0, top)))
