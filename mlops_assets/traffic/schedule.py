"""What is sent when: requests in the order of their times, outcomes when labels become known.

Pure: no clock, no network. Where rows come from is in `source`; sending is the matter of `replay`.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mlops_assets.errors import DataError, DeclarationError

MAX = "max"
"""The speed that waits for nobody but the server."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row to replay.

    Args:
        number: its place among the rows, from 0.
        at: time of the prediction, with a zone.
        body: what the request says of it.
        label: what became of it.
        known_at: when the label became known; None where it never does.
        values: what it brought, by name of the metric, known with the label.
    """

    number: int
    at: datetime
    body: Mapping[str, Any]
    label: Any = None
    known_at: datetime | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something to send: a request, or the outcome of one that was sent earlier."""

    at: datetime
    kind: Literal["request", "outcome"]
    row: Row


def events(rows: Iterable[Row]) -> Iterator[Event]:
    """Requests and outcomes in the order of their times, from rows in the order of theirs.

    At one time requests come first. An outcome follows its own request even where the label was
    known before; a row whose label never comes has none. Only rows whose outcome is still to come
    are kept in memory.

    Raises:
        DataError: rows out of order.
    """
    waiting: list[tuple[datetime, int, Row]] = []
    last: Row | None = None
    for row in rows:
        if last is not None and row.at < last.at:
            raise DataError(
                f"row {row.number} is of {row.at}, after one of {last.at}",
                expected="rows in the order of their times",
                do="sort the rows",
            )
        while waiting and waiting[0][0] < row.at:
            yield _outcome(waiting)
        yield Event(row.at, "request", row)
        if row.known_at is not None:
            heapq.heappush(waiting, (max(row.known_at, row.at), row.number, row))
        last = row
    while waiting:
        yield _outcome(waiting)


def _outcome(waiting: list[tuple[datetime, int, Row]]) -> Event:
    at, _, row = heapq.heappop(waiting)
    return Event(at, "outcome", row)


@dataclass(frozen=True, slots=True)
class Pace:
    """The sped-up clock.

    Args:
        start: the time that it shows at first.
        speed: seconds that it shows pass in one; 0 for a clock that waits for nobody.
    """

    start: datetime
    speed: float

    def due(self, at: datetime) -> float:
        """Seconds from the start until it shows a time; 0 for one before.

        >>> from datetime import UTC
        >>> Pace(datetime(2013, 11, 1, tzinfo=UTC), 3600).due(datetime(2013, 11, 1, 6, tzinfo=UTC))
        6.0
        """
        if not self.speed:
            return 0.0
        return max(0.0, (at - self.start).total_seconds() / self.speed)


def speed_of(words: str) -> float:
    """The speed that a word means; 0 for `max`.

    >>> speed_of("3600"), speed_of("max"), speed_of("0")
    (3600.0, 0.0, 0.0)

    Raises:
        DeclarationError: when it means none.
    """
    if words.strip().lower() == MAX:
        return 0.0
    try:
        found = float(words)
    except ValueError:
        found = -1.0
    if not math.isfinite(found) or found < 0:
        raise DeclarationError(
            f"the speed {words!r}",
            expected=f"how many times as fast as it happened, or {MAX}",
            do="write it like 3600: an hour of the data in a second",
        )
    return found
