"""The calibration error of a canary while it runs, with bounds that hold at every look.

Rows are kept as sums by bin of the score, as guardrails keep theirs; the error is that of the bins.
Unlike a guardrail this compares with the truth, not with the control: a champion that has lost its
calibration must not be the measure of its successor.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import log, log1p, sqrt

from mlops_assets.core.guardrails import Finding, Reading
from mlops_assets.core.sequential import FEWEST, TUNING, Sums

EDGES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Scores at which a new bin begins: errors of two signs in one bin would hide each other."""

NUMBER = "calibration"

TUNED_FOR = 4_000
"""Rows at which the bounds are narrowest."""


def bin_of(score: float) -> int:
    """The bin of a probability, from 0 to 11.

    >>> bin_of(0.01), bin_of(0.05), bin_of(1.0)
    (0, 1, 11)
    """
    return bisect_right(EDGES, score)


def sums_of(scores: Sequence[float], labels: Sequence[int]) -> dict[int, Sums]:
    """Sums of score minus label by bin.

    Args:
        scores: probabilities, shape (n,).
        labels: 0 or 1, shape (n,).
    """
    found: dict[int, list[float]] = {}
    for score, label in zip(scores, labels, strict=True):
        found.setdefault(bin_of(score), []).append(score - label)
    return {number: Sums.of(gaps) for number, gaps in sorted(found.items())}


def calibration_bounds(bins: Mapping[int, Sums], alpha: float) -> tuple[float, float, float]:
    """The calibration error of the bins, and bounds of it that hold at all times.

    The error is the largest mean of the gaps over all ways to give every bin a sign. Each way is
    one sum of gaps with one asymptotic confidence sequence (`sequential.mean_difference`), and all
    2^bins of them hold at once. That is far narrower than a bound for every bin: errors of many
    bins are not all unlucky together. Below 100 rows nothing is known.

    Args:
        bins: sums of score minus label by bin.
        alpha: probability that any bound is ever wrong.

    Returns:
        The error as it is seen, the lower and the upper bound.

    >>> bins = sums_of([0.3] * 10_000, [1] * 3_000 + [0] * 7_000)
    >>> [round(one, 3) for one in calibration_bounds(bins, 0.05)]
    [0.0, 0.0, 0.024]
    """
    n = sum(one.n for one in bins.values())
    if n == 0:
        return 0.0, 0.0, 1.0
    seen = sum(abs(one.total) for one in bins.values()) / n
    if n < FEWEST:
        return seen, 0.0, 1.0
    # At least the variance, and never nothing: one more row may have the other label.
    spread = (sum(one.squares for one in bins.values()) + 1) / n
    weight = n / (TUNED_FOR / TUNING)
    signs = (len(EDGES) + 1) * log(2)
    cost = log1p(weight) + 2 * (signs - log(alpha))
    half = sqrt(spread / n) * sqrt((1 + 1 / weight) * cost)
    return seen, max(0.0, seen - half), min(1.0, seen + half)


def reading(bins: Mapping[int, Sums], limit: float, alpha: float) -> Reading:
    """Whether the calibration error is surely above the limit, surely below, or neither.

    Args:
        bins: sums of score minus label by bin.
        limit: the largest error that is accepted.
        alpha: as in `calibration_bounds`.
    """
    seen, low, high = calibration_bounds(bins, alpha)
    finding: Finding = "harm" if low > limit else "no harm" if high < limit else "open"
    return Reading(
        guardrail=NUMBER,
        finding=finding,
        difference=seen,
        low=low,
        high=high,
        margin=limit,
        canary=sum(bins.values(), Sums()),
        control=Sums(),
        alone=True,
    )
