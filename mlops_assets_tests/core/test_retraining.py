import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.retraining import (
    Breach,
    Decision,
    RetrainPolicy,
    RetrainState,
    Signals,
    decide,
)
from mlops_assets.errors import DeclarationError

START = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SIGNALS = Signals(labels=100)


def at(days: float) -> dt.datetime:
    return START + days * DAY


def trained(days: float = 0, outcome: str = "succeeded") -> RetrainState:
    return RetrainState().started(at(days)).ended(at(days), outcome)


def asked(days: float, state: RetrainState, policy: RetrainPolicy, **signals: object) -> Decision:
    return decide(at(days), state, policy, Signals(**{"labels": 100, **signals}))


def breach(days: float, name: str = "ECE 0.05") -> Breach:
    return Breach(at(days), name)


def test_a_model_that_was_never_trained_is_trained_at_once() -> None:
    assert asked(0, RetrainState(), RetrainPolicy()).start


def test_the_schedule_is_due_a_week_after_the_last_success_and_not_before() -> None:
    early, due = (asked(days, trained(), RetrainPolicy()) for days in (6.99, 7))
    assert (early.start, early.causes, early.not_before) == (False, (), at(7))
    assert (due.start, due.causes) == (True, ("schedule",))


def test_without_a_schedule_only_events_call_for_a_retrain() -> None:
    policy = RetrainPolicy(every=None, new_labels=50)
    assert not asked(400, trained(), policy, new_labels=49).start
    found = asked(400, trained(), policy, new_labels=50)
    assert (found.start, found.causes) == (True, ("labels",))
    assert "50 new labels" in found.reason


def test_two_triggers_at_once_give_one_retrain_with_both_causes() -> None:
    found = asked(8, trained(), RetrainPolicy(), calibration=breach(6), drift=breach(7))
    assert (found.start, found.cause) == (True, "schedule and drift and calibration")
    assert "ECE 0.05" in found.reason


def test_what_the_policy_does_not_want_calls_for_nothing() -> None:
    policy = RetrainPolicy(on_drift=False, on_calibration=False)
    assert not asked(5, trained(), policy, drift=breach(4), calibration=breach(4)).start


def test_a_breach_is_answered_by_one_retrain_and_a_new_one_by_another() -> None:
    policy = RetrainPolicy(cool_down=DAY)
    assert asked(4, trained(), policy, calibration=breach(3)).start
    assert not asked(6, trained(4), policy, calibration=breach(3)).start
    assert asked(6, trained(4), policy, calibration=breach(5)).start


def test_nothing_is_started_inside_the_cool_down() -> None:
    found = asked(2, trained(), RetrainPolicy(), drift=breach(1))
    assert (found.start, found.causes, found.not_before) == (False, ("drift",), at(3))
    assert asked(3, trained(), RetrainPolicy(), drift=breach(1)).start


def test_a_failure_is_tried_again_after_the_back_off() -> None:
    failed = trained(0).started(at(7)).ended(at(7), "failed")
    early, late = (asked(days, failed, RetrainPolicy()) for days in (7.9, 8))
    assert (early.start, early.not_before) == (False, at(8))
    assert "1 in a row failed" in early.reason
    assert late.start


def test_without_labels_a_retrain_is_refused_with_its_reason() -> None:
    found = asked(8, trained(), RetrainPolicy(), labels=0)
    assert not found.start
    assert found.reason.startswith("refused: due by schedule")
    assert found.causes == ("schedule",)


def test_one_that_is_under_way_holds_all_others() -> None:
    found = asked(99, trained().started(at(7)), RetrainPolicy())
    assert not found.start
    assert "under way" in found.reason


def test_a_clock_that_was_set_back_starts_nothing() -> None:
    policy = RetrainPolicy(every=None, new_labels=1, cool_down=dt.timedelta(0))
    found = asked(-3, trained(), policy, new_labels=5)
    assert (found.start, found.not_before) == (False, at(0))
    assert "clock" in found.reason


def test_a_retrain_that_ended_by_a_clock_set_back_holds_until_it_had_begun() -> None:
    policy = RetrainPolicy(every=None, new_labels=1, cool_down=dt.timedelta(0))
    state = RetrainState().started(at(5)).ended(at(3), "succeeded")
    early, late = (asked(days, state, policy, new_labels=1) for days in (4, 5))
    assert (early.start, early.not_before) == (False, at(5))
    assert late.start


def test_a_start_while_one_runs_and_an_end_while_none_does_are_errors() -> None:
    with pytest.raises(DeclarationError, match="under way"):
        RetrainState().started(at(0)).started(at(1))
    with pytest.raises(DeclarationError, match="none is under way"):
        RetrainState().ended(at(1), "failed")


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": dt.timedelta(0)},
        {"new_labels": 0},
        {"cool_down": -DAY},
        {"back_off": dt.timedelta(0)},
        {"back_off": 9 * DAY},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(DeclarationError, match="retrain policy"):
        RetrainPolicy(**wrong)


@given(st.integers(1, 10_000))
def test_the_back_off_never_shrinks_and_never_exceeds_its_cap(failures: int) -> None:
    policy = RetrainPolicy(back_off=DAY, most_back_off=30 * DAY)
    now, later = policy.wait_after(failures), policy.wait_after(failures + 1)
    assert now == min(DAY * 2 ** min(failures - 1, 20), 30 * DAY)
    assert now <= later <= 30 * DAY


SPANS = st.integers(0, 6).map(lambda days: days * DAY)
POLICIES = st.builds(
    RetrainPolicy,
    every=st.none() | st.integers(1, 5).map(lambda days: days * DAY),
    new_labels=st.none() | st.integers(1, 3),
    on_drift=st.booleans(),
    on_calibration=st.booleans(),
    cool_down=SPANS,
    back_off=st.just(DAY),
    most_back_off=st.integers(1, 6).map(lambda days: days * DAY),
)
# Hours that pass (also backwards), what becomes of a retrain that is under way, and the signals.
STEPS = st.lists(
    st.tuples(
        st.integers(-60, 60),
        st.sampled_from(["goes on", "succeeded", "failed"]),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


@given(POLICIES, STEPS)
def test_whatever_happens_retrains_keep_their_distance(policy: RetrainPolicy, steps: list) -> None:
    state, now = RetrainState(), START
    starts: list[dt.datetime] = []
    ends: list[tuple[dt.datetime, str]] = []
    failures = 0
    for hours, outcome, labels, drifts, off in steps:
        now += dt.timedelta(hours=hours)
        signals = Signals(
            labels=labels,
            new_labels=labels,
            drift=Breach(now, "drift") if drifts else None,
            calibration=Breach(now, "calibration") if off else None,
        )
        found = decide(now, state, policy, signals)
        assert decide(now, state, policy, signals) == found
        assert found.reason
        if found.start:
            assert not state.running
            assert found.causes
            assert labels
            assert all(now >= before for before in starts)
            if ends:
                last, how = ends[-1]
                wait = policy.wait_after(failures) if how == "failed" else policy.cool_down
                assert now >= last + wait
            state = state.started(now)
            starts.append(now)
        elif found.not_before is not None:
            assert found.not_before > now
        if state.running and outcome != "goes on":
            state = state.ended(now, outcome)
            failures = failures + 1 if outcome == "failed" else 0
            ends.append((now, outcome))
            assert state.failures == failures
            assert state.last_outcome == outcome
