"""Statistics by day are those of pandas; days without rows, nulls and texts have an answer."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

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
    amount[:7] = [np.nan, np.nan, np.inf, -np.inf, 0.0, -5.0, 1e9]
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
    with lake.connect() as connection:
        rows = pa.Table.from_pandas(frame()).sort_by("event_timestamp")
        connection.register("rows_of_days", rows)
        lake.write_days(connection, "rows_of_days", "features/sold", DAYS)
    return lake


def read(lake: Lake) -> pd.DataFrame:
    table = lake.read("FROM t", t=lake.folder("statistics/sold"))
    return table.to_pandas().set_index(["event_timestamp", "feature"]).sort_index()


def test_there_is_a_row_per_day_and_feature_in_a_file_per_day(lake: Lake) -> None:
    found = statistics.write_statistics(lake, VIEW, DAYS, "mark")
    names = [feature.name for feature in VIEW.features]
    assert found["feature"].to_pylist() == names * 3
    assert lake.fingerprints(lake.folder("statistics/sold")) == {
        f"{d}.parquet": "mark" for d in DAYS
    }
    assert len(read(lake)) == found.num_rows


@pytest.mark.parametrize("name", ["amount", "items", "open"])
@pytest.mark.parametrize("day", DAYS[:2])
def test_the_numbers_are_those_of_pandas(name: str, day: dt.date, lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW, DAYS, "mark")
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
    statistics.write_statistics(lake, VIEW, DAYS, "mark")
    found = read(lake).loc[(pd.Timestamp(DAYS[0], tz="UTC"), "item")]
    assert 0.2 < found["null_share"] < 0.5
    assert found["distinct_values"] == 2
    assert found[list(statistics.NUMBERS)].isna().all()


def test_a_column_of_nulls_has_a_null_share_of_one(lake: Lake) -> None:
    found = statistics.write_statistics(lake, VIEW, DAYS[:1], "mark").to_pylist()[4]
    assert (found["feature"], found["null_share"], found["distinct_values"]) == ("never", 1.0, 0)
    assert [found[name] for name in statistics.NUMBERS] == [None] * len(statistics.NUMBERS)


def test_a_day_without_rows_has_counts_of_zero(lake: Lake) -> None:
    found = statistics.write_statistics(lake, VIEW, DAYS[2:], "mark").to_pylist()
    assert [row["count"] for row in found] == [0] * 5
    assert {row["null_share"] for row in found} == {None}


def test_only_the_days_asked_for_are_replaced(lake: Lake) -> None:
    statistics.write_statistics(lake, VIEW, DAYS, "old")
    statistics.write_statistics(lake, VIEW, DAYS[1:2], "new")
    marks = lake.fingerprints(lake.folder("statistics/sold"))
    assert list(dict(sorted(marks.items())).values()) == ["old", "new", "old"]


def test_a_missing_day_is_an_error_that_names_it_and_nothing_is_written(lake: Lake) -> None:
    lake.day_file("features/sold", DAYS[1]).unlink()
    with pytest.raises(SourceError, match="no file for 1 of 3 days, the first is 2024-01-02"):
        statistics.write_statistics(lake, VIEW, DAYS, "mark")
    assert not lake.folder("statistics/sold").exists()


def test_a_broken_day_is_an_error(lake: Lake) -> None:
    lake.day_file("features/sold", DAYS[1]).write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match="'sold' has no statistics"):
        statistics.write_statistics(lake, VIEW, DAYS, "mark")


@pytest.mark.parametrize("change", [{"features": VIEW.features[:1]}, {"name": "sold"}])
def test_the_fingerprint_changes_with_the_features_and_with_the_table(change: Any) -> None:
    other = VIEW.model_copy(update=change)
    marks = [statistics.statistics_fingerprint(v, m) for v in (VIEW, other) for m in ("1", "2")]
    assert len(set(marks)) == (4 if "features" in change else 2)
