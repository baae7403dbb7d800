"""A worker of the model server in this process, asked over HTTP on loopback.

The real app around the real worker. Which versions it serves is decided by registry and ledger.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from mlops_assets.drills.home import WithoutEnvironment
from mlops_assets.errors import DataError
from mlops_assets.platform import Platform
from mlops_assets.serving.app import app_of
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 30.0
"""Seconds after which something that was to happen counts as not happened."""

Row = Mapping[str, Any]


class ScratchOptions(WithoutEnvironment, ServeOptions):
    """Options of a scratch server."""


@dataclass(frozen=True)
class Client:
    """Asks a server for predictions of one model."""

    port: int
    model: str

    def ask(self, rows: Sequence[Row], *, by: str = "features") -> list[dict[str, Any]]:
        """Predictions of rows.

        Args:
            rows: the rows.
            by: `features`, or `entities` whose features are read online.

        Raises:
            DataError: when the server refuses them.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            body = json.dumps({by: list(rows)})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"/models/{self.model}/predict", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise DataError(
                f"the server of a drill answered {answer.status}: {said[:300].decode()}",
                expected="predictions",
                do="look at the rows that the drill sends",
            )
        return list(json.loads(said)["predictions"])


@contextmanager
def serving(platform: Platform, spec: ModelSpec) -> Iterator[tuple[Worker, Client]]:
    """Serve a model for the length of the block; its logs are closed afterwards."""
    import uvicorn

    worker = Worker(platform, (spec,), ScratchOptions(poll_seconds=0.05))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app_of(worker), log_config=None, ws="none", server_header=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started, "the server starts")
            yield worker, Client(listening.getsockname()[1], spec.name)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def rows_of(inputs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as a client sends them, of inputs of shape (n, k)."""
    names = [str(name) for name in inputs]
    return [dict(zip(names, row, strict=True)) for row in inputs.to_numpy().tolist()]


def wait_for(ready: Callable[[], bool], what: str, seconds: float = PATIENCE) -> float:
    """Wait until something is so; the seconds that it took.

    Raises:
        DataError: when it did not become so in time.
    """
    start = time.monotonic()
    while not ready():
        if time.monotonic() - start > seconds:
            raise DataError(
                f"in {seconds:.0f} s it did not happen that {what}",
                expected="that it happens",
                do="look whether the machine is very busy, and run the drill again",
            )
        time.sleep(0.02)
    return time.monotonic() - start
