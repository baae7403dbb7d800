"""ModelSpec refuses at once all that can be refused without data."""

import datetime as dt
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.core.splits import in_window
from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.spec import (
    SPLITS,
    GatePolicy,
    Label,
    ModelSpec,
    Window,
    Windows,
    all_rows,
    all_sources,
    all_views,
)
from mlops_assets_tests.shop_world import BASKET, recent_sales, returns, sales, service

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


def test_the_default_thresholds_are_those_of_the_platform() -> None:
    policy = GatePolicy()
    assert (policy.ece_limit, policy.bin_limit, policy.coverage_tolerance) == (0.02, 0.05, 0.02)
    assert (policy.metric_margin, policy.bins, policy.binning) == (0, 15, "mass")


@pytest.mark.parametrize("wrong", [{"ece_limit": 0}, {"bin_limit": 1}, {"bins": 1}, {"ece": 0.1}])
def test_a_threshold_without_meaning_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy(**wrong)


def test_inputs_are_categories_then_features(tmp_path: Path) -> None:
    spec = returns(tmp_path, categories=("shop",))
    assert spec.inputs == ("shop", "amount_last", "amount_2d", "size_doubled")


def test_sources_are_named_once_each(tmp_path: Path) -> None:
    assert [source.name for source in returns(tmp_path).sources] == ["orders", "sales"]


@pytest.mark.parametrize("name", ["Returns", "my model", "2nd", "a-b", "", "a/b"])
def test_a_name_that_is_no_plain_word_is_refused(name: str, tmp_path: Path) -> None:
    spec = returns(tmp_path)
    with pytest.raises(DeclarationError, match="lower-case letters, digits and underscores"):
        ModelSpec(**{**dict(spec), "name": name})


@pytest.mark.parametrize(
    "change",
    [
        {"label": Label(column="return", known_at="known_at")},
        {"label": Label(column="returned", known_at="known")},
        {"categories": ("shopp",)},
    ],
)
def test_a_column_that_the_rows_lack_is_answered_with_the_nearest(
    change: Any, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean (returned|known_at|shop)"):
        returns(tmp_path, **change)


def test_rows_must_carry_the_entities_of_the_views(tmp_path: Path) -> None:
    view = recent_sales(sales(Path("sales.csv")))
    keyed = view.model_copy(
        update={"entities": (view.entities[0].model_copy(update={"name": "town"}),)}
    )
    with pytest.raises(UnknownNameError, match="unknown column of placed_orders 'town'"):
        returns(tmp_path, features=service(keyed))


def test_rows_must_carry_the_inputs_of_request_features(tmp_path: Path) -> None:
    asks = BASKET.inputs[0].model_copy(update={"name": "weight"})
    basket = BASKET.model_copy(update={"inputs": (asks,)})
    view = recent_sales(sales(Path("sales.csv")))
    with pytest.raises(UnknownNameError, match="unknown column of placed_orders 'weight'"):
        returns(tmp_path, features=service(view, request=(basket,)))


def test_two_models_share_their_tables(tmp_path: Path) -> None:
    spec = returns(tmp_path)
    both = (spec, spec.model_copy(update={"name": "again"}))
    found = [len(collect(both)) for collect in (all_views, all_sources, all_rows)]
    assert found == [1, 2, 1]


@pytest.mark.parametrize("collect", [all_views, all_sources, all_rows])
def test_two_tables_of_one_name_are_refused(collect: Any, tmp_path: Path) -> None:
    both = (returns(tmp_path), returns(tmp_path))
    with pytest.raises(DeclarationError, match="more than once"):
        collect(both)


@pytest.mark.parametrize("told", ["returned", "known_at"])
def test_a_model_that_is_told_its_label_is_refused(told: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=f"has {told} among its inputs"):
        returns(tmp_path, categories=(told,))
