"""Candidate against champion on the same rows: metrics, and their paired differences.

Only binary classification metrics, and the differences of any metrics, belong here; the metrics of
a regression are in `regression_comparison`, the verdict is in `gates`. Each metric is computed
together with its influence function, one number per row: what this row adds to the metric's error.
A paired difference then has the influence candidate - champion, and its standard error is that of a
mean, for all metrics alike, without resampling.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import validate_scores
from mlops_assets.core.intervals import Flags, Floats
from mlops_assets.core.proper_scores import log_losses
from mlops_assets.errors import GateError

METRICS = ("auc", "average_precision", "log_loss", "brier", "accuracy", "f1")
# Of these, less is better.
LOSSES = frozenset({"log_loss", "brier"})

# The value of a metric, and its influence function: shape (n,), mean 0.
Measured = tuple[float, Floats]


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One metric of both models; `difference` is positive when the candidate is better.

    `low` and `high` bound the true differences of all compared metrics at once (Bonferroni).
    `p_value` is two-sided, against no difference, and adjusted by Holm's method.
    """

    metric: str
    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    n: int
    level: float = 0.95


def classification_metrics(
    labels: ArrayLike, probabilities: ArrayLike, threshold: float = 0.5
) -> dict[str, float]:
    """The metrics of `METRICS`, as scikit-learn defines them.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        threshold: class 1 is predicted from this probability on.

    Raises:
        GateError: the scores cannot be judged (see `validate_scores`).

    >>> metrics = classification_metrics([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> metrics["auc"], metrics["accuracy"]
    (0.75, 0.75)
    """
    flags, scores = validate_scores(labels, probabilities)
    return {name: value for name, (value, _) in _influences(flags, scores, threshold).items()}


def compare(
    labels: ArrayLike,
    candidate: ArrayLike,
    champion: ArrayLike,
    *,
    threshold: float = 0.5,
    level: float = 0.95,
    champion_threshold: float | None = None,
) -> tuple[MetricDifference, ...]:
    """Paired differences of all `METRICS`, in that order.

    AUC has DeLong's variance (1988); log loss, Brier and accuracy that of a mean of differences;
    average precision and F1 that of their influence functions.

    Args:
        labels: shape (n,), 0/1 or bool.
        candidate: shape (n,), the candidate's probabilities of class 1.
        champion: shape (n,), the champion's, for the same rows in the same order.
        threshold: class 1 is predicted from this probability on.
        level: joint level of the intervals.
        champion_threshold: the champion's own threshold, if it has another.

    Raises:
        GateError: the scores of either model cannot be judged.
    """
    own = _influences(*validate_scores(labels, candidate), threshold)
    other = _influences(
        *validate_scores(labels, champion),
        threshold if champion_threshold is None else champion_threshold,
    )
    return paired_differences(own, other, losses=LOSSES, level=level)


def paired_differences(
    candidate: Mapping[str, Measured],
    champion: Mapping[str, Measured],
    *,
    losses: Collection[str],
    level: float,
) -> tuple[MetricDifference, ...]:
    """Differences of metrics that were measured on the same rows, in the order of the candidate's.

    Intervals hold for all of them at once (Bonferroni), p-values are Holm's.

    Args:
        candidate: value and influence, shape (n,) with mean 0, of each metric.
        champion: the same metrics of the champion.
        losses: metrics of which less is better.
        level: joint level of the intervals.

    Raises:
        GateError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise GateError(f"level={level}", expected="a number in (0, 1)", do="use 0.95")
    from scipy.special import ndtr, ndtri

    names = tuple(candidate)
    n = next(iter(candidate.values()))[1].size
    signs = np.array([-1.0 if name in losses else 1.0 for name in names])
    difference = signs * np.array([candidate[m][0] - champion[m][0] for m in names])
    error = np.array([(candidate[m][1] - champion[m][1]).std() for m in names]) / np.sqrt(n)
    half = float(-ndtri((1 - level) / 2 / len(names))) * error
    ratio = np.divide(
        np.abs(difference), error, out=np.where(difference == 0, 0.0, np.inf), where=error > 0
    )
    p_values = _holm(2 * ndtr(-ratio))
    return tuple(
        MetricDifference(
            metric=name,
            candidate=candidate[name][0],
            champion=champion[name][0],
            difference=float(difference[i]),
            low=float(difference[i] - half[i]),
            high=float(difference[i] + half[i]),
            standard_error=float(error[i]),
            p_value=float(p_values[i]),
            n=int(n),
            level=level,
        )
        for i, name in enumerate(names)
    )


def mean_measured(rows: Floats) -> Measured:
    """A mean over rows, shape (n,), with its influence.

    >>> mean_measured(np.array([1.0, 3.0]))
    (2.0, array([-1.,  1.]))
    """
    value = float(rows.mean())
    return value, rows - value


def _holm(p_values: Floats) -> Floats:
    """Step-down adjusted p-values (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(p_values.size, 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * factors).clip(max=1.0)
    return adjusted


def _influences(flags: Flags, scores: Floats, threshold: float) -> dict[str, Measured]:
    """Value and influence, shape (n,) with mean 0, of each metric."""
    truth = flags.astype(np.float64)
    guess = (scores >= threshold).astype(np.float64)
    return {
        **_rank_influences(flags, scores),
        "log_loss": mean_measured(log_losses(flags, scores)),
        "brier": mean_measured((scores - truth) ** 2),
        "accuracy": mean_measured((guess == truth).astype(np.float64)),
        "f1": _f1(truth, guess),
    }


def _f1(truth: Floats, guess: Floats) -> Measured:
    """F1 = 2 TP / (positives + predicted positives), a ratio of means: delta method."""
    both, either = 2 * truth * guess, truth + guess
    value = float(both.sum() / either.sum())
    return value, (both - value * either) / either.mean()


def _rank_influences(flags: Flags, scores: Floats) -> dict[str, Measured]:
    """AUC and average precision from one sort; equal scores count as one threshold.

    AUC: the influence of a row is its placement among the other class (DeLong et al. 1988).
    Average precision is E[y a(s) / b(s)] / E[y] with a(s) = P(y = 1, S >= s), b(s) = P(S >= s);
    its influence follows by moving a, b and E[y] in the direction of one row.
    """
    order = np.argsort(scores)
    ordered = scores[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    group = np.cumsum(first) - 1
    rows = np.bincount(group).astype(np.float64)
    hits = np.bincount(group, weights=flags[order]).astype(np.float64)
    n, positives = float(flags.size), float(hits.sum())
    negatives = n - positives
    inverse = np.empty_like(group)
    inverse[order] = group
    return {
        "auc": _auc(flags, rows, hits, positives, negatives, inverse),
        "average_precision": _average_precision(flags, rows / n, hits / n, inverse),
    }


def _auc(
    flags: Flags,
    rows: Floats,
    hits: Floats,
    positives: float,
    negatives: float,
    group: NDArray[np.intp],
) -> Measured:
    misses = rows - hits
    # Share of the other class that the row is ranked rightly against; ties count half.
    below = (np.cumsum(misses) - misses / 2) / negatives
    above = (positives - np.cumsum(hits) + hits / 2) / positives
    value = float((hits * below).sum() / positives)
    n = positives + negatives
    placement = np.where(
        flags, (below[group] - value) * (n / positives), (above[group] - value) * (n / negatives)
    )
    return value, placement


def _average_precision(
    flags: Flags, rows: Floats, hits: Floats, group: NDArray[np.intp]
) -> Measured:
    a, b = np.cumsum(hits[::-1])[::-1], np.cumsum(rows[::-1])[::-1]
    rate, precision = float(hits.sum()), a / b
    value = float((hits * precision).sum() / rate)
    # What a row at or above s adds to a(s) and b(s), summed over the positives below it.
    gain, loss = np.cumsum(hits / b), np.cumsum(hits * precision / b)
    moved = flags * (precision + gain)[group] - loss[group] - value * rate
    return value, (moved - value * (flags - rate)) / rate
