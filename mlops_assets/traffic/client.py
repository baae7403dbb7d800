"""Asking the server: one connection per thread, kept open, and answers as they come.

What an answer means, and whether to ask again, is decided in `replay`.
"""

import contextlib
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import orjson

from mlops_assets.traffic.options import TrafficOptions

IDLE_SECONDS = 2.0
"""A connection that was idle for longer is opened anew: servers close them, mostly after five."""

DEFAULT_WAIT, LONGEST_WAIT = 1.0, 60.0


class NoAnswer(Exception):  # noqa: N818
    """The server did not answer; whether it worked on the request is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered.

    Args:
        status: of HTTP.
        body: its bytes.
        retry_after: seconds after which to ask again.
        seconds: from sending to the last byte.
    """

    status: int
    body: bytes
    retry_after: float
    seconds: float

    @property
    def document(self) -> Any:
        """The JSON of the body; None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def message(self) -> str:
        """What the server says that is wrong, in one line."""
        document = self.document
        said = document.get("error") if isinstance(document, dict) else None
        if isinstance(said, str) and said:
            return said
        return self.body[:200].decode("utf-8", "replace").strip() or "no words"


class Server:
    """A model server.

    Args:
        options: its address, the token, and how long to wait.
    """

    def __init__(self, options: TrafficOptions) -> None:
        parts = urlsplit(options.url)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._timeout = options.timeout_seconds
        self._headers = {"Content-Type": "application/json"}
        if secret := options.token.get_secret_value():
            self._headers["Authorization"] = f"Bearer {secret}"
        self._own = threading.local()
        self._all: list[HTTPConnection] = []

    def ask(self, method: str, path: str, document: Any = None) -> Answer:
        """Send a request and read the answer.

        Raises:
            NoAnswer: when there is none, or half of one.
        """
        body = None if document is None else orjson.dumps(document)
        started = time.perf_counter()
        connection = self._connection(started)
        try:
            connection.request(method, self._path + path, body, self._headers)
            found = connection.getresponse()
            read = found.read()
        except (OSError, HTTPException) as away:
            connection.close()
            raise NoAnswer(f"{type(away).__name__}: {away}".rstrip(": ")) from away
        ended = self._own.used = time.perf_counter()
        wait = wait_of(found.getheader("Retry-After"))
        return Answer(found.status, read, wait, ended - started)

    def close(self) -> None:
        """Close all connections, for when nobody asks; who asks again opens a new one."""
        for connection in self._all:
            connection.close()

    def _connection(self, now: float) -> HTTPConnection:
        """The connection of this thread."""
        found: HTTPConnection | None = getattr(self._own, "connection", None)
        if found is None:
            found = self._kind(self._host, self._port, timeout=self._timeout)
            self._own.connection = found
            self._all.append(found)
        elif now - getattr(self._own, "used", now) > IDLE_SECONDS:
            found.close()
        return found


def wait_of(header: str | None) -> float:
    """Seconds that a Retry-After asks for: a number or a date, at most a minute.

    >>> wait_of("7"), wait_of(None), wait_of("soon"), wait_of("86400")
    (7.0, 1.0, 1.0, 60.0)
    """
    if header is None:
        return DEFAULT_WAIT
    found = float(header) if header.strip().isdecimal() else None
    if found is None:
        with contextlib.suppress(ValueError, TypeError):
            found = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    return DEFAULT_WAIT if found is None else min(max(found, 0.0), LONGEST_WAIT)
