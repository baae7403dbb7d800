"""A process that is killed at any step leaves nothing that `reconcile` does not put in order.

Real processes, killed by SIGKILL before each step that the code names, on both databases.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_assets.core.release_plan import Aliases
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import MOVE_STEPS, STATEMENT_STEPS, Releases
from mlops_assets_tests.stores.ledger_world import DATABASES, MODEL, opened
from mlops_assets_tests.stores.release_world import (
    WHO,
    FileRegistry,
    agreed,
    evidence,
    killed,
    killer,
    release,
)

UNSURE = evidence("inconclusive")
START = Aliases("2", "3", "1")
INTENT = MOVE_STEPS.index("write intent")
ENTRY = MOVE_STEPS.index("write entry")


@dataclass(frozen=True)
class World:
    """A model with a champion, a challenger and an archived version."""

    ledger: Ledger
    registry: FileRegistry

    @property
    def releases(self) -> Releases:
        return Releases(self.ledger, self.registry)

    def killed(self, verb: Callable[[Releases], object], step: str, at: int = 1) -> bool:
        """Do something in a process that is killed before a step."""
        return killed(lambda: verb(Releases(self.ledger, self.registry, observer=killer(step, at))))

    def actions(self) -> list[str]:
        """What was done since the start."""
        return [entry.action for entry in self.ledger.entries(MODEL)][3:]


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    registry = FileRegistry(tmp_path / "registry.json")
    registry.add("1", "2", "3")
    with opened(request.param, tmp_path) as ledger:
        world = World(ledger, registry)
        release(world.releases, "1")
        release(world.releases, "2", "1")
        world.releases.challenge(MODEL, "3", **WHO, evidence=evidence())
        yield world


VERBS: dict[str, tuple[Callable[[Releases], object], Aliases]] = {
    "release": (lambda releases: release(releases, "3", "2"), Aliases("3", None, "2")),
    "rollback": (lambda releases: releases.rollback(MODEL, **WHO), Aliases("1", "3")),
    "archive": (lambda releases: releases.archive(MODEL, "2", **WHO), Aliases(None, "3", "2")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_move_that_is_killed_at_any_step_is_finished_or_never_began(
    world: World, verb: str
) -> None:
    move, target = VERBS[verb]
    assert MOVE_STEPS[INTENT : ENTRY + 1] == (
        "write intent", "move archived", "move champion", "move challenger", "write entry"
    )  # fmt: skip
    for number, step in enumerate(MOVE_STEPS):
        back_to_start(world)
        before = len(world.actions())
        assert world.killed(move, step)
        if verb != "archive":
            assert world.registry.aliases(MODEL)["champion"], "there is a champion at any moment"
        assert world.ledger.verify() is None
        reconciled = world.releases.reconcile(actor="cron")
        began = number > INTENT
        assert agreed(world.ledger, world.registry) == (target if began else START)
        left = began and step != "unlock"
        assert len(reconciled) == left
        wanted = [verb] * began + ["reconcile"] * left
        assert world.actions()[before:] == wanted
        assert world.releases.reconcile(actor="cron") == ()


def back_to_start(world: World) -> None:
    """Bring the aliases to where they were, by hand and with the ledger's consent."""
    for alias, version in (("archived", "1"), ("champion", "2"), ("challenger", "3")):
        world.registry.set_alias(MODEL, alias, version)
    if world.releases.drift(MODEL):
        world.releases.adopt(MODEL, **WHO)
    if agreed(world.ledger, world.registry) != START:
        world.registry.set_alias(MODEL, "archived", "1")
        world.releases.adopt(MODEL, **WHO)
    assert agreed(world.ledger, world.registry) == START


def test_an_approval_that_is_killed_at_any_step_is_written_whole_or_not_at_all(
    world: World,
) -> None:
    bob = {"actor": "bob", "reason": "worth the risk", "evidence": UNSURE}
    for number, step in enumerate(STATEMENT_STEPS):
        before = len(world.actions())
        assert world.killed(lambda releases: releases.approve(MODEL, "3", **bob), step)
        assert world.releases.reconcile(actor="cron") == ()
        written = number > STATEMENT_STEPS.index("write entry")
        assert world.actions()[before:] == ["approval"] * written
        assert agreed(world.ledger, world.registry) == START
    assert release(world.releases, "3", "2", evidence=UNSURE)["champion"] == "3"


@pytest.mark.parametrize("gone", [False, True])
def test_a_reconcile_that_is_killed_at_any_step_is_done_by_the_next_one(
    world: World, gone: bool
) -> None:
    move, target = VERBS["release"]
    assert world.killed(move, "write entry")
    if gone:
        world.registry.delete("3")
    steps = [step for step in MOVE_STEPS[INTENT + 1 : -1] if not gone or step.startswith("move")]
    for step in [*steps, "end intent"]:
        assert world.killed(lambda releases: releases.reconcile(actor="cron"), step)
    world.releases.reconcile(actor="cron")
    assert world.actions() == (["reconcile"] if gone else ["release", "reconcile"])
    assert agreed(world.ledger, world.registry) == (Aliases("2", None, "1") if gone else target)


def test_a_process_that_is_killed_while_it_commits_leaves_entry_and_state_or_neither(
    world: World,
) -> None:
    def move(releases: Releases) -> None:
        commits = iter(range(100))

        def die(_: object) -> None:
            if next(commits) == 1:  # the first is the intent's
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(world.ledger.database.engine, "commit", die)
        release(releases, "3", "2")

    assert killed(lambda: move(world.releases))
    assert world.actions() == []
    assert world.ledger.state(MODEL).aliases == START
    assert world.ledger.verify() is None
    world.releases.reconcile(actor="cron")
    assert agreed(world.ledger, world.registry) == Aliases("3", None, "2")


def test_the_lock_of_a_killed_process_holds_nobody_up(world: World) -> None:
    assert world.killed(VERBS["release"][0], "move champion")
    world.releases.rollback(MODEL, **WHO)
    assert world.actions() == ["release", "reconcile", "rollback"]
    assert agreed(world.ledger, world.registry) == Aliases("2")
