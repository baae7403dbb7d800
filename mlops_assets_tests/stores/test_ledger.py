"""The ledger in SQLite and in Postgres: what is written, and how it is found again."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_assets.core.ledger_chain import COLUMNS, GENESIS, Head
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import ModelState
from mlops_assets.errors import (
    LedgerError,
)
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.ledger_tables import ENTRIES
from mlops_assets_tests.stores import ledger_world
from mlops_assets_tests.stores.ledger_world import AFTER, FULL, MODEL, NOW, REQUEST, intent, move

url, ledger = ledger_world.url, ledger_world.ledger


def test_a_new_ledger_is_empty_and_holds(ledger: Ledger) -> None:
    assert ledger.entries() == ledger.states() == []
    assert ledger.head() == Head(0, GENESIS)
    assert ledger.state(MODEL) == ModelState(MODEL)
    assert ledger.verify() is None


def test_an_entry_comes_back_as_it_was_written(ledger: Ledger) -> None:
    entry = ledger.append(FULL)
    assert (entry.seq, entry.time, entry.previous_hash) == (1, NOW, GENESIS)
    assert ledger.entries() == [entry]
    assert ledger.entry(1) == entry
    assert entry.evidence == FULL.evidence
    assert ledger.head() == Head(1, entry.hash)


def test_a_ledger_is_there_when_it_is_opened_again(ledger: Ledger, url: str) -> None:
    entry = ledger.append(FULL)
    again = Ledger(url)
    assert again.entries() == [entry]
    assert again.verify() is None
    again.close()


def test_entries_are_chosen_by_model_version_and_action_newest_last(ledger: Ledger) -> None:
    for version in ("1", "2", "1"):
        ledger.append(replace(REQUEST, version=version))
        ledger.append(replace(REQUEST, version=version, model="other"))
    ledger.append(replace(REQUEST, action="approval"))
    assert [e.seq for e in ledger.entries()] == [1, 2, 3, 4, 5, 6, 7]
    assert [e.seq for e in ledger.entries(MODEL)] == [1, 3, 5, 7]
    assert [e.seq for e in ledger.entries(MODEL, last=2)] == [5, 7]
    assert [e.seq for e in ledger.entries(MODEL, version="1")] == [1, 5, 7]
    assert [e.seq for e in ledger.entries(MODEL, version="1", actions=("request",))] == [1, 5]


def test_an_entry_that_is_not_there_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no entry 7"):
        ledger.entry(7)


def test_an_entry_that_moves_nothing_leaves_the_state(ledger: Ledger) -> None:
    move(ledger)
    entry = ledger.append(REQUEST)
    assert entry.before == entry.after == {"champion": "2", "archived": "1"}
    assert ledger.state(MODEL) == ModelState(MODEL, AFTER, updated_seq=2, champion_seq=1)


def test_a_move_is_an_intent_then_an_entry_with_the_state_then_nothing(ledger: Ledger) -> None:
    ledger.begin(intent())
    assert ledger.state(MODEL) == ModelState(MODEL, intent=intent())
    recorded = ledger.record(intent())
    assert ledger.entry(1).after == {"champion": "2", "archived": "1"}
    assert ledger.state(MODEL) == ModelState(MODEL, AFTER, recorded, 1, 1)
    ledger.end(recorded)
    assert ledger.state(MODEL) == ModelState(MODEL, AFTER, None, 1, 1)
    assert ledger.states() == [ledger.state(MODEL)]


def test_last_words_and_what_is_left_are_written_when_an_intent_ends(ledger: Ledger) -> None:
    ledger.begin(intent())
    said = replace(REQUEST, action="reconcile")
    entry = ledger.end(intent(), said, Aliases("1"))
    assert entry == ledger.entry(1)
    assert ledger.state(MODEL) == ModelState(MODEL, Aliases("1"), None, 1, 1)


def test_a_move_does_not_begin_from_another_state(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="changed by somebody else"):
        ledger.begin(intent(before=Aliases("9")))
    ledger.begin(intent())
    with pytest.raises(LedgerError, match="changed by somebody else"):
        ledger.begin(intent(name="another"))


def test_a_move_that_somebody_else_has_ended_writes_nothing(ledger: Ledger) -> None:
    recorded = move(ledger)
    state, head = ledger.state(MODEL), ledger.head()
    for end in (ledger.record, ledger.end):
        with pytest.raises(LedgerError, match="changed by somebody else"):
            end(recorded)
    with pytest.raises(LedgerError, match="changed by somebody else"):
        ledger.end(recorded, REQUEST)
    assert (ledger.state(MODEL), ledger.head()) == (state, head)


def test_what_is_refused_leaves_no_trace(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="without reason"):
        ledger.append(replace(REQUEST, reason=""))
    assert (ledger.entries(), ledger.states(), ledger.head()) == ([], [], Head())


def plan(ledger: Ledger, **chosen: Any) -> str:
    """How the database answers `entries`."""
    asked: list[Any] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    engine = ledger.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    ledger.entries(**chosen)
    sa.event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if ledger.database.is_sqlite else "EXPLAIN"
    statement, parameters = asked[-1]
    with ledger.database.reading() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(row) for row in rows)


def test_the_newest_entries_are_found_by_an_index(ledger: Ledger) -> None:
    with ledger.database.writing() as connection:
        row = dict.fromkeys(COLUMNS, "")
        rows = [{**row, "seq": i, "model": f"m{i % 9}", "version": str(i)} for i in range(2_000)]
        connection.execute(sa.insert(ENTRIES), rows)
        connection.execute(sa.text("ANALYZE"))
    newest, of_model = plan(ledger, last=20), plan(ledger, model="m1", last=20)
    of_version = plan(ledger, model="m1", version="1")
    if ledger.database.is_sqlite:
        assert "SCAN ledger_entries" in newest
    else:
        assert "Index Scan Backward using ledger_entries_pkey" in newest
    assert "ledger_entries_by_model" in of_model
    assert "ledger_entries_by_version" in of_version
    assert "Sort" not in newest + of_model
    assert "TEMP B-TREE" not in newest + of_model


def test_an_append_reads_only_the_end_of_the_chain(ledger: Ledger) -> None:
    for _ in range(5):
        ledger.append(REQUEST)
    asked: list[str] = []
    engine = ledger.database.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *found: asked.append(found[2]))
    ledger.append(REQUEST)
    assert not [s for s in asked if "SELECT" in s and "FROM ledger_entries" in s]
