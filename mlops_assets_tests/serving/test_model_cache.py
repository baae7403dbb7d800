"""Which versions take traffic: new ones when they are loaded and warm, else those before."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlops_assets.core.routing import CANARY, CHAMPION, CONTROL, canary_table, champion_only
from mlops_assets.errors import ArtifactError
from mlops_assets.platform import Platform
from mlops_assets.serving.model_cache import RETRY_SECONDS, ModelCache
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.traffic import Plan
from mlops_assets.stores.registry import ModelVersion
from mlops_assets_tests.serving.shop_home import FEATURES, specs_in

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


class Said:
    """Traffic as a test says it."""

    def __init__(self, plan: Plan | None) -> None:
        self.plan, self.away = plan, False
        self.told: list[tuple[str, str, str]] = []

    def table(self, model: str) -> Plan | None:
        if self.away:
            raise ConnectionError
        return self.plan

    def refused(self, model: str, version: str, reason: str) -> None:
        self.told.append((model, version, reason))


class World:
    """A cache of one model, whose versions are all the first one, if they are not broken."""

    def __init__(self, shop: Platform) -> None:
        self.spec = specs_in(shop.settings.root)[0]
        self.first = shop.registry.version("returns", "1")
        self.fitted = shop.registry.load(self.first)
        self.broken: set[str] = set()
        self.loads: list[tuple[str, bool]] = []
        self.now = 0.0
        self.traffic = Said(self.champion("1"))
        self.cache = ModelCache(
            (self.spec,),
            self.traffic,
            self.load,
            lambda model, version, ready: self.loads.append((version, ready)),
            lambda: self.now,
        )

    def versions(self, **arms: str) -> Mapping[str, ModelVersion]:
        return {arm: replace(self.first, version=number) for arm, number in arms.items()}

    def champion(self, number: str) -> Plan:
        return Plan(champion_only(number), self.versions(champion=number))

    def load(self, version: ModelVersion) -> Any:
        if version.version in self.broken:
            raise ArtifactError("a changed file", expected="the registered one", do="train again")
        return self.fitted

    def release(self, number: str) -> None:
        self.traffic.plan = self.champion(number)
        self.cache.refresh()

    @property
    def served(self) -> str:
        return self.cache.get("returns").table.rest.version


@pytest.fixture
def world(shop: Platform) -> World:
    found = World(shop)
    found.cache.refresh()
    return found


def test_a_new_champion_takes_the_traffic(world: World) -> None:
    world.release("2")
    assert world.served == "2"
    assert list(world.cache.get("returns").models) == ["2"]


def test_a_version_is_loaded_once(world: World) -> None:
    world.cache.refresh()
    world.cache.refresh()
    assert world.loads == [("1", True)]


def test_a_version_that_cannot_be_loaded_never_takes_traffic(world: World) -> None:
    world.broken.add("2")
    world.release("2")
    assert (world.served, world.cache.lagging) == ("1", ["returns"])
    assert world.loads[-1] == ("2", False)


def test_a_version_that_cannot_be_loaded_is_tried_again_after_a_pause(world: World) -> None:
    world.broken.add("2")
    world.release("2")
    world.broken.clear()
    world.cache.refresh()
    assert world.served == "1"
    world.now += RETRY_SECONDS
    world.cache.refresh()
    assert (world.served, world.cache.lagging) == ("2", [])


def test_a_version_on_other_inputs_never_takes_traffic(world: World) -> None:
    class Other:
        feature_names_in_ = ("another",)

        def predict_proba(self, inputs: Any) -> Any:
            return np.full((len(inputs), 2), 0.5)

    world.fitted = replace(world.fitted, classifier=Other())  # type: ignore[type-var]
    world.release("2")
    assert world.served == "1"


def test_a_version_that_does_not_predict_never_takes_traffic(world: World) -> None:
    class Mute:
        def predict_proba(self, inputs: Any) -> Any:
            raise RuntimeError

    world.fitted = replace(world.fitted, classifier=Mute())  # type: ignore[type-var]
    world.release("2")
    assert world.served == "1"


def test_the_last_good_state_stays_when_the_registry_is_away(world: World) -> None:
    world.traffic.away = True
    world.cache.refresh()
    assert world.served == "1"
    assert world.cache.registry.failing_since is not None
    world.traffic.away = False
    world.cache.refresh()
    assert world.cache.registry.failing_since is None


def test_a_model_whose_champion_is_gone_is_not_served(world: World) -> None:
    world.traffic.plan = None
    world.cache.refresh()
    with pytest.raises(Refusal, match="no champion") as refused:
        world.cache.get("returns")
    assert refused.value.status == 404


def test_a_model_that_nobody_could_ever_load_is_not_there_yet(shop: Platform) -> None:
    world = World(shop)
    world.traffic.away = True
    world.cache.refresh()
    with pytest.raises(Refusal) as refused:
        world.cache.get("returns")
    assert refused.value.status == 503


def test_a_rollout_gives_each_entity_its_arm_and_the_version_behind_it(world: World) -> None:
    table = canary_table("r1", "salt", 5_000, canary="2", champion="1")
    arms = self_versions = world.versions(**{CANARY: "2", CONTROL: "1", CHAMPION: "1"})
    world.traffic.plan = Plan(table, arms)
    world.cache.refresh()
    serving = world.cache.get("returns")
    found = {serving.of(str(number))[0].name for number in range(50)}
    assert found == {CANARY, CONTROL}
    for number in range(50):
        arm, model = serving.of(str(number))
        assert self_versions[arm.name].version == model.version


def test_a_loaded_version_has_predicted_and_has_the_quick_way(world: World) -> None:
    served = world.cache.get("returns").models["1"]
    assert served.quick is not None
    assert served.predict([list(FEATURES.values())])["probability"].shape == (1,)


def test_what_is_served_is_that_of_one_moment(world: World) -> None:
    world.cache.refresh()
    before = world.cache.serving
    world.traffic.plan = None
    world.cache.refresh()
    assert (list(before), list(world.cache.serving)) == (["returns"], [])
