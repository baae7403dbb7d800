"""ModelSpec, the one place where a model is declared, and its policies.

Declarations and their checks only: all that can be refused without data is refused here, when the
spec is built. Tables are declared with `tables.py`; nothing here reads or computes.
"""

import random
import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlops_assets.core.calibrators import METHODS, Calibration
from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.monitoring_policy import MonitoringPolicy
from mlops_assets.retraining_policy import RetrainingPolicy
from mlops_assets.serving_policy import RolloutPolicy, ServingPolicy
from mlops_assets.tables import (
    Declaration,
    EntityRows,
    FeatureService,
    FeatureView,
    Source,
    refuse_duplicates,
)
from mlops_assets.windows import Windows

Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GatePolicy(Declaration):
    """Thresholds of the gates. The defaults are the policy of the platform.

    Args:
        ece_limit: expected calibration error on holdout stays below this.
        bin_limit: no reliability bin deviates by more than this.
        coverage_tolerance: conformal coverage lies within this of the stated one.
        metric_margin: how far a metric may lie below the champion's, in its own unit; one number
            for all, or one by name (those not named get 0).
        bins: number of reliability bins.
        binning: bins of equal mass, or of equal width.
        min_bin_rows: a bin has at least this many rows.
        min_holdout_rows: on fewer rows no gate passes.
        fold_spread_limit: the skill of the estimator on later and later parts of train differs by
            at most this. Skill is 1 - loss / loss of a constant forecast.
        overfit_limit: the skill on rows learned from exceeds that on the rows after by at most
            this.
        slice_limit: in no slice labels are more or less frequent than predicted by more than this.
        slice_tolerance: in no slice the conformal coverage is further from the stated one.
        single_feature_auc_limit: a feature that alone ranks the label better than this is refused
            before training: it holds the label, or what is known only after it.
    """

    ece_limit: float = Field(default=0.02, gt=0, lt=1)
    bin_limit: float = Field(default=0.05, gt=0, lt=1)
    coverage_tolerance: float = Field(default=0.02, gt=0, lt=1)
    metric_margin: Margin | Mapping[str, Margin] = 0.0
    bins: int = Field(default=15, ge=2, le=100)
    binning: Literal["mass", "width"] = "mass"
    min_bin_rows: int = Field(default=100, ge=2)
    min_holdout_rows: int = Field(default=1500, ge=100)
    fold_spread_limit: float = Field(default=0.15, gt=0)
    overfit_limit: float = Field(default=0.15, gt=0)
    slice_limit: float = Field(default=0.05, gt=0, lt=1)
    slice_tolerance: float = Field(default=0.05, gt=0, lt=1)
    single_feature_auc_limit: float = Field(default=0.95, gt=0.5, lt=1)


class FoldPolicy(Declaration):
    """How train is cut, in order of time, to let estimators compete and to see them age.

    Args:
        folds: number of folds; every estimator is scored on the last, the winner on all.
        share: share of the train rows on which each fold is scored.
        most_rows: a fold learns from at most so many rows, the newest; None for all.
    """

    folds: int = Field(default=3, ge=2, le=20)
    share: float = Field(default=0.1, gt=0, le=0.3)
    most_rows: int | None = Field(default=None, ge=1_000)

    @model_validator(mode="after")
    def _leaves_rows_to_learn_from(self) -> "FoldPolicy":
        if self.folds * self.share > 0.8:
            raise DeclarationError(
                f"{self.folds} folds of {self.share:g} each leave the first "
                f"{max(0.0, 1 - self.folds * self.share):.0%} of train to learn from",
                expected="at least a fifth",
                do="take fewer folds or a smaller share",
            )
        return self


class Search(Declaration):
    """Parameters of an estimator to search, within a budget.

    Args:
        estimator: name of the estimator.
        parameters: values to try, by parameter as in scikit-learn's `set_params`.
        budget: most combinations to try; of more, so many are drawn by the model's seed.
    """

    estimator: str
    parameters: Mapping[str, tuple[Any, ...]]
    budget: int = Field(default=8, ge=1, le=100)


class Slice(Declaration):
    """A column whose levels are judged apart.

    Args:
        name: what the slice is called.
        column: a column of the entity rows or a feature; `name` when left out.
        edges: cut a number into bands at these values; a value on an edge is in the band above.
    """

    name: str
    column: str = ""
    edges: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _edges_ascend(self) -> "Slice":
        if sorted(set(self.edges)) != list(self.edges):
            raise DeclarationError(
                f"the slice {self.name!r} is cut at {list(self.edges)}",
                expected="edges in ascending order, each once",
                do="put the edges in order",
            )
        return self

    @property
    def of(self) -> str:
        """The column that is looked at."""
        return self.column or self.name


class Metric(Declaration):
    """A value of outcomes that the business counts, by which experiments are judged.

    Args:
        name: name of the value in outcomes.
        better: which direction is good.
        unit: its unit, for reports.
        per_entity: what an entity brings: the total of its values so far, or their mean.
        least: smallest difference per entity that matters, in the unit; None when each does.
        column: column of the entity rows that has the value, known with the label: replayed traffic
            sends it. Empty when only those who send outcomes know it.
    """

    name: str
    better: Literal["higher", "lower"]
    unit: str = ""
    per_entity: Literal["total", "mean"] = "total"
    least: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    column: str = ""

    @field_validator("name")
    @classmethod
    def _name_is_one_of_a_value(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            raise DeclarationError(
                f"the metric {name!r}",
                expected="lower-case letters, digits and underscores, beginning with a letter",
                do="rename the metric: outcomes carry its values under this name",
            )
        return name


class ReleasePolicy(Declaration):
    """How a version that passed its gates becomes champion.

    Args:
        mode: `direct` releases it at once; `canary` leaves it challenger until production
            evidence has passed, but for the first champion.
        approval: whether a person approves every release, or only what is inconclusive.
        separate_approver: nobody approves what they requested themselves.
    """

    mode: Literal["direct", "canary"] = "direct"
    approval: Literal["inconclusive", "always"] = "inconclusive"
    separate_approver: bool = True


class Label(Declaration):
    """What is predicted: a column of the entity rows, and the column that says when it is known."""

    column: str
    known_at: str


class ModelSpec(Declaration):
    """A model: what it predicts, from what, how it is trained, judged and released.

    Args:
        task: `binary` predicts the probability that the label is 1, `regression` a number.
        estimators: each gets the seed and returns an unfitted scikit-learn classifier (regressor)
            that takes a frame of the service's features and the categorical entity columns in
            `categories`. They compete on the last part of train; the best is taken.
        search: parameters of estimators to search; every combination is one more competitor.
        folds: how train is cut for the competition.
        categories: entity columns that are inputs of the estimator beside the features.
        calibrations: ways from scores to probabilities that compete on the calibrate window; of
            those as good as the best the simplest is taken. Binary only.
        intervals: intervals of one width, or as wide as a row is difficult. Regression only.
        unit: unit of the label, for reports. Regression only.
        confidence: stated coverage of the conformal sets or intervals.
        threshold: probability from which on the positive class is decided. Binary only.
        slices: columns whose levels are judged apart.
        metrics: values of outcomes that experiments are judged by.
        monitoring: when the model in production is said to drift.
    """

    name: str
    description: str
    task: Literal["binary", "regression"] = "binary"
    rows: EntityRows
    label: Label
    features: FeatureService
    categories: tuple[str, ...] = ()
    estimators: Mapping[str, Callable[[int], Any]]
    search: tuple[Search, ...] = ()
    folds: FoldPolicy = FoldPolicy()
    calibrations: tuple[Calibration, ...] = Field(default=METHODS, min_length=1)
    intervals: Literal["absolute", "normalized"] = "normalized"
    unit: str = ""
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    slices: tuple[Slice, ...] = ()
    metrics: tuple[Metric, ...] = ()
    windows: Windows
    gates: GatePolicy = GatePolicy()
    release: ReleasePolicy = ReleasePolicy()
    monitoring: MonitoringPolicy = MonitoringPolicy()
    serving: ServingPolicy = ServingPolicy()
    rollout: RolloutPolicy = RolloutPolicy()
    retraining: RetrainingPolicy = RetrainingPolicy()
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

    @field_validator("estimators")
    @classmethod
    def _someone_competes(
        cls, estimators: Mapping[str, Callable[[int], Any]]
    ) -> Mapping[str, Callable[[int], Any]]:
        if not estimators:
            raise DeclarationError(
                "the model has no estimators", expected="at least one", do="name one or more"
            )
        return estimators

    @model_validator(mode="after")
    def _names_exist(self) -> "ModelSpec":
        for search in self.search:
            if search.estimator not in self.estimators:
                raise UnknownNameError.of("estimator", search.estimator, self.estimators)
        known = {c.name for c in self.rows.columns} | {f.name for f in self.features.features}
        for one in self.slices:
            if one.of not in known:
                raise UnknownNameError.of("column to slice by", one.of, known)
        refuse_duplicates("slice", f"the model {self.name!r}", self.slices)
        refuse_duplicates("metric", f"the model {self.name!r}", self.metrics)
        return self

    @model_validator(mode="after")
    def _serving_fits(self) -> "ModelSpec":
        serving, features = self.serving, {f.name for f in self.features.features}
        for name in (*serving.overrides, *serving.needed, *serving.defaults):
            if name not in features:
                raise UnknownNameError.of("feature", name, features)
        types = {f.name: f.type for f in self.features.features}
        for name, value in serving.defaults.items():
            if isinstance(value, str) is not (types[name] == "string"):
                raise DeclarationError(
                    f"the default {value!r} of the feature {name!r}, which is a {types[name]}",
                    expected="a default of the feature's own type",
                    do="correct the default in the serving policy",
                )
        for name in self.rollout.metrics:
            if name not in {metric.name for metric in self.metrics}:
                raise UnknownNameError.of("metric", name, (one.name for one in self.metrics))
        known = {c.name for c in self.rows.columns} | features
        for name in (*serving.hashed, *serving.dropped):
            if name not in known:
                raise UnknownNameError.of("key or feature", name, known)
        return self

    @model_validator(mode="after")
    def _columns_exist(self) -> "ModelSpec":
        needed = [self.label.column, self.label.known_at, self.rows.row_id, *self.categories]
        for view in self.features.views:
            needed += [entity.name for entity in view.entities]
        for request in self.features.request:
            needed += [column.name for column in request.inputs]
        values = [metric.column for metric in self.metrics if metric.column]
        for name in (*needed, *values):
            self.rows.column(name)
        if words := [one for one in values if self.rows.column(one).type not in ("int", "float")]:
            raise DeclarationError(
                f"metrics of {self.name!r} have the values of {', '.join(words)}",
                expected="columns of numbers",
                do="name the columns that have the values",
            )
        known = {self.label.column, self.label.known_at, *values}
        if told := sorted(known & set(self.inputs)):
            raise DeclarationError(
                f"the model {self.name!r} has {', '.join(told)} among its inputs",
                expected="inputs that are known before the label is",
                do="take the label out of the categories and the features",
            )
        return self

    @property
    def competitors(self) -> Mapping[str, Callable[[int], Any]]:
        """The estimators, and one for each combination of searched parameters, by name."""
        found = dict(self.estimators)
        for search in self.search:
            found.update(_searched(search, self.estimators[search.estimator], self.seed))
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that the estimator gets, in order: categories, then features."""
        return (*self.categories, *(feature.name for feature in self.features.features))

    @property
    def entity_keys(self) -> tuple[str, ...]:
        """Keys of the entity that a row is about, each once, in the order of the views."""
        keys = (entity.name for view in self.features.views for entity in view.entities)
        return tuple(dict.fromkeys(keys))

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources that the model rests on, each once."""
        found = [*self.rows.sources, *(s for view in self.features.views for s in view.sources)]
        return tuple({source.name: source for source in found}.values())


def _searched(
    search: Search, build: Callable[[int], Any], seed: int
) -> Mapping[str, Callable[[int], Any]]:
    """Competitors with other parameters, in the order of the grid; drawn when it is too large."""
    grid = [
        dict(zip(search.parameters, values, strict=True))
        for values in product(*search.parameters.values())
    ]
    if len(grid) > search.budget:
        drawn = random.Random(seed).sample(range(len(grid)), search.budget)  # noqa: S311
        grid = [grid[index] for index in sorted(drawn)]

    def with_parameters(parameters: Mapping[str, Any]) -> Callable[[int], Any]:
        return lambda seed: build(seed).set_params(**parameters)

    return {
        f"{search.estimator} {', '.join(f'{k}={v}' for k, v in parameters.items())}": (
            with_parameters(parameters)
        )
        for parameters in grid
    }


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
