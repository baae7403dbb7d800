"""Split conformal prediction sets, and how often they hold the truth.

Binary LAC sets (Sadinle, Lei and Wasserman 2019): the rule is two stored numbers, so that
serving needs no MAPIE. The fit is MAPIE's. Only sets, coverage and size belong here; the verdict
on coverage is in `gates`.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import validate_labels
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats, mean_estimate
from mlops_assets.errors import GateError

# MAPIE includes a class up to this much beyond the quantile (mapie._machine_precision.EPSILON).
_EPSILON = 1e-8
# Nodes of the quadrature over the Beta law; 64 already agree with 400 to 1e-9.
_NODES = 64


@dataclass(frozen=True, slots=True)
class ConformalRule:
    """A class is in the set when 1 - its probability is at most `quantile`.

    `quantile` is the `rank`-th smallest of the `n_conformalize` scores 1 - P(true class).

    >>> rule = ConformalRule(confidence=0.9, quantile=0.7, n_conformalize=1000)
    >>> rule.prediction_sets([0.1, 0.5]).tolist()
    [[True, False], [True, True]]
    >>> rule.rank
    901
    """

    confidence: float
    quantile: float
    n_conformalize: int

    def __post_init__(self) -> None:
        if (
            not 0 < self.confidence < 1
            or not 0 <= self.quantile <= 1
            or self.n_conformalize < 1
            or self.rank > self.n_conformalize
        ):
            raise GateError(
                f"a conformal rule with {self.confidence=}, {self.quantile=}, "
                f"{self.n_conformalize=}",
                expected="confidence in (0, 1), quantile in [0, 1], and at least "
                "confidence / (1 - confidence) conformalization rows",
                do="take a longer conformalize window or a lower confidence",
            )

    @property
    def rank(self) -> int:
        """ceil((n + 1) confidence), with MAPIE's rounding of 1 - (1 - confidence)."""
        alpha = round(1 - self.confidence, 12)
        return ceil((self.n_conformalize + 1) * (1 - alpha))

    @property
    def expected_coverage(self) -> float:
        """Mean coverage of a valid rule: rank / (n_conformalize + 1), if no scores are tied."""
        return self.rank / (self.n_conformalize + 1)

    def prediction_sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Sets for probabilities of class 1, shape (n,); returns shape (n, 2), class 0 first.

        Raises:
            GateError: probabilities that are NaN or outside [0, 1].
        """
        one = np.asarray(probabilities, dtype=np.float64)
        if one.ndim != 1 or not bool(((one >= 0) & (one <= 1)).all()):
            raise GateError(
                f"probabilities of shape {one.shape} that are not all in [0, 1]",
                expected="a one-dimensional array of probabilities of class 1",
                do="look for rows the model cannot score",
            )
        both = np.column_stack([1 - one, one])
        return (1 - both) - self.quantile <= _EPSILON


def fit_conformal_rule(
    model: Any, features: Any, labels: ArrayLike, confidence: float = 0.9
) -> ConformalRule:
    """Conformalize a fitted classifier with MAPIE on rows it has not seen.

    Args:
        model: fitted scikit-learn classifier with classes 0 and 1.
        features: shape (n, k), the conformalization rows.
        labels: shape (n,), 0/1 or bool.
        confidence: the coverage to state, in (0, 1).

    Raises:
        GateError: labels of one class, or too few rows for the confidence.
    """
    from mapie.classification import SplitConformalClassifier

    if list(map(int, model.classes_)) != [0, 1]:
        raise GateError(
            f"a model with classes {list(model.classes_)}",
            expected="classes 0 and 1",
            do="encode the label as 0 and 1 before training",
        )
    flags = validate_labels(labels)
    fitted = SplitConformalClassifier(
        model, confidence_level=confidence, conformity_score="lac", prefit=True
    ).conformalize(features, flags.astype(np.asarray(model.classes_).dtype))
    scores = np.sort(np.asarray(fitted.conformity_scores, dtype=np.float64).ravel())
    # A rule with quantile 1 checks that the rows suffice before the rank is used.
    rank = ConformalRule(confidence, 1.0, scores.size).rank
    return ConformalRule(confidence, float(scores[rank - 1]), int(scores.size))


def coverage(
    labels: ArrayLike, sets: NDArray[np.bool_], rule: ConformalRule, *, level: float = 0.95
) -> Estimate:
    """Share of rows whose set holds the true class, with an interval that counts both sets.

    The interval is for the coverage the method has on data like these, over the luck of the
    holdout and of the conformalization rows. A valid rule's coverage is Beta(k, m + 1 - k) with
    k = rank and m = n_conformalize (Vovk 2012), and the covered rows are binomial given it. A rule
    whose mean coverage is c instead is given Beta(c (m + 1), (1 - c)(m + 1)); the interval holds
    every c under which the observed count lies in neither tail, as Clopper and Pearson do.

    Args:
        labels: shape (n,), 0/1 or bool.
        sets: shape (n, 2), from `ConformalRule.prediction_sets`.
        rule: the rule that made the sets.
        level: level of the interval.

    Raises:
        GateError: shapes that do not fit, or labels of one class.
    """
    flags, chosen = validate_labels(labels), _checked(sets)
    if chosen.shape[0] != flags.size:
        raise GateError(
            f"{flags.size} labels and {chosen.shape[0]} sets",
            expected="one set per label",
            do="predict sets for exactly the labelled rows",
        )
    hits = int(np.count_nonzero(np.where(flags, chosen[:, 1], chosen[:, 0])))
    n, size, tail = flags.size, rule.n_conformalize + 1, (1 - level) / 2
    return Estimate(
        value=hits / n,
        low=_bound(lambda c: 1 - _share_at_most(hits - 1, n, c, size), tail, rising=True),
        high=_bound(lambda c: _share_at_most(hits, n, c, size), tail, rising=False),
        n=n,
        level=level,
    )


def set_size(sets: NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Mean number of classes in a set, with its normal interval.

    >>> set_size(np.array([[True, False], [True, True]])).value
    1.5
    """
    return mean_estimate(_checked(sets).sum(axis=1).astype(np.float64), level)


def _checked(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    chosen = np.asarray(sets)
    if chosen.ndim != 2 or chosen.shape[1] != 2 or chosen.shape[0] == 0 or chosen.dtype != bool:
        raise GateError(
            f"sets of shape {chosen.shape} and type {chosen.dtype}",
            expected="booleans of shape (n, 2)",
            do="use ConformalRule.prediction_sets",
        )
    return chosen


def _share_at_most(hits: int, n: int, mean: float, size: int) -> float:
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
