"""A channel's server that can be down, slow or out of order, and alerts for it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlops_assets.core.alert import Alert
from mlops_assets.core.estimate import Estimate
from mlops_assets.stores.alert_channels import Channel

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "sesame-open-4711"  # noqa: S105


def alert(incident: str = "i1", kind: Any = "opened", severity: Any = "critical") -> Alert:
    estimate = Estimate(0.31, 0.25, 0.37, 2_000)
    return Alert(incident, kind, severity, "shop/drift/amount", SINCE, "PSI is high", estimate)


class Server:
    """What was taken, in order; `status` and `seconds` say how it answers."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.asked = threading.Event()
        self.status, self.seconds, self.port = 200, 0.0, 0
        self._http: ThreadingHTTPServer | None = None

    @property
    def incidents(self) -> list[str]:
        """Keys of the incidents in the bodies that were taken."""
        return [body["message"].rpartition("Incident: ")[2] for body in self.taken]

    def channel(self, name: str = "duty", **other: Any) -> Channel:
        return Channel(name, f"json://user:{SECRET}@127.0.0.1:{self.port}/{SECRET}", **other)

    def start(self) -> None:
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                world.asked.set()
                time.sleep(world.seconds)
                if world.status == 200:
                    world.taken.append(body)
                try:
                    self.send_response(world.status)
                    self.end_headers()
                except OSError:  # the sender did not wait
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,)).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.seconds = 0.0
        server.stop()
