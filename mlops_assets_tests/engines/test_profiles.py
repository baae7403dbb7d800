"""Profiles by DuckDB are those of the rows, by day and group, in one scan."""

import datetime as dt
import functools
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.core.drift import judge
from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
    merge,
)
from mlops_assets.engines.profiles import daily_profiles, reference_profiles
from mlops_assets.errors import SourceError, UnknownNameError
from mlops_assets.stores.lake import Lake, parquet_files

RNG = np.random.default_rng(0)
N = 3_000
START = datetime(2024, 1, 1, tzinfo=UTC)
TIMES = [START + timedelta(minutes=int(m)) for m in np.sort(RNG.integers(0, 3 * 1440, N))]
NUMBER = np.where(RNG.random(N) < 0.05, np.nan, np.round(RNG.normal(size=N), 1) / 3)
NUMBER[:3] = np.inf, -np.inf, -0.0
TEXT = RNG.choice(np.array(["", "a", "it's", "b", "=b", "zz", None], dtype=object), N)
ROWS = {
    "event_timestamp": pa.array(TIMES, pa.timestamp("us", tz="UTC")),
    "amount": pa.array(NUMBER),
    "single": pa.array(NUMBER.astype(np.float32)),
    "count": pa.array([None if i % 7 == 0 else i % 5 for i in range(N)], pa.int64()),
    "flag": pa.array([None if i % 9 == 0 else i % 2 == 0 for i in range(N)]),
    "seen": pa.array(TIMES, pa.timestamp("us", tz="UTC")),
    "item": pa.array(TEXT.tolist(), pa.string()),
    "empty": pa.array([None] * N, pa.float64()),
    "arm": pa.array([["champion", "canary", None][i % 3] for i in range(N)]),
}
COLUMNS = ["amount", "single", "count", "flag", "seen", "item", "empty"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.write_arrow(pa.table(ROWS), lake.file("rows"))
    return lake


def parquet(files: list[Path]) -> str:
    return f"SELECT * FROM read_parquet({parquet_files(files)})"


def selection(lake: Lake) -> str:
    return parquet([lake.file("rows")])


def as_floats(name: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
    column = ROWS[name].to_pylist()
    if name == "seen":
        return np.array([t.timestamp() for t in column])[rows]
    return np.array([np.nan if v is None else float(v) for v in column])[rows]


def by_hand(name: str, bins: Any, rows: slice | np.ndarray = slice(None)) -> Profile:
    if isinstance(bins, NumberBins):
        return NumberProfile.of(as_floats(name, rows), bins)
    found = TEXT[rows].tolist()
    return CategoryProfile.of(
        Counter(v for v in found if v is not None), bins, sum(v is None for v in found)
    )


def same(found: Profile, exact: Profile) -> bool:
    """Equal, but for the rounding of sums."""
    if isinstance(found, CategoryProfile) or isinstance(exact, CategoryProfile):
        return found == exact
    counted = ("bins", "counts", "nulls", "minimum", "maximum")
    slack = 1e-9 * (1 + float(exact.squares * N) ** 0.5)
    return (
        all(getattr(found, name) == getattr(exact, name) for name in counted)
        and float(found.total) == pytest.approx(float(exact.total), abs=slack)
        and float(found.squares) == pytest.approx(float(exact.squares), rel=1e-9)
    )


def test_a_reference_has_the_bins_and_counts_of_its_rows(lake: Lake) -> None:
    found = reference_profiles(lake, selection(lake), COLUMNS)
    assert list(found) == COLUMNS
    for name, profile in found.items():
        if isinstance(profile, NumberProfile):
            assert profile.bins.uppers == NumberBins.of(as_floats(name)).uppers
        assert same(profile, by_hand(name, profile.bins))


@pytest.mark.parametrize("n_bins", [2, 3, 7])
def test_days_and_groups_have_the_profiles_of_their_rows(lake: Lake, n_bins: int) -> None:
    reference = reference_profiles(lake, selection(lake), COLUMNS, n_bins=n_bins)
    bins = {name: p.bins for name, p in reference.items()} | {"item": CategoryBins(("", "=b", "a"))}
    days = daily_profiles(lake, selection(lake), bins, by=["arm"])
    assert len(days) == 9
    assert sum(day.rows for day in days) == N
    arms = np.array(ROWS["arm"].to_pylist(), dtype=object)
    of_day = np.array([time.date() for time in TIMES])
    for found in days:
        (arm,) = found.group
        rows = (of_day == found.day) & (arms == arm)
        assert found.rows == rows.sum()
        assert all(same(p, by_hand(name, bins[name], rows)) for name, p in found.columns.items())


def test_days_add_up_to_the_window(lake: Lake) -> None:
    reference = reference_profiles(lake, selection(lake), COLUMNS)
    bins = {name: profile.bins for name, profile in reference.items()}
    days = daily_profiles(lake, selection(lake), bins)
    assert [day.day for day in days] == [dt.date(2024, 1, day) for day in (1, 2, 3)]
    for name in COLUMNS:
        whole = functools.reduce(merge, (day.columns[name] for day in days))
        assert same(whole, reference[name])


def test_values_on_the_edge_of_a_bin_fall_as_they_do_in_numpy(lake: Lake) -> None:
    values = np.repeat(RNG.random(200) * 10.0 ** RNG.integers(-12, 12, 200), 3)
    table = {"event_timestamp": ROWS["event_timestamp"][:600], "x": pa.array(values)}
    lake.write_arrow(pa.table(table), lake.file("edges"))
    found = reference_profiles(lake, parquet([lake.file("edges")]), ["x"])["x"]
    assert found.counts == NumberProfile.of(values, found.bins).counts


def test_all_columns_are_read_in_one_scan(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    bins = {n: p.bins for n, p in reference_profiles(lake, selection(lake), COLUMNS).items()}
    scans: list[str] = []
    connect = Lake.connect

    class Told:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def execute(self, query: str) -> Any:
            plan = self.connection.execute(f"EXPLAIN {query}").fetchall()
            scans.extend(["scan"] * str(plan).count("READ_PARQUET"))
            return self.connection.execute(query)

    class Watched(Lake):
        def connect(self) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def told() -> Any:
                with connect(self) as connection:
                    yield Told(connection)

            return told()

    daily_profiles(Watched(lake.root), selection(lake), bins, by=["arm"])
    assert len(scans) == 1


def test_new_categories_are_named_by_day(lake: Lake) -> None:
    bins = {"item": CategoryBins(("a",))}
    profile = daily_profiles(lake, selection(lake), bins)[0].columns["item"]
    assert isinstance(profile, CategoryProfile)
    assert profile.names == ("", "=b", "b", "it's", "zz")


def test_no_rows_have_no_days_and_an_empty_reference(lake: Lake) -> None:
    none = f"SELECT * FROM ({selection(lake)}) WHERE false"
    reference = reference_profiles(lake, none, ["amount", "item"])
    assert [profile.rows for profile in reference.values()] == [0, 0]
    assert daily_profiles(lake, none, {n: p.bins for n, p in reference.items()}) == []


def test_a_column_that_is_missing_is_named(lake: Lake) -> None:
    with pytest.raises(UnknownNameError, match="amount"):
        reference_profiles(lake, selection(lake), ["amout"])


def test_a_column_that_changed_its_type_is_refused(lake: Lake) -> None:
    with pytest.raises(SourceError, match="as in the reference"):
        daily_profiles(lake, selection(lake), {"item": NumberBins.of([1.0, 2.0])})


def test_a_column_that_is_no_number_or_text_is_refused(lake: Lake) -> None:
    lists = f"SELECT *, [1] AS several FROM ({selection(lake)})"
    with pytest.raises(SourceError, match=r"INTEGER\[\]"):
        reference_profiles(lake, lists, ["several"])


def test_files_that_cannot_be_read_are_told(lake: Lake) -> None:
    with pytest.raises(SourceError, match="cannot be profiled"):
        reference_profiles(lake, parquet([lake.root / "none.parquet"]), ["amount"])


@pytest.mark.parametrize("huge", [[1e200], [-1e308, 1e308, 1e308]])
def test_a_value_that_has_no_square_is_counted_and_spoils_nothing(
    lake: Lake, huge: list[float]
) -> None:
    values = np.r_[RNG.normal(size=500), huge]
    table = {"event_timestamp": pa.array(TIMES[:1] * values.size), "x": pa.array(values)}
    lake.write_arrow(pa.table(table), lake.file("huge"))
    reference = NumberProfile.of(values[:500], NumberBins.of(values[:500]))
    (day,) = daily_profiles(lake, parquet([lake.file("huge")]), {"x": reference.bins})
    assert same(day.columns["x"], NumberProfile.of(values, reference.bins))
    assert day.columns["x"].rows == values.size
    (verdict,) = judge({"x": reference}, day.columns)
    assert (verdict.outcome, verdict.n) == ("stable", values.size)
    assert NumberBins.of(values).center == pytest.approx(0, abs=1)
