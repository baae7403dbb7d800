"""Parity of online and offline features: what differs between two answers, and why.

Compares values; reading either side belongs to the stores.
"""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal["stale", "late", "expired", "transform"]


@dataclass(frozen=True)
class Side:
    """One side's answer for a feature: its value, the event time of its row, whether expired.

    `event_time` is None where there is no row, and for features computed at request time.
    """

    value: Any
    event_time: dt.datetime | None
    expired: bool = False


@dataclass(frozen=True)
class Difference:
    """A feature of a row whose online value is not the offline one."""

    feature: str
    row: str
    online: Any
    offline: Any
    cause: Cause


def difference(feature: str, row: str, online: Side, offline: Side) -> Difference | None:
    """Compare one value; None when both sides agree.

    The causes: `expired` (online answers nothing because its row is older than the TTL), `stale`
    (online has an older row, or none), `late` (online has a row that was not known offline at
    that moment), `transform` (both have the same row, and yet another value).
    """
    if equal(online.value, offline.value):
        return None
    cause: Cause = "transform"
    if online.expired:
        cause = "expired"
    elif online.event_time != offline.event_time:
        missing = online.event_time is None
        older = not missing and offline.event_time is not None
        behind = older and online.event_time < offline.event_time  # type: ignore[operator]
        cause = "stale" if missing or behind else "late"
    return Difference(feature, row, online.value, offline.value, cause)


def equal(left: Any, right: Any) -> bool:
    """Whether two values are the same; null, NaN and absent are one.

    >>> equal(float("nan"), None), equal(1.0, 1), equal(0.1, 0.2)
    (True, True, False)
    """
    gone = [
        value is None or (isinstance(value, float) and math.isnan(value)) for value in (left, right)
    ]
    return all(gone) or (not any(gone) and left == right)
