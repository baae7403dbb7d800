"""The shadow thread: slow, broken, overrun, and closed in the middle; answers never wait for it."""

import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import pytest

from mlops_assets.platform import Platform
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.serving.shadow import AT_ONCE, Shadow, Shadowed
from mlops_assets.stores.inference_log import Prediction
from mlops_assets_tests.serving.rollout_home import ask, logged, metric, spec_of, worker_of
from mlops_assets_tests.serving.running import in_thread, wait_for
from mlops_assets_tests.serving.test_rollouts import begin

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
NOON = datetime(2024, 1, 4, 12, tzinfo=UTC)


class Named:
    name, inputs = "returns", ("amount",)


class Scorer:
    """A version that doubles its input; a row of -1 is refused, one of -2 breaks it."""

    spec, version = Named(), "2"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def predict(self, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
        self.go.wait(30)
        self.batches.append(len(rows))
        values = np.array([row[0] for row in rows])
        if (values == -1).any():
            raise Refusal("a strange value", expected="an ordinary one")
        if (values == -2).any():
            raise RuntimeError
        return {"probability": values * 2}


class World:
    def __init__(self, most: int = 2_000) -> None:
        self.scorer, self.records = Scorer(), list[Prediction]()
        self.scored: list[tuple[Any, ...]] = []
        self.dropped, self.full = 0, False
        self.shadow = Shadow(
            self.log, lambda *told: self.scored.append(told), lambda *_: None, self.drop, most
        )

    def log(self, records: Sequence[Prediction]) -> None:
        if self.full:
            raise OSError
        self.records.extend(records)

    def drop(self, model: str, rows: int) -> None:
        assert model == "returns"
        self.dropped += rows

    def offer(self, *values: float, rollout: str = "r", by: Scorer | None = None) -> None:
        served = cast(ServedModel, by or self.scorer)
        self.shadow.offer(
            [
                Shadowed(rollout, served, f"p{v:g}", NOON, [v], {"item": v}, {}, {}, 0.5, f"i{v:g}")
                for v in values
            ]
        )

    def wait(self, rows: int) -> None:
        wait_for(lambda: len(self.records) + self.dropped >= rows)


@pytest.fixture
def world() -> Iterator[World]:
    found = World()
    yield found
    found.scorer.go.set()
    found.shadow.close()


def test_what_is_offered_is_scored_and_logged_under_its_id(world: World) -> None:
    world.offer(0.1, 0.2)
    wait_for(lambda: len(world.scored) > 0)
    world.wait(2)
    assert [(r.id, r.arm, r.version, r.outputs, r.status) for r in world.records] == [
        ("p0.1", "shadow", "2", {"probability": 0.2}, "ok"),
        ("p0.2", "shadow", "2", {"probability": 0.4}, "ok"),
    ]
    told = [(name, s, a, e) for name, *rest in world.scored for s, a, e in zip(*rest, strict=True)]
    assert told == [("r", 0.2, 0.5, "i0.1"), ("r", 0.4, 0.5, "i0.2")]


def test_rows_that_wait_are_scored_together_up_to_a_limit(world: World) -> None:
    world.scorer.go.clear()
    world.offer(0)
    world.offer(*range(1, 601))
    world.scorer.go.set()
    world.wait(601)
    assert sum(world.scorer.batches) == 601
    assert max(world.scorer.batches) == AT_ONCE
    assert [record.id for record in world.records] == [f"p{v}" for v in range(601)]


def test_rows_of_two_rollouts_or_versions_are_never_mixed(world: World) -> None:
    other = Scorer()
    world.scorer.go.clear()
    world.offer(0)
    world.offer(1, 2, rollout="r")
    world.offer(3, 4, rollout="s")
    world.offer(5, rollout="s", by=other)
    world.offer(6, rollout="s")
    world.scorer.go.set()
    wait_for(lambda: sum(len(one[1]) for one in world.scored) == 7)
    assert [(one[0], len(one[1])) for one in world.scored][-3:] == [("s", 2), ("s", 1), ("s", 1)]
    assert other.batches == [1]


@pytest.mark.parametrize("bad", [-1, -2])
def test_a_row_that_fails_fails_alone(
    world: World, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        world.scorer.go.clear()
        world.offer(0.5)
        world.offer(1, bad, 3)
        world.scorer.go.set()
        wait_for(lambda: sum(len(one[1]) for one in world.scored) == 4)
    by_id = {record.id: (record.status, record.outputs) for record in world.records}
    assert by_id == {
        "p0.5": ("ok", {"probability": 1.0}),
        "p1": ("ok", {"probability": 2.0}),
        f"p{bad}": ("refused", {}),
        "p3": ("ok", {"probability": 6.0}),
    }
    assert [score for one in world.scored for score in one[1]] == [1.0, 2.0, None, 6.0]
    assert world.dropped == 0


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits() -> None:
    world = World(most=10)
    world.scorer.go.clear()
    world.offer(0)
    wait_for(lambda: world.shadow._queue.empty())  # the thread holds the first
    world.offer(*range(1, 31))
    assert world.dropped == 20
    world.offer(99)
    assert world.dropped == 21
    world.scorer.go.set()
    world.wait(32)
    assert [record.id for record in world.records] == [f"p{v}" for v in range(11)]
    world.shadow.close()


def test_a_log_that_takes_nothing_drops_the_rows_and_is_no_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        world.full = True
        world.offer(1)
        wait_for(lambda: world.dropped == 1)
        assert world.scored == []
        world.full = False
        world.offer(2)
        wait_for(lambda: len(world.records) == 1)


def test_closed_in_the_middle_the_rest_is_dropped_and_counted() -> None:
    world = World()
    world.scorer.go.clear()
    world.offer(0)
    wait_for(lambda: world.shadow._queue.empty())
    world.offer(*range(1, 601))
    closing = threading.Thread(target=world.shadow.close)
    closing.start()
    wait_for(lambda: world.dropped == 600)
    world.scorer.go.set()
    closing.join()
    assert [record.id for record in world.records] == ["p0"]
    world.offer(7)  # a request that was still in work
    assert world.dropped == 601
    assert not world.shadow._thread or not world.shadow._thread.is_alive()


def test_a_shadow_that_was_never_used_closes() -> None:
    world = World()
    world.shadow.close()
    world.offer(1)
    assert world.dropped == 1


def test_a_slow_shadow_delays_no_answer_and_what_is_too_much_is_counted(
    rolling: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(rolling)
    worker, go = worker_of(rolling), threading.Event()
    predict = ServedModel.predict

    def slow(self: ServedModel, given: Any) -> Any:
        if self.version == "2" and threading.current_thread().name == "shadow":
            go.wait(30)
        return predict(self, given)

    monkeypatch.setattr(ServedModel, "predict", slow)
    with in_thread(worker) as client:
        for turn in range(6):  # answered, all of them, while the shadow stands still
            assert {one["version"] for one in ask(client, 500, 500 * turn)} == {"1"}
        wait_for(lambda: metric(client, "mlops_shadow_dropped_total") >= 700)
        dropped = metric(client, "mlops_shadow_dropped_total")
        go.set()
        wait_for(lambda: len(logged(rolling.settings.root)) == 6_000 - dropped)
    arms = [one["arm"] for one in logged(rolling.settings.root)]
    assert (arms.count("champion"), arms.count("shadow")) == (3_000, 3_000 - dropped)
    assert spec_of(rolling).name == "returns"


def test_a_broken_shadow_fails_no_answer_and_ends_its_own_rollout(
    rolling: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlops_assets_tests.serving.rollout_home import QUICK

    predict = ServedModel.predict

    def broken(self: ServedModel, given: Any) -> Any:
        if self.version == "2" and threading.current_thread().name == "shadow":
            raise RuntimeError
        return predict(self, given)

    monkeypatch.setattr(ServedModel, "predict", broken)
    begin(rolling)
    with in_thread(worker_of(rolling, QUICK)) as client, caplog.at_level(logging.CRITICAL):
        first = 0

        def ended() -> bool:
            nonlocal first
            first += 50
            assert {one["version"] for one in ask(client, 50, first)} == {"1"}
            return rolling.rollouts.open("returns") is None

        wait_for(ended)
    entry = rolling.ledger.entries("returns", actions=("abort",))[-1]
    assert entry.evidence["readings"]["errors"]["finding"] == "harm"
