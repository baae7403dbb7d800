"""Split conformal prediction sets, and how often they hold the truth.

A rule is a few stored numbers, so that serving needs no MAPIE; the fit is MAPIE's, and so are the
sets. Only sets, coverage and size belong here; the law of coverage is in `coverage_law`, intervals
are in `conformal_intervals`, and the verdict on coverage is in `gates`.

lac    classes of at least a certain probability (Sadinle, Lei and Wasserman 2019)
aps    the likeliest classes, until their probabilities add up to enough (Romano et al. 2020)
raps   the same, with a penalty on every class beyond the first few (Angelopoulos et al. 2021)

Scores of aps and raps are randomized in the fit, sets are not: a set keeps the whole class that
crosses the quantile (MAPIE's `include_last_label=True`), so that the same row always gets the same
set and no set is empty. Such sets cover more than the rule states, often by several points. How
much more is no defect, and it is known: the sets of the conformalization rows themselves show it,
because the sets depend on these rows only through one quantile. A rule keeps that share, and a
gate has to allow for it above the stated coverage (`over_coverage`), never below.
"""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import validate_labels
from mlops_assets.core.coverage_law import conformal_rank, coverage_estimate
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats, mean_estimate
from mlops_assets.core.mapie_scores import SCORES, Score, conformity_scores
from mlops_assets.errors import GateError

# MAPIE includes a class up to this much beyond the quantile (mapie._machine_precision.EPSILON).
_EPSILON = 1e-8
# How far rows of probabilities may be from adding up to 1; MAPIE allows as much.
_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class ConformalRule:
    """Which classes are in a set; for the score "lac" those with 1 - probability <= `quantile`.

    `quantile` is the `rank`-th smallest score of the `n_conformalize` rows. `score`, `n_classes`,
    `penalty` and `free_classes` (of raps: how much each class costs, beyond how many) and
    `own_coverage` (of aps and raps: share of the conformalization rows that their own sets hold)
    are plain numbers and text: `dataclasses.asdict` gives what `ConformalRule(**...)` takes.

    >>> rule = ConformalRule(confidence=0.9, quantile=0.7, n_conformalize=1000)
    >>> rule.prediction_sets([0.1, 0.5]).tolist()
    [[True, False], [True, True]]
    >>> rule.rank
    901
    >>> rule = ConformalRule(0.9, 0.85, 1000, score="aps", n_classes=3, own_coverage=0.95)
    >>> rule.prediction_sets([[0.6, 0.3, 0.1], [0.1, 0.9, 0.0]]).tolist()
    [[True, True, False], [False, True, False]]
    >>> round(rule.over_coverage, 3)
    0.05
    """

    confidence: float
    quantile: float
    n_conformalize: int
    score: Score = "lac"
    n_classes: int = 2
    penalty: float = 0.0
    free_classes: int = 0
    own_coverage: float | None = None

    def __post_init__(self) -> None:
        # Cumulated probabilities may exceed 1 by rounding; penalties come on top.
        most = 1.0 if self.score == "lac" else 1 + _EPSILON + self.penalty * self.n_classes
        if (
            not 0 < self.confidence < 1
            or not 0 <= self.quantile <= most
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
        own = self.own_coverage
        if (
            self.score not in SCORES
            or self.n_classes < (2 if self.score == "lac" else 3)
            or not (isfinite(self.penalty) and self.penalty >= 0)
            or self.free_classes < 0
            or (self.score == "lac") is not (own is None)
            or not 0 <= (own or 0.0) <= 1
        ):
            raise GateError(
                f"a conformal rule with {self.score=}, {self.n_classes=}, {self.penalty=}, "
                f"{self.free_classes=}, {self.own_coverage=}",
                expected=f"a score of {SCORES}, for two classes lac, no negative penalty, and "
                "own_coverage in [0, 1] for aps and raps only",
                do="fit the rule with fit_conformal_rule",
            )

    @property
    def rank(self) -> int:
        """Rank of the quantile among the scores (see `conformal_rank`)."""
        return conformal_rank(self.n_conformalize, self.confidence)

    @property
    def expected_coverage(self) -> float:
        """Mean coverage of a valid rule: rank / (n_conformalize + 1), if no scores are tied.

        For aps and raps it is what their sets were seen to cover, if that is more.
        """
        return max(self.rank / (self.n_conformalize + 1), self.own_coverage or 0.0)

    @property
    def over_coverage(self) -> float:
        """How far above the stated coverage a valid rule lies by its nature; 0 for lac.

        It is the mean coverage of aps and raps sets, as seen on the conformalization rows, less
        the stated one: a gate on coverage should allow for it above, and only there.
        """
        return 0.0 if self.score == "lac" else max(0.0, self.expected_coverage - self.confidence)

    def prediction_sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Sets of rows: booleans of shape (n, n_classes), class 0 first.

        Args:
            probabilities: shape (n,), of class 1, for a rule of two classes; else shape
                (n, n_classes).

        Raises:
            GateError: probabilities that are NaN or outside [0, 1], or do not add up to 1.
        """
        given = np.asarray(probabilities, dtype=np.float64)
        return self._sets(_both(given) if self.n_classes == 2 else _each(given, self.n_classes))

    def _sets(self, every: Floats) -> NDArray[np.bool_]:
        if self.score == "lac":
            return (1 - every) - self.quantile <= _EPSILON
        # The likeliest classes up to the one that crosses the quantile, as MAPIE picks them.
        ordered = np.take_along_axis(every, np.flip(np.argsort(every, axis=1), axis=1), axis=1)
        beyond = np.maximum(0, np.arange(1, self.n_classes + 1) - self.free_classes)
        mass = np.cumsum(ordered, axis=1) + self.penalty * beyond
        place = (mass - self.quantile < -_EPSILON).sum(axis=1, keepdims=True)
        last = np.take_along_axis(ordered, np.minimum(place, self.n_classes - 1), axis=1)
        # Classes of no probability never enter.
        least = np.where(every < _EPSILON, np.inf, every).min(axis=1, keepdims=True)
        return every - np.where(last <= _EPSILON, least, last) >= -_EPSILON


def fit_conformal_rule(
    probabilities: ArrayLike,
    labels: ArrayLike,
    confidence: float = 0.9,
    *,
    score: Score = "lac",
    seed: int = 0,
) -> ConformalRule:
    """Conformalize with MAPIE, from the scores of rows that the model has not learned from.

    Args:
        probabilities: shape (n, K), a column per class; or shape (n,), those of class 1.
        labels: shape (n,), classes 0 to K - 1; for two classes 0/1 or bool.
        confidence: the coverage to state, in (0, 1).
        score: which score orders the classes; for two classes lac, as in MAPIE.
        seed: seed of the randomized scores of aps and raps, and of the rows that raps sets aside
            to choose its penalty.

    Raises:
        GateError: labels that are none of the classes, or all of one class; probabilities that
            are none; too few rows for the confidence.

    >>> rule = fit_conformal_rule([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], 0.75)
    >>> rule.rank, round(rule.quantile, 3)
    (4, 0.4)
    """
    every = checked_probabilities(probabilities)
    return conformalize(every, class_labels(labels, every.shape[1]), confidence, score, seed)


def checked_probabilities(probabilities: ArrayLike) -> Floats:
    """Probabilities (n, K), or (n,) of class 1, with a column per class.

    Raises:
        GateError: values outside [0, 1], or rows that do not add up to 1.
    """
    given = np.asarray(probabilities)
    if given.ndim == 1:
        return _both(given.astype(np.float64))
    # Single precision stays: MAPIE's scores are to be those of the model's own numbers.
    return _each(given if given.dtype.kind == "f" else given.astype(np.float64), None)


def conformalize(
    every: Floats, classes: NDArray[np.intp], confidence: float, score: Score, seed: int
) -> ConformalRule:
    """`fit_conformal_rule` for probabilities (n, K) and classes (n,) that were checked before.

    The classes may all be the same here, as they may be in a group of rows.

    Raises:
        GateError: lengths that differ, too few rows, an unknown score.
    """
    n, k = every.shape
    if n != classes.size or score not in SCORES or (k == 2 and score != "lac"):
        raise GateError(
            f"{classes.size} labels, {n} rows of probabilities of {k} classes and {score=}",
            expected=f"one label per row, and a score of {SCORES}, for two classes lac",
            do="score exactly the rows that have labels",
        )
    # A rule with quantile 1 checks that the rows suffice before MAPIE sees them.
    rank = ConformalRule(confidence, 1.0, n).rank
    scores, raps = conformity_scores(every, classes, confidence, score, seed)
    found: dict[str, Any]
    if raps is None:
        found = {"quantile": float(np.sort(scores)[rank - 1]), "n_conformalize": n}
    else:
        found = {
            "quantile": float(raps.quantiles_[0]),
            "n_conformalize": int(raps.n_samples_),
            "penalty": float(raps.lambda_star),
            "free_classes": int(raps.k_star[0]),
        }
    if score == "lac":
        return ConformalRule(confidence, n_classes=k, **found)
    rule = ConformalRule(confidence, score=score, n_classes=k, own_coverage=0.0, **found)
    held = int(np.count_nonzero(rule._sets(every.astype(np.float64))[np.arange(n), classes]))
    # Divided as the law of coverage divides: `rank` of n rows are rank / (n + 1) of new ones.
    return replace(rule, own_coverage=held / (n + 1))


def class_labels(labels: ArrayLike, k: int) -> NDArray[np.intp]:
    """Check labels of shape (n,) to be classes 0 to k - 1, at least two of them seen.

    Raises:
        GateError: no rows, other values (missing ones too), or one class only.
    """
    if k == 2:
        return validate_labels(labels).astype(np.intp)
    y = np.asarray(labels)
    known = (
        y.ndim == 1 and y.size > 0 and y.dtype.kind in "iuf" and bool(np.isin(y, range(k)).all())
    )
    if not known or y.min() == y.max():
        raise GateError(
            f"labels of shape {y.shape} and type {y.dtype} with values {np.unique(y)[:5].tolist()}",
            expected=f"the classes 0 to {k - 1}, no other value, and more than one of them",
            do="encode the classes in the order of the columns, and take a longer window",
        )
    return y.astype(np.intp)


def coverage(
    labels: ArrayLike, sets: NDArray[np.bool_], rule: ConformalRule, *, level: float = 0.95
) -> Estimate:
    """Share of rows whose set holds the true class, with an interval that counts both samples.

    Args:
        labels: shape (n,), classes; for two classes 0/1 or bool.
        sets: shape (n, K), from `ConformalRule.prediction_sets`.
        rule: the rule that made the sets.
        level: level of the interval (see `coverage_estimate`).

    Raises:
        GateError: shapes that do not fit, or labels of one class.
    """
    held = covered(labels, sets)
    return coverage_estimate(
        int(np.count_nonzero(held)), held.size, rule.n_conformalize, level=level
    )


def covered(labels: ArrayLike, sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each set, shape (n, K), holds its class: booleans of shape (n,).

    Raises:
        GateError: shapes that do not fit, or labels of one class.

    >>> covered([0, 1], np.array([[True, False], [True, False]])).tolist()
    [True, False]
    """
    chosen = _checked(sets)
    classes = class_labels(labels, chosen.shape[1])
    if chosen.shape[0] != classes.size:
        raise GateError(
            f"{classes.size} labels and {chosen.shape[0]} sets",
            expected="one set per label",
            do="predict sets for exactly the labelled rows",
        )
    return np.asarray(chosen[np.arange(classes.size), classes])


def set_size(sets: NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Mean number of classes in a set, with its normal interval.

    >>> set_size(np.array([[True, False], [True, True]])).value
    1.5
    """
    return mean_estimate(_checked(sets).sum(axis=1).astype(np.float64), level)


def _both(one: Floats) -> Floats:
    """Columns of both classes from probabilities of class 1."""
    if one.ndim != 1 or not bool(((one >= 0) & (one <= 1)).all()):
        raise GateError(
            f"probabilities of shape {one.shape} that are not all in [0, 1]",
            expected="a one-dimensional array of probabilities of class 1",
            do="look for rows the model cannot score",
        )
    return np.column_stack([1 - one, one])


def _each(every: Floats, k: int | None) -> Floats:
    """Checked probabilities with a column per class, k of them if that is known."""
    fits = every.ndim == 2 and (every.shape[1] >= 2 if k is None else every.shape[1] == k)
    if (
        not fits
        or not bool(((every >= 0) & (every <= 1)).all())
        or bool((np.abs(every.sum(axis=1) - 1) > _SUM_TOLERANCE).any())
    ):
        raise GateError(
            f"probabilities of shape {every.shape} that are not all in [0, 1], or whose rows do "
            "not add up to 1",
            expected=f"a column for each of {k or 'two or more'} classes",
            do="look for rows the model cannot score",
        )
    return every


def _checked(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    chosen = np.asarray(sets)
    if chosen.ndim != 2 or chosen.shape[1] < 2 or chosen.shape[0] == 0 or chosen.dtype != bool:
        raise GateError(
            f"sets of shape {chosen.shape} and type {chosen.dtype}",
            expected="booleans of shape (n, classes)",
            do="use ConformalRule.prediction_sets",
        )
    return chosen
