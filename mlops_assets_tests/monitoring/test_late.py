"""Exactly the windows that hold something new are computed again."""

import datetime as dt

import pyarrow as pa
import pytest

from mlops_assets.monitoring.late import Stale, stale
from mlops_assets.monitoring.predictions import batch_table
from mlops_assets.monitoring.windows import compute_week
from mlops_assets.stores.inference_compaction import expire
from mlops_assets.tables import EVENT_TIME
from mlops_assets_tests.monitoring.world import DAY, FIRST, NOW, START, World, date


def filled(world: World, days: int) -> dict[int, list[dict]]:
    rows = {number: world.predict(number, 120) for number in range(days)}
    for number in rows:
        world.label(rows[number][:100])
    return rows


def current(world: World, as_of: dt.datetime) -> None:
    for day in stale(world.platform, world.spec, as_of).days:
        world.day((day - FIRST).days, as_of)


def short(world: World, **change: int) -> None:
    policy = world.spec.monitoring.model_copy(update={"trailing_days": 2, **change})
    world.spec = world.spec.model_copy(update={"monitoring": policy})


AS_OF = START + 6 * DAY


def test_all_days_are_stale_at_first_and_none_once_they_are_computed(world: World) -> None:
    filled(world, 5)
    # Served: silent days up to yesterday are windows too.
    assert stale(world.platform, world.spec, AS_OF).days == tuple(date(n) for n in range(6))
    current(world, AS_OF)
    assert stale(world.platform, world.spec, AS_OF).days == ()


def test_a_late_label_makes_its_day_and_those_that_trail_it_stale(world: World) -> None:
    short(world)
    rows = filled(world, 5)
    current(world, AS_OF)
    world.label(rows[1][100:], after=dt.timedelta(hours=1))
    assert stale(world.platform, world.spec, AS_OF).days == (date(1), date(2))


def test_a_label_that_was_corrected_makes_its_day_stale(world: World) -> None:
    short(world)
    rows = filled(world, 5)
    current(world, AS_OF)
    row = rows[1][0]
    world.label([{**row, "y": 1 - row["y"]}], after=dt.timedelta(hours=4))
    assert stale(world.platform, world.spec, AS_OF).days == (date(1), date(2))


def test_a_late_record_makes_its_day_stale(world: World) -> None:
    short(world)
    filled(world, 5)
    current(world, AS_OF)
    world.predict(3, 20, seed=8)
    assert stale(world.platform, world.spec, AS_OF).days == (date(3), date(4))


def test_a_label_that_is_not_known_yet_makes_nothing_stale(world: World) -> None:
    rows = filled(world, 5)
    current(world, AS_OF)
    world.label(rows[4][100:], after=4 * DAY)
    assert stale(world.platform, world.spec, AS_OF).days == ()
    later = AS_OF + 3 * DAY
    assert date(4) in stale(world.platform, world.spec, later).days


def test_a_day_becomes_stale_when_its_labels_are_due(world: World) -> None:
    filled(world, 3)
    early = START + 3 * DAY
    current(world, early)
    assert stale(world.platform, world.spec, early).days == ()
    assert date(2) in stale(world.platform, world.spec, early + DAY).days


def test_a_version_whose_reference_could_not_be_read_is_computed_again_once_it_can(
    world: World,
) -> None:
    filled(world, 3)
    as_of = START + 3 * DAY
    kept = world.references.pop("1")
    current(world, as_of)
    assert stale(world.platform, world.spec, as_of).days == ()
    world.references["1"] = kept
    assert stale(world.platform, world.spec, as_of).days == tuple(date(n) for n in range(3))


def test_a_week_is_stale_with_its_days(world: World) -> None:
    filled(world, 7)
    as_of = START + 9 * DAY
    assert stale(world.platform, world.spec, as_of).weeks == (FIRST, FIRST + 7 * DAY)
    current(world, as_of)
    world.week(as_of)
    assert stale(world.platform, world.spec, as_of).weeks == (FIRST + 7 * DAY,)


def test_a_model_without_predictions_has_no_windows(world: World) -> None:
    assert stale(world.platform, world.spec, NOW) == type(stale(world.platform, world.spec, NOW))(
        (), ()
    )


def computed(world: World, as_of: dt.datetime) -> None:
    """All that is stale, as the runs do it: the days first, then the weeks."""
    current(world, as_of)
    for monday in stale(world.platform, world.spec, as_of).weeks:
        compute_week(world.platform, world.spec, monday, as_of)


@pytest.mark.parametrize("after", [-3 * DAY, 5 * DAY])
def test_nothing_is_stale_once_it_was_computed_however_late_a_label_comes(
    world: World, after: dt.timedelta
) -> None:
    short(world, label_days=2)
    rows = filled(world, 5)
    world.label(rows[1][100:], after=after)
    world.label(rows[2][100:], after=after)
    as_of = START + 12 * DAY
    computed(world, as_of)
    assert stale(world.platform, world.spec, as_of) == Stale((), ())


def test_nothing_is_stale_once_it_was_computed_though_the_first_week_is_kept_in_part(
    world: World,
) -> None:
    short(world, windows_kept=7)
    filled(world, 10)
    as_of = START + 12 * DAY
    first = stale(world.platform, world.spec, as_of)
    assert (first.days[0], first.weeks) == (date(6), (FIRST, FIRST + 7 * DAY))
    computed(world, as_of)
    assert stale(world.platform, world.spec, as_of) == Stale((), ())


def batch(world: World, number: int, *, p: float = 0.5, amount: float = 1.0) -> None:
    """Batch predictions of a day."""
    rows = [
        {
            "order_id": f"b{number}-{i}", "shop": "a",
            EVENT_TIME: START + number * DAY + dt.timedelta(minutes=i), "model_version": "1",
            "probability": p, "negative_in_set": True, "positive_in_set": True,
            **dict.fromkeys(world.spec.inputs, amount), "item": "tea",
        }
        for i in range(120)
    ]  # fmt: skip
    columns = pa.Table.from_pylist(rows)
    world.platform.lake.write_days(columns, batch_table(world.spec), [date(number)])


def test_batch_predictions_that_are_made_again_make_their_days_stale(world: World) -> None:
    short(world)
    for number in range(3):
        batch(world, number)
    current(world, AS_OF)
    assert stale(world.platform, world.spec, AS_OF).days == ()
    batch(world, 1, amount=2.0)
    assert stale(world.platform, world.spec, AS_OF).days == (date(1),)
    batch(world, 1, p=0.6, amount=2.0)
    assert stale(world.platform, world.spec, AS_OF).days == (date(1), date(2))


def test_silence_of_a_served_model_is_seen_though_it_predicts_in_batch_too(world: World) -> None:
    filled(world, 2)
    batch(world, 2)
    assert stale(world.platform, world.spec, AS_OF).days == tuple(date(n) for n in range(6))


def test_a_window_is_not_judged_again_on_what_the_log_still_has(world: World) -> None:
    short(world, trailing_days=3)
    serving = world.spec.serving.model_copy(update={"retention_days": 8})
    world.spec = world.spec.model_copy(update={"serving": serving})
    filled(world, 10)
    later = START + 13 * DAY
    computed(world, START + 11 * DAY)
    today, folder = later.date(), world.platform.settings.root / "inference_log"
    gone = expire(folder, world.platform.lake, {world.spec.name: 8}, today)
    assert gone == tuple(date(n) for n in range(5))
    found = stale(world.platform, world.spec, later)
    # Silent days since; nothing of what has lost its trailing days.
    assert found == Stale(tuple(date(n) for n in (10, 11, 12)), (FIRST + 7 * DAY,))
