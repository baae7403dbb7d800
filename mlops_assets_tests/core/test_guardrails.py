"""A canary is rolled back, advanced or held for reasons that are told with their numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.guardrails import CanaryVerdict, Guardrail, traffic_needed, verdict
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import DataError, DeclarationError, UnknownNameError

ERRORS = Guardrail("errors", margin=0.01, expected=0.02)
SLOW = Guardrail("slow", margin=0.02, expected=0.05)
SHIFT = Guardrail("shift", margin=0.05, kind="mean", expected=0.2, either_way=True)
N = 20_000
SAME = (Sums(N, 400, 400), Sums(N, 400, 400))
WORSE = (Sums(N, 1_000, 1_000), Sums(N, 400, 400))
BETTER = (Sums(N, 100, 100), Sums(N, 400, 400))


def scores(n: int, mean: float) -> Sums:
    return Sums(n, n * mean, n * (mean**2 + 0.04))


def judged(*guardrails: Guardrail, **evidence: Any) -> CanaryVerdict:
    return verdict(guardrails, evidence, entities=(5_000, 5_000))


def test_harm_surely_above_the_margin_rolls_back() -> None:
    found = judged(ERRORS, errors=WORSE)
    assert found.action == "roll back"
    assert found.reasons[0].startswith(
        "errors: canary 0.05 (n = 20,000), control 0.02 (n = 20,000); difference 0.03, surely 0.02"
    )
    assert found.reasons[0].endswith("margin 0.01: harm")


@pytest.mark.parametrize("evidence", [SAME, BETTER])
def test_harm_surely_below_the_margin_advances(evidence: tuple[Sums, Sums]) -> None:
    assert judged(ERRORS, errors=evidence).action == "advance"


def test_harm_that_is_not_sure_holds() -> None:
    found = judged(ERRORS, errors=(Sums(1_000, 30, 30), Sums(1_000, 20, 20)))
    assert (found.action, found.readings[0].finding) == ("hold", "open")


def test_too_little_traffic_holds_what_would_advance_but_not_a_rollback() -> None:
    patient = Guardrail("errors", margin=0.01, expected=0.02, least_traffic=N + 1)
    found = judged(patient, errors=SAME)
    assert found.action == "hold"
    assert "no harm, but on 20,000 of at least 20,001 observations" in found.reasons[0]
    assert judged(patient, errors=WORSE).action == "roll back"


def test_one_harm_is_enough_and_only_harms_are_told() -> None:
    found = judged(ERRORS, SLOW, errors=SAME, slow=WORSE)
    assert found.action == "roll back"
    assert [reason.split(":")[0] for reason in found.reasons] == ["slow"]


def test_one_open_guardrail_holds_all() -> None:
    found = judged(ERRORS, SLOW, errors=SAME)
    assert (found.action, found.reasons[0].split(":")[0]) == ("hold", "slow")


def test_without_any_evidence_it_holds() -> None:
    assert verdict([ERRORS, SHIFT], {}, entities=(0, 0)).action == "hold"


def test_a_canary_without_control_holds() -> None:
    assert judged(ERRORS, errors=(WORSE[0], Sums())).action == "hold"


@pytest.mark.parametrize("evidence", [SAME, WORSE])
def test_a_broken_split_decides_nothing(evidence: tuple[Sums, Sums]) -> None:
    found = verdict([ERRORS], {"errors": evidence}, entities=(5_400, 4_600))
    assert found.action == "hold"
    assert "5,400 entities in the canary and 4,600 in the control" in found.reasons[0]


def test_the_split_is_judged_by_the_planned_shares() -> None:
    wide = verdict([ERRORS], {"errors": WORSE}, entities=(1_000, 9_000), shares=(10, 90))
    assert wide.action == "roll back"
    even = verdict([ERRORS], {"errors": WORSE}, entities=(1_000, 9_000))
    assert even.action == "hold"


@pytest.mark.parametrize(
    ("mean", "action"), [(0.3, "advance"), (0.4, "roll back"), (0.2, "roll back"), (0.35, "hold")]
)
def test_a_shift_is_a_harm_in_both_directions(mean: float, action: str) -> None:
    assert judged(SHIFT, shift=(scores(N, mean), scores(N, 0.3))).action == action


def test_bounds_of_several_guardrails_are_wider_as_all_hold_at_once() -> None:
    alone = judged(ERRORS, errors=SAME).readings[0]
    beside = judged(ERRORS, SLOW, errors=SAME, slow=SAME).readings[0]
    assert beside.low < alone.low < alone.high < beside.high


@given(st.integers(0, 500), st.integers(0, 500), st.integers(500, 5_000))
def test_more_errors_never_make_a_verdict_milder(hits: int, other: int, n: int) -> None:
    order = ["advance", "hold", "roll back"]
    control = Sums(n, other, other)
    verdicts = [judged(ERRORS, errors=(Sums(n, h, h), control)) for h in (hits, hits // 2)]
    assert order.index(verdicts[0].action) >= order.index(verdicts[1].action)


def test_evidence_on_an_unknown_guardrail_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean errors"):
        judged(ERRORS, eror=SAME)


@pytest.mark.parametrize("guardrails", [(), (ERRORS, ERRORS)])
def test_guardrails_that_cannot_be_told_apart_are_refused(
    guardrails: tuple[Guardrail, ...],
) -> None:
    with pytest.raises(DeclarationError, match="at least one"):
        judged(*guardrails)


def test_values_that_are_no_shares_are_refused_and_never_pass() -> None:
    with pytest.raises(DataError):
        judged(ERRORS, errors=(Sums(N, 2.0 * N, 4.0 * N), Sums(N, 0, 0)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": -0.1},
        {"margin": float("nan")},
        {"expected": 0.0},
        {"expected": 1.0},
        {"kind": "mean", "expected": 0.0},
        {"least_traffic": 0},
        {"tuned_for": 0},
    ],
)
def test_a_guardrail_that_cannot_be_judged_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="the guardrail 'x'"):
        Guardrail(**{"name": "x", "margin": 0.1, **wrong})


def test_more_traffic_is_needed_for_a_smaller_harm_and_for_more_guardrails() -> None:
    needed = traffic_needed(ERRORS)
    assert needed is not None
    assert needed < (traffic_needed(ERRORS, harm=0.015) or 0)
    assert needed < (traffic_needed(ERRORS, guardrails=4) or 0)
    assert needed > (traffic_needed(ERRORS, power=0.5) or 0)


def test_a_harm_of_both_directions_needs_the_same_traffic() -> None:
    assert traffic_needed(SHIFT, harm=0.1) == traffic_needed(SHIFT, harm=-0.1)


def test_a_harm_at_the_margin_is_never_decided() -> None:
    assert traffic_needed(ERRORS, harm=0.01) is None
    assert traffic_needed(Guardrail("errors", margin=0.0)) is None


def test_no_harm_needs_the_least_traffic_at_least() -> None:
    patient = Guardrail("errors", margin=0.5, least_traffic=123_456)
    assert traffic_needed(patient, harm=0.0) == 123_456


@pytest.mark.parametrize("harm", [0.99, -0.03])
def test_a_harm_that_no_share_can_have_is_refused(harm: float) -> None:
    with pytest.raises(DeclarationError, match="a harm that is possible"):
        traffic_needed(ERRORS, harm=harm)
