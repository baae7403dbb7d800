"""Requests and outcomes are sent in the order of their times, whatever the rows are."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import DataError, DeclarationError
from mlops_assets.traffic.schedule import Event, Pace, Row, events, speed_of

START = datetime(2013, 11, 1, tzinfo=UTC)


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def made(times: list[tuple[int, int | None]]) -> list[Row]:
    """Rows by the minutes of their prediction and of their label."""
    return [
        Row(number, after(at), {}, 1, None if known is None else after(known))
        for number, (at, known) in enumerate(sorted(times, key=lambda one: one[0]))
    ]


ROWS = st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(-5, 40))).map(made)


def by_brute_force(rows: list[Row]) -> list[tuple[datetime, str, int]]:
    found = [(row.at, "request", row.number) for row in rows]
    found += [(max(row.at, row.known_at), "outcome", row.number) for row in rows if row.known_at]
    return sorted(found, key=lambda one: (one[0], one[1] != "request", one[2]))


@given(ROWS)
def test_events_are_what_sorting_everything_gives(rows: list[Row]) -> None:
    found = [(one.at, one.kind, one.row.number) for one in events(iter(rows))]
    assert found == by_brute_force(rows)


@given(ROWS)
def test_an_outcome_comes_after_its_request(rows: list[Row]) -> None:
    sent = set()
    for event in events(rows):
        if event.kind == "request":
            sent.add(event.row.number)
        else:
            assert event.row.number in sent


def test_rows_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def endless() -> "list[Row]":
        number = 0
        while True:
            taken.append(number)
            yield Row(number, after(number), {}, 1, after(number + 2))  # type: ignore[misc]
            number += 1

    found: list[Event] = []
    for event in events(endless()):
        found.append(event)
        if len(found) == 5:
            break
    assert len(taken) <= 5


def test_rows_out_of_order_are_refused() -> None:
    rows = [Row(0, after(1), {}), Row(1, after(0), {})]
    with pytest.raises(DataError, match="row 1 is of"):
        list(events(rows))


@given(st.integers(-10, 10_000), st.floats(0.01, 1e6))
def test_the_clock_runs_as_many_times_as_fast(minutes: int, speed: float) -> None:
    due = Pace(START, speed).due(after(minutes))
    assert math.isclose(due * speed, max(0, minutes) * 60, abs_tol=1e-6)


def test_at_greatest_speed_everything_is_due_at_once() -> None:
    assert Pace(START, speed_of("max")).due(after(1e6)) == 0


@pytest.mark.parametrize("words", ["fast", "", "-1", "nan", "inf"])
def test_what_is_no_speed_is_refused(words: str) -> None:
    with pytest.raises(DeclarationError, match="the speed"):
        speed_of(words)
