"""Declarations of tables: sources, feature views, request features, entity rows.

Frozen models that say what a table holds and how it is computed; nothing is read or computed here.
How a model uses the tables stands in `spec.py`; how they are stored, in `stores/`.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from mlops_assets.errors import DeclarationError, UnknownNameError

ColumnType = Literal["string", "int", "float", "bool", "time"]

EVENT_TIME = "event_timestamp"
CREATED_TIME = "created_timestamp"

Tables = Mapping[str, Any]
"""Source tables by name, as Ibis tables."""

Arrays = Mapping[str, Any]
"""Columns by name, as numpy arrays of shape (n,)."""


class Declaration(BaseModel):
    """Base of all declarations: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Column(Declaration):
    """A column with its contract. `minimum` and `maximum` are inclusive."""

    name: str
    type: ColumnType
    description: str = ""
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None


class Calendar(Declaration):
    """The days, in UTC, for which a table exists. `end` is exclusive; None means until today."""

    start: dt.date
    end: dt.date | None = None


def spanning(calendars: Iterable[Calendar]) -> Calendar:
    """The calendar from the first day of all calendars to the last of all; of none, always."""
    found = list(calendars)
    ends = [calendar.end for calendar in found]
    end = None if None in ends else max((end for end in ends if end), default=None)
    start = min((calendar.start for calendar in found), default=dt.date(1970, 1, 1))
    return Calendar(start=start, end=end)


class Source(Declaration):
    """A raw table, copied from outside into the lake.

    Args:
        fetch: gets a scratch folder, returns the path of a file that DuckDB can read.
        raw_columns: the columns that the file must have.
        select: SQL that turns the relation `file` into the declared columns.
        key: columns that together are unique.
        time: column to read the table from some day on by; None reads all of it.
    """

    name: str
    description: str
    fetch: Callable[[Path], Path]
    raw_columns: tuple[str, ...]
    select: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time: str | None = None


class Entity(Declaration):
    """A join key: what a feature row is about."""

    name: str
    type: ColumnType = "string"
    description: str = ""


class FeatureView(Declaration):
    """A table of features keyed by entities, with event time and created time.

    Args:
        events_end: the day, exclusive, after which no events are expected, where the sources end
            before the calendar does; None expects events until the calendar's end, or now.
        lookback: how far before a day its rows need source rows, by `Source.time`.
        lookahead: how far after a day's end its rows need source rows: an event may happen before
            the time it was scheduled for, under which its source keeps it.
        build: gets the source tables, returns an Ibis expression with the entity columns,
            `event_timestamp`, `created_timestamp` and the features. It is the only definition
            of these features, offline and online.
    """

    name: str
    description: str
    entities: tuple[Entity, ...]
    features: tuple[Column, ...]
    ttl: dt.timedelta
    calendar: Calendar
    events_end: dt.date | None = None
    sources: tuple[Source, ...]
    lookback: dt.timedelta
    lookahead: dt.timedelta = dt.timedelta(days=1)
    build: Callable[[Tables], Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the table, in order."""
        keys = (Column(name=e.name, type=e.type, nullable=False) for e in self.entities)
        times = (Column(name=n, type="time", nullable=False) for n in (EVENT_TIME, CREATED_TIME))
        return (*keys, *times, *self.features)


class RequestFeatures(Declaration):
    """Features computed at request time from values that the caller knows.

    Args:
        inputs: columns that the request (or the entity row) carries.
        compute: gets the inputs as arrays by name, returns the features as arrays by name, all of
            shape (n,). It is the only definition of these features, offline and online: for n
            rows of a training set as for the one row of a request. Numbers are int64 or float64,
            times datetime64[us] in UTC, texts objects; null is NaN, NaT or None, and so a nullable
            int is float64 and a nullable bool an object, whether a null is there or not.
    """

    name: str
    description: str
    inputs: tuple[Column, ...]
    features: tuple[Column, ...]
    compute: Callable[[Arrays], Arrays]

    @model_validator(mode="after")
    def _compute_can_be_imported(self) -> "RequestFeatures":
        if "<" in getattr(self.compute, "__qualname__", "<"):
            raise DeclarationError(
                f"the request features {self.name!r} are computed by {self.compute!r}",
                expected="a function at the top of a module: the feature store imports it by name",
                do="move the function to module level",
            )
        return self


Group = FeatureView | RequestFeatures
"""What offers features."""


class FeatureService(Declaration):
    """The features of a model: stored ones and those computed at request time.

    Args:
        without: features of the views that the model does not use.
    """

    name: str
    description: str
    views: tuple[FeatureView, ...]
    request: tuple[RequestFeatures, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that offers features, stored ones first."""
        return (*self.views, *self.request)

    def used(self, group: Group) -> tuple[Column, ...]:
        """The features of a group that belong to the service."""
        return tuple(feature for feature in group.features if feature.name not in self.without)

    @property
    def features(self) -> tuple[Column, ...]:
        """All features, stored ones first."""
        return tuple(feature for group in self.groups for feature in self.used(group))

    @model_validator(mode="after")
    def _names_fit(self) -> "FeatureService":
        offered = [feature for group in self.groups for feature in group.features]
        refuse_duplicates("feature", f"feature service {self.name!r}", offered)
        for name in self.without:
            if name not in (feature.name for feature in offered):
                raise UnknownNameError.of("feature", name, [feature.name for feature in offered])
        return self


class EntityRows(Declaration):
    """The rows to predict, with their labels: one row per `row_id`.

    Args:
        build: gets the source tables, returns an Ibis expression with `row_id`, the entity
            columns, the inputs of the request features, `event_timestamp` (the time of
            prediction), the label and the time at which it became known.
    """

    name: str
    description: str
    row_id: str
    sources: tuple[Source, ...]
    columns: tuple[Column, ...]
    build: Callable[[Tables], Any]

    def column(self, name: str) -> Column:
        """The column called `name`; UnknownNameError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownNameError.of(f"column of {self.name}", name, [c.name for c in self.columns])


def refuse_duplicates(kind: str, where: str, things: Iterable[Any]) -> None:
    """Raise DeclarationError when two of the things have one name."""
    names = [thing.name for thing in things]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationError(
            f"{where} has the {kind} {', '.join(twice)} more than once",
            expected=f"every {kind} to have a name of its own",
            do=f"rename the {kind}, or drop one",
        )
