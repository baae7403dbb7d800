"""The guard lets a version through only on the recorded verdicts of exactly that version."""

from collections.abc import Callable

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from mlops_assets.core.evidence import GATES
from mlops_assets.defs import guard, keys
from mlops_assets.errors import DataError, ReleaseRefusedError
from mlops_assets.showcase.flights.specs import SPECS

SPEC = SPECS[0]
ABOUT = {"version": "1", "snapshot": "s", "evidence": "e", "champion_compared": "none"}
CHECKS = ("contract", "leakage_free", "no_label_in_features")


def materialize(instance: dg.DagsterInstance, **change: str) -> None:
    for key in (keys.candidate(SPEC), keys.report(SPEC)):
        about = {**ABOUT, **change}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=about))


def judge(instance: dg.DagsterInstance, name: str, verdict: str = "passed", **change: str) -> None:
    target = instance.fetch_materializations(keys.report(SPEC), limit=1).records[0]
    data = AssetCheckEvaluationTargetMaterializationData(
        storage_id=target.storage_id, run_id=target.run_id, timestamp=target.timestamp
    )
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=keys.report(SPEC),
            check_name=name,
            passed=verdict == "passed",
            metadata={**ABOUT, **change, "verdict": verdict, "reason": "measured"},
            target_materialization_data=data,
        )
    )


def judge_training_set(
    instance: dg.DagsterInstance, name: str, outcome: str = "passed", **change: object
) -> None:
    metadata = {"snapshot": "s", "verdict": outcome, "reason": "measured", **change}
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=keys.training_set(SPEC),
            check_name=name,
            passed=outcome == "passed",
            metadata={k: v for k, v in metadata.items() if v is not None},
        )
    )


def begin(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> None:
    """Start a run whose check dies before it says anything."""

    @dg.asset_check(asset=key.asset_key, name=key.name)
    def dies() -> dg.AssetCheckResult:
        raise RuntimeError("killed")

    dg.Definitions(asset_checks=[dies]).resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False
    )


def judge_all(instance: dg.DagsterInstance) -> None:
    for name in GATES:
        judge(instance, name)
    for name in CHECKS:
        judge_training_set(instance, name)


def test_all_gates_passed_is_clearance(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    cleared = guard.clearance(instance, SPEC)
    assert cleared.version == "1"
    assert cleared.verdicts == dict.fromkeys(GATES, "passed")
    assert set(cleared.checks) == set(CHECKS)


def test_without_a_report_there_is_nothing_to_clear(instance: dg.DagsterInstance) -> None:
    with pytest.raises(DataError, match="never materialized"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("name", GATES)
def test_a_missing_verdict_refuses(instance: dg.DagsterInstance, name: str) -> None:
    materialize(instance)
    for other in set(GATES) - {name}:
        judge(instance, other)
    with pytest.raises(ReleaseRefusedError, match=f"{name}: it was never evaluated"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("name", GATES)
def test_a_failed_verdict_refuses(instance: dg.DagsterInstance, name: str) -> None:
    materialize(instance)
    judge_all(instance)
    judge(instance, name, "failed")
    with pytest.raises(ReleaseRefusedError, match=f"{name}: failed"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("name", GATES)
def test_an_inconclusive_verdict_is_told_and_left_to_the_releases(
    instance: dg.DagsterInstance, name: str
) -> None:
    materialize(instance)
    judge_all(instance)
    judge(instance, name, "inconclusive")
    verdicts = guard.clearance(instance, SPEC).verdicts
    assert verdicts == {**dict.fromkeys(GATES, "passed"), name: "inconclusive"}


def test_only_the_version_of_the_newest_report_can_be_approved(
    instance: dg.DagsterInstance,
) -> None:
    materialize(instance)
    guard.need_newest(instance, SPEC, "1")
    with pytest.raises(ReleaseRefusedError, match="is about version 1, not 2"):
        guard.need_newest(instance, SPEC, "2")


def test_verdicts_on_an_earlier_report_refuse(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    materialize(instance)
    with pytest.raises(ReleaseRefusedError, match=r"ece_below_limit: it judged materialization \d"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("part", guard.IDENTITY)
def test_verdicts_about_something_else_refuse(instance: dg.DagsterInstance, part: str) -> None:
    materialize(instance)
    judge_all(instance)
    judge(instance, "ece_below_limit", **{part: "other"})
    with pytest.raises(ReleaseRefusedError, match=f"it judged {part} other"):
        guard.clearance(instance, SPEC)


def test_a_report_on_another_version_than_the_candidate_refuses(
    instance: dg.DagsterInstance,
) -> None:
    materialize(instance)
    judge_all(instance)
    newer = dg.AssetMaterialization(keys.candidate(SPEC), metadata={**ABOUT, "version": "2"})
    instance.report_runless_asset_event(newer)
    with pytest.raises(ReleaseRefusedError, match="the candidate is version 2"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_the_training_set_that_was_never_evaluated_refuses(
    instance: dg.DagsterInstance, name: str
) -> None:
    materialize(instance)
    for gate in GATES:
        judge(instance, gate)
    for other in set(CHECKS) - {name}:
        judge_training_set(instance, other)
    with pytest.raises(ReleaseRefusedError, match=f"released: {name}: it was never evaluated"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("verdict", ["failed", "inconclusive"])
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_the_training_set_that_did_not_pass_refuses(
    instance: dg.DagsterInstance, name: str, verdict: str
) -> None:
    materialize(instance)
    judge_all(instance)
    judge_training_set(instance, name, verdict)
    with pytest.raises(ReleaseRefusedError, match=f"released: {name}: {verdict}: measured"):
        guard.clearance(instance, SPEC)


def test_a_check_that_passed_on_another_snapshot_refuses(instance: dg.DagsterInstance) -> None:
    materialize(instance, snapshot="newer")
    judge_all(instance)
    with pytest.raises(ReleaseRefusedError, match="leakage_free: it judged snapshot s, not newer"):
        guard.clearance(instance, SPEC)


def test_a_newer_snapshot_that_fails_does_not_speak_against_the_one_of_the_report(
    instance: dg.DagsterInstance,
) -> None:
    materialize(instance)
    judge_all(instance)
    for name in CHECKS:
        judge_training_set(instance, name, "failed", snapshot="newer")
    assert guard.clearance(instance, SPEC).snapshot == "s"


def test_of_two_evaluations_of_a_snapshot_the_newer_decides(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    judge_training_set(instance, "leakage_free", "failed")
    judge_training_set(instance, "leakage_free", snapshot="newer")
    with pytest.raises(ReleaseRefusedError, match="leakage_free: failed"):
        guard.clearance(instance, SPEC)


def test_an_evaluation_too_long_ago_is_not_looked_for(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LOOK_BACK", 2)
    materialize(instance)
    judge_all(instance)
    judge_training_set(instance, "contract", snapshot="newer")
    assert guard.clearance(instance, SPEC).snapshot == "s"
    judge_training_set(instance, "contract", snapshot="newest")
    with pytest.raises(ReleaseRefusedError, match="contract: it judged snapshot newest, not s"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize("lost", ["snapshot", "verdict"])
def test_a_check_that_does_not_say_what_or_how_it_judged_refuses(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(guard, "LOOK_BACK", 1)
    materialize(instance)
    judge_all(instance)
    judge_training_set(instance, "contract", **{lost: None})
    with pytest.raises(ReleaseRefusedError, match=r"contract: (it judged|no verdict)"):
        guard.clearance(instance, SPEC)


def test_a_check_that_failed_refuses_whatever_it_says(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    judge_training_set(instance, "contract", "failed", verdict="passed")
    with pytest.raises(ReleaseRefusedError, match="released: contract"):
        guard.clearance(instance, SPEC)


@pytest.mark.parametrize(
    ("asset", "name"), [(keys.report, "ece_below_limit"), (keys.training_set, "leakage_free")]
)
def test_a_check_that_was_begun_and_never_ended_refuses(
    instance: dg.DagsterInstance, asset: Callable[..., dg.AssetKey], name: str
) -> None:
    materialize(instance)
    judge_all(instance)
    begin(instance, dg.AssetCheckKey(asset(SPEC), name))
    with pytest.raises(ReleaseRefusedError, match=f"{name}: its last evaluation is planned"):
        guard.clearance(instance, SPEC)


def test_without_stored_views_there_is_no_leakage_check_to_demand() -> None:
    features = SPEC.features.model_copy(update={"views": ()})
    without = SPEC.model_copy(update={"features": features})
    demanded = [key.name for key in guard.training_set_checks(without)]
    assert demanded == ["contract", "no_label_in_features"]
