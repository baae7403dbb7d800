"""The servers of development: Dagster (webserver and daemon) and MLflow's UI, as child processes.

Starting, waiting until they answer, stopping. What they show is decided elsewhere.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.errors import MlopsAssetsError
from mlops_assets.settings import Settings

HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 20


class ServerError(MlopsAssetsError):
    """A server of development did not come up."""


@dataclass(frozen=True)
class Server:
    """A running server, the address it answers on, and the file that has its output."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Server, ...]]:
    """Run both servers on free ports for the length of the block.

    Raises:
        ServerError: when one of them ends or does not answer in time.
    """
    dagster_port, mlflow_port = _free_port(), _free_port()
    location = ["-w", "workspace.yaml"] if Path("workspace.yaml").exists() else []
    commands = {
        "Dagster": (
            dagster_port,
            ["dagster", "dev", "-h", HOST, "-p", str(dagster_port), "--log-level", "warning"],
            location or ["-m", "mlops_assets.definitions"],
        ),
        "MLflow": (
            mlflow_port,
            ["mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1"],
            [
                *("--backend-store-uri", settings.mlflow_uri),
                *("--default-artifact-root", (settings.mlflow / "artifacts").as_uri()),
            ],
        ),
    }
    servers: list[Server] = []
    try:
        for name, (port, command, options) in commands.items():
            servers.append(_start(settings, name, port, [*command, *options]))
        for server in servers:
            _wait(server)
        yield tuple(servers)
    finally:
        for server in servers:
            _stop(server.process)


def _start(settings: Settings, name: str, port: int, command: Sequence[str]) -> Server:
    log = settings.root / "logs" / f"{name.lower()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches us alone, and we stop the whole group.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(name, f"http://{HOST}:{port}", process, log)


def _wait(server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.address, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    tail = server.log.read_text(errors="replace")[-1500:]
    code = server.process.poll()
    raise ServerError(
        f"{server.name} does not answer on {server.address}"
        + (f": it ended with code {code}" if code is not None else ""),
        expected=f"an answer within {START_SECONDS} s",
        do=f"read {server.log}; it ends with:\n{tail}",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if _gone(process):
            return
        with suppress(ProcessLookupError):  # it may end in the meantime
            os.killpg(process.pid, sign)
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end and not _gone(process):
            time.sleep(0.1)


def _gone(process: subprocess.Popen[bytes]) -> bool:
    """Whether the whole process group has ended."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
