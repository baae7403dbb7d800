"""The replay: sends what the schedule says, when it says so, and loses nothing silently.

One thread walks through the schedule and waits; a bounded number of others send and read. An
outcome needs the id of its prediction, so it waits for the answer, and never goes ahead of it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mlops_assets.errors import DataError
from mlops_assets.traffic.client import Answer, NoAnswer, Server
from mlops_assets.traffic.options import TrafficOptions
from mlops_assets.traffic.schedule import Pace, Row, events
from mlops_assets.traffic.tally import OUTCOMES, PREDICT, Tally

BY_HAND = "stopped by hand"
UNREADABLE, SILENT = "unreadable", "no answer"
AGAIN = frozenset({429, 503})
"""Answers after which the request is sent again."""

TOO_MANY = frozenset({400, 413})
"""Answers to several outcomes of which some, or fewer at one time, may be taken."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before asking a server again that did not answer: twice as long each time."""

LOOK_SECONDS = 0.05
"""Pause between looks at predictions whose outcomes are due."""


def check(server: Server, model: str, url: str) -> None:
    """Refuse to begin where nobody can answer: no server, no such model, no right to ask.

    Raises:
        DataError: saying which.
    """
    try:
        found = server.ask("GET", f"/v2/models/{model}/ready")
    except NoAnswer as away:
        raise DataError(
            f"{url} does not answer ({away})",
            expected="a model server",
            do="start one: mlops-assets serve, or name its address: --url",
        ) from away
    finally:
        server.close()  # the rows are read next, and no server keeps a connection that long
    if 400 <= found.status < 500 and found.status not in AGAIN:
        raise DataError(
            f"{url} answers {found.status}: {found.message}",
            expected=f"a server that serves {model!r} to this client",
            do="put a token of the role predict into MLOPS_TOKEN"
            if found.status in (401, 403)
            else f"release a version of {model!r}, or name another server: --url",
        )


def started(threads: int) -> ThreadPoolExecutor:
    """A pool all of whose threads run already.

    A pool starts its threads as work comes, and Ctrl-C between the start of one and the note of
    it would leave a thread for which nobody waits, and whose answer nobody counts.
    """
    pool = ThreadPoolExecutor(threads, "traffic")
    all_there = threading.Event()
    try:
        for _ in range(threads):
            pool.submit(all_there.wait)
    finally:
        all_there.set()
    return pool


class Replay:
    """A replay of rows of one model.

    Args:
        server: who is asked.
        model: its name.
        options: how fast, how many at one time, how patient.
        tally: is told what becomes of each row.
        clock: seconds, as `time.monotonic` tells them.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        options: TrafficOptions,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._options, self._tally, self._clock = server, options, tally, clock
        self._paths = {what: f"/models/{model}/{what}" for what in (PREDICT, OUTCOMES)}
        self._stop = threading.Event()
        self._room = threading.BoundedSemaphore(options.connections)
        self._ids: dict[int, str | None] = {}
        self._due: deque[Row] = deque()
        self._ready: list[tuple[str, Row]] = []
        self._silent_since: float | None = None
        self._error: BaseException | None = None

    def run(self, rows: Iterable[Row]) -> Tally:
        """Replay rows; Ctrl-C lets the requests in work end, and ends it.

        Raises:
            MlopsAssetsError: rows out of order.
        """
        pool = started(self._options.connections)
        began = self._clock()
        try:
            self._walk(pool, rows, began)
            self._settle(pool)
        except KeyboardInterrupt:
            self._end(BY_HAND)
        finally:
            self._stop.set()
            pool.shutdown(wait=True)
            self._server.close()
            self._tally.seconds = self._clock() - began
        if self._error is not None:
            raise self._error
        return self._tally

    def _walk(self, pool: ThreadPoolExecutor, rows: Iterable[Row], began: float) -> None:
        pace: Pace | None = None
        for event in events(rows):
            pace = pace or Pace(event.at, self._options.speed)
            if not self._wait(pool, began + pace.due(event.at)):
                return
            self._tally.at = event.at
            if event.kind == "outcome":
                self._due.append(event.row)
                self._post(pool, self._options.batch)
            elif self._submit(pool, self._predict, event.row):
                late = self._clock() - began - pace.due(event.at)
                if pace.speed:
                    self._tally.behind = max(self._tally.behind, late)

    def _wait(self, pool: ThreadPoolExecutor, until: float) -> bool:
        """Wait until a time of the clock; False when the replay has ended meanwhile."""
        while not self._stop.is_set() and (left := until - self._clock()) > 0:
            self._post(pool, 1)
            self._stop.wait(min(left, LOOK_SECONDS) if self._due else left)
        return not self._stop.is_set()

    def _settle(self, pool: ThreadPoolExecutor) -> None:
        """Wait for the answers that are still to come, and post the outcomes that are due."""
        self._idle()
        self._post(pool, 1)
        self._idle()

    def _idle(self) -> None:
        for _ in range(self._options.connections):
            self._room.acquire()
        for _ in range(self._options.connections):
            self._room.release()

    def _submit(
        self, pool: ThreadPoolExecutor, work: Callable[..., None], *arguments: object
    ) -> bool:
        """Do some work in a thread as soon as one is free; False when the replay has ended."""
        self._room.acquire()
        if self._stop.is_set():
            self._room.release()
            return False
        pool.submit(work, *arguments).add_done_callback(self._done)
        return True

    def _done(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:
            # A fault of ours: to go on would hide it.
            self._error = error
            self._stop.set()
        self._room.release()

    def _post(self, pool: ThreadPoolExecutor, least: int) -> None:
        """Post the outcomes that are due and whose predictions are answered, if so many are."""
        for _ in range(len(self._due)):
            row = self._due.popleft()
            if row.number not in self._ids:
                self._due.append(row)
                continue
            found = self._ids.pop(row.number)
            if found is None:
                self._tally.orphan()
            else:
                self._ready.append((found, row))
        while len(self._ready) >= least:
            batch, self._ready = (
                self._ready[: self._options.batch],
                self._ready[self._options.batch :],
            )
            if not self._submit(pool, self._outcomes, batch):
                return

    def _predict(self, row: Row) -> None:
        """Ask for a prediction, and keep its id for the outcome."""
        self._tally.ask(labelled=row.known_at is not None)
        found = None
        answer = self._ask(PREDICT, {self._options.by: [row.body]})
        if answer is not None and answer.status == 200:
            found = self._read(answer)
        elif answer is not None:
            self._tally.refuse(PREDICT, str(answer.status), answer.message)
        if row.known_at is not None:
            self._ids[row.number] = found

    def _read(self, answer: Answer) -> str | None:
        """The id of a prediction; None where the answer does not say it."""
        try:
            [one] = answer.document["predictions"]
            found, version, arm = (str(one[name]) for name in ("prediction_id", "version", "arm"))
            statuses = dict(one["features"])
        except (ValueError, KeyError, TypeError):
            self._tally.refuse(PREDICT, UNREADABLE, answer.message)
            return None
        self._tally.answer(version, arm, answer.seconds, statuses)
        return found

    def _outcomes(self, batch: Sequence[tuple[str, Row]]) -> None:
        """Say what became of predictions; where one of them is refused, the others still count."""
        # Without the time at which it became known: the server stamps it with the clock by which
        # it stamped the prediction, and by the clock of the data it would be known years before.
        told = [
            {
                "prediction_id": found,
                "label": row.label,
                **({"values": dict(row.values)} if row.values else {}),
            }
            for found, row in batch
        ]
        answer = self._ask(OUTCOMES, {"outcomes": told}, len(batch))
        if answer is None:
            return
        if answer.status == 202:
            self._tally.post(len(batch))
        elif answer.status in TOO_MANY and len(batch) > 1:
            half = len(batch) // 2
            self._outcomes(batch[:half])
            self._outcomes(batch[half:])
        else:
            self._tally.refuse(OUTCOMES, str(answer.status), answer.message, len(batch))

    def _ask(self, what: str, document: Any, count: int = 1) -> Answer | None:
        """The answer of the server; None where it was counted that there is none to use."""
        why = message = ""
        for attempt in range(self._options.tries):
            if attempt:
                self._tally.wait(why)
            try:
                answer = self._server.ask("POST", self._paths[what], document)
            except NoAnswer as away:
                why, message = SILENT, str(away)
                pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
                self._silence()
            else:
                self._silent_since = None
                if answer.status not in AGAIN:
                    return answer
                why, message, pause = str(answer.status), answer.message, answer.retry_after
            if attempt + 1 < self._options.tries and self._stop.wait(pause):
                break
        self._tally.refuse(what, why, message, count)
        return None

    def _silence(self) -> None:
        """End the replay when the server has answered nobody for too long."""
        now = self._clock()
        since = self._silent_since = self._silent_since or now
        if now - since >= self._options.patience_seconds:
            self._end(f"the server has not answered for {now - since:.0f} s")

    def _end(self, why: str) -> None:
        self._tally.ended = self._tally.ended or why
        self._stop.set()
