"""What a window says for incidents, and the pictures of it."""

import pytest

from mlops_assets.core.incident import Watch
from mlops_assets.monitoring import pictures
from mlops_assets.monitoring.readings import readings
from mlops_assets.monitoring.results import KINDS
from mlops_assets_tests.monitoring.world import World, date, reference


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


def test_a_silent_day_is_one_reading_and_not_one_per_feature(world: World) -> None:
    world.day(0)
    for kind in KINDS:
        assert healths(world, 0, kind) == {"predictions": "no data"}


def test_a_day_that_was_not_computed_has_no_data(world: World) -> None:
    assert healths(world, 5, "feature_drift") == {"predictions": "no data"}


def test_two_bad_days_open_one_incident_and_two_good_ones_end_it(world: World) -> None:
    told = []
    watches: dict[object, Watch] = {}
    for number, shift in enumerate((0.0, 3.0, 3.0, 3.0, 0.0, 0.0)):
        world.predict(number, shift=shift)
        world.day(number)
        for subject, reading in readings(
            world.platform.lake, world.spec, date(number), monitors=("feature_drift",)
        ):
            watch = watches.setdefault(subject, Watch(subject))
            watches[subject], messages = watch.observe(reading, world.spec.monitoring.incidents)
            told += [(number, subject.name, message.kind) for message in messages]
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
