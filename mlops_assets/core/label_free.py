"""What performance calibrated probabilities promise, before labels come; and how right they were.

Confidence-based estimation, as NannyML names it: the expected accuracy, F1, AUC, Brier score and
log loss, if the probabilities mean what they say on the rows of the window. It cannot see that
they have ceased to: so it is an estimate, marked as one, and is scored once labels come. What is
measured on labels is in `performance`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.conformal import checked_probabilities
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats
from mlops_assets.core.performance import WindowPerformance
from mlops_assets.errors import GateError


@dataclass(frozen=True, slots=True, eq=False)
class LabelFreePerformance:
    """Estimated metrics of a window; nothing here was measured.

    Args:
        n: rows of the window.
        metrics: expected metrics by name; the intervals are for what labels will show.
        missing: why a metric cannot be estimated, by name.
    """

    n: int
    metrics: Mapping[str, Estimate]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EstimateScore:
    """An estimate against what labels showed."""

    metric: str
    estimated: Estimate
    measured: Estimate
    inside: bool


NAMES = ("brier", "log_loss", "accuracy", "f1", "auc")


def estimate_performance(
    probabilities: ArrayLike,
    *,
    threshold: float = 0.5,
    n_calibrate: int | None = None,
    level: float = 0.95,
) -> LabelFreePerformance:
    """Estimate the metrics of a window from its probabilities alone.

    The interval counts the luck of the labels and, when `n_calibrate` is given, that of the
    calibrate rows: a metric moves with each label by its influence, and what the calibrator
    learned wrongly moves it as so many labels would.

    Args:
        probabilities: shape (n,), calibrated probabilities of class 1.
        threshold: class 1 is predicted from this probability on.
        n_calibrate: rows that the probabilities were calibrated on.
        level: level of the intervals.

    Raises:
        GateError: probabilities that are none, or fewer than one calibrate row.

    >>> found = estimate_performance([0.25] * 300 + [0.75] * 100)
    >>> found.metrics["brier"].value
    0.1875
    """
    if np.size(probabilities) == 0:
        return LabelFreePerformance(0, {}, dict.fromkeys(NAMES, "no rows"))
    if n_calibrate is not None and n_calibrate < 1:
        raise GateError(
            f"{n_calibrate=}", expected="a row or more, or None", do="count the calibrate rows"
        )
    p = np.ascontiguousarray(checked_probabilities(np.ravel(probabilities))[:, 1])
    noise, n, guess = p * (1 - p), p.size, (p >= threshold).astype(np.float64)
    inner = p.clip(1e-15, 1 - 1e-15)
    odds = np.log(inner) - np.log1p(-inner)
    entropy = -(p * np.log(inner) + (1 - p) * np.log1p(-inner))
    # Value, and how much it moves with each label.
    found = {
        "brier": (float(noise.mean()), (1 - 2 * p) / n),
        "log_loss": (float(entropy.mean()), -odds / n),
        "accuracy": (float(np.where(guess > 0, p, 1 - p).mean()), (2 * guess - 1) / n),
    }
    missing = {}
    either = float(p.sum() + guess.sum())
    if either > 0:
        f1 = 2 * float(p @ guess) / either
        found["f1"] = f1, (2 * guess - f1) / either
    else:
        missing["f1"] = "no positives are expected or predicted"
    pairs = float(p.sum() * (1 - p).sum() - noise.sum())
    if pairs > 0:
        found["auc"] = _auc(p, pairs)
    else:
        missing["auc"] = "only one class is expected"
    more = 1.0 if n_calibrate is None else 1 + n / n_calibrate
    return LabelFreePerformance(
        n=n,
        metrics={
            name: _estimate(name, value, math.sqrt(more * float(slopes**2 @ noise)), n, level)
            for name, (value, slopes) in found.items()
        },
        missing=missing,
    )


def score_estimates(
    estimated: LabelFreePerformance, measured: WindowPerformance
) -> tuple[EstimateScore, ...]:
    """Hold estimates against what was measured on the same rows, metric by metric.

    Args:
        estimated: made before labels came.
        measured: on the labels of these rows.

    Raises:
        GateError: when the rows are not as many.

    >>> from mlops_assets.core.performance import classification_performance
    >>> p = np.repeat([0.25, 0.75], 200)
    >>> labels = np.tile([1, 0, 0, 0], 100)
    >>> scores = score_estimates(estimate_performance(p), classification_performance(labels, p))
    >>> [(score.metric, score.inside) for score in scores]
    [('brier', False), ('log_loss', False), ('auc', False)]
    """
    if estimated.n != measured.n:
        raise GateError(
            f"an estimate of {estimated.n:,} rows, and {measured.n:,} rows with labels",
            expected="the same rows",
            do="estimate anew for the rows that have labels by now",
        )
    scores = []
    for name, estimate in estimated.metrics.items():
        truth = measured.metrics.get(name)
        if truth is None:
            continue
        inside = estimate.low <= truth.value <= estimate.high
        scores.append(EstimateScore(name, estimate, truth, inside))
    return tuple(scores)


def _auc(p: Floats, pairs: float) -> tuple[float, Floats]:
    """Expected share of right pairs of different rows, equal scores counting half."""
    scores, group = np.unique(p, return_inverse=True)
    positives = np.bincount(group, p, scores.size)
    negatives = np.bincount(group, 1 - p, scores.size)
    below = (np.cumsum(negatives) - negatives / 2)[group] - (1 - p) / 2
    above = (positives.sum() - np.cumsum(positives) + positives / 2)[group] - p / 2
    value = float(p @ below) / pairs
    slopes = (below - above - value * ((1 - p).sum() - p.sum())) / pairs
    return value, np.asarray(slopes)


def _estimate(name: str, value: float, error: float, n: int, level: float) -> Estimate:
    from scipy.special import ndtri

    half = float(ndtri((1 + level) / 2)) * error
    most = math.inf if name == "log_loss" else 1.0
    return Estimate(value, max(0.0, value - half), min(most, value + half), n, level)
