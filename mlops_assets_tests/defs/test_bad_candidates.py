"""What the loop does with bad versions: gates refuse one, the model server aborts another.

Each time the champion goes on serving, and somebody is told once. Sensors tick and runs run in this
process; the loop of a good version, with all its processes, is in `end_to_end/test_loop.py`.
"""

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.core.incident import Reading, Subject
from mlops_assets.defs import main_job, retraining
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.instance import opened
from mlops_assets.defs.sensors import alerting
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests import third_party
from mlops_assets_tests.defs.release_shop import LENIENT
from mlops_assets_tests.end_to_end import loop_shop
from mlops_assets_tests.rollouts.rollout_world import challenged
from mlops_assets_tests.serving.conftest import rolling as rolling
from mlops_assets_tests.serving.conftest import shop as shop
from mlops_assets_tests.serving.conftest import staged_home as staged_home
from mlops_assets_tests.serving.rollout_home import QUICK, WHO, ask, spec_of, worker_of
from mlops_assets_tests.serving.running import in_thread, wait_for
from mlops_assets_tests.stores.alert_world import Server, running

pytestmark = third_party.WARNS

SERVED = dt.datetime(2024, 1, 15, tzinfo=dt.UTC)
PRESENT = dt.datetime(2024, 1, 17, 12, tzinfo=dt.UTC)
STRICT = LENIENT.model_copy(update={"overfit_limit": 1e-6})
"""Gates that no version passes: all but one let everything through."""


@pytest.fixture
def duty() -> Iterator[Server]:
    """Who is alerted."""
    with running() as found:
        yield found


def at(home: Path, duty: Server, now: dt.datetime = PRESENT) -> Platform:
    """The stores of a home whose alerts go to somebody."""
    channels = [{"name": "duty", "url": f"json://127.0.0.1:{duty.port}/"}]
    return Platform(Settings(home=home, now=now, alert_channels=channels))  # type: ignore[arg-type]


class Daemon:
    """Ticks sensors by name, as the daemon does."""

    def __init__(self, platform: Platform, spec: ModelSpec, instance: dg.DagsterInstance) -> None:
        self.definitions = build_definitions([spec], {"platform": platform})
        self.platform, self.instance = platform, instance
        self.cursors: dict[str, str | None] = {}

    def tick(self, *names: str) -> list[dg.RunRequest]:
        """Evaluate sensors; the runs that they ask for."""
        asked: list[dg.RunRequest] = []
        for name in names:
            context = dg.build_sensor_context(
                self.instance,
                cursor=self.cursors.get(name),
                resources={"platform": self.platform},
            )
            found = self.definitions.resolve_sensor_def(name)(context)
            if isinstance(found, dg.SensorResult):
                self.cursors[name] = found.cursor or self.cursors.get(name)
                asked += found.run_requests or []
            elif isinstance(found, dg.RunRequest):
                asked.append(found)
        return asked

    def run(self, request: dg.RunRequest, job: str = "") -> dg.ExecuteInProcessResult:
        """Run what was asked for."""
        found = (
            self.definitions.resolve_job_def(job)
            if job
            else self.definitions.resolve_implicit_global_asset_job_def()
        )
        return found.execute_in_process(
            instance=self.instance,
            run_config=request.run_config,
            tags=dict(request.tags),
            asset_selection=list(request.asset_selection or []) or None,
            raise_on_error=False,
        )

    def tell_of_failure(self, failed: dg.ExecuteInProcessResult) -> None:
        """Evaluate the sensor of failed runs about a run."""
        event = next(e for e in failed.all_events if e.event_type_value == "PIPELINE_FAILURE")
        with dg.build_run_status_sensor_context(
            sensor_name="run_alerts",
            dagster_instance=self.instance,
            dagster_run=failed.dagster_run,
            dagster_event=event,
            resources={"platform": self.platform},
        ) as context:
            alerting.run_alerts()(context.for_run_failure())


def test_a_retrained_version_that_fails_a_gate_changes_nothing_and_is_told_of_once(
    platform: Platform, tmp_path: Path, duty: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_shop.write_files(tmp_path, until=loop_shop.DRIFT)
    good = loop_shop.shop_in(tmp_path)
    with monkeypatch.context() as then:
        then.setenv("MLOPS_NOW", SERVED.isoformat())
        main_job.run(platform, [good], good, listener=lambda _: None, announce=lambda _: None)
    loop_shop.write_files(tmp_path, until=17)
    spec = loop_shop.shop_in(tmp_path, STRICT)
    now = at(platform.settings.root, duty)
    with opened(now.settings) as instance:
        daemon = Daemon(now, spec, instance)
        [tables] = daemon.tick("stale_tables")
        assert daemon.run(tables).success
        daemon.tick("check_alerts", "ledger_alerts")
        subject = Subject(spec.name, "feature_drift", "size_doubled")
        reading = Reading(SERVED, "critical", "PSI 8")
        now.incidents.observe(
            spec.name,
            [(subject, reading)],
            spec.monitoring.incidents,
            lambda _: None,
            now=PRESENT,
        )

        name = retraining.job(spec)
        [request] = daemon.tick(f"{name}_sensor")
        assert request.tags[retraining.CAUSE].startswith("drift: returns/feature_drift")
        failed = daemon.run(request, name)
        assert not failed.success
        daemon.tell_of_failure(failed)
        for _ in range(2):
            daemon.tick("check_alerts", "ledger_alerts", "alert_delivery")
        # What drifted was answered, by a version that is no better.
        assert daemon.tick(f"{name}_sensor") == []

    assert [one["title"] for one in duty.taken] == [
        "CRITICAL: returns/calibration_report/not_overfitted"
    ]
    verdicts = {v.gate: v.outcome for v in now.registry.version(spec.name, "2").verdicts}
    assert verdicts["not_overfitted"] == "failed"
    aliases = now.ledger.state(spec.name).aliases
    assert (aliases.champion, aliases.challenger) == ("1", None)
    assert now.rollouts.last(spec.name) is None
    last = now.ledger.entries(spec.name)[-1]
    assert (last.action, last.version) == ("retrain", "2")
    assert last.reason == request.tags[retraining.CAUSE]


def is_open(platform: Platform) -> bool:
    return platform.rollouts.open("returns") is not None


def test_a_canary_that_says_something_else_is_aborted_and_told_of_once(
    rolling: Platform, duty: Server, instance: dg.DagsterInstance
) -> None:
    policy = QUICK.model_copy(update={"score_shift": 0.01})
    spec = spec_of(rolling, policy)
    challenged(rolling, spec, 1)
    platform = at(rolling.settings.root, duty)
    daemon = Daemon(platform, spec, instance)
    told = ("ledger_alerts", "canary_does_no_harm_sensor", "check_alerts", "alert_delivery")
    daemon.tick(*told)
    moves.start(rolling, spec, "3", **WHO)
    # The shadow would stop it before its first answer.
    moves.move(rolling, spec, "advance", **WHO)
    with in_thread(worker_of(rolling, policy)) as client:
        turns = itertools.count()
        # Each request has its answer: `ask` refuses another.
        wait_for(lambda: (ask(client, 200, first=200 * next(turns)), not is_open(rolling))[1])
        wait_for(lambda: {one["version"] for one in ask(client, 50)} == {"1"})
    for _ in range(2):
        daemon.tick(*told)
    assert rolling.rollouts.last(spec.name).traffic.state == "aborted"  # type: ignore[union-attr]
    actions = [entry.action for entry in rolling.ledger.entries(spec.name)[-2:]]
    assert actions == ["abort", "archive"]
    aliases = rolling.ledger.state(spec.name).aliases
    assert (aliases.champion, aliases.challenger) == ("1", None)
    assert [one["title"] for one in duty.taken] == [
        "CRITICAL: returns: abort of version 3 by model server"
    ]
