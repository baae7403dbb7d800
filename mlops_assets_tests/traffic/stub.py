"""A server of a few lines that answers as a test says, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Said = tuple[int, dict[str, str], Any] | None
"""Status, headers and body; None closes the connection without an answer."""


@dataclass(frozen=True)
class Asked:
    path: str
    document: Any
    headers: dict[str, str]
    at: float


@dataclass
class Stub:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, what: str) -> list[Asked]:
        return [one for one in self.asked if one.path.endswith(what)]

    def outcomes(self) -> list[tuple[str, Any]]:
        found = [told for one in self.of("outcomes") for told in one.document["outcomes"]]
        return [(told["prediction_id"], told["label"]) for told in found]


def predicted(document: Any) -> Said:
    """A prediction whose id names the row."""
    [rows] = document.values()
    one = {"version": "1", "arm": "champion", "features": {}}
    return 200, {}, {"predictions": [{"prediction_id": f"p{rows[0]['n']}", **one}]}


def taken(document: Any) -> Said:
    return 202, {}, {"accepted": len(document["outcomes"])}


def usual(path: str, document: Any) -> Said:
    return predicted(document) if path.endswith("predict") else taken(document)


@contextmanager
def serving(answer: Callable[[str, Any], Said] = usual) -> Iterator[Stub]:
    """A server that answers POST by a function, and GET with 200."""
    stub, lock, inside = Stub(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the answer waits for the client to acknowledge its head.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                inside[0] += 1
                stub.most_at_once = max(stub.most_at_once, inside[0])
                stub.asked.append(Asked(self.path, body, dict(self.headers), time.monotonic()))
            said = answer(self.path, body)
            with lock:
                inside[0] -= 1
            self.tell(said)

        def do_GET(self) -> None:
            with lock:
                stub.asked.append(Asked(self.path, None, dict(self.headers), time.monotonic()))
            self.tell((200, {}, {"ready": True}))

        def tell(self, said: Said) -> None:
            if said is None:
                self.close_connection = True
                return
            status, headers, document = said
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
