"""A rollout moves by its rules, and nobody who saw the canary loses it but by an abort."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlops_assets.core.rollout import MOVES, Move, Rollout, State
from mlops_assets.core.routing import BUCKETS, route
from mlops_assets.errors import DeclarationError, RolloutError

STEPS = (5.0, 25.0, 50.0, 100.0)
ENTITIES = [str(i) for i in range(300)]
CLOSED = ("done", "aborted")
STEP_LISTS = st.lists(st.integers(1, BUCKETS), min_size=1, max_size=5, unique=True).map(
    lambda buckets: tuple(b / 100 for b in sorted(buckets))
)


def shadow(steps: tuple[float, ...] = STEPS) -> Rollout:
    return Rollout("r", "2", "salt", steps)


def at_last_step() -> Rollout:
    return shadow().start().advance().advance().advance()


def move(rollout: Rollout, name: Move) -> Rollout:
    return rollout.finish(rollout.version) if name == "finish" else getattr(rollout, name)()


def versions(rollout: Rollout, champion: str = "1") -> set[str]:
    table = rollout.table(champion)
    return {route(entity, table).version for entity in ENTITIES}


def test_a_rollout_begins_in_shadow_where_everybody_gets_the_champion() -> None:
    assert shadow().table("1").shadow == "2"
    assert versions(shadow()) == {"1"}


def test_a_canary_takes_the_share_of_its_step() -> None:
    rollout = shadow().start()
    assert [rollout.share, rollout.advance().share] == [500, 2_500]
    arms = {arm.name: arm.share for arm in rollout.table("1").arms}
    assert arms == {"canary": 500, "control": 500, "champion": 9_000}


def test_the_last_step_gives_everybody_the_new_version() -> None:
    assert versions(at_last_step()) == {"2"}


@pytest.mark.parametrize("rollout", [shadow(), shadow().start().advance()])
def test_a_paused_rollout_routes_as_before_and_goes_on_where_it_was(rollout: Rollout) -> None:
    assert rollout.pause().table("1") == rollout.table("1")
    assert rollout.pause().resume() == rollout


def test_an_aborted_rollout_gives_everybody_the_champion() -> None:
    assert versions(at_last_step().abort()) == {"1"}


def test_a_shadow_that_is_aborted_scores_nobody() -> None:
    assert shadow().abort().table("1").shadow is None


def test_a_rollout_that_is_done_leaves_the_choice_to_the_champion() -> None:
    done = at_last_step().finish("2")
    assert versions(done, "2") == {"2"}
    assert versions(done, "1") == {"1"}, "a rollback after it counts"


def test_a_rollout_cannot_finish_before_its_version_is_released() -> None:
    with pytest.raises(RolloutError, match="the champion is 1"):
        at_last_step().finish("1")


def test_a_move_that_is_not_possible_names_those_that_are() -> None:
    with pytest.raises(RolloutError) as refused:
        shadow().start().finish("2")
    assert "canary at step 1 of 4: finish is not possible" in refused.value.found
    assert refused.value.expected == "one of: advance, pause, abort"


@pytest.mark.parametrize("rollout", [shadow().abort(), at_last_step().finish("2")])
def test_a_closed_rollout_has_no_moves(rollout: Rollout) -> None:
    assert rollout.allowed == ()
    with pytest.raises(RolloutError, match="no move, it is closed"):
        rollout.abort()


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (0, 5),
        (5, 5),
        (25, 5),
        (5, 101),
        (0.001,),
        (-5, 5),
        (1e308,),
        (float("inf"),),
        (float("nan"),),
    ],
)
def test_steps_that_do_not_grow_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(DeclarationError, match="percents"):
        shadow(steps)


@pytest.mark.parametrize(
    ("state", "step"),
    [("shadow", 0), ("canary", None), ("canary", 4), ("paused", -1), ("done", 1), ("lost", None)],
)
def test_a_state_that_does_not_fit_its_step_is_refused(state: State, step: int | None) -> None:
    with pytest.raises(DeclarationError, match="in the state"):
        Rollout("r", "2", "s", STEPS, state, step)


@given(STEP_LISTS)
def test_any_growing_steps_are_walked_to_the_end(steps: tuple[float, ...]) -> None:
    rollout, shares = shadow(steps).start(), []
    while "advance" in rollout.allowed:
        shares.append(rollout.share)
        rollout = rollout.advance()
    assert [*shares, rollout.share] == [round(step * 100) for step in steps]
    assert rollout.finish("2").state == "done"


class Moves(RuleBasedStateMachine):
    """Any moves in any order, seen by those who are served."""

    def __init__(self) -> None:
        super().__init__()
        self.rollout = shadow()
        self.champion = "1"
        self.share = 0
        self.saw: set[str] = set()

    @initialize(steps=STEP_LISTS)
    def begin(self, steps: tuple[float, ...]) -> None:
        self.rollout = shadow(steps)

    @rule(name=st.sampled_from(["start", "advance", "advance", "pause", "resume", "finish"]))
    def try_a_move(self, name: Move) -> None:
        if name == "finish" and "finish" in self.rollout.allowed:
            self.champion = self.rollout.version
        self.try_or_be_refused(name)

    @precondition(lambda self: self.rollout.state == "canary")
    @rule()
    def abort(self) -> None:
        self.try_or_be_refused("abort")

    def try_or_be_refused(self, name: Move) -> None:
        before = self.rollout
        if name in before.allowed:
            assert name in MOVES[before.state]
            self.rollout = move(before, name)
            assert self.rollout != before
        else:
            with pytest.raises(RolloutError):
                move(before, name)

    @invariant()
    def the_share_grows_or_falls_to_nothing_by_an_abort(self) -> None:
        share = self.rollout.share
        assert share == 0 if self.rollout.state == "aborted" else share >= self.share
        self.share = share

    @invariant()
    def who_saw_the_new_version_sees_it_until_an_abort(self) -> None:
        table = self.rollout.table(self.champion)
        see = {e for e in ENTITIES if route(e, table).version == self.rollout.version}
        if self.rollout.state == "aborted":
            assert not see
        else:
            assert see >= self.saw
        self.saw = see


TestMoves = Moves.TestCase
