"""Who may approve what: the rules between the verdicts of the gates and a release.

What passed is released by policy; what is inconclusive, by a person who takes the responsibility;
what failed, never. Approvals and rejections are about one evidence, named by its digest: when the
gates are evaluated again they count no more. Rules only; what was said is kept in the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlops_assets.errors import ApprovalError, ReleaseRefusedError

UNKNOWN = "unknown"
"""The name of a person whose name is not known."""

OUTCOMES = ("passed", "inconclusive", "failed")


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """What a release needs beside its verdicts.

    Args:
        separate_approver: nobody approves what they requested themselves.
        approve_passed: what passed every gate needs an approval too.
    """

    separate_approver: bool = True
    approve_passed: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gates said about a version, on one evidence.

    Args:
        outcomes: `passed`, `inconclusive` or `failed`, by gate.
        digest: digest of the evidence.
        requesters: who asked for the release.
    """

    outcomes: Mapping[str, str]
    digest: str
    requesters: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, evidence: Mapping[str, Any], requesters: Sequence[str] = ()) -> "Judgement":
        """The judgement in an evidence: `digest`, and `verdicts` by gate.

        A verdict is its outcome, or a mapping with an `outcome`.

        Raises:
            ReleaseRefusedError: when the evidence has no digest or no verdict.
        """
        digest, verdicts = evidence.get("digest"), evidence.get("verdicts")
        if not (isinstance(digest, str) and digest and isinstance(verdicts, Mapping) and verdicts):
            raise ReleaseRefusedError(
                f"evidence with the parts {sorted(map(str, evidence))}",
                expected="a digest, and the verdict of each gate by name",
                do="hand over the evidence on which the gates were evaluated",
            )
        outcomes = {
            str(gate): str(v.get("outcome") if isinstance(v, Mapping) else v)
            for gate, v in verdicts.items()
        }
        return cls(outcomes, digest, frozenset(requesters))

    def gates(self, outcome: str) -> list[str]:
        """Names of the gates with an outcome."""
        return sorted(gate for gate, found in self.outcomes.items() if found == outcome)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person said about a version: an approval or a rejection.

    Args:
        person: who said it.
        digest: digest of the evidence that the person saw.
        reason: why.
    """

    person: str
    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a version may be released.

    Args:
        outcome: the answer.
        reasons: why.
        approver: on whose responsibility, when a person's was needed.
    """

    outcome: Literal["release", "needs approval", "refused"]
    reasons: tuple[str, ...]
    approver: str | None = None


def decision(
    verdicts: Judgement,
    approvals: Sequence[Statement],
    rejections: Sequence[Statement],
    policy: ApprovalPolicy,
) -> Decision:
    """Decide on a release.

    Args:
        verdicts: the newest judgement.
        approvals: what was approved, on whatever evidence.
        rejections: what was rejected, on whatever evidence.
        policy: the rules.
    """
    against = _refusals(verdicts, rejections)
    if against:
        return Decision("refused", tuple(against))
    open_gates = verdicts.gates("inconclusive")
    if not open_gates and not policy.approve_passed:
        return Decision("release", ("every gate passed",))
    void = []
    for approval in approvals:
        obstacle = _obstacle(verdicts, approval, policy)
        if obstacle is None:
            reason = f"approved by {approval.person}: {approval.reason}"
            return Decision("release", (reason,), approver=approval.person)
        void.append(f"the approval by {approval.person} does not count: {obstacle}")
    needs = [f"{gate} is inconclusive" for gate in open_gates]
    return Decision("needs approval", (*(needs or ["the policy wants an approval"]), *void))


def check_approval(verdicts: Judgement, approver: str, reason: str, policy: ApprovalPolicy) -> None:
    """Refuse an approval that could never count.

    Raises:
        ApprovalError: when a gate failed, or the approver may not approve it.
    """
    against = [*_refusals(verdicts, ())]
    obstacle = _obstacle(verdicts, Statement(approver, verdicts.digest, reason), policy)
    if against or obstacle:
        raise ApprovalError(
            f"{approver or 'nobody'} cannot approve this: {'; '.join(against) or obstacle}",
            expected="gates that did not fail, and a reason of somebody known by name who did not "
            "request the release",
            do="train a better version" if against else "let somebody else approve, with a reason",
        )


def outdated(digest: str, named: Sequence[str]) -> bool:
    """Whether an evidence is older than another one that is known.

    Args:
        digest: digest of the evidence.
        named: the digests that requests, approvals and rejections have named, in their order.

    >>> outdated("old", ["old", "new"]), outdated("new", ["old", "new"]), outdated("n", ["old"])
    (True, False, False)
    """
    return digest in named and named[-1] != digest


def _refusals(verdicts: Judgement, rejections: Sequence[Statement]) -> list[str]:
    """What no approval can outweigh."""
    if not verdicts.outcomes:
        return ["no gate has judged it"]
    return [
        *(f"{gate} failed" for gate in verdicts.gates("failed")),
        *(
            f"{gate} has no verdict but {outcome!r}"
            for gate, outcome in sorted(verdicts.outcomes.items())
            if outcome not in OUTCOMES
        ),
        *(
            f"rejected by {rejection.person}: {rejection.reason}"
            for rejection in rejections
            if rejection.digest == verdicts.digest
        ),
    ]


def _obstacle(verdicts: Judgement, approval: Statement, policy: ApprovalPolicy) -> str | None:
    """Why an approval does not count; None when it does."""
    if approval.digest != verdicts.digest:
        return f"it is about the evidence {approval.digest[:12]}, not {verdicts.digest[:12]}"
    if not approval.reason.strip():
        return "it gives no reason"
    if not _known(approval.person):
        return "nobody knows who gave it"
    if policy.separate_approver and _same(approval.person, verdicts.requesters):
        return "it was given by the one who requested the release"
    return None


def _known(person: str) -> bool:
    return person.strip().casefold() not in ("", UNKNOWN)


def _same(person: str, others: frozenset[str]) -> bool:
    return person.strip().casefold() in {other.strip().casefold() for other in others}
