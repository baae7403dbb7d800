"""Whoever rewrites the ledger is found, in SQLite and in Postgres."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_assets.core.ledger_chain import COLUMNS
from mlops_assets.errors import (
    LedgerError,
)
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.ledger_tables import ENTRIES, HEAD, MODELS
from mlops_assets_tests.stores import ledger_world
from mlops_assets_tests.stores.ledger_world import FULL, REQUEST, found, move, unprotected

url, ledger = ledger_world.url, ledger_world.ledger


@pytest.mark.parametrize("statement", ["UPDATE {} SET reason = 'x'", "DELETE FROM {}"])
def test_the_database_refuses_to_change_an_entry(ledger: Ledger, statement: str) -> None:
    entry = ledger.append(FULL)
    with (
        pytest.raises(LedgerError, match="append-only"),
        ledger.database.writing() as connection,
    ):
        connection.execute(sa.text(statement.format("ledger_entries")))
    assert ledger.entries() == [entry]


def other(column: str, value: Any) -> Any:
    if column in ("evidence", "before", "after"):
        return value.replace("}", ',"more":1}', 1).replace("{,", "{")
    return value + 7 if isinstance(value, int) else f"{value}0"


def test_a_changed_column_of_any_entry_is_found(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.append(FULL)
    for seq in (1, 2, 3):
        for column in (ENTRIES.c[name] for name in COLUMNS):
            with unprotected(ledger) as connection:
                row = ENTRIES.c.seq == seq
                kept = connection.scalar(sa.select(column).where(row))
                changed = other(column.name, kept)
                connection.execute(sa.update(ENTRIES).where(row).values({column: changed}))
            assert found(ledger)[0] == seq, column
            with unprotected(ledger) as connection:
                row = ENTRIES.c.seq == (changed if column.name == "seq" else seq)
                connection.execute(sa.update(ENTRIES).where(row).values({column: kept}))
            assert ledger.verify() is None


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("evidence", '{"digest": "d"}'),
        ("evidence", '{"digest":"x","digest":"d"}'),
        ("evidence", "no JSON"),
        ("after", "[]"),
        ("time", "2013-12-01T08:30:00.000005Z"),
        ("time", "yesterday"),
    ],
)
def test_another_spelling_is_found_and_still_read(ledger: Ledger, column: str, text: str) -> None:
    ledger.append(replace(FULL, evidence={"digest": "d"}))
    with unprotected(ledger) as connection:
        connection.execute(sa.update(ENTRIES).values({column: text}))
    assert found(ledger) == (1, "changed")
    assert ledger.entry(1).reason == FULL.reason


def test_a_deleted_entry_a_cut_end_and_swapped_entries_are_found(ledger: Ledger) -> None:
    for _ in range(4):
        ledger.append(REQUEST)
    rows: list[dict[str, Any]] = []

    def rewrite(*kept: int) -> tuple[int, str]:
        """Leave the entries of these numbers, numbered anew from the first one's number."""
        with unprotected(ledger) as connection:
            if not rows:
                every = connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.seq))
                rows.extend(dict(row._mapping) for row in every)
            connection.execute(sa.delete(ENTRIES))
            for seq, at in enumerate(kept, start=kept[0] if kept else 1):
                connection.execute(sa.insert(ENTRIES).values({**rows[at - 1], "seq": seq}))
        return found(ledger)

    assert rewrite(2, 3, 4) == (1, "missing")
    assert rewrite(1, 3, 4) == (2, "unlinked")
    assert rewrite(1, 2, 3) == (4, "truncated")
    assert rewrite() == (1, "truncated")
    assert rewrite(1, 3, 2, 4) == (2, "unlinked")
    assert rewrite(1, 2, 2, 3, 4) == (3, "unlinked")


def test_an_inserted_entry_is_found(ledger: Ledger) -> None:
    ledger.append(REQUEST)
    with unprotected(ledger) as connection:
        row = dict(connection.execute(sa.select(ENTRIES)).one()._mapping)
        connection.execute(sa.insert(ENTRIES).values({**row, "seq": 2}))
    assert found(ledger) == (2, "unlinked")


def test_a_state_that_was_changed_by_hand_is_found(ledger: Ledger) -> None:
    move(ledger)
    with unprotected(ledger) as connection:
        connection.execute(sa.update(MODELS).values(champion="9", intent="no JSON"))
    assert found(ledger) == (1, "state")


def test_a_ledger_whose_head_was_deleted_takes_no_entry(ledger: Ledger) -> None:
    ledger.append(REQUEST)
    with unprotected(ledger) as connection:
        connection.execute(sa.delete(HEAD))
    assert found(ledger) == (1, "forged")
    with pytest.raises(LedgerError, match="does not know where its chain ends"):
        ledger.append(REQUEST)


def test_a_hash_noted_elsewhere_is_compared(ledger: Ledger) -> None:
    entry = ledger.append(REQUEST)
    assert ledger.verify({1: entry.hash}) is None
    broken = ledger.verify({1: "0" * 64})
    assert broken
    assert broken.fault == "forged"


def test_the_chain_is_verified_a_part_at_a_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_assets.stores.ledger._AT_ONCE", 2)
    for _ in range(4):
        ledger.append(REQUEST)
        assert ledger.verify() is None
    with unprotected(ledger) as connection:
        connection.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 4).values(actor="eve"))
    assert found(ledger) == (4, "changed")


def test_an_entry_that_is_added_meanwhile_does_not_break_the_chain(
    ledger: Ledger, url: str
) -> None:
    second = Ledger(url)
    second.append(REQUEST)

    def add(*asked: Any) -> None:
        if "FROM ledger_head" in asked[2]:
            second.append(REQUEST)

    sa.event.listen(ledger.database.engine, "after_cursor_execute", add)
    assert ledger.verify() is None
    assert second.head().seq == 2
    second.close()
