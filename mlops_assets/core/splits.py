"""Splitting rows by time: which window a row belongs to, and which rows are purged.

The windows themselves are declared in `spec.py`; reading and writing rows belongs to the stores.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

NONE = ""
"""Split of a row that lies in no window."""

PURGED = "purged"
"""Split of a row whose label became known only after its window."""

UNLABELLED = "unlabelled"
"""Split of a row in a window to learn from or to be judged on that never gets a label."""

LEARNED = ("train", "calibrate", "conformalize")
JUDGED = (*LEARNED, "holdout")


class Days(Protocol):
    """What is needed of a window."""

    @property
    def start(self) -> dt.date: ...  # noqa: D102
    @property
    def end(self) -> dt.date: ...  # noqa: D102
    @property
    def days(self) -> str: ...  # noqa: D102


def in_window(times: npt.NDArray[np.datetime64], window: Days) -> npt.NDArray[np.bool_]:
    """Which of the times (UTC, shape (n,)) lie in the window."""
    inside = (times >= np.datetime64(window.start)) & (times < np.datetime64(window.end))
    if window.days != "all":
        parity = times.astype("datetime64[D]").astype(np.int64) % 2
        inside &= parity == (0 if window.days == "even" else 1)
    return inside


def assign(
    times: npt.NDArray[np.datetime64],
    known_at: npt.NDArray[np.datetime64],
    windows: Iterable[tuple[str, Days]],
    labelled: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.object_]:
    """Name the split of each row.

    A row belongs to the window of its time of prediction. Of the windows that a model learns
    from, a row whose label became known only after the window's end is `purged`: on that day
    nobody could have learned from it.

    Args:
        times: time of prediction, UTC, shape (n,).
        known_at: time at which the label became known, UTC, shape (n,).
        windows: names and windows, without days in common.
        labelled: which rows have a label, shape (n,); None for all. A row may never get one:
            an order that is cancelled has no time of delivery.

    Returns:
        Names of shape (n,): a window's name, `purged`, `unlabelled`, or empty.
    """
    splits = np.full(times.shape, NONE, dtype=object)
    for name, window in windows:
        inside = in_window(times, window)
        splits[inside] = name
        if name in LEARNED:
            splits[inside & ~(known_at < np.datetime64(window.end))] = PURGED
        if labelled is not None and name in JUDGED:
            splits[inside & ~labelled & (splits != PURGED)] = UNLABELLED
    return splits


def counts(splits: npt.NDArray[Any]) -> Mapping[str, int]:
    """Rows per split, rows in no window left out."""
    names, numbers = np.unique(splits.astype(str), return_counts=True)
    return {str(n): int(k) for n, k in zip(names, numbers, strict=True) if n != NONE}
