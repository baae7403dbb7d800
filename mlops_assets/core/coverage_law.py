"""The exact law of split conformal coverage, for sets and intervals alike.

Only counts of covered rows come in; what covers them, and whether the coverage is good enough, is
decided elsewhere (`conformal`, `conformal_intervals`, `mondrian`; `gates`).
"""

from functools import cache
from math import ceil
from typing import Any, Protocol

import numpy as np

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats
from mlops_assets.errors import GateError

# Nodes of the quadrature over the Beta law; 64 already agree with 400 to 1e-9.
_NODES = 64


class CoverageRule(Protocol):
    """What a judge of coverage needs to know of a rule, of sets or of intervals."""

    @property
    def confidence(self) -> float:
        """The coverage stated."""

    @property
    def quantile(self) -> float:
        """The conformal quantile."""

    @property
    def n_conformalize(self) -> int:
        """Rows that gave it."""

    @property
    def over_coverage(self) -> float:
        """How far above the stated coverage a valid rule lies by its nature."""


def conformal_rank(n: int, confidence: float) -> int:
    """ceil((n + 1) confidence), with MAPIE's rounding of 1 - (1 - confidence).

    The score of this rank among n conformalization rows is the conformal quantile; a rank above n
    means that there are too few rows.

    >>> conformal_rank(99, 0.9), conformal_rank(8, 0.9)
    (90, 9)
    """
    alpha = round(1 - confidence, 12)
    return ceil((n + 1) * (1 - alpha))


def coverage_estimate(hits: int, n: int, n_conformalize: int, *, level: float = 0.95) -> Estimate:
    """Coverage from the count of covered rows, with its interval.

    The interval is for the coverage the method has on data like these, over the luck of the
    holdout and of the conformalization rows. A valid rule's coverage is Beta(k, m + 1 - k) with
    k = rank and m = n_conformalize (Vovk 2012), and the covered rows are binomial given it. A rule
    whose mean coverage is c instead is given Beta(c (m + 1), (1 - c)(m + 1)); the interval holds
    every c under which the observed count lies in neither tail, as Clopper and Pearson do.

    Args:
        hits: rows whose set or interval holds the truth.
        n: holdout rows.
        n_conformalize: rows that gave the quantile.
        level: level of the interval.

    Raises:
        GateError: counts that make no sense, or a level outside (0, 1).

    >>> estimate = coverage_estimate(900, 1000, 10**9)  # binomial: Clopper and Pearson's interval
    >>> round(estimate.low, 3), round(estimate.high, 3)
    (0.88, 0.918)
    """
    if not (0 <= hits <= n and n >= 1 and n_conformalize >= 1 and 0 < level < 1):
        raise GateError(
            f"{hits} of {n} rows covered, {n_conformalize=}, {level=}",
            expected="rows, no more of them covered than there are, and a level in (0, 1)",
            do="count the holdout rows whose set holds the truth",
        )
    size, tail = n_conformalize + 1, (1 - level) / 2
    return Estimate(
        value=hits / n,
        low=_bound(lambda c: 1 - share_at_most(hits - 1, n, c, size), tail, rising=True),
        high=_bound(lambda c: share_at_most(hits, n, c, size), tail, rising=False),
        n=n,
        level=level,
    )


def share_at_most(hits: int, n: int, mean: float, size: int) -> float:
    """P(X <= hits) for X binomial(n, C) with C ~ Beta(mean size, (1 - mean) size).

    P(X <= h | C) is P(D > C) with D ~ Beta(h + 1, n - h), so the sum is a comparison of two
    independent betas: one smooth integral over the narrower of the two.
    """
    from scipy.special import betainc, betaincc, betaincinv, betaln

    if hits < 0:
        return 0.0
    if hits >= n:
        return 1.0
    own, other = (mean * size, (1 - mean) * size), (hits + 1.0, float(n - hits))
    swapped = size < n
    narrow, wide = (other, own) if swapped else (own, other)
    low, high = betaincinv(*narrow, 1e-12), betaincinv(*narrow, 1 - 1e-12)
    nodes, weights = _quadrature()
    x = low + (high - low) * (nodes + 1) / 2
    a, b = narrow
    mass = np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)) * weights
    inner = betainc(*wide, x) if swapped else betaincc(*wide, x)
    return float((mass * inner).sum() / mass.sum())


@cache
def _quadrature() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _bound(tail_of: Any, tail: float, *, rising: bool) -> float:
    """The mean coverage at which a tail probability equals `tail`."""
    from scipy.optimize import brentq

    ends = 1e-9, 1 - 1e-9
    if rising and tail_of(ends[0]) >= tail:
        return 0.0
    if not rising and tail_of(ends[1]) >= tail:
        return 1.0
    return float(brentq(lambda c: tail_of(c) - tail, *ends, xtol=1e-9))
