"""Batch inference: the rows of a model with their features as of each row's time, and scores.

Used by training too, so that a training row and a batch prediction get features in one way. No
Dagster here; the assets call it.
"""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_assets.core import tasks
from mlops_assets.core.splits import in_window
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import WindowError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import FINGERPRINT, quoted, text
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.tables import EVENT_TIME
from mlops_assets.windows import Window

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def entity_rows(
    platform: Platform, spec: ModelSpec, start: dt.date, end: dt.date
) -> "pd.DataFrame":
    """The entity rows from midnight of `start` to midnight of `end` (UTC), in order of time."""
    query = (
        f"SELECT * FROM entity_rows WHERE {EVENT_TIME} >= {text(start)}::TIMESTAMPTZ "
        f"AND {EVENT_TIME} < {text(end)}::TIMESTAMPTZ "
        f"ORDER BY {EVENT_TIME}, {quoted(spec.rows.row_id)}"
    )
    path = platform.lake.file(engine.rows(spec.rows))
    return platform.lake.read(query, entity_rows=path).to_pandas()


def with_features(platform: Platform, spec: ModelSpec, rows: "pd.DataFrame") -> "pa.Table":
    """The rows, in their order, with all features of the model's service."""
    return platform.features.historical(spec.features, rows)


def predict_window(
    platform: Platform, spec: ModelSpec, version: ModelVersion, window: Window
) -> Mapping[str, float]:
    """Score a window with a version and keep the predictions by day in the lake.

    Each row keeps its id, keys and time, the inputs that the model got, what it says of the row
    (see `core.tasks.predictions`) and the version.

    Returns:
        `rows`, and means of what was said (see `core.tasks.in_short`).

    Raises:
        WindowError: when the window has no rows.
    """
    import pyarrow as pa

    rows = entity_rows(platform, spec, window.start, window.end)
    times = rows[EVENT_TIME].dt.tz_localize(None).to_numpy()
    rows = rows[in_window(times, window)].reset_index(drop=True)
    if rows.empty:
        raise WindowError(
            f"there are no rows of {spec.name!r} to predict ({window})",
            expected="entity rows in the window after the holdout",
            do="load the days that are missing, or choose an earlier holdout",
        )
    joined = with_features(platform, spec, rows)
    fitted = platform.registry.load(version)
    found = tasks.predictions(fitted, joined.select(spec.inputs).to_pandas())
    kept = dict.fromkeys((spec.rows.row_id, *spec.entity_keys, EVENT_TIME, *spec.inputs))
    frame = joined.select(list(kept)).to_pandas()
    for name, column in found.items():
        frame[name] = column
    frame["model_version"] = version.version
    days = sorted(set(frame[EVENT_TIME].dt.date))
    table = f"predictions/{spec.name}"
    scored = pa.Table.from_pandas(frame, preserve_index=False)
    notes = {day: {FINGERPRINT: version.version} for day in days}
    platform.lake.write_days(scored, table, days, notes)
    return {"rows": len(frame), **tasks.in_short(found)}
