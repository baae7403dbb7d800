"""Requests, approvals and rejections in the ledger, and what they decide about a release.

The rules are in `core.approval`; here is what was said, by whom, about which evidence. What follows
from a decision is done by `releases`.
"""

from typing import TYPE_CHECKING

from mlops_assets.core.approval import (
    ApprovalPolicy,
    Decision,
    Judgement,
    Statement,
    check_approval,
    decision,
    outdated,
)
from mlops_assets.core.ledger_chain import Action, Entry, Record
from mlops_assets.errors import ApprovalError, ReleaseRefusedError

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger

STATEMENTS: tuple[Action, ...] = ("request", "approval", "rejection")


class Approvals:
    """What people said about versions.

    Args:
        ledger: where it is kept.
        policy: the rules.
    """

    def __init__(self, ledger: "Ledger", policy: ApprovalPolicy) -> None:
        self._ledger = ledger
        self._policy = policy

    def check(self, statement: Record) -> None:
        """Refuse a statement that cannot count; a request may name any evidence.

        Raises:
            ApprovalError: when the evidence was judged again since, or the approver may not
                approve it.
            ReleaseRefusedError: when the evidence names no digest or no verdict.
        """
        said = self._said(statement)
        judgement = Judgement.of(statement.evidence, _requesters(said, statement))
        if statement.action != "request" and outdated(judgement.digest, _digests(said)):
            raise ApprovalError(
                f"the evidence {judgement.digest[:12]} is not the newest about version "
                f"{statement.version} of {statement.model!r}",
                expected=f"the evidence {_digests(said)[-1][:12]}, named by entry {said[-1].seq}",
                do="look at the newest evidence",
            )
        if statement.action == "approval":
            check_approval(judgement, statement.actor, statement.reason, self._policy)

    def decision(self, release: Record) -> Decision:
        """Whether a version may be released on an evidence.

        An approval counts as long as no other evidence was named after it. Who releases what
        nobody requested counts as the one who requests it.

        Raises:
            ReleaseRefusedError: when the evidence names no digest or no verdict, or other
                evidence was named since.
        """
        said = self._said(release)
        digest = Judgement.of(release.evidence).digest
        if outdated(digest, _digests(said)):
            raise ReleaseRefusedError(
                f"the evidence {digest[:12]} is not the newest about version {release.version} "
                f"of {release.model!r}",
                expected=f"the evidence {_digests(said)[-1][:12]}, named by entry {said[-1].seq}",
                do="release on the newest evidence",
            )
        # What was said about the same evidence before other evidence came does not come back.
        again = max((entry.seq for entry in said if _digest(entry) != digest), default=0)
        requesters = _requesters(said, release) or (release.actor,)
        return decision(
            Judgement.of(release.evidence, requesters),
            [
                _statement(e)
                for e in said
                if e.action == "approval" and (e.seq > again or _digest(e) != digest)
            ],
            [_statement(e) for e in said if e.action == "rejection"],
            self._policy,
        )

    def _said(self, about: Record) -> list[Entry]:
        return self._ledger.entries(about.model, version=about.version, actions=STATEMENTS)


def _requesters(said: list[Entry], about: Record) -> tuple[str, ...]:
    """Who requested the release on this evidence."""
    digest = _digest(about)
    return tuple(e.actor for e in said if e.action == "request" and _digest(e) == digest)


def _digests(said: list[Entry]) -> list[str]:
    return [_digest(entry) for entry in said]


def _digest(record: Record) -> str:
    return str(record.evidence.get("digest", ""))


def _statement(entry: Entry) -> Statement:
    return Statement(entry.actor, _digest(entry), entry.reason)
