"""A receiver of alerts on loopback that can be down: an HTTP server that keeps what it was told.

While it is down its port is taken and nobody listens, so that senders are refused as by a machine
whose service has stopped.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlops_assets.stores.alert_channels import Channel

MOST_BYTES = 1_000_000


class Receiver:
    """What was taken, in order."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), False)
        self._http.server_bind()
        self._thread: threading.Thread | None = None

    def channel(self, name: str = "duty") -> Channel:
        """The channel that leads here."""
        return Channel(name, f"json://127.0.0.1:{self._http.server_address[1]}/alerts")

    def up(self) -> None:
        """Begin to listen."""
        self._http.server_activate()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and give the port back."""
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = min(int(self.headers["Content-Length"]), MOST_BYTES)
                taken.append(json.loads(self.rfile.read(size)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def down() -> Iterator[Receiver]:
    """A receiver that does not listen yet."""
    found = Receiver()
    try:
        yield found
    finally:
        found.close()
