"""Calibration with more than two classes, brought back to reliability bins.

Top label: is the most likely class right as often as its probability says? Classwise: does each
class happen as often as its own probability says? Either gives `ReliabilityBins`, which the rules
of `gates` judge like any other. Only this reduction belongs here; scores of single rows are in
`proper_scores`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.binning import Strategy
from mlops_assets.core.calibration import ReliabilityBins, reliability_bins
from mlops_assets.core.intervals import Flags, Floats
from mlops_assets.errors import GateError

Classes = NDArray[np.int64]

# Softmax in single precision misses 1 by about a millionth.
_ROUNDING = 1e-5


def validate_classes(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Classes, Floats]:
    """Check labels, shape (n,), integers 0 to K - 1, and probabilities, shape (n, K).

    Returns:
        The labels as integers and the probabilities as float64.

    Raises:
        GateError: no rows, unequal lengths, fewer than two columns, labels that name no column or
            all the same one, probabilities that are NaN or outside [0, 1], or rows that do not
            sum to 1.

    >>> validate_classes([0, 2], [[1, 0, 0], [0.25, 0.25, 0.5]])[0].tolist()
    [0, 2]
    """
    y, p = np.asarray(labels), np.asarray(probabilities)
    if y.ndim != 1 or y.size == 0 or p.ndim != 2 or len(p) != y.size or p.dtype.kind not in "iuf":
        raise GateError(
            f"labels of shape {y.shape}, probabilities of shape {p.shape} and type {p.dtype}",
            expected="labels of shape (n,) and numbers of shape (n, K), with n at least 1",
            do="score exactly the rows that have labels, with one column per class",
        )
    scores = p.astype(np.float64, copy=False)
    low, high, sums = float(scores.min()), float(scores.max()), scores.sum(axis=1)
    if not (low >= 0.0 and high <= 1.0 and float(np.abs(sums - 1).max()) <= _ROUNDING):
        raise GateError(
            f"probabilities range from {low} to {high}, their rows sum to {sums.min()} up to "
            f"{sums.max()}",
            expected="finite numbers in [0, 1], each row summing to 1",
            do="look for rows the model cannot score, and give probabilities, not raw scores",
        )
    return _validate_labels(y, p.shape[1]), scores


def _validate_labels(y: NDArray[np.generic], columns: int) -> Classes:
    classes = y.astype(np.int64) if y.dtype.kind in "biu" else np.full(y.shape, -1)
    if y.dtype.kind == "f" and np.isfinite(y).all():
        classes = np.where(y == np.floor(y), y, -1).astype(np.int64)
    if columns < 2 or int(classes.min()) < 0 or int(classes.max()) >= columns:
        raise GateError(
            f"labels of type {y.dtype} that are not all among the {columns} columns",
            expected="integers from 0 to K - 1, with K at least 2",
            do="encode the classes as 0, 1, ... in the order of the probability columns",
        )
    if int(classes.min()) == int(classes.max()):
        raise GateError(
            f"all {classes.size} labels are {classes[0]}",
            expected="at least two classes",
            do="take a longer window",
        )
    return classes


def top_label(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Flags, Floats]:
    """Whether the most likely class was right, and its probability, shapes (n,).

    These are labels and probabilities of class "right" for any binary function: reliability bins,
    smooth ECE, Brier score, gates. Of equally likely classes the first is meant.

    Args:
        labels: shape (n,), integers 0 to K - 1.
        probabilities: shape (n, K), rows summing to 1.

    Raises:
        GateError: see `validate_classes`.

    >>> right, score = top_label([0, 2], [[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]])
    >>> right.tolist(), score.tolist()
    ([True, False], [0.75, 0.5])
    """
    classes, p = validate_classes(labels, probabilities)
    return p.argmax(axis=1) == classes, p.max(axis=1)


def top_label_bins(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: Strategy = "mass",
    min_rows: int = 100,
    level: float = 0.95,
) -> ReliabilityBins:
    """`calibration.reliability_bins` of `top_label`; other arguments as there.

    Raises:
        GateError: rows that cannot be judged, or a top class that is always or never right.
    """
    return reliability_bins(
        *top_label(labels, probabilities),
        weights=weights,
        n_bins=n_bins,
        strategy=strategy,
        min_rows=min_rows,
        level=level,
    )


def classwise_bins(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: Strategy = "mass",
    min_rows: int = 100,
    level: float = 0.95,
) -> tuple[ReliabilityBins, ...]:
    """One table per class: "is it class k?" against the probability of class k.

    The intervals of the bins hold for all bins of all classes at once with probability `level`
    (Bonferroni over the classes, since the tables are of the same rows), so each table has a
    higher level of its own. Of two classes the second says it all: the first table is its mirror
    image and needs no such correction.

    Args:
        labels: shape (n,), integers 0 to K - 1.
        probabilities: shape (n, K), rows summing to 1.
        weights: shape (n,), at least 0; None means that all rows count alike.
        n_bins: how many bins each class should have.
        strategy: "mass" or "width".
        min_rows: least rows of a bin.
        level: joint level of the deviation intervals.

    Raises:
        GateError: rows that cannot be judged, or a class that never occurs: nothing is known of
            its probabilities.
    """
    classes, p = validate_classes(labels, probabilities)
    k = p.shape[1]
    missing = sorted(set(range(k)) - set(np.unique(classes).tolist()))
    if missing:
        raise GateError(
            f"no row of the {classes.size} is of class {', '.join(map(str, missing))}",
            expected=f"rows of each of the {k} classes",
            do="take a longer window, or judge the top label only",
        )
    tables = [
        reliability_bins(
            classes == one,
            p[:, one],
            weights=weights,
            n_bins=n_bins,
            strategy=strategy,
            min_rows=min_rows,
            level=level if k == 2 else 1 - (1 - level) / k,
        )
        for one in range(1 if k == 2 else 0, k)
    ]
    return (_mirrored(tables[0]), tables[0]) if k == 2 else tuple(tables)


def pooled(tables: Sequence[ReliabilityBins]) -> ReliabilityBins:
    """The tables of `classwise_bins` as one, for the estimates and gates of all classes together.

    Its `expected_calibration_error` is the classwise ECE, the mean over the classes (Kull et al.
    2019); its `maximum_bin_deviation` is that of all bins of all classes. A bin's `group` is its
    class. Two classes give the table of the second.

    Raises:
        GateError: fewer than two tables, or tables of different rows.
    """
    k = len(tables)
    if k < 2 or len({(table.n, table.effective_n, table.level) for table in tables}) > 1:
        raise GateError(
            f"tables of {[table.n for table in tables]} rows",
            expected="one table per class, all of the same rows",
            do="use the tables of one call of classwise_bins",
        )
    if k == 2:
        return tables[1]
    return replace(
        tables[0],
        bins=tuple(
            replace(row, share=row.share / k, group=one)
            for one, table in enumerate(tables)
            for row in table.bins
        ),
        n=sum(table.n for table in tables),
        distinct_scores=min(table.distinct_scores for table in tables),
        level=round(1 - (1 - tables[0].level) * k, 12),
    )


def _mirrored(table: ReliabilityBins) -> ReliabilityBins:
    """The table of class 0, given that of class 1."""
    return replace(
        table,
        bins=tuple(
            replace(
                row,
                lower=1 - row.upper,
                upper=1 - row.lower,
                mean_probability=1 - row.mean_probability,
                observed=1 - row.observed,
                deviation=-row.deviation,
                low=-row.high,
                high=-row.low,
            )
            for row in reversed(table.bins)
        ),
    )
