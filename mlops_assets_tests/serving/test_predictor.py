"""What is counted and logged of a request whose rows are not all answered, or not at one speed."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlops_assets.core.routing import canary_table, route
from mlops_assets.core.sequential import Sums
from mlops_assets.serving import arms
from mlops_assets.serving.evidence import Evidence
from mlops_assets.serving.model_cache import Serving
from mlops_assets.serving.predictor import Asked, Predictor
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.shadow import Shadowed
from mlops_assets.stores.inference_log import Prediction
from mlops_assets_tests.serving.test_evidence import counted

TABLE = canary_table("r", "", 5_000, canary="2", champion="1")
LIMIT = 50


class Version:
    """A version that doubles its input; it refuses -1 and breaks on -2."""

    spec = SimpleNamespace(rollout=SimpleNamespace(latency_limit_ms=LIMIT, shadow_share=1.0))

    def __init__(self, version: str, clock: list[float]) -> None:
        self.version, self._clock, self.seconds = version, clock, 0.0
        self.strange: Mapping[float, Exception] = {
            -1: Refusal("a strange value", expected="an ordinary one"),
            -2: KeyError("broken"),
        }

    def predict(self, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
        self._clock[0] += self.seconds
        for row in rows:
            if row[0] in self.strange:
                raise self.strange[row[0]]
        return {"probability": np.array([row[0] * 2 for row in rows])}


class World:
    """A predictor of one model whose canary has half of the traffic."""

    def __init__(self) -> None:
        self.clock = [0.0]
        self.control, self.canary = Version("1", self.clock), Version("2", self.clock)
        self.records: list[Prediction] = []
        self.failed: list[tuple[Any, ...]] = []
        self.predicted: list[tuple[Any, ...]] = []
        self.shadowed: list[Shadowed] = []
        self.evidence = Evidence()
        models: Any = {"1": self.control, "2": self.canary}
        cache: Any = SimpleNamespace(get=lambda model: Serving(TABLE, models))
        counts: Any = SimpleNamespace(
            failed=lambda *told: self.failed.append(told),
            predicted=lambda *told: self.predicted.append(told),
            features=lambda *_: None,
            logged=lambda *_: None,
        )
        rows: Any = {"m": SimpleNamespace(keys=("item",), inputs=("amount",))}
        self.predictor = Predictor(
            cache, rows, self, counts, self.evidence, self.shadowed.extend  # type: ignore[arg-type]
        )  # fmt: skip

    def append_all(self, records: Sequence[Prediction]) -> int:
        self.records.extend(records)
        return 0

    def ask(self, rows: Mapping[str, float], version: str | None = None) -> Any:
        asked = [Asked([value], {"item": item}) for item, value in rows.items()]
        return self.predictor.predict("m", asked, 0.0, version)

    def errors(self, arm: str) -> Sums | None:
        return counted(self.evidence).get(("traffic", arm, "errors"))

    def drawn(self, arm: str) -> int:
        return counted(self.evidence)["traffic", arm, "entities"].n

    def slow(self, arm: str) -> float:
        return counted(self.evidence)["traffic", arm, "slow"].total


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(arms, "perf_counter", lambda: found.clock[0])
    return found


def entities(arm: str, n: int) -> list[str]:
    """Entities that get an arm."""
    names = (f"i{at}" for at in range(10_000))
    found = [name for name in names if route(f"item={name}", TABLE).name == arm]
    return found[:n]


def test_one_bad_row_is_one_error_of_its_own_arm_and_of_no_other(world: World) -> None:
    canary, control = entities("canary", 20), entities("control", 20)
    asked = dict.fromkeys([*canary, *control], 0.5) | {canary[3]: -1.0}
    with pytest.raises(Refusal, match="a strange value"):
        world.ask(asked)
    assert world.errors("canary") == Sums(20, 1, 1)
    assert world.errors("control") == Sums(20, 0, 0)
    assert world.failed == [("m", "2", "canary", 1)]
    assert [(one.entity["item"], one.status, one.outputs) for one in world.records] == [
        (canary[3], "refused", {})
    ]
    assert (world.predicted, world.shadowed) == ([], [])


def test_a_version_that_breaks_is_counted_and_logged_and_the_error_goes_on(world: World) -> None:
    canary, control = entities("canary", 2), entities("control", 1)
    with pytest.raises(KeyError, match="broken"):
        world.ask({control[0]: -1, canary[0]: -2.0, canary[1]: 1})
    assert (world.errors("canary"), world.errors("control")) == (Sums(2, 1, 1), Sums(1, 1, 1))
    assert (world.drawn("canary"), world.drawn("control")) == (2, 1)
    assert world.failed == [("m", "1", "control", 1), ("m", "2", "canary", 1)]
    assert [one.status for one in world.records] == ["refused", "refused"]


def test_rows_that_fail_only_together_have_all_failed(world: World) -> None:
    predict = world.canary.predict

    def alone(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
        if len(rows) > 1:
            raise MemoryError
        return predict(rows)

    world.canary.predict = alone  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        world.ask(dict.fromkeys(entities("canary", 2), 1.0))
    assert world.errors("canary") == Sums(2, 2, 2)


def test_a_version_that_the_client_named_is_counted_but_not_compared(world: World) -> None:
    with pytest.raises(Refusal):
        world.ask(dict.fromkeys(entities("canary", 2), -1.0), version="2")
    assert world.failed == [("m", "2", "requested", 2)]
    assert counted(world.evidence) == {}


def test_a_slow_canary_is_slow_and_its_control_is_not(world: World) -> None:
    world.canary.seconds = 2 * LIMIT / 1000
    said = world.ask(dict.fromkeys([*entities("canary", 3), *entities("control", 4)], 1.0))
    assert [one.score for one in said] == [2.0] * 7
    assert (world.slow("canary"), world.slow("control")) == (1.0, 0.0)
