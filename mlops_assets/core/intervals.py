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


def mean_estimate(values: Floats, level: float, weights: Floats | None = None) -> Estimate:
    """Mean of `values`, shape (n,), with its normal interval (no width for one row).

    With weights, positive and of shape (n,), the standard error is the larger of two: that of
    Kish's effective rows, and that of the weighted sum itself, which is larger when heavy rows
    have the outlying values.

    >>> mean_estimate(np.array([1.0, 3.0]), 0.95).value
    2.0
    """
    from scipy.special import ndtri

    if weights is None:
        center = float(values.mean())
        half = float(ndtri((1 + level) / 2) * values.std(ddof=min(1, values.size - 1)))
        half /= values.size**0.5
        return Estimate(center, center - half, center + half, int(values.size), level)
    share = weights / weights.sum()
    n = effective_rows(weights)
    center = float(share @ values)
    spread = (values - center) ** 2
    variance = max(float(share @ spread) / n, float(share**2 @ spread)) * n / max(n - 1, 1.0)
    half = float(ndtri((1 + level) / 2)) * variance**0.5
    return Estimate(center, center - half, center + half, max(1, int(n)), level)


def effective_rows(weights: Floats) -> float:
    """Rows of equal weight that would leave as much noise (Kish 1965), for weights of shape (n,).

    >>> effective_rows(np.array([2.0, 2.0, 2.0])), effective_rows(np.array([3.0, 1.0]))
    (3.0, 1.6)
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def clopper_pearson(hits: ArrayLike, n: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Exact two-sided bounds of binomial shares (Clopper and Pearson 1934), shapes (k,).

    Neither count need be whole: with effective rows these are the bounds of Korn and Graubard
    (1998) for weighted samples.

    >>> low, high = clopper_pearson(np.array([0]), np.array([10.0]), 0.05)
    >>> float(low[0]), bool(np.isclose(high[0], 1 - 0.025**0.1))
    (0.0, True)
    """
    from scipy.special import betaincinv

    hit = np.asarray(hits, dtype=np.float64)
    some, open_ = np.where(hit > 0, hit, 1.0), np.where(hit < n, n - hit, 1.0)
    low = np.where(hit > 0, betaincinv(some, n - hit + 1, alpha / 2), 0.0)
    high = np.where(hit < n, betaincinv(hit + 1, open_, 1 - alpha / 2), 1.0)
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


def shift_lower_bound(shift: float, error: float, alpha: float) -> float:
    """Lower bound of |mean| for a normal estimate `shift` with a standard error above 0.

    >>> round(shift_lower_bound(-5.0, 1.0, 0.05), 3), shift_lower_bound(1.0, 1.0, 0.05)
    (3.355, 0.0)
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    size = abs(shift) / error

    def surprise(mean: float) -> float:
        return float(ndtr(mean - size) + ndtr(-mean - size)) - alpha

    return float(error * brentq(surprise, 0.0, size + 1.0)) if surprise(0.0) < 0 else 0.0


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
    from scipy.special import ndtri

    error = float(np.sqrt((scale**2).sum()))
    total = float(np.abs(parts).sum())
    if error == 0.0:  # labels that follow from the scores leave no doubt
        return total
    shift = shift_lower_bound(float(parts.sum()), error, alpha * _SHARE_SHIFT)
    any_pattern = total - np.sqrt(2 / np.pi) * scale.sum() + ndtri(alpha * _SHARE_ANY) * error
    bounds = [0.0, any_pattern, shift]
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
    from scipy.special import ndtri

    total = float(np.abs(parts).sum())
    error = float(np.sqrt((scale**2).sum()))
    sums = scale.sum(), (scale**2).sum(), (scale**3).sum()
    if error == 0.0:
        return total
    shift = abs(float(parts.sum())) - float(ndtri(alpha * _SHARE_SPREAD_SHIFT)) * error
    return max(shift, _largest_spread(total, sums, float(ndtri(alpha * _SHARE_SPREAD))))


def _largest_spread(total: float, sums: tuple[float, float, float], z: float) -> float:
    """The largest ECE of thin deviations for which `total` is not below its z-quantile.

    `sums` are those of the standard errors, of their squares and of their cubes. The answer is 0
    when `total` is smaller than noise alone would make it: then only the shift limits the ECE.
    """
    from scipy.optimize import brentq

    def excess(mean: float) -> float:
        first, second, third = (s * k for s, k in zip(sums, folded_cumulants(mean), strict=True))
        quantile = first + np.sqrt(second) * z + third / second * (z**2 - 1) / 6
        return float(quantile) - total

    if excess(0.0) >= 0:
        return 0.0
    top = 2.0 + total / sums[0]
    while excess(top) < 0:
        top *= 2
    return float(sums[0] * brentq(excess, 0.0, top))


def pooled_ece_bounds(
    parts: Floats, scale: Floats, groups: Floats, alpha: float
) -> tuple[float, float]:
    """Bounds of the sum of several ECEs of the same rows, such as one per class.

    Rows stand in each table, so the noise of the tables is not independent, and how it hangs
    together is not known. No dependence makes the standard error of a sum larger than the sum of
    the standard errors (Minkowski), nor its mean any different; no skewness is counted on.

    Args:
        parts: shape (bins,), as for `ece_lower_bound`, of all tables, in order of group and score.
        scale: shape (bins,), the standard errors of `parts`.
        groups: shape (bins,), which table each bin belongs to.
        alpha: 1 - level of the interval.

    >>> one = np.array([0.02, 0.02]), np.array([0.003, 0.004])
    >>> low, high = pooled_ece_bounds(*one, np.zeros(2), 0.05)
    >>> round(low, 4) == round(ece_lower_bound(*one, 0.05), 4), 0.051 < high < 0.052
    (True, True)
    """
    from scipy.special import ndtri

    tables = [groups == group for group in np.unique(groups)]
    total = float(np.abs(parts).sum())
    error = float(sum(np.sqrt((scale[rows] ** 2).sum()) for rows in tables))
    if error == 0.0:
        return total, total
    noise = float(np.sqrt(2 / np.pi) * scale.sum())
    any_pattern = total - noise + float(ndtri(alpha * _SHARE_ANY)) * error
    # Each bound at alpha / tables: all of them hold at once, and so does their sum.
    apart = sum(ece_lower_bound(parts[rows], scale[rows], alpha / len(tables)) for rows in tables)
    shift = sum(abs(float(parts[rows].sum())) for rows in tables)
    shift -= float(ndtri(alpha * _SHARE_SPREAD_SHIFT)) * error
    sums = float(scale.sum()), error**2, 0.0
    spread = _largest_spread(total, sums, float(ndtri(alpha * _SHARE_SPREAD)))
    return max(any_pattern, float(apart), 0.0), max(shift, spread)
