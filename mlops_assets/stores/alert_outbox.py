"""The outbox of alerts: a table of messages, one row per incident, channel and step.

Writing down, claiming and marking messages in SQLite or Postgres. Nothing is sent here, and no
address of a channel is known: that is the matter of `alerts` and `alert_channels`.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    exists,
    inspect,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from mlops_assets.core.alert import Alert
from mlops_assets.core.incident import Severity
from mlops_assets.errors import DataError
from mlops_assets.stores.sql_database import SqlDatabase

FIRST_PAUSE = 30.0
"""Seconds after the first failure until the second try; each further pause is twice as long."""
LONGEST_PAUSE = 3_600.0
LEASE = 120.0
"""Seconds for which a sender has a message to itself; after that it is taken for dead."""

OUTBOX = Table(
    "alert_outbox",
    MetaData(),
    Column("incident", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("alert", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("put", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("leased", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("problem", Text),
    Column("delivered", Float),
)
"""The step is `alert` or `resolved`; times are seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that was not taken yet.

    Args:
        alert: the message.
        channel: whom it is for.
        attempts: how often it was tried.
        problem: what went wrong last; None before the first try.
        due: when it is tried next.
    """

    alert: Alert
    channel: str
    attempts: int
    problem: str | None
    due: datetime


class AlertOutbox:
    """Messages on their way; shared by threads and processes.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://...`; the table is made on first use.
        clock: gives the time in seconds since 1970.

    Raises:
        DeclarationError: when the address is neither of these.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._database = SqlDatabase(
            url,
            "outbox of alerts",
            is_current=lambda connection: inspect(connection).has_table(OUTBOX.name),
            migrate=lambda connection: OUTBOX.create(connection, checkfirst=True),
            error=DataError,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._database.shown!r})"

    def put(self, alert: Alert, channels: Collection[str]) -> int:
        """Write a message down for channels; that an incident is over, for those alerted of it.

        Returns:
            How many were written: none for a channel that was alerted of the incident before, but
            for a warning that still waits: what became critical takes its place.

        Raises:
            DataError: when the outbox cannot be written.
        """
        step, now = "resolved" if alert.kind == "resolved" else "alert", self.clock()
        insert = (sqlite if self._database.is_sqlite else postgresql).insert
        told = select(OUTBOX.c.channel).where(
            OUTBOX.c.incident == alert.incident, OUTBOX.c.step == "alert"
        )
        with self._database.writing() as connection:
            names = set(connection.scalars(told)) if step == "resolved" else set(channels)
            if not names:
                return 0
            rows = [
                {
                    "incident": alert.incident,
                    "channel": name,
                    "step": step,
                    "alert": alert.text,
                    "severity": alert.severity,
                    "put": now,
                    "due": now,
                    "leased": 0.0,
                    "attempts": 0,
                }
                for name in sorted(names)
            ]
            new = insert(OUTBOX).values(rows)
            written = new.on_conflict_do_update(
                index_elements=list(OUTBOX.primary_key),
                # A warning that nobody has taken must not keep back that it became critical.
                set_={name: new.excluded[name] for name in ("alert", "severity", "due")},
                where=and_(
                    OUTBOX.c.delivered.is_(None),
                    OUTBOX.c.severity == "warning",
                    new.excluded.severity == "critical",
                ),
            )
            return len(connection.execute(written.returning(OUTBOX.c.channel)).all())

    def claim(self, channel: str, severities: Collection[Severity]) -> Waiting | None:
        """The oldest message that is due for a channel, to this caller alone for a while.

        Raises:
            DataError: when the outbox cannot be read or written.
        """
        now = self.clock()
        due = (
            select(OUTBOX)
            .where(
                OUTBOX.c.channel == channel,
                OUTBOX.c.severity.in_(severities),
                OUTBOX.c.delivered.is_(None),
                OUTBOX.c.due <= now,
                OUTBOX.c.leased <= now,
                ~_held_up(),
            )
            .order_by(OUTBOX.c.put, OUTBOX.c.incident)
            .limit(1)
            .with_for_update(skip_locked=True, of=OUTBOX)
        )
        with self._database.writing() as connection:
            row = connection.execute(due).first()
            if row is None:
                return None
            found = _waiting(row)
            connection.execute(OUTBOX.update().where(_is(found)).values(leased=now + LEASE))
        return found

    def mark(self, message: Waiting, problem: str | None) -> None:
        """Note how the try of a claimed message went: None when it was taken.

        Raises:
            DataError: when the outbox cannot be written.
        """
        now = self.clock()
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(message.attempts, 20))
        values: dict[str, Any] = {"attempts": message.attempts + 1, "leased": 0.0}
        values |= {"problem": problem}
        values |= {"delivered": now} if problem is None else {"due": now + pause}
        with self._database.writing() as connection:
            connection.execute(OUTBOX.update().where(_is(message)).values(values))

    def waiting(self) -> tuple[Waiting, ...]:
        """All messages that were not taken yet, oldest first.

        Raises:
            DataError: when the outbox cannot be read.
        """
        rows = select(OUTBOX).where(OUTBOX.c.delivered.is_(None))
        with self._database.reading() as connection:
            found = connection.execute(rows.order_by(OUTBOX.c.put, OUTBOX.c.step)).all()
        return tuple(map(_waiting, found))

    def forget(self, before: datetime) -> int:
        """Remove incidents of which nothing waits and nothing was put since; count the messages.

        Raises:
            DataError: when the outbox cannot be written.
        """
        other = OUTBOX.alias("other")
        alive = exists().where(
            other.c.incident == OUTBOX.c.incident,
            or_(other.c.delivered.is_(None), other.c.put >= before.timestamp()),
        )
        with self._database.writing() as connection:
            return connection.execute(OUTBOX.delete().where(~alive)).rowcount

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        self._database.close()


def _is(message: Waiting) -> ColumnElement[bool]:
    step = "resolved" if message.alert.kind == "resolved" else "alert"
    return and_(
        OUTBOX.c.incident == message.alert.incident,
        OUTBOX.c.channel == message.channel,
        OUTBOX.c.step == step,
    )


def _held_up() -> ColumnElement[bool]:
    """The end of an incident is told after its beginning."""
    earlier = OUTBOX.alias("earlier")
    return and_(
        OUTBOX.c.step == "resolved",
        exists().where(
            earlier.c.incident == OUTBOX.c.incident,
            earlier.c.channel == OUTBOX.c.channel,
            earlier.c.step == "alert",
            earlier.c.delivered.is_(None),
        ),
    )


def _waiting(row: Any) -> Waiting:
    due = datetime.fromtimestamp(row.due, UTC)
    return Waiting(Alert.of_text(row.alert), row.channel, row.attempts, row.problem, due)
