"""Which windows have to be computed: those that hold something else than when they were computed.

A day is marked by its predictions and labels, by those of its trailing days, by its file of batch
predictions, by the labels that were delivered on it, by the references of its versions, by whether
its labels are due, and by the policy. The mark is kept with the results; where it is not the
present one, a label or a record came late, predictions were made again, or a registry that was away
is back. How a window is computed stands in `windows`.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from mlops_assets.core import fingerprint
from mlops_assets.monitoring import results
from mlops_assets.monitoring.labels import DayMark, day_marks, days_with_predictions
from mlops_assets.monitoring.predictions import batch_table
from mlops_assets.monitoring.reference import digest_of
from mlops_assets.monitoring.settled import all_day_marks
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.outcomes_log import OUTCOMES

LAYOUT = 2
"""Raised when results get other columns or meanings, so that all windows are computed anew."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Windows to compute, in order; weeks by their Mondays."""

    days: tuple[dt.date, ...]
    weeks: tuple[dt.date, ...]


def stale(platform: Platform, spec: ModelSpec, as_of: dt.datetime) -> Stale:
    """The days and weeks that are not what they would be if they were computed now.

    From the first day with predictions of the model on every day is one, also without any: silence
    has to be seen. Days that are beyond what the policy keeps are none. A window of which the log
    may have lost days since it was computed stays as it is: it would be judged on less.

    Args:
        platform: the stores.
        spec: the model.
        as_of: the present.
    """
    kept = dt.timedelta(spec.monitoring.windows_kept)
    files = [
        day
        for day in days_with_predictions(platform, spec)
        if as_of.date() - kept < day <= as_of.date()
    ]
    if not files:
        return Stale((), ())
    # The week of the first day, and the days that trail it.
    start = _trailing(spec, _monday(files[0]))[0]
    before = [start + dt.timedelta(i) for i in range((files[0] - start).days)]
    marks = all_day_marks(platform, spec, [*before, *files], as_of)
    own = [day for day in files if day in marks]
    if not own:
        return Stale((), ())
    first, last = own[0], files[-1]
    if any(marks[day].served for day in own):
        # A model that is served has predictions every day, or something is wrong.
        last = max(last, as_of.date() - dt.timedelta(1))
    days = [first + dt.timedelta(i) for i in range((last - first).days + 1)]
    held = _held(platform, spec, as_of, marks)
    known = results.marks(platform.lake, spec)
    mondays = sorted({_monday(day) for day in days})
    known_weeks = results.marks(platform.lake, spec, weekly=True)
    return Stale(
        tuple(
            day
            for day in days
            if known.get(day) != _of_day(spec, day, held)
            and not (day in known and _is_final(spec, day, day, as_of))
        ),
        tuple(
            monday
            for monday in mondays
            if known_weeks.get(monday) != _of_week(spec, monday, held)
            and not (
                monday in known_weeks and _is_final(spec, monday, monday + dt.timedelta(6), as_of)
            )
        ),
    )


def mark_of_day(platform: Platform, spec: ModelSpec, day: dt.date, as_of: dt.datetime) -> str:
    """What a day would be computed from now."""
    marks = day_marks(platform, spec, _trailing(spec, day), as_of)
    return _of_day(spec, day, _held(platform, spec, as_of, marks))


def mark_of_week(platform: Platform, spec: ModelSpec, monday: dt.date, as_of: dt.datetime) -> str:
    """What a week would be computed from now."""
    first = _trailing(spec, monday)[0]
    days = [first + dt.timedelta(i) for i in range((monday - first).days + 7)]
    marks = day_marks(platform, spec, days, as_of)
    return _of_week(spec, monday, _held(platform, spec, as_of, marks))


@dataclass(frozen=True, slots=True)
class _Held:
    """What lies in the stores as of a moment.

    Args:
        as_of: the moment.
        days: predictions and labels by day.
        batches: marks of the files of batch predictions by day: their inputs may change alone.
        delivered: names of the log files that the labels of each day came from.
        digests: digests of the references by version.
    """

    as_of: dt.datetime
    days: Mapping[dt.date, DayMark]
    batches: Mapping[dt.date, str]
    delivered: Mapping[dt.date, str]
    digests: Mapping[str, str]


def _held(
    platform: Platform, spec: ModelSpec, as_of: dt.datetime, marks: Mapping[dt.date, DayMark]
) -> _Held:
    batches = {day: found.mark for day, found in platform.lake.days(batch_table(spec)).items()}
    return _Held(as_of, marks, batches, _deliveries(platform.lake), _digests(platform, spec, marks))


def _monday(day: dt.date) -> dt.date:
    return day - dt.timedelta(day.weekday())


def _trailing(spec: ModelSpec, day: dt.date) -> list[dt.date]:
    return [day - dt.timedelta(i) for i in range(spec.monitoring.trailing_days - 1, -1, -1)]


def _is_final(spec: ModelSpec, first: dt.date, last: dt.date, as_of: dt.datetime) -> bool:
    """Whether a window that was computed stays as it is, from its first day to its last.

    Its trailing days may have been removed, and its labels have been due for a day.
    """
    kept = as_of.date() - dt.timedelta(spec.serving.retention_days)
    return _trailing(spec, first)[0] < kept and _is_due(spec, last, as_of - dt.timedelta(1))


def _is_due(spec: ModelSpec, day: dt.date, as_of: dt.datetime) -> bool:
    end = dt.datetime.combine(day + dt.timedelta(1), dt.time(), dt.UTC)
    return as_of >= end + spec.monitoring.label_delay


def _of_day(spec: ModelSpec, day: dt.date, held: _Held) -> str:
    found = [held.days[one] for one in _trailing(spec, day) if one in held.days]
    trailing = [(one.mark, [held.digests[version] for version in one.versions]) for one in found]
    policy = spec.monitoring.model_dump(mode="json"), spec.gates.model_dump(mode="json")
    return fingerprint.of_values(
        LAYOUT,
        policy,
        trailing,
        held.batches.get(day, ""),
        _is_due(spec, day, held.as_of),
        held.delivered.get(day, ""),
    )[:32]


def _of_week(spec: ModelSpec, monday: dt.date, held: _Held) -> str:
    days = [monday + dt.timedelta(i) for i in range(7)]
    return fingerprint.of_values([_of_day(spec, day, held) for day in days])[:32]


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
