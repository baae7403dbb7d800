"""Tests of one group of rows against what was promised of them, and of many groups at once.

Each test gives an estimate with its interval and a p-value. Only tests belong here, without a
notion of slices or limits: those stand in `slices` and `slice_gates`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.coverage_law import conformal_rank, coverage_estimate, share_at_most
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Flags, Floats

# Below this skewness the gamma distribution is as good as normal.
_SYMMETRIC = 1e-3
# A count that varies by less than this does not vary.
_CERTAIN = 1e-50


@dataclass(frozen=True, slots=True)
class Tested:
    """An estimate and the two-sided p-value of what was promised."""

    estimate: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class _Moments:
    """Means of the scores, their squares and their cubes, and how many scores."""

    n: int
    first: float
    second: float
    third: float

    def tails(self, hits: int, shift: float) -> tuple[float, float]:
        """P(at most `hits`) and P(at least `hits`) positives if all scores are too low by `shift`.

        The number of positives is a sum of unequal Bernoulli trials. It is given the gamma
        distribution (Pearson's type III) with its mean, variance and skewness, and the usual half
        a count. Where a shift would leave [0, 1] and so lose variance, the unshifted one is used.
        """
        from scipy.special import gammainc, gammaincc, ndtr

        spread, skew = max(self._cumulants(0.0), self._cumulants(shift))
        deviation = (self.n * max(spread, 0.0)) ** 0.5
        gap = hits - self.n * (self.first + shift)
        if deviation < _CERTAIN:
            return float(gap > -0.5), float(gap < 0.5)
        below, above = (gap + 0.5) / deviation, (gap - 0.5) / deviation
        skewness = self.n * skew / deviation**3
        if abs(skewness) < _SYMMETRIC:
            return float(ndtr(below)), float(ndtr(-above))
        if skewness < 0:  # the mirror image
            below, above = -above, -below
        shape, scale = 4 / skewness**2, 2 / abs(skewness)
        at_most = float(gammainc(shape, max(shape + below * scale, 0.0)))
        at_least = float(gammaincc(shape, max(shape + above * scale, 0.0)))
        return (at_least, at_most) if skewness < 0 else (at_most, at_least)

    def _cumulants(self, shift: float) -> tuple[float, float]:
        """Mean variance and mean third cumulant of the labels."""
        first = self.first + shift
        second = self.second + 2 * shift * self.first + shift**2
        third = self.third + 3 * shift * self.second + 3 * shift**2 * self.first + shift**3
        return first - second, first - 3 * second + 2 * third


def mean_deviation_test(flags: Flags, scores: Floats, *, level: float = 0.95) -> Tested:
    """Share of positives minus mean probability, tested against 0: calibration in the large.

    The interval holds the shifts of all scores under which the count of positives lies in neither
    tail. A count is tested, so that the p-value is right for rare labels too.

    Args:
        flags: shape (n,), labels that are known to be valid.
        scores: shape (n,), the probability of class 1.
        level: level of the interval.

    >>> tested = mean_deviation_test(np.arange(1000) % 10 == 0, np.full(1000, 0.05))
    >>> round(tested.estimate.value, 3), tested.p_value < 1e-8
    (0.05, True)
    """
    hits, n = int(np.count_nonzero(flags)), flags.size
    moments = _Moments(n, *(float(m) for m in _power_means(scores)))
    tail = (1 - level) / 2
    low, high = -moments.first, 1 - moments.first
    value = hits / n - moments.first
    estimate = Estimate(
        value,
        min(value, _edge(lambda shift: moments.tails(hits, shift)[1] - tail, low, high)),
        max(value, _edge(lambda shift: tail - moments.tails(hits, shift)[0], low, high)),
        n,
        level,
    )
    return Tested(estimate, min(1.0, 2 * min(moments.tails(hits, 0.0))))


def coverage_test(
    hits: int, n: int, *, confidence: float, n_conformalize: int, level: float = 0.95
) -> Tested:
    """Coverage of `n` rows, `hits` of them covered, tested against a valid rule's.

    The law counts the luck of the conformalization rows too (see `coverage_law`).

    Args:
        hits: rows whose set or interval holds the truth.
        n: rows.
        confidence: the stated coverage.
        n_conformalize: rows that gave the conformal quantile.
        level: level of the interval.

    Raises:
        GateError: counts that make no sense.

    >>> tested = coverage_test(850, 1000, confidence=0.9, n_conformalize=10**9)
    >>> tested.estimate.value, 1e-7 < tested.p_value < 1e-6
    (0.85, True)
    """
    estimate = coverage_estimate(hits, n, n_conformalize, level=level)
    size = n_conformalize + 1
    mean = min(conformal_rank(n_conformalize, confidence) / size, 1 - 1e-9)
    at_most = share_at_most(hits, n, mean, size)
    at_least = 1 - share_at_most(hits - 1, n, mean, size)
    return Tested(estimate, min(1.0, max(0.0, 2 * min(at_most, at_least))))


def false_discoveries_held(p_values: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Which tests are significant if, of those, a share of at most `rate` may be so by chance.

    Benjamini and Hochberg's step-up rule (1995); it holds for tests that depend positively on one
    another as well (Benjamini and Yekutieli 2001).

    >>> false_discoveries_held([0.01, 0.04, 0.03, 0.9]).tolist()
    [True, False, False, False]
    >>> false_discoveries_held([0.01, 0.02, 0.03, 0.9]).tolist()
    [True, True, True, False]
    """
    p = np.asarray(p_values, dtype=np.float64)
    ordered = np.sort(p)
    fine = ordered <= rate * np.arange(1, p.size + 1) / max(p.size, 1)
    return p <= (ordered[fine].max() if fine.any() else -1.0)


def _power_means(scores: Floats) -> tuple[float, float, float]:
    squares = scores * scores
    return float(scores.mean()), float(squares.mean()), float(np.dot(squares, scores) / scores.size)


def _edge(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0; the nearer end if it does not."""
    from scipy.optimize import brentq

    if rising(low) >= 0:
        return low
    return high if rising(high) <= 0 else float(brentq(rising, low, high, xtol=1e-10))
