"""ModelSpec, the one place where a model is declared, and its policies.

Declarations and their checks only: all that can be refused without data is refused here, when the
spec is built. Tables are declared with `tables.py`; nothing here reads or computes.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlops_assets.errors import DeclarationError
from mlops_assets.tables import (
    Declaration,
    EntityRows,
    FeatureService,
    FeatureView,
    Source,
    refuse_duplicates,
)

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

    def for_holdout(self, month: str) -> "Windows":
        """The same recipe with another holdout month (YYYY-MM)."""
        return self.monthly(self.train.start, month)


def _month_after(month: dt.date, count: int) -> dt.date:
    years, index = divmod(month.month - 1 + count, 12)
    return dt.date(month.year + years, index + 1, 1)


class GatePolicy(Declaration):
    """Thresholds of the gates. The defaults are the policy of the platform.

    Args:
        ece_limit: expected calibration error on holdout stays below this.
        bin_limit: no reliability bin deviates by more than this.
        coverage_tolerance: conformal coverage lies within this of the stated one.
        metric_margin: how far a metric may lie below the champion's.
        bins: number of reliability bins.
        binning: bins of equal mass, or of equal width.
        min_bin_rows: a bin has at least this many rows.
        min_holdout_rows: on fewer rows no gate passes.
        single_feature_auc_limit: a feature that alone ranks the label better than this is refused
            before training: it holds the label, or what is known only after it.
    """

    ece_limit: float = Field(default=0.02, gt=0, lt=1)
    bin_limit: float = Field(default=0.05, gt=0, lt=1)
    coverage_tolerance: float = Field(default=0.02, gt=0, lt=1)
    metric_margin: float = Field(default=0.0, ge=0, lt=1)
    bins: int = Field(default=15, ge=2, le=100)
    binning: Literal["mass", "width"] = "mass"
    min_bin_rows: int = Field(default=100, ge=2)
    min_holdout_rows: int = Field(default=1500, ge=100)
    single_feature_auc_limit: float = Field(default=0.95, gt=0.5, lt=1)


class ReleasePolicy(Declaration):
    """How a version that passed its gates becomes champion.

    Args:
        mode: `direct` releases it at once.
    """

    mode: Literal["direct"] = "direct"


class Label(Declaration):
    """What is predicted: a column of the entity rows, and the column that says when it is known."""

    column: str
    known_at: str


class ModelSpec(Declaration):
    """A model: what it predicts, from what, how it is trained, judged and released.

    Args:
        estimator: gets the seed, returns an unfitted scikit-learn classifier that takes a frame
            of the service's features and the categorical entity columns in `categories`.
        categories: entity columns that are inputs of the estimator beside the features.
        calibration: how scores become probabilities, fitted on the calibrate window.
        confidence: stated coverage of the conformal sets.
        threshold: probability from which on the positive class is decided.
    """

    name: str
    description: str
    task: Literal["binary"] = "binary"
    rows: EntityRows
    label: Label
    features: FeatureService
    categories: tuple[str, ...] = ()
    estimator: Callable[[int], Any]
    calibration: Literal["none", "sigmoid", "isotonic"] = "sigmoid"
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    windows: Windows
    gates: GatePolicy = GatePolicy()
    release: ReleasePolicy = ReleasePolicy()
    seed: int = 0
    owners: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise DeclarationError(
                f"the model name {name!r}",
                expected="lower-case letters, digits and underscores, beginning with a letter",
                do="rename the model: its name is part of asset keys, folders and addresses",
            )
        return name

    @model_validator(mode="after")
    def _columns_exist(self) -> "ModelSpec":
        needed = [self.label.column, self.label.known_at, self.rows.row_id, *self.categories]
        for view in self.features.views:
            needed += [entity.name for entity in view.entities]
        for request in self.features.request:
            needed += [column.name for column in request.inputs]
        for name in needed:
            self.rows.column(name)
        if told := sorted({self.label.column, self.label.known_at} & set(self.inputs)):
            raise DeclarationError(
                f"the model {self.name!r} has {', '.join(told)} among its inputs",
                expected="inputs that are known before the label is",
                do="take the label out of the categories and the features",
            )
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that the estimator gets, in order: categories, then features."""
        return (*self.categories, *(feature.name for feature in self.features.features))

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources that the model rests on, each once."""
        found = [*self.rows.sources, *(s for view in self.features.views for s in view.sources)]
        return tuple({source.name: source for source in found}.values())


def all_views(specs: tuple[ModelSpec, ...]) -> tuple[FeatureView, ...]:
    """The feature views of all specs, each once; DeclarationError when two share a name."""
    return _unique("feature view", [view for spec in specs for view in spec.features.views])


def all_sources(specs: tuple[ModelSpec, ...]) -> tuple[Source, ...]:
    """The sources of all specs, each once; DeclarationError when two share a name."""
    return _unique("source", [source for spec in specs for source in spec.sources])


def all_rows(specs: tuple[ModelSpec, ...]) -> tuple[EntityRows, ...]:
    """The entity rows of all specs, each once; DeclarationError when two share a name."""
    return _unique("table of entity rows", [spec.rows for spec in specs])


def _unique(kind: str, things: list[Any]) -> tuple[Any, ...]:
    unique = list({id(thing): thing for thing in things}.values())
    refuse_duplicates(kind, "the code location", unique)
    return tuple(unique)
