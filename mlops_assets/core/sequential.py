"""Bounds that hold at every look: confidence sequences, and a test of the split, from plain sums.

All that is kept of the observations of an arm is their number, their sum and the sum of their
squares, in any order; sums of several workers are added. The bounds hold at all times at once
(Ville's inequality), so one may look after every request and stop when one likes. What is assumed
is that the observations of an arm are independent and that their mean stays the same: where one
entity sends many requests, observe entities and not requests.

What harm is, and what follows from it, is decided in `guardrails`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, lgamma, log, log1p, sqrt
from typing import TYPE_CHECKING

from mlops_assets.errors import DataError, DeclarationError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TUNING = 8.0
"""Observations for which a bound is tuned, over those that its prior weighs; best near 95%."""

FEWEST = 100
"""With fewer observations in an arm a mean of unbounded values is not called normal."""

SPLIT_STRENGTH = 1_000.0
"""Entities that the prior of the split test weighs: it looks for shares off by some points."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is kept of the observations of an arm.

    Args:
        n: their number.
        total: their sum.
        squares: the sum of their squares.

    Raises:
        DataError: sums of no observations, such as NaN or a negative number.

    >>> Sums.of([0.0, 1.0]) + Sums.of([1.0])
    Sums(n=3, total=2.0, squares=2.0)
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        finite = isfinite(self.total) and isfinite(self.squares)
        # By Cauchy and Schwarz, but for rounding.
        if not finite or self.n < 0 or self.total**2 > self.n * self.squares * (1 + 1e-9):
            raise DataError(
                f"observations with the sums {self.n}, {self.total}, {self.squares}",
                expected="the number, sum and sum of squares of finite values",
                do="leave out values that are not finite before they are summed",
            )

    @classmethod
    def of(cls, values: "ArrayLike") -> "Sums":
        """Sum values of shape (n,), numbers or flags."""
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        return cls(int(array.size), float(array.sum()), float((array**2).sum()))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """Their mean; 0 when there are none."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Their sample variance; 0 for fewer than two."""
        return max(0.0, self.squares - self.total * self.mean) / max(1, self.n - 1)


@dataclass(frozen=True, slots=True)
class Prior:
    """Where a mean in [0, 1] is looked for. It changes how wide bounds are, never that they hold.

    A third of its weight lies near `expected`, as tight as is best for `tuned_for` observations; a
    third lies around it more loosely, and the last is Jeffreys' prior, so that a wrong expectation
    or a large harm costs little.

    Raises:
        DeclarationError: an expectation outside (0, 1), or fewer than one observation.
    """

    expected: float
    tuned_for: int = 10_000

    def __post_init__(self) -> None:
        if not (0 < self.expected < 1 and self.tuned_for >= 1):
            raise DeclarationError(
                f"a prior with the expected mean {self.expected} for {self.tuned_for} observations",
                expected="a mean between 0 and 1, both exclusive, and at least one observation",
                do="give the champion's mean, roughly; a guess is good enough",
            )

    def log_mixture(self, *arms: Sums) -> float:
        """Log likelihood of the arms, averaged over the prior."""
        tight = self.tuned_for / TUNING
        weights = [max(1.0, weight) for weight in (tight, tight / 10)]
        betas = [(weight * self.expected, weight * (1 - self.expected)) for weight in weights]
        # Both arms share a part of the mixture: what fits one is likely to fit the other.
        parts = [sum(_log_beta_ratio(*beta, arm) for arm in arms) for beta in (*betas, (0.5, 0.5))]
        largest = max(parts)
        return largest + log(sum(exp(part - largest) for part in parts) / len(parts))


def share_difference(
    canary: Sums, control: Sums, prior: Prior, alpha: float = 0.05
) -> tuple[float, float]:
    """Bounds of the canary's mean minus the control's, for values in [0, 1].

    They hold at all times with probability 1 - alpha. The likelihood ratio of a Beta mixture of
    Bernoulli laws against the mean p is a martingale for flags (Robbins 1970), and a
    supermartingale for all values in [0, 1] of mean p, as it is convex in each value; the product
    of both arms' is one too, whatever their sizes. The bounds hold the differences that some pair
    of means has at which it is below 1 / alpha. Values with a smaller variance than flags of the
    same mean get wider bounds than they need.

    Raises:
        DataError: sums that values in [0, 1] cannot have.

    >>> low, high = share_difference(Sums(5_000, 100, 100), Sums(5_000, 50, 50), Prior(0.01))
    >>> round(low, 4), round(high, 4)
    (0.0002, 0.0204)
    """
    _refuse_outside(canary)
    _refuse_outside(control)
    most = -prior.log_mixture(canary, control) - log(alpha)

    # At the ends the slopes of both arms are opposite (Lagrange): one unknown is left.
    def means(slope: float) -> tuple[float, float]:
        return _mean_at(canary, slope), _mean_at(control, -slope)

    def cost(slope: float) -> float:
        one, other = means(slope)
        return _cost(canary, one) + _cost(control, other)

    def bound(sign: int) -> float:
        slope = _last_below(lambda size: cost(sign * size), most)
        if slope is None:
            return float(sign)
        one, other = means(sign * slope)
        return one - other

    return bound(-1), bound(1)


def mean_difference(
    canary: Sums, control: Sums, *, tuned_for: int = 10_000, alpha: float = 0.05
) -> tuple[float, float]:
    """Bounds of the canary's mean minus the control's, for values without bounds.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021):
    as a normal interval, it holds with the stated probability once means are about normal. With
    fewer than 100 observations in an arm, or with equal values only, it says nothing.

    Args:
        canary: sums of the canary.
        control: sums of the control.
        tuned_for: observations per arm at which it is narrowest.
        alpha: probability that it is ever wrong.

    >>> low, high = mean_difference(Sums(5_000, 500.0, 5_050.0), Sums(5_000, 0.0, 5_000.0))
    >>> round(low, 3), round(high, 3)
    (0.038, 0.162)
    >>> mean_difference(Sums(99, 0.0, 99.0), Sums(5_000, 0.0, 5_000.0))
    (-inf, inf)
    """
    error = sqrt(canary.variance / max(1, canary.n) + control.variance / max(1, control.n))
    if min(canary.n, control.n) < FEWEST or error == 0:
        return -inf, inf
    weight = (canary.n + control.n) / (2 * tuned_for / TUNING)
    half = error * sqrt((1 + 1 / weight) * (log1p(weight) - 2 * log(alpha)))
    center = canary.mean - control.mean
    return center - half, center + half


def more_evidence(canary: Sums, control: Sums) -> float:
    """Log evidence that values in [0, 1] are higher in the canary, of arms drawn with equal odds.

    While a version makes nothing worse, a fair coin decides in which arm an error is seen. The
    evidence multiplies (2q)^x for a value x in the canary and (2 - 2q)^x for one in the control,
    averaged over all q from 1/2 to 1. Over the toss such a factor is 1 on average at x = 0 and at
    x = 1, and as it is convex in x, at most 1 between: the evidence ever exceeds log(1 / alpha)
    with probability alpha at most (Ville). Values of 0 say nothing and no rate has to be known, so
    rare errors are found much sooner than by `share_difference`, which also says how many they are.

    Returns:
        The logarithm; 0 where there are no errors.

    Raises:
        DataError: sums that values in [0, 1] cannot have.

    >>> more_evidence(Sums(500, 10, 10), Sums(500, 10, 10)) < 0
    True
    >>> round(more_evidence(Sums(500, 15, 15), Sums(500, 5, 5)), 1)
    1.8
    """
    from scipy.special import betainc

    _refuse_outside(canary)
    _refuse_outside(control)
    a, b = 1 + canary.total, 1 + control.total
    # The integral of q^(a-1) (1-q)^(b-1) from 1/2 to 1, by the mirror image of the Beta law.
    upper = float(betainc(b, a, 0.5))
    if upper == 0:  # it is lost below the smallest number: far from any evidence
        return -inf
    whole = lgamma(a) + lgamma(b) - lgamma(a + b)
    return whole + log(upper) + (a + b - 1) * log(2)


def split_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Log evidence that entities do not fall into the arms by the planned shares.

    The Dirichlet mixture of Lindon and Malek (2022), a martingale while the split is right: it
    ever exceeds log(1 / alpha) with probability alpha at most.

    Args:
        counts: entities by arm, each counted once. Requests must not be counted: those of one
            entity all go to one arm.
        shares: planned shares by arm, in any unit.

    Raises:
        DeclarationError: other than one positive share per count, or negative counts.

    >>> split_evidence([5_050, 4_950], [1, 1]) < 0 < split_evidence([5_300, 4_700], [1, 1])
    True
    """
    if len(counts) != len(shares) or not shares or min(shares) <= 0 or min(counts) < 0:
        raise DeclarationError(
            f"the counts {list(counts)} of a split into {list(shares)}",
            expected="a count from 0 and a share above 0 for every arm",
            do="leave out arms that are to get nobody",
        )
    whole = sum(shares)
    evidence = lgamma(SPLIT_STRENGTH) - lgamma(SPLIT_STRENGTH + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        weight = SPLIT_STRENGTH * share / whole
        evidence += lgamma(weight + count) - lgamma(weight) - count * log(share / whole)
    return evidence


def _log_beta_ratio(a: float, b: float, arm: Sums) -> float:
    """Log likelihood of an arm, averaged over Beta(a, b)."""
    rest = max(0.0, arm.n - arm.total)
    gained = lgamma(a + arm.total) - lgamma(a) + lgamma(b + rest) - lgamma(b)
    return gained - (lgamma(a + b + arm.n) - lgamma(a + b))


def _cost(arm: Sums, mean: float) -> float:
    """Minus the log likelihood of an arm at a mean."""
    rest = arm.n - arm.total
    if (arm.total > 0 and mean <= 0) or (rest > 0 and mean >= 1):
        return inf
    hits = arm.total * log(mean) if arm.total > 0 else 0.0
    misses = rest * log1p(-mean) if rest > 0 else 0.0
    return -hits - misses


def _mean_at(arm: Sums, slope: float) -> float:
    """The mean at which the cost of an arm has a slope: a root of a quadratic."""
    ahead = arm.n - slope
    root = sqrt(ahead**2 + 4 * slope * arm.total)
    # Of two forms of the same root, the one without cancellation.
    if ahead > 0:
        return min(1.0, 2 * arm.total / (ahead + root))
    return min(1.0, (root - ahead) / (2 * slope)) if slope else arm.mean


def _last_below(cost: Callable[[float], float], most: float) -> float | None:
    """The slope at which a rising cost reaches `most`; None when it never does."""
    from scipy.optimize import brentq

    top = 1.0
    while cost(top) < most:
        top *= 4
        if top > 1e15:
            return None
    return float(brentq(lambda slope: min(cost(slope), 1e300) - most, 0.0, top, rtol=1e-9))


def _refuse_outside(sums: Sums) -> None:
    """Refuse sums that values in [0, 1] cannot have: none is below its own square."""
    if not -1e-9 <= sums.total <= sums.n * (1 + 1e-9) or sums.squares > sums.total * (1 + 1e-9):
        raise DataError(
            f"{sums.n} observations with the sum {sums.total}, {sums.squares} squared",
            expected="values from 0 to 1",
            do="scale the values, or bound their mean by mean_difference",
        )
