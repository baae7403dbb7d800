"""Failed is never released; inconclusive only on somebody's responsibility, for one evidence."""

from typing import Any

import pytest

from mlops_assets.core.approval import (
    ApprovalPolicy,
    Judgement,
    Statement,
    check_approval,
    decision,
    outdated,
)
from mlops_assets.errors import ApprovalError, ReleaseRefusedError

POLICY = ApprovalPolicy()
BOB = Statement("bob", "d1", "worth the risk")


def judged(*outcomes: str, digest: str = "d1", requesters: tuple[str, ...] = ("ann",)) -> Judgement:
    return Judgement({f"gate{i}": o for i, o in enumerate(outcomes)}, digest, frozenset(requesters))


def outcome(verdicts: Judgement, *approvals: Statement, **more: Any) -> str:
    rejections = more.pop("rejections", ())
    return decision(verdicts, approvals, rejections, more.pop("policy", POLICY)).outcome


def test_what_passed_every_gate_is_released_without_a_person() -> None:
    found = decision(judged("passed", "passed"), [], [], POLICY)
    assert (found.outcome, found.approver) == ("release", None)


def test_what_failed_a_gate_is_refused_whoever_approves_it() -> None:
    found = decision(judged("failed", "inconclusive"), [BOB], [], POLICY)
    assert (found.outcome, found.reasons) == ("refused", ("gate0 failed",))


def test_what_is_inconclusive_needs_an_approval() -> None:
    found = decision(judged("passed", "inconclusive"), [], [], POLICY)
    assert (found.outcome, found.reasons) == ("needs approval", ("gate1 is inconclusive",))


def test_an_approval_names_who_is_responsible() -> None:
    found = decision(judged("inconclusive"), [BOB], [], POLICY)
    assert (found.outcome, found.approver) == ("release", "bob")
    assert found.reasons == ("approved by bob: worth the risk",)


def test_an_approval_is_void_once_the_gates_were_evaluated_again() -> None:
    found = decision(judged("inconclusive", digest="d2"), [BOB], [], POLICY)
    assert found.outcome == "needs approval"
    assert "it is about the evidence d1, not d2" in found.reasons[1]


@pytest.mark.parametrize("name", ["ann", "Ann", " ann "])
def test_nobody_approves_what_they_requested(name: str) -> None:
    own = Statement(name, "d1", "worth the risk")
    assert outcome(judged("inconclusive"), own) == "needs approval"
    assert outcome(judged("inconclusive"), own, BOB) == "release"
    assert outcome(judged("inconclusive", requesters=("bob", "ann")), own, BOB) == "needs approval"


def test_a_policy_may_let_people_approve_their_own_requests() -> None:
    policy = ApprovalPolicy(separate_approver=False)
    assert (
        outcome(judged("inconclusive"), Statement("ann", "d1", "yes"), policy=policy) == "release"
    )


def test_a_requester_whose_name_is_not_known_is_no_obstacle() -> None:
    assert outcome(judged("inconclusive", requesters=()), BOB) == "release"
    assert outcome(judged("inconclusive", requesters=("unknown",)), BOB) == "release"


@pytest.mark.parametrize("name", ["", "unknown", "Unknown "])
def test_an_approver_is_known_by_name(name: str) -> None:
    assert outcome(judged("inconclusive"), Statement(name, "d1", "yes")) == "needs approval"


def test_an_approval_gives_a_reason() -> None:
    assert outcome(judged("inconclusive"), Statement("bob", "d1", " ")) == "needs approval"


def test_a_policy_may_want_an_approval_of_what_passed() -> None:
    policy = ApprovalPolicy(approve_passed=True)
    assert outcome(judged("passed"), policy=policy) == "needs approval"
    assert outcome(judged("passed"), BOB, policy=policy) == "release"


def test_a_rejection_holds_against_passed_gates_and_approvals() -> None:
    no = Statement("eve", "d1", "not before the holidays")
    found = decision(judged("passed"), [BOB], [no], POLICY)
    assert found.outcome == "refused"
    assert found.reasons == ("rejected by eve: not before the holidays",)


def test_a_rejection_holds_until_there_is_newer_evidence() -> None:
    no = Statement("eve", "d1", "no")
    assert outcome(judged("passed", digest="d2"), rejections=[no]) == "release"


@pytest.mark.parametrize("verdict", ["", "PASSED", "error", "None"])
def test_an_outcome_that_no_gate_gives_is_refused(verdict: str) -> None:
    assert outcome(judged("passed", verdict), BOB) == "refused"


def test_no_verdict_at_all_is_refused() -> None:
    assert outcome(Judgement({}, "d1"), BOB) == "refused"


def test_an_approval_that_can_count_is_taken() -> None:
    check_approval(judged("inconclusive"), "bob", "worth the risk", POLICY)


@pytest.mark.parametrize(
    ("outcome", "approver", "reason", "said"),
    [
        ("failed", "bob", "yes", "gate0 failed"),
        ("inconclusive", "ann", "yes", "the one who requested"),
        ("inconclusive", "", "yes", "nobody cannot approve"),
        ("inconclusive", "unknown", "yes", "nobody knows who"),
        ("inconclusive", "bob", " ", "no reason"),
    ],
)
def test_an_approval_that_never_counts_is_not_taken(
    outcome: str, approver: str, reason: str, said: str
) -> None:
    with pytest.raises(ApprovalError, match=said):
        check_approval(judged(outcome), approver, reason, POLICY)


def test_a_verdict_is_its_outcome_or_holds_it() -> None:
    verdicts = {"one": "passed", "two": {"outcome": "inconclusive", "n": 9}, "three": {"n": 1}}
    found = Judgement.of({"digest": "d", "verdicts": verdicts}, ["ann"])
    assert found.outcomes == {"one": "passed", "two": "inconclusive", "three": "None"}
    assert (found.digest, found.requesters) == ("d", {"ann"})


@pytest.mark.parametrize(
    "evidence",
    [{}, {"digest": "d"}, {"verdicts": {"g": "passed"}}, {"digest": "d", "verdicts": {}},
     {"digest": "", "verdicts": {"g": "passed"}}, {"digest": 3, "verdicts": {"g": "passed"}},
     {"digest": "d", "verdicts": ["passed"]}],
)  # fmt: skip
def test_evidence_without_digest_or_verdicts_is_refused(evidence: dict[str, Any]) -> None:
    with pytest.raises(ReleaseRefusedError, match="evidence with the parts"):
        Judgement.of(evidence)


@pytest.mark.parametrize(
    ("named", "old"),
    [([], False), (["b"], False), (["a"], False), (["a", "b"], True), (["a", "b", "a"], False)],
)
def test_evidence_is_outdated_when_other_evidence_was_named_after_it(
    named: list[str], old: bool
) -> None:
    assert outdated("a", named) is old
