"""What the tests of the ledger build with: databases, records, and somebody who tampers."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Intent
from mlops_assets.stores.ledger import Ledger

DATABASES = ("sqlite", "postgres")
POSTGRES_URL = os.environ.get(
    "MLOPS_TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
MODEL = "returns"
NOW = datetime(2013, 12, 1, 8, 30, 0, 5, tzinfo=UTC)
REQUEST = Record(action="request", model=MODEL, actor="ann", reason="please", version="1")
FULL = Record(
    action="release",
    model=MODEL,
    actor="Zoë ☂",
    reason="it is better\nmuch 'better'",
    version="2",
    from_version="1",
    evidence={"digest": "d", "metrics": {"auc": 0.1 + 0.2, "n": 2**70, "ok": True, "no": None}},
    snapshot="s",
    git_commit="c",
    feature_service_digest="f",
    approver="bob",
)
AFTER = Aliases("2", None, "1")


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Address of a new database, which is gone afterwards; skips without a server, not in CI."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'ledger' / 'ledger.db'}"
        return
    url, name = sa.make_url(POSTGRES_URL), f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
            connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    except sa.exc.OperationalError as error:
        reason = f"no Postgres at {url.render_as_string(hide_password=True)}: {error.orig}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def opened(kind: str, folder: Path, **more: Any) -> Iterator[Ledger]:
    """A new ledger."""
    with database(kind, folder) as url:
        ledger = unsynced(Ledger(url, **more))
        yield ledger
        ledger.close()


def unsynced(ledger: Ledger) -> Ledger:
    """The ledger without waiting for the disk: processes are killed here, but no power is cut."""
    if ledger.database.is_sqlite:
        engine = ledger.database.engine
        sa.event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
        engine.dispose()
    return ledger


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = unsynced(Ledger(url, clock=lambda: NOW))
    yield ledger
    ledger.close()


def intent(record: Record = FULL, before: Aliases | None = None, name: str = "i") -> Intent:
    before = before or Aliases()
    return Intent(name, record, before, before, AFTER)


def begun(ledger: Ledger) -> Intent:
    ledger.begin(intent())
    return ledger.record(intent())


def move(ledger: Ledger) -> Intent:
    recorded = begun(ledger)
    ledger.end(recorded)
    return recorded


@contextmanager
def unprotected(ledger: Ledger) -> Iterator[sa.Connection]:
    """A transaction of somebody who owns the database, and has taken the triggers away."""
    with ledger.database.engine.connect() as connection:
        if ledger.database.is_sqlite:
            for change in ("update", "delete"):
                connection.execute(sa.text(f"DROP TRIGGER IF EXISTS ledger_entries_no_{change}"))
        else:
            connection.execute(sa.text("ALTER TABLE ledger_entries DISABLE TRIGGER ALL"))
        yield connection
        connection.commit()


def found(ledger: Ledger) -> tuple[int, str]:
    broken = ledger.verify()
    assert broken
    return broken.seq, broken.fault
