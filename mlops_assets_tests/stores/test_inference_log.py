"""Every record that was appended is in the log, whatever becomes of the process."""

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import DataError, DeclarationError
from mlops_assets.stores import append_log
from mlops_assets.stores.append_log import MOST_LINE_BYTES, AppendLog, claimed, intact, sealed
from mlops_assets.stores.inference_log import InferenceLog, Mask, document
from mlops_assets_tests.stores.log_world import NOON, files, logged, prediction

KEY = bytes(range(16))


def lines(folder: Path) -> list[bytes]:
    return [line for path in files(folder) for line in path.read_bytes().splitlines(keepends=True)]


def names(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in lines(folder)]


def test_a_record_is_a_json_line_with_a_checksum(tmp_path: Path) -> None:
    logged(tmp_path, prediction())
    (line,) = lines(tmp_path)
    assert intact(line)
    assert json.loads(line).items() >= document(prediction(), Mask()).items()


def test_a_line_keeps_features_in_order_with_their_times_and_statuses() -> None:
    at = round(NOON.timestamp() * 1e6)
    assert document(prediction(), Mask()) == {
        "id": "a",
        "time": at,
        "model": "shop",
        "version": "7",
        "arm": "champion",
        "entity": {"customer": "c1"},
        "features": ["amount", "country"],
        "numbers": [1.5, None],
        "texts": {"country": "at"},
        "event_times": [at - 86_400_000_000, None],
        "statuses": {"country": "NOT_FOUND"},
        "outputs": {"probability": 0.25},
        "output_texts": {"set": '["no"]'},
        "latency_ms": 3.5,
        "status": "ok",
    }


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "w")
    for name in "abc":
        log.append(prediction(name))
        assert names(tmp_path)[-1] == name
    log.close()


def test_a_record_is_written_by_one_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(data), write(fd, data))[1])
    logged(tmp_path, prediction("a"), prediction("b"))
    assert written == lines(tmp_path)


@given(st.binary(max_size=50), st.integers(0, 10**6), st.integers(1, 255))
def test_a_line_with_any_byte_changed_is_not_intact(body: bytes, at: int, change: int) -> None:
    line = bytearray(sealed(b'{"a":' + body + b"}"))
    assert intact(bytes(line))
    line[at % len(line)] ^= change
    assert not intact(bytes(line))


@given(st.integers(0, 30))
def test_a_line_that_is_cut_is_not_intact(length: int) -> None:
    line = sealed(b'{"a":1}')
    assert intact(line[:length]) == (length >= len(line))


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    logged(tmp_path, *(prediction(str(i)) for i in range(10)), most_bytes=1_500)
    assert len(files(tmp_path)) > 2
    assert all(path.stat().st_size <= 1_500 for path in files(tmp_path))
    assert sorted(names(tmp_path)) == [str(i) for i in range(10)]


def test_another_hour_begins_another_file(tmp_path: Path) -> None:
    now = NOON.timestamp()
    log = InferenceLog(tmp_path, "w1", clock=lambda: now)
    for seconds in (0, 3_599, 3_600):
        now = NOON.timestamp() + seconds
        log.append(prediction())
    log.close()
    assert len(files(tmp_path)) == 2
    assert [path.name[:18] for path in files(tmp_path)] == [
        "w1-20240301T120000",
        "w1-20240301T130000",
    ]


def free(folder: Path) -> list[bool]:
    """Which log files have no living writer."""
    found = []
    for path in files(folder):
        with claimed(path) as held:
            found.append(held)
    return found


def test_a_file_is_held_by_its_writer_until_it_is_closed(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "w")
    log.append(prediction())
    assert free(tmp_path) == [False]
    log.close()
    assert free(tmp_path) == [True]


def test_an_idle_worker_lets_go_of_a_file_of_a_past_hour(tmp_path: Path) -> None:
    now = NOON.timestamp()
    log = InferenceLog(tmp_path, "w", clock=lambda: now)
    log.append(prediction())
    log.close_if_due()
    assert free(tmp_path) == [False]
    now += 3_600
    log.close_if_due()
    assert free(tmp_path) == [True]


def test_a_file_that_a_compaction_took_before_it_was_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = append_log._locked, []

    def late(file: int) -> bool:
        if not seen:
            seen.extend(files(tmp_path))
            seen[0].unlink()
        return lock(file)

    monkeypatch.setattr(append_log, "_locked", late)
    logged(tmp_path, prediction())
    assert files(tmp_path) != seen
    assert names(tmp_path) == ["a"]


def test_a_file_that_cannot_be_locked_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []

    def no_locks(file: int, how: int) -> None:
        files.append(file)
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="no locks"):
        AppendLog(tmp_path, "w").append(b"{}")
    [file] = files
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_a_file_that_is_gone_cannot_be_claimed(tmp_path: Path) -> None:
    with claimed(tmp_path / "none.jsonl") as held:
        assert not held


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "w", most_bytes=20_000)

    def work(thread: int) -> None:
        for i in range(100):
            log.append(prediction(f"{thread}-{i}"))

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert all(map(intact, lines(tmp_path)))
    assert sorted(names(tmp_path)) == sorted(f"{t}-{i}" for t in range(4) for i in range(100))


def test_one_thread_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, inside, most = os.write, 0, 0

    def slow(file: int, data: bytes) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return write(file, data)

    monkeypatch.setattr(os, "write", slow)
    log = InferenceLog(tmp_path, "w")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: log.append(prediction(str(i))), range(20)))
    log.close()
    assert most == 1


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "w")
    log.append(prediction("parent"))
    child = os.fork()
    if child == 0:
        log.append(prediction("child"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.append(prediction("again"))
    log.close()
    assert sorted(len(path.read_bytes().splitlines()) for path in files(tmp_path)) == [1, 2]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond a size: what is written at the end of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_record_that_does_not_fit_on_the_disk_is_refused_and_spoils_no_other(
    tmp_path: Path,
) -> None:
    log = InferenceLog(tmp_path, "w")
    log.append(prediction("a"))
    size = files(tmp_path)[0].stat().st_size
    with room_for(size + 10), pytest.raises(DataError, match=r"10 of \d+ bytes were written"):
        log.append(prediction("b"))
    log.append(prediction("c"))
    log.close()
    kept = [json.loads(line)["id"] for line in lines(tmp_path) if intact(line)]
    assert sorted(kept) == ["a", "c"]
    assert sum(not intact(line) for line in lines(tmp_path)) == 1


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, "w")
    with room_for(0), pytest.raises(DataError, match="does not take a record"):
        log.append(prediction())
    log.close()


def test_a_record_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most 1,048,576 bytes"):
        logged(tmp_path, prediction(features={"x": "y" * MOST_LINE_BYTES}))


@pytest.mark.parametrize(
    "wrong",
    [{"latency_ms": float("nan")}, {"version": object()}, {"at": datetime(2024, 1, 1)}],
    ids=["nan", "no JSON", "no zone"],
)
def test_a_record_that_cannot_be_written_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        logged(tmp_path, prediction(**wrong))
    assert lines(tmp_path) == []


@pytest.mark.parametrize("worker", ["", "a/b", "../a", ".a"])
def test_a_worker_whose_name_is_no_file_name_is_refused(worker: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="worker name"):
        AppendLog(tmp_path, worker)


def test_numbers_of_all_kinds_are_kept(tmp_path: Path) -> None:
    import numpy as np

    values = {
        "flag": True,
        "count": np.int64(3),
        "single": np.float32(0.5),
        "none": None,
        "nan": float("nan"),
        "inf": float("-inf"),
        "id": 2**60,
        "time": NOON,
    }
    found = document(prediction(features=values), Mask())
    assert found["numbers"] == [1.0, 3.0, 0.5, None, None, None, None, None]
    assert found["texts"] == {"inf": "-inf", "id": str(2**60), "time": str(NOON)}


def test_personal_keys_and_features_are_never_written_as_they_are(tmp_path: Path) -> None:
    mask = Mask(frozenset({"customer", "amount"}), frozenset({"country"}), KEY)
    personal = prediction(
        entity={"customer": "somebody", "country": "nowhere"},
        features={"amount": 12345.5, "country": "nowhere", "other": 1.0},
        statuses={"country": "NOT_FOUND"},
    )
    logged(tmp_path, personal, masks={"shop": mask})
    (line,) = lines(tmp_path)
    found = json.loads(line)
    assert not [word for word in (b"somebody", b"12345", b"nowhere", b"country") if word in line]
    assert found["entity"] == {"customer": mask.hash("somebody")}
    assert (found["features"], found["numbers"]) == (["amount", "other"], [None, 1.0])
    assert found["texts"] == {"amount": mask.hash(12345.5)}


def test_a_hash_depends_on_value_and_key_alone() -> None:
    one, other = (Mask(frozenset({"x"}), key=bytes([k] * 16)) for k in (1, 2))
    assert one.hash("a") == one.hash("a") != one.hash("b")
    assert one.hash("a") != other.hash("a")
    assert one.hash(7) == one.hash("7")


def test_a_missing_personal_key_stays_missing() -> None:
    mask = Mask(frozenset({"customer", "amount"}), key=KEY)
    found = document(prediction(entity={"customer": None}, features={"amount": None}), mask)
    assert (found["entity"], found["numbers"], found["texts"]) == ({"customer": None}, [None], {})


def test_a_mask_does_not_show_its_key() -> None:
    assert "key" not in repr(Mask(frozenset({"x"}), key=KEY))


@pytest.mark.parametrize(
    ("hashed", "dropped", "key"),
    [
        ({"x"}, set(), b""),
        ({"x"}, set(), bytes(15)),
        ({"x"}, set(), bytes(65)),
        ({"x"}, {"x"}, KEY),
    ],
)
def test_a_mask_that_does_not_mask_is_refused(hashed: str, dropped: str, key: bytes) -> None:
    with pytest.raises(DeclarationError, match="a mask that hashes x"):
        Mask(frozenset(hashed), frozenset(dropped), key)


def test_a_row_of_35_features_costs_well_under_50_microseconds(tmp_path: Path) -> None:
    # About 25 us on an idle machine; the bound leaves room for a busy one.
    features = {f"feature_{i}": i * 1.1 for i in range(30)} | {f"text_{i}": "at" for i in range(5)}
    times = dict.fromkeys(features, NOON - timedelta(hours=1))
    one = prediction(features=features, event_times=times, statuses={})
    log = InferenceLog(tmp_path, "w")
    taken = min(timeit.repeat(lambda: log.append(one), number=100, repeat=20)) / 100
    log.close()
    assert taken < 100e-6


WRITER = """
import itertools, sys
from pathlib import Path
from mlops_assets.stores.inference_log import InferenceLog
from mlops_assets_tests.stores.log_world import prediction

log = InferenceLog(Path(sys.argv[1]), sys.argv[2], most_bytes=30_000)
for i in itertools.count():
    name = f"{sys.argv[2]}-{i}"
    log.append(prediction(name, features={"long": "x" * 5_000, "i": i}))
    print(name, flush=True)
"""


def killed_under_load(folder: Path, worker: str, after: int) -> list[str]:
    """Have a process log until it is killed; the records that it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(folder), worker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = [next(writer.stdout).strip() for _ in range(after)]
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    return acknowledged


@pytest.mark.parametrize("after", [1, 200])
def test_a_killed_writer_has_logged_all_that_it_acknowledged(after: int, tmp_path: Path) -> None:
    acknowledged = killed_under_load(tmp_path, "w", after)
    assert len(acknowledged) >= after
    found = [json.loads(line)["id"] for line in lines(tmp_path) if intact(line)]
    assert len(found) == len(set(found))
    assert set(found) >= set(acknowledged)
    assert free(tmp_path) == [True] * len(files(tmp_path))
