"""Partitions: the days of a feature view's calendar as Dagster partitions."""

import datetime as dt

import dagster as dg

from mlops_assets.tables import Calendar

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def days(calendar: Calendar) -> dg.DailyPartitionsDefinition:
    """One partition per day of the calendar, in UTC."""
    return dg.DailyPartitionsDefinition(
        start_date=calendar.start.isoformat(),
        end_date=calendar.end.isoformat() if calendar.end else None,
        timezone="UTC",
    )


def weeks(start: dt.date) -> dg.WeeklyPartitionsDefinition:
    """One partition per ISO week, by its Monday, from the week of a day on."""
    monday = start - dt.timedelta(start.weekday())
    return dg.WeeklyPartitionsDefinition(
        start_date=monday.isoformat(), timezone="UTC", day_offset=1
    )


def tags(first: dt.date, last: dt.date) -> dict[str, str]:
    """Tags of a run about the days from first to last, both included."""
    return {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}


def chosen(context: dg.AssetExecutionContext) -> list[dt.date]:
    """The days that a run is about."""
    keys = context.partition_key_range
    first, last = dt.date.fromisoformat(keys.start), dt.date.fromisoformat(keys.end)
    return [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
