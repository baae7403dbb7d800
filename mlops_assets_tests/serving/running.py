"""Servers for tests: real sockets, real uvicorn, and a client of a few lines."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from mlops_assets.serving.app import app_of
from mlops_assets.serving.worker import Worker

PATIENCE = 120.0
"""Seconds: a server starts in ten, on a machine that has other things to do in a minute."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = 20,
    ) -> Answer:
        sent = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        typed = {"Content-Type": "application/json"} if body is not None else {}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, sent, {**typed, **(headers or {})})
            found = connection.getresponse()
            pairs = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, pairs, found.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, headers)


@contextmanager
def in_thread(worker: Worker, **config: Any) -> Iterator[Client]:
    """A worker behind uvicorn in a thread of this process."""
    import uvicorn

    quiet = {"log_config": None, "ws": "none", "server_header": False}

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app_of(worker), **quiet, **config))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


@contextmanager
def in_processes(
    home: Path, *, workers: int = 1, **options: Any
) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """The server as its command starts it, over the shop's home."""
    port = free_port()
    script = (
        "from mlops_assets.serving.command import serve; "
        f"serve(host='', port={port}, workers={workers})"
    )
    environment = {
        **os.environ,
        "MLOPS_HOME": str(home),
        "MLOPS_NOW": "2024-01-04T12:00:00Z",
        "MLOPS_SPECS": "mlops_assets_tests.serving.shop_home:SPECS",
        **{f"MLOPS_SERVE_{name.upper()}": str(value) for name, value in options.items()},
    }
    with (home / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=output, stderr=output
        )
    client = Client(port)
    try:
        wait_for(lambda: process.poll() is not None or answers(client))
        yield client, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def answers(client: Client) -> bool:
    try:
        return client.get("/v2/health/ready").status == 200
    except OSError:
        return False


def wait_for(ready: Any, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
