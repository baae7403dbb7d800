import dataclasses

import numpy as np
import pytest

from mlops_assets.core.rollout import Rollout
from mlops_assets.replay.canary import ON_CANARY, ON_CONTROL, OTHERS, Canary
from mlops_assets.replay.candidates import Candidate
from mlops_assets.replay.walk import Walk
from mlops_assets.replay.year import Year
from mlops_assets.rollouts.canary import CanaryCall
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets_tests.replay.replay_world import DAY, FIRST

POLICY = RolloutPolicy(
    steps=(25, 50, 100), shadow_rows=50, least_rows=100, labels=200, errors=0.3, slow=0.3,
    brier=0.1, calibration=0.3, coverage=0.3, score_shift=0.9,
)  # fmt: skip
BEGAN = FIRST + 30 * DAY


class Contrary:
    """A model that says the opposite of another one."""

    def __init__(self, model: object) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def probabilities(self, inputs: object) -> np.ndarray:
        return 1 - self._model.probabilities(inputs)


def contrary(candidate: Candidate) -> Candidate:
    return dataclasses.replace(candidate, fitted=Contrary(candidate.fitted), _scores={})


def canary_of(walk: Walk, candidate: Candidate, steps: int = 1) -> Canary:
    """A canary in shadow, or that many moves further."""
    rollout = Rollout("one", candidate.version, "salt", steps=POLICY.steps)
    for step in range(steps):
        rollout = rollout.advance() if step else rollout.start()
    return Canary(candidate, walk.versions["1"], rollout, BEGAN, BEGAN)


def said(shop: Year, canary: Canary, days: int = 20) -> CanaryCall:
    """What is decided after so many days."""
    year = Year(shop.spec.model_copy(update={"rollout": POLICY}), shop.table)
    rows = year.between(BEGAN, BEGAN + days * DAY)
    return canary.look(year, rows, canary.arms_of(year.entities(rows)), BEGAN + days * DAY)


def test_an_entity_keeps_its_arm_while_the_share_grows(shop: Year, steady: Walk) -> None:
    first = canary_of(steady, steady.versions["2"])
    grown = first.moved(first.rollout.advance(), BEGAN + DAY)
    entities = shop.entities(shop.between(BEGAN, BEGAN + DAY))
    before, after = first.arms_of(entities), grown.arms_of(entities)
    assert set(before) == {OTHERS, ON_CANARY, ON_CONTROL}
    assert ((before == after) | (before == OTHERS)).all()
    assert (after == ON_CANARY).sum() > (before == ON_CANARY).sum()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_version_that_is_as_good_advances(shop: Year, steady: Walk, steps: int) -> None:
    assert said(shop, canary_of(steady, steady.versions["2"], steps)).move == "advance"


def test_with_all_traffic_it_is_compared_with_those_who_were_drawn_beside_it(
    shop: Year, steady: Walk
) -> None:
    half = canary_of(steady, steady.versions["2"], steps=2)
    full = half.moved(half.rollout.advance(), BEGAN + 15 * DAY)
    year = Year(shop.spec.model_copy(update={"rollout": POLICY}), shop.table)
    before, after = (year.between(BEGAN + a * DAY, BEGAN + b * DAY) for a, b in ((0, 15), (15, 20)))
    rows = slice(before.start, after.stop)
    arms = np.concatenate(
        [one.arms_of(year.entities(part)) for one, part in ((half, before), (full, after))]
    )
    assert full.look(year, rows, arms, BEGAN + 20 * DAY).move == "advance"


def test_a_version_that_is_wrong_is_rolled_back_by_labels_alone(shop: Year, steady: Walk) -> None:
    wrong = contrary(steady.versions["2"])
    assert said(shop, canary_of(steady, wrong, steps=0)).move == "advance"
    found = said(shop, canary_of(steady, wrong))
    assert found.move == "abort"
    assert "brier" in found.reason


def test_outcomes_that_are_not_known_yet_decide_nothing(shop: Year, steady: Walk) -> None:
    canary = canary_of(steady, contrary(steady.versions["2"]))
    year = Year(shop.spec.model_copy(update={"rollout": POLICY}), shop.table)
    rows = year.between(BEGAN, BEGAN + 20 * DAY)
    found = canary.look(year, rows, canary.arms_of(year.entities(rows)), BEGAN)
    labelled = {one.guardrail: one.canary.n for one in found.readings}
    assert (labelled["brier"], labelled["outside"]) == (0, 0)
    assert labelled["score"] > 0


def test_what_is_counted_is_what_the_rows_say_of_each_entity_the_first(
    shop: Year, steady: Walk
) -> None:
    canary = canary_of(steady, steady.versions["2"])
    rows = shop.between(BEGAN, BEGAN + 20 * DAY)
    place = shop.table.column_names.index("item")
    # Every shop orders once a day: without its own item each is one entity.
    table = shop.table.set_column(place, "item", [["tea"] * len(shop.times)])
    few = said(Year(shop.spec, table), canary)
    readings = {one.guardrail: one for one in said(shop, canary).readings}
    mine = canary.arms_of(shop.entities(rows)) == ON_CANARY
    scores = steady.versions["2"].fitted.probabilities(shop.inputs(rows))[mine]
    labels = shop.labels[rows][mine]
    known = shop.known[rows][mine] < np.datetime64(BEGAN + 20 * DAY, "us")
    assert readings["score"].canary.mean == pytest.approx(scores.mean())
    assert readings["brier"].canary.mean == pytest.approx(((scores - labels) ** 2)[known].mean())
    own = np.where(labels == 1, scores, 1 - scores)[known]
    outside = 1 - own > steady.versions["2"].fitted.rule.quantile
    assert readings["outside"].canary.total == outside.sum()
    assert readings["calibration"].canary.n == known.sum()
    score = next(one for one in few.readings if one.guardrail == "score")
    assert score.canary.n + score.control.n <= 60
