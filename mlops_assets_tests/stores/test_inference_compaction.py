"""Log files become days of the lake: each record exactly once, whatever is killed when."""

import json
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.errors import DataError, SourceError
from mlops_assets.stores import inference_compaction
from mlops_assets.stores.inference_compaction import CONSUMED, Compacted, compact, expire
from mlops_assets.stores.inference_log import InferenceLog
from mlops_assets.stores.lake import Lake
from mlops_assets_tests.stores.log_world import DAY, NOON, files, ids, logged, prediction, rows
from mlops_assets_tests.stores.test_inference_log import killed_under_load

TODAY = NOON.date()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_record_becomes_a_row_of_its_day(folder: Path, lake: Lake) -> None:
    logged(folder, prediction())
    assert compact(folder, lake) == Compacted(1, 1, 0, 0, (TODAY,))
    assert rows(lake) == [
        {
            "prediction_id": "a",
            "event_timestamp": NOON,
            "model": "shop",
            "version": "7",
            "arm": "champion",
            "entity": {"customer": "c1"},
            "features": ["amount", "country"],
            "numbers": [1.5, None],
            "texts": {"country": "at"},
            "event_times": [NOON - DAY, None],
            "statuses": {"country": "NOT_FOUND"},
            "outputs": {"probability": 0.25},
            "output_texts": {"set": '["no"]'},
            "latency_ms": 3.5,
            "status": "ok",
        }
    ]


def test_a_feature_is_found_by_its_name(folder: Path, lake: Lake) -> None:
    logged(folder, prediction())
    compact(folder, lake)
    found = lake.read(
        "SELECT numbers[list_position(features, 'amount')] AS n, texts['country'] AS t FROM t",
        t=lake.folder("inference_log"),
    )
    assert found.to_pylist() == [{"n": 1.5, "t": "at"}]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "entity": st.dictionaries(st.text(), st.none() | st.text()),
                "features": st.dictionaries(
                    st.text(), st.none() | st.booleans() | st.floats() | st.integers() | st.text()
                ),
                "outputs": st.dictionaries(st.text(), st.floats() | st.lists(st.text())),
                "at": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
                    lambda moment: moment.replace(tzinfo=NOON.tzinfo)
                ),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_values_come_back_as_they_were(values: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        log, lake = Path(home) / "log", Lake(Path(home) / "lake")
        logged(log, *(prediction(str(i), **value) for i, value in enumerate(values)))
        assert compact(log, lake).records == len(values)
        found = {int(row["prediction_id"]): row for row in rows(lake)}
    for i, value in enumerate(values):
        assert found[i]["event_timestamp"] == value["at"]
        assert found[i]["entity"] == value["entity"]
        assert found[i]["features"] == list(value["features"])
        for name, number in zip(found[i]["features"], found[i]["numbers"], strict=True):
            told = value["features"][name]
            if number is not None:
                assert number == told
            elif told is not None and told == told:
                assert found[i]["texts"][name] == str(told)


def test_an_entity_of_broken_unicode_does_not_stop_the_others(folder: Path, lake: Lake) -> None:
    logged(folder, prediction(entity={"customer": "\ud800"}), prediction("b"))
    compact(folder, lake)
    assert [row["entity"] for row in rows(lake)] == [{"customer": "?"}, {"customer": "c1"}]


def test_records_go_into_the_file_of_their_own_day_in_utc(folder: Path, lake: Lake) -> None:
    times = {"a": NOON, "b": NOON + DAY / 2 - timedelta.resolution, "c": NOON + DAY / 2}
    logged(folder, *(prediction(name, at) for name, at in times.items()))
    assert compact(folder, lake).days == (TODAY, TODAY + DAY)
    of_day = lake.read("FROM t", t=lake.day_file("inference_log", TODAY))
    assert of_day["prediction_id"].to_pylist() == ["a", "b"]


def test_late_records_join_the_day_that_is_there_already(folder: Path, lake: Lake) -> None:
    logged(folder, prediction("a"), prediction("b", NOON + DAY))
    compact(folder, lake)
    logged(folder, prediction("late", NOON - DAY / 4))
    assert compact(folder, lake) == Compacted(1, 1, 0, 0, (TODAY,))
    assert [row["prediction_id"] for row in rows(lake)] == ["late", "a", "b"]


def test_consumed_files_are_removed_and_their_names_stand_in_the_day(
    folder: Path, lake: Lake
) -> None:
    for name in "ab":
        logged(folder, prediction(name))
    names = [path.name for path in files(folder)]
    compact(folder, lake)
    assert files(folder) == []
    notes = lake.notes(lake.day_file("inference_log", TODAY))
    assert sorted(json.loads(notes[CONSUMED])) == names


def test_a_file_that_is_in_the_lake_is_not_taken_again(folder: Path, lake: Lake) -> None:
    logged(folder, prediction("a"))
    (path,) = files(folder)
    shutil.copy(path, folder / "copy")
    compact(folder, lake)
    for name in "bc":
        logged(folder, prediction(name))
        shutil.copy(folder / "copy", path)
        compact(folder, lake)
        assert files(folder) == []
    assert ids(lake) == ["a", "b", "c"]


def test_the_same_id_in_two_files_is_two_records(folder: Path, lake: Lake) -> None:
    # Ids are given by servers; one given twice must not make a record disappear.
    for arm in ("champion", "canary"):
        logged(folder, prediction(arm=arm))
    compact(folder, lake)
    assert Counter(row["arm"] for row in rows(lake)) == {"champion": 1, "canary": 1}


def test_the_file_of_a_living_writer_is_left_for_later(folder: Path, lake: Lake) -> None:
    log = InferenceLog(folder, "alive")
    log.append(prediction("a"))
    logged(folder, prediction("b"))
    compact(folder, lake)
    assert ids(lake) == ["b"]
    log.append(prediction("c"))
    log.close()
    compact(folder, lake)
    assert ids(lake) == ["a", "b", "c"]


def test_nothing_to_compact_changes_nothing(folder: Path, lake: Lake) -> None:
    assert compact(folder, lake) == Compacted()
    assert rows(lake) == []


def test_an_empty_file_is_removed(folder: Path, lake: Lake) -> None:
    folder.mkdir()
    (folder / "w.jsonl").touch()
    assert compact(folder, lake) == Compacted(files=1)
    assert files(folder) == []


def test_a_torn_last_line_is_set_aside_and_counted(folder: Path, lake: Lake) -> None:
    logged(folder, prediction("a"), prediction("b"))
    (path,) = files(folder)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert compact(folder, lake) == Compacted(1, 1, 1, 0, (TODAY,))
    assert ids(lake) == ["a"]
    torn = content[:-7].splitlines(keepends=True)[1]
    assert (folder / "damaged" / path.name).read_bytes() == torn


def test_damaged_lines_are_set_aside_and_the_others_kept(folder: Path, lake: Lake) -> None:
    logged(folder, *(prediction(name) for name in "abc"))
    (path,) = files(folder)
    path.write_bytes(path.read_bytes().replace(b'"id":"b"', b'"id":"x"'))
    assert compact(folder, lake) == Compacted(1, 2, 0, 1, (TODAY,))
    assert ids(lake) == ["a", "c"]
    assert b'"id":"x"' in (folder / "damaged" / path.name).read_bytes()


def test_many_files_are_taken_in_parts(
    folder: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_compaction, "BATCH_FILES", 2)
    for name in "abcde":
        logged(folder, prediction(name))
    assert compact(folder, lake) == Compacted(5, 5, 0, 0, (TODAY,))
    assert ids(lake) == list("abcde")


def test_records_that_are_read_otherwise_than_logged_stop_it_and_stay(
    folder: Path, lake: Lake
) -> None:
    from mlops_assets.stores.append_log import sealed

    logged(folder, prediction())
    (path,) = files(folder)
    path.write_bytes(path.read_bytes() + sealed(b'{"id":"without a time"}'))
    with pytest.raises(DataError, match="of 2 logged records of inference_log, 1 were read"):
        compact(folder, lake)
    assert (files(folder), rows(lake)) == ([path], [])


def test_a_day_that_cannot_be_read_is_not_replaced(folder: Path, lake: Lake) -> None:
    logged(folder, prediction())
    day = lake.day_file("inference_log", TODAY)
    day.parent.mkdir(parents=True)
    day.write_bytes(b"no parquet at all")
    with pytest.raises(SourceError, match="cannot be read"):
        compact(folder, lake)
    assert day.read_bytes() == b"no parquet at all"
    assert len(files(folder)) == 1


def test_days_beyond_retention_are_removed_with_what_was_set_aside(
    folder: Path, lake: Lake
) -> None:
    logged(folder, *(prediction(str(i), NOON - i * DAY) for i in range(4)))
    compact(folder, lake)
    for name, age in {"old": 4, "young": 1}.items():
        path = folder / "damaged" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, ((NOON - age * DAY).timestamp(),) * 2)
    assert expire(folder, lake, {"shop": 2}, TODAY) == (TODAY - 3 * DAY,)
    assert ids(lake) == ["0", "1", "2"]
    assert [path.name for path in (folder / "damaged").iterdir()] == ["young.jsonl"]


def test_a_model_that_is_kept_shorter_loses_its_rows_alone(folder: Path, lake: Lake) -> None:
    logged(folder, *(prediction(f"long{i}", NOON - i * DAY) for i in range(3)))
    logged(folder, *(replace(prediction(f"s{i}", NOON - i * DAY), model="short") for i in range(3)))
    compact(folder, lake)
    for _ in range(2):
        assert expire(folder, lake, {"shop": 9, "short": 1}, TODAY) == ()
        assert sorted(ids(lake)) == ["long0", "long1", "long2", "s0", "s1"]
    logged(folder, prediction("late", NOON - 2 * DAY))
    compact(folder, lake)  # what is in a rewritten day is still known
    assert sorted(ids(lake)) == ["late", "long0", "long1", "long2", "s0", "s1"]


def test_ten_killed_writers_lose_nothing_that_they_acknowledged_and_double_nothing(
    folder: Path, lake: Lake
) -> None:
    acknowledged: list[str] = []
    for i in range(10):
        acknowledged += killed_under_load(folder, f"w{i}", after=10 * i + 1)
        if i % 3 == 2:
            compact(folder, lake)
    done = compact(folder, lake)
    found = ids(lake)
    assert len(found) == len(set(found))
    assert set(found) >= set(acknowledged)
    # A record may have been written whose acknowledgement the kill forestalled; one per writer.
    assert len(found) <= len(acknowledged) + 10
    assert done.damaged == 0
    assert files(folder) == []


def test_writers_lose_nothing_while_compactions_run(folder: Path, lake: Lake) -> None:
    def work(worker: int) -> None:
        log = InferenceLog(folder, f"w{worker}", most_bytes=5_000)
        for i in range(300):
            log.append(prediction(f"{worker}-{i}"))
        log.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        compact(folder, lake)
    compact(folder, lake)
    assert ids(lake) == sorted(f"{w}-{i}" for w in range(3) for i in range(300))


def test_two_compactions_at_once_take_every_record_once(folder: Path, lake: Lake) -> None:
    for i in range(30):
        logged(folder, prediction(str(i), NOON + i % 3 * DAY))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: compact(folder, lake), range(4)))
    assert sum(one.records for one in done) == 30
    assert ids(lake) == sorted(map(str, range(30)))


def test_two_processes_that_compact_at_once_take_every_record_once(
    folder: Path, lake: Lake
) -> None:
    for i in range(20):
        logged(folder, prediction(str(i), NOON + i % 3 * DAY))
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=compact, args=(folder, lake)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert ids(lake) == sorted(map(str, range(20)))


def test_compactions_of_two_log_folders_into_one_table_wait_for_each_other(
    folder: Path, tmp_path: Path, lake: Lake
) -> None:
    logged(folder, prediction("a"))
    logged(tmp_path / "other", prediction("b"))
    in_the_middle, go_on = threading.Event(), threading.Event()

    def held(step: str) -> None:
        if step == "staged":
            in_the_middle.set()
            assert go_on.wait(10)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(compact, folder, lake, observer=held)
        assert in_the_middle.wait(10)
        second = pool.submit(compact, tmp_path / "other", lake)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        go_on.set()
        assert first.result().records == second.result().records == 1
    assert ids(lake) == ["a", "b"]
