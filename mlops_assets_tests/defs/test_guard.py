"""The guard lets a version through only on the recorded verdicts of exactly that version."""

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from mlops_assets.core.evidence import GATES
from mlops_assets.definitions import SPECS
from mlops_assets.defs import guard, keys
from mlops_assets.errors import DataError, ReleaseRefusedError

SPEC = SPECS[0]
ABOUT = {"version": "1", "snapshot": "s", "evidence": "e", "champion_compared": "none"}


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


def judge_all(instance: dg.DagsterInstance) -> None:
    for name in GATES:
        judge(instance, name)


def test_all_gates_passed_is_clearance(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    cleared = guard.clearance(instance, SPEC)
    assert cleared.version == "1"
    assert set(cleared.verdicts.values()) == {"passed"}


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


@pytest.mark.parametrize("verdict", ["failed", "inconclusive"])
@pytest.mark.parametrize("name", GATES)
def test_a_verdict_that_did_not_pass_refuses(
    instance: dg.DagsterInstance, name: str, verdict: str
) -> None:
    materialize(instance)
    judge_all(instance)
    judge(instance, name, verdict)
    with pytest.raises(ReleaseRefusedError, match=f"{name}: {verdict}"):
        guard.clearance(instance, SPEC)


def test_verdicts_on_an_earlier_report_refuse(instance: dg.DagsterInstance) -> None:
    materialize(instance)
    judge_all(instance)
    materialize(instance, version="2")
    with pytest.raises(ReleaseRefusedError, match="it judged another report"):
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
