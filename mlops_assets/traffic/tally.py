"""What became of a replay, counted: every row is answered, refused or not asked, and says so.

Counts only, safe between threads; how they are shown is in `printed`.
"""

import threading
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

REQUESTED = "REQUEST"
"""What the server calls a feature that the request gave: nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long answers took, in seconds; None without an answer."""

    n: int
    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, seconds: "array[float]") -> "Latency":
        """Quantiles by nearest rank: a value that was measured, not one between two.

        >>> Latency.of(array("d", [3.0, 1.0, 2.0]))
        Latency(n=3, p50=2.0, p99=3.0)
        """
        found, n = sorted(seconds), len(seconds)
        if not n:
            return cls(0, None, None)
        return cls(n, *(found[-(-n * percent // 100) - 1] for percent in (50, 99)))


@dataclass(slots=True)
class Tally:
    """Counts of a replay.

    Attributes:
        rows: all rows that were to be replayed.
        asked: rows of which a request was sent.
        never: rows asked whose label never comes.
        posted: outcomes that the server took.
        without: labels that came for a row whose request was refused.
        refused: what was refused, by what was asked and why; rows or outcomes.
        first: the first message of each.
        waits: answers 429 and 503, and requests without an answer, that were sent again.
        statuses: features that were not present in answers, by status.
        at: what the sped-up clock shows.
        behind: seconds by which a request was sent too late, at most.
        seconds: how long all of it took.
        ended: why it ended before its end; empty where it did not.
    """

    rows: int
    asked: int = 0
    never: int = 0
    posted: int = 0
    without: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)
    waits: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    at: datetime | None = None
    behind: float = 0.0
    seconds: float = 0.0
    ended: str = ""
    _latencies: dict[tuple[str, str], "array[float]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, *, labelled: bool) -> None:
        """Count a row that is sent."""
        with self._lock:
            self.asked += 1
            self.never += not labelled

    def answer(self, version: str, arm: str, seconds: float, statuses: Mapping[str, Any]) -> None:
        """Count a row that was answered, and how long its answer took."""
        with self._lock:
            self._latencies.setdefault((version, arm), array("d")).append(seconds)
            self.statuses.update(str(s) for s in statuses.values() if s != REQUESTED)

    def refuse(self, what: str, why: str, message: str, count: int = 1) -> None:
        """Count what the server did not take, and keep the first message."""
        with self._lock:
            self.refused[what, why] += count
            self.first.setdefault((what, why), message)

    def wait(self, why: str) -> None:
        """Count a request that is sent again."""
        with self._lock:
            self.waits[why] += 1

    def post(self, count: int) -> None:
        """Count outcomes that were taken."""
        with self._lock:
            self.posted += count

    def orphan(self) -> None:
        """Count a label whose prediction was not made."""
        with self._lock:
            self.without += 1

    @property
    def answered(self) -> int:
        """Rows that were answered."""
        with self._lock:
            return sum(map(len, self._latencies.values()))

    @property
    def not_asked(self) -> int:
        """Rows of which no request was sent."""
        return self.rows - self.asked

    @property
    def outstanding(self) -> int:
        """Labels that are known some time, of rows that were asked, and were not posted."""
        with self._lock:
            refused = sum(n for (what, _), n in self.refused.items() if what == OUTCOMES)
            return self.asked - self.never - self.posted - self.without - refused

    def latencies(self) -> dict[tuple[str, str], Latency]:
        """Latency by version and arm."""
        with self._lock:
            return {arm: Latency.of(found) for arm, found in sorted(self._latencies.items())}

    def latency(self) -> Latency:
        """Latency of all answers."""
        with self._lock:
            return Latency.of(array("d", [s for one in self._latencies.values() for s in one]))


PREDICT, OUTCOMES = "predict", "outcomes"
"""What is asked of a server."""
