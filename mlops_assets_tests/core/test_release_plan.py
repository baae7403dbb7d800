"""Every move leaves at most one champion, and a way back where there is one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlops_assets.core.release_plan import (
    Aliases,
    adopted,
    archived,
    challenged,
    released,
    retired,
    rolled_back,
    stages,
)
from mlops_assets.errors import ReleaseRefusedError

VERSIONS = st.sampled_from(["1", "2", "3", "4"])
ONE_OR_NONE = st.none() | VERSIONS
FULL = Aliases(champion="2", challenger="3", archived="1")


def test_a_challenger_takes_the_place_of_the_one_before() -> None:
    assert challenged(FULL, "4") == Aliases("2", "4", "1")


def test_an_archived_version_can_be_challenger_and_stays_the_way_back() -> None:
    assert challenged(FULL, "1") == Aliases("2", "1", "1")


def test_a_released_challenger_is_champion_only_and_the_champion_before_is_archived() -> None:
    assert released(FULL, "3") == Aliases("3", None, "2")


def test_a_release_past_the_challenger_leaves_the_challenger() -> None:
    assert released(FULL, "4") == Aliases("4", "3", "2")


def test_the_first_release_leaves_no_way_back() -> None:
    assert released(Aliases(), "1") == Aliases("1")


def test_an_archived_version_that_is_released_swaps_with_the_champion() -> None:
    assert released(FULL, "1") == Aliases("1", "3", "2")


def test_a_release_after_the_champion_was_archived_keeps_it_as_the_way_back() -> None:
    assert released(archived(FULL, "2"), "3") == Aliases("3", None, "2")


def test_a_rollback_brings_the_archived_version_back_and_archives_nothing() -> None:
    assert rolled_back(FULL) == Aliases("1", "3", None)


def test_a_second_rollback_says_that_there_is_nothing_further_back() -> None:
    with pytest.raises(
        ReleaseRefusedError, match="nothing further back than the champion, version 1"
    ):
        rolled_back(rolled_back(FULL))


def test_a_rollback_goes_to_the_version_that_is_named() -> None:
    assert rolled_back(Aliases("1", "3"), to="4") == Aliases("4", "3", None)
    assert rolled_back(FULL, to="3") == Aliases("3", None, None)


def test_an_archived_champion_has_no_successor_and_a_rollback_brings_it_back() -> None:
    assert archived(FULL, "2") == Aliases(None, "3", "2")
    assert rolled_back(archived(FULL, "2")) == Aliases("2", "3", None)


def test_an_archived_challenger_does_not_become_the_way_back() -> None:
    assert archived(FULL, "3") == Aliases("2", None, "1")


def test_no_alias_points_to_a_retired_version() -> None:
    assert retired(Aliases("2", "1", "1"), "1") == Aliases("2")


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda: challenged(FULL, "2"), "version 2 is champion already"),
        (lambda: challenged(FULL, "3"), "version 3 is challenger already"),
        (lambda: released(FULL, "2"), "version 2 is champion already"),
        (lambda: rolled_back(FULL, to="2"), "version 2 is champion already"),
        (lambda: archived(FULL, "1"), "version 1 is archived"),
        (lambda: archived(FULL, "9"), "version 9 is candidate"),
        (lambda: retired(FULL, "2"), "version 2 is the champion"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(move: Callable[[], Aliases], said: str) -> None:
    with pytest.raises(ReleaseRefusedError, match=said):
        move()


def test_aliases_of_others_are_left_alone() -> None:
    assert Aliases.of({"champion": "1", "mine": "2"}).versions == {"champion": "1"}


def test_a_release_by_hand_leaves_the_champion_before_as_the_way_back() -> None:
    assert adopted(FULL, Aliases("4", "3", "1")) == Aliases("4", "3", "2")


def test_a_rollback_by_hand_leaves_no_way_back() -> None:
    assert adopted(FULL, Aliases("1", "3", "1")) == Aliases("1", "3", None)


def test_a_way_back_that_was_set_by_hand_is_adopted() -> None:
    assert adopted(FULL, Aliases("4", "3", None)) == Aliases("4", "3", None)
    assert adopted(FULL, Aliases("2", "3", "4")) == Aliases("2", "3", "4")


def test_a_challenger_that_was_made_champion_by_hand_is_challenger_no_more() -> None:
    assert adopted(FULL, Aliases("3", "3", "1")) == Aliases("3", None, "2")


def test_the_first_of_the_aliases_decides_on_the_stage() -> None:
    assert [FULL.stage(v) for v in "1234"] == ["archived", "champion", "challenger", "candidate"]
    assert Aliases("2", "1", "1").stage("1") == "challenger"


@given(*[st.builds(Aliases, ONE_OR_NONE, ONE_OR_NONE, ONE_OR_NONE)] * 2)
def test_the_stages_that_changed_are_those_of_the_moved_versions(a: Aliases, b: Aliases) -> None:
    changed = stages(a, b)
    for version in "1234":
        assert changed.get(version, a.stage(version)) == b.stage(version)
    assert all(a.stage(version) != stage for version, stage in changed.items())


class Moves(RuleBasedStateMachine):
    """Moves in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.aliases = Aliases()

    def make(self, move: Callable[[], Aliases]) -> None:
        before = self.aliases
        try:
            self.aliases = move()
        except ReleaseRefusedError:
            return
        assert self.aliases != before or move.__name__ == "retire"

    @rule(version=VERSIONS)
    def challenge(self, version: str) -> None:
        self.make(lambda: challenged(self.aliases, version))

    @rule(version=VERSIONS)
    def release(self, version: str) -> None:
        before = self.aliases.champion
        self.make(lambda: released(self.aliases, version))
        assert self.aliases.champion == version
        if before not in (None, version):
            assert self.aliases.archived == before

    @rule(to=ONE_OR_NONE)
    def roll_back(self, to: str | None) -> None:
        before = self.aliases
        self.make(lambda: rolled_back(self.aliases, to))
        if self.aliases != before:
            assert self.aliases.champion == (to or before.archived)
            assert self.aliases.archived is None

    @rule(version=VERSIONS)
    def archive(self, version: str) -> None:
        self.make(lambda: archived(self.aliases, version))

    @rule(version=VERSIONS)
    def retire(self, version: str) -> None:
        def retire() -> Aliases:
            return retired(self.aliases, version)

        self.make(retire)

    @rule(found=st.builds(Aliases, ONE_OR_NONE, ONE_OR_NONE, ONE_OR_NONE))
    def adopt(self, found: Aliases) -> None:
        self.aliases = adopted(self.aliases, found)
        assert self.aliases.champion == found.champion

    @invariant()
    def the_champion_is_nothing_else(self) -> None:
        champion = self.aliases.champion
        assert champion is None or champion not in (self.aliases.challenger, self.aliases.archived)


TestMoves = Moves.TestCase
