"""The moves of rollouts: who may be rolled out, all the way to release, crashes, and outsiders."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlops_assets.core.ledger_chain import Entry
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import Arm
from mlops_assets.core.tasks import GATES
from mlops_assets.errors import (
    ApprovalError,
    LedgerError,
    RegistryError,
    ReleaseConflictError,
    ReleaseRefusedError,
    RolloutError,
)
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.registry import GATE_TAG, ModelVersion
from mlops_assets.stores.releases import Releases
from mlops_assets.stores.rollouts import Kept, Rollouts
from mlops_assets_tests.shop_world import returns
from mlops_assets_tests.stores.ledger_world import opened
from mlops_assets_tests.stores.release_world import MemoryRegistry

WHO = {"actor": "ann", "reason": "it is better"}
BOB = {"actor": "bob", "reason": "not today"}


class Registry(MemoryRegistry):
    """The registry as rollouts read it: versions whose gates all have a verdict."""

    outcome = "passed"

    def version(self, model: str, number: str) -> ModelVersion:
        if not self.has(model, number):
            raise RegistryError(f"no version {number}", expected="one", do="look")
        verdict = {
            "estimate": 0.01,
            "low": 0.0,
            "high": 0.02,
            "n": 2_000,
            "threshold": 0.02,
            "outcome": self.outcome,
            "reason": "it holds",
            "scores": f"scores {number}",
        }
        tags = {
            f"{GATE_TAG}{gate}": json.dumps({**verdict, "gate": gate}) for gate in GATES["binary"]
        }
        return ModelVersion(model, number, "run", tags, (), datetime.now(UTC))

    def metrics(self, run_id: str) -> Mapping[str, float]:
        return {"auc": 0.75}


class World:
    """A platform of a ledger and a registry in memory; version 1 leads and 2 challenges it."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.spec: ModelSpec = returns(folder)
        self.registry = Registry(folder / "registry.json")
        self.ledger, self.rollouts = ledger, Rollouts(ledger)
        self.releases = Releases(ledger, self.registry)
        self.platform = cast(
            Platform,
            SimpleNamespace(
                ledger=ledger,
                registry=self.registry,
                rollouts=self.rollouts,
                releases=lambda spec: self.releases,
            ),
        )
        self.registry.add("1", "2", "3", "4", model=self.model)
        self.release("1")
        self.challenge("2")

    @property
    def model(self) -> str:
        return self.spec.name

    def cause(self, version: str) -> Any:
        found = self.registry.version(self.model, version)
        return moves.judgement.cause(self.registry, self.spec, found, **WHO)  # type: ignore[arg-type]

    def champion(self) -> str | None:
        return self.ledger.state(self.model).aliases.champion

    def release(self, version: str) -> None:
        self.releases.release(
            self.model, version, expected_champion=self.champion(), **self.cause(version)
        )

    def challenge(self, version: str) -> None:
        self.releases.challenge(self.model, version, **self.cause(version))

    def start(self, version: str = "2", **more: Any) -> Kept:
        return moves.start(self.platform, self.spec, version, **{**WHO, **more})

    def move(self, verb: Any, **more: Any) -> Kept:
        return moves.move(self.platform, self.spec, verb, **{**WHO, **more})

    def settle(self) -> Kept | None:
        champion = str(self.champion())
        return moves.settle(self.platform, self.spec, champion, actor="model server")

    @property
    def newest(self) -> Entry:
        return self.ledger.entries(self.model, last=1)[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened("sqlite", tmp_path) as ledger:
        yield World(ledger, tmp_path)


def test_the_challenger_begins_in_shadow(world: World) -> None:
    kept = world.start()
    assert (kept.traffic.state, kept.champion, kept.actor) == ("shadow", "1", "ann")
    assert (world.newest.action, world.newest.version, world.newest.from_version) == (
        *("rollout", "2", "1"),
    )
    assert (world.newest.actor, world.newest.reason) == ("ann", "it is better")
    assert world.newest.evidence["steps"] == [5, 25, 50, 100]


def test_a_former_champion_may_be_rolled_out(world: World) -> None:
    world.release("2")
    assert world.start("1").traffic.versions == ("1",)


@pytest.mark.parametrize(
    ("version", "error", "words"),
    [
        ("1", RolloutError, "version 1 itself"),
        ("3", ReleaseRefusedError, "neither the challenger nor a former champion"),
        ("9", RegistryError, "no version 9"),
    ],
)
def test_others_may_not(world: World, version: str, error: Any, words: str) -> None:
    head = world.ledger.head()
    with pytest.raises(error, match=words):
        world.start(version)
    assert world.ledger.head() == head
    assert world.rollouts.last(world.model) is None


def test_a_retired_version_may_not(world: World) -> None:
    world.release("2")
    world.releases.retire(world.model, "1", **BOB)
    with pytest.raises(ReleaseRefusedError, match="is retired"):
        world.start("1")


def test_without_a_champion_nothing_is_rolled_out(world: World) -> None:
    world.releases.archive(world.model, "1", **BOB)
    with pytest.raises(RolloutError, match="nobody"):
        world.start()


def test_aliases_that_were_moved_by_hand_come_first(world: World) -> None:
    world.registry.set_alias(world.model, "champion", "3")
    with pytest.raises(ReleaseConflictError):
        world.start()


def test_a_second_rollout_waits_for_the_first(world: World) -> None:
    world.start()
    with pytest.raises(RolloutError, match="is open"):
        world.start()


def test_it_goes_through_all_steps_to_the_release(world: World) -> None:
    world.start(steps=(10, 50, 100))
    states = [world.move("advance", evidence={"n": 7}) for _ in range(4)]
    shares = [kept.traffic.share for kept in states if isinstance(kept.traffic, Rollout)]
    assert [kept.traffic.state for kept in states] == ["canary", "canary", "canary", "done"]
    assert shares == [1_000, 5_000, 10_000, 10_000]
    assert world.ledger.state(world.model).aliases.champion == "2"
    assert world.ledger.state(world.model).aliases.archived == "1"
    told = world.ledger.entries(world.model)[-6:]
    assert [entry.action for entry in told] == [
        *("rollout", "advance", "advance", "advance", "release", "finish"),
    ]
    assert [entry.evidence.get("share") for entry in told] == [None, 10, 50, 100, None, 100]
    assert {entry.actor for entry in told} == {"ann"}
    assert all(entry.evidence["n"] == 7 for entry in told if entry.action in ("advance", "finish"))
    assert world.ledger.verify() is None
    with pytest.raises(RolloutError, match="no rollout of 'returns' is open"):
        world.move("advance")


def test_two_who_decide_on_one_state_make_one_move(world: World) -> None:
    begun = world.start(steps=(10, 50, 100))
    moved = world.move("advance", decided_on=begun)
    with pytest.raises(LedgerError, match="moved by somebody else meanwhile"):
        world.move("advance", decided_on=begun)
    assert world.rollouts.open(world.model) == moved


def test_it_is_paused_and_resumed_where_it_was(world: World) -> None:
    world.start()
    world.move("advance")
    paused = world.move("pause", **BOB)
    assert (paused.traffic.state, world.newest.actor) == ("paused", "bob")
    with pytest.raises(RolloutError, match="advance is not possible"):
        world.move("advance")
    assert world.move("resume").traffic.state == "canary"


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_it_is_aborted_at_any_step_with_the_reason(world: World, steps: int) -> None:
    world.start()
    for _ in range(steps):
        world.move("advance")
    kept = world.move("abort", **BOB, evidence={"readings": {"errors": {"low": 0.1}}})
    assert (kept.traffic.state, kept.traffic.is_open) == ("aborted", False)
    assert (world.newest.action, world.newest.reason) == ("abort", "not today")
    assert world.newest.evidence["readings"] == {"errors": {"low": 0.1}}
    assert world.champion() == "1"


def test_a_reason_is_needed(world: World) -> None:
    with pytest.raises(LedgerError, match="without reason"):
        world.start(reason="")
    assert world.rollouts.last(world.model) is None


def test_a_release_that_needs_approval_leaves_the_last_step(world: World) -> None:
    world.start(steps=(100,))
    world.move("advance")
    world.registry.outcome = "inconclusive"
    with pytest.raises(ApprovalError):
        world.move("advance")
    kept = world.rollouts.open(world.model)
    assert kept is not None
    assert (kept.traffic.state, world.champion()) == ("canary", "1")


def at_last_step(world: World) -> Kept:
    world.start(steps=(50, 100))
    world.move("advance")
    return world.move("advance")


def test_a_crash_between_release_and_finish_is_settled(world: World) -> None:
    kept = at_last_step(world)
    moves.release(world.platform, world.spec, kept, reason="it is good")
    closed = world.settle()
    assert closed is not None
    assert closed.traffic.state == "done"
    assert (world.newest.action, world.newest.actor) == ("finish", "model server")
    assert world.settle() is None


def test_a_finish_after_such_a_crash_releases_nothing_twice(world: World) -> None:
    kept = at_last_step(world)
    moves.release(world.platform, world.spec, kept, reason="it is good")
    assert world.move("advance").traffic.state == "done"
    assert [e.action for e in world.ledger.entries(world.model)].count("release") == 2


def test_nothing_is_settled_while_the_champion_is_the_same(world: World) -> None:
    world.start()
    assert world.settle() is None
    assert world.rollouts.open(world.model) is not None


def test_a_rollback_from_outside_closes_it(world: World) -> None:
    world.release("2")
    world.challenge("3")
    world.start("3")
    world.releases.rollback(world.model, **BOB)
    closed = world.settle()
    assert closed is not None
    assert (closed.traffic.state, world.champion()) == ("aborted", "1")
    assert world.newest.reason == "the champion is version 1 now, it was 2 at the start"


def test_a_release_of_its_version_from_outside_closes_it(world: World) -> None:
    world.start()
    world.release("2")
    closed = world.settle()
    assert closed is not None
    assert closed.traffic.state == "aborted"
    assert world.newest.reason == "its version was released before the last step"


def test_an_experiment_is_concluded_when_its_champion_goes(world: World) -> None:
    from mlops_assets.core.experiment import Experiment
    from mlops_assets.core.ledger_chain import Record

    arms = (Arm("a", "1", 5_000), Arm("b", "2", 5_000))
    record = Record(action="experiment", model=world.model, **WHO)
    world.rollouts.begin(Experiment("e1", "", arms), "1", record)
    with pytest.raises(RolloutError, match="no rollout"):
        world.move("advance")
    world.release("2")
    closed = world.settle()
    assert closed is not None
    assert (closed.traffic.state, world.newest.action) == ("stopped", "conclude")
    with pytest.raises(RolloutError, match="no experiment"):
        moves.conclude(world.platform, world.spec, **BOB)


def test_a_rollout_of_a_champion_that_was_overtaken_is_not_released(world: World) -> None:
    at_last_step(world)
    world.release("3")
    with pytest.raises(ReleaseConflictError):
        world.move("advance")
    assert world.champion() == "3"
