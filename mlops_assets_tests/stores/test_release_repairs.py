"""What hands and crashes have left is seen, finished, undone, taken over or put back."""

import pytest

from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Drift
from mlops_assets.errors import (
    RegistryError,
    ReleaseConflictError,
)
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.stores import release_world
from mlops_assets_tests.stores.ledger_world import MODEL
from mlops_assets_tests.stores.release_world import (
    WHO,
    FileRegistry,
    actions,
    agreed,
    crash,
    on_both,
    release,
)

registry, ledger = release_world.registry, release_world.ledger
releases, three = release_world.releases, release_world.three


def test_an_alias_that_was_moved_by_hand_is_shown_and_stops_moves(
    three: Releases, registry: FileRegistry
) -> None:
    assert three.drift(MODEL) == ()
    registry.set_alias(MODEL, "champion", "4")
    assert three.drift(MODEL) == (Drift("champion", "3", "4"),)
    for attempt in (lambda: release(three, "1", "3"), lambda: three.rollback(MODEL, **WHO)):
        with pytest.raises(
            ReleaseConflictError, match="moved by hand: champion points to version 4"
        ):
            attempt()


@on_both
def test_a_revert_puts_aliases_back(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.set_alias(MODEL, "champion", "4")
    registry.set_alias(MODEL, "archived", None)
    registry.set_alias(MODEL, "challenger", "1")
    entry = three.revert(MODEL, **WHO)
    assert (entry.action, entry.before, entry.version) == ("revert", entry.after, "3")
    assert agreed(ledger, registry) == Aliases("3", None, "2")


def test_a_revert_to_a_version_that_is_gone_is_refused(
    three: Releases, registry: FileRegistry
) -> None:
    registry.delete("2")
    with pytest.raises(RegistryError, match="no version 2"):
        three.revert(MODEL, **WHO)


@on_both
def test_an_adoption_takes_over_what_was_moved_by_hand(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.set_alias(MODEL, "champion", "4")
    entry = three.adopt(MODEL, **WHO)
    assert (entry.version, entry.from_version) == ("4", "3")
    assert agreed(ledger, registry) == Aliases("4", None, "3")
    three.rollback(MODEL, **WHO)
    assert agreed(ledger, registry) == Aliases("3")


def test_a_model_that_was_released_before_there_was_a_ledger_is_adopted(
    releases: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.set_alias(MODEL, "champion", "2")
    registry.set_alias(MODEL, "archived", "1")
    releases.adopt(MODEL, **WHO)
    assert agreed(ledger, registry) == Aliases("2", None, "1")


def test_a_deleted_version_is_drift_that_can_be_adopted(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.delete("3")
    assert three.drift(MODEL) == (Drift("champion", "3", None),)
    three.adopt(MODEL, **WHO)
    assert agreed(ledger, registry) == Aliases(None, None, "2")
    three.rollback(MODEL, **WHO)
    assert agreed(ledger, registry) == Aliases("2")


def test_a_rollback_to_a_named_version_ignores_what_was_moved_by_hand(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.set_alias(MODEL, "champion", "4")
    registry.delete("2")
    three.rollback(MODEL, to="1", **WHO)
    assert agreed(ledger, registry) == Aliases("1")


@on_both
def test_reconcile_finishes_what_a_crash_has_left_and_says_so(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move champion")
    assert registry.aliases(MODEL) == {"champion": "3", "archived": "3"}
    (entry,) = three.reconcile(actor="cron")
    assert agreed(ledger, registry) == Aliases("4", None, "3")
    assert actions(ledger)[3:] == ["release", "reconcile"]
    assert ledger.entries(MODEL)[-2].actor == "ann"
    assert entry == ledger.entries(MODEL)[-1]
    assert (entry.actor, entry.version) == ("cron", "4")
    assert entry.reason == "finished the release of version 4 that ann began"
    assert entry.evidence["found"] == {"champion": "3", "archived": "3"}
    assert registry.tags("4")["mlops.stage"] == "champion"


def test_reconcile_has_nothing_to_do_when_nothing_is_left(three: Releases) -> None:
    assert three.reconcile(actor="cron") == ()
    assert three.reconcile("unheard of", actor="cron") == ()


def test_reconcile_leaves_other_models_alone(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move champion")
    assert three.reconcile("other", actor="cron") == ()
    assert len(three.reconcile(MODEL, actor="cron")) == 1


@on_both
def test_a_move_whose_version_is_gone_is_undone(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move challenger")
    assert registry.aliases(MODEL)["champion"] == "4"
    registry.delete("4")
    (entry,) = three.reconcile(actor="cron")
    assert agreed(ledger, registry) == Aliases("3", None, "2")
    assert actions(ledger)[3:] == ["reconcile"]
    assert entry.evidence["outcome"] == "undone"
    assert "version 4 is not in the registry any more" in entry.reason


def test_a_move_whose_way_back_is_gone_is_finished_without_it(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move archived")
    registry.delete("3")
    three.reconcile(actor="cron")
    assert agreed(ledger, registry) == Aliases("4")


def test_an_undone_move_restores_what_is_still_there(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "write entry")
    registry.delete("4")
    registry.delete("3")
    three.reconcile(actor="cron")
    assert agreed(ledger, registry) == Aliases(None, None, "2")


def test_a_version_that_is_deleted_after_its_entry_was_written_is_drift(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "tag versions")
    registry.delete("4")
    three.reconcile(actor="cron")
    assert actions(ledger)[3:] == ["release", "reconcile"]
    assert three.drift(MODEL) == (Drift("champion", "4", None),)


def test_a_move_that_is_under_way_is_no_drift(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move challenger")
    assert three.drift(MODEL) == ()
    registry.set_alias(MODEL, "champion", "1")
    assert three.drift(MODEL) == (Drift("champion", "3", "1"),)


def test_the_next_move_finishes_what_a_crash_has_left_first(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    crash(ledger, registry, "move champion")
    three.rollback(MODEL, **WHO)
    assert actions(ledger)[3:] == ["release", "reconcile", "rollback"]
    assert agreed(ledger, registry) == Aliases("3")


class Down(FileRegistry):
    """A registry that does not answer when the champion is to be moved."""

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        if alias == "champion":
            raise ConnectionError("the registry does not answer")
        super().set_alias(model, alias, version)


def test_a_registry_that_fails_leaves_the_move_to_be_finished(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    with pytest.raises(ConnectionError, match="does not answer") as failed:
        release(Releases(ledger, Down(registry.file)), "4", "3")
    assert "`reconcile`, finishes it" in failed.value.__notes__[0]
    three.reconcile(actor="cron")
    assert agreed(ledger, registry) == Aliases("4", None, "3")
