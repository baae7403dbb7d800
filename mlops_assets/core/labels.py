"""Labels by split: are there rows, and are there both classes?

Only counts are judged here; which row belongs to which split is decided in `splits.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_assets.errors import WindowError

EXTREME_RATE = 0.001
"""A label rate below this, or above one minus this, is taken for a broken label."""


@dataclass(frozen=True)
class LabelCount:
    """Rows of a split, and how many of them are positive."""

    rows: int
    positives: int

    @property
    def rate(self) -> float:
        """Share of positives; NaN without rows."""
        return self.positives / self.rows if self.rows else float("nan")


def refuse_unlearnable(
    model: str, windows: Mapping[str, str], found: Mapping[str, LabelCount]
) -> None:
    """Raise WindowError when a window has no rows or only one class.

    Args:
        model: name of the model, for the message.
        windows: the windows that must have rows, by name, as text.
        found: counts by name of window.
    """
    for name, window in windows.items():
        count = found.get(name, LabelCount(0, 0))
        if not count.rows:
            raise WindowError(
                f"the window {name!r} of {model!r} ({window}) has no rows",
                expected="rows with labels in every window",
                do="choose windows within the data, or load the days that are missing",
            )
        if count.positives in (0, count.rows):
            raise WindowError(
                f"the label of {model!r} has one class in the window {name!r} ({window}): "
                f"{count.positives:,} of {count.rows:,} rows are positive",
                expected="both classes in every window",
                do="check how the label is computed, or choose a longer window",
            )
