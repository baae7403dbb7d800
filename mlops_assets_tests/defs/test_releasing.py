"""What is inconclusive is held until a person approves it; what was approved is released."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.defs import keys, main_job, records, releasing
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.instance import opened
from mlops_assets.errors import ApprovalError, RegistryError, ReleaseRefusedError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION
from mlops_assets.stores.releases import Releases
from mlops_assets_tests import third_party
from mlops_assets_tests.defs.release_shop import LENIENT, UNDECIDED, trainable
from mlops_assets_tests.stores.release_world import release

pytestmark = third_party.WARNS


def run(platform: Platform, spec: ModelSpec) -> main_job.Outcome:
    return main_job.run(platform, [spec], spec, listener=lambda _: None, announce=lambda _: None)


def champion(platform: Platform, spec: ModelSpec) -> str | None:
    found = platform.registry.alias(spec.name, CHAMPION)
    return found.version if found else None


def job(platform: Platform, spec: ModelSpec, name: str, **form: Any) -> dg.ExecuteInProcessResult:
    """Run one of the jobs for people as the Launchpad does."""
    op = {"approve": "approve_version", "reject": "reject_version", "rollback": "roll_back"}[name]
    with opened(platform.settings) as instance:
        return (
            build_definitions([spec])
            .resolve_job_def(name)
            .execute_in_process(
                instance=instance,
                run_config={"ops": {op: {"config": {"model": spec.name, **form}}}},
                raise_on_error=False,
            )
        )


def failure(result: dg.ExecuteInProcessResult) -> str:
    [found] = [e for e in result.all_events if e.is_step_failure]
    return str(found.event_specific_data)


def test_an_undecided_version_is_held_until_somebody_else_approves_it(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trainable(tmp_path, gates=UNDECIDED)
    monkeypatch.setenv("MLOPS_ACTOR", "ann")
    ann = Platform(type(platform.settings)())
    held = run(ann, spec)
    assert not held.released
    assert champion(ann, spec) is None

    def approve(actor: str) -> releasing.Released:
        with opened(ann.settings) as instance:
            return releasing.approve(instance, ann, spec, "1", actor=actor, reason="looked at it")

    with pytest.raises(ApprovalError, match="requested the release"):
        approve("ann")
    assert champion(ann, spec) is None
    released = approve("bob")
    assert champion(ann, spec) == "1"
    assert released.entry is not None
    assert (released.entry.actor, released.entry.approver) == ("ann", "bob")
    with opened(ann.settings) as instance:
        assert records.needed(instance, keys.champion(spec))["approved_by"] == "bob"
    actions = [entry.action for entry in ann.ledger.entries(spec.name)]
    assert actions == ["request", "request", "approval", "challenge", "release"]
    assert ann.ledger.verify() is None
    tags = ann.registry.version(spec.name, "1").tags
    assert tags["mlops.stage"] == "champion"
    assert tags["mlops.ledger_seq"] == str(released.entry.seq)


def test_the_jobs_for_people_reject_approve_and_roll_back(
    platform: Platform, tmp_path: Path
) -> None:
    spec = trainable(tmp_path, gates=UNDECIDED)
    run(platform, spec)
    assert job(platform, spec, "reject", version="1", reason="not now", approver="eve").success
    approval = job(platform, spec, "approve", version="1", reason="fine", approver="bob")
    assert "rejected by eve: not now" in failure(approval)
    assert champion(platform, spec) is None

    other = trainable(tmp_path, seed=1)
    assert run(platform, other).released
    last = trainable(tmp_path, seed=2)
    assert run(platform, last).released
    assert champion(platform, spec) == "3"
    assert job(platform, last, "rollback", reason="complaints", actor="eve").success
    assert champion(platform, spec) == "2"
    again = job(platform, last, "rollback", reason="complaints", actor="eve")
    assert "nothing further back" in failure(again)
    unknown = job(platform, last, "rollback", reason="x", actor="eve", to="1")
    assert "never was champion" in failure(unknown)


def test_a_champion_that_was_moved_by_hand_is_reported_and_stops_releases(
    platform: Platform, tmp_path: Path
) -> None:
    spec = trainable(tmp_path)
    assert run(platform, spec).released
    other = trainable(tmp_path, seed=1)
    assert run(platform, other).released
    platform.registry.set_alias(spec.name, CHAMPION, "1")
    definitions = build_definitions([other])
    with opened(platform.settings) as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"platform": platform}, definitions=definitions
        )
        sensor = definitions.resolve_sensor_def("alias_matches_ledger_sensor")
        tick = sensor.evaluate_tick(context)
    [event] = tick.asset_events
    assert not event.passed
    assert "champion points to version 1, the ledger says version 2" in str(event.description)
    stopped = run(platform, trainable(tmp_path, seed=2))
    assert not stopped.released
    assert "moved by hand" in str(stopped.error)
    platform.releases(other).revert(spec.name, actor="eve", reason="by hand")
    assert champion(platform, spec) == "2"


def test_a_failed_version_cannot_be_approved(platform: Platform, tmp_path: Path) -> None:
    spec = trainable(tmp_path, gates=LENIENT.model_copy(update={"ece_limit": 0.02}))
    orders = tmp_path / "orders.csv"
    # On the day of the holdout the other half is returned.
    turned = {"0": "1", "1": "0"}
    orders.write_text(
        re.sub(
            r"(o2024-01-04.*),([01]),",
            lambda found: f"{found[1]},{turned[found[2]]},",
            orders.read_text(),
        )
    )
    outcome = run(platform, spec)
    assert outcome.version is not None
    assert "failed" in {verdict.outcome for verdict in outcome.version.verdicts}
    with (
        opened(platform.settings) as instance,
        pytest.raises(ReleaseRefusedError, match="failed"),
    ):
        releasing.approve(instance, platform, spec, "1", actor="bob", reason="please")
    assert champion(platform, spec) is None


def test_an_approval_names_the_version_that_cannot_be_approved(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = trainable(tmp_path)
    platform.registry.client.create_registered_model(spec.name)
    platform.registry.client.create_model_version(spec.name, "/nowhere/1")
    release(Releases(platform.ledger, platform.registry), "1")

    def approve(version: str) -> None:
        releasing.approve(instance, platform, spec, version, actor="bob", reason="please")

    with pytest.raises(RegistryError, match="no version 9"):
        approve("9")
    with pytest.raises(ReleaseRefusedError, match="version 1 of 'returns' is the champion already"):
        approve("1")
