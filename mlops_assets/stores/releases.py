"""Releases: the verbs that move a model's aliases, each of them an entry in the ledger.

A verb takes the model's lock, finishes what a crash has left, asks whether the move is allowed, and
makes it by `release_steps`. The rules are in `core`: where aliases end in `release_plan`, who may
approve in `approval`. Neither Dagster nor MLflow is known here.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from mlops_assets.core import release_plan
from mlops_assets.core.approval import ApprovalPolicy, Decision
from mlops_assets.core.ledger_chain import Action, Entry, Record
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Drift, ModelState, drifts
from mlops_assets.errors import ApprovalError, ReleaseConflictError, ReleaseRefusedError
from mlops_assets.stores.approvals import Approvals
from mlops_assets.stores.release_steps import STEPS, Observer, Registry
from mlops_assets.stores.release_turn import Turn, Turns

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger

LEADING: tuple[Action, ...] = ("release", "rollback", "adopt", "revert")
"""Actions that may leave the version that they are about as champion."""

MOVE_STEPS = ("lock", "check", *(name for name, _ in STEPS), "unlock")
"""What the observer of a move is told, in order."""

STATEMENT_STEPS = ("lock", "check", "write entry", "unlock")
"""What the observer of a request, an approval or a rejection is told, in order."""

_log = logging.getLogger(__name__)


class Cause(TypedDict, total=False):
    """Who does something, why, and on which evidence: the same for every verb.

    Args:
        actor: who does it.
        reason: why.
        evidence: what it rests on, as JSON can hold it. Requests, approvals, rejections,
            challenges and releases need a `digest`, and `verdicts` by gate.
        snapshot: the training set of the version.
        git_commit: the code that trained it.
        feature_service_digest: the definitions of its features.
    """

    actor: Required[str]
    reason: Required[str]
    evidence: Mapping[str, Any]
    snapshot: str | None
    git_commit: str | None
    feature_service_digest: str | None


class Releases:
    """The releases of all models of a registry.

    Every verb waits for the verb that works on the model, and each raises `LedgerError` when the
    ledger does not answer.

    Args:
        ledger: decides where aliases belong.
        registry: holds the aliases, which follow.
        policy: what a release needs beside its verdicts.
        observer: is told each step before it is done.
    """

    def __init__(
        self,
        ledger: "Ledger",
        registry: Registry,
        *,
        policy: ApprovalPolicy | None = None,
        observer: Observer = lambda step: _log.debug("release: %s", step),
    ) -> None:
        self._ledger = ledger
        self._turns = Turns(ledger, registry, observer)
        self._approvals = Approvals(ledger, policy or ApprovalPolicy())
        self._observer = observer

    def request(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Ask for the approval of a release."""
        return self._say(Record(action="request", model=model, version=version, **cause))

    def approve(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Take the responsibility for a release, on this evidence only.

        Raises:
            ApprovalError: when a gate failed, the evidence is not the newest, or the actor may
                not approve it.
        """
        approver = cause["actor"]
        return self._say(
            Record(action="approval", model=model, version=version, approver=approver, **cause)
        )

    def reject(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Forbid a release, until the gates are evaluated again.

        Raises:
            ApprovalError: when the evidence is not the newest.
            ReleaseRefusedError: when the version is the champion.
        """
        return self._say(Record(action="rejection", model=model, version=version, **cause))

    def decision(self, model: str, version: str, **cause: Unpack[Cause]) -> Decision:
        """Whether a version may be released by this actor on this evidence; nothing is done."""
        return self._approvals.decision(
            Record(action="release", model=model, version=version, **cause)
        )

    def challenge(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Make a version the challenger: it passed the staging gates.

        Raises:
            ReleaseRefusedError: when the evidence does not allow it.
            ReleaseConflictError: when aliases were moved by hand.
            RegistryError: when there is no such version.
        """
        record = Record(action="challenge", model=model, version=version, **cause)
        with self._turns.take(record) as turn:
            record = replace(self._cleared(record), from_version=turn.aliases.challenger)
            after = release_plan.challenged(turn.aliases, version)
            return self._turns.move(record, turn, after)

    def release(
        self,
        model: str,
        version: str,
        *,
        expected_champion: str | None,
        **cause: Unpack[Cause],
    ) -> Entry:
        """Make a version the champion; the champion before is archived.

        Args:
            model: the model.
            version: the version.
            expected_champion: the champion that the evidence compares with, None for no champion.
            **cause: who, why, and on which evidence.

        Raises:
            ReleaseConflictError: when another version is champion by now, or aliases were moved
                by hand.
            ApprovalError: when somebody has to approve it first.
            ReleaseRefusedError: when the evidence does not allow it.
            RegistryError: when there is no such version.
        """
        record = Record(action="release", model=model, version=version, **cause)
        with self._turns.take(record) as turn:
            if turn.aliases.champion != expected_champion:
                raise self._outrun(turn.state, expected_champion)
            record = replace(self._cleared(record), from_version=expected_champion)
            after = release_plan.released(turn.aliases, version)
            return self._turns.move(record, turn, after)

    def rollback(self, model: str, *, to: str | None = None, **cause: Unpack[Cause]) -> Entry:
        """Make the archived version, or a champion of the past, champion again.

        Args:
            model: the model.
            to: the version to go back to, the archived one when not given. Aliases that were
                moved by hand are no obstacle then.
            **cause: who and why.

        Raises:
            ReleaseRefusedError: when there is nothing further back, or the version named never
                was champion.
            ReleaseConflictError: when aliases were moved by hand and no version is named.
            RegistryError: when there is no such version.
        """
        record = Record(action="rollback", model=model, version=to, **cause)
        with self._turns.take(record, strayed=to is not None) as turn:
            after = release_plan.rolled_back(turn.aliases, to)
            if to is not None:
                self._need_former_champion(model, to)
                self.need_usable(model, to)
            return self._turns.move(_leading(record, turn, after), turn, after)

    def archive(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Take the champion out of service without a successor, or a challenger out of the running.

        Raises:
            ReleaseRefusedError: when the version is neither.
            ReleaseConflictError: when aliases were moved by hand.
        """
        record = Record(action="archive", model=model, version=version, **cause)
        with self._turns.take(record) as turn:
            after = release_plan.archived(turn.aliases, version)
            return self._turns.move(record, turn, after)

    def retire(self, model: str, version: str, **cause: Unpack[Cause]) -> Entry:
        """Never use a version again.

        Raises:
            ReleaseRefusedError: when it is the champion.
            ReleaseConflictError: when aliases were moved by hand.
            RegistryError: when there is no such version.
        """
        record = Record(action="retire", model=model, version=version, **cause)
        with self._turns.take(record) as turn:
            self._turns.need(model, version)
            after = release_plan.retired(turn.aliases, version)
            return self._turns.move(record, turn, after)

    def reconcile(self, model: str | None = None, *, actor: str) -> tuple[Entry, ...]:
        """Finish the moves that crashes have left, or undo those whose version is gone.

        Args:
            model: the model, all when not given.
            actor: who cleans up.

        Returns:
            The entries that say so; none when nothing was left.
        """
        left = [s.model for s in self._ledger.states() if s.intent and model in (None, s.model)]
        entries = []
        for name in left:
            # A move that is under way is waited for, and then there is nothing to do.
            with self._ledger.holding(name):
                entries.append(self._turns.settle(name, actor))
        return tuple(entry for entry in entries if entry)

    def drift(self, model: str) -> tuple[Drift, ...]:
        """The aliases that were moved by hand."""
        while True:
            state = self._ledger.state(model)
            found = self._turns.found(model)
            # Between the two a move may have come.
            if self._ledger.state(model) == state:
                return drifts(state, found)

    def adopt(self, model: str, **cause: Unpack[Cause]) -> Entry:
        """Let the ledger take over the aliases that were moved by hand.

        Raises:
            ReleaseRefusedError: when they are where the ledger has them.
        """
        record = Record(action="adopt", model=model, **cause)
        with self._turns.take(record, strayed=True) as turn:
            _need_drift(model, turn)
            after = release_plan.adopted(turn.aliases, turn.found)
            return self._turns.move(_leading(record, turn, after), turn, after)

    def revert(self, model: str, **cause: Unpack[Cause]) -> Entry:
        """Put the aliases that were moved by hand back to where the ledger has them.

        Raises:
            ReleaseRefusedError: when they are there.
            RegistryError: when a version that the ledger names is gone.
        """
        record = Record(action="revert", model=model, **cause)
        with self._turns.take(record, strayed=True) as turn:
            _need_drift(model, turn)
            for version in turn.aliases.versions.values():
                self._turns.need(model, version)
            record = replace(record, version=turn.aliases.champion)
            return self._turns.move(record, turn, turn.aliases)

    def _say(self, statement: Record) -> Entry:
        self._observer("lock")
        with self._ledger.holding(statement.model):
            self._observer("check")
            self._turns.need(statement.model, str(statement.version))
            if statement.action == "rejection":
                # A move that a crash has left may be about to make it the champion.
                self._turns.settle(statement.model, statement.actor)
                self._need_unreleased(statement)
            self._approvals.check(statement)
            self._observer("write entry")
            entry = self._ledger.append(statement)
            self._observer("unlock")
        return entry

    def _cleared(self, record: Record) -> Record:
        """The record of a release that may be made, with its approver."""
        model, version = record.model, str(record.version)
        self._turns.need(model, version)
        self.need_usable(model, version)
        decided = self._approvals.decision(record)
        if decided.outcome != "release":
            waits = decided.outcome == "needs approval"
            raise (ApprovalError if waits else ReleaseRefusedError)(
                f"version {version} of {model!r} may not be released: {'; '.join(decided.reasons)}",
                expected="gates that passed, or an approval of what is inconclusive",
                do="ask somebody to approve this evidence"
                if waits
                else "train a better version, or evaluate the gates again",
            )
        return replace(record, approver=decided.approver)

    def need_usable(self, model: str, version: str) -> None:
        """Refuse a version that was retired.

        Raises:
            ReleaseRefusedError: when it was.
        """
        if self._ledger.entries(model, version=version, actions=("retire",), last=1):
            raise ReleaseRefusedError(
                f"version {version} of {model!r} is retired",
                expected="a version that may be used",
                do="choose another version; what was retired stays so",
            )

    def was_champion(self, model: str, version: str) -> bool:
        """Whether a version was champion at any time."""
        entries = self._ledger.entries(model, version=version, actions=LEADING)
        return any(entry.after.get("champion") == version for entry in entries)

    def _need_former_champion(self, model: str, version: str) -> None:
        if not self.was_champion(model, version):
            raise ReleaseRefusedError(
                f"version {version} of {model!r} never was champion",
                expected="a version that was champion before",
                do=f"release version {version} on its own evidence",
            )

    def _need_unreleased(self, rejection: Record) -> None:
        model, version = rejection.model, rejection.version
        if self._ledger.state(model).aliases.champion == version:
            raise ReleaseRefusedError(
                f"version {version} of {model!r} is the champion: nothing is left to be rejected",
                expected="a version that is not released",
                do=f"go back from it: mlops-assets rollback {model}; so that it never comes back, "
                f"afterwards: mlops-assets retire {model} {version}",
            )

    def _outrun(self, state: ModelState, expected: str | None) -> ReleaseConflictError:
        """The conflict of a decision that was made against another champion."""
        now = _named(state.aliases.champion)
        found = f"the champion of {state.model!r} is {now}"
        if state.champion_seq:
            winner = self._ledger.entry(state.champion_seq)
            at = winner.time.isoformat(timespec="seconds")
            found += f", by the {winner.action} of {winner.actor} at {at} (entry {winner.seq})"
        return ReleaseConflictError(
            found,
            expected=f"{_named(expected)}, against which the decision was made",
            do="evaluate the gates against the champion of now, and decide again",
        )


def _need_drift(model: str, turn: Turn) -> None:
    if not turn.drift:
        raise ReleaseRefusedError(
            f"the aliases of {model!r} are where the ledger has them",
            expected="aliases that were moved by hand",
            do="nothing is to be done",
        )


def _leading(record: Record, turn: Turn, after: Aliases) -> Record:
    """The record of a move, about the champion that it leaves."""
    return replace(record, version=after.champion, from_version=turn.aliases.champion)


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"
