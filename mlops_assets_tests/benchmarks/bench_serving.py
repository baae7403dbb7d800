"""How fast the model server is, beside `mlflow models serve`, on the champion of the showcase.

    MLOPS_HOME=... python -m mlops_assets_tests.benchmarks.bench_serving

Needs a home with champions, as the main job leaves it. Both servers have one worker, run on this
machine together with the program that asks, and are asked in turns, so that a busy moment hits
both. One row per request; the answers of both are compared before any time is shown.

The server logs every prediction before it answers, MLflow's does not. By entity id it also reads
the features online; MLflow's has to be sent all of them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mlops_assets.platform import Platform
from mlops_assets.serving.columns import input_columns
from mlops_assets.serving.served_model import frame_of
from mlops_assets.settings import Settings
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY

SECONDS = 2.0
ROUNDS = 3
CONNECTIONS = (1, 4, 8)
GOALS = {
    "requests per second, ours / MLflow's, 8 connections": (8.0, ">="),
    "added to the bare prediction by features, 4 connections, ms": (1.0, "<="),
    "added to the bare prediction by entity, 4 connections, ms": (2.0, "<="),
}


@dataclass
class Asking:
    """One kind of request to one server, and how long its answers took."""

    title: str
    port: int
    path: str
    body: bytes

    def __post_init__(self) -> None:
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        self.request = head.encode() + self.body
        self.seconds: dict[int, list[float]] = {}
        self.rates: dict[int, list[float]] = {}

    def answer(self) -> Any:
        address = f"http://127.0.0.1:{self.port}{self.path}"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(address, self.body, headers)) as found:
            return json.load(found)

    def load(self, connections: int) -> None:
        """Ask over some connections at once, each again as soon as it is answered."""
        found: list[float] = []
        end = time.perf_counter() + SECONDS
        threads = [
            threading.Thread(target=self._ask, args=(end, found)) for _ in range(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds.setdefault(connections, []).extend(found)
        self.rates.setdefault(connections, []).append(len(found) / SECONDS)

    def _ask(self, end: float, found: list[float]) -> None:
        own = []
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.perf_counter() < end:
                begin = time.perf_counter()
                line.sendall(self.request)
                head, _, rest = _until(line, b"\r\n\r\n").partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                while len(rest) < length:
                    rest += line.recv(65536)
                own.append(time.perf_counter() - begin)
                if b" 200 " not in head.split(b"\r\n")[0]:
                    raise SystemExit(f"{self.title}: {head!r} {rest!r}")
        found.extend(own)

    def p(self, connections: int, share: float) -> float:
        return float(np.percentile(self.seconds[connections], share)) * 1000


def _until(line: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        found += line.recv(65536)
    return found


@contextmanager
def started(command: list[str], health: str, environment: dict[str, str]) -> Iterator[None]:
    """A server in a process group of its own, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{command[:4]} ended with code {process.returncode}")
            try:
                with urllib.request.urlopen(health, timeout=2) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def bare(predict: Callable[[], Any]) -> float:
    """Median milliseconds of a call."""
    found = []
    for _ in range(300):
        begin = time.perf_counter()
        predict()
        found.append(time.perf_counter() - begin)
    return float(np.median(found)) * 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Measure and print the tables; exit 1 if a goal is missed."""
    settings = Settings()
    spec = FLIGHT_DELAY
    registry = Platform(settings).registry
    champion = registry.alias(spec.name, "champion")
    if champion is None:
        raise SystemExit(f"{settings.root} has no champion of {spec.name}: run the main job first")
    ours, theirs = free_port(), free_port()
    script = f"from mlops_assets.serving.command import serve; serve('', {ours}, 1)"
    model = registry.client.get_model_version_download_uri(spec.name, champion.version)
    mlflow = ["-m", "mlflow", "models", "serve", "-m", model, "-p", str(theirs)]
    with ExitStack() as stack:
        home = {"MLOPS_HOME": str(settings.root)}
        stack.enter_context(
            started(["-c", script], f"http://127.0.0.1:{ours}/v2/health/ready", home)
        )
        stack.enter_context(
            started(
                [*mlflow, "--env-manager", "local", "-w", "1"],
                f"http://127.0.0.1:{theirs}/ping",
                {
                    "OMP_NUM_THREADS": "1",
                    "MLFLOW_TRACKING_URI": settings.mlflow_uri,
                    # MLflow starts `uvicorn` by its name.
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                },
            )
        )
        measure(spec, registry.load(champion), ours, theirs)


def measure(spec: Any, fitted: Any, ours: int, theirs: int) -> None:
    """Ask both servers in turns; print, and exit 1 if a goal is missed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ours}/openapi.json") as answer:
        paths = json.load(answer)["paths"]

    def example(path: str, name: str) -> bytes:
        body = paths[path]["post"]["requestBody"]["content"]["application/json"]
        return json.dumps(body["examples"][name]["value"]).encode()

    predict, invoke = f"/models/{spec.name}/predict", f"/models/{spec.name}/invocations"
    split = example(invoke, "one row")
    asked = [
        Asking("MLflow's server, /invocations", theirs, "/invocations", split),
        Asking("ours, /invocations", ours, "/invocations", split),
        Asking("ours, by features", ours, predict, example(predict, "by features")),
        Asking("ours, by entity", ours, predict, example(predict, "by entity")),
    ]
    first, second = (one.answer()["predictions"] for one in asked[:2])
    if first != second:
        raise SystemExit(f"the servers answer differently: {first} and {second}")
    row = json.loads(split)["dataframe_split"]["data"]
    inputs = frame_of(input_columns(spec), row)
    threadpool_limits(1)  # as both servers have it
    alone = bare(lambda: fitted.probabilities(inputs))
    for _ in range(ROUNDS):
        for connections in CONNECTIONS:
            for one in asked:
                one.load(connections)
    print(f"load of the machine: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")
    print(f"bare prediction of one row from a frame: {alone:.2f} ms\n")
    print(f"{'one row, one worker':34}{'connections':>12}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for one in asked:
        for connections in CONNECTIONS:
            rate = np.median(one.rates[connections])
            p50, p99 = one.p(connections, 50), one.p(connections, 99)
            print(f"{one.title:34}{connections:12}{rate:8,.0f}{p50:8.2f}{p99:8.2f}")
    rates = [float(np.median(one.rates[8])) for one in asked[:2]]
    measured = [rates[1] / rates[0], asked[2].p(4, 50) - alone, asked[3].p(4, 50) - alone]
    missed = 0
    print(f"\n{'goal':62}{'measured':>9}{'goal':>8}")
    for (title, (goal, sign)), value in zip(GOALS.items(), measured, strict=True):
        met = value >= goal if sign == ">=" else value <= goal
        missed += not met
        print(f"{title:62}{value:9.2f} {sign:>3}{goal:4.0f}{'' if met else ' MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
