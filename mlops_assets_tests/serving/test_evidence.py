"""What a worker counts of arms: an entity is one observation, whatever and how often it asks."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.routing import Arm, canary_table, champion_only, split_table
from mlops_assets.core.sequential import Sums
from mlops_assets.serving import evidence
from mlops_assets.serving.evidence import Evidence


def counted(found: Evidence) -> dict[tuple[str, str, str], Sums]:
    """The totals of a worker that nobody is beside."""
    asked = found.waiting("r")
    found.settle("r", asked, asked)
    return found.totals("r")


TABLE = canary_table("r", "", 500, canary="2", champion="1")
SPLIT = split_table("r", "", (Arm("old", "1", 5_000), Arm("new", "2", 5_000)), champion="1")
WIDE = canary_table("r", "", 10_000, canary="2", champion="1")

# An entity, empty for none, a score or None for a refusal, and whether it was slow.
ASKED = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.none() | st.floats(0, 1), st.booleans()),
    max_size=30,
)


@given(ASKED)
def test_the_totals_are_those_of_the_entities(
    asked: list[tuple[str, float | None, bool]],
) -> None:
    found, by_entity = Evidence(), defaultdict[str, list[tuple[float | None, bool]]](list)
    for at, (entity, score, slow) in enumerate(asked):
        if score is None:
            found.refused(TABLE, "canary", [entity])
        else:
            found.answered(TABLE, "canary", [score], [entity], slow)
        by_entity[entity or f"alone {at}"].append((score, slow))
    totals = counted(found)
    if not asked:
        assert totals == {}
        return
    groups = by_entity.values()
    errors = [sum(score is None for score, _ in one) / len(one) for one in groups]
    slow = [sum(late and score is not None for score, late in one) / len(one) for one in groups]
    first = [one[0][0] for one in groups if one[0][0] is not None]
    for number, values in (("errors", errors), ("slow", slow), ("score", first)):
        sums = totals.get(("traffic", "canary", number), Sums())
        expected = Sums.of(values)
        assert sums.n == expected.n
        assert sums.total == pytest.approx(expected.total)
        assert sums.squares == pytest.approx(expected.squares)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.floats(0, 1), st.integers(0, 2), st.booleans())
    )
)
def test_an_entity_that_asks_several_workers_is_one_observation_of_all_together(
    asked: list[tuple[str, float, int, bool]],
) -> None:
    workers, claims = [Evidence() for _ in range(3)], dict[int, int]()
    for entity, score, number, look in asked:
        workers[number].answered(TABLE, "canary", [score], [entity], False)
        for at, worker in enumerate(workers):
            # The last look is that of all; before, some look now and then.
            if look and at == number:
                claim(worker, at, claims)
    for at, worker in enumerate(workers):
        claim(worker, at, claims)
    sums = [worker.totals("r").get(("traffic", "canary", "score"), Sums()) for worker in workers]
    errors = [worker.totals("r").get(("traffic", "canary", "errors"), Sums()) for worker in workers]
    entities = len({entity for entity, *_ in asked})
    assert sum(one.n for one in sums) == sum(one.n for one in errors) == entities


def claim(worker: Evidence, number: int, claims: dict[int, int]) -> None:
    """As the store does it: an entity is counted by who asks first."""
    asked = worker.waiting("r")
    ours = {
        key: {mark for mark in marks if claims.setdefault(mark, number) == number}
        for key, marks in asked.items()
    }
    worker.settle("r", asked, ours)


def test_what_nobody_has_claimed_yet_is_not_counted() -> None:
    found = Evidence()
    for entity in ("a", ""):
        found.answered(TABLE, "canary", [0.1], [entity], True)
    assert found.totals("r")["traffic", "canary", "score"].n == 1
    assert found.totals("r")["traffic", "canary", "slow"] == Sums(1, 1.0, 1.0)
    asked = found.waiting("r")
    found.settle("r", asked, {key: set() for key in asked})
    found.answered(TABLE, "canary", [0.1], ["a"], True)
    assert found.waiting("r") == {}
    assert found.totals("r")["traffic", "canary", "slow"] == Sums(1, 1.0, 1.0)


def test_those_who_take_no_part_are_not_counted() -> None:
    found = Evidence()
    found.answered(TABLE, "champion", [0.1], ["a"], False)
    found.refused(champion_only("1"), "champion", ["a"])
    found.answered(SPLIT, "new", [0.1], ["a"], False)
    assert found.totals("r") == found.totals("") == {}


def test_above_half_of_the_traffic_entities_are_no_evidence_on_the_split() -> None:
    found = Evidence()
    found.answered(TABLE, "canary", [0.1, 0.2], ["a", "a"], False)
    found.answered(TABLE, "control", [0.1], ["b"], False)
    found.answered(WIDE, "canary", [0.1] * 3, ["b", "c", "d"], False)
    totals = counted(found)
    assert totals["traffic", "canary", "entities"] == Sums(1)
    assert totals["traffic", "control", "entities"] == Sums(1)
    assert totals["traffic", "canary", "score"].n == 4


def test_an_entity_is_one_observation_of_the_shadow_too() -> None:
    found = Evidence()
    found.shadowed("r", [0.2, None, 0.4], [0.1, 0.5, 0.3], ["a", "a", "b"])
    totals = counted(found)
    assert totals["shadow", "shadow", "errors"] == Sums(2, 0.5, 0.25)
    assert totals["shadow", "champion", "errors"] == Sums(2)
    assert totals["shadow", "shadow", "score"] == Sums.of([0.2, 0.4])
    assert totals["shadow", "champion", "score"] == Sums.of([0.1, 0.3])


def test_beyond_the_most_entities_others_count_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_ENTITIES", 2)
    found = Evidence()
    found.answered(TABLE, "canary", [0.1] * 4, ["a", "b", "c", "a"], True)
    assert counted(found)["traffic", "canary", "score"].n == 2


def test_a_request_is_late_once_however_many_rows_it_has() -> None:
    found = Evidence()
    found.answered(TABLE, "canary", [0.1] * 4, ["a", "b", "c", "d"], True)
    assert counted(found)["traffic", "canary", "slow"] == Sums(4, 1.0, 1.0)


def test_what_is_not_kept_is_forgotten() -> None:
    found = Evidence()
    found.answered(TABLE, "canary", [0.1], [""], False)
    found.keep(["r"])
    assert found.totals("r")
    found.keep([])
    assert not found.totals("r")
