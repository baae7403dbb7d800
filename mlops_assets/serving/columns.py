"""What a model takes, and the check of every value that a client sends.

A value goes on as declared or is refused with its place, what it is and what was expected. Which
rows belong to which interface is decided there; nothing is predicted here.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mlops_assets.serving.refusals import Refusal, shown, unknown
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import Column, ColumnType

MOST_CHARACTERS = 1_000
"""Longest text of one value."""

WORDS: Mapping[ColumnType, str] = {
    "string": "a text",
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "time": "a time as ISO 8601 with a zone",
}
_MOST_INT = 2**63


def expectation(column: Column) -> str:
    """What a column takes, in words.

    >>> expectation(Column(name="hour", type="int", nullable=False, minimum=0, maximum=24))
    'a whole number from 0 to 24'
    """
    words = WORDS[column.type]
    if column.allowed is not None:
        words = f"one of {', '.join(column.allowed)}"
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        words += f" from {low:g} to {high:g}"
    elif low is not None:
        words += f" of at least {low:g}"
    elif high is not None:
        words += f" of at most {high:g}"
    return f"{words}, or null" if column.nullable else words


def _number(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueError
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    if type(value) is not int and not (type(value) is float and value.is_integer()):
        raise ValueError
    if not -_MOST_INT <= value < _MOST_INT:
        raise ValueError
    return int(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MOST_CHARACTERS:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def moment(value: Any) -> dt.datetime:
    """A time with a zone, from ISO 8601; ValueError for anything else."""
    time = dt.datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError
    return time.astimezone(dt.UTC)


_CONVERT: Mapping[ColumnType, Callable[[Any], Any]] = {
    "string": _text,
    "int": _whole,
    "float": _number,
    "bool": _flag,
    "time": moment,
}


class Check:
    """The check of one column's values."""

    __slots__ = ("_allowed", "_convert", "_high", "_low", "_nullable", "column", "name")

    def __init__(self, column: Column) -> None:
        self.column, self.name = column, column.name
        self._convert, self._nullable = _CONVERT[column.type], column.nullable
        self._low, self._high = column.minimum, column.maximum
        self._allowed = None if column.allowed is None else frozenset(column.allowed)

    def value(self, given: Any, place: str, row: int) -> Any:
        """The value as declared; None where it is null.

        Raises:
            Refusal: when it is not what the column takes.
        """
        if given is None:
            if self._nullable:
                return None
            raise self._refused(given, place, row)
        try:
            value = self._convert(given)
        except (ValueError, OverflowError):
            raise self._refused(given, place, row) from None
        low, high = self._low, self._high
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or (self._allowed is not None and value not in self._allowed)
        ):
            raise self._refused(given, place, row)
        return value

    def _refused(self, given: Any, place: str, row: int) -> Refusal:
        found = shown(given)
        if isinstance(given, str) and len(given) > MOST_CHARACTERS:
            found = f"a text of {len(given):,} characters"
        return Refusal(
            found, expected=expectation(self.column), field=f"{place}[{row}].{self.name}"
        )


@dataclass(frozen=True, slots=True)
class RowSchema:
    """The columns of some rows: those that must be there, and those that may.

    Args:
        required: checks of columns that every row has.
        optional: checks of columns that a row may have, by name.
    """

    required: tuple[Check, ...]
    optional: Mapping[str, Check]

    def checked(self, row: Any, place: str, at: int) -> tuple[list[Any], dict[str, Any]]:
        """Values of the required columns in order, and those of the optional ones by name.

        Args:
            row: what the client sent.
            place: name of the list that it is in.
            at: number of the row in the list.

        Raises:
            Refusal: when the row is no object, or a column is missing, unknown, or not as declared.
        """
        if type(row) is not dict:
            raise Refusal(
                shown(row), expected="an object with a value by column", field=f"{place}[{at}]"
            )
        try:
            values = [check.value(row[check.name], place, at) for check in self.required]
        except KeyError as missing:
            raise self._missing(row, str(missing.args[0]), place, at) from None
        more: dict[str, Any] = {}
        if len(row) > len(values):
            names = {check.name for check in self.required}
            for name in row.keys() - names:
                if name not in self.optional:
                    every = [*names, *self.optional]
                    raise unknown("column", name, every, field=f"{place}[{at}].{shown(name)[1:-1]}")
                more[name] = self.optional[name].value(row[name], place, at)
        return values, more

    def _missing(self, row: Mapping[str, Any], name: str, place: str, at: int) -> Refusal:
        lacking = [check.name for check in self.required if check.name not in row]
        column = next(check.column for check in self.required if check.name == name)
        return Refusal(
            f"the row lacks {', '.join(lacking)}",
            expected=expectation(column),
            do="give every column; null where the value is not known"
            if column.nullable
            else "give every column",
            field=f"{place}[{at}].{name}",
        )


def input_columns(spec: ModelSpec) -> tuple[Column, ...]:
    """The columns that the model itself gets, in order."""
    categories = [spec.rows.column(name) for name in spec.categories]
    return (*categories, *spec.features.features)


def feature_rows(spec: ModelSpec) -> RowSchema:
    """Rows that carry all inputs of the model; keys may be there, so that arms are sticky."""
    columns = input_columns(spec)
    known = {column.name for column in columns}
    return RowSchema(
        tuple(map(Check, columns)),
        _checks(
            spec, [name for name in (*spec.entity_keys, spec.rows.row_id) if name not in known]
        ),
    )


def entity_rows(spec: ModelSpec, overrides: Sequence[str]) -> RowSchema:
    """Rows that name an entity and carry what is computed with at request time.

    Args:
        spec: the model.
        overrides: features that a row may give, instead of those that are read.
    """
    asked = [name for request in spec.features.request for name in _names(request.inputs)]
    names = tuple(dict.fromkeys([*spec.entity_keys, *spec.categories, *asked]))
    optional = [spec.rows.row_id] if spec.rows.row_id not in names else []
    given = {f.name: Check(f) for f in spec.features.features if f.name in overrides}
    return RowSchema(tuple(_checks(spec, names).values()), {**_checks(spec, optional), **given})


def _names(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns]


def _checks(spec: ModelSpec, names: Sequence[str]) -> dict[str, Check]:
    return {name: Check(spec.rows.column(name)) for name in names}
