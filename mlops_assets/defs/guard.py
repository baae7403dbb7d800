"""The guard: may exactly this version be released?

Blocking checks stop a run and remember nothing, so the release asks again, whatever launched it:
each gate must have a recorded evaluation that passed, of the newest report, on this version, this
snapshot and this evidence; and so must each check of the training set, on this snapshot.
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
LOOK_BACK = 100
"""Among so many evaluations of a training set's check, one about the snapshot is looked for."""


@dataclass(frozen=True)
class Clearance:
    """Proof that a version may be released: what was judged, and how each check saw it."""

    version: str
    snapshot: str
    evidence: str
    champion_compared: str
    verdicts: dict[str, str]


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
    about_report = {key: _obstacle(instance, key, judged, look_back=1) for key in _gates(spec)}
    # The newest training set may be another one by now, with evaluations of its own.
    about_snapshot = {
        key: _obstacle(instance, key, {"snapshot": snapshot}, look_back=LOOK_BACK)
        for key in training_set_checks(spec)
    }
    asked = {**about_snapshot, **about_report}
    obstacles |= {key.name: obstacle for key, obstacle in asked.items() if obstacle}
    if obstacles:
        listed = "; ".join(f"{name}: {why}" for name, why in obstacles.items())
        raise ReleaseRefusedError(
            f"version {version} of {spec.name!r} may not be released: {listed}",
            expected="a passed verdict of every gate on exactly this version and evidence, and of "
            "every check of the training set on exactly this snapshot",
            do="read the checks of the calibration report and of the training set; run the "
            "missing ones, or train again",
        )
    return Clearance(**identity, verdicts={key.name: "passed" for key in asked})


def training_set_checks(spec: ModelSpec) -> list[dg.AssetCheckKey]:
    """The checks of the training set that a release demands: all that the graph has."""
    checks = (training_set_check(spec), *leakage_checks(spec))
    return [key for check in checks for key in check.check_keys]


def _gates(spec: ModelSpec) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(keys.report(spec), name) for name in GATES[spec.task]]


def _obstacle(
    instance: dg.DagsterInstance,
    key: dg.AssetCheckKey,
    identity: Mapping[str, object],
    look_back: int,
) -> str | None:
    """What a check has against a release, None when nothing.

    The newest evaluation about the identity decides, when it is among the last `look_back`.
    """
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=look_back)
    about_other = None
    for record in history:
        evaluation = record.evaluation
        # A check that runs, or died, has a record of another kind: nobody knows what it would say.
        if not isinstance(evaluation, dg.AssetCheckEvaluation):
            return f"its last evaluation is {record.status.value.lower()}"
        found = {name: value.value for name, value in evaluation.metadata.items()}
        target = evaluation.target_materialization_data
        found["materialization"] = target.storage_id if target else None
        wrong = next((part for part in identity if found.get(part) != identity[part]), None)
        if wrong is None:
            verdict = found.get("verdict", "no verdict")
            passed = evaluation.passed and verdict == "passed"
            return None if passed else f"{verdict}: {found.get('reason', 'no reason recorded')}"
        about_other = about_other or f"it judged {wrong} {found.get(wrong)}, not {identity[wrong]}"
    return about_other or "it was never evaluated"
