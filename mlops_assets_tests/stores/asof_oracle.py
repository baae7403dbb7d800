"""The point-in-time rule, written down once more from its definition and by brute force.

Nothing here knows SQL, Feast or the store under test: plain lists of dicts, every pair compared.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]


def possible_answers(
    entity: Row,
    features: Sequence[Row],
    keys: Sequence[str],
    ttl: timedelta | None,
    as_known: bool,
) -> list[Row | None]:
    """All feature rows that may answer one entity row; [None] where nothing was knowable.

    There are several only where rows are tied on keys, event time and created time.
    """
    moment = entity["time"]
    if moment is None or any(entity[key] is None for key in keys):
        return [None]
    candidates = [
        row
        for row in features
        if all(row[key] == entity[key] for key in keys)
        and row["event"] is not None
        and row["event"] <= moment
        and not (as_known and created(row) > moment)
    ]
    if not candidates:
        return [None]
    best = max((row["event"], created(row)) for row in candidates)
    if ttl and best[0] < moment - ttl:
        return [None]
    return [row for row in candidates if (row["event"], created(row)) == best]


def created(row: Row) -> datetime:
    """When a row was created; without that, when it happened."""
    return row["event"] if row["created"] is None else row["created"]
