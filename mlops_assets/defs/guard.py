"""The guard: was exactly this version judged, and did nothing fail?

Blocking checks stop a run and remember nothing, so the release asks again, whatever launched it:
each gate must have a recorded evaluation that did not fail, of the newest report, on this version,
this snapshot and this evidence; each check of the training set must have one that passed, on this
snapshot. Whether what is inconclusive was approved is decided by the releases.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from mlops_assets.core.tasks import GATES
from mlops_assets.defs import keys, records
from mlops_assets.defs.checks.contracts import training_set_check
from mlops_assets.defs.checks.features import leakage_checks
from mlops_assets.errors import ReleaseRefusedError
from mlops_assets.spec import ModelSpec

IDENTITY = ("version", "snapshot", "evidence", "champion_compared")
OPEN = "inconclusive"
LOOK_BACK = 100
"""Among so many evaluations of a training set's check, one about the snapshot is looked for."""


@dataclass(frozen=True)
class Said:
    """What a check says about what it is asked of; without a verdict, why there is none."""

    verdict: str | None
    reason: str


@dataclass(frozen=True)
class Clearance:
    """What was judged, and how each gate saw it: passed, or inconclusive.

    `checks` are those of the training set, which passed.
    """

    version: str
    snapshot: str
    evidence: str
    champion_compared: str
    verdicts: dict[str, str]
    checks: tuple[str, ...]


def clearance(instance: dg.DagsterInstance, spec: ModelSpec) -> Clearance:
    """Collect the recorded verdicts on the newest report and on its training set.

    Raises:
        ReleaseRefusedError: when a verdict is missing, did not pass, or is about something else.
    """
    report = records.needed(instance, keys.report(spec))
    candidate = records.needed(instance, keys.candidate(spec))
    identity = {part: report[part] for part in IDENTITY}
    version, snapshot = report["version"], report["snapshot"]
    obstacles = {}
    if candidate["version"] != version or candidate["snapshot"] != snapshot:
        obstacles["calibration_report"] = (
            f"it is about version {version}, the candidate is version {candidate['version']}"
        )
    judged = {**identity, "materialization": report.storage_id}
    about_report = {key: _said(instance, key, judged, look_back=1) for key in _gates(spec)}
    # The newest training set may be another one by now, with evaluations of its own.
    about_snapshot = {
        key: _said(instance, key, {"snapshot": snapshot}, look_back=LOOK_BACK)
        for key in training_set_checks(spec)
    }
    obstacles |= {
        key.name: f"{said.verdict}: {said.reason}" if said.verdict else said.reason
        for key, said in (*about_snapshot.items(), *about_report.items())
        if said.verdict not in (("passed", OPEN) if key in about_report else ("passed",))
    }
    if obstacles:
        listed = "; ".join(f"{name}: {why}" for name, why in obstacles.items())
        raise ReleaseRefusedError(
            f"version {version} of {spec.name!r} may not be released: {listed}",
            expected="a verdict of every gate on exactly this version and evidence, none of them "
            "failed, and a passed one of every check of the training set on exactly this snapshot",
            do="read the checks of the calibration report and of the training set; run the "
            "missing ones, or train again",
        )
    return Clearance(
        **identity,
        verdicts={key.name: str(said.verdict) for key, said in about_report.items()},
        checks=tuple(key.name for key in about_snapshot),
    )


def need_newest(instance: dg.DagsterInstance, spec: ModelSpec, version: str) -> None:
    """Raise ReleaseRefusedError unless the newest report is about the version."""
    judged = records.needed(instance, keys.report(spec))["version"]
    if judged != version:
        raise ReleaseRefusedError(
            f"the newest report of {spec.name!r} is about version {judged}, not {version}",
            expected="the version that the gates judged last",
            do=f"approve version {judged}, or train again; `rollback --to` goes back to a champion",
        )


def training_set_checks(spec: ModelSpec) -> list[dg.AssetCheckKey]:
    """The checks of the training set that a release demands: all that the graph has."""
    checks = (training_set_check(spec), *leakage_checks(spec))
    return [key for check in checks for key in check.check_keys]


def _gates(spec: ModelSpec) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(keys.report(spec), name) for name in GATES[spec.task]]


def _said(
    instance: dg.DagsterInstance,
    key: dg.AssetCheckKey,
    identity: Mapping[str, object],
    look_back: int,
) -> Said:
    """What a check says: its newest evaluation about the identity, among the last `look_back`."""
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=look_back)
    about_other = None
    for record in history:
        evaluation = record.evaluation
        # A check that runs, or died, has a record of another kind: nobody knows what it would say.
        if not isinstance(evaluation, dg.AssetCheckEvaluation):
            return Said(None, f"its last evaluation is {record.status.value.lower()}")
        found = {name: value.value for name, value in evaluation.metadata.items()}
        target = evaluation.target_materialization_data
        found["materialization"] = target.storage_id if target else None
        wrong = next((part for part in identity if found.get(part) != identity[part]), None)
        if wrong is None:
            verdict = str(found.get("verdict", "no verdict"))
            reason = str(found.get("reason", "no reason recorded"))
            if verdict == "passed" and not evaluation.passed:
                verdict = "failed"
            return Said(verdict, reason)
        about_other = about_other or f"it judged {wrong} {found.get(wrong)}, not {identity[wrong]}"
    return Said(None, about_other or "it was never evaluated")
