"""The online store under several processes and threads, and one that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mlops_assets.stores.online_store import NewestOnlineStore
from mlops_assets_tests.stores.online_world import (
    NOW,
    ago,
    feast_row,
    make_config,
    means,
    view,
)


def _write_many(folder: Path, online: dict[str, Any], first: int, count: int) -> None:
    store, config, one = NewestOnlineStore(), make_config(folder, online), view(folder / "none")
    for i in range(first, first + count):
        event = ago(24 - i % 20)
        rows = [feast_row(f"k{k}", event, ago(24 - i / 100), float(i)) for k in range(50)]
        store.online_write_batch(config, one, rows, None)


def test_two_processes_that_write_at_once_leave_the_newest(
    plain: Any, tmp_path: Path, online: dict[str, Any]
) -> None:
    spawn = multiprocessing.get_context("fork")
    writers = [
        spawn.Process(target=_write_many, args=(tmp_path, online, first, 60)) for first in (0, 60)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        means(plain, "k0", "k49")
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    # Event time is i % 20, created time i: 119 has the greatest of both.
    assert means(plain, *(f"k{k}" for k in range(50))) == [119.0] * 50


KILLED = """
import sys
from pathlib import Path
from mlops_assets_tests.stores.test_online_processes import _write_many
print("ready", flush=True)
_write_many(Path(sys.argv[1]), eval(sys.argv[2]), 0, 100_000)
"""


def test_a_killed_writer_leaves_a_store_that_reads_and_writes(
    plain: Any, tmp_path: Path, online: dict[str, Any]
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path), repr(online)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while means(plain, "k49") == [None]:
            time.sleep(0.01)
        os.kill(writer.pid, signal.SIGKILL)
    found = means(plain, *(f"k{k}" for k in range(50)))
    if "path" in online:
        assert len(set(found)) == 1, "a batch is written whole or not at all"
    assert None not in found
    store, config, one = plain
    store.online_write_batch(config, one, [feast_row("k0", NOW, None, -1.0)], None)
    assert means(plain, "k0") == [-1.0]


def test_threads_read_while_another_writes(plain: Any) -> None:
    store, config, one = plain
    store.online_write_batch(config, one, [feast_row("EWR", ago(9), None, 1.0)], None)
    found: list[Any] = []

    def read() -> None:
        found.extend(means(plain, "EWR")[0] for _ in range(50))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    store.online_write_batch(config, one, [feast_row("EWR", NOW, None, 2.0)], None)
    for reader in readers:
        reader.join()
    assert len(found) == 200
    assert set(found) <= {1.0, 2.0}
