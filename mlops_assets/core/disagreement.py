"""How a shadow differs from the version that answers, on the same rows.

Numbers only, and no verdict: two good models may differ, and labels decide who is right. Which rows
these are is decided in `mlops_assets.rollouts.shadow_report`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.errors import DataError


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far two versions are apart on some rows.

    Args:
        slice: the column that is looked at; empty for all rows.
        level: its value.
        n: rows that both answered.
        rank_correlation: Spearman's; None where it is not defined, as for scores that are equal.
        decisions_differ: share of rows that are decided otherwise; None without a threshold.
        mean: mean of the shadow's score minus the answered one.
        mean_size: mean of the size of the difference.
        worst: the largest difference, with its sign.
        worst_row: place of the row that has it.
    """

    slice: str
    level: str
    n: int
    rank_correlation: float | None
    decisions_differ: float | None
    mean: float
    mean_size: float
    worst: float
    worst_row: int


def disagreements(
    answered: ArrayLike,
    shadow: ArrayLike,
    *,
    threshold: float | None = None,
    slices: Mapping[str, ArrayLike] | None = None,
) -> tuple[Disagreement, ...]:
    """Compare the scores of two versions, over all rows first and then slice by slice.

    Args:
        answered: scores that were answered, shape (n,).
        shadow: the shadow's scores of the same rows, shape (n,).
        threshold: score from which on the positive class is decided.
        slices: column name to the level of each row, shape (n,).

    Raises:
        DataError: no rows, rows that do not match, or scores that are not finite.

    >>> found, = disagreements([0.1, 0.4, 0.8], [0.2, 0.6, 0.9], threshold=0.5)
    >>> found.rank_correlation, round(found.decisions_differ, 3), round(found.worst, 3)
    (1.0, 0.333, 0.2)
    """
    one, other = (np.asarray(scores, dtype=np.float64) for scores in (answered, shadow))
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise DataError(
            f"scores of the shapes {one.shape} and {other.shape}: no data to compare",
            expected="scores of the same rows, at least one",
            do="wait until the shadow has scored what was answered",
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise DataError(
            "scores that are not finite",
            expected="finite numbers",
            do="leave out the rows that a version refused",
        )
    everybody = np.arange(one.size)
    return tuple(
        _compared(name, level, one[rows], other[rows], threshold, rows)
        for name, level, rows in (("", "", everybody), *_levels(slices or {}, one.size))
    )


def _levels(slices: Mapping[str, ArrayLike], n: int) -> Iterator[tuple[str, str, NDArray[np.intp]]]:
    for name, levels in slices.items():
        found = np.asarray(levels).astype(str)
        if found.shape != (n,):
            raise DataError(
                f"the slice {name!r} has the shape {found.shape}",
                expected=f"a level for each of the {n:,} rows",
                do="take the slices of the rows that are compared",
            )
        for level in np.unique(found):
            yield name, str(level), np.flatnonzero(found == level)


def _compared(
    name: str,
    level: str,
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    threshold: float | None,
    rows: NDArray[np.intp],
) -> Disagreement:
    from scipy.stats import spearmanr

    apart = other - one
    ranked = len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0
    worst = int(np.argmax(np.abs(apart)))
    return Disagreement(
        slice=name,
        level=level,
        n=len(one),
        rank_correlation=round(float(spearmanr(one, other).statistic), 12) if ranked else None,
        decisions_differ=None
        if threshold is None
        else float(np.mean((one >= threshold) != (other >= threshold))),
        mean=float(apart.mean()),
        mean_size=float(np.abs(apart).mean()),
        worst=float(apart[worst]),
        worst_row=int(rows[worst]),
    )
