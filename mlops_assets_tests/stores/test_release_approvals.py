"""Approvals and rejections are about one version and one evidence, and decide what is released."""

import pytest

from mlops_assets.core.approval import ApprovalPolicy
from mlops_assets.errors import (
    ApprovalError,
    ReleaseRefusedError,
)
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.stores import release_world
from mlops_assets_tests.stores.ledger_world import MODEL
from mlops_assets_tests.stores.release_world import (
    BOB,
    UNSURE,
    WHO,
    FileRegistry,
    actions,
    evidence,
    on_both,
    release,
)

registry, ledger = release_world.registry, release_world.ledger
releases, three = release_world.releases, release_world.three


@on_both
def test_an_approval_lets_what_is_inconclusive_be_released(three: Releases, ledger: Ledger) -> None:
    three.request(MODEL, "4", **WHO, evidence=UNSURE)
    three.approve(MODEL, "4", **BOB, evidence=UNSURE)
    release(three, "4", "3", evidence=UNSURE)
    assert actions(ledger)[3:] == ["request", "approval", "release"]
    assert [e.approver for e in ledger.entries(MODEL)[3:]] == [None, "bob", "bob"]


@on_both
def test_an_approval_is_void_once_the_gates_were_evaluated_again(three: Releases) -> None:
    newer = evidence("inconclusive", "d2")
    three.approve(MODEL, "4", **BOB, evidence=UNSURE)
    with pytest.raises(ApprovalError, match="about the evidence d1, not d2"):
        release(three, "4", "3", evidence=newer)
    three.request(MODEL, "4", **WHO, evidence=newer)
    with pytest.raises(ReleaseRefusedError, match="the evidence d1 is not the newest"):
        release(three, "4", "3", evidence=UNSURE)
    with pytest.raises(ApprovalError, match="the evidence d1 is not the newest"):
        three.approve(MODEL, "4", **BOB, evidence=UNSURE)


def test_an_approval_does_not_come_back_when_the_evidence_does(three: Releases) -> None:
    three.approve(MODEL, "4", **BOB, evidence=UNSURE)
    three.request(MODEL, "4", **WHO, evidence=evidence("inconclusive", "d2"))
    three.request(MODEL, "4", **WHO, evidence=UNSURE)
    with pytest.raises(ApprovalError, match="ece is inconclusive"):
        release(three, "4", "3", evidence=UNSURE)


def test_nobody_approves_what_they_requested_or_release(three: Releases) -> None:
    three.approve(MODEL, "4", **BOB, evidence=UNSURE)
    with pytest.raises(ApprovalError, match="the one who requested"):
        release(three, "4", "3", evidence=UNSURE, actor="bob")
    three.request(MODEL, "4", **WHO, evidence=UNSURE)
    with pytest.raises(ApprovalError, match="the one who requested"):
        three.approve(MODEL, "4", **WHO, evidence=UNSURE)
    assert release(three, "4", "3", evidence=UNSURE, actor="bob")["champion"] == "4"


def test_a_policy_may_let_people_approve_their_own(ledger: Ledger, registry: FileRegistry) -> None:
    releases = Releases(ledger, registry, policy=ApprovalPolicy(separate_approver=False))
    releases.approve(MODEL, "1", **WHO, evidence=UNSURE)
    assert release(releases, "1", evidence=UNSURE) == {"champion": "1"}


@on_both
def test_a_rejection_holds_until_the_gates_are_evaluated_again(three: Releases) -> None:
    three.reject(MODEL, "4", actor="eve", reason="not before the holidays", evidence=evidence())
    three.approve(MODEL, "4", **BOB, evidence=evidence())
    with pytest.raises(ReleaseRefusedError, match="rejected by eve: not before the holidays"):
        release(three, "4", "3")
    assert release(three, "4", "3", evidence=evidence(digest="d2"))["champion"] == "4"


def test_an_approval_is_about_one_version(three: Releases) -> None:
    three.approve(MODEL, "1", **BOB, evidence=UNSURE)
    with pytest.raises(ApprovalError):
        release(three, "4", "3", evidence=UNSURE)


def test_a_decision_can_be_asked_for_without_doing_anything(
    three: Releases, ledger: Ledger
) -> None:
    found = [
        three.decision(MODEL, "4", **WHO, evidence=evidence(outcome)).outcome
        for outcome in ("passed", "inconclusive", "failed")
    ]
    assert found == ["release", "needs approval", "refused"]
    assert actions(ledger) == ["release"] * 3


def test_a_champion_cannot_be_rejected(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    with pytest.raises(ReleaseRefusedError, match=r"(?s)version 3 .* is the champion.*rollback"):
        three.reject(MODEL, "3", **BOB, evidence=evidence())
    # What is about to become champion is one by the time of the answer.
    release_world.crash(ledger, registry, "move champion")
    with pytest.raises(ReleaseRefusedError, match=r"version 4 .* is the champion"):
        three.reject(MODEL, "4", **BOB, evidence=evidence())
    assert "rejection" not in actions(ledger)
    three.reject(MODEL, "3", **BOB, evidence=evidence())
    assert actions(ledger)[-1] == "rejection"
