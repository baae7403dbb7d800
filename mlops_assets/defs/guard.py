"""The guard: may exactly this version be released?

Blocking checks stop a run and remember nothing, so the release asks again, whatever launched it:
each gate must have a recorded evaluation that passed, of the newest report, on this version, this
snapshot and this evidence.
"""

from dataclasses import dataclass

import dagster as dg

from mlops_assets.core.evidence import GATES
from mlops_assets.defs import keys, records
from mlops_assets.defs.records import Record
from mlops_assets.errors import ReleaseRefusedError
from mlops_assets.spec import ModelSpec

IDENTITY = ("version", "snapshot", "evidence", "champion_compared")


@dataclass(frozen=True)
class Clearance:
    """Proof that a version may be released: what was judged, and how each gate saw it."""

    version: str
    snapshot: str
    evidence: str
    champion_compared: str
    verdicts: dict[str, str]


def clearance(instance: dg.DagsterInstance, spec: ModelSpec) -> Clearance:
    """Collect the recorded verdicts on the newest report.

    Raises:
        ReleaseRefusedError: when a verdict is missing, did not pass, or is about something else.
    """
    report = records.needed(instance, keys.report(spec))
    candidate = records.needed(instance, keys.candidate(spec))
    version = report["version"]
    obstacles = {}
    if candidate["version"] != version or candidate["snapshot"] != report["snapshot"]:
        obstacles["calibration_report"] = (
            f"it is about version {version}, the candidate is version {candidate['version']}"
        )
    verdicts = {}
    for name in GATES:
        found, obstacle = _verdict(instance, spec, name, report)
        verdicts[name] = found
        if obstacle:
            obstacles[name] = obstacle
    if obstacles:
        listed = "; ".join(f"{name}: {why}" for name, why in obstacles.items())
        raise ReleaseRefusedError(
            f"version {version} of {spec.name!r} may not be released: {listed}",
            expected="a passed verdict of every gate on exactly this version and evidence",
            do="read the gates in the calibration report; run the missing checks, or train again",
        )
    return Clearance(**{name: report[name] for name in IDENTITY}, verdicts=verdicts)


def _verdict(
    instance: dg.DagsterInstance, spec: ModelSpec, name: str, report: Record
) -> tuple[str, str | None]:
    """Outcome of a gate, and what stands against it, None when nothing does."""
    key = dg.AssetCheckKey(keys.report(spec), name)
    record = instance.get_latest_asset_check_evaluation_record(key)
    if record is None:
        return "missing", "it was never evaluated"
    # A check that is running has a record without an evaluation: look at the status first.
    if record.status.value not in ("SUCCEEDED", "FAILED"):
        return "missing", f"its last evaluation is {record.status.value.lower()}"
    evaluation = record.evaluation
    if evaluation is None:
        return "missing", "its last evaluation recorded nothing"
    values = {k: v.value for k, v in evaluation.metadata.items()}
    outcome = str(values.get("verdict", "missing"))
    target = evaluation.target_materialization_data
    if target is None or target.storage_id != report.storage_id:
        return outcome, "it judged another report"
    for part in IDENTITY:
        if values.get(part) != report[part]:
            return outcome, f"it judged {part} {values.get(part)}, not {report[part]}"
    if not evaluation.passed or outcome != "passed":
        return outcome, f"{outcome}: {values.get('reason', 'no reason recorded')}"
    return outcome, None
