"""Marks of days that can have no new label are kept, and are those that are read."""

import datetime as dt
from collections.abc import Sequence

import pytest

from mlops_assets.monitoring import settled
from mlops_assets.monitoring.labels import day_marks
from mlops_assets_tests.monitoring.world import DAY, START, World, date

AS_OF = START + 9 * DAY
DAYS = [date(number) for number in range(9)]


@pytest.fixture
def read(world: World, monkeypatch: pytest.MonkeyPatch) -> list[dt.date]:
    """The days that were read, in a world whose labels may come for two days."""
    policy = world.spec.monitoring.model_copy(update={"label_days": 2})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    found: list[dt.date] = []

    def told(platform: object, spec: object, days: Sequence[dt.date], as_of: object) -> object:
        found.extend(days)
        return day_marks(platform, spec, days, as_of)  # type: ignore[arg-type]

    monkeypatch.setattr(settled, "day_marks", told)
    for number in (0, 1, 2, 4, 5, 6, 7, 8):
        world.label(world.predict(number, 40))
    return found


def look(world: World, read: list[dt.date], as_of: dt.datetime = AS_OF) -> list[int]:
    """The days that a look reads; what it finds is what all days would say."""
    read.clear()
    found = settled.all_day_marks(world.platform, world.spec, DAYS, as_of)
    assert found == day_marks(world.platform, world.spec, DAYS, as_of)
    assert list(found) == sorted(found)
    return [DAYS.index(day) for day in read]


def test_settled_days_are_read_once_also_those_without_predictions(
    world: World, read: list[dt.date]
) -> None:
    assert look(world, read) == list(range(9))
    # A label of day 7 may become known until the end of day 9, which is the present one.
    assert look(world, read) == [7, 8]
    assert look(world, read, AS_OF + DAY) == [7, 8]
    assert look(world, read, AS_OF + DAY) == [8]


def test_a_late_record_or_label_has_its_days_read_again(world: World, read: list[dt.date]) -> None:
    rows = world.predict(3, 20)
    look(world, read)
    world.predict(1, 10, seed=4)
    assert look(world, read) == [1, 7, 8]
    world.label(rows, after=DAY)
    # Any of these days may have got a label on day 4.
    assert look(world, read) == [2, 3, 4, 5, 7, 8]


def test_what_is_kept_may_be_damaged(world: World, read: list[dt.date]) -> None:
    look(world, read)
    (path,) = world.platform.lake.root.rglob(settled.FILE)
    path.write_text("{")
    assert look(world, read) == list(range(9))
    assert look(world, read) == [7, 8]


def test_many_days_are_read_in_parts(
    world: World, read: list[dt.date], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "MOST_DAYS", 2)
    assert look(world, read) == list(range(9))
