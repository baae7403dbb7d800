"""The metrics of each slice of the rows, and which slices are off beyond chance.

A slice is the rows of one level of one column, such as origin = JFK; a row is in one slice of each
column. Two things are tested: whether labels are as frequent as the probabilities say, and whether
sets or intervals cover as often as stated. All tests of one report share a false discovery rate,
so that looking at many slices does not find faults in a good model.

Only the report belongs here; the tests are in `significance`, and whether a flagged slice is bad
enough to stop a model is decided in `slice_gates`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlops_assets.core.calibration import bins_of, expected_calibration_error, validate_scores
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Flags, mean_estimate
from mlops_assets.core.proper_scores import log_losses
from mlops_assets.core.significance import (
    Tested,
    coverage_test,
    false_discoveries_held,
    mean_deviation_test,
)
from mlops_assets.errors import GateError

MIN_ROWS = 500
"""Smaller slices are reported and never judged."""
MOST_LEVELS = 1_000
"""A column of more levels is no slicing: its slices are too small to say anything."""


@dataclass(frozen=True, slots=True)
class StatedCoverage:
    """Which rows are covered, shape (n,), and what was stated: confidence, from how many rows."""

    covered: ArrayLike
    confidence: float
    n_conformalize: int


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The metrics of the rows where the column `slice` has the value `level`.

    `deviation` is the share of positives minus the mean probability. The intervals of `deviation`
    and `coverage` bound the true values of all judged slices at once; those of `loss` and `ece`
    are for this slice alone. `p_value`s are two-sided; `flagged` names the tests (deviation,
    coverage) that are significant at the false discovery rate of the report. A `small` slice has
    metrics, but is not tested. What was not asked for is None.
    """

    slice: str
    level: str
    n: int
    small: bool
    loss: Estimate
    ece: Estimate | None = None
    deviation: Tested | None = None
    coverage: Tested | None = None
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SliceReport:
    """The slices of `n` rows by column and level, and by which rules they were judged.

    `loss` says what the losses are; `confidence` is the stated coverage, if any, `n_conformalize`
    the rows that it rests on; `level` is the joint level of the intervals of all judged slices.
    """

    rows: tuple[SliceRow, ...]
    n: int
    loss: str
    confidence: float | None
    n_conformalize: int | None
    min_rows: int
    false_discovery_rate: float
    level: float

    @property
    def judged(self) -> tuple[SliceRow, ...]:
        """The slices that are large enough."""
        return tuple(row for row in self.rows if not row.small)


def classification_slices(
    slices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    probabilities: ArrayLike,
    coverage: StatedCoverage | None = None,
    *,
    loss: Literal["brier", "log_loss"] = "brier",
    min_rows: int = MIN_ROWS,
    false_discovery_rate: float = 0.05,
    level: float = 0.95,
) -> SliceReport:
    """Loss, ECE, mean deviation and coverage of each slice of a binary model's rows.

    Args:
        slices: column name to the level of each row, shape (n,), strings or codes.
        labels: shape (n,), 0/1 or bool.
        probabilities: shape (n,), the probability of class 1.
        coverage: coverage flags of the same rows and what was stated, if sets were predicted.
        loss: the proper score to report.
        min_rows: rows from which on a slice is judged.
        false_discovery_rate: of the flagged tests, the share that may be chance.
        level: joint level of the intervals.

    Raises:
        GateError: rows that cannot be judged, slices of other rows, no slices, or a column of
            more than `MOST_LEVELS` levels.

    >>> rows = np.arange(2000)
    >>> report = classification_slices(
    ...     {"half": rows >= 1000}, rows % 2, np.where(rows < 1000, 0.5, 0.4))
    >>> [(row.level, round(row.deviation.estimate.value, 3), row.flagged) for row in report.rows]
    [('False', 0.0, ()), ('True', 0.1, ('deviation',))]
    """
    flags, scores = validate_scores(labels, probabilities)
    losses = (scores - flags) ** 2 if loss == "brier" else log_losses(flags, scores)
    covered = _covered(coverage, flags.size)
    groups = _groups(slices, flags.size)
    sizes = [rows.size for _, _, rows in groups]
    apart = _apart(sizes, min_rows, 1 + (covered is not None), level)
    found = []
    for name, value, rows in groups:
        own, own_scores = flags[rows], scores[rows]
        found.append(
            SliceRow(
                slice=name,
                level=value,
                n=rows.size,
                small=rows.size < min_rows,
                loss=mean_estimate(losses[rows], level),
                ece=expected_calibration_error(bins_of(own, own_scores, level=level)),
                deviation=mean_deviation_test(own, own_scores, level=apart),
                coverage=_coverage(covered, coverage, rows, apart),
            )
        )
    return _report(found, flags.size, loss, coverage, min_rows, false_discovery_rate, level)


def regression_slices(
    slices: Mapping[str, ArrayLike],
    losses: ArrayLike,
    coverage: StatedCoverage,
    *,
    loss: str = "mae",
    min_rows: int = MIN_ROWS,
    false_discovery_rate: float = 0.05,
    level: float = 0.95,
) -> SliceReport:
    """Mean loss and coverage of each slice of a regression model's rows; coverage is tested.

    Args:
        slices: column name to the level of each row, shape (n,), strings or codes.
        losses: shape (n,), the loss of each row, such as absolute errors or pinball losses.
        coverage: coverage flags of the same rows and what was stated.
        loss: what the losses are called.
        min_rows: rows from which on a slice is judged.
        false_discovery_rate: of the flagged tests, the share that may be chance.
        level: joint level of the intervals.

    Raises:
        GateError: as `classification_slices`; losses that are not finite numbers.

    >>> stated = StatedCoverage([True, True], 0.9, 1000)
    >>> report = regression_slices({"side": ["left", "left"]}, [1.0, 2.0], stated)
    >>> [(row.level, row.n, row.small, row.loss.value) for row in report.rows]
    [('left', 2, True, 1.5)]
    """
    each = np.asarray(losses)
    if each.ndim != 1 or each.size == 0 or each.dtype.kind not in "iuf":
        raise _refused(f"losses of shape {each.shape} and type {each.dtype}")
    each = each.astype(np.float64, copy=False)
    if not np.isfinite(each).all():
        raise _refused("losses that are NaN or infinite")
    covered = _covered(coverage, each.size)
    groups = _groups(slices, each.size)
    apart = _apart([rows.size for _, _, rows in groups], min_rows, 1, level)
    found = [
        SliceRow(
            slice=name,
            level=value,
            n=rows.size,
            small=rows.size < min_rows,
            loss=mean_estimate(each[rows], level),
            coverage=_coverage(covered, coverage, rows, apart),
        )
        for name, value, rows in groups
    ]
    return _report(found, each.size, loss, coverage, min_rows, false_discovery_rate, level)


def _report(
    rows: list[SliceRow],
    n: int,
    loss: str,
    coverage: StatedCoverage | None,
    min_rows: int,
    rate: float,
    level: float,
) -> SliceReport:
    """Flag the slices, all their tests together."""
    if not 0 < rate < 1:
        raise _refused(f"a false discovery rate of {rate}")
    tests = [
        (i, name, tested.p_value)
        for i, row in enumerate(rows)
        if not row.small
        for name, tested in (("deviation", row.deviation), ("coverage", row.coverage))
        if tested is not None
    ]
    flagged: dict[int, tuple[str, ...]] = {}
    for (i, name, _), sure in zip(
        tests, false_discoveries_held([p for *_, p in tests], rate), strict=True
    ):
        if sure:
            flagged[i] = (*flagged.get(i, ()), name)
    return SliceReport(
        rows=tuple(replace(row, flagged=flagged.get(i, ())) for i, row in enumerate(rows)),
        n=n,
        loss=loss,
        confidence=None if coverage is None else coverage.confidence,
        n_conformalize=None if coverage is None else coverage.n_conformalize,
        min_rows=min_rows,
        false_discovery_rate=rate,
        level=level,
    )


def _apart(sizes: list[int], min_rows: int, tests: int, level: float) -> float:
    """Level of one interval so that those of all judged slices hold at once (Bonferroni)."""
    if min_rows < 1 or not 0 < level < 1:
        raise _refused(f"{min_rows=} and {level=}")
    judged = sum(size >= min_rows for size in sizes)
    return 1 - (1 - level) / max(1, judged * tests)


def _coverage(
    covered: Flags | None, stated: StatedCoverage | None, rows: NDArray[np.intp], level: float
) -> Tested | None:
    if covered is None or stated is None:
        return None
    return coverage_test(
        int(np.count_nonzero(covered[rows])),
        rows.size,
        confidence=stated.confidence,
        n_conformalize=stated.n_conformalize,
        level=level,
    )


def _covered(coverage: StatedCoverage | None, n: int) -> Flags | None:
    if coverage is None:
        return None
    flags = np.asarray(coverage.covered)
    if flags.shape != (n,) or flags.dtype != bool:
        raise _refused(f"coverage flags of shape {flags.shape} and type {flags.dtype}")
    if not 0 < coverage.confidence < 1:
        raise _refused(f"a stated coverage of {coverage.confidence}")
    return flags


def _groups(slices: Mapping[str, ArrayLike], n: int) -> list[tuple[str, str, NDArray[np.intp]]]:
    """Column, level and positions of the rows of each slice, in order of column and level."""
    if not slices:
        raise _refused("no slices")
    return [group for name, levels in slices.items() for group in _levels(name, levels, n)]


def _levels(name: str, levels: ArrayLike, n: int) -> Iterator[tuple[str, str, NDArray[np.intp]]]:
    each = np.asarray(levels)
    if each.shape != (n,):
        raise _refused(f"slice {name!r} with levels of shape {each.shape}")
    if each.dtype.kind == "O":  # None beside strings has no order
        each = each.astype(str)
    distinct, codes = np.unique(each, return_inverse=True)
    if distinct.size > MOST_LEVELS:
        raise _refused(f"slice {name!r} with {distinct.size:,} levels, most {MOST_LEVELS:,}")
    # Sixteen bits are sorted by radix, in one pass over the rows.
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    ends = np.cumsum(np.bincount(codes))[:-1]
    for value, rows in zip(distinct.tolist(), np.split(order, ends), strict=True):
        yield name, str(value), rows


def _refused(found: str) -> GateError:
    return GateError(
        found,
        expected="one level, one loss and one flag (true or false) per row, at least one slice of "
        f"at most {MOST_LEVELS:,} levels, rates and levels in (0, 1)",
        do="slice by columns of few levels (bin the others first), over exactly the judged rows",
    )
