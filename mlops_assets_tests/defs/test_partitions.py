"""Dagster's partitions are the days of the calendar, and a run knows which of them it is about."""

import datetime as dt

import dagster as dg
import pytest

from mlops_assets.defs import partitions
from mlops_assets.defs.quiet import accepted
from mlops_assets.engines import duckdb as engine
from mlops_assets.tables import Calendar
from mlops_assets_tests.engines.sold_world import VIEW

FIRST = dt.date(2024, 1, 1)
CALENDARS = [
    Calendar(start=FIRST, end=dt.date(2024, 3, 2)),
    Calendar(start=FIRST, end=dt.date(2024, 1, 2)),
    Calendar(start=FIRST),
    Calendar(start=dt.datetime.now(dt.UTC).date()),
]


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
def test_the_partitions_are_the_days_that_the_engine_computes(calendar: Calendar) -> None:
    view = VIEW.model_copy(update={"calendar": calendar})
    keys = partitions.days(calendar).get_partition_keys()
    assert keys == [day.isoformat() for day in engine.days_of(view)]


@pytest.mark.parametrize("count", [1, 2, 60])
def test_a_run_is_about_the_days_of_its_tags(count: int, instance: dg.DagsterInstance) -> None:
    wanted = [FIRST + dt.timedelta(days=i) for i in range(count)]
    found = []
    with accepted():

        @dg.asset(
            partitions_def=partitions.days(CALENDARS[0]),
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def table(context: dg.AssetExecutionContext) -> None:
            found.extend(partitions.chosen(context))

        dg.materialize([table], instance=instance, tags=partitions.tags(wanted[0], wanted[-1]))
    assert found == wanted
