"""Every difference between online and offline has its cause."""

import datetime as dt

import pytest

from mlops_assets.core.parity import Side, difference

EARLY, LATE = (dt.datetime(2013, 5, day, tzinfo=dt.UTC) for day in (1, 2))


def cause(online: Side, offline: Side) -> str | None:
    found = difference("delay", "origin=JFK", online, offline)
    return found.cause if found else None


@pytest.mark.parametrize("value", [1.5, "x", None, float("nan")])
def test_equal_values_are_no_difference(value: object) -> None:
    assert cause(Side(value, EARLY), Side(value, EARLY)) is None


def test_nothing_online_and_null_offline_agree() -> None:
    assert cause(Side(None, None), Side(float("nan"), EARLY)) is None


@pytest.mark.parametrize(
    ("online", "offline", "expected"),
    [
        (Side(1.0, EARLY), Side(2.0, LATE), "stale"),
        (Side(None, None), Side(2.0, LATE), "stale"),
        (Side(1.0, LATE), Side(2.0, EARLY), "late"),
        (Side(1.0, LATE), Side(None, None), "late"),
        (Side(None, EARLY, expired=True), Side(2.0, EARLY), "expired"),
        (Side(1.0, EARLY), Side(2.0, EARLY), "transform"),
    ],
)
def test_a_difference_is_named_by_what_the_two_rows_are(
    online: Side, offline: Side, expected: str
) -> None:
    assert cause(online, offline) == expected
