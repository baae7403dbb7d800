"""The log as it is now: lake and open files as one, each record once, whatever happens."""

import contextlib
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.stores import live_log
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.live_log import living
from mlops_assets_tests.stores.log_world import DAY, NOON, files, logged, prediction


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def seen(folder: Path, lake: Lake, **days: Any) -> list[tuple[str, str]]:
    with living(folder, lake, **days) as connection:
        found = connection.sql("SELECT prediction_id, arm FROM inference_log ORDER BY ALL")
        return [(str(name), str(arm)) for name, arm in found.fetchall()]


def test_without_any_record_there_are_no_rows_and_all_columns(folder: Path, lake: Lake) -> None:
    with living(folder, lake) as connection:
        found = connection.sql("FROM inference_log").to_arrow_table()
    assert found.num_rows == 0
    assert {"prediction_id", "event_timestamp", "outputs", "features"} <= set(found.column_names)


def test_records_of_a_living_writer_are_seen_as_those_of_the_lake(folder: Path, lake: Lake) -> None:
    with living(folder, lake) as connection:
        assert connection.sql("FROM inference_log").fetchall() == []
    logged(folder, prediction("a"))
    with living(folder, lake) as connection:
        early = connection.sql("FROM inference_log").fetchall()
    compact(folder, lake)
    with living(folder, lake) as connection:
        assert connection.sql("FROM inference_log").fetchall() == early


def test_a_shadow_and_an_answer_of_one_id_are_both_seen(folder: Path, lake: Lake) -> None:
    log = InferenceLog(folder, "w")
    log.append_all([prediction("a"), prediction("a", arm="shadow")])
    logged(folder, prediction("b", NOON - DAY))
    compact(folder, lake)
    log.append(prediction("c"))
    assert seen(folder, lake) == [
        *(("a", "champion"), ("a", "shadow"), ("b", "champion"), ("c", "champion")),
    ]
    assert len(files(folder)) == 1  # still its writer's
    log.close()


def test_only_the_days_that_are_asked_for_are_seen(folder: Path, lake: Lake) -> None:
    days = [NOON + n * DAY for n in range(4)]
    logged(folder, *(prediction(f"old{n}", day) for n, day in enumerate(days)))
    compact(folder, lake)
    logged(folder, *(prediction(f"new{n}", day) for n, day in enumerate(days)))
    first, last = days[1].date(), days[2].date()
    found = [name for name, _ in seen(folder, lake, first=first, last=last)]
    assert found == ["new1", "new2", "old1", "old2"]


def test_a_line_that_is_being_written_or_damaged_is_left_out(folder: Path, lake: Lake) -> None:
    logged(folder, prediction("a"), prediction("b"), prediction("c"))
    [path] = files(folder)
    one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(one + two.replace(b"champion", b"champiom") + three[:-20])
    assert seen(folder, lake) == [("a", "champion")]
    assert path.read_bytes().startswith(one)


# A step logs some records, closes the file, compacts, or kills a compaction before it removes.
STEPS = st.lists(st.sampled_from(["log", "late", "close", "compact", "killed"]), max_size=12)


class Killed(BaseException):
    pass


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_every_record_is_seen_once_after_any_history(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("history")
    folder, lake, log = root / "log", Lake(root / "lake"), InferenceLog(root / "log", "w")
    expected = []

    def kill(step: str) -> None:
        if step == "merged":
            raise Killed

    for at, step in enumerate(steps):
        if step in ("log", "late"):
            when = NOON - (at % 3) * DAY if step == "late" else NOON
            log.append_all([prediction(f"p{at}", when), prediction(f"p{at}", when, arm="shadow")])
            expected += [(f"p{at}", "champion"), (f"p{at}", "shadow")]
        elif step == "close":
            log.close()
        elif step == "compact":
            compact(folder, lake)
        else:
            with contextlib.suppress(Killed):
                compact(folder, lake, observer=kill)
        assert seen(folder, lake) == sorted(expected)
    log.close()


@pytest.mark.parametrize("moment", ["copied", "staged", "held"])
def test_a_compaction_at_any_moment_of_the_look_changes_nothing(
    folder: Path, lake: Lake, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(folder, prediction("a"))
    compact(folder, lake)
    logged(folder, prediction("b"), prediction("c", NOON - DAY))
    step = getattr(live_log, f"_{moment}")

    def then_compact(*given: Any) -> Any:
        found = step(*given)
        compact(folder, lake)
        logged(folder, prediction("d"))
        compact(folder, lake)
        return found

    monkeypatch.setattr(live_log, f"_{moment}", then_compact)
    found = [name for name, _ in seen(folder, lake)]
    # What is logged after the look began may be seen or not; the rest is, once.
    assert Counter(found) - Counter("d") == Counter("abc")


def test_under_load_and_compaction_no_record_is_missing_and_none_is_there_twice(
    folder: Path, lake: Lake
) -> None:
    done, acknowledged = threading.Event(), list[str]()

    def write() -> None:
        log = InferenceLog(folder, "w", most_bytes=4_000)
        for at in range(3_000):
            log.append(prediction(f"p{at}", NOON + timedelta(seconds=at)))
            acknowledged.append(f"p{at}")
            if done.is_set():
                break
        log.close()

    def compacting() -> None:
        while not done.is_set():
            compact(folder, lake)

    threads = [threading.Thread(target=write), threading.Thread(target=compacting)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            before = set(acknowledged)
            found = [name for name, _ in seen(folder, lake)]
            assert len(found) == len(set(found))
            assert before <= set(found)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert sorted(acknowledged) == sorted(name for name, _ in seen(folder, lake))


def test_a_compaction_while_the_rows_are_read_changes_nothing(folder: Path, lake: Lake) -> None:
    logged(folder, prediction("a"))
    compact(folder, lake)
    logged(folder, prediction("b"))
    with living(folder, lake) as connection:
        compact(folder, lake)
        found = connection.sql("SELECT prediction_id FROM inference_log ORDER BY ALL").fetchall()
    assert found == [("a",), ("b",)]
