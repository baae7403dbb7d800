"""Conformal rules by group: the coverage stated holds in each group, not only on average.

Mondrian conformal prediction (Vovk, Lindsay, Nouretdinov and Gammerman 2003): a group with enough
conformalization rows has a quantile of its own; all others, and groups never seen, share the common
one, which states nothing about them. Only the grouping belongs here; sets are in `conformal`,
intervals in `conformal_intervals`, and slices found by looking at the errors in `slices`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.conformal import (
    ConformalRule,
    checked_probabilities,
    class_labels,
    conformalize,
)
from mlops_assets.core.conformal_intervals import IntervalRule, Kind, fit_interval_rule
from mlops_assets.core.coverage_law import conformal_rank, coverage_estimate
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats
from mlops_assets.core.mapie_scores import Score
from mlops_assets.core.predictive import real_numbers
from mlops_assets.errors import GateError

# Coverage of a rule at 90% from so many rows has a standard deviation of 1.3 points.
MIN_ROWS = 500

Rule = TypeVar("Rule", ConformalRule, IntervalRule)
Groups = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class MondrianRule(Generic[Rule]):
    """The rule of every group: its own, or the common one.

    `own` are (group, rule) pairs; `pooled` are the groups of the conformalization rows that had
    too few of them, with their rows: they get the `common` rule, and so do groups not seen then.

    >>> rule = MondrianRule(IntervalRule(0.9, 2.0, 1000), (("a", IntervalRule(0.9, 1.0, 500)),),
    ...                     pooled=(("b", 40),))
    >>> rule.of("a").quantile, rule.of("b").quantile, rule.of("c").quantile
    (1.0, 2.0, 2.0)
    """

    common: Rule
    own: tuple[tuple[str, Rule], ...] = ()
    pooled: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in (*self.own, *self.pooled)]
        kinds = {(type(rule).__name__, rule.confidence) for _, rule in self.own}
        kinds.add((type(self.common).__name__, self.common.confidence))
        if len(set(names)) < len(names) or len(kinds) > 1:
            raise GateError(
                f"rules of the groups {names} of the kinds {sorted(kinds)}",
                expected="each group once, and all rules of one kind and confidence",
                do="fit them together, with fit_group_sets or fit_group_intervals",
            )

    def of(self, group: str) -> Rule:
        """The rule of a group."""
        return dict(self.own).get(group, self.common)


def group_rule(stored: Mapping[str, Any]) -> MondrianRule[Any]:
    """The rule that `dataclasses.asdict` has turned into plain values, maybe through JSON.

    >>> from dataclasses import asdict
    >>> rule = MondrianRule(IntervalRule(0.9, 2.0, 1000), (), (("b", 40),))
    >>> group_rule(asdict(rule)) == rule
    True
    """
    kind: Any = IntervalRule if "kind" in stored["common"] else ConformalRule
    return MondrianRule(
        kind(**stored["common"]),
        tuple((name, kind(**rule)) for name, rule in stored["own"]),
        tuple((name, rows) for name, rows in stored["pooled"]),
    )


@dataclass(frozen=True, slots=True)
class GroupCoverage:
    """Coverage in a group; `own_rule` tells whether the stated coverage is stated of it at all."""

    group: str
    coverage: Estimate
    own_rule: bool


def fit_group_sets(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    confidence: float = 0.9,
    *,
    score: Score = "lac",
    seed: int = 0,
    min_rows: int = MIN_ROWS,
) -> MondrianRule[ConformalRule]:
    """A rule of sets per group; arguments as for `conformal.fit_conformal_rule`.

    Args:
        probabilities: shape (n, K), or (n,) those of class 1.
        labels: shape (n,), classes 0 to K - 1.
        groups: shape (n,), the group of each row, as text or whole numbers.
        confidence: the coverage to state, in (0, 1).
        score: which score orders the classes.
        seed: seed of aps and raps.
        min_rows: fewest conformalization rows of a group with a rule of its own.

    Raises:
        GateError: as `fit_conformal_rule`, groups that are missing or do not fit, or for aps and
            raps a group of `min_rows` rows with fewer than three classes.
    """
    every = checked_probabilities(probabilities)
    classes = class_labels(labels, every.shape[1])
    names = _groups(groups, classes.size)
    _same_length(classes.size, every)

    def fit(rows: NDArray[np.bool_]) -> ConformalRule:
        return conformalize(every[rows], classes[rows], confidence, score, seed)

    return _fit(fit, names, confidence, min_rows)


def fit_group_intervals(
    truth: ArrayLike,
    predictions: ArrayLike,
    groups: ArrayLike,
    confidence: float = 0.9,
    *,
    kind: Kind = "absolute",
    spread: ArrayLike | None = None,
    min_rows: int = MIN_ROWS,
) -> MondrianRule[IntervalRule]:
    """A rule of intervals per group; arguments as for `conformal_intervals.fit_interval_rule`.

    Args:
        truth: shape (n,), targets.
        predictions: shape (n,), or (n, 2) for kind quantile.
        groups: shape (n,), the group of each row, as text or whole numbers.
        confidence: the coverage to state, in (0, 1).
        kind: kind of the rules.
        spread: shape (n,), for kind normalized.
        min_rows: fewest conformalization rows of a group with a rule of its own.

    Raises:
        GateError: as `fit_interval_rule`, or groups that are missing or do not fit.

    >>> rule = fit_group_intervals([1, 2, 3, 40], [0, 0, 0, 0], ["a", "a", "a", "b"], 0.75,
    ...                            min_rows=3)
    >>> rule.of("a").quantile, rule.common.quantile, rule.pooled
    (3.0, 40.0, (('b', 1),))
    """
    y = real_numbers("targets", truth)
    given = np.asarray(predictions)
    width = None if spread is None else np.asarray(spread)
    names = _groups(groups, y.size)

    def fit(rows: NDArray[np.bool_]) -> IntervalRule:
        return fit_interval_rule(
            kind, y[rows], given[rows], confidence, spread=None if width is None else width[rows]
        )

    _same_length(y.size, given, width)
    return _fit(fit, names, confidence, min_rows)


def group_sets(
    rule: MondrianRule[ConformalRule], probabilities: ArrayLike, groups: ArrayLike
) -> NDArray[np.bool_]:
    """Sets of rows by the rule of their group, shape (n, K).

    Args:
        rule: the rules.
        probabilities: as `ConformalRule.prediction_sets` takes them.
        groups: shape (n,).

    Raises:
        GateError: probabilities that are none, or groups that are missing or do not fit.
    """
    given = np.asarray(probabilities)
    names = _groups(groups, len(np.atleast_1d(given)))
    sets = np.zeros((names.size, rule.common.n_classes), dtype=np.bool_)
    for name, rows in _each(names):
        sets[rows] = rule.of(name).prediction_sets(given[rows])
    return sets


def group_intervals(
    rule: MondrianRule[IntervalRule],
    predictions: ArrayLike,
    groups: ArrayLike,
    *,
    spread: ArrayLike | None = None,
) -> Floats:
    """Intervals of rows by the rule of their group, shape (n, 2).

    Args:
        rule: the rules.
        predictions: as `IntervalRule.intervals` takes them.
        groups: shape (n,).
        spread: shape (n,), for kind normalized.

    Raises:
        GateError: predictions that cannot be used, or groups that are missing or do not fit.
    """
    given = np.asarray(predictions)
    width = None if spread is None else np.asarray(spread)
    names = _groups(groups, len(np.atleast_1d(given)))
    _same_length(names.size, given, width)
    ends = np.empty((names.size, 2))
    for name, rows in _each(names):
        ends[rows] = rule.of(name).intervals(
            given[rows], spread=None if width is None else width[rows]
        )
    return ends


def coverage_by_group(
    held: ArrayLike, groups: ArrayLike, rule: MondrianRule[Any], *, level: float = 0.95
) -> tuple[GroupCoverage, ...]:
    """Coverage in each group, in order of its name.

    The interval counts the group's holdout rows, and the conformalization rows of its rule: its
    own, or all rows for the common rule. Each interval holds at `level`; for all k groups at once
    give the k-th root of the level (Sidak: groups share no rows).

    Args:
        held: shape (n,), whether the set or interval of each row holds the truth (of sets
            `conformal.covered`, of intervals `conformal_intervals.holds`).
        groups: shape (n,).
        rule: the rules that made the sets or intervals.
        level: level of each interval.

    Raises:
        GateError: no rows, or lengths that differ.
    """
    hits = np.asarray(held)
    if hits.ndim != 1 or hits.size == 0 or hits.dtype != bool:
        raise GateError(
            f"coverage of shape {hits.shape} and type {hits.dtype}",
            expected="a boolean per row",
            do="use conformal.covered or conformal_intervals.holds",
        )
    own = dict(rule.own)
    return tuple(
        GroupCoverage(
            name,
            coverage_estimate(
                int(np.count_nonzero(hits[rows])),
                int(np.count_nonzero(rows)),
                rule.of(name).n_conformalize,
                level=level,
            ),
            name in own,
        )
        for name, rows in _each(_groups(groups, hits.size))
    )


def _fit(
    fit: Callable[[NDArray[np.bool_]], Rule], names: Groups, confidence: float, min_rows: int
) -> MondrianRule[Rule]:
    common = fit(np.ones(names.size, dtype=np.bool_))  # refuses a confidence without meaning
    own: list[tuple[str, Rule]] = []
    pooled: list[tuple[str, int]] = []
    for name, rows in _each(names):
        count = int(np.count_nonzero(rows))
        if count >= max(min_rows, conformal_rank(count, confidence)):
            own.append((name, fit(rows)))
        else:
            pooled.append((name, count))
    return MondrianRule(common, tuple(own), tuple(pooled))


def _each(names: Groups) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name in np.unique(names).tolist():
        yield name, names == name


def _groups(groups: ArrayLike, n: int) -> Groups:
    """Names of the groups of n rows as text."""
    given = np.asarray(groups)
    named = given.dtype.kind in "iuU" or all(isinstance(g, str | int) for g in given.ravel())
    if given.shape != (n,) or not named:
        raise GateError(
            f"groups of shape {given.shape} and type {given.dtype}"
            + ("" if named else " with values missing or not to be used as names"),
            expected=f"the name of a group for each of {n} rows, as text or whole numbers",
            do="give rows of no group a name of their own, such as 'other'",
        )
    return given.astype(np.str_)


def _same_length(n: int, *arrays: NDArray[Any] | None) -> None:
    lengths = [None if a is None else np.shape(a)[:1] for a in arrays]
    if any(length is not None and length != (n,) for length in lengths):
        raise GateError(
            f"{n} rows with predictions and spread of lengths {lengths}",
            expected="one of each per row",
            do="forecast exactly the rows that have targets",
        )
