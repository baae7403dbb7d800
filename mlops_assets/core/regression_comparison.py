"""Candidate against champion on the same rows, for forecasts of a number.

Only the metrics of forecasts belong here: their paired differences are made as those of classifiers
are (`comparison.paired_differences`), and `gates.no_metric_below_champion` judges both alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.comparison import (
    Measured,
    MetricDifference,
    mean_measured,
    paired_differences,
)
from mlops_assets.core.intervals import Floats
from mlops_assets.core.predictive import real_numbers
from mlops_assets.core.regression import LEVELS
from mlops_assets.errors import GateError

# Of all of these, less is better.
REGRESSION_METRICS = ("mae", "rmse", "pinball")


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """What a model says of n rows: points, shape (n,), and maybe quantiles, shape (n, levels)."""

    points: ArrayLike
    quantiles: ArrayLike | None = None


def regression_metrics(
    truth: ArrayLike, forecasts: Forecasts, *, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Mean absolute error, root mean squared error and, of quantiles, the mean pinball loss.

    The pinball loss (Koenker and Bassett 1978) is averaged over the levels; twice that is close to
    the continuous ranked probability score.

    Args:
        truth: shape (n,), the targets.
        forecasts: points and maybe quantiles of the same rows.
        levels: shape (levels,), of the quantiles.

    Raises:
        GateError: numbers that are NaN or infinite, or shapes that do not fit.

    >>> forecasts = Forecasts([1.0, 1.0], [[0.0, 2.0], [0.0, 2.0]])
    >>> metrics = regression_metrics([1.0, 3.0], forecasts, levels=[0.25, 0.75])
    >>> {name: round(value, 4) for name, value in metrics.items()}
    {'mae': 1.0, 'rmse': 1.4142, 'pinball': 0.5}
    """
    return {name: value for name, (value, _) in _measured(truth, forecasts, levels).items()}


def compare_forecasts(
    truth: ArrayLike,
    candidate: Forecasts,
    champion: Forecasts,
    *,
    levels: Sequence[float] = LEVELS,
    level: float = 0.95,
) -> tuple[MetricDifference, ...]:
    """Paired differences, positive where the candidate is better (its error is smaller).

    The pinball loss is compared when both models predict quantiles. Errors of the differences are
    those of means of paired differences; for the root of a mean by the delta method.

    Args:
        truth: shape (n,), the targets.
        candidate: the candidate's forecasts.
        champion: the champion's, for the same rows in the same order.
        levels: shape (levels,), of the quantiles of both.
        level: joint level of the intervals.

    Raises:
        GateError: the forecasts of either model cannot be judged.
    """
    own, other = (_measured(truth, forecasts, levels) for forecasts in (candidate, champion))
    shared = {name: measured for name, measured in own.items() if name in other}
    return paired_differences(shared, other, losses=REGRESSION_METRICS, level=level)


def _measured(
    truth: ArrayLike, forecasts: Forecasts, levels: Sequence[float]
) -> dict[str, Measured]:
    y = real_numbers("targets", truth)
    errors = y - real_numbers("forecasts", forecasts.points, y.shape)
    found = {"mae": mean_measured(np.abs(errors)), "rmse": _root(mean_measured(errors**2))}
    if forecasts.quantiles is not None:
        found["pinball"] = mean_measured(_pinball(y, forecasts.quantiles, levels))
    return found


def _root(square: Measured) -> Measured:
    value = square[0] ** 0.5
    # Without any error there is none to move.
    return value, square[1] / (2 * value) if value > 0 else square[1]


def _pinball(y: Floats, quantiles: ArrayLike, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row, shape (n,), averaged over the levels."""
    wanted = real_numbers("levels", levels)
    if not bool(((wanted > 0) & (wanted < 1)).all()):
        raise GateError(
            f"levels {wanted.tolist()}", expected="levels in (0, 1)", do="name the levels anew"
        )
    above = y[:, None] - real_numbers("quantiles", quantiles, (y.size, wanted.size))
    return np.asarray(np.maximum(wanted * above, (wanted - 1) * above).mean(axis=1))
