"""Windows refuse to overlap or run backwards, and a holdout month gives all of them."""

import datetime as dt
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.splits import in_window
from mlops_assets.errors import DeclarationError
from mlops_assets.windows import SPLITS, Window, Windows

YEAR = np.arange("2024-01-01", "2025-01-01", dtype="datetime64[D]")


def month(first: int, last: int | None = None, days: str = "all") -> Window:
    end = dt.date(2024, (last or first) + 1, 1)
    return Window(start=dt.date(2024, first, 1), end=end, days=days)


GOOD = {
    "train": month(1, 3),
    "calibrate": month(4, days="even"),
    "conformalize": month(4, days="odd"),
    "holdout": month(5),
    "predict": month(6),
}


@pytest.mark.parametrize("end", [dt.date(2024, 1, 1), dt.date(2023, 12, 31)])
def test_a_window_that_is_empty_or_runs_backwards_is_refused(end: dt.date) -> None:
    with pytest.raises(DeclarationError, match="swap or correct the dates"):
        Window(start=dt.date(2024, 1, 1), end=end)


def test_a_window_is_written_with_its_last_day() -> None:
    assert str(month(4, days="odd")) == "2024-04-01 to 2024-04-30, odd days"


window = st.builds(
    lambda start, length, days: Window(
        start=dt.date(2024, 1, 1) + dt.timedelta(days=start),
        end=dt.date(2024, 1, 1) + dt.timedelta(days=start + length),
        days=days,
    ),
    st.integers(0, 16),
    st.integers(2, 6),  # a window of one day may have no even day
    st.sampled_from(["all", "even", "odd"]),
)


@given(window, window)
def test_windows_that_do_not_overlap_share_no_day(one: Window, other: Window) -> None:
    shared = in_window(YEAR, one) & in_window(YEAR, other)
    assert one.overlaps(other) == other.overlaps(one)
    assert one.overlaps(other) or not shared.any()


def test_windows_in_order_are_accepted() -> None:
    assert [name for name, _ in Windows(**GOOD).items()] == list(GOOD)


def test_windows_need_no_month_to_predict() -> None:
    assert Windows(**{**GOOD, "predict": None}).predict is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"train": month(1, 4)}, "'train' .* is not before 'calibrate'"),
        ({"calibrate": month(4)}, "'calibrate' .* is not before 'conformalize'"),
        ({"conformalize": month(5, days="odd")}, "'conformalize' .* is not before 'holdout'"),
        ({"holdout": month(2)}, "'train' .* is not before 'holdout'"),
        ({"predict": month(5)}, "'holdout' .* is not before 'predict'"),
    ],
)
def test_windows_that_overlap_or_run_backwards_are_refused(change: Any, found: str) -> None:
    with pytest.raises(DeclarationError, match=found):
        Windows(**{**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"train": month(1, 4, "odd")},
        {"train": month(1, 6, "odd"), "calibrate": month(4, days="even")},
        {"calibrate": month(4, 5, "even")},
        {"holdout": month(4, 5, "even")},
        {"holdout": month(5, days="even"), "predict": month(5, days="odd")},
    ],
)
def test_only_calibrate_and_conformalize_take_turns_by_day(change: Any) -> None:
    with pytest.raises(DeclarationError, match="only calibrate and conformalize may take turns"):
        Windows(**{**GOOD, **change})


def nearly_in_order(steps: list[tuple[int, int, str]]) -> Windows | None:
    """Windows that follow each other after gaps, which may be negative; None when refused."""
    parts, end = {}, dt.date(2024, 2, 1)
    for name, (gap, length, days) in zip(SPLITS, steps, strict=True):
        start = end + dt.timedelta(days=gap)
        end = start + dt.timedelta(days=length)
        parts[name] = Window(start=start, end=end, days=days)
    try:
        return Windows(**parts)
    except DeclarationError:
        return None


step = st.tuples(
    st.sampled_from([0, 0, 1, -1, -6]), st.integers(2, 6), st.sampled_from(["all", "even", "odd"])
)


@given(st.lists(step, min_size=4, max_size=4).map(nearly_in_order).filter(bool))
def test_accepted_windows_share_no_day_and_holdout_is_the_last(windows: Windows) -> None:
    inside = {name: YEAR[in_window(YEAR, part)] for name, part in windows.items()}
    assert not any(set(inside[a]) & set(inside[b]) for a, b in combinations(SPLITS, 2))
    seen = np.concatenate([inside[name] for name in SPLITS[:3]])
    assert seen.max() < inside["holdout"].min()


def test_a_holdout_month_gives_all_windows() -> None:
    found = Windows.monthly(dt.date(2023, 5, 1), "2024-01")
    assert {name: str(part) for name, part in found.items()} == {
        "train": "2023-05-01 to 2023-11-30",
        "calibrate": "2023-12-01 to 2023-12-31, even days",
        "conformalize": "2023-12-01 to 2023-12-31, odd days",
        "holdout": "2024-01-01 to 2024-01-31",
        "predict": "2024-02-01 to 2024-02-29",
    }


def test_another_holdout_month_keeps_the_start_of_training() -> None:
    november = Windows.monthly(dt.date(2013, 1, 1), "2013-11")
    assert november.for_holdout("2013-09") == Windows.monthly(dt.date(2013, 1, 1), "2013-09")


@pytest.mark.parametrize("text", ["2013-13", "2013-1", "2013", "November", "2013-11-01", ""])
def test_a_holdout_that_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="expected: YYYY-MM"):
        Windows.monthly(dt.date(2013, 1, 1), text)


def test_a_holdout_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DeclarationError, match="a window runs from 2013-01-01 to 2013-01-01"):
        Windows.monthly(dt.date(2013, 1, 1), "2013-02")


@given(days=st.integers(-50, 400), train_days=st.none() | st.integers(1, 100))
def test_windows_that_are_moved_keep_their_lengths(days: int, train_days: int | None) -> None:
    windows, moved = Windows(**GOOD), dt.timedelta(days=days)
    found = windows.until(windows.holdout.end + moved, train_days=train_days)
    for name in ("calibrate", "conformalize", "holdout", "predict"):
        one, other = getattr(windows, name), getattr(found, name)
        assert (other.start - one.start, other.end - one.end) == (moved, moved)
    assert found.train.end == found.calibrate.start
    assert found.train.start >= windows.train.start
    if train_days is not None:
        assert (found.train.end - found.train.start).days <= train_days


def test_windows_that_are_moved_keep_the_days_that_they_take() -> None:
    windows = Windows(**{**GOOD, "train": month(1, 3, "odd")})
    found = windows.until(windows.holdout.end + dt.timedelta(days=7))
    assert [part.days for _, part in found.items()] == [part.days for _, part in windows.items()]


def test_windows_cannot_be_moved_before_the_first_day() -> None:
    windows = Windows(**GOOD)
    with pytest.raises(DeclarationError, match="no day is left to learn from"):
        windows.until(windows.holdout.end - dt.timedelta(days=91))
