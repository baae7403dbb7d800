"""The split of each row, against an oracle that looks at one row at a time."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.splits import assign, counts, in_window
from mlops_assets.windows import Window

HOUR = dt.timedelta(hours=1)
EPOCH = dt.date(1970, 1, 1)


def midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())


def array(times: list[dt.datetime | None]) -> np.ndarray:
    return np.array(times, dtype="datetime64[us]")


def is_inside(time: dt.datetime, window: Window) -> bool:
    parity = {"all": (0, 1), "even": (0,), "odd": (1,)}[window.days]
    in_turn = (time.date() - EPOCH).days % 2 in parity
    return in_turn and midnight(window.start) <= time < midnight(window.end)


def split_of(time: dt.datetime, known: dt.datetime | None, windows: dict[str, Window]) -> str:
    for name, window in windows.items():
        if is_inside(time, window):
            learned = name in ("train", "calibrate", "conformalize")
            late = known is None or known >= midnight(window.end)
            return "purged" if learned and late else name
    return ""


def window(first: int, last: int, days: str = "all") -> Window:
    return Window(start=dt.date(2024, 1, first), end=dt.date(2024, 1, last + 1), days=days)


WINDOWS = {
    "train": window(2, 5),
    "calibrate": window(6, 9, "even"),
    "conformalize": window(6, 9, "odd"),
    "holdout": window(10, 12),
    "predict": window(14, 15),
}

# Quarters of days often meet the midnights on which windows begin and end.
moment = st.integers(0, 17 * 4).map(lambda quarters: dt.datetime(2024, 1, 1) + quarters * 6 * HOUR)
row = st.tuples(moment, st.none() | moment)


@given(st.lists(row))
def test_every_row_gets_the_split_of_the_oracle(rows: list[tuple]) -> None:
    times, known = [time for time, _ in rows], [known for _, known in rows]
    found = assign(array(times), array(known), WINDOWS.items())
    expected = [split_of(t, k, WINDOWS) for t, k in zip(times, known, strict=True)]
    assert found.tolist() == expected


@given(st.datetimes(dt.datetime(1960, 1, 1), dt.datetime(1979, 12, 31)))
def test_parity_counts_days_since_1970_also_before_it(time: dt.datetime) -> None:
    years = (dt.date(1950, 1, 1), dt.date(1990, 1, 1))
    for days in ("even", "odd"):
        half = Window(start=years[0], end=years[1], days=days)
        assert in_window(array([time]), half)[0] == is_inside(time, half)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_the_times_does_not_matter(unit: str) -> None:
    times = array([dt.datetime(2024, 1, 5, 23, 59, 59), dt.datetime(2024, 1, 6)])
    assert in_window(times.astype(f"M8[{unit}]"), window(2, 5)).tolist() == [True, False]


@pytest.mark.parametrize(("known", "split"), [(23, "train"), (24, "purged")])
def test_a_label_known_when_the_window_ends_is_known_too_late(known: int, split: str) -> None:
    noon = dt.datetime(2024, 1, 5, 12)
    hour = array([midnight(dt.date(2024, 1, 5)) + known * HOUR])
    assert assign(array([noon]), hour, WINDOWS.items()).tolist() == [split]


def test_a_row_without_a_time_is_in_no_window() -> None:
    assert assign(array([None]), array([None]), WINDOWS.items()).tolist() == [""]


@pytest.mark.parametrize("name", ["holdout", "predict"])
def test_a_label_that_comes_late_purges_only_what_is_learned_from(name: str) -> None:
    time = midnight(WINDOWS[name].start)
    late = assign(array([time]), array([time + 999 * HOUR]), WINDOWS.items())
    assert late.tolist() == [name]


def test_counts_leave_out_rows_in_no_window() -> None:
    splits = np.array(["train", "", "purged", "train"], dtype=object)
    assert counts(splits) == {"train": 2, "purged": 1}


def test_no_rows_have_no_counts() -> None:
    assert counts(assign(array([]), array([]), WINDOWS.items())) == {}
