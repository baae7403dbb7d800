"""Which windows have to be computed: those that hold something else than when they were computed.

A day is marked by its predictions and labels, by those of its trailing days, by the labels that
were delivered on it, by the references of its versions, by whether its labels are due, and by the
policy. The mark is kept with the results; where it is not the present one, a label or a record came
late, or a registry that was away is back. How a window is computed stands in `windows`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_assets.core import fingerprint
from mlops_assets.monitoring import results
from mlops_assets.monitoring.labels import DayMark, day_marks, days_with_predictions
from mlops_assets.monitoring.predictions import batch_table
from mlops_assets.monitoring.reference import digest_of
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.outcomes_log import OUTCOMES

LAYOUT = 1
"""Raised when results get other columns or meanings, so that all windows are computed anew."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Windows to compute, in order; weeks by their Mondays."""

    days: tuple[dt.date, ...]
    weeks: tuple[dt.date, ...]


def stale(platform: Platform, spec: ModelSpec, as_of: dt.datetime) -> Stale:
    """The days and weeks that are not what they would be if they were computed now.

    From the first day with predictions of the model on every day is one, also without any: silence
    has to be seen. Days that are beyond what the policy keeps are none.

    Args:
        platform: the stores.
        spec: the model.
        as_of: the present.
    """
    policy = spec.monitoring
    kept = dt.timedelta(policy.windows_kept)
    files = [
        day
        for day in days_with_predictions(platform, spec)
        if as_of.date() - kept < day <= as_of.date()
    ]
    if not files:
        return Stale((), ())
    before = [files[0] - dt.timedelta(i) for i in range(policy.trailing_days - 1, 0, -1)]
    marks = day_marks(platform, spec, [*before, *files], as_of)
    own = [day for day in files if day in marks]
    if not own:
        return Stale((), ())
    first, last = own[0], files[-1]
    if own[-1] not in platform.lake.days(batch_table(spec)):
        # A model that is served has predictions every day, or something is wrong.
        last = max(last, as_of.date() - dt.timedelta(1))
    days = [first + dt.timedelta(i) for i in range((last - first).days + 1)]
    delivered = _deliveries(platform.lake)
    known = results.marks(platform.lake, spec)
    digests = _digests(platform, spec, marks)
    wanted = {day: _of_day(spec, day, as_of, marks, delivered, digests) for day in days}
    mondays = sorted({day - dt.timedelta(day.weekday()) for day in days})
    known_weeks = results.marks(platform.lake, spec, weekly=True)
    weeks = {monday: _of_week(spec, monday, as_of, marks, delivered, digests) for monday in mondays}
    return Stale(
        tuple(day for day, mark in wanted.items() if known.get(day) != mark),
        tuple(monday for monday, mark in weeks.items() if known_weeks.get(monday) != mark),
    )


def mark_of_day(platform: Platform, spec: ModelSpec, day: dt.date, as_of: dt.datetime) -> str:
    """What a day would be computed from now."""
    days = _trailing(spec, day)
    marks = day_marks(platform, spec, days, as_of)
    digests = _digests(platform, spec, marks)
    return _of_day(spec, day, as_of, marks, _deliveries(platform.lake), digests)


def mark_of_week(platform: Platform, spec: ModelSpec, monday: dt.date, as_of: dt.datetime) -> str:
    """What a week would be computed from now."""
    first = _trailing(spec, monday)[0]
    days = [first + dt.timedelta(i) for i in range((monday - first).days + 7)]
    marks = day_marks(platform, spec, days, as_of)
    digests = _digests(platform, spec, marks)
    return _of_week(spec, monday, as_of, marks, _deliveries(platform.lake), digests)


def _trailing(spec: ModelSpec, day: dt.date) -> list[dt.date]:
    return [day - dt.timedelta(i) for i in range(spec.monitoring.trailing_days - 1, -1, -1)]


def _of_day(
    spec: ModelSpec,
    day: dt.date,
    as_of: dt.datetime,
    marks: Mapping[dt.date, DayMark],
    delivered: Mapping[dt.date, str],
    digests: Mapping[str, str],
) -> str:
    end = dt.datetime.combine(day + dt.timedelta(1), dt.time(), dt.UTC)
    found = [marks[one] for one in _trailing(spec, day) if one in marks]
    held = [(one.mark, [digests[version] for version in one.versions]) for one in found]
    is_due = as_of >= end + spec.monitoring.label_delay
    policy = spec.monitoring.model_dump(mode="json"), spec.gates.model_dump(mode="json")
    return fingerprint.of_values(LAYOUT, policy, held, is_due, delivered.get(day, ""))[:32]


def _of_week(
    spec: ModelSpec,
    monday: dt.date,
    as_of: dt.datetime,
    marks: Mapping[dt.date, DayMark],
    delivered: Mapping[dt.date, str],
    digests: Mapping[str, str],
) -> str:
    days: Sequence[dt.date] = [monday + dt.timedelta(i) for i in range(7)]
    return fingerprint.of_values(
        [_of_day(spec, day, as_of, marks, delivered, digests) for day in days]
    )[:32]


def _digests(
    platform: Platform, spec: ModelSpec, marks: Mapping[dt.date, DayMark]
) -> dict[str, str]:
    """Digests of the references of all versions that predicted."""
    versions = sorted({version for one in marks.values() for version in one.versions})
    return {version: digest_of(platform, spec, version) for version in versions}


def _deliveries(lake: Lake) -> dict[dt.date, str]:
    """Names of the log files that the labels of each day came from: they are counted by day."""
    from mlops_assets.stores.inference_compaction import CONSUMED

    return {
        day: lake.notes(lake.day_file(OUTCOMES.name, day)).get(CONSUMED, "")
        for day in lake.days(OUTCOMES.name)
    }
