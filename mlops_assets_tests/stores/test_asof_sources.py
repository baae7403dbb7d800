"""Sources of every layout: what is read, what is written, and what broken ones say."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FileSource, PushSource
from feast.data_format import DeltaFormat
from feast.data_source import PushMode
from feast.infra.offline_stores import duckdb as feast_duckdb

from mlops_assets.errors import ContractError, SourceError
from mlops_assets.stores import asof_source
from mlops_assets_tests.stores.asof_world import (
    DRIVER,
    FEAST_WARNINGS,
    HISTORY,
    ask,
    daily_folder,
    day,
    source,
    trips,
    trips_of,
    view,
)

pytestmark = FEAST_WARNINGS


def test_pushed_rows_are_appended_to_a_file(store: FeatureStore, history: Path) -> None:
    pushed = PushSource(name="push", batch_source=source(history))
    store.apply([DRIVER, view("", source=pushed)])
    store.push("push", trips((3, day(4), day(4), 30, 5.0)).to_pandas(), to=PushMode.OFFLINE)
    assert trips_of(store, [1, 3], [day(6)] * 2) == [11, 30]
    assert sorted(path.name for path in history.parent.glob("*hist*")) == [history.name]


def test_written_rows_become_new_files_of_their_days_beside_the_old_ones(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.apply([DRIVER, view(folder)])
    new = trips((1, day(3), day(3), 12, 1.0), (1, day(4, 23), day(4, 23), 13, 1.0))
    store.write_to_offline_store("stats", new.to_pandas())
    names = sorted(path.name for path in folder.iterdir())
    assert [name[:10] for name in names] == ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
    assert {name: (folder / name).read_bytes() for name in old} == old
    assert trips_of(store, [1, 1], [day(4), day(6)]) == [12, 13]


def test_rows_that_do_not_fit_are_refused_and_nothing_changes(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(folder)])
    words = trips((1, day(3), day(3), 12, 1.0)).to_pandas().assign(trips="many")
    dateless = trips((1, None, day(3), 12, 1.0)).to_pandas()
    for frame in (words, dateless):
        with pytest.raises(ContractError):
            store.write_to_offline_store("stats", frame)
    assert len(list(folder.iterdir())) == 2


def test_only_files_that_can_matter_are_read(tmp_path: Path) -> None:
    rows = trips(*((1, day(n), day(n), n, 1.0) for n in range(1, 21)))
    folder = daily_folder(tmp_path / "daily", rows)
    window = asof_source.Window(
        asof_source.microseconds(day(5)), asof_source.microseconds(day(7, 12))
    )
    files = asof_source._files_that_matter(str(folder), {"event"}, window)
    # The newest file is always there: it tells the columns.
    assert [file.stem for file in files] == [
        "2024-05-05",
        "2024-05-06",
        "2024-05-07",
        "2024-05-20",
    ]


@pytest.mark.parametrize("path", ["daily", "daily/*.parquet", "daily/2024-05-0?.parquet"])
def test_a_relative_folder_or_glob_is_found_from_the_repository(
    store: FeatureStore, tmp_path: Path, path: str
) -> None:
    daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(path)])
    assert trips_of(store, [1], [day(3)]) == [11]


def test_a_row_in_the_file_of_another_day_is_still_found(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(tmp_path / "daily", trips(*((1, day(n), day(n), n, 1.0) for n in (1, 9))))
    stray = trips((1, day(6), day(6), 66, 1.0))
    pq.write_table(stray, folder / "2024-05-02.parquet")
    store.apply([DRIVER, view(folder, ttl=timedelta(days=1))])
    assert trips_of(store, [1], [day(6, 1)]) == [66]


def test_a_rewritten_file_is_seen_at_once(store: FeatureStore, tmp_path: Path) -> None:
    folder = daily_folder(tmp_path / "daily")
    store.apply([DRIVER, view(folder, ttl=timedelta(days=2))])
    before = trips_of(store, [1], [day(9)])
    pq.write_table(trips((1, day(8), day(8), 80, 1.0)), folder / "2024-05-01.parquet")
    assert before == pytest.approx([math.nan], nan_ok=True)
    assert trips_of(store, [1], [day(9)]) == [80]


def test_a_feature_that_older_files_lack_is_null_there(store: FeatureStore, tmp_path: Path) -> None:
    folder = daily_folder(tmp_path / "daily")
    first = folder / "2024-05-01.parquet"
    pq.write_table(pq.read_table(first).drop_columns(["rating"]), first)
    store.apply([DRIVER, view(folder)])
    answer = store.get_historical_features(
        ask([1, 1], [day(1, 1), day(3)]), ["stats:trips", "stats:rating"]
    ).to_df()
    assert answer["trips"].tolist() == [10, 11]
    assert answer["rating"].isna().tolist() == [True, False]


def test_a_column_that_newer_files_hold_wider_is_read_whole(
    store: FeatureStore, tmp_path: Path
) -> None:
    folder = daily_folder(
        tmp_path / "daily", trips(*((1, day(n), day(n), 2**40, 1.0) for n in (1, 2)))
    )
    narrow = trips((1, day(1), day(1), 7, 1.0))
    column = narrow["trips"].cast(pa.int32())
    pq.write_table(narrow.set_column(3, "trips", column), folder / "2024-05-01.parquet")
    store.apply([DRIVER, view(folder)])
    assert trips_of(store, [1, 1], [day(1, 1), day(3)]) == [7, 2**40]


def test_a_delta_source_is_read_by_feasts_own_reader(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def reader(data_source: FileSource, repo_path: str) -> Any:
        asked.append(data_source.path)
        return ibis.memtable(HISTORY)

    monkeypatch.setattr(feast_duckdb, "_read_data_source", reader)
    delta = FileSource(
        path="table",
        file_format=DeltaFormat(),
        timestamp_field="event",
        created_timestamp_column="created",
    )
    store.apply([DRIVER, view("", source=delta)])
    assert trips_of(store, [1], [day(3)]) == [11]
    assert set(asked) == {str(tmp_path / "table")}


def test_a_missing_source_is_named(store: FeatureStore, tmp_path: Path) -> None:
    store.apply([DRIVER, view(tmp_path / "nowhere.parquet")])
    with pytest.raises(SourceError, match=r"nowhere\.parquet does not exist"):
        trips_of(store, [1], [day(3)])
    (tmp_path / "nowhere.parquet").mkdir()
    with pytest.raises(SourceError, match="holds no Parquet file"):
        trips_of(store, [1], [day(3)])


@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_truncated_source_is_named(
    store: FeatureStore, tmp_path: Path, history: Path, layout: str
) -> None:
    broken = history if layout == "file" else daily_folder(tmp_path / "d") / "2024-05-01.parquet"
    broken.write_bytes(broken.read_bytes()[:300])
    store.apply([DRIVER, view(history if layout == "file" else broken.parent)])
    with pytest.raises(SourceError, match=broken.name):
        trips_of(store, [1], [day(3)])


def test_a_source_without_the_column_is_named_with_the_nearest(
    store: FeatureStore, tmp_path: Path, history: Path
) -> None:
    pq.write_table(HISTORY.rename_columns([*HISTORY.column_names[:-1], "ratings"]), history)
    store.apply([DRIVER, view(history)])
    with pytest.raises(SourceError, match="no column 'rating'") as caught:
        store.get_historical_features(ask([1], [day(3)]), ["stats:rating"]).to_df()
    assert "did you mean ratings" in str(caught.value)


def test_a_failed_write_leaves_the_file_as_it_was(
    store: FeatureStore, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = history.read_bytes()

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    store.apply([DRIVER, view(history)])
    monkeypatch.setattr(pq.ParquetWriter, "write_batch", fails)
    with pytest.raises(SourceError, match="disk full"):
        store.write_to_offline_store("stats", HISTORY.to_pandas())
    assert history.read_bytes() == before
    assert not list(history.parent.glob(".history*"))


@pytest.mark.parametrize(
    "type_",
    [
        pa.timestamp("ns"),
        pa.timestamp("us"),
        pa.timestamp("ms", "Europe/Berlin"),
        pa.date32(),
        pa.string(),
    ],
    ids=str,
)
def test_source_times_of_every_type_are_utc(
    store: FeatureStore, history: Path, type_: pa.DataType
) -> None:
    table = HISTORY
    for number, name in ((1, "event"), (2, "created")):
        column = table[name].cast(type_)
        if pa.types.is_string(type_):
            column = pa.chunked_array([[f"{value}".replace("Z", "") for value in column]])
        table = table.set_column(number, name, column)
    pq.write_table(table, history)
    store.apply([DRIVER, view(history, ttl=timedelta(days=1))])
    frame = ask([1, 1, 2, 2], [day(2), day(2) - timedelta(microseconds=1), day(2), day(5)])
    answer = store.get_historical_features(frame, ["stats:trips"]).to_arrow()
    assert answer["trips"].to_pylist() == [11, 10, 20, None]


def test_a_file_may_have_the_signs_of_a_glob_in_its_name(
    store: FeatureStore, tmp_path: Path
) -> None:
    odd = tmp_path / "it's [1]*.parquet"
    pq.write_table(HISTORY, odd)
    store.apply([DRIVER, view(odd)])
    assert trips_of(store, [1], [day(3)]) == [11]


def test_a_source_that_disappears_before_the_job_runs_is_named(
    store: FeatureStore, history: Path
) -> None:
    store.apply([DRIVER, view(history)])
    job = store.get_historical_features(ask([1], [day(3)]), ["stats:trips"])
    history.unlink()
    with pytest.raises(SourceError, match=history.name):
        job.to_df()
