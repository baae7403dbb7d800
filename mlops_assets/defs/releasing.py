"""Releasing what the graph has judged: the guard's clearance in, moves of aliases out.

Used by the champion asset and by the approval of a person. Which moves are allowed is decided by
`stores/releases.py`; here is only what has to come together.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mlops_assets import judgement
from mlops_assets.core.ledger_chain import Entry
from mlops_assets.defs import guard, keys, records
from mlops_assets.defs.runs import IN_PROGRESS, LONGEST_RUN
from mlops_assets.errors import ReleaseConflictError, ReleaseRefusedError, RolloutError
from mlops_assets.lineage import lineage
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.rollouts.table import line
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.release_turn import moved_by_hand

NONE = "none"


@dataclass(frozen=True)
class Released:
    """What a release came to.

    Args:
        cleared: what was judged.
        entry: the last entry in the ledger about the version; None when it was champion already.
        stage: `champion` or `challenger`.
        before: the champion before, None when there was none.
        rollout: what became of its rollout, in words; empty where none is wanted.
    """

    cleared: guard.Clearance
    entry: Entry | None
    stage: str
    before: str | None
    rollout: str = ""

    def metadata(self, platform: Platform, spec: ModelSpec) -> dict[str, Any]:
        """What Dagster shows of it, with the way back to the source rows."""
        walked = lineage(platform, platform.ledger, spec, f"{spec.name}:{self.cleared.version}")
        return {
            "lineage": dg.MetadataValue.json(walked.as_dict()),
            "version": self.cleared.version,
            "version_before": self.before or NONE,
            "stage": self.stage,
            "snapshot": self.cleared.snapshot,
            "evidence": self.cleared.evidence,
            "verdicts": self.cleared.verdicts,
            "ledger_entry": self.entry.seq if self.entry else 0,
            "released_by": self.entry.actor if self.entry else NONE,
            "rollout": self.rollout or NONE,
            "approved_by": (self.entry.approver if self.entry else None) or NONE,
        }


def release(
    instance: dg.DagsterInstance, platform: Platform, spec: ModelSpec, *, actor: str, reason: str
) -> Released:
    """Make the newest candidate challenger, and champion where the policy says so.

    Args:
        instance: where the verdicts are recorded.
        platform: the stores.
        spec: the model.
        actor: who releases.
        reason: why.

    Raises:
        ReleaseRefusedError: when a gate failed or is missing.
        ApprovalError: when a person has to approve it first.
        ReleaseConflictError: when the champion is another one than the gates compared with.
    """
    cleared = guard.clearance(instance, spec)
    version = platform.registry.version(spec.name, cleared.version)
    cause = judgement.cause(
        platform.registry, spec, version, actor=actor, reason=reason, outcomes=cleared.verdicts
    )
    releases = platform.releases(spec)
    now = platform.ledger.state(spec.name).aliases
    if now.champion == cleared.version:
        return Released(cleared, None, "champion", now.champion)
    compared = None if cleared.champion_compared == NONE else cleared.champion_compared
    if drift := releases.drift(spec.name):
        raise moved_by_hand(spec.name, drift)
    if now.champion != compared:
        raise ReleaseConflictError(
            f"the champion of {spec.name!r} is version {now.champion or NONE} now, and the "
            f"verdicts compared with {cleared.champion_compared}",
            expected="evidence against the champion that would be replaced",
            do="materialize the calibration report and its checks again",
        )
    entry = releases.challenge(spec.name, cleared.version, **cause)
    if spec.release.mode == "canary" and compared is not None:
        begun = _begun(platform, spec, cleared.version, actor=actor, reason=reason)
        return Released(cleared, entry, "challenger", now.champion, begun)
    entry = releases.release(spec.name, cleared.version, expected_champion=compared, **cause)
    return Released(cleared, entry, "champion", now.champion)


def _begun(platform: Platform, spec: ModelSpec, version: str, *, actor: str, reason: str) -> str:
    """Begin to roll out a challenger; beside another rollout it waits for a person."""
    try:
        return line(moves.start(platform, spec, version, actor=actor, reason=reason))
    except RolloutError as waits:
        return str(waits)


def unseen(
    instance: dg.DagsterInstance, platform: Platform, spec: ModelSpec
) -> dg.AssetMaterialization | None:
    """The champion as an event, where Dagster does not know yet that it is one.

    A canary that went all the way and a rollback are no runs. While a run is in progress nothing is
    said: it may be the one that releases.

    Args:
        instance: where the champions so far are recorded.
        platform: the stores.
        spec: the model.
    """
    state = platform.ledger.state(spec.name)
    champion, newest = state.aliases.champion, records.newest(instance, keys.champion(spec))
    known = NONE
    if newest is not None:
        stage = newest.values.get("stage")
        known = newest.values.get("version" if stage == "champion" else "version_before", NONE)
    if champion in (None, known):
        return None
    # A command that was killed leaves a run in progress for good; it must not be waited for.
    recent = dt.datetime.now(dt.UTC) - LONGEST_RUN
    if instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS, created_after=recent), limit=1):
        return None
    return dg.AssetMaterialization(
        asset_key=keys.champion(spec),
        metadata={
            "version": str(champion),
            "version_before": known,
            "stage": "champion",
            "ledger_entry": state.champion_seq,
        },
        tags={"dagster/data_version": f"{spec.name}/{champion}"},
    )


def approve(
    instance: dg.DagsterInstance,
    platform: Platform,
    spec: ModelSpec,
    version: str,
    *,
    actor: str,
    reason: str,
) -> Released:
    """Approve a version that is held, and release it.

    Args:
        instance: where the verdicts are recorded, and the release will be.
        platform: the stores.
        spec: the model.
        version: the version.
        actor: who approves.
        reason: why.

    Raises:
        RegistryError: when there is no such version.
        ReleaseRefusedError, ApprovalError, ReleaseConflictError: as `release`; nothing is entered
            when the gates did not let the version through, or it is champion already.
    """
    found = platform.registry.version(spec.name, version)
    if platform.ledger.state(spec.name).aliases.champion == version:
        raise ReleaseRefusedError(
            f"version {version} of {spec.name!r} is the champion already",
            expected="a version that is held",
            do="look at what waits: mlops-assets status",
        )
    guard.need_newest(instance, spec, version)
    cause = judgement.cause(platform.registry, spec, found, actor=actor, reason=reason)
    releases = platform.releases(spec)
    requester = found.tags.get(judgement.REQUESTED_BY, "unknown")
    request = cause.copy()
    request["actor"] = requester
    asked = releases.decision(spec.name, version, **request)
    if asked.outcome == "needs approval":
        request["reason"] = "; ".join(asked.reasons)
        releases.request(spec.name, version, **request)
        releases.approve(spec.name, version, **cause)
    released = release(instance, platform, spec, actor=requester, reason=reason)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key=keys.champion(spec),
            metadata=released.metadata(platform, spec),
            tags={"dagster/data_version": f"{spec.name}/{version}"},
        )
    )
    return released
