"""Split conformal prediction intervals of a regression, and how often they hold the truth.

A rule is a few stored numbers, so that serving needs no MAPIE; its intervals are MAPIE's where both
compute the same. Only intervals, coverage and width belong here; the law of coverage is in
`coverage_law`, sets of classes are in `conformal`, and the verdict on coverage is in `gates`.

absolute    f +- q, with q a quantile of |y - f|
normalized  f +- q s, with q a quantile of |y - f| / s; s tells how difficult a row is thought to be
quantile    lo - q to hi + q, with q a quantile of max(lo - y, y - hi): conformalized quantile
            regression (Romano, Patterson and Candes 2019)
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.coverage_law import conformal_rank, coverage_estimate
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats, mean_estimate
from mlops_assets.core.predictive import positive_numbers, real_numbers
from mlops_assets.errors import GateError

Kind = Literal["absolute", "normalized", "quantile"]
KINDS: tuple[Kind, ...] = ("absolute", "normalized", "quantile")


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """How far an interval reaches; `quantile` is the `rank`-th smallest of the conformity scores.

    >>> rule = IntervalRule(confidence=0.9, quantile=2.0, n_conformalize=1000)
    >>> rule.intervals([10.0, 20.0]).tolist()
    [[8.0, 12.0], [18.0, 22.0]]
    >>> IntervalRule(0.9, 2.0, 1000, "normalized").intervals([10.0], spread=[0.5]).tolist()
    [[9.0, 11.0]]
    >>> IntervalRule(0.9, -1.0, 1000, "quantile").intervals([[0.0, 10.0]]).tolist()
    [[1.0, 9.0]]
    """

    confidence: float
    quantile: float
    n_conformalize: int
    kind: Kind = "absolute"

    def __post_init__(self) -> None:
        if (
            not 0 < self.confidence < 1
            or not isfinite(self.quantile)
            or (self.quantile < 0 and self.kind != "quantile")
            or self.kind not in KINDS
            or self.n_conformalize < 1
            or self.rank > self.n_conformalize
        ):
            raise GateError(
                f"an interval rule with {self.confidence=}, {self.quantile=}, "
                f"{self.n_conformalize=}, {self.kind=}",
                expected=f"confidence in (0, 1), a finite quantile (negative only for kind "
                f"quantile), a kind of {KINDS}, and at least confidence / (1 - confidence) "
                "conformalization rows",
                do="take a longer conformalize window or a lower confidence",
            )

    @property
    def rank(self) -> int:
        """Rank of the quantile among the scores (see `coverage_law.conformal_rank`)."""
        return conformal_rank(self.n_conformalize, self.confidence)

    @property
    def expected_coverage(self) -> float:
        """Mean coverage of a valid rule: rank / (n_conformalize + 1), if no scores are tied."""
        return self.rank / (self.n_conformalize + 1)

    @property
    def over_coverage(self) -> float:
        """How far above the stated coverage a valid rule lies by its nature: not at all."""
        return 0.0

    def intervals(self, predictions: ArrayLike, *, spread: ArrayLike | None = None) -> Floats:
        """Lower and upper ends, shape (n, 2).

        A negative quantile shortens the intervals of a quantile regression that is too cautious.
        Where more than all of an interval would go, its middle is left (MAPIE's ends cross there).

        Args:
            predictions: shape (n,); for kind quantile shape (n, 2), lower and upper quantile.
            spread: shape (n,), positive; for kind normalized only.

        Raises:
            GateError: predictions that are NaN or infinite, or not what the kind wants.
        """
        low, high, scale = _ends(self.kind, predictions, spread)
        lower, upper = low - self.quantile * scale, high + self.quantile * scale
        middle = (lower + upper) / 2
        crossed = lower > upper
        return np.column_stack([np.where(crossed, middle, end) for end in (lower, upper)])


def fit_absolute(truth: ArrayLike, predictions: ArrayLike, confidence: float = 0.9) -> IntervalRule:
    """Intervals of one width.

    Args:
        truth: shape (n,), the targets of rows that the model has not learned from.
        predictions: shape (n,), their forecasts.
        confidence: the coverage to state, in (0, 1).

    Raises:
        GateError: numbers that are NaN or infinite, lengths that differ, or too few rows.

    >>> fit_absolute(np.arange(9.0), np.zeros(9), 0.9).quantile
    8.0
    """
    return fit_interval_rule("absolute", truth, predictions, confidence)


def fit_normalized(
    truth: ArrayLike, predictions: ArrayLike, spread: ArrayLike, confidence: float = 0.9
) -> IntervalRule:
    """Intervals as wide as the row is difficult (Lei et al. 2018); arguments as `fit_absolute`.

    Args:
        truth: shape (n,).
        predictions: shape (n,).
        spread: shape (n,), positive: how far off each forecast is thought to be, in any unit.
        confidence: the coverage to state, in (0, 1).

    Raises:
        GateError: as `fit_absolute`, or a spread that is not positive.

    >>> fit_normalized(np.arange(9.0), np.zeros(9), np.full(9, 2.0), 0.9).quantile
    4.0
    """
    return fit_interval_rule("normalized", truth, predictions, confidence, spread=spread)


def fit_quantile(truth: ArrayLike, quantiles: ArrayLike, confidence: float = 0.9) -> IntervalRule:
    """Intervals around two predicted quantiles; the same correction at both ends.

    Quantiles of a row that cross are put in order, here and in `IntervalRule.intervals`
    (Chernozhukov, Fernandez-Val and Galichon 2010).

    Args:
        truth: shape (n,).
        quantiles: shape (n, 2), the lower and the upper quantile of each row.
        confidence: the coverage to state, in (0, 1).

    Raises:
        GateError: as `fit_absolute`.

    >>> ends = np.tile([0.0, 10.0], (9, 1))
    >>> fit_quantile(np.arange(1.0, 10.0), ends, 0.9).quantile
    -1.0
    """
    return fit_interval_rule("quantile", truth, quantiles, confidence)


def fit_interval_rule(
    kind: Kind,
    truth: ArrayLike,
    predictions: ArrayLike,
    confidence: float = 0.9,
    *,
    spread: ArrayLike | None = None,
) -> IntervalRule:
    """The rule of a kind that is known only at run time; else use the functions above.

    Args:
        kind: which scores.
        truth: shape (n,).
        predictions: shape (n,); for kind quantile shape (n, 2).
        confidence: the coverage to state, in (0, 1).
        spread: shape (n,), for kind normalized only.

    Raises:
        GateError: as `fit_absolute`, or predictions that are not what the kind wants.
    """
    low, high, scale = _ends(kind, predictions, spread)
    y = real_numbers("targets", truth, low.shape)
    scores = np.maximum(low - y, y - high) / scale
    # A rule with quantile 0 checks that the rows suffice before the rank is used.
    rank = IntervalRule(confidence, 0.0, scores.size, kind).rank
    quantile = float(np.partition(scores, rank - 1)[rank - 1])
    return IntervalRule(confidence, quantile, int(scores.size), kind)


def interval_coverage(
    truth: ArrayLike, intervals: ArrayLike, rule: IntervalRule, *, level: float = 0.95
) -> Estimate:
    """Share of rows whose interval holds the target, ends included, by the exact law.

    Args:
        truth: shape (n,), the targets of the holdout rows.
        intervals: shape (n, 2), from `IntervalRule.intervals`.
        rule: the rule that made them.
        level: level of the interval of the share (see `coverage_law.coverage_estimate`).

    Raises:
        GateError: numbers that are NaN or infinite, or lengths that differ.
    """
    held = holds(truth, intervals)
    return coverage_estimate(
        int(np.count_nonzero(held)), held.size, rule.n_conformalize, level=level
    )


def holds(truth: ArrayLike, intervals: ArrayLike) -> NDArray[np.bool_]:
    """Whether each interval, shape (n, 2), holds its target: booleans of shape (n,).

    Raises:
        GateError: numbers that are NaN or infinite, or lengths that differ.

    >>> holds([1.0, 3.0], [[1.0, 2.0], [1.0, 2.0]]).tolist()
    [True, False]
    """
    y = real_numbers("targets", truth)
    ends = real_numbers("intervals", intervals, (y.size, 2))
    return (ends[:, 0] <= y) & (y <= ends[:, 1])


def interval_width(intervals: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean width of the intervals, shape (n, 2), with its normal interval.

    Raises:
        GateError: no rows, ends that are NaN or infinite, or lower ends above upper ones.

    >>> interval_width([[0.0, 1.0], [0.0, 3.0]]).value
    2.0
    """
    ends = _pairs("intervals", intervals)
    width = ends[:, 1] - ends[:, 0]
    if bool((width < 0).any()):
        raise GateError(
            f"lower ends above upper ones in {int((width < 0).sum())} of {width.size} intervals",
            expected="the lower end first",
            do="use IntervalRule.intervals",
        )
    return mean_estimate(width, level)


def _ends(
    kind: Kind, predictions: ArrayLike, spread: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """What the correction goes below, what above, and by how much of a unit: shapes (n,)."""
    if (spread is None) is (kind == "normalized"):
        raise GateError(
            f"an interval rule of kind {kind} {'without' if spread is None else 'with'} a spread",
            expected="a spread for kind normalized, and for no other",
            do="give the spread that the rule was fitted with",
        )
    if kind == "quantile":
        ends = np.sort(_pairs("predicted quantiles", predictions), axis=1)
        return ends[:, 0], ends[:, 1], np.ones(len(ends))
    center = real_numbers("forecasts", predictions)
    if spread is None:
        return center, center, np.ones_like(center)
    return center, center, positive_numbers("spread", spread, center.shape)


def _pairs(name: str, values: ArrayLike) -> Floats:
    return real_numbers(name, values, (max(1, len(np.atleast_1d(np.asarray(values)))), 2))
