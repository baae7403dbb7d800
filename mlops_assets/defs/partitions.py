"""Partitions: the days of a feature view's calendar as Dagster partitions."""

import datetime as dt

import dagster as dg

from mlops_assets.tables import Calendar


def days(calendar: Calendar) -> dg.DailyPartitionsDefinition:
    """One partition per day of the calendar, in UTC."""
    return dg.DailyPartitionsDefinition(
        start_date=calendar.start.isoformat(),
        end_date=calendar.end.isoformat() if calendar.end else None,
        timezone="UTC",
    )


def chosen(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[dt.date]:
    """The days that a run is about."""
    keys = context.partition_key_range
    first, last = dt.date.fromisoformat(keys.start), dt.date.fromisoformat(keys.end)
    return [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
