"""Real processes under load: releases, rollbacks and killed workers lose and double nothing."""

import json
import multiprocessing
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import groupby
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.platform import Platform
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.lake import Lake
from mlops_assets_tests.rollouts.rollout_world import released
from mlops_assets_tests.serving.rollout_home import PREDICT, WHO, logged, rows, serve, spec_of
from mlops_assets_tests.serving.running import Client, in_processes, wait_for
from mlops_assets_tests.serving.test_processes import children

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

GRACE = 5.0
"""Seconds in which a worker follows a release; it is about half of one on a quiet machine."""


@dataclass
class Load:
    """Clients that ask without pause, each over connections of its own."""

    client: Client
    stopped: threading.Event = field(default_factory=threading.Event)
    # By id: version, when it was asked and when it was answered.
    answers: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    failed: list[Any] = field(default_factory=list)

    def ask(self, number: int) -> None:
        turn = 0
        while not self.stopped.is_set():
            turn += 1
            asked = time.monotonic()
            try:
                found = self.client.post(PREDICT, rows(2, 1_000_000 * number + turn))
            except (OSError, HTTPException) as broken:
                self.failed.append(repr(broken))
                continue
            if found.status != 200:
                self.failed.append(found.body)
                continue
            for one in found.json["predictions"]:
                self.answers[one["prediction_id"]] = (one["version"], asked, time.monotonic())


@contextmanager
def loaded(client: Client, threads: int = 2) -> Iterator[Load]:
    load = Load(client)
    asking = [threading.Thread(target=load.ask, args=(number,)) for number in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield load
    finally:
        load.stopped.set()
        for thread in asking:
            thread.join()


def in_the_lake(home: Path) -> Counter[str]:
    """How often each prediction is in the lake, after all of the log is compacted."""
    lake = Lake(home / "lake")
    compact(home / "inference_log", lake)
    assert logged(home) == []
    found = lake.read("SELECT prediction_id FROM t", t=lake.folder("inference_log"))
    return Counter(found["prediction_id"].to_pylist())


def test_releases_and_rollbacks_under_load_lose_nothing_and_show_no_other_version(
    rolling: Platform,
) -> None:
    spec, home = spec_of(rolling), rolling.settings.root
    second = rolling.registry.version("returns", "2")
    champions = [("1", 0.0)]
    with (
        in_processes(home, workers=2, poll_seconds=0.1, head_seconds=2) as (client, process),
        socket.create_connection(("127.0.0.1", client.port)) as silent,
    ):
        wait_for(lambda: len(children(process.pid)) == 2)
        with loaded(client) as load:
            for turn in range(40):
                # Said before it is done: an answer may come in between.
                champions.append(("12"[turn % 2 == 0], time.monotonic()))
                if turn % 2 == 0:
                    released(rolling, spec, second)
                else:
                    rolling.releases(spec).rollback("returns", **WHO)
                if turn in (10, 21):  # long enough to see who does not follow
                    time.sleep(GRACE + 0.5)
        silent.settimeout(10)
        assert silent.recv(10) == b""  # a client that never says anything is let go
        by_worker = _versions(home)
    assert load.failed == []
    assert len(load.answers) > 100
    print(f"\n{len(load.answers)} answers over {len(champions) - 1} releases and rollbacks")
    for name, (version, asked, answered) in load.answers.items():
        assert version in _around(champions, asked - GRACE, answered), name
    moved = [version for version, _ in champions]
    for versions in by_worker:
        # Each worker goes from one to the next as the champion did, and may miss short ones.
        assert len(versions) <= len(moved)
        assert set(versions) <= {"1", "2"}
    assert in_the_lake(home) == Counter(load.answers.keys())
    assert rolling.ledger.verify() is None


def _around(champions: list[tuple[str, float]], since: float, until: float) -> set[str]:
    """Versions that were champion at any time between."""
    ends = [*(begin for _, begin in champions[1:]), float("inf")]
    # A move takes its time: the version before is champion until the next has begun and more.
    return {
        version
        for (version, begin), end in zip(champions, ends, strict=True)
        if begin <= until and end + GRACE / 5 >= since
    }


def _versions(home: Path) -> list[list[str]]:
    """The versions that each worker answered with, in their order, each change once."""
    files = sorted((home / "inference_log").glob("*.jsonl"))
    found = [[json.loads(line)["version"] for line in f.read_text().splitlines()] for f in files]
    return [[version for version, _ in groupby(one)] for one in found]


@contextmanager
def workers_in(home: Path) -> Iterator[tuple[Client, Callable[[], BaseProcess]]]:
    """A port, and what starts a worker process on it; all of them are killed at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([serve.__module__, "feast", "mlflow", "skops.io"])
    started: list[BaseProcess] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(512)

        def start() -> BaseProcess:
            found = context.Process(target=serve, args=(home, listening), daemon=True)
            found.start()
            started.append(found)
            return found

        try:
            yield Client(listening.getsockname()[1]), start
        finally:
            for one in started:
                one.kill()
                one.join()
                one.close()


def test_workers_that_are_killed_under_load_lose_nothing_that_was_answered(
    rolling: Platform,
) -> None:
    home = rolling.settings.root
    folder, lake = home / "inference_log", Lake(home / "lake")
    with workers_in(home) as (client, start):
        living = [start(), start()]
        with loaded(client) as load:
            for turn in range(10):
                victims: list[BaseProcess] = []

                def answering(found: list[BaseProcess] = victims) -> bool:
                    """Whether a worker that lives has answered something."""
                    said = {path.name.split("-")[-2] for path in folder.glob("*.jsonl")}
                    found[:] = [one for one in living if str(one.pid) in said]
                    return bool(found)

                wait_for(answering)
                victims[0].kill()  # SIGKILL
                victims[0].join()
                living.remove(victims[0])
                living.append(start())
                if turn % 3 == 0:
                    compact(folder, lake)
            before = len(load.answers)
            wait_for(lambda: len(load.answers) > before)
    found = in_the_lake(home)
    print(f"\n{len(load.answers)} answers, {len(load.failed)} requests of killed workers")
    assert set(found.values()) == {1}
    assert load.answers.keys() <= found.keys()
    # What was in work when its worker was killed may be logged and was not answered: two rows each.
    assert len(found) - len(load.answers) <= 2 * len(load.failed)
