"""The law that a regression predicts for a row: its forecast, and the residuals of other rows.

A point forecast becomes a distribution through the residuals of the calibrate rows. Only such
distributions belong here, and the checks of the numbers that they and their neighbours are given;
how well they fit is measured in `regression`, prediction intervals are in `conformal_intervals`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.intervals import Floats
from mlops_assets.errors import GateError

# Levels at which a predictive distribution is kept.
GRID: Floats = np.arange(1, 1000) / 1000
# Fewest calibrate rows that tell anything of the 5% quantile.
_LEAST_ROWS = 19


@dataclass(frozen=True, slots=True, eq=False)
class PredictiveDistribution:
    """The law of y given a forecast f and a spread s: f + s * (law of the scaled residuals).

    This is a split conformal predictive system (Vovk et al. 2017) without randomization, kept on
    a grid: `residuals` of shape (999,) are the quantiles of (y - f) / s on the `n_calibrate` rows
    at the levels 0.001, 0.002, ..., 0.999.

    >>> law = fit_predictive_distribution(np.arange(-500.0, 500.0), np.zeros(1000))
    >>> law.quantile([0.5, 0.75], [100.0]).round(6).tolist()
    [[99.5, 349.75]]
    >>> law.cdf([99.5], [100.0]).round(6).tolist()
    [0.5]
    """

    residuals: Floats
    n_calibrate: int

    def __post_init__(self) -> None:
        grid = np.asarray(self.residuals)
        if (
            grid.shape != GRID.shape
            or not bool((np.diff(grid) >= 0).all())  # false for NaN too
            or not bool(np.isfinite(grid).all())
            or self.n_calibrate < _LEAST_ROWS
        ):
            raise GateError(
                f"residual quantiles of shape {grid.shape} from {self.n_calibrate} rows",
                expected=f"{GRID.size} finite numbers in ascending order, from at least "
                f"{_LEAST_ROWS} rows",
                do="fit the distribution with fit_predictive_distribution on more rows",
            )

    def quantile(
        self, levels: ArrayLike, predictions: ArrayLike, spread: ArrayLike | None = None
    ) -> Floats:
        """Quantiles of each row's distribution, shape (n, levels).

        Args:
            levels: shape (levels,), in [0.001, 0.999].
            predictions: shape (n,), the forecasts f.
            spread: shape (n,), positive, if the distribution was fitted with one.

        Raises:
            GateError: levels outside the grid, or forecasts that cannot be used.
        """
        wanted = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        if not bool(((wanted >= GRID[0]) & (wanted <= GRID[-1])).all()):
            raise GateError(
                f"levels {wanted.tolist()}",
                expected=f"levels from {GRID[0]} to {GRID[-1]}",
                do="take levels less extreme; the calibrate rows do not tell of further tails",
            )
        center, scale = _forecast(predictions, spread)
        return center[:, None] + scale[:, None] * np.interp(wanted, GRID, self.residuals)

    def cdf(
        self, values: ArrayLike, predictions: ArrayLike, spread: ArrayLike | None = None
    ) -> Floats:
        """Probability of at most `values`, shape (n,); of the observed y it is the PIT.

        Where residuals are tied the distribution jumps, and the middle of the jump is given (the
        mid-PIT: nothing is drawn at random). Beyond the grid it is the middle of the tail.

        Args:
            values: shape (n,).
            predictions: shape (n,), the forecasts f.
            spread: shape (n,), positive, if the distribution was fitted with one.

        Raises:
            GateError: values or forecasts that cannot be used.
        """
        center, scale = _forecast(predictions, spread)
        at = (real_numbers("values", values, center.shape) - center) / scale
        left = np.searchsorted(self.residuals, at, "left")
        right = np.searchsorted(self.residuals, at, "right")
        ends = GRID[np.minimum(left, GRID.size - 1)], GRID[np.maximum(right - 1, 0)]
        level = np.where(left < right, sum(ends) / 2, np.interp(at, self.residuals, GRID))
        tail = GRID[0] / 2
        return np.where(right == 0, tail, np.where(left == GRID.size, 1 - tail, level))


def fit_predictive_distribution(
    truth: ArrayLike, predictions: ArrayLike, spread: ArrayLike | None = None
) -> PredictiveDistribution:
    """The distribution that the residuals of rows not learned from give to every forecast.

    The quantile of a level is interpolated between residuals of rank level * (n + 1) (Weibull's
    plotting position), so that new residuals lie below it with the level's probability.

    Args:
        truth: shape (n,), the targets of the calibrate rows.
        predictions: shape (n,), their forecasts.
        spread: shape (n,), positive: how uncertain each forecast is thought to be.

    Raises:
        GateError: numbers that are NaN or infinite, lengths that differ, a spread that is not
            positive, or too few rows.
    """
    center, scale = _forecast(predictions, spread)
    scaled = (real_numbers("targets", truth, center.shape) - center) / scale
    return PredictiveDistribution(np.quantile(scaled, GRID, method="weibull"), int(scaled.size))


def real_numbers(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> Floats:
    """Finite numbers of a shape, by default (n,) with at least one row.

    Raises:
        GateError: another shape, or numbers that are NaN or infinite.
    """
    given = np.asarray(values)
    fits = given.ndim == 1 and given.size > 0 if shape is None else given.shape == shape
    if not fits or given.dtype.kind not in "biuf" or not bool(np.isfinite(given).all()):
        raise GateError(
            f"{name} of shape {given.shape} and type {given.dtype}"
            + ("" if not fits else " that are not all finite numbers"),
            expected=f"finite numbers of shape {'(n,)' if shape is None else shape}",
            do="forecast exactly the rows that have targets; look for rows the model cannot "
            "forecast",
        )
    return given.astype(np.float64, copy=False)


def positive_numbers(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Finite numbers above 0 of a shape.

    Raises:
        GateError: another shape, or numbers that are not finite and positive.
    """
    given = real_numbers(name, values, shape)
    if not bool((given > 0).all()):
        raise GateError(
            f"{name} as low as {given.min()}",
            expected="positive numbers",
            do="bound the estimate of difficulty away from 0",
        )
    return given


def _forecast(predictions: ArrayLike, spread: ArrayLike | None) -> tuple[Floats, Floats]:
    center = real_numbers("forecasts", predictions)
    if spread is None:
        return center, np.ones_like(center)
    return center, positive_numbers("spread", spread, center.shape)
