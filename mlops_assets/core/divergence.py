"""How far the profile of a window is from its reference, and how far chance alone takes it.

Only numbers belong here: distances, their intervals and their p-values. Whether a column has
drifted is judged in `drift`. All of it takes the rows of a window to be independent of one another:
rows that go together (one day's weather) vary more than it says.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.core.coverage_law import share_at_most
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.profile import CategoryProfile, Floats, NumberProfile, Profile

LEAST_SHARE = 1e-4
"""No share of the reference counts as less, so that one row where it had none says little."""
LEAST_EXPECTED = 5.0
"""Cells that expect fewer rows are joined."""
MANY = 50.0
"""With fewer rows expected in a cell the law is simulated."""

_DRAWS = (200, 1_800, 18_000)
_ENOUGH = 20  # larger draws that settle a p-value
_HOPELESS = 1e-9  # below this no draw would be as large


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows of reference and window by cell, shapes (cells,).

    `unseen` counts the rows of the window where the reference has none (out of its range, in a new
    category, null where it is never null). By chance such rows are as frequent as `gaps` rows of
    the reference: of a number the two gaps outside of its range; of a text the categories that
    were seen once only (Good 1953), and one.
    """

    reference: Floats
    window: Floats
    unseen: int
    gaps: int

    @property
    def with_unseen(self) -> tuple[Floats, Floats]:
        """Rows by cell, the unseen ones as a cell if there are any, against the gaps."""
        if not self.unseen:
            return self.reference, self.window
        gaps = float(self.gaps)
        return np.append(self.reference, gaps), np.append(self.window, float(self.unseen))


@dataclass(frozen=True, slots=True)
class Bounded:
    """A distance between two samples that is known from bins: surely from `low` to `high`."""

    value: float
    low: float
    high: float


def cells_of(reference: Profile, window: Profile) -> Cells:
    """The cells in which two profiles with the same bins are compared.

    Null is a cell of its own. Cells that expect fewer than `LEAST_EXPECTED` rows in the smaller
    sample are joined: neighbours for numbers, the rarest for texts. Only the reference and the
    number of rows decide which.
    """
    counts = [np.array(_counts(p), dtype=np.float64) for p in (reference, window)]
    seen = counts[0] > 0
    gaps = 2 + int(reference.nulls == 0)
    if isinstance(reference, CategoryProfile):
        gaps = 1 + reference.counts.count(1) + int(reference.nulls == 0)
    rows, known = counts[0][seen], counts[1][seen]
    unseen = int(counts[1].sum() - known.sum())
    order = np.arange(rows.size)
    if isinstance(reference, CategoryProfile):
        order = np.argsort(rows, kind="stable")
    share = min(1.0, window.rows / max(reference.rows, 1))
    starts, run = [], math.inf
    for place, expected in enumerate((rows[order] * share).tolist()):
        if run >= LEAST_EXPECTED:
            starts.append(place)
            run = 0.0
        run += expected
    if run < LEAST_EXPECTED and len(starts) > 1:
        starts.pop()
    if starts:
        rows, known = (np.add.reduceat(found[order], starts) for found in (rows, known))
    return Cells(rows, known, unseen, gaps)


def psi(reference: npt.ArrayLike, window: npt.ArrayLike) -> float:
    """Population stability index: sum of (p - q) log(p / q) over cells.

    Shares of the reference get half a row per cell, and are at least `LEAST_SHARE`; those of the
    window as many rows in all, in the proportions of the reference, so that an empty cell does
    not make it infinite.

    Args:
        reference: rows of the reference by cell, shape (cells,).
        window: rows of the window by cell, shape (cells,).

    >>> round(psi([5000, 5000], [4000, 6000]), 4)
    0.0405
    >>> psi([10, 10], [30, 30])
    0.0
    """
    r, w = (np.asarray(rows, dtype=np.float64) for rows in (reference, window))
    return float(_psi(r, w))


def psi_estimate(reference: npt.ArrayLike, window: npt.ArrayLike, level: float = 0.95) -> Estimate:
    """PSI less what chance adds to it, with its interval; `n` is the rows of the window.

    Chance adds (cells - 1) (1 / n + 1 / m). The variance is that of the PSI as a function of the
    shares (delta method) and, as this is nothing where nothing drifted, twice the square of what
    chance adds per degree of freedom.

    Args:
        reference: rows of the reference by cell, shape (cells,).
        window: rows of the window by cell, shape (cells,).
        level: level of the interval.

    >>> estimate = psi_estimate([5000, 5000], [4000, 6000])
    >>> round(estimate.value, 3), round(estimate.low, 3), round(estimate.high, 3)
    (0.04, 0.029, 0.052)
    """
    from scipy.special import ndtri

    r, w = (np.asarray(rows, dtype=np.float64) for rows in (reference, window))
    n, m, cells = float(w.sum()), float(r.sum()), r.size
    if not (n and m):
        return Estimate(0.0, 0.0, 0.0, int(n), level)
    q, p = _shares(r, w)
    unit = _unit(n, m, cells)
    ratio = np.log(p / q)
    of_window, of_reference = ratio + 1 - q / p, -ratio + 1 - p / q
    variance = _variance(of_window, p) / n + _variance(of_reference, q) / m
    variance += 2 * (cells - 1) * unit**2
    value = float(_psi(r, w)) - (cells - 1) * unit
    half = float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return Estimate(max(0.0, value), max(0.0, value - half), max(0.0, value + half), int(n), level)


def chance_of_psi(cells: Cells, *, seed: int = 0) -> float:
    """P-value of no drift: how often chance alone makes a PSI as large as that of the cells.

    PSI / (1 / n + 1 / m) is about chi-square with cells - 1 degrees of freedom. Where a cell
    expects fewer than `MANY` rows the law is simulated instead: the shares of the cells are
    Dirichlet given the rows of the reference, exactly so for bins that are cut at its own
    quantiles, and the window is multinomial. Unseen rows are tested by the exact law of rows
    beyond the extremes of a sample. The smaller of both p-values counts twice (Bonferroni).

    >>> r = np.full(10, 1000.0)
    >>> p_value = chance_of_psi(Cells(r, r / 10, 0, 2))
    >>> p_value
    1.0
    """
    outside = _chance_of_unseen(cells)
    return min(1.0, 2 * min(_chance_inside(cells, seed), outside))


def jensen_shannon(reference: npt.ArrayLike, window: npt.ArrayLike) -> float:
    """Jensen-Shannon distance in [0, 1]: the root of the divergence in bits, without smoothing.

    Args:
        reference: rows of the reference by cell, shape (cells,).
        window: rows of the window by cell, shape (cells,).

    >>> jensen_shannon([1, 0], [0, 1]), jensen_shannon([2, 2], [1, 1])
    (1.0, 0.0)
    """
    q, p = (np.asarray(rows, dtype=np.float64) for rows in (reference, window))
    if not (q.sum() and p.sum()):
        return 0.0
    q, p = q / q.sum(), p / p.sum()
    middle = (q + p) / 2
    bits = sum(float(x[x > 0] @ np.log2(x[x > 0] / middle[x > 0])) for x in (q, p))
    return math.sqrt(max(0.0, bits / 2))


def wasserstein(reference: NumberProfile, window: NumberProfile) -> Bounded | None:
    """Wasserstein-1 distance in standard deviations of the reference; None if it has none.

    It is the area between the distribution functions, which are known at the ends of the bins;
    between them they are taken as straight for the value, and as anything that rises for the
    bounds. The difference of the means is known exactly, so a plain shift is measured exactly;
    where the functions cross, the value errs by up to a fifth, as the outermost bins are wide.

    >>> from mlops_assets.core.profile import NumberBins
    >>> bins = NumberBins.of(np.arange(1000))
    >>> found = wasserstein(*(NumberProfile.of(np.arange(1000) + s, bins) for s in (0, 100)))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.346, 0.346, 0.528)
    """
    scale = reference.deviation
    if not (window.values and scale > 0):
        return None
    ends = [p for p in (reference, window) if p.minimum is not None and p.maximum is not None]
    low = min(float(p.minimum or 0.0) for p in ends)
    high = max(float(p.maximum or 0.0) for p in ends)
    bins = reference.bins
    width = np.diff([low, bins.least, *bins.uppers, high])
    f, g = (np.r_[0.0, np.cumsum(p.counts)] / p.values for p in (reference, window))
    first, last = f[:-1] - g[:-1], f[1:] - g[1:]
    shift = window.mean - reference.mean
    least = np.maximum(np.maximum(f[:-1] - g[1:], g[:-1] - f[1:]), 0.0)
    most = np.maximum(f[1:] - g[:-1], g[1:] - f[:-1])
    lowest, highest = max(float(width @ least), abs(shift)), float(width @ most)
    # The whole area is the shift, and twice the part on the other side.
    other = width @ _area_below(*((first, last) if shift >= 0 else (-first, -last)))
    value = max(lowest, min(abs(shift) + 2 * float(other), highest))
    return Bounded(value / scale, lowest / scale, max(value, highest) / scale)


def kolmogorov_smirnov(reference: NumberProfile, window: NumberProfile) -> tuple[Bounded, float]:
    """Largest distance of the distribution functions, and its p-value, from binned counts.

    The value is the largest distance at the ends of the bins, which is also the lower bound; in
    between it may be larger by as much as a bin holds. So the p-value is too large, if anything.

    >>> from mlops_assets.core.profile import NumberBins
    >>> bins = NumberBins.of(np.arange(1000))
    >>> found, p = kolmogorov_smirnov(
    ...     *(NumberProfile.of(np.arange(1000) + s, bins) for s in (0, 100)))
    >>> round(found.low, 3), round(found.high, 3), p < 1e-3
    (0.1, 0.15, True)
    """
    from scipy.special import kolmogorov

    if not (reference.values and window.values):
        return Bounded(0.0, 0.0, 1.0), 1.0
    f, g = (np.r_[0.0, np.cumsum(p.counts)] / p.values for p in (reference, window))
    value = float(np.abs(f - g).max())
    high = float(np.maximum(f[1:] - g[:-1], g[1:] - f[:-1]).max())
    n = reference.values * window.values / (reference.values + window.values)
    return Bounded(value, value, max(value, high)), float(kolmogorov(math.sqrt(n) * value))


def _counts(profile: Profile) -> tuple[int, ...]:
    if isinstance(profile, CategoryProfile):
        return (*profile.counts, profile.others, profile.nulls)
    # Null comes last and may be joined with the largest values; below and above are far apart.
    return (*profile.counts, profile.nulls)


def _shares(reference: Floats, window: Floats) -> tuple[Floats, Floats]:
    more = reference.shape[-1] / 2
    q = np.maximum((reference + 0.5) / (reference.sum() + more), LEAST_SHARE)
    return q, (window + more * q) / (window.sum(axis=-1, keepdims=True) + more)


def _psi(reference: Floats, window: Floats) -> Floats:
    q, p = _shares(reference, window)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _unit(n: float, m: float, cells: int) -> float:
    """What chance adds to the PSI per degree of freedom; the added rows shrink it a little."""
    return (1 / n + 1 / m) * (n / (n + cells / 2)) ** 2


def _area_below(first: Floats, last: Floats) -> Floats:
    """Mean height, below 0, of straight lines from `first` to `last`."""
    low, high = np.minimum(first, last).clip(max=0.0), np.maximum(first, last)
    crossing = np.where((low < 0) & (high > 0), high - low, 1.0)
    both = -(low + high) / 2
    return np.where(high > 0, low**2 / (2 * crossing), np.where(low < 0, both, 0.0))


def _variance(slopes: Floats, shares: Floats) -> float:
    mean = float(slopes @ shares)
    return max(0.0, float(shares @ slopes**2) - mean**2)


def _chance_inside(cells: Cells, seed: int) -> float:
    """P-value of the rows in cells that the reference has."""
    from scipy.special import chdtrc

    n, m, k = float(cells.window.sum()), float(cells.reference.sum()), cells.reference.size
    if k < 2 or n == 0:
        return 1.0
    found = float(_psi(cells.reference, cells.window))
    by_law = float(chdtrc(k - 1, found / _unit(n, m, k)))
    if cells.reference.min() * min(1.0, n / m) >= MANY:
        return by_law
    if by_law < _HOPELESS:
        return 1 / (sum(_DRAWS) + 1)
    rng, larger, done = np.random.default_rng(seed), 0, 0
    for draws in _DRAWS:
        gammas = rng.standard_gamma(cells.reference, (draws, k))
        drawn = rng.multinomial(int(n), gammas / gammas.sum(axis=1, keepdims=True))
        larger += int((_psi(cells.reference, drawn.astype(np.float64)) >= found).sum())
        done += draws
        if larger >= _ENOUGH:
            break
    return (larger + 1) / (done + 1)


def _chance_of_unseen(cells: Cells) -> float:
    """P(at least as many unseen rows): beta-binomial, as the gaps are Beta(gaps, m + 1 - gaps)."""
    if not cells.unseen:
        return 1.0
    m, n = int(cells.reference.sum()), int(cells.window.sum()) + cells.unseen
    if m <= cells.gaps:
        return 1.0
    mean = cells.gaps / (m + 1)
    return max(0.0, 1 - share_at_most(cells.unseen - 1, n, mean, m + 1))
