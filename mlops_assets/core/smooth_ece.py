"""The calibration error without bins: smooth ECE of Blasiok and Nakkiran (2023).

Bins are replaced by a Gaussian kernel, reflected at 0 and 1, and the bandwidth chooses itself.
Only this estimate and its interval belong here; binned numbers are in `calibration`.

How it is computed: the residuals label - probability are summed on a grid of cells, one pass over
the rows; all else happens on the grid. Smoothing there is a random walk, reflected at the ends,
of variance bandwidth^2 (the discrete heat kernel): beyond a few cells it is the Gaussian kernel,
it never has a negative weight, and the error only shrinks as the bandwidth grows, so that one
bandwidth equals the error that it gives.

How its interval comes about: the error s of a model is the one solution of g(s) = s, where g(b) is
the error at bandwidth b and falls with b. So s lies below b exactly if g(b) < b, and any bound of
g(b) that holds at each b by itself gives a bound of s: the b where the bound crosses b. At one
bandwidth the smoothed residuals are the truth plus normal noise of known size, dependent from
cell to cell in ways that are not needed:
- the mean inflation by noise depends on its size in each cell only, and is at most that of no
  deviation at all (lower bound), at least that of deviations in proportion to the noise (upper
  bound; as for bins, see `intervals`);
- the spread about the mean is at most that of the mean residual, times that of a folded normal,
  however the noise hangs together (Gaussian Poincare inequality; its Hermite terms only shrink).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import validate_weighted
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import (
    Floats,
    effective_rows,
    folded_cumulants,
    shift_lower_bound,
)
from mlops_assets.errors import GateError

CELLS = 8192
"""Cells of the grid: an ECE is resolved down to a few 1 / CELLS."""

# How the interval spends its error probability, as shares of 1 - level; compare `intervals`.
_SHARE_SHIFT = 0.80  # lower bound: all deviations to the same side
_SHARE_SWITCH = 0.10  # lower bound: low scores off to one side, high scores to the other
_SHARE_ANY = 0.10  # lower bound: any pattern
_SHARE_SPREAD = 1.0  # upper bound: deviations spread thinly
_SHARE_SPREAD_SHIFT = 0.20  # upper bound: and to the same side
_STEPS = 24  # bandwidths tried between a cell and 1, evenly on a log scale


def smooth_ece(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Smooth ECE with its interval.

    The value is the plug-in estimate, which noise inflates, as it does that of the binned ECE. A
    shift of all probabilities by d is a smooth ECE of d.

    Args:
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        weights: shape (n,), at least 0; the estimate's `n` then counts effective rows.
        level: level of the interval.

    Raises:
        GateError: the rows cannot be judged (see `calibration.validate_weighted`), or a level
            outside (0, 1).

    >>> round(smooth_ece([0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]).value, 6)
    0.25
    """
    if not 0 < level < 1:
        raise GateError(f"level={level}", expected="a number in (0, 1)", do="use 0.95")
    flags, scores, w = validate_weighted(labels, probabilities, weights)
    share = None if w is None else w / w.sum()
    place = np.minimum((scores * CELLS).astype(np.intp), CELLS - 1)
    residual = _sums(place, flags - scores, share)
    value = _solution(lambda b: float(np.abs(_smooth(residual, b)).sum()) - b, 0.0, 1.0)
    # The variance of a label is p (1 - p) if the score is right, q (1 - q) if q is; the larger of
    # both serves either. The deviation q - p is the smoothed one of the cell.
    mass = _smooth(_sums(place, np.ones(scores.size), share), value)
    off = np.divide(_smooth(residual, value), mass, out=np.zeros(CELLS), where=mass > 1e-12)[place]
    moved = (scores + off).clip(0.0, 1.0)
    variance = np.maximum(scores * (1 - scores), moved * (1 - moved))
    if share is None:
        noise = _sums(place, variance, None) / scores.size
    else:
        noise = _sums(place, variance * share, share)
    grid = _Grid(residual, noise)
    n = scores.size if w is None else max(1, int(effective_rows(w)))
    low, high = _lower_bound(grid, 1 - level), _upper_bound(grid, 1 - level)
    return Estimate(value, low, max(low, min(1.0, high)), n, level)


def _sums(place: NDArray[np.intp], values: Floats, share: Floats | None) -> Floats:
    """Weighted mean of `values`, told apart by cell."""
    if share is not None:
        return np.bincount(place, values * share, CELLS).astype(np.float64)
    return np.bincount(place, values, CELLS) / values.size


def _smooth(cells: Floats, bandwidth: float) -> Floats:
    """A random walk from each cell for time (bandwidth / cell)^2, reflected at both ends."""
    from scipy.fft import dct, idct

    decay = np.exp(-((bandwidth * cells.size) ** 2) * _rates(cells.size))
    smoothed: Floats = idct(dct(cells) * decay)
    return smoothed


@cache
def _rates(cells: int) -> Floats:
    """How fast the walk forgets its modes, which are cosines (those of the DCT-II)."""
    return 1 - np.cos(np.pi * np.arange(cells) / cells)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Sums per cell, shape (cells,), over rows whose weights add up to 1.

    `residual`: of label - probability; `noise`: the variance of that sum.
    """

    residual: Floats
    noise: Floats

    @property
    def error(self) -> float:
        """Standard error of the mean residual."""
        return float(np.sqrt(self.noise.sum()))

    def smoothed(self, bandwidth: float) -> Floats:
        """The residuals, smoothed."""
        return _smooth(self.residual, bandwidth)

    def spread(self, bandwidth: float) -> float:
        """Sum over cells of the standard errors of the smoothed residuals.

        The variance of a cell is the noise smoothed by the square of the kernel. The square of a
        Gaussian is one of bandwidth / sqrt(2); that of a reflected one has a product of the
        kernel with its mirror image besides, which is a Gaussian about the wall.
        """
        cells = self.noise.size
        if bandwidth * cells < 1:  # no smoothing to speak of: each cell keeps its own noise
            return float(np.sqrt(self.noise).sum())
        scale = bandwidth * cells
        variance = _smooth(self.noise, bandwidth / np.sqrt(2)) / (2 * np.sqrt(np.pi) * scale)
        wall = np.exp(-((np.arange(cells) + 0.5) ** 2) / scale**2)
        for mirror in (wall, wall[::-1]):
            variance += mirror * float(mirror @ self.noise) / (np.pi * scale**2)
        return float(np.sqrt(variance.clip(0.0)).sum())


def _lower_bound(grid: _Grid, alpha: float) -> float:
    """Lower bound of the smooth ECE: the first bandwidth that a bound of the error falls below.

    The signs of the deviations may be the same everywhere (then the error is the mean residual at
    any bandwidth), change once from low to high scores, or follow any pattern. In the second
    case the place of the change is searched: cumulative sums of noise are a Brownian path W, and
    |W(1) - 2 W(s)| exceeds u somewhere with a chance of about 4 u phi(u) (its upcrossings).
    """
    from scipy.special import ndtri

    error = grid.error
    if error == 0.0:  # labels that follow from the scores leave no doubt
        return _solution(lambda b: float(np.abs(grid.smoothed(b)).sum()) - b, 0.0, 1.0)
    any_pattern = float(ndtri(alpha * _SHARE_ANY))
    one_switch = _solution(
        lambda u: 4 * u * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) - alpha * _SHARE_SWITCH, 1.0, 9.0
    )

    def excess(bandwidth: float) -> float:
        cells = grid.smoothed(bandwidth)
        noise = np.sqrt(2 / np.pi) * grid.spread(bandwidth)
        switched = float(np.abs(2 * np.cumsum(cells) - cells.sum()).max())
        pattern = float(np.abs(cells).sum()) - noise + any_pattern * error
        return max(pattern, switched - one_switch * error) - bandwidth

    shift = shift_lower_bound(float(grid.residual.sum()), error, alpha * _SHARE_SHIFT)
    tried = np.geomspace(1 / grid.residual.size, 1.0, _STEPS)
    last = 0.0
    for bandwidth in tried.tolist():
        if excess(bandwidth) < 0:
            break
        last = bandwidth
    found = _solution(excess, last, bandwidth) if last > 0 else 0.0
    return max(shift, found)


def _upper_bound(grid: _Grid, alpha: float) -> float:
    """Upper bound of the smooth ECE: the largest one that does not make the data surprising.

    An ECE of s means an error of s at bandwidth s. It is ruled out when the error found there is
    surprisingly small for deviations in proportion to the noise, which inflate it least, and when
    the mean residual is surprisingly small too, should all deviations be to the same side.
    """
    from scipy.special import ndtri

    error = grid.error
    if error == 0.0:
        return _lower_bound(grid, alpha)
    z = float(ndtri(alpha * _SHARE_SPREAD))

    def excess(bandwidth: float) -> float:
        spread = grid.spread(bandwidth)
        first, second, _ = folded_cumulants(bandwidth / spread)
        expected = spread * float(first) + z * float(np.sqrt(second)) * error
        return float(np.abs(grid.smoothed(bandwidth)).sum()) - expected

    shift = abs(float(grid.residual.sum())) - float(ndtri(alpha * _SHARE_SPREAD_SHIFT)) * error
    tried = np.geomspace(1.0, 1 / grid.residual.size, _STEPS)
    last = 1.0
    for bandwidth in tried.tolist():
        if excess(bandwidth) >= 0:
            found = _solution(excess, bandwidth, last) if bandwidth < last else bandwidth
            return max(shift, found)
        last = bandwidth
    return shift


def _solution(of: Callable[[float], float], low: float, high: float) -> float:
    """Where `of`, at least 0 at `low` and at most 0 at `high`, crosses 0."""
    from scipy.optimize import brentq

    if of(low) <= 0:
        return low
    return high if of(high) >= 0 else float(brentq(of, low, high, xtol=1e-10))
