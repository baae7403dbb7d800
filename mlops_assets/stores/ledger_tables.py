"""The tables of the ledger, and how rows become entries and states.

The same tables in SQLite and Postgres. Columns that are hashed are texts and whole numbers only,
because a database may keep other types in another form than it was given. Tables are made and
changed by `ledger_migrations` alone; a test compares them with what stands here.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, Column, Double, Index, Integer, MetaData, Row, Table, Text
from sqlalchemy.types import TypeEngine

from mlops_assets.core.ledger_chain import COLUMNS, Entry, canonical, time_text
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Intent, ModelState

METADATA = MetaData()

_DOUBLE: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
"""Eight bytes in both: strict tables of SQLite know no other name for it than REAL."""
_COUNT: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
"""Eight bytes in both as well."""

ENTRIES = Table(
    "ledger_entries",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text),
    Column("from_version", Text),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("snapshot", Text),
    Column("git_commit", Text),
    Column("feature_service_digest", Text),
    Column("approver", Text),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("ledger_entries_by_model", "model", "seq"),
    Index("ledger_entries_by_version", "model", "version", "seq"),
    sqlite_strict=True,
)
"""The chain, one row per entry; a trigger refuses to change or delete them."""

HEAD = Table(
    "ledger_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_strict=True,
)
"""One row: the end of the chain. Who appends an entry locks it."""

MODELS = Table(
    "ledger_models",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("champion", Text),
    Column("challenger", Text),
    Column("archived", Text),
    Column("intent", Text),
    Column("updated_seq", Integer, nullable=False),
    Column("champion_seq", Integer, nullable=False),
    sqlite_strict=True,
)
"""One row per model: where its aliases belong, and the move that is under way."""

ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("champion", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("entered", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    sqlite_strict=True,
)
"""One row per rollout or experiment; `seq` is the entry of its last move. A model has one that is
open: `rollouts_open` is a unique index over these."""

Index(
    "rollouts_open",
    ROLLOUTS.c.model,
    unique=True,
    sqlite_where=ROLLOUTS.c.is_open == 1,
    postgresql_where=ROLLOUTS.c.is_open == 1,
)

SUMS = Table(
    "rollout_sums",
    METADATA,
    Column("rollout", Text, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("number", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("n", _COUNT, nullable=False),
    Column("total", _DOUBLE, nullable=False),
    Column("squares", _DOUBLE, nullable=False),
    sqlite_strict=True,
)
"""What was counted of an arm in a stage of a rollout, by who counted it: running totals."""

CLAIMS = Table(
    "rollout_claims",
    METADATA,
    Column("rollout", Text, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("arm", Text, primary_key=True),
    Column("mark", _COUNT, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Who counts which entity of an arm, by a hash of it, while a rollout is open: who came first."""

VERSION_TABLE = "ledger_version"
"""Where Alembic keeps which migration was the last: MLflow or Dagster may live in the database."""

_JSON = ("before", "after", "evidence")
_UNREADABLE = datetime.min.replace(tzinfo=UTC)


def row_of(entry: Entry) -> dict[str, Any]:
    """The columns of an entry."""
    row = {name: getattr(entry, name) for name in COLUMNS}
    return {**row, "time": time_text(entry.time), **{name: canonical(row[name]) for name in _JSON}}


def entry_of(row: Row[Any]) -> Entry:
    """The entry in a row.

    What `row_of` never writes is read as something that breaks the hash, not as an error: an
    entry that was tampered with is to be found, and the others to be read.
    """
    columns = dict(row._mapping)
    return Entry(
        **{**columns, "time": _time(columns["time"])}
        | {name: _mapping(columns[name]) for name in _JSON}
    )


def state_of(row: Row[Any]) -> ModelState:
    """The state in a row."""
    return ModelState(
        model=row.model,
        aliases=aliases_of(row),
        intent=None if row.intent is None else Intent.of_text(row.intent),
        updated_seq=row.updated_seq,
        champion_seq=row.champion_seq,
    )


def aliases_of(row: Row[Any]) -> Aliases:
    """The aliases in a row of a model."""
    return Aliases(row.champion, row.challenger, row.archived)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time if time_text(time) == text else _UNREADABLE
    except (ValueError, OverflowError):
        return _UNREADABLE


def _mapping(text: str) -> Mapping[str, Any]:
    # Another spelling is a change too: of two equal keys, two readers may see different ones.
    try:
        value = json.loads(text)
        if isinstance(value, dict) and canonical(value) == text:
            return value
    except ValueError:
        pass
    return {"not the text that was written": text}
