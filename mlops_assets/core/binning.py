"""Rows in order of score, cut into bins, and summed up per bin.

The fast part of the reliability bins: one sort, and one pass per sum. What the sums mean, and
which intervals belong to them, is decided in `calibration`; nothing is validated here.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlops_assets.core.intervals import Flags, Floats

Strategy = Literal["mass", "width"]


@dataclass(frozen=True, slots=True)
class BinSums:
    """What is known of each bin, arrays of shape (bins,), in order of score.

    `effective_n` is Kish's number of rows, `hits` that times `observed`; without weights these are
    the rows and the positives. `variance` is that of one label of the bin, see `bin_sums`.
    """

    lower: Floats
    upper: Floats
    rows: NDArray[np.intp]
    effective_n: Floats
    share: Floats
    hits: Floats
    expected: Floats
    observed: Floats
    variance: Floats


def bin_sums(
    flags: Flags,
    probabilities: Floats,
    weights: Floats | None,
    *,
    n_bins: int,
    strategy: Strategy,
    min_rows: int,
) -> tuple[BinSums, int]:
    """Sort, cut and sum up rows that are known to be valid; weights are positive.

    The variance of a label is p (1 - p) if the score is right, q (1 - q) with q = p + deviation if
    it is not; the larger of both serves the test of either. With weights there are two more: the
    variance of a weighted sum is that of its squared weights, while effective rows take it to be
    that of the weights themselves; here too the larger is used.

    Returns:
        The sums per bin, and the number of distinct scores.
    """
    hit, scores, w = _in_order(flags, probabilities, weights)
    cuts = _cuts(scores, w, n_bins, strategy, min_rows)
    starts, stops = np.r_[0, cuts], np.r_[cuts, scores.size]
    rows = (stops - starts).astype(np.float64)
    hits = np.add.reduceat(hit, starts, dtype=np.float64)
    if w is None:
        n, share = rows, rows / scores.size
        groups = np.split(scores, cuts)
        total = np.array([group.sum() for group in groups])
        squares = np.array([np.dot(group, group) for group in groups])
        expected, observed = total / n, hits / n
        means = [(expected, (total - squares) / n)]
    else:
        mass, doubled = np.add.reduceat(w, starts), np.add.reduceat(w * w, starts)
        n, share = np.minimum(mass**2 / doubled, rows), mass / w.sum()
        noise = scores * (1 - scores)
        means = [
            (np.add.reduceat(v * scores, starts) / m, np.add.reduceat(v * noise, starts) / m)
            for v, m in ((w, mass), (w * w, doubled))
        ]
        expected = means[0][0]
        observed = np.add.reduceat(w * hit, starts) / mass
        hits = observed * n
    off = observed - expected
    variances = [v for mean, right in means for v in (right, right + off * (1 - 2 * mean) - off**2)]
    sums = BinSums(
        lower=scores[starts],
        upper=scores[stops - 1],
        rows=stops - starts,
        effective_n=n,
        share=share,
        hits=hits,
        expected=expected,
        observed=observed,
        variance=np.max(variances, axis=0).clip(0.0),
    )
    return sums, 1 + int(np.count_nonzero(scores[1:] != scores[:-1]))


def _in_order(
    flags: Flags, scores: Floats, weights: Floats | None
) -> tuple[NDArray[np.bool_], Floats, Floats | None]:
    """Rows in order of score; the order of equal scores does not matter."""
    if weights is not None:
        order = np.argsort(scores)
        return flags[order], scores[order], weights[order]
    # Doubles of at least 0 are ordered like their bits read as integers, and those up to 1 leave
    # the two highest bits free. So the label rides along in the lowest: one sort of plain
    # integers, which is the fastest there is. Adding 0.0 turns -0.0 into 0.0.
    keys = (scores + 0.0).view(np.int64)
    keys <<= 1
    keys |= flags
    keys.sort()
    hit = (keys.astype(np.uint8) & 1).view(np.bool_)
    keys >>= 1
    return hit, keys.view(np.float64), None


def _cuts(
    scores: Floats, weights: Floats | None, n_bins: int, strategy: Strategy, min_rows: int
) -> NDArray[np.intp]:
    """Positions in the sorted scores where a new bin starts; never within equal scores."""
    size = scores.size
    mass = None if weights is None else np.r_[0.0, np.cumsum(weights)]
    doubled = None if weights is None else np.r_[0.0, np.cumsum(weights**2)]

    def rows(start: int, stop: int) -> float:
        """Effective rows; 0 where the weight is lost beside what comes before."""
        if mass is None or doubled is None:
            return stop - start
        noise = float(doubled[stop] - doubled[start])
        found = float(mass[stop] - mass[start]) ** 2 / noise if noise > 0 else 0.0
        return min(found, stop - start)

    if strategy == "width":
        wanted = np.searchsorted(scores, np.arange(1, n_bins) / n_bins, "left")
    else:
        count = max(1, min(n_bins, int(rows(0, size) // min_rows)))
        middle = np.arange(1, count) * size // count
        if mass is not None:
            middle = np.searchsorted(mass, np.arange(1, count) * mass[-1] / count, "right") - 1
        left = np.searchsorted(scores, scores[middle], "left")
        right = np.searchsorted(scores, scores[middle], "right")
        before, behind = middle - left, right - middle
        if mass is not None:
            before, behind = mass[middle] - mass[left], mass[right] - mass[middle]
        wanted = np.where(before <= behind, left, right)
    kept: list[int] = []
    last = 0
    for cut in wanted.tolist():
        if rows(last, cut) >= min_rows and rows(cut, size) >= min_rows:
            kept.append(cut)
            last = cut
    return np.array(kept, dtype=np.intp)
