"""The marks of all days, of which those that are settled are kept: a look need not read a year.

A day is settled once no label that becomes known from now on can be one of its labels. Then its
mark follows from the files that hold its predictions and labels, and is the same as long as they
are. What is kept may be lost or removed at any time: it is read again. What a mark holds stands in
`labels`.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.monitoring.labels import DayMark, day_marks
from mlops_assets.monitoring.predictions import batch_table
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import write_json
from mlops_assets.stores.outcomes_log import OUTCOMES

FORMAT = 1
"""Raised when marks are made otherwise, so that none that is kept is used."""

FILE = "day_marks.json"
MOST_DAYS = 31
"""Days that are read at once, so that many need no more memory than a month."""


def all_day_marks(
    platform: Platform, spec: ModelSpec, days: Sequence[dt.date], as_of: dt.datetime
) -> dict[dt.date, DayMark]:
    """The marks of the days that have predictions, as `labels.day_marks` makes them.

    Args:
        platform: the stores.
        spec: the model.
        days: the days of the predictions, UTC, in order.
        as_of: labels that became known later are not there yet.
    """
    path = platform.lake.folder(f"monitoring/{spec.name}") / FILE
    kept = _read(path)
    # Told before the days are read: a file that is replaced meanwhile has another mark then.
    sources = _sources(platform, spec, days, as_of)
    known = {day: kept[key] for day, key in sources.items() if key in kept}
    fresh: dict[dt.date, DayMark] = {}
    others = [day for day in days if day not in known]
    for first in range(0, len(others), MOST_DAYS):
        fresh |= day_marks(platform, spec, others[first : first + MOST_DAYS], as_of)
    found = fresh | {day: _mark(one) for day, one in known.items() if one is not None}
    settled = {key: asdict(found[day]) if day in found else None for day, key in sources.items()}
    if settled != kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settled)
    return dict(sorted(found.items()))


def _sources(
    platform: Platform, spec: ModelSpec, days: Sequence[dt.date], as_of: dt.datetime
) -> dict[dt.date, str]:
    """What the marks of settled days follow from, each as one text."""
    lake = platform.lake
    served, batches, outcomes = (
        {day: found.mark for day, found in lake.days(table).items()}
        for table in (PREDICTIONS.name, batch_table(spec), OUTCOMES.name)
    )
    rows = lake.fingerprint(lake.file(engine.rows(spec.rows)))
    label_days = spec.monitoring.label_days
    how = FORMAT, spec.task, label_days, spec.label.model_dump(mode="json"), spec.rows.row_id
    found = {}
    for day in days:
        near = [day + dt.timedelta(i) for i in range(-1, label_days + 1)]
        if near[-1] >= as_of.date():
            continue
        batch = (batches[day], rows) if day in batches else None
        labels = [outcomes.get(one) for one in near]
        found[day] = fingerprint.of_values(how, f"{day}", served.get(day), batch, labels)[:32]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, TypeError, ValueError):
        return {}


def _mark(kept: Mapping[str, Any]) -> DayMark:
    return DayMark(**{**kept, "versions": tuple(kept["versions"])})
