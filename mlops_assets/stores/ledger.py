"""The ledger: an append-only, hash-chained record of releases, and the state of each model.

Who did what to which model, when, why and on which evidence. Every append is one transaction that
locks the end of the chain, and reading takes no lock. Whether something may be done is decided by
`releases`; here is only what was done. This module imports SQLAlchemy, so import it where a ledger
is opened.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from mlops_assets.core import ledger_chain
from mlops_assets.core.ledger_chain import Action, Broken, Entry, Head, Record
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Intent, ModelState
from mlops_assets.errors import LedgerError
from mlops_assets.stores.ledger_database import LedgerDatabase
from mlops_assets.stores.ledger_tables import (
    ENTRIES,
    HEAD,
    MODELS,
    aliases_of,
    entry_of,
    row_of,
    state_of,
)

_AT_ONCE = 1_000
"""Entries that `verify` reads at once."""

_NO_HEAD = Head(-1, "deleted")
"""What is remembered of the chain when its head was deleted: nothing that could be true."""


class Ledger:
    """The ledger of all models.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://...`; the tables are made on first use.
        clock: gives the time, with a zone.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.database = LedgerDatabase(url)
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.database.shown!r})"

    def entries(
        self,
        model: str | None = None,
        *,
        version: str | None = None,
        actions: Sequence[Action] = (),
        last: int | None = None,
    ) -> list[Entry]:
        """Entries in their order.

        Args:
            model: of this model only.
            version: about this version of the model only.
            actions: of these actions only.
            last: so many at most, the newest ones.
        """
        query = select(ENTRIES).order_by(ENTRIES.c.seq.desc())
        if model is not None:
            query = query.where(ENTRIES.c.model == model)
        if version is not None:
            query = query.where(ENTRIES.c.version == version)
        if actions:
            query = query.where(ENTRIES.c.action.in_(actions))
        with self.database.reading() as connection:
            rows = connection.execute(query if last is None else query.limit(last)).all()
        return [entry_of(row) for row in reversed(rows)]

    def since(self, seq: int, most: int) -> list[Entry]:
        """The entries after a number, oldest first, so many at most."""
        query = select(ENTRIES).where(ENTRIES.c.seq > seq).order_by(ENTRIES.c.seq).limit(most)
        with self.database.reading() as connection:
            return [entry_of(row) for row in connection.execute(query)]

    def entry(self, seq: int) -> Entry:
        """An entry by its number.

        Raises:
            LedgerError: when there is none.
        """
        with self.database.reading() as connection:
            row = connection.execute(select(ENTRIES).where(ENTRIES.c.seq == seq)).one_or_none()
        if row is None:
            raise LedgerError(
                f"the ledger has no entry {seq}",
                expected="a number that an entry has",
                do="verify the chain: an entry that was there is never deleted",
            )
        return entry_of(row)

    def head(self) -> Head:
        """The end of the chain."""
        with self.database.reading() as connection:
            return _head(connection, select(HEAD))

    def state(self, model: str) -> ModelState:
        """Where a model's aliases belong, and the move that is under way."""
        with self.database.reading() as connection:
            return _state(connection, select(MODELS).where(MODELS.c.model == model), model)

    def states(self) -> list[ModelState]:
        """The states of all models that the ledger knows, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(MODELS).order_by(MODELS.c.model)).all()
        return [state_of(row) for row in rows]

    def verify(self, anchors: Mapping[int, str] | None = None) -> Broken | None:
        """Recompute the whole chain; None when nobody has touched it.

        Args:
            anchors: hashes by number of entry that were noted elsewhere.
        """
        with self.database.reading(one_moment=True) as connection:
            head = _head(connection, select(HEAD))
            states = {row.model: aliases_of(row) for row in connection.execute(select(MODELS))}
            return ledger_chain.verify(
                _stream(connection),
                head=head,
                states={model: aliases.versions for model, aliases in states.items()},
                anchors=anchors,
            )

    @contextlib.contextmanager
    def holding(self, model: str) -> Iterator[None]:
        """Keep everybody else from moving the aliases of a model.

        The lock is gone when the process dies; what it leaves is the intent in the model's state.
        """
        with self.database.holding(model):
            yield

    def append(
        self, record: Record, *, also: Callable[[Connection, Entry], None] | None = None
    ) -> Entry:
        """Add an entry that moves no alias.

        Args:
            record: what it says.
            also: writes what belongs to the entry, in its transaction: both are there or neither.
        """
        with self.database.writing() as connection:
            entry = self._append(connection, record, after=None)
            if also:
                also(connection, entry)
            return entry

    def begin(self, intent: Intent) -> None:
        """Write down what is about to be done.

        Raises:
            LedgerError: when the model is not in the state that the intent starts from.
        """
        model = intent.record.model
        with self.database.writing() as connection:
            state = _locked_state(connection, model)
            if state.intent or state.aliases != intent.before:
                raise _overtaken(model)
            _write_state(connection, replace(state, intent=intent))

    def record(self, intent: Intent) -> Intent:
        """Add the entry of an intent whose aliases were moved; the state is what it leaves.

        Returns:
            The intent with the number of its entry.

        Raises:
            LedgerError: when somebody else has ended the intent.
        """
        with self.database.writing() as connection:
            entry = self._append(connection, intent.record, intent.after, intent)
            recorded = intent.recorded(entry.seq)
            state = _locked_state(connection, entry.model)
            _write_state(connection, replace(state, intent=recorded))
        return recorded

    def end(
        self, intent: Intent, record: Record | None = None, after: Aliases | None = None
    ) -> Entry | None:
        """Forget an intent that was carried out or undone.

        Args:
            intent: the intent.
            record: what else to say about it.
            after: the aliases that are left, when they are others than the state's.

        Returns:
            The entry of the record.

        Raises:
            LedgerError: when somebody else has ended the intent.
        """
        model = intent.record.model
        with self.database.writing() as connection:
            entry = self._append(connection, record, after, intent) if record else None
            state = _locked_state(connection, model)
            _owned(state, intent)
            _write_state(connection, replace(state, intent=None))
        return entry

    def close(self) -> None:
        """Close the connections; the next use opens others."""
        self.database.close()

    def _append(
        self,
        connection: Connection,
        record: Record,
        after: Aliases | None,
        intent: Intent | None = None,
    ) -> Entry:
        # Whoever appends locks the head first and the model's row second: nobody waits in a ring.
        head = _head(connection, select(HEAD).with_for_update())
        if head == _NO_HEAD:
            raise LedgerError(
                "the ledger does not know where its chain ends",
                expected="the head of the chain in the table ledger_head",
                do="restore the ledger from a copy: somebody has deleted its head",
            )
        state = _locked_state(connection, record.model)
        if intent:
            _owned(state, intent)
        left = state.aliases if after is None else after
        entry = ledger_chain.chained(
            record,
            head,
            time=self._clock(),
            before=state.aliases.versions,
            after=left.versions,
        )
        connection.execute(insert(ENTRIES).values(row_of(entry)))
        connection.execute(update(HEAD).values(seq=entry.seq, hash=entry.hash))
        moved = left.champion != state.aliases.champion
        changed = replace(
            state,
            aliases=left,
            updated_seq=entry.seq,
            champion_seq=entry.seq if moved else state.champion_seq,
        )
        _write_state(connection, changed)
        return entry


def _stream(connection: Connection) -> Iterator[Entry]:
    """All entries in order, some at a time."""
    last = None
    while True:
        query = select(ENTRIES).order_by(ENTRIES.c.seq).limit(_AT_ONCE)
        if last is not None:
            query = query.where(ENTRIES.c.seq > last)
        rows = connection.execute(query).all()
        yield from map(entry_of, rows)
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1].seq


def _head(connection: Connection, query: Select[Any]) -> Head:
    row = connection.execute(query).one_or_none()
    return Head(row.seq, row.hash) if row else _NO_HEAD


def _state(connection: Connection, query: Select[Any], model: str) -> ModelState:
    row = connection.execute(query).one_or_none()
    return state_of(row) if row else ModelState(model)


def _locked_state(connection: Connection, model: str) -> ModelState:
    query = select(MODELS).where(MODELS.c.model == model).with_for_update()
    return _state(connection, query, model)


def _write_state(connection: Connection, state: ModelState) -> None:
    columns = {
        "champion": state.aliases.champion,
        "challenger": state.aliases.challenger,
        "archived": state.aliases.archived,
        "intent": state.intent.text if state.intent else None,
        "updated_seq": state.updated_seq,
        "champion_seq": state.champion_seq,
    }
    changed = connection.execute(
        update(MODELS).where(MODELS.c.model == state.model).values(columns)
    )
    if changed.rowcount == 0:
        connection.execute(insert(MODELS).values(model=state.model, **columns))


def _owned(state: ModelState, intent: Intent) -> None:
    if state.intent is None or state.intent.id != intent.id:
        raise _overtaken(intent.record.model)


def _overtaken(model: str) -> LedgerError:
    return LedgerError(
        f"the state of {model!r} was changed by somebody else during the move",
        expected="one move of a model at a time",
        do="look at the newest entries of the model, and decide again",
    )
