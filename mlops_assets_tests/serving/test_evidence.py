"""What a worker counts of arms: an entity is one observation, whatever and how often it asks."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.routing import canary_table, champion_only
from mlops_assets.core.sequential import Sums
from mlops_assets.serving import evidence
from mlops_assets.serving.evidence import Evidence

TABLE = canary_table("r", "", 500, canary="2", champion="1")
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
    totals = found.totals("r")
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


def test_those_who_take_no_part_are_not_counted() -> None:
    found = Evidence()
    found.answered(TABLE, "champion", [0.1], ["a"], False)
    found.refused(champion_only("1"), "champion", ["a"])
    assert found.totals("r") == found.totals("") == {}


def test_above_half_of_the_traffic_entities_are_no_evidence_on_the_split() -> None:
    found = Evidence()
    found.answered(TABLE, "canary", [0.1, 0.2], ["a", "a"], False)
    found.answered(TABLE, "control", [0.1], ["b"], False)
    found.answered(WIDE, "canary", [0.1] * 3, ["b", "c", "d"], False)
    totals = found.totals("r")
    assert totals["traffic", "canary", "entities"] == Sums(1)
    assert totals["traffic", "control", "entities"] == Sums(1)
    assert totals["traffic", "canary", "score"].n == 4


def test_an_entity_is_one_observation_of_the_shadow_too() -> None:
    found = Evidence()
    found.shadowed("r", [0.2, None, 0.4], [0.1, 0.5, 0.3], ["a", "a", "b"])
    totals = found.totals("r")
    assert totals["shadow", "shadow", "errors"] == Sums(2, 0.5, 0.25)
    assert totals["shadow", "champion", "errors"] == Sums(2)
    assert totals["shadow", "shadow", "score"] == Sums.of([0.2, 0.4])
    assert totals["shadow", "champion", "score"] == Sums.of([0.1, 0.3])


def test_beyond_the_most_entities_others_count_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_ENTITIES", 2)
    found = Evidence()
    found.answered(TABLE, "canary", [0.1] * 4, ["a", "b", "c", "a"], True)
    assert found.totals("r")["traffic", "canary", "slow"] == Sums(2, 2.0, 2.0)


def test_what_is_not_kept_is_forgotten() -> None:
    found = Evidence()
    found.answered(TABLE, "canary", [0.1], [""], False)
    found.keep(["r"])
    assert found.totals("r")
    found.keep([])
    assert not found.totals("r")
