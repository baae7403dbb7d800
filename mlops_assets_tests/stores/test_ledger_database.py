"""The database of the ledger: its schema, its locks, many processes, and secret addresses."""

import logging
import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from mlops_assets.errors import (
    DeclarationError,
    LedgerError,
)
from mlops_assets.stores import sql_database
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.ledger_schema import MIGRATIONS, NEWEST
from mlops_assets.stores.ledger_tables import HEAD, METADATA, VERSION_TABLE
from mlops_assets_tests.stores import ledger_world
from mlops_assets_tests.stores.ledger_world import (
    MODEL,
    REQUEST,
    opened,
    unprotected,
)

url, ledger = ledger_world.url, ledger_world.ledger


def test_the_tables_are_those_that_the_migrations_make(ledger: Ledger) -> None:
    with ledger.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_the_newest_migration_is_the_one_that_the_code_knows() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == NEWEST


def test_a_ledger_of_newer_code_is_left_alone(ledger: Ledger, url: str) -> None:
    ledger.append(REQUEST)
    with unprotected(ledger) as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = 'v9999'"))
    newer = Ledger(url)
    with pytest.raises(LedgerError, match="the ledger has the schema 'v9999'"):
        newer.entries()
    newer.close()


def test_a_file_waits_for_the_disk_so_that_no_entry_is_lost_with_the_power(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    with ledger.database.reading() as connection:
        found = [
            connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")
        ]
    assert found == ["wal", 2]
    ledger.close()


def _append(url: str, ready: Any, count: int) -> None:
    ledger = Ledger(url)
    ready.wait()
    for _ in range(count):
        ledger.append(REQUEST)


def test_processes_that_open_and_write_a_new_ledger_at_once_make_one_chain(url: str) -> None:
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(6)
    writers = [fork.Process(target=_append, args=(url, ready, 10)) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    ledger = Ledger(url)
    assert ledger.verify() is None
    assert ledger.head().seq == 60
    ledger.close()


def test_a_ledger_can_be_used_on_both_sides_of_a_fork(ledger: Ledger) -> None:
    ledger.append(REQUEST)
    child = multiprocessing.get_context("fork").Process(target=ledger.append, args=(REQUEST,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert ledger.append(REQUEST).seq == 3
    assert ledger.verify() is None


def test_readers_do_not_wait_for_a_writer(ledger: Ledger) -> None:
    ledger.append(REQUEST)
    with ledger.database.writing() as connection:
        connection.execute(sa.select(HEAD).with_for_update())
        connection.execute(sa.update(HEAD).values(seq=9))
        assert ledger.head().seq == 1
        assert ledger.verify() is None
        connection.rollback()


def test_a_model_is_held_by_one_at_a_time(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_database, "WAIT_SECONDS", 1)
    second = Ledger(url)
    with ledger.holding(MODEL):
        ledger.append(REQUEST)
        with pytest.raises(LedgerError, match="cannot be used"), second.holding(MODEL):
            pass
    with second.holding(MODEL):
        pass
    second.close()


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database, but long enough to look like one" * 99)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used: file is not a database"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db").entries()


def test_a_file_that_another_program_holds_is_waited_for_and_then_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("sqlite", tmp_path) as ledger:
        ledger.append(REQUEST)
        ledger.close()
        monkeypatch.setattr(sql_database, "WAIT_SECONDS", 0.1)
        impatient = Ledger(ledger.database.shown)
        other_program = sqlite3.connect(tmp_path / "ledger" / "ledger.db")
        other_program.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            impatient.append(REQUEST)
        other_program.close()
        impatient.close()


@pytest.mark.parametrize(
    "address",
    ["", "sqlite://", "sqlite:///:memory:", "mysql://ann:sesame@host/db", "ann:sesame@host"],
)
def test_an_address_of_something_else_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(DeclarationError, match="an address of the ledger") as refused:
        Ledger(address)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://ann:sesame@127.0.0.1:1/db?connect_timeout=2",
        "postgresql://ann@127.0.0.1:1/db?password=sesame&connect_timeout=2",
    ],
)
def test_a_password_is_never_shown(address: str, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(address)
    with caplog.at_level(logging.DEBUG), pytest.raises(LedgerError) as refused:
        ledger.entries()
    chain = (refused.value, refused.value.__cause__)
    assert "127.0.0.1:1/db cannot be used" in str(refused.value)
    assert "sesame" not in f"{ledger!r} {ledger.database!r} {chain} {caplog.text}"
