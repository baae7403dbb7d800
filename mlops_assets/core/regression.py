"""How far the predicted quantiles of a regression are from what is observed.

The share of holdout rows below each predicted quantile is held against the level of that quantile:
what reliability bins are to probabilities. Only estimates and their intervals belong here; where
the quantiles come from is in `predictive`, whether a number is good enough is decided in
`regression_gates`, and errors of the point forecast are in `regression_comparison`.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats, clopper_pearson, folded_cumulants
from mlops_assets.core.predictive import real_numbers
from mlops_assets.errors import GateError

# Levels at which quantiles are judged: 5%, 10%, ..., 95%.
LEVELS = tuple(k / 20 for k in range(1, 20))
# Draws of the law of the mean absolute deviation, and nodes of that of the largest.
_DRAWS, _NODES = 20_000, 96


@dataclass(frozen=True, slots=True)
class QuantileShare:
    """One quantile: how many rows lie below it, and how many should.

    `deviation` is observed less `level`; `low` and `high` bound the true deviation of all levels
    at once. `standard_error` counts the holdout and the calibrate rows.
    """

    level: float
    observed: float
    deviation: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class QuantileCalibration:
    """Shares of all levels, in order, and the law of their joint error.

    `noise` is the `level` quantile of the mean absolute error of all deviations.
    """

    shares: tuple[QuantileShare, ...]
    n: int
    n_calibrate: int | None
    noise: float
    level: float = 0.95

    def __post_init__(self) -> None:
        """Raise a GateError for damaged shares, so that no estimate is ever made of them."""
        numbers = [value for row in self.shares for value in astuple(row)]
        if not self.shares or self.n < 1 or not np.isfinite([*numbers, self.noise]).all():
            raise GateError(
                f"{len(self.shares)} quantile shares of {self.n} rows: {self.shares}",
                expected="finite numbers for every level",
                do="compute the shares anew with quantile_calibration",
            )

    def column(self, name: str) -> Floats:
        """One attribute of all shares as an array of shape (levels,)."""
        return np.array([getattr(row, name) for row in self.shares], dtype=np.float64)


def quantile_calibration(
    truth: ArrayLike,
    quantiles: ArrayLike,
    *,
    n_calibrate: int | None,
    levels: Sequence[float] = LEVELS,
    level: float = 0.95,
) -> QuantileCalibration:
    """Share of rows below each predicted quantile, against the level of that quantile.

    Where y equals the quantile on some rows, every share between "below" and "below or equal" is
    right for a distribution with a jump there; the one nearest to the level counts.

    The error of a share has two parts: the holdout rows are a sample, o (1 - o) / n, and so are
    the calibrate rows that the quantile comes from, l (1 - l) / m, times the squared slope of the
    shares over the levels (1 for a calibrated model). Bounds of a level are Clopper-Pearson with
    the n that has this variance. They hold for all levels at once because they are cut at the
    quantile of the largest of the studentized errors, which are a Brownian bridge at the levels:
    narrower than Sidak, which knows nothing of how levels move together, and but for the middle
    levels narrower than Dvoretzky-Kiefer-Wolfowitz.

    Args:
        truth: shape (n,), the targets of the holdout rows.
        quantiles: shape (n, levels), from
            `predictive.PredictiveDistribution.quantile` or a quantile model.
        n_calibrate: rows that the quantiles were calibrated on, None if on none.
        levels: ascending, in (0, 1).
        level: joint level of the intervals.

    Raises:
        GateError: numbers that are NaN or infinite, shapes that do not fit, levels not in order.

    >>> y = np.arange(1.0, 101.0)
    >>> found = quantile_calibration(y, np.tile([30.5, 70.5], (100, 1)), n_calibrate=None,
    ...                              levels=[0.25, 0.75])
    >>> [(row.observed, round(row.deviation, 3)) for row in found.shares]
    [(0.3, 0.05), (0.7, -0.05)]
    """
    wanted = np.asarray(levels, dtype=np.float64)
    ends = np.r_[0.0, wanted, 1.0]
    if wanted.size == 0 or not bool((np.diff(ends) > 0).all()) or not 0 < level < 1:
        raise GateError(
            f"levels {list(levels)} and level={level}",
            expected="levels in ascending order, and all in (0, 1)",
            do="leave the levels as they are",
        )
    if n_calibrate is not None and n_calibrate < 1:
        raise GateError(
            f"{n_calibrate=}", expected="a row or more, or None", do="count the calibrate rows"
        )
    y = real_numbers("targets", truth)
    below = real_numbers("quantiles", quantiles, (y.size, wanted.size))
    strict, weak = (below > y[:, None]).mean(axis=0), (below >= y[:, None]).mean(axis=0)
    observed = np.clip(wanted, strict, weak)
    covariance = _covariance(wanted, observed, y.size, n_calibrate)
    error = np.sqrt(np.diag(covariance))
    inner = _inner(observed, y.size)
    rows = inner * (1 - inner) / error**2
    low, high = clopper_pearson(observed * rows, rows, _joint_alpha(tuple(ends), level))
    columns = wanted, observed, observed - wanted, low - wanted, high - wanted, error
    return QuantileCalibration(
        shares=tuple(
            QuantileShare(*row) for row in zip(*(c.tolist() for c in columns), strict=True)
        ),
        n=int(y.size),
        n_calibrate=n_calibrate,
        noise=_mean_noise(covariance, level),
        level=level,
    )


def quantile_calibration_error(calibration: QuantileCalibration) -> Estimate:
    """QCE: mean absolute deviation of the shares from their levels.

    It takes the place that the ECE has for probabilities. Being a norm, it is off by no more than
    the same norm of the errors: the interval is the value, up and down by the quantile of that.
    So it holds for every pattern of deviation; most closely for a forecast off to one side.

    >>> y = np.arange(1.0, 101.0)
    >>> found = quantile_calibration(y, np.tile([30.5, 70.5], (100, 1)), n_calibrate=None,
    ...                              levels=[0.25, 0.75])
    >>> round(quantile_calibration_error(found).value, 3)
    0.05
    """
    value = float(np.abs(calibration.column("deviation")).mean())
    return Estimate(
        value=value,
        low=max(0.0, value - calibration.noise),
        high=value + calibration.noise,
        n=calibration.n,
        level=calibration.level,
    )


def debiased_qce(calibration: QuantileCalibration) -> float:
    """QCE less its estimated bias, not below 0; as `calibration.debiased_ece` does it."""
    size = np.abs(calibration.column("deviation"))
    error = calibration.column("standard_error")
    excess = folded_cumulants(size / error)[0] * error - size
    return max(0.0, float((size - excess.clip(0.0)).mean()))


def maximum_quantile_deviation(calibration: QuantileCalibration) -> Estimate:
    """Largest absolute deviation of a level; the interval follows from the simultaneous ones.

    >>> y = np.arange(1.0, 101.0)
    >>> found = quantile_calibration(y, np.tile([30.5, 70.5], (100, 1)), n_calibrate=None,
    ...                              levels=[0.25, 0.75])
    >>> round(maximum_quantile_deviation(found).value, 3)
    0.05
    """
    low, high = calibration.column("low"), calibration.column("high")
    return Estimate(
        value=float(np.abs(calibration.column("deviation")).max()),
        low=float(np.maximum(low, -high).max().clip(0.0)),
        high=float(np.maximum(-low, high).max()),
        n=calibration.n,
        level=calibration.level,
    )


def _inner(observed: Floats, n: int) -> Floats:
    """Shares moved inwards by half a row, so that none is without variance."""
    return (observed * n + 0.5) / (n + 1)


def _covariance(levels: Floats, observed: Floats, n: int, m: int | None) -> Floats:
    """Covariance of the shares' errors, shape (levels, levels): two Brownian bridges."""
    inner = _inner(observed, n)
    covariance = (np.minimum.outer(inner, inner) - np.outer(inner, inner)) / n
    if m is not None:
        shares = np.r_[0.0, observed, 1.0]
        ends = np.r_[0.0, levels, 1.0]
        slope = (shares[2:] - shares[:-2]) / (ends[2:] - ends[:-2])
        bridge = np.minimum.outer(levels, levels) - np.outer(levels, levels)
        covariance = covariance + np.outer(slope, slope) * bridge / m
    return covariance


@cache
def _draws(size: int) -> Floats:
    return np.random.default_rng(0).standard_normal((_DRAWS, size))


def _mean_noise(covariance: Floats, level: float) -> float:
    """Quantile of the mean absolute value of normal errors; always from the same draws."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(0.0))
    return float(np.quantile(np.abs(_draws(len(root)) @ root.T).mean(axis=1), level))


@cache
def _joint_alpha(ends: tuple[float, ...], level: float) -> float:
    """The alpha per level at which all levels hold at once with probability `level`.

    A Brownian bridge over its standard deviation is a Markov chain at the levels: the probability
    that it stays in [-c, c] is a product of kernels, integrated by Gauss and Legendre.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    levels = np.array(ends[1:-1])
    odds = levels / (1 - levels)
    correlations = np.sqrt(odds[:-1] / odds[1:])
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)

    def stays(c: float) -> float:
        x = c * nodes
        mass = c * weights * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        for r in correlations:
            spread = np.sqrt(1 - r**2)
            kernel = np.exp(-(((x[:, None] - r * x) / spread) ** 2) / 2) / spread
            mass = c * weights * (kernel @ mass) / np.sqrt(2 * np.pi)
        return float(mass.sum())

    return float(2 * ndtr(-brentq(lambda c: stays(c) - level, 0.01, 8.0)))
