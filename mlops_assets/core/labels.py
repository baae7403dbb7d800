"""Labels by split: are there rows, and do their labels differ?

Only summaries are judged here; which row belongs to which split is decided in `splits.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import WindowError

EXTREME_RATE = 0.001
"""A label rate below this, or above one minus this, is taken for a broken label."""


@dataclass(frozen=True)
class LabelSummary:
    """Rows of a split, and mean, smallest and largest of their labels; NaN without rows."""

    rows: int
    mean: float
    least: float
    most: float

    @classmethod
    def of(cls, labels: npt.ArrayLike) -> "LabelSummary":
        """Summary of labels of shape (n,).

        >>> LabelSummary.of([0, 1, 1, 1])
        LabelSummary(rows=4, mean=0.75, least=0.0, most=1.0)
        """
        found = np.asarray(labels, dtype=np.float64)
        if not found.size:
            return cls(0, float("nan"), float("nan"), float("nan"))
        return cls(found.size, float(found.mean()), float(found.min()), float(found.max()))


def refuse_unlearnable(
    model: str, windows: Mapping[str, str], found: Mapping[str, LabelSummary]
) -> None:
    """Raise WindowError when a window has no rows, or all its labels are the same.

    Args:
        model: name of the model, for the message.
        windows: the windows that must have rows, by name, as text.
        found: summaries by name of window.
    """
    for name, window in windows.items():
        summary = found.get(name, LabelSummary.of([]))
        if not summary.rows:
            raise WindowError(
                f"the window {name!r} of {model!r} ({window}) has no rows",
                expected="rows with labels in every window",
                do="choose windows within the data, or load the days that are missing",
            )
        if summary.least == summary.most:
            raise WindowError(
                f"the label of {model!r} is {summary.least:g} in all {summary.rows:,} rows of the "
                f"window {name!r} ({window})",
                expected="labels that differ, so both classes, in every window",
                do="check how the label is computed, or choose a longer window",
            )
