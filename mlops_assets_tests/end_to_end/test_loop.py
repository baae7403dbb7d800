"""The whole loop with all its processes: drift in requests ends in a new champion, by itself.

And where it must not: a bad candidate ends in a refusal, a bad canary in a rollback.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.defs import main_job, retraining
from mlops_assets_tests import third_party
from mlops_assets_tests.end_to_end import loop_shop
from mlops_assets_tests.end_to_end.loop_world import Loop, moment, until
from mlops_assets_tests.stores.alert_world import running

pytestmark = [pytest.mark.end_to_end, *third_party.WARNS]

SERVED, PRESENT, AFTER = 15, 17, 18
DRIFTED = "returns/feature_drift/size_doubled"
REFUSED = "returns/calibration_report/not_overfitted"
ABORTED = "returns: abort of version 3 by model server"


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A home whose champion has learned from the orders before they grew."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by a run, so put back after it
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    monkeypatch.setenv("MLOPS_NOW", moment(SERVED).isoformat())
    with running() as duty:
        found = Loop(tmp_path, duty)
        loop_shop.write_files(tmp_path, until=loop_shop.DRIFT)
        spec = loop_shop.shop_in(tmp_path)
        platform = found.platform
        main_job.run(platform, [spec], spec, listener=lambda _: None, announce=lambda _: None)
        monkeypatch.delenv("MLOPS_NOW")
        assert found.champion == "1"
        yield found


def test_drift_ends_in_a_new_champion_though_daemon_and_worker_are_killed_on_the_way(
    loop: Loop,
) -> None:
    with loop.serving(SERVED) as client:
        for _ in range(8):
            assert loop.ask(client, SERVED) == {"1"}
    loop_shop.write_files(loop.folder, until=PRESENT)
    loop_shop.set_now(loop.home, moment(PRESENT))

    with loop.dagster() as daemon:
        with loop.serving(PRESENT) as client, loop.traffic(client, PRESENT):
            # What drifted was found, and perhaps not told yet.
            until(lambda: loop.platform.incidents.open("returns"))
            daemon.kill()
            daemon.start()
            daemon.kill_worker()
            until(lambda: daemon.retrains()[0].status is dg.DagsterRunStatus.FAILURE)
            loop_shop.set_now(loop.home, moment(PRESENT, hour=13))  # the back-off is over
            until(lambda: loop.champion == "2")
            until(lambda: loop.ask(client, PRESENT) == {"2"})
        with loop.serving(AFTER) as client:
            for _ in range(8):
                assert loop.ask(client, AFTER) == {"2"}
        loop_shop.set_now(loop.home, moment(AFTER + 1))
        until(lambda: f"RESOLVED: {DRIFTED}" in loop.titles)
        until(daemon.predicts_anew)
        killed, good = daemon.retrains()

    assert loop.failed == []
    assert good.status is dg.DagsterRunStatus.SUCCESS
    assert good.tags[retraining.CAUSE].startswith("drift")
    told = Counter(loop.titles)
    assert told[f"CRITICAL: {DRIFTED}"] == 1
    assert told["WARNING: run of retrain_returns failed"] == 1
    assert max(told.values()) == 1
    entries = loop.platform.ledger.entries("returns")
    retrain = next(entry for entry in entries if entry.action == "retrain")
    assert retrain.reason == good.tags[retraining.CAUSE]
    assert retrain.evidence["dagster_run"] == good.run_id
    done = [entry.action for entry in entries if entry.seq > retrain.seq]
    assert done == ["challenge", "rollout", "advance", "advance", "release", "finish"]
    assert {e.actor for e in entries if e.action == "advance"} == {"model server"}
    assert loop.platform.ledger.verify() is None
    assert killed.status is dg.DagsterRunStatus.FAILURE


def test_a_bad_candidate_is_refused_and_a_bad_canary_is_rolled_back(loop: Loop) -> None:
    with loop.serving(SERVED) as client:
        for _ in range(8):
            assert loop.ask(client, SERVED) == {"1"}
    with loop.serving(SERVED + 1) as client:
        for _ in range(8):
            assert loop.ask(client, SERVED + 1, amounts=10) == {"1"}
    loop_shop.write_files(loop.folder, until=PRESENT)
    loop_shop.change(loop.home, gates={"overfit_limit": 1e-6})
    loop_shop.set_now(loop.home, moment(SERVED + 1))

    with loop.dagster() as daemon:
        # Orders have grown: a retrain, and a gate that its version does not pass.
        until(lambda: f"CRITICAL: {REFUSED}" in loop.titles)
        until(lambda: daemon.retrains()[-1].is_finished)
        assert loop.champion == "1"
        assert loop.platform.rollouts.last("returns") is None

        # Sales have grown too: another retrain, on labels that are wrong, and gates that see less.
        loop_shop.write_files(loop.folder, until=PRESENT, mislabelled=True)
        loop_shop.change(loop.home, rollout={"labels": 200})
        loop_shop.set_now(loop.home, moment(PRESENT))
        with loop.serving(PRESENT) as client, loop.traffic(client, PRESENT):
            until(lambda: loop.platform.rollouts.last("returns"))
            until(lambda: loop.platform.rollouts.open("returns") is None, loop.standing)
            until(lambda: f"CRITICAL: {ABORTED}" in loop.titles)
            for _ in range(4):
                assert loop.ask(client, PRESENT) == {"1"}
        refused, bad = daemon.retrains()

    assert loop.failed == []
    assert loop.champion == "1"
    assert all(run.tags[retraining.CAUSE].startswith("drift") for run in (refused, bad))
    assert max(Counter(loop.titles).values()) == 1
    entries = loop.platform.ledger.entries("returns")
    first, second = (entry.seq for entry in entries if entry.action == "retrain")
    assert [entry.action for entry in entries if first < entry.seq < second] == []
    done = [entry for entry in entries if entry.seq > second]
    assert [entry.action for entry in done] == [
        "challenge",
        "rollout",
        "advance",
        "abort",
        "archive",
    ]
    assert done[-2].actor == "model server"
    # The shadow cannot see it: only labels tell.
    assert done[-2].reason.startswith(("calibration", "brier", "outside"))
    assert done[-2].evidence["readings"]["calibration"]["canary"]["n"] >= 100
    assert loop.platform.ledger.verify() is None
