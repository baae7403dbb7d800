"""Choosing an estimator and a calibration before the holdout is looked at.

Estimators compete on the last part of train in time; the winner is also scored on earlier parts,
which shows how steady it is and how much it overfits. Calibrations compete on the calibrate window
by cross-fitting. Fitting the candidate itself is the work of `training.py`; whether a spread or a
gap is too large is decided in `selection_gates.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import TrainingError, WindowError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Build = Callable[[int], Any]
Name = TypeVar("Name", bound=str)
Losses = Callable[[Any, "pd.DataFrame", npt.NDArray[Any]], Floats]
"""Gets a fitted estimator, inputs and labels; returns the loss of each row, shape (n,)."""


@dataclass(frozen=True)
class Score:
    """How an estimator did on rows: mean loss, and the share of uncertainty that it removes.

    Args:
        loss: mean loss.
        skill: 1 - loss / loss of a constant forecast that knows the rate (or mean) of these very
            rows. 0 is no better than that constant, 1 is perfect; comparable across seasons.
        error: standard error of the skill.
        n: rows.
    """

    loss: float
    skill: float
    error: float
    n: int


@dataclass(frozen=True)
class Fold:
    """An estimator fitted on rows before a time, and scored on its own rows and on those after."""

    estimator: str
    number: int
    starts: str
    train: Score
    validation: Score


@dataclass(frozen=True)
class Selection:
    """Which estimator won, and all folds: every estimator on the last, the winner on all."""

    winner: str
    folds: tuple[Fold, ...]

    @property
    def of_winner(self) -> tuple[Fold, ...]:
        """The folds of the winner, in order of time."""
        found = [fold for fold in self.folds if fold.estimator == self.winner]
        return tuple(sorted(found, key=lambda fold: fold.number))


def selection_of(record: Mapping[str, Any]) -> Selection:
    """The selection that `dataclasses.asdict` made a record of; JSON may lie between.

    >>> from dataclasses import asdict
    >>> found = Selection("a", (Fold("a", 0, "2013-05-01", *[Score(0.5, 0.1, 0.02, 100)] * 2),))
    >>> selection_of(asdict(found)) == found
    True
    """
    folds = tuple(
        Fold(**{**fold, **{part: Score(**fold[part]) for part in ("train", "validation")}})
        for fold in record["folds"]
    )
    return Selection(record["winner"], folds)


@dataclass(frozen=True)
class Cut:
    """Positions of the rows of a fold, and the day on which its validation starts."""

    train: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]
    starts: np.datetime64


def time_folds(
    times: npt.NDArray[np.datetime64],
    known_at: npt.NDArray[np.datetime64],
    *,
    folds: int,
    share: float = 0.1,
    most_rows: int | None = None,
) -> tuple[Cut, ...]:
    """Cut rows into folds that follow each other in time, the last one at the end.

    A validation part begins at a midnight and holds about `share` of the rows. Its training part
    is all before, less the rows whose label was not known by that midnight; of both, the newest
    `most_rows` (and a third of that for validation) are taken.

    Args:
        times: time of prediction, UTC, shape (n,).
        known_at: when the label became known, UTC, shape (n,).
        folds: number of folds.
        share: share of the rows in each validation part.
        most_rows: rows to train a fold on at most; None for all.

    Raises:
        WindowError: when the rows do not span enough days.
    """
    days = times.astype("datetime64[D]")
    ordered = np.sort(days)
    marks = [1 - share * k for k in range(folds, -1, -1)]
    edges = [ordered[min(int(mark * len(ordered)), len(ordered) - 1)] for mark in marks]
    edges[-1] = ordered[-1] + 1
    found = []
    for start, end in pairwise(edges):
        train = np.flatnonzero((days < start) & (known_at < start))
        validation = np.flatnonzero((days >= start) & (days < end))
        if not (len(train) and len(validation)):
            raise WindowError(
                f"the train window of {len(ordered):,} rows from {ordered[0]} to {ordered[-1]} "
                f"cannot be cut into {folds} folds in time",
                expected="rows on days before and after each cut",
                do="take a longer train window, or fewer folds",
            )
        if most_rows is not None:
            train = _newest(train, times, most_rows)
            validation = _newest(validation, times, max(1, most_rows // 3))
        found.append(Cut(train, validation, start))
    return tuple(found)


def _newest(
    rows: npt.NDArray[np.intp], times: npt.NDArray[np.datetime64], most: int
) -> npt.NDArray[np.intp]:
    order = np.argsort(times[rows], kind="stable")[-most:]
    return np.sort(rows[order])


def select(
    estimators: Mapping[str, Build],
    inputs: "pd.DataFrame",
    labels: npt.NDArray[Any],
    cuts: Sequence[Cut],
    *,
    seed: int,
    losses: Losses,
    constant: Callable[[npt.NDArray[Any]], Floats],
) -> Selection:
    """Let estimators compete on the last fold, then score the winner on the others.

    The smallest validation loss wins; of equal ones the first declared.

    Args:
        estimators: functions that get the seed and return an unfitted estimator, by name.
        inputs: inputs of the train window, shape (n, k).
        labels: labels, shape (n,).
        cuts: folds in order of time.
        seed: seed of every fit.
        losses: loss of each row of a fitted estimator.
        constant: loss of each row of the constant forecast that knows the labels' mean.

    Raises:
        TrainingError: an estimator cannot be fitted on a fold.
    """

    def fold(name: str, number: int) -> Fold:
        cut = cuts[number]
        fitted = _fitted(name, estimators[name](seed), inputs, labels, cut)
        scores = [
            score(losses(fitted, inputs.iloc[rows], labels[rows]), constant(labels[rows]))
            for rows in (cut.train, cut.validation)
        ]
        return Fold(name, number, str(cut.starts), *scores)

    last = len(cuts) - 1
    final = [fold(name, last) for name in estimators]
    winner = min(final, key=lambda found: found.validation.loss).estimator
    return Selection(winner, (*final, *(fold(winner, number) for number in range(last))))


def _fitted(
    name: str, estimator: Any, inputs: "pd.DataFrame", labels: npt.NDArray[Any], cut: Cut
) -> Any:
    try:
        return estimator.fit(inputs.iloc[cut.train], labels[cut.train])
    except ValueError as unfit:
        raise TrainingError(
            f"the estimator {name!r} cannot be fitted on the {len(cut.train):,} train rows before "
            f"{cut.starts}: {unfit}",
            expected="an estimator that takes the inputs as they are, columns without any value "
            "included",
            do="impute or encode in the estimator's pipeline, or let train begin later",
        ) from unfit


def score(losses: Floats, constant: Floats) -> Score:
    """Mean loss and skill; the skill is a ratio of means, its error by the delta method.

    >>> found = score(np.array([1.0, 3.0]), np.array([4.0, 4.0]))
    >>> found.loss, found.skill
    (2.0, 0.5)
    """
    loss, base = float(losses.mean()), float(constant.mean())
    ratio = loss / base if base > 0 else float("nan")
    influence = (losses - ratio * constant) / base if base > 0 else losses * float("nan")
    error = float(influence.std() / np.sqrt(len(losses)))
    return Score(loss, 1 - ratio, error, len(losses))


def cross_fit_losses(
    fit: Callable[[npt.NDArray[np.intp]], Callable[[npt.NDArray[np.intp]], Floats]],
    groups: npt.NDArray[np.intp],
) -> Floats:
    """Loss of each row under a calibration fitted without the row's group, shape (n,).

    Args:
        fit: gets rows to learn from; returns a function from rows to their losses.
        groups: the group of each row, shape (n,).
    """
    found = np.empty(len(groups))
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        found[inside] = fit(np.flatnonzero(groups != group))(inside)
    return found


def day_groups(times: npt.NDArray[np.datetime64], groups: int) -> npt.NDArray[np.intp]:
    """Deal the days that occur to `groups` groups in turn: no day is in two of them."""
    _, index = np.unique(times.astype("datetime64[D]"), return_inverse=True)
    return np.asarray(index % groups, dtype=np.intp)


def simplest_of_the_best(losses: Mapping[Name, Floats]) -> Name:
    """The first method whose mean loss is within one standard error of the smallest.

    The standard error is that of the paired difference to the best (Breiman et al. 1984, the
    one-standard-error rule), so that noise alone does not choose the more flexible method.

    Args:
        losses: losses of the same rows by method, simplest first.
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    for name, found in losses.items():
        gap = found - losses[best]
        if float(gap.mean()) <= float(gap.std() / np.sqrt(len(gap))):
            return name
    return best
