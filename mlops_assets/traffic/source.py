"""Rows of a model from the lake, as requests: by entity, or with the features of their time.

Works for any spec: what a request carries is read from the same columns as the server's checks.
"""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError, DeclarationError, WindowError
from mlops_assets.inference import batch
from mlops_assets.platform import Platform
from mlops_assets.serving.columns import entity_rows, feature_rows
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import EVENT_TIME
from mlops_assets.traffic.options import By
from mlops_assets.traffic.schedule import Row

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1_000
"""Rows that are Python objects at one time."""


def table_of(
    platform: Platform, spec: ModelSpec, start: dt.date, end: dt.date, by: By
) -> "pa.Table":
    """The rows of a model from midnight of `start` to midnight of `end` (UTC), in order of time.

    Raises:
        DeclarationError: an end that is not after the start.
        DataError: a lake without the rows of this model.
        WindowError: days without rows.
    """
    import pyarrow as pa

    if end <= start:
        raise DeclarationError(
            f"from {start} to {end}",
            expected="an end after the start: the first day that is not replayed",
            do="name a later end",
        )
    path = platform.lake.file(engine.rows(spec.rows))
    if not path.exists():
        raise DataError(
            f"the lake has no rows of {spec.name!r}: there is no {path}",
            expected="the table of entity rows",
            do=f"compute it first: mlops-assets run {spec.name}",
        )
    frame = batch.entity_rows(platform, spec, start, end)
    if frame.empty:
        raise WindowError(
            f"there are no rows of {spec.name!r} from {start} to {end}",
            expected="rows to replay",
            do="name days that the lake has",
        )
    if by == "features":
        return batch.with_features(platform, spec, frame)
    return pa.Table.from_pandas(frame, preserve_index=False)


def rows_of(table: "pa.Table", spec: ModelSpec, by: By) -> Iterator[Row]:
    """The rows of a table as `table_of` gives it."""
    schema = feature_rows(spec) if by == "features" else entity_rows(spec, ())
    names = [check.name for check in schema.required]
    # Keys and row id, where they are no inputs: arms are sticky, and the log knows the row.
    names += [name for name in schema.optional if name in table.column_names]
    brought = [(metric.name, metric.column) for metric in spec.metrics if metric.column]
    number = 0
    for part in table.to_batches(max_chunksize=CHUNK):
        for row in part.to_pylist():
            label, known_at = row[spec.label.column], row[spec.label.known_at]
            comes = not _missing(label) and not _missing(known_at)
            yield Row(
                number=number,
                at=row[EVENT_TIME],
                body={name: row[name] for name in names},
                label=label if comes else None,
                known_at=known_at if comes else None,
                values={n: float(row[c]) for n, c in brought if comes and not _missing(row[c])},
            )
            number += 1


def _missing(value: Any) -> bool:
    """Whether a value is null, in one of the ways in which a frame says so."""
    return value is None or value != value
