"""What the gates said of a version, in the form in which the ledger keeps it.

Made from the version's tags and metrics, so that approving and releasing need no Dagster. Who may
release what is decided by `stores/releases.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mlops_assets.core import fingerprint
from mlops_assets.errors import ReleaseRefusedError
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelRegistry, ModelVersion
from mlops_assets.stores.releases import Cause

REQUESTED_BY = "mlops.requested_by"
"""Tag: who started the run that made the version."""


def cause(
    registry: ModelRegistry,
    spec: ModelSpec,
    version: ModelVersion,
    *,
    actor: str,
    reason: str,
    outcomes: Mapping[str, str] | None = None,
) -> Cause:
    """Who does something with a version, why, and on which evidence.

    Args:
        registry: the registry, for the version's metrics.
        spec: the model.
        version: the version.
        actor: who does it.
        reason: why.
        outcomes: outcomes by gate as they were read elsewhere; those of the version's tags when
            not given.

    Raises:
        ReleaseRefusedError: when gates have not judged the version, or judged other scores than
            the others.
    """
    return Cause(
        actor=actor,
        reason=reason,
        evidence=evidence(registry, spec, version, outcomes),
        snapshot=version.tags.get("mlops.snapshot"),
        git_commit=version.tags.get("mlops.git_commit"),
        feature_service_digest=version.tags.get("mlops.feature_service_digest"),
    )


def evidence(
    registry: ModelRegistry,
    spec: ModelSpec,
    version: ModelVersion,
    outcomes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The verdicts on a version with the metrics, and a digest of what was judged and found.

    Raises:
        ReleaseRefusedError: as `cause`.
    """
    from mlops_assets.core.tasks import GATES

    verdicts = {verdict.gate: verdict for verdict in version.verdicts}
    missing = sorted(set(GATES[spec.task]) - set(verdicts))
    if missing or len(version.judged_on) != 1:
        raise ReleaseRefusedError(
            f"version {version.version} of {spec.name!r} lacks verdicts of {', '.join(missing)}"
            if missing
            else f"the gates of version {version.version} of {spec.name!r} judged other scores "
            "than each other",
            expected="a verdict of every gate, all on the same scores",
            do=f"materialize the calibration report of {spec.name!r} with all of its checks",
        )
    found = dict(outcomes or {gate: verdict.outcome for gate, verdict in verdicts.items()})
    (scores,) = version.judged_on
    return {
        "digest": fingerprint.of_values(scores, sorted(found.items())),
        "scores": scores,
        "verdicts": {
            gate: {**_plain(asdict(verdicts[gate])), "outcome": found[gate]}
            for gate in sorted(verdicts)
            if gate in found
        },
        "metrics": registry.metrics(version.run_id),
    }


def _plain(verdict: dict[str, Any]) -> dict[str, Any]:
    kept = ("estimate", "low", "high", "n", "threshold", "reason")
    return {name: verdict[name] for name in kept}
