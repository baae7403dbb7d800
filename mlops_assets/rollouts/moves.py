"""Moves of rollouts: what has to come together before a version gets traffic, or more of it.

Between the states of `core.rollout`, which are kept by `stores/rollouts`, and the releases. Used by
commands, jobs, the model server and its controller; none of them needs Dagster. Whether a canary is
good is decided by `core.guardrails`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets import judgement
from mlops_assets.core.ledger_chain import Action, Record
from mlops_assets.core.rollout import Rollout
from mlops_assets.errors import LedgerError, OvertakenError, ReleaseRefusedError, RolloutError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.rollouts.canary import CanaryCall
    from mlops_assets.stores.rollouts import Kept

GIVEN_UP = "given_up"
"""In the evidence of an abort: the version is to be taken out of the running."""

Verb = Literal["advance", "pause", "resume", "abort"]


def start(
    platform: Platform,
    spec: ModelSpec,
    version: str,
    *,
    actor: str,
    reason: str,
    steps: Sequence[float] = (),
) -> "Kept":
    """Begin to roll out a version, in shadow.

    Args:
        platform: the stores.
        spec: the model.
        version: the challenger, or a champion of the past.
        actor: who starts it.
        reason: why.
        steps: percent of the traffic by step; those of the spec when left out.

    Raises:
        RolloutError: without a champion, for the champion itself, or beside another rollout.
        ReleaseRefusedError: when the version never passed its gates, or is retired.
        ReleaseConflictError: when aliases were moved by hand.
        RegistryError: when there is no such version.
    """
    from mlops_assets.stores.rollouts import new_id

    champion = champion_beside(platform, spec, (version,))
    name = new_id()
    rollout = Rollout(name, version, salt=name, steps=tuple(steps) or spec.rollout.steps)
    record = Record(
        action="rollout",
        model=spec.name,
        actor=actor,
        reason=reason,
        version=version,
        from_version=champion,
        evidence={"rollout": name, "steps": list(rollout.steps), "state": rollout.state},
    )
    return platform.rollouts.begin(rollout, champion, record)


def champion_beside(
    platform: Platform, spec: ModelSpec, versions: Sequence[str], *, itself: bool = False
) -> str:
    """The champion, when versions may take traffic beside it.

    Args:
        platform: the stores.
        spec: the model.
        versions: challengers and champions of the past.
        itself: whether the champion may be among them, to be compared with itself.

    Raises:
        RolloutError: without a champion, or for the champion itself.
        ReleaseRefusedError: when a version never passed its gates, or is retired.
        ReleaseConflictError: when aliases were moved by hand.
        RegistryError: when there is no such version.
    """
    from mlops_assets.stores.release_turn import moved_by_hand

    releases = platform.releases(spec)
    if drift := releases.drift(spec.name):
        raise moved_by_hand(spec.name, drift)
    for version in versions:
        platform.registry.version(spec.name, version)
    aliases = platform.ledger.state(spec.name).aliases
    if aliases.champion is None or (aliases.champion in versions and not itself):
        raise RolloutError(
            f"the champion of {spec.name!r} is "
            f"{f'version {aliases.champion} itself' if aliases.champion else 'nobody'}",
            expected="a champion, and another version to put beside it",
            do="name the challenger"
            if aliases.champion
            else "release a first version: `mlops-assets run`",
        )
    for version in versions:
        releases.need_usable(spec.name, version)
        if version not in (aliases.champion, aliases.challenger) and not releases.was_champion(
            spec.name, version
        ):
            others = "champion, nor challenger, nor" if itself else "the challenger nor"
            raise ReleaseRefusedError(
                f"version {version} of {spec.name!r} is neither {others} a former champion",
                expected=f"versions that passed their gates; the champion is {aliases.champion}, "
                f"the challenger {aliases.challenger or 'nobody'}",
                do="look at its verdicts: `mlops-assets status`; approve it if they are "
                "inconclusive, or train another: `mlops-assets run --all`",
            )
    return aliases.champion


def move(
    platform: Platform,
    spec: ModelSpec,
    verb: Verb,
    *,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    decided_on: "Kept | None" = None,
) -> "Kept":
    """Move the open rollout of a model.

    `advance` leaves the shadow for the first step, goes to the next step, and after the last one
    releases the version and closes the rollout.

    Args:
        platform: the stores.
        spec: the model.
        verb: the move.
        actor: who moves it.
        reason: why.
        evidence: what it rests on, for the ledger.
        decided_on: the state that the move was decided on; the newest when left out. Two who
            decide on one state make one move.

    Raises:
        RolloutError: when there is no rollout, or it does not allow the move.
        OvertakenError: when somebody else moved it meanwhile.
        ReleaseRefusedError, ReleaseConflictError: when its version may not be released.
    """
    kept = _open(platform, spec)
    if decided_on is not None and kept.seq != decided_on.seq:
        raise OvertakenError(
            f"the rollout of {spec.name!r} was moved by somebody else meanwhile",
            expected="the state that the move was decided on",
            do="look at its state, and decide again",
        )
    rollout = kept.traffic
    assert isinstance(rollout, Rollout)  # noqa: S101
    last = verb == "advance" and rollout.state == "canary" and rollout.at_last_step
    if last:
        release(platform, spec, kept, reason=reason)
        try:
            return _write(platform, kept, "finish", actor, reason, evidence)
        except LedgerError:
            # Whoever saw the new champion may have closed it meanwhile: that is what was wanted.
            now = platform.rollouts.get(rollout.id)
            if now.traffic.state != "done":
                raise
            return now
    return _write(platform, kept, verb, actor, reason, evidence)


def give_up(
    platform: Platform,
    spec: ModelSpec,
    *,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    decided_on: "Kept | None" = None,
) -> None:
    """Abort the open rollout of a version that is no good, and take it out of the running.

    Args:
        platform: the stores.
        spec: the model.
        actor: who gives it up.
        reason: why.
        evidence: what it rests on, for the ledger.
        decided_on: as in `move`.

    Raises:
        As `move` and `archive_given_up`.
    """
    said = {**(evidence or {}), GIVEN_UP: True}
    move(platform, spec, "abort", actor=actor, reason=reason, evidence=said, decided_on=decided_on)
    archive_given_up(platform, spec, actor=actor)


def archive_given_up(platform: Platform, spec: ModelSpec, *, actor: str) -> None:
    """Archive the version of the newest rollout if it was given up and is challenger still.

    Nothing else was said of the version since, so that a person may bring it back. May be repeated:
    whoever gave it up may have been killed before this was done.

    Raises:
        ReleaseConflictError: when aliases were moved by hand.
        LedgerError: when the ledger does not answer.
    """
    kept = platform.rollouts.last(spec.name, "rollout")
    if kept is None or not isinstance(kept.traffic, Rollout) or kept.traffic.state != "aborted":
        return
    version = kept.traffic.version
    said = platform.ledger.entry(kept.seq)
    newest = platform.ledger.entries(spec.name, version=version, last=1)
    if not said.evidence.get(GIVEN_UP) or [one.seq for one in newest] != [said.seq]:
        return
    if platform.ledger.state(spec.name).aliases.challenger == version:
        platform.releases(spec).archive(spec.name, version, actor=actor, reason=said.reason)


def release(platform: Platform, spec: ModelSpec, kept: "Kept", *, reason: str) -> None:
    """Release the version of a rollout that has all traffic; nothing if it is champion already.

    Raises:
        ReleaseRefusedError, ApprovalError, ReleaseConflictError: as `Releases.release`.
    """
    (version,) = kept.traffic.versions
    if platform.ledger.state(spec.name).aliases.champion == version:
        return
    found = platform.registry.version(spec.name, version)
    cause = judgement.cause(platform.registry, spec, found, actor=kept.actor, reason=reason)
    platform.releases(spec).release(spec.name, version, expected_champion=kept.champion, **cause)


def settle(platform: Platform, spec: ModelSpec, champion: str, *, actor: str) -> "Kept | None":
    """Close what is open when its champion is no longer the one that it began with.

    Args:
        platform: the stores.
        spec: the model.
        champion: the champion now.
        actor: who closes it.

    Returns:
        What was closed; None when nothing was to be done.

    Raises:
        OvertakenError: when somebody else closed it meanwhile.
    """
    kept = platform.rollouts.open(spec.name)
    if kept is None or kept.champion == champion:
        return None
    traffic = kept.traffic
    if not isinstance(traffic, Rollout):
        reason = f"the champion is version {champion} now, it was {kept.champion} at the start"
        return conclude(platform, spec, actor=actor, reason=reason)
    if traffic.version == champion and traffic.state == "canary" and traffic.at_last_step:
        return _write(platform, kept, "finish", actor, "its version is champion", None)
    reason = (
        "its version was released before the last step"
        if traffic.version == champion
        else f"the champion is version {champion} now, it was {kept.champion} at the start"
    )
    return _write(platform, kept, "abort", actor, reason, None)


def conclude(
    platform: Platform,
    spec: ModelSpec,
    *,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> "Kept":
    """Stop the experiment of a model: everybody gets the champion.

    Raises:
        RolloutError: when there is none.
        OvertakenError: when somebody else stopped it meanwhile.
    """
    kept = platform.rollouts.open(spec.name)
    if kept is None or isinstance(kept.traffic, Rollout):
        raise _nothing(spec.name, "experiment")
    record = Record(
        action="conclude",
        model=spec.name,
        actor=actor,
        reason=reason,
        evidence={"experiment": kept.traffic.id, **(evidence or {})},
    )
    return platform.rollouts.move(kept, kept.traffic.stop(), record)


def state_of(kept: "Kept", call: "CanaryCall | None" = None) -> dict[str, Any]:
    """What is told of a rollout or an experiment."""
    traffic = kept.traffic
    found: dict[str, Any] = {
        "model": kept.model,
        "id": traffic.id,
        "state": traffic.state,
        "champion": kept.champion,
        "begun_by": kept.actor,
        "since": kept.entered.isoformat(),
        "entry": kept.seq,
    }
    if isinstance(traffic, Rollout):
        found |= {
            "kind": "rollout",
            "version": traffic.version,
            "share": traffic.share / 100,
            "steps": list(traffic.steps),
            "moves": list(traffic.allowed),
        }
    else:
        arms = {
            arm.name: {"version": arm.version, "share": arm.share / 100} for arm in traffic.arms
        }
        found |= {"kind": "experiment", "arms": arms, "metrics": list(traffic.metrics)}
    if call is not None:
        found["decision"] = {
            "move": call.move,
            "reason": call.reason,
            "needs_person": call.needs_person,
            **call.evidence,
        }
    return found


def _write(
    platform: Platform,
    kept: "Kept",
    action: Action,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None,
) -> "Kept":
    rollout = kept.traffic
    assert isinstance(rollout, Rollout)  # noqa: S101
    moves: Mapping[str, Callable[[], Rollout]] = {
        "advance": rollout.start if rollout.state == "shadow" else rollout.advance,
        "pause": rollout.pause,
        "resume": rollout.resume,
        "abort": rollout.abort,
        "finish": lambda: rollout.finish(rollout.version),
    }
    after = moves[action]()
    said = {"rollout": rollout.id, "state": after.state, "share": after.share / 100}
    record = Record(
        action=action,
        model=kept.model,
        actor=actor,
        reason=reason,
        version=rollout.version,
        from_version=kept.champion,
        evidence={**said, **(evidence or {})},
    )
    return platform.rollouts.move(kept, after, record)


def _open(platform: Platform, spec: ModelSpec) -> "Kept":
    kept = platform.rollouts.open(spec.name)
    if kept is None or not isinstance(kept.traffic, Rollout):
        raise _nothing(spec.name, "rollout")
    return kept


def _nothing(model: str, kind: str) -> RolloutError:
    return RolloutError(
        f"no {kind} of {model!r} is open",
        expected=f"an open {kind}",
        do=f"begin one: mlops-assets {kind} start {model} ...",
    )
