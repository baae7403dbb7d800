"""The rows that a replay walks through: features as known at each row's time, labels, their times.

Loads them once, as one Arrow table in order of time; what is asked for later are slices of it.
Tables that are missing in the lake are computed first. Nothing is decided here.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core import fingerprint, splits
from mlops_assets.core.labels import LabelSummary, refuse_unlearnable
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import WindowError
from mlops_assets.inference import batch
from mlops_assets.platform import Platform
from mlops_assets.recipe import learned_windows
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.training_sets import SPLIT, TrainingSet, declared
from mlops_assets.tables import EVENT_TIME
from mlops_assets.windows import SPLITS, Windows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Times = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Year:
    """All rows of a model over a stretch of time, in order of time.

    Args:
        spec: the model.
        table: shape (n, columns), with features, labels and times.
    """

    spec: ModelSpec
    table: "pa.Table"

    @cached_property
    def times(self) -> Times:
        """Times of prediction, UTC without zone, shape (n,)."""
        return _times(self.table[EVENT_TIME])

    @cached_property
    def known(self) -> Times:
        """When labels became known, shape (n,); NaT for a row that never gets one."""
        found = _times(self.table[self.spec.label.known_at]).copy()
        found[np.isnan(self.labels)] = np.datetime64("NaT")
        return found

    @cached_property
    def labels(self) -> Floats:
        """Labels, shape (n,); NaN for a row that never gets one."""
        import pyarrow as pa

        column = self.table[self.spec.label.column].cast(pa.float64())
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The columns that name an entity, by which traffic is dealt out."""
        return self.spec.entity_keys or (self.spec.rows.row_id,)

    def between(self, start: dt.date, end: dt.date) -> slice:
        """Positions of the rows from midnight of `start` to midnight of `end`."""
        first, last = np.searchsorted(self.times, np.array([start, end], dtype="datetime64[us]"))
        return slice(int(first), int(last))

    def inputs(self, rows: slice) -> "pd.DataFrame":
        """The inputs of a stretch of rows, as the estimator takes them, shape (n, k)."""
        part = self.table.slice(rows.start, rows.stop - rows.start)
        return part.select(list(self.spec.inputs)).to_pandas()

    def entities(self, rows: slice) -> list[str]:
        """The entity of each row as the servers write it: join keys and values, in one text."""
        part = self.table.slice(rows.start, rows.stop - rows.start)
        columns = [part[name].to_pylist() for name in self.keys]
        return [
            "\x1f".join(f"{name}={one}" for name, one in zip(self.keys, values, strict=True))
            for values in zip(*columns, strict=True)
        ]

    def labelled(self, windows: Windows, now: np.datetime64) -> int:
        """Rows of the windows that a model learns from or is judged on whose label is known."""
        inside = np.zeros(self.times.shape, dtype=bool)
        for name, window in windows.items():
            if name in SPLITS:
                inside |= splits.in_window(self.times, window)
        return int(np.count_nonzero(inside & (self.known < now)))

    def training_set(self, windows: Windows, now: np.datetime64) -> TrainingSet:
        """The training set of windows as it is at a time; no label that came later is in it.

        Raises:
            WindowError: a window has no rows, or labels of one class only.
        """
        import pyarrow as pa

        there = ~np.isnan(self.labels) & (self.known < now)
        known = np.where(np.isnat(self.known), np.datetime64("9999-01-01"), self.known)
        assigned = splits.assign(self.times, known, windows.items(), there)
        summaries = {name: LabelSummary.of(self.labels[assigned == name]) for name in SPLITS}
        refuse_unlearnable(self.spec.name, learned_windows(windows), summaries)
        kept = np.isin(assigned, SPLITS)
        column = pa.array(assigned[kept].astype(str))
        table = self.table.filter(pa.array(kept)).append_column(SPLIT, column)
        counts = splits.counts(assigned)
        manifest = {
            **declared(self.spec),
            "rows": {name: summaries[name].rows for name in SPLITS},
            "purged": counts.get(splits.PURGED, 0),
            "unlabelled": counts.get(splits.UNLABELLED, 0),
        }
        return TrainingSet(fingerprint.of_table(table), table, manifest)


def load(platform: Platform, spec: ModelSpec, start: dt.date, end: dt.date) -> Year:
    """Load all rows that a replay of some days can need.

    Args:
        platform: the stores.
        spec: the model.
        start: first day of the replay.
        end: day after its last.

    Raises:
        WindowError: there is no row on any of its days.
    """
    prepare(platform, spec)
    first = min(spec.windows.train.start, start)
    rows = batch.entity_rows(platform, spec, first, end)
    if not (rows[EVENT_TIME].dt.tz_localize(None) >= np.datetime64(start)).any():
        path = platform.lake.file(engine.rows(spec.rows))
        query = f"SELECT min({EVENT_TIME}) AS first, max({EVENT_TIME}) AS last FROM entity_rows"
        (there,) = platform.lake.read(query, entity_rows=path).to_pylist()
        span = f"{there['first']:%Y-%m-%d} to {there['last']:%Y-%m-%d}" if there["last"] else "none"
        raise WindowError(
            f"there is no row of {spec.name!r} from {start} to {end - dt.timedelta(days=1)}",
            expected=f"days that have rows: {span}",
            do="choose other days, or load those that are missing",
        )
    return Year(spec, batch.with_features(platform, spec, rows))


def prepare(platform: Platform, spec: ModelSpec) -> None:
    """Compute what is missing in the lake: raw tables, entity rows, days of features."""
    lake = platform.lake
    marks = {}
    for source in spec.sources:
        mark = engine.source_mark(lake, source)
        marks[source.name] = mark or engine.write_source(lake, source)[1]
    if not lake.file(engine.rows(spec.rows)).exists():
        wholes = {source.name: marks[source.name].whole for source in spec.rows.sources}
        engine.write_rows(lake, spec.rows, engine.rows_fingerprint(spec.rows, wholes))
    for view in spec.features.views:
        there = lake.days(engine.features(view))
        missing = [day for day in engine.days_of(view) if day not in there]
        if missing:
            # In one statement, so without a gap: days between two missing ones are redone.
            days = [day for day in engine.days_of(view) if missing[0] <= day <= missing[-1]]
            engine.write_features(lake, view, days, {s.name: marks[s.name] for s in view.sources})
    platform.features.apply((spec.features,))


def _times(column: "pa.ChunkedArray") -> Any:
    return column.cast("timestamp[us]").to_numpy()
