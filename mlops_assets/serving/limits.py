"""What stands before every request: admission, limits, time, headers, and a line in the log.

One ASGI layer around the app. It knows paths and bytes, and nothing of models; how refusals look
is in `refusals`, who is admitted in `auth`.
"""

import asyncio
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops_assets.serving.auth import role_for
from mlops_assets.serving.bodies import NOTES, refused
from mlops_assets.serving.options import is_loopback
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.worker import Worker

DOCS = "/docs"
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_STRICT = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# The page of the interfaces runs a program of this server, and a few lines in the page itself.
_OF_DOCS = (
    b"content-security-policy",
    b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
)
_log = logging.getLogger("mlops_assets.requests")
_errors = logging.getLogger(__name__)


class Guard:
    """The layer around the app.

    Args:
        app: what answers.
        worker: whose limits and tokens count.
    """

    def __init__(self, app: ASGIApp, worker: Worker) -> None:
        self._app, self._worker, self._options = app, worker, worker.options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        call = _Call(scope, receive, send, self._options.most_body_bytes)
        try:
            who = self._admitted(call)
            scope[NOTES] = {"client": who} if who else {}
            await self._limited(call)
        except Refusal as refusal:
            await call.refuse(refusal)
        except Exception:
            # Told to the log and to nobody else: an answer has no trace and no path.
            _errors.exception("a request was not answered")
            await call.fail()
        finally:
            self._note(call, started)

    def _admitted(self, call: "_Call") -> str:
        headers, tokens = call.headers, self._worker.tokens
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and call.method != "GET":
            raise Refusal(
                "a request that another web page sent",
                expected="programs, or the page of this server",
                do="call the server from a program",
                status=403,
            )
        if not tokens.asked:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
            if not is_loopback(name.strip("[]")):
                raise Refusal(
                    "another name of this server",
                    expected="127.0.0.1 or localhost, as long as there are no tokens",
                    do="call it by its address, or create tokens",
                    status=403,
                    field="Host",
                )
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        return tokens.admit(authorization, call.path)

    async def _limited(self, call: "_Call") -> None:
        if role_for(call.path) != "predict":
            # Whoever looks after the server is answered at any load.
            await self._timed(call, move=call.method == "POST")
            return
        worker = self._worker
        if worker.in_work >= self._options.most_concurrent:
            raise Refusal(
                "more requests than are worked on at one time",
                expected=f"at most {self._options.most_concurrent} in a worker",
                do="wait for the seconds in Retry-After",
                status=429,
                retry_after=1,
            )
        worker.take(1)
        try:
            # All requests that have arrived are counted before the first of them is worked on.
            await asyncio.sleep(0)
            await self._timed(call)
        finally:
            worker.take(-1)

    async def _timed(self, call: "_Call", *, move: bool = False) -> None:
        try:
            async with asyncio.timeout(self._options.request_seconds) as limit:
                # A move that was begun is made, however long it takes: nobody is told otherwise.
                call.limit_of_body = limit if move else None
                await self._app(call.scope, call.receive, call.send)
        except TimeoutError:
            slow_client = not call.received
            raise Refusal(
                "a body that did not arrive in time" if slow_client else "a request that took long",
                expected=f"at most {self._options.request_seconds:g} seconds",
                do="send it again" if slow_client else "send fewer rows at one time, or ask later",
                status=408 if slow_client else 503,
                retry_after=None if slow_client else 1,
            ) from None

    def _note(self, call: "_Call", started: float) -> None:
        template = call.route
        self._worker.metrics.answered(template, call.status)
        if call.path in ("/ping", "/v2/health/live", "/v2/health/ready", "/metrics"):
            return
        _log.info(
            "request",
            extra={
                "fields": {
                    "method": call.method,
                    "route": template,
                    "status": call.status,
                    "ms": round((time.perf_counter() - started) * 1000, 3),
                    **(call.scope.get(NOTES) or {}),
                }
            },
        )


class _Call:
    """One request and what became of it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most_bytes: int) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        # Only of a POST a body is waited for.
        self.status, self.received = 0, self.method != "POST"
        self.limit_of_body: asyncio.Timeout | None = None
        self._left, self._most = most_bytes, most_bytes
        length = self.headers.get(b"content-length", b"0")
        self._too_long = length.isdigit() and int(length[:20]) > most_bytes

    @property
    def route(self) -> str:
        """The address as it is declared; one word for all addresses that are not there."""
        return getattr(self.scope.get("route"), "path", "other")

    async def receive(self) -> Message:
        """The next part of the body, as long as it is not too long."""
        if self._too_long:
            raise self._refused()
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.received = not message.get("more_body", False)
            if self._left < 0:
                raise self._refused()
            if self.received and self.limit_of_body:
                self.limit_of_body.reschedule(None)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the first gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            policy = _OF_DOCS if self.path == DOCS else _STRICT
            message["headers"] = [*message["headers"], *_ALWAYS, policy]
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a refusal, unless an answer has begun."""
        if not self.status:
            await refused(refusal)(self.scope, self.receive, self.send)

    async def fail(self) -> None:
        """Answer that it is our fault, unless an answer has begun."""
        failure: Any = Refusal(
            "an error of the server", expected="an answer", do="tell the operator", status=500
        )
        await self.refuse(failure)

    def _refused(self) -> Refusal:
        return Refusal(
            f"a body of more than {self._most:,} bytes",
            expected=f"at most {self._most:,}",
            do="send the rows in several requests",
            status=413,
        )
