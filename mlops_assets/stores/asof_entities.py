"""The entity rows of a retrieval: the caller's frame, checked, with its times in UTC.

Here belongs what the frame must hold and what each odd frame means; no SQL and no Feast. The
defined answers:

- the time column is `event_timestamp`, else the only datetime column, else an error;
- times may be datetimes (naive means UTC), dates, ISO 8601 strings, in mixed zones; they come back
  as UTC timestamps. Numbers and other strings are an error: their meaning is a guess;
- a null time or a null key is a row like any other: it comes back with null features;
- no rows give no rows, with the same columns;
- times are compared in microseconds, which is what DuckDB's zoned timestamps hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.errors import ContractError, UnknownNameError

TIME_COLUMN = "event_timestamp"


@dataclass(frozen=True)
class EntityRows:
    """Entity rows in the caller's order.

    Attributes:
        table: the caller's columns, the time column as UTC timestamps.
        time_column: its name.
        times: the times in microseconds since 1970, null where unknown.
    """

    table: pa.Table
    time_column: str
    times: pa.Array

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last time in microseconds; None if there is no time at all."""
        bounds = pc.min_max(self.times)
        first, last = bounds["min"].as_py(), bounds["max"].as_py()
        return None if first is None else (first, last)

    @property
    def first_and_last(self) -> tuple[datetime | None, datetime | None]:
        """First and last time; None if there is no time at all."""
        bounds = pc.min_max(self.table.column(self.time_column))
        return bounds["min"].as_py(), bounds["max"].as_py()

    def key(self, name: str, view: str) -> pa.Array:
        """Return the key column `name`, which `view` is joined by."""
        if name not in self.table.column_names:
            hint = UnknownNameError.of("column", name, self.table.column_names).do
            raise ContractError(
                f"the entity frame has no column {name!r}, the join key of view {view!r}",
                expected=f"one column per join key; found: {', '.join(self.table.column_names)}",
                do=f"add or rename the column ({hint}) or set the view's join key map",
            )
        column = self.table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return column


def from_frame(frame: pd.DataFrame | pa.Table) -> EntityRows:
    """Read a caller's frame, which is left as it is.

    >>> rows = from_frame(pd.DataFrame({"driver": [1], "event_timestamp": ["2024-05-01T02:00+02"]}))
    >>> rows.table["event_timestamp"].to_pylist()[0].isoformat()
    '2024-05-01T00:00:00+00:00'
    """
    if isinstance(frame, pa.Table):
        names = list(frame.column_names)
        temporal = [name for name in names if pa.types.is_timestamp(frame.schema.field(name).type)]
        columns: Sequence[pd.Series | pa.ChunkedArray] = frame.columns
    else:
        # Arrow may share memory with pandas; a copy keeps later changes out of the job.
        frame = frame.copy()
        names = [str(name) for name in frame.columns]
        columns = [frame.iloc[:, i] for i in range(len(names))]
        temporal = [
            name
            for name, column in zip(names, columns, strict=True)
            if pd.api.types.is_datetime64_any_dtype(column.dtype)
        ]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ContractError(
            f"the entity frame has columns of the same name: {', '.join(twice)}",
            expected="each column once",
            do="rename or drop the copies",
        )
    time_column = _time_column(names, temporal)
    arrays = [
        _times(column, name) if name == time_column else _array(column, name)
        for name, column in zip(names, columns, strict=True)
    ]
    return of_table(pa.table(arrays, names=names), time_column)


def of_table(table: pa.Table, time_column: str) -> EntityRows:
    """Wrap a table whose `time_column` already holds UTC timestamps in microseconds."""
    times = table.column(time_column).combine_chunks().cast(pa.int64())
    return EntityRows(table, time_column, times)


def _time_column(names: list[str], temporal: list[str]) -> str:
    if TIME_COLUMN in names:
        return TIME_COLUMN
    if len(temporal) == 1:
        return temporal[0]
    found = f"several datetime columns: {', '.join(temporal)}" if temporal else "no datetime column"
    raise ContractError(
        f"the entity frame has no column {TIME_COLUMN!r} and {found}",
        expected=f"a column {TIME_COLUMN!r}, or exactly one datetime column",
        do=f"rename the column that holds each row's time to {TIME_COLUMN!r}",
    )


def _times(column: "pd.Series | pa.ChunkedArray", name: str) -> pa.Array:
    series = column.to_pandas() if isinstance(column, pa.ChunkedArray) else column
    if pd.api.types.is_numeric_dtype(series.dtype) and series.notna().any():
        raise _unreadable(name, f"numbers ({series.dtype})")
    try:
        if series.dtype == object or pd.api.types.is_string_dtype(series.dtype):
            series = _parsed(series, name)
        else:
            series = pd.to_datetime(series, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise _unreadable(name, str(error).splitlines()[0]) from error
    # Floor, because a cast would round times before 1970 up, past the row's own moment.
    return pa.array(series.dt.floor("us").dt.as_unit("us"), type=pa.timestamp("us", "UTC"))


def _parsed(series: pd.Series, name: str) -> pd.Series:
    for value in series[series.map(lambda value: isinstance(value, (bool, int, float)))].dropna():
        raise _unreadable(name, f"the number {value!r}")
    return pd.to_datetime(series.astype(object), utc=True, format="ISO8601")


def _unreadable(name: str, found: str) -> ContractError:
    return ContractError(
        f"the entity frame's time column {name!r} cannot be read: {found}",
        expected="datetimes, dates or ISO 8601 strings (no zone means UTC)",
        do="convert the column with pandas.to_datetime(..., utc=True)",
    )


def _array(column: "pd.Series | pa.ChunkedArray", name: str) -> pa.Array | pa.ChunkedArray:
    try:
        array = (
            column if isinstance(column, pa.ChunkedArray) else pa.array(column, from_pandas=True)
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"the entity frame's column {name!r} mixes types: {str(error).splitlines()[0]}",
            expected="one type per column",
            do="convert the column to one type",
        ) from error
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        # The same type as every other time in the answer.
        array = array.cast(pa.timestamp("us", "UTC"), safe=False)
    return array
