"""Metadata as Dagster wants it: plain numbers, tables, pictures, column schemas.

The one place where numpy's scalars and NaN are turned into what the event log can hold.
"""

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from mlops_assets.core.verdict import Verdict
from mlops_assets.tables import Column

MOST_PICTURE_BYTES = 100_000
"""A picture is kept in a row of the event log: larger ones slow down every page."""

UNDECIDED = "undecided"
"""Metadata of a check that does not pass only because its answer is open: no incident."""


def number(value: Any) -> float | int | None:
    """A plain int or float; None for NaN and infinity, which are no measurements."""
    if value is None:
        return None
    if float(value).is_integer() and not isinstance(value, float):
        return int(value)
    return float(value) if math.isfinite(float(value)) else None


def numbers(values: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """Numbers by name; those that are not finite are left out, so that plots have a gap."""
    found = {name: number(value) for name, value in values.items()}
    return {name: _as_metadata(value) for name, value in found.items() if value is not None}


def _as_metadata(value: float) -> dg.MetadataValue:
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(value)


def schema(columns: Iterable[Column]) -> dg.TableSchema:
    """Column schema with what each column's contract says."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type,
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=_bounds(column)
                ),
            )
            for column in columns
        ]
    )


def _bounds(column: Column) -> list[str]:
    found = []
    if column.minimum is not None:
        found.append(f"at least {column.minimum:g}")
    if column.maximum is not None:
        found.append(f"at most {column.maximum:g}")
    if column.allowed is not None:
        found.append(f"one of {', '.join(column.allowed)}")
    return found


def rounded(value: Any) -> float | int | None:
    """A number for a table that people read: four digits after the point."""
    plain = number(value)
    return round(plain, 4) if isinstance(plain, float) else plain


def picture(png: bytes, title: str) -> dg.MetadataValue:
    """A PNG shown in the UI; one that is too large is named instead of shown."""
    if len(png) > MOST_PICTURE_BYTES:
        return dg.MetadataValue.md(f"{title}: {len(png):,} bytes, see the artifacts of the run")
    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")


def table(rows: list[dict[str, Any]]) -> dg.MetadataValue:
    """A small table for people; all rows have the columns of the first."""
    plain = [{k: v if isinstance(v, str) else rounded(v) for k, v in row.items()} for row in rows]
    return dg.MetadataValue.table(records=[dg.TableRecord(row) for row in plain])


def verdict(found: Verdict) -> dict[str, dg.MetadataValue]:
    """A verdict as metadata: the words, and its numbers as plots over time."""
    words = {
        "verdict": dg.MetadataValue.text(found.outcome),
        "reason": dg.MetadataValue.text(found.reason),
    }
    measured = numbers(
        {
            "estimate": found.estimate,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "threshold": found.threshold,
            "rows_needed": found.rows_needed,
        }
    )
    details = numbers({k: v for k, v in found.details if not isinstance(v, str)})
    named = {k: dg.MetadataValue.text(v) for k, v in found.details if isinstance(v, str)}
    return {**words, **measured, **details, **named}
