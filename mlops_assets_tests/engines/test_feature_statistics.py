"""Statistics by day are those of pandas; days without rows, nulls and texts have an answer."""

import datetime as dt
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.engines import feature_statistics as statistics
from mlops_assets.errors import SourceError
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Calendar, Column, Entity, FeatureView

DAYS = [dt.date(2024, 1, day) for day in (1, 2, 3)]
VIEW = FeatureView(
    name="sold",
    description="",
    entities=(Entity(name="shop"),),
    features=(
        Column(name="amount", type="float"),
        Column(name="items", type="int"),
        Column(name="item", type="string"),
        Column(name="open", type="bool"),
        Column(name="never", type="float"),
    ),
    ttl=dt.timedelta(days=1),
    calendar=Calendar(start=DAYS[0], end=dt.date(2024, 1, 4)),
    sources=(),
    lookback=dt.timedelta(0),
    build=lambda tables: None,
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def frame(n: int = 200) -> pd.DataFrame:
    """Rows of the first two days; the third has none."""
    random = np.random.default_rng(0)
    amount = random.gamma(2.0, 10.0, n)
    amount[:7] = [np.nan, np.nan, np.inf, -np.inf, 0.0, -5.0, 1e9][:n]
    days = pd.Series(random.integers(0, 2, n))
    return pd.DataFrame(
        {
            "shop": random.choice(["a", "b"], n),
            "event_timestamp": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(days, "D"),
            "created_timestamp": pd.Timestamp("2024-01-05", tz="UTC"),
            "amount": amount,
            "items": random.integers(0, 50, n),
            "item": random.choice(["tea", "pot", None], n),
            "open": random.random(n) < 0.3,
            "never": np.full(n, np.nan),
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.write_days(pa.Table.from_pandas(frame(), preserve_index=False), "features/sold", DAYS)
    return lake


def read(lake: Lake) -> pd.DataFrame:
    table = lake.read("FROM t", t=lake.file("statistics/sold"))
    return table.to_pandas().set_index(["event_timestamp", "feature"]).sort_index()


def rewrite(lake: Lake, day: dt.date, n: int = 1) -> None:
    """Write other rows as the file of a day."""
    rows = frame(n).assign(event_timestamp=pd.Timestamp(day, tz="UTC"))
    schema = pa.Schema.from_pandas(frame(), preserve_index=False)
    lake.write_days(pa.Table.from_pandas(rows, schema), "features/sold", [day])


def test_there_is_a_row_per_day_and_feature_in_their_order(lake: Lake) -> None:
    found, computed = statistics.write_statistics(lake, VIEW)
    names = [feature.name for feature in VIEW.features]
    assert found["feature"].to_pylist() == names * 3
    days = found["event_timestamp"].to_pylist()
    assert [time.date() for time in days] == [day for day in DAYS for _ in names]
    assert computed == DAYS
    assert lake.read("FROM t", t=lake.file("statistics/sold")).equals(found)


@pytest.mark.parametrize("name", ["amount", "items", "open"])
@pytest.mark.parametrize("day", DAYS[:2])
def test_the_numbers_are_those_of_pandas(name: str, day: dt.date, lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW)
    rows = frame()
    rows = rows[rows.event_timestamp == pd.Timestamp(day, tz="UTC")]
    values = rows[name].astype("float64").replace([np.inf, -np.inf], np.nan)
    expected = {
        "count": len(rows),
        "null_share": values.isna().mean(),
        "mean": values.mean(),
        "std": values.std(),
        **{f"q{round(q * 100):02}": values.quantile(q) for q in QUANTILES},
        "minimum": values.min(),
        "maximum": values.max(),
    }
    found = read(lake).loc[(pd.Timestamp(day, tz="UTC"), name)]
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["distinct_values"] == pytest.approx(values.nunique(), rel=0.2)


def test_a_text_has_counts_and_no_numbers(lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW)
    found = read(lake).loc[(pd.Timestamp(DAYS[0], tz="UTC"), "item")]
    assert 0.2 < found["null_share"] < 0.5
    assert found["distinct_values"] == 2
    assert found[list(statistics.NUMBERS)].isna().all()


def test_a_column_of_nulls_has_a_null_share_of_one(lake: Lake) -> None:
    found = statistics.write_statistics(lake, VIEW)[0].to_pylist()[4]
    assert (found["feature"], found["null_share"], found["distinct_values"]) == ("never", 1.0, 0)
    assert [found[name] for name in statistics.NUMBERS] == [None] * len(statistics.NUMBERS)


def test_a_day_without_rows_has_counts_of_zero(lake: Lake) -> None:
    found = statistics.write_statistics(lake, VIEW)[0].to_pylist()[10:]
    assert [row["count"] for row in found] == [0] * 5
    assert {row["null_share"] for row in found} == {None}


def test_nothing_is_computed_twice(lake: Lake) -> None:
    first, _ = statistics.write_statistics(lake, VIEW)
    assert statistics.stale_days(lake, VIEW) == []
    second, computed = statistics.write_statistics(lake, VIEW)
    assert computed == []
    assert second.equals(first)


@given(st.lists(st.tuples(st.sampled_from(DAYS), st.integers(0, 20)), max_size=3))
@settings(max_examples=10)
def test_days_computed_one_after_the_other_equal_all_days_computed_at_once(
    changes: list[tuple[dt.date, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for day in DAYS:
            rewrite(lake, day, 5)
        statistics.write_statistics(lake, VIEW)
        for day, n in changes:
            rewrite(lake, day, n)
            assert statistics.stale_days(lake, VIEW) == [day]
            little_by_little, computed = statistics.write_statistics(lake, VIEW)
            assert computed == [day]
        lake.file("statistics/sold").unlink()
        at_once, computed = statistics.write_statistics(lake, VIEW)
    assert computed == DAYS
    assert not changes or little_by_little.equals(at_once)


def test_rows_added_to_a_day_count_and_make_its_statistics_stale(lake: Lake) -> None:
    before, _ = statistics.write_statistics(lake, VIEW)
    file = lake.day_file("features/sold", DAYS[1])
    file.with_name(f"{DAYS[1]}.added-1.parquet").write_bytes(file.read_bytes())
    assert statistics.stale_days(lake, VIEW) == [DAYS[1]]
    after, _ = statistics.write_statistics(lake, VIEW)
    counts = [table["count"].to_pylist()[::5] for table in (before, after)]
    assert counts[1] == [counts[0][0], 2 * counts[0][1], 0]


def test_an_unchanged_day_is_not_read_again(lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW)
    file = lake.day_file("features/sold", DAYS[1])
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    rewrite(lake, DAYS[0])
    assert statistics.write_statistics(lake, VIEW)[1] == [DAYS[0]]


def test_a_day_whose_file_is_gone_has_no_statistics_any_more(lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW)
    lake.day_file("features/sold", DAYS[2]).unlink()
    found, computed = statistics.write_statistics(lake, VIEW)
    assert (found.num_rows, computed) == (10, [])


def test_other_features_or_numbers_are_computed_for_all_days(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics.write_statistics(lake, VIEW)
    fewer = VIEW.model_copy(update={"features": VIEW.features[:1]})
    assert statistics.stale_days(lake, fewer) == DAYS
    assert statistics.stale_days(lake, VIEW) == []
    monkeypatch.setattr(statistics, "QUANTILES", {**statistics.QUANTILES, "q95": 0.99})
    assert statistics.stale_days(lake, VIEW) == DAYS


def test_a_view_without_files_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="materialize 'features/sold' first"):
        statistics.write_statistics(Lake(tmp_path), VIEW)


def test_a_broken_day_is_an_error_and_the_old_statistics_stay(lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW)
    lake.day_file("features/sold", DAYS[1]).write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match="'sold' has no statistics"):
        statistics.write_statistics(lake, VIEW)
    assert len(read(lake)) == 15
    assert statistics.stale_days(lake, VIEW) == [DAYS[1]]


def test_statistics_that_are_damaged_are_computed_again(lake: Lake) -> None:
    before, _ = statistics.write_statistics(lake, VIEW)
    file = lake.file("statistics/sold")
    file.write_bytes(file.read_bytes()[:-9])
    after, computed = statistics.write_statistics(lake, VIEW)
    assert after.equals(before)
    assert computed == DAYS


def test_statistics_of_which_the_rows_are_damaged_are_computed_again(lake: Lake) -> None:
    before, _ = statistics.write_statistics(lake, VIEW)
    file = lake.file("statistics/sold")
    content = bytearray(file.read_bytes())
    content[4:900] = bytes(896)
    file.write_bytes(content)
    after, computed = statistics.write_statistics(lake, VIEW)
    assert after.equals(before)
    assert computed == DAYS
