"""What a window says for incidents, and the pictures of it."""

import datetime as dt
from collections.abc import Collection

import pytest

from mlops_assets.core.incident import Message
from mlops_assets.monitoring import pictures
from mlops_assets.monitoring.late import stale
from mlops_assets.monitoring.readings import readings
from mlops_assets.monitoring.results import KINDS
from mlops_assets.monitoring.windows import compute_day
from mlops_assets_tests.monitoring.world import DAY, NOW, START, World, date, reference


def healths(world: World, number: int, monitor: str) -> dict[str, str]:
    found = readings(world.platform.lake, world.spec, date(number), monitors=(monitor,))
    return {subject.name: reading.health for subject, reading in found}


def test_each_feature_and_metric_is_a_subject(world: World) -> None:
    for number in range(3):
        world.label(world.predict(number, shift=3.0))
    world.day(2)
    assert healths(world, 2, "feature_drift") == {
        "predictions": "fine", "item": "fine", "amount_last": "critical", "amount_2d": "fine",
        "size_doubled": "fine",
    }  # fmt: skip
    assert set(healths(world, 2, "calibration_drift")) >= {"predictions", "ece", "worst_bin"}
    # The sets of this world hold more than is stated.
    assert healths(world, 2, "coverage") == {"predictions": "fine", "coverage": "warning"}


def test_the_worst_version_counts(world: World) -> None:
    world.references["2"] = reference(5)
    world.predict(0)
    world.predict(0, version="2", shift=3.0, arm="canary")
    world.day(0)
    assert healths(world, 0, "feature_drift")["amount_last"] == "critical"


def test_a_fine_version_with_few_rows_does_not_hide_that_nothing_is_known_of_the_other(
    world: World,
) -> None:
    world.references["2"] = world.references.pop("1")
    world.predict(0, 330)
    world.predict(0, 110, version="2", arm="canary")
    world.day(0)
    assert set(healths(world, 0, "feature_drift").values()) == {"fine", "no data"}
    assert healths(world, 0, "feature_drift")["amount_last"] == "no data"
    world.predict(0, 300, version="2", arm="canary", seed=5)
    world.day(0)
    assert healths(world, 0, "feature_drift")["amount_last"] == "fine"


def test_a_silent_day_is_one_reading_and_not_one_per_feature(world: World) -> None:
    world.day(0)
    for kind in KINDS:
        assert healths(world, 0, kind) == {"predictions": "no data"}


def test_a_day_that_was_not_computed_has_no_data(world: World) -> None:
    assert healths(world, 5, "feature_drift") == {"predictions": "no data"}


def lived(
    world: World, days: int, after: dt.timedelta, silent: Collection[int] = ()
) -> list[tuple[int, str, str]]:
    """Live for some days whose labels come after a time, or never; what was told on which day.

    Every day all that is stale is computed and read.
    """
    store, told = world.platform.incidents, []
    for number in range(days):
        rows = world.predict(number)
        if number not in silent:
            world.label(rows, after=after)
        as_of = START + (number + 1) * DAY + dt.timedelta(hours=1)
        for day in stale(world.platform, world.spec, as_of).days:
            compute_day(world.platform, world.spec, day, as_of)
            found = readings(world.platform.lake, world.spec, day, monitors=LABELLED)
            messages: list[Message] = []
            policy = world.spec.monitoring.incidents
            store.observe(world.spec.name, found, policy, messages.append, now=as_of)
            told += [(number, one.incident.subject.name, one.kind) for one in messages]
    return told


def change(world: World, **monitoring: object) -> None:
    policy = world.spec.monitoring.model_copy(update=monitoring)
    world.spec = world.spec.model_copy(update={"monitoring": policy})


LABELLED = ("calibration_drift", "performance")


@pytest.mark.parametrize(("delay", "after"), [(DAY, DAY / 8), (4 * DAY, 4 * DAY)])
def test_a_healthy_model_whose_labels_come_in_time_has_no_incident(
    world: World, delay: dt.timedelta, after: dt.timedelta
) -> None:
    change(world, label_delay=delay, trailing_days=3, ece_limit=0.5, bin_limit=0.9)
    assert lived(world, 9, after) == []
    assert healths(world, 3, "calibration_drift")["ece"] == "fine"


def test_labels_that_stay_away_are_told_once_they_are_overdue(world: World) -> None:
    change(world, label_delay=2 * DAY, trailing_days=1, ece_limit=0.5, bin_limit=0.9)
    told = lived(world, 9, DAY, silent=range(2, 9))
    # Day 4 is the third without labels, and they were due two days after it.
    assert told == [(6, name, "opened") for name in ("ece", "worst_bin", "log_loss")]


def test_two_bad_days_open_one_incident_and_two_good_ones_end_it(world: World) -> None:
    told = []
    for number, shift in enumerate((0.0, 3.0, 3.0, 3.0, 0.0, 0.0)):
        world.predict(number, shift=shift)
        world.day(number)
        found = readings(world.platform.lake, world.spec, date(number), monitors=("feature_drift",))
        messages: list[Message] = []
        world.platform.incidents.observe(
            world.spec.name, found, world.spec.monitoring.incidents, messages.append, now=NOW
        )
        told += [(number, one.incident.subject.name, one.kind) for one in messages]
    assert told == [(2, "amount_last", "opened"), (5, "amount_last", "resolved")]


@pytest.mark.parametrize("weekly", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_monitor_has_a_picture_also_without_data(
    world: World, kind: str, weekly: bool
) -> None:
    empty = pictures.picture(world.platform, world.spec, kind, date(0), weekly=weekly)
    assert empty.startswith(b"\x89PNG")
    world.label(world.predict(0, shift=3.0))
    world.day(0)
    world.week()
    filled = pictures.picture(world.platform, world.spec, kind, date(0), weekly=weekly)
    assert filled.startswith(b"\x89PNG")
    assert filled != empty
    assert len(filled) < 100_000
