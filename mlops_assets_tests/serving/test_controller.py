"""The controller of rollouts in a worker: it advances, aborts and releases by itself, once."""

import itertools
import time

import pytest

from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings
from mlops_assets_tests.rollouts.rollout_world import cause, challenged
from mlops_assets_tests.serving.rollout_home import (
    QUICK,
    ROLLOUT,
    WHO,
    ask,
    follows,
    metric,
    spec_of,
    worker_of,
)
from mlops_assets_tests.serving.running import PATIENCE, Client, in_thread, wait_for
from mlops_assets_tests.serving.shop_home import NOW
from mlops_assets_tests.serving.test_rollouts import begin

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


def traffic(platform: Platform, *clients: Client) -> None:
    """Ask until no rollout is open any more: moves are seconds apart, however fast the answers."""
    end = time.monotonic() + PATIENCE
    for turn in itertools.count():
        for at, client in enumerate(clients):
            ask(client, 100, first=100 * (len(clients) * turn + at))
        if platform.rollouts.open("returns") is None:
            return
        if time.monotonic() > end:
            raise AssertionError(clients[0].get(ROLLOUT).body)


def test_a_good_version_goes_all_the_way_by_itself(rolling: Platform) -> None:
    worker = worker_of(rolling, QUICK)
    with in_thread(worker) as client:
        moves.start(rolling, worker.specs[0], "2", **WHO)
        traffic(rolling, client)
        wait_for(lambda: {one["version"] for one in ask(client, 20)} == {"2"})
        # Its metrics show no rollout any more.
        wait_for(lambda: metric(client, "mlops_rollout_info") == 0)
    told = rolling.ledger.entries("returns")
    done = [entry.action for entry in told][-6:]
    assert done == ["rollout", "advance", "advance", "advance", "release", "finish"]
    assert {e.actor for e in told[-5:] if e.action != "release"} == {"model server"}
    assert told[-2].actor == "ann"
    assert told[-1].evidence["readings"]["errors"]["finding"] == "no harm"
    assert rolling.ledger.verify() is None


def test_a_version_that_says_something_else_is_aborted_by_itself(rolling: Platform) -> None:
    policy = QUICK.model_copy(update={"score_shift": 0.01, "shadow_rows": 300})
    challenged(rolling, spec_of(rolling), 1)
    with in_thread(worker_of(rolling, policy)) as client:
        begin(rolling, "3")
        traffic(rolling, client)
        assert {one["version"] for one in ask(client, 50)} == {"1"}
    told = rolling.ledger.entries("returns")[-2:]
    assert [(entry.action, entry.actor) for entry in told] == [
        *(("abort", "model server"), ("archive", "model server")),
    ]
    assert told[0].evidence["readings"]["score"]["finding"] == "harm"
    assert rolling.ledger.state("returns").aliases.challenger is None


def test_what_was_given_up_is_archived_by_whoever_starts_next(rolling: Platform) -> None:
    worker = worker_of(rolling)
    begin(rolling, "2")
    moves.move(
        rolling, worker.specs[0], "abort", **WHO, evidence={moves.GIVEN_UP: True}
    )  # and then killed
    with in_thread(worker):
        wait_for(lambda: rolling.ledger.state("returns").aliases.challenger is None)
    said = rolling.ledger.entries("returns")[-1]
    assert (said.action, said.actor, said.reason) == ("archive", "model server", WHO["reason"])


def test_what_a_person_brings_back_stays(rolling: Platform) -> None:
    worker = worker_of(rolling)
    begin(rolling, "2")
    spec, version = worker.specs[0], rolling.registry.version("returns", "2")
    moves.give_up(rolling, spec, **WHO)
    assert rolling.ledger.state("returns").aliases.challenger is None
    rolling.releases(spec).challenge("returns", "2", **cause(rolling, spec, version))
    moves.archive_given_up(rolling, spec, actor="model server")
    assert rolling.ledger.state("returns").aliases.challenger == "2"


def test_an_abort_by_hand_archives_nothing(rolling: Platform) -> None:
    worker = worker_of(rolling)
    begin(rolling, "2")
    moves.move(rolling, worker.specs[0], "abort", **WHO)
    moves.archive_given_up(rolling, worker.specs[0], actor="model server")
    assert rolling.ledger.state("returns").aliases.challenger == "2"


def test_what_was_counted_last_is_written_when_a_worker_stops(rolling: Platform) -> None:
    begin(rolling, "2", steps=(40, 100))
    moves.move(rolling, spec_of(rolling), "advance", **WHO)
    rollout = rolling.rollouts.open("returns")
    assert rollout is not None
    # It looks once, when it starts.
    with in_thread(Worker(rolling, (spec_of(rolling),), ServeOptions(poll_seconds=600))) as client:
        ask(client, 50)
        assert rolling.rollouts.sums(rollout.traffic.id) == {}
    sums = rolling.rollouts.sums(rollout.traffic.id)
    assert sum(one.n for counted, one in sums.items() if counted.number == "errors") > 20


def test_workers_that_decide_at_once_make_every_move_once(rolling: Platform) -> None:
    others = [Platform(Settings(home=rolling.settings.root, now=NOW)) for _ in range(2)]
    workers = [worker_of(platform, QUICK) for platform in others]
    with in_thread(workers[0]) as one, in_thread(workers[1]) as other:
        for worker, source in zip(workers, ("w1", "w2"), strict=True):
            # Two processes would have names of their own.
            worker.controller._source = source
        moves.start(rolling, workers[0].specs[0], "2", **WHO)
        traffic(rolling, one, other)
        wait_for(lambda: all(follows(worker, rolling) for worker in workers))
    done = [entry.action for entry in rolling.ledger.entries("returns")][-6:]
    assert done == ["rollout", "advance", "advance", "advance", "release", "finish"]
    rollout = rolling.rollouts.last("returns")
    assert rollout is not None
    assert {counted.source for counted in rolling.rollouts.sums(rollout.traffic.id)} == {"w1", "w2"}
    for platform in others:
        platform.ledger.close()
