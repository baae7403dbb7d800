"""Windows of time: which days a model learns from, is judged on and predicts.

Declarations and their checks only; which row belongs to which window is decided in `core/splits`.
"""

import datetime as dt
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Literal

from pydantic import model_validator

from mlops_assets.errors import DeclarationError
from mlops_assets.tables import Declaration

SPLITS = ("train", "calibrate", "conformalize", "holdout")
MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class Window(Declaration):
    """Days in UTC, from midnight of `start` to midnight of `end`, which is exclusive.

    `days` takes every day, or only those with an even or odd number (days since 1970-01-01), so
    that two windows can share a month without sharing a day.
    """

    start: dt.date
    end: dt.date
    days: Literal["all", "even", "odd"] = "all"

    @model_validator(mode="after")
    def _runs_forward(self) -> "Window":
        if self.start >= self.end:
            raise DeclarationError(
                f"a window runs from {self.start} to {self.end}",
                expected="its end, which is exclusive, after its start",
                do="swap or correct the dates",
            )
        return self

    def overlaps(self, other: "Window") -> bool:
        """Whether the two windows share a day."""
        apart = {self.days, other.days} == {"even", "odd"}
        return not apart and self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        last = self.end - dt.timedelta(days=1)
        return f"{self.start} to {last}" + ("" if self.days == "all" else f", {self.days} days")


class Windows(Declaration):
    """The parts of the data by time: train < calibrate, conformalize < holdout < predict."""

    train: Window
    calibrate: Window
    conformalize: Window
    holdout: Window
    predict: Window | None = None

    @model_validator(mode="after")
    def _follow_each_other(self) -> "Windows":
        for (name, window), (later_name, later) in combinations(self.items(), 2):
            beside = (name, later_name) == ("calibrate", "conformalize")
            wrong = window.overlaps(later) or window.start > later.start
            if wrong if beside else window.end > later.start:
                raise DeclarationError(
                    f"the window {name!r} ({window}) is not before {later_name!r} ({later})",
                    expected=f"windows in this order, without a day in common: "
                    f"{', '.join((*SPLITS, 'predict'))}; only calibrate and conformalize may "
                    f"take turns by even and odd days",
                    do=f"let {later_name!r} start on {window.end} or later",
                )
        return self

    def items(self) -> Iterator[tuple[str, Window]]:
        """Yield name and window in order of time."""
        for name in (*SPLITS, "predict"):
            window = getattr(self, name)
            if window is not None:
                yield name, window

    @classmethod
    def monthly(cls, train_start: dt.date, holdout: str) -> "Windows":
        """Hold out the month `holdout` (YYYY-MM).

        The month before is shared by calibrate (even days) and conformalize (odd days): two
        halves one after the other would see different weeks and drift apart, days in turn see
        the same month. All before it from `train_start` on is train; the month after holdout is
        predicted.
        """
        match = MONTH.fullmatch(holdout)
        if not match:
            raise DeclarationError(
                f"{holdout!r} is not a month", expected="YYYY-MM", do="write it like 2013-11"
            )
        start = dt.date(int(match[1]), int(match[2]), 1)
        before, after = _month_after(start, -1), _month_after(start, 1)
        return cls(
            train=Window(start=train_start, end=before),
            calibrate=Window(start=before, end=start, days="even"),
            conformalize=Window(start=before, end=start, days="odd"),
            holdout=Window(start=start, end=after),
            predict=Window(start=after, end=_month_after(start, 2)),
        )

    def until(self, end: dt.date, *, train_days: int | None = None) -> "Windows":
        """The same recipe with another end of holdout; all windows keep their lengths but train.

        Args:
            end: the day after the last of holdout.
            train_days: days to learn from; None for all since train begins.

        Raises:
            DeclarationError: when no day is left to learn from.
        """
        moved = end - self.holdout.end
        start = self.train.start
        if train_days is not None:
            start = max(start, self.train.end + moved - dt.timedelta(days=train_days))
        if start >= self.train.end + moved:
            raise DeclarationError(
                f"with a holdout that ends before {end} no day is left to learn from",
                expected=f"days from {start} on, before calibrate begins",
                do="wait until there are more days, or shorten the windows of the spec",
            )

        def shifted(window: Window) -> Window:
            return window.model_copy(
                update={"start": window.start + moved, "end": window.end + moved}
            )

        return Windows(
            train=self.train.model_copy(update={"start": start, "end": self.train.end + moved}),
            calibrate=shifted(self.calibrate),
            conformalize=shifted(self.conformalize),
            holdout=shifted(self.holdout),
            predict=self.predict and shifted(self.predict),
        )

    def for_holdout(self, month: str) -> "Windows":
        """The windows of `monthly` with another holdout month (YYYY-MM), whatever these are.

        Only the start of train is kept; `until` keeps the lengths too.
        """
        return self.monthly(self.train.start, month)


def _month_after(month: dt.date, count: int) -> dt.date:
    years, index = divmod(month.month - 1 + count, 12)
    return dt.date(month.year + years, index + 1, 1)
