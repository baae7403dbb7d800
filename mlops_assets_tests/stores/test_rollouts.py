"""Rollouts as they are kept: one open per model, each move with its entry, totals by source."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_assets.core.experiment import Experiment
from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import LedgerError, RolloutError
from mlops_assets.rollouts.canary import TRAFFIC_STAGE, added
from mlops_assets.stores import ledger_schema
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.ledger_tables import CLAIMS, ROLLOUTS, VERSION_TABLE
from mlops_assets.stores.rollouts import Counted, Kept, Rollouts, new_id
from mlops_assets_tests.stores import ledger_world
from mlops_assets_tests.stores.ledger_world import MODEL, NOW, REQUEST, database, move
from mlops_assets_tests.stores.release_world import killed

url, ledger = ledger_world.url, ledger_world.ledger
ARMS = (Arm("a", "1", 4_000), Arm("b", "2", 6_000))


@pytest.fixture
def rollouts(ledger: Ledger) -> Rollouts:
    return Rollouts(ledger)


def record(action: Any = "rollout", model: str = MODEL) -> Record:
    return Record(action=action, model=model, actor="ann", reason="why", version="2")


def begun(rollouts: Rollouts, name: str = "r1", model: str = MODEL) -> Kept:
    return rollouts.begin(Rollout(name, "2", salt=name), "1", record(model=model))


def test_a_rollout_comes_back_as_it_was_kept(rollouts: Rollouts) -> None:
    kept = begun(rollouts)
    assert kept == Kept(MODEL, Rollout("r1", "2", "r1"), "1", "ann", NOW, 1)
    assert rollouts.open(MODEL) == rollouts.last(MODEL) == rollouts.get("r1") == kept
    assert rollouts.open("other") is rollouts.last("other") is None


def test_an_experiment_comes_back_as_it_was_kept(rollouts: Rollouts) -> None:
    traffic = Experiment("e1", "salt", ARMS, exposed=500, metrics=("sales",))
    kept = rollouts.begin(traffic, "1", record("experiment"))
    assert rollouts.open(MODEL) == kept
    assert (kept.traffic, kept.is_rollout) == (traffic, False)


def test_an_id_that_is_not_there_is_told(rollouts: Rollouts) -> None:
    with pytest.raises(RolloutError, match="no rollout or experiment 'r9'"):
        rollouts.get("r9")


def test_a_model_has_one_that_is_open(rollouts: Rollouts, ledger: Ledger) -> None:
    begun(rollouts)
    begun(rollouts, "r2", "other")
    head = ledger.head()
    with pytest.raises(RolloutError, match="'r1' of 'returns' is open, begun by ann"):
        begun(rollouts, "r3")
    with pytest.raises(RolloutError, match="is open"):
        rollouts.begin(Experiment("e1", "", ARMS), "1", record("experiment"))
    assert ledger.head() == head
    assert set(rollouts.all_open()) == {MODEL, "other"}


def test_the_database_itself_refuses_a_second_one(rollouts: Rollouts, ledger: Ledger) -> None:
    begun(rollouts)
    with ledger.database.engine.connect() as connection:
        row = dict(connection.execute(sa.select(ROLLOUTS)).one()._mapping)
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.insert(ROLLOUTS).values({**row, "id": "r2"}))


def _begin(url: str, ready: Any, name: str) -> None:
    rollouts = Rollouts(Ledger(url))
    ready.wait()
    try:
        begun(rollouts, name)
    except RolloutError:
        os._exit(7)
    os._exit(0)


def test_of_processes_that_begin_at_once_one_does(rollouts: Rollouts, url: str) -> None:
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(4)
    racers = [fork.Process(target=_begin, args=(url, ready, f"r{i}")) for i in range(4)]
    for one in racers:
        one.start()
    for one in racers:
        one.join()
    assert sorted(str(one.exitcode) for one in racers) == ["0", "7", "7", "7"]
    kept = rollouts.open(MODEL)
    assert kept is not None
    assert kept.seq == 1


def test_a_move_and_its_entry_are_one(rollouts: Rollouts, ledger: Ledger) -> None:
    kept = rollouts.move(begun(rollouts), Rollout("r1", "2", "r1").start(), record("advance"))
    assert (kept.seq, kept.traffic.state) == (2, "canary")
    assert rollouts.get("r1") == kept
    assert [entry.action for entry in ledger.entries(MODEL)] == ["rollout", "advance"]


def test_a_closed_one_makes_room_for_the_next(rollouts: Rollouts) -> None:
    before = begun(rollouts)
    closed = rollouts.move(before, Rollout("r1", "2", "r1").abort(), record("abort"))
    assert rollouts.open(MODEL) is None
    assert rollouts.last(MODEL) == closed
    assert rollouts.last(MODEL) != begun(rollouts, "r2") == rollouts.last(MODEL)


def test_the_newest_of_one_kind_is_found_behind_one_of_the_other(rollouts: Rollouts) -> None:
    kept = begun(rollouts)
    closed = rollouts.move(kept, Rollout("r1", "2", "r1").abort(), record("abort"))
    assert rollouts.last(MODEL, "rollout") == closed
    assert rollouts.last(MODEL, "experiment") is None


def test_a_stale_move_is_refused_and_leaves_no_entry(rollouts: Rollouts, ledger: Ledger) -> None:
    before = begun(rollouts)
    assert isinstance(before.traffic, Rollout)
    rollouts.move(before, before.traffic.start(), record("advance"))
    now, head = rollouts.open(MODEL), ledger.head()
    with pytest.raises(LedgerError, match="moved by somebody else meanwhile"):
        rollouts.move(before, before.traffic.abort(), record("abort"))
    assert (rollouts.open(MODEL), ledger.head()) == (now, head)


def test_a_closed_one_is_never_moved(rollouts: Rollouts) -> None:
    before = begun(rollouts)
    closed = rollouts.move(before, Rollout("r1", "2", "r1").abort(), record("abort"))
    with pytest.raises(LedgerError):
        rollouts.move(closed, Rollout("r1", "2", "r1").start(), record("advance"))


@pytest.mark.parametrize("action", ["begin", "move"])
def test_a_process_killed_in_the_middle_leaves_neither_move_nor_entry(
    url: str, action: str
) -> None:
    ledger = Ledger(url)
    before = begun(Rollouts(ledger)) if action == "move" else None
    head = ledger.head()
    ledger.close()

    def work() -> None:
        ledger = Ledger(url)
        engine = ledger.database.engine

        # The entry is written first: the kill comes right after the statement of the rollout.
        def kill(*found: Any) -> None:
            if " rollouts" in found[2] and not found[2].startswith("SELECT"):
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(engine, "after_cursor_execute", kill)
        own = Rollouts(ledger)
        if before is None:
            begun(own)
        else:
            own.move(before, Rollout("r1", "2", "r1").start(), record("advance"))

    assert killed(work)
    again = Ledger(url)
    assert again.head() == head
    assert Rollouts(again).open(MODEL) == before
    assert again.verify() is None
    again.close()


def total(stage: str, source: str, n: int, number: str = "errors") -> dict[Counted, Sums]:
    return {Counted(stage, "canary", number, source): Sums(n, n / 2, n / 4)}


def test_totals_of_a_source_are_replaced_and_those_of_several_added(rollouts: Rollouts) -> None:
    for n in (10, 30):
        rollouts.count("r1", total("traffic", "w1", n))
    rollouts.count("r1", total("traffic", "w2", 5))
    rollouts.count("r1", {**total("traffic", "w1", 30), **total("shadow", "w1", 7)})
    rollouts.count("r2", total("traffic", "w1", 99))
    rollouts.count("r1", {})
    found = rollouts.sums("r1")
    assert {(one.stage, one.source): sums.n for one, sums in found.items()} == {
        ("traffic", "w1"): 30,
        ("traffic", "w2"): 5,
        ("shadow", "w1"): 7,
    }
    of_traffic = added(found, TRAFFIC_STAGE)
    assert of_traffic == {("errors", "canary"): Sums(35, 17.5, 8.75)}


def test_totals_keep_every_bit(rollouts: Rollouts) -> None:
    sums = Sums(3, 0.1 + 0.2, 1 / 3)
    rollouts.count("r1", {Counted("traffic", "a", "score", "w"): sums})
    assert [*rollouts.sums("r1").values()] == [sums]


def test_an_entity_is_counted_by_who_asks_first(rollouts: Rollouts) -> None:
    canary, control = ("traffic", "canary"), ("traffic", "control")
    many = range(-(2**63), 2**63 - 1, 2**53)
    assert rollouts.claim("r1", {canary: [1, 2], control: [1]}, "w1") == {
        canary: {1, 2}, control: {1},
    }  # fmt: skip
    assert rollouts.claim("r1", {canary: [2, 3]}, "w2") == {canary: {3}}
    assert rollouts.claim("r1", {canary: [1, 3]}, "w1") == {canary: {1}}
    assert rollouts.claim("r2", {canary: [*many]}, "w2") == {canary: set(many)}


def test_who_counted_what_is_forgotten_when_a_rollout_ends(
    rollouts: Rollouts, ledger: Ledger
) -> None:
    kept = begun(rollouts)
    rollouts.claim(kept.traffic.id, {("traffic", "canary"): [1]}, "w1")
    rollouts.move(kept, Rollout("r1", "2", "r1").abort(), record("abort"))
    with ledger.database.reading() as connection:
        assert connection.execute(sa.select(CLAIMS)).all() == []


def test_new_ids_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100


def _as_v0001(ledger: Ledger) -> None:
    """Take away what v0002 has made, as if it had never run."""
    with ledger.database.writing() as connection:
        connection.execute(sa.text("DROP TABLE rollouts"))
        connection.execute(sa.text("DROP TABLE rollout_sums"))
        connection.execute(sa.text("DROP TABLE rollout_claims"))
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = 'v0001'"))


@pytest.mark.parametrize("kind", ledger_world.DATABASES)
def test_an_older_ledger_is_brought_up_to_date_with_its_chain(kind: str, tmp_path: Path) -> None:
    with database(kind, tmp_path) as url:
        old = Ledger(url)
        old.append(REQUEST)
        move(old)
        _as_v0001(old)
        entries = old.entries()
        old.close()
        new = Ledger(url)
        assert new.entries() == entries
        assert new.verify() is None
        with new.database.reading() as connection:
            assert ledger_schema.is_current(connection)
        begun(Rollouts(new))
        assert new.verify() is None
        new.close()


def test_what_is_kept_of_a_rollout_is_readable_by_others(
    rollouts: Rollouts, ledger: Ledger
) -> None:
    begun(rollouts)
    with ledger.database.reading() as connection:
        document = json.loads(connection.execute(sa.select(ROLLOUTS.c.document)).scalar_one())
    assert document["version"] == "2"
    assert document["steps"] == [5, 25, 50, 100]
