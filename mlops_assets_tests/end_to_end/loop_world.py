"""The processes of the loop, as they run in production: daemon, code server, model server, clients.

Starting, killing and asking them; what they must come to is said in the test.
"""

import datetime as dt
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from mlops_assets.defs import retraining
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets_tests.end_to_end import loop_shop
from mlops_assets_tests.serving.running import (
    PATIENCE,
    Answer,
    Client,
    answers,
    free_port,
    wait_for,
)
from mlops_assets_tests.stores.alert_world import Server

LONG = 6 * PATIENCE
"""Seconds for what takes several runs, one after the other."""

LOCATION = "mlops_assets_tests.end_to_end.loop_location"
SPECS = "mlops_assets_tests.end_to_end.loop_shop:SPECS"
ROWS = 50
PID = re.compile(r"Started process for run \(pid: (\d+)\)")


def moment(day: int, hour: int = 12) -> dt.datetime:
    """A time of January."""
    return dt.datetime(2024, 1, day, hour, tzinfo=dt.UTC)


@dataclass
class Loop:
    """A home with its processes.

    Args:
        folder: has the files of the shop, the home and the output of the processes.
        duty: who is alerted.
    """

    folder: Path
    duty: Server
    failed: list[Any] = field(default_factory=list)
    _entities: Iterator[int] = field(default_factory=itertools.count)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def platform(self) -> Platform:
        return Platform(Settings(home=self.home))

    @property
    def titles(self) -> list[str]:
        """Titles of the alerts that were received, in order."""
        return [body["title"] for body in self.duty.taken]

    @property
    def champion(self) -> str | None:
        return self.platform.ledger.state("returns").aliases.champion

    def standing(self) -> Any:
        """What failed, and what was counted of the newest rollout."""
        kept = self.platform.rollouts.last("returns")
        return self.failed, kept and self.platform.rollouts.sums(kept.traffic.id)

    def environment(self, **more: str) -> dict[str, str]:
        channels = [{"name": "duty", "url": f"json://127.0.0.1:{self.duty.port}/"}]
        return {
            **os.environ,
            "MLOPS_HOME": str(self.home),
            "MLOPS_ACTOR": "loop",
            "MLOPS_ALERT_CHANNELS": json.dumps(channels),
            "DAGSTER_HOME": str(self.home / "dagster"),
            **more,
        }

    def start(self, name: str, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a module of Python with its arguments; its output is in a file."""
        with (self.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @contextmanager
    def dagster(self) -> Iterator["Daemon"]:
        """The code server and a daemon over it."""
        port = free_port()
        where = f"{{host: 127.0.0.1, port: {port}, location_name: loop}}"
        (self.folder / "workspace.yaml").write_text(f"load_from:\n  - grpc_server: {where}\n")
        server = ("dagster", "api", "grpc", "-m", LOCATION, "-h", "127.0.0.1", "-p", str(port))
        code = self.start("code", *server)
        daemon = Daemon(self)
        try:
            daemon.start()
            with dg.DagsterInstance.from_config(str(self.home / "dagster")) as daemon.instance:
                yield daemon
        finally:
            for process in (daemon.process, code):
                if process is not None:
                    process.terminate()
            for process in (daemon.process, code):
                if process is not None:
                    ended(process)

    @contextmanager
    def serving(self, day: int) -> Iterator[Client]:
        """The model server at noon of a day of January."""
        port = free_port()
        process = self.start(
            "serve", "mlops_assets.cli", "serve", "--port", str(port), MLOPS_SPECS=SPECS,
            MLOPS_NOW=moment(day).isoformat(), MLOPS_SERVE_POLL_SECONDS="0.1",
            MLOPS_SERVE_REQUEST_SECONDS=str(PATIENCE),
        )  # fmt: skip
        client = Client(port)
        try:
            wait_for(lambda: process.poll() is not None or answers(client))
            yield client
        finally:
            process.terminate()
            ended(process)

    def ask(self, client: Client, day: int, *, amounts: int = 1) -> set[str]:
        """Ask about orders of a day, with sales so many times as large, and tell what became of
        them; the versions that answered."""
        first = next(self._entities) * ROWS
        random = np.random.default_rng(first)
        sizes = random.choice(loop_shop.sizes(day, 1_000), ROWS)
        rows = [
            {
                "shop": "a",
                "item": f"e{first + at}",
                "amount_last": float(amounts * random.integers(1, 20)),
                "amount_2d": float(amounts * random.integers(1, 20, 3).sum()),
                "size_doubled": float(2 * size),
            }
            for at, size in enumerate(sizes)
        ]
        answer = post(client, "/models/returns/predict", {"features": rows})
        if answer.status != 200:
            self.failed.append(answer)
            return set()
        predictions = answer.json["predictions"]
        outcomes = [
            {
                "prediction_id": one["prediction_id"],
                "label": int(random.random() < size % loop_shop.LARGER / 10),
            }
            for one, size in zip(predictions, sizes, strict=True)
        ]
        told = post(client, "/models/returns/outcomes", {"outcomes": outcomes})
        if told.status != 202:
            self.failed.append(told)
        return {one["version"] for one in predictions}

    @contextmanager
    def traffic(self, client: Client, day: int) -> Iterator[None]:
        """Somebody asks again and again."""
        over = threading.Event()

        def keep_asking() -> None:
            while not over.wait(0.2):
                try:
                    self.ask(client, day)
                except OSError as broken:
                    self.failed.append(broken)

        thread = threading.Thread(target=keep_asking)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE)


@dataclass
class Daemon:
    """Dagster's daemon, which may be killed and started again."""

    loop: Loop
    process: "subprocess.Popen[bytes] | None" = None
    instance: Any = None

    def start(self) -> None:
        where = str(self.loop.folder / "workspace.yaml")
        self.process = self.loop.start("daemon", "dagster._daemon", "run", "-w", where)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def retrains(self) -> list[dg.DagsterRun]:
        """The retrains so far, oldest first."""
        tags = {retraining.TAG: "returns"}
        runs: list[dg.DagsterRun] = self.instance.get_runs(dg.RunsFilter(tags=tags))
        return runs[::-1]

    def predicts_anew(self) -> bool:
        """Whether batch predictions were asked for because the champion was moved."""
        tags = {"dagster/from_automation_condition": "true"}
        return bool(self.instance.get_runs(dg.RunsFilter(tags=tags)))

    def worker_of(self, run: dg.DagsterRun) -> int | None:
        """The process of a run, as soon as it says so."""
        for event in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            if found := PID.search(event.message):
                return int(found[1])
        return None

    def kill_worker(self) -> None:
        """Kill the process of the newest retrain once it has begun a step."""
        kind = dg.DagsterEventType.STEP_START
        until(lambda: any(self.instance.all_logs(r.run_id, of_type=kind) for r in self.retrains()))
        worker = self.worker_of(self.retrains()[-1])
        assert worker is not None
        os.kill(worker, signal.SIGKILL)


def post(client: Client, path: str, body: Any) -> Answer:
    """Send something to a machine that trains models at the same time."""
    return client.ask("POST", path, body, timeout=PATIENCE)


def until(ready: Callable[[], Any], told: Callable[[], Any] = str) -> None:
    """Wait for what takes several runs; looking costs, so it is done less often.

    Args:
        ready: what is waited for.
        told: says how far it came, when it did not happen.
    """
    end = time.monotonic() + LONG
    while not ready():
        assert time.monotonic() < end, f"it did not happen in time: {told()}"
        time.sleep(0.5)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process that was told to end."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
