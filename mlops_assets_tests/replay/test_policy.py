import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.replay.policy import ReplayPolicy
from mlops_assets.windows import Windows
from mlops_assets_tests.replay.replay_world import DAY, FIRST, POLICY, WINDOWS, spec


def read(folder: Path, text: str) -> ReplayPolicy:
    path = folder / "policy.yaml"
    path.write_text(text)
    return ReplayPolicy.read(path)


def test_a_file_says_what_differs_from_the_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "retrain_every_days: 14\ncanary: {steps: [10, 100]}\n")
    assert (found.retrain_every_days, found.holdout_days) == (14, 28)
    rollout = found.applied(spec(tmp_path)).rollout
    assert (rollout.steps, rollout.most_hours, rollout.brier) == ((10, 100), 14 * 24, 0.02)


def test_gates_are_those_of_the_model_but_for_what_the_policy_names(tmp_path: Path) -> None:
    model = spec(tmp_path)
    found = read(tmp_path, "gates: {ece_limit: 0.03, metric_margin: {f1: 0.1}}").applied(model)
    named = {"ece_limit": 0.03, "metric_margin": {"f1": 0.1}}
    assert found.gates == model.gates.model_copy(update=named)
    assert ReplayPolicy().applied(model).gates == model.gates


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == ReplayPolicy()


def test_without_canary_versions_are_released_at_once(tmp_path: Path) -> None:
    assert read(tmp_path, "canary: null\n").canary is None


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("retrain_evry_days: 7", "did you mean retrain_every_days"),
        ("canary: {coverge: 0.1}", "did you mean coverage"),
        ("gates: {ece_limt: 0.1}", "did you mean ece_limit"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path, text: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- 1", "holds list"),
        ("a: [", "cannot be read"),
        ("holdout_days: many", "holdout_days"),
        ("holdout_days: 0", "holdout_days"),
        ("inconclusive: perhaps", "inconclusive"),
        ("canary: {most_hours: 0}", "most_hours"),
        ("canary: {steps: [25, 50]}", "100 as the last step"),
        ("gates: {ece_limit: 2}", "ece_limit"),
    ],
)
def test_a_file_that_does_not_fit_is_told_with_its_name(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(DeclarationError, match=told) as error:
        read(tmp_path, text)
    assert "policy.yaml" in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        ReplayPolicy.read(tmp_path / "none.yaml")


def lengths(windows: Windows) -> list[int]:
    return [(window.end - window.start).days for _, window in windows.items()]


def test_windows_have_the_lengths_of_the_spec_and_all_days_before_to_learn_from(
    tmp_path: Path,
) -> None:
    found = POLICY.windows(spec(tmp_path), FIRST + 40 * DAY)
    assert found is not None
    assert lengths(found) == [31, 4, 4, 4]
    assert found.train.start == WINDOWS.train.start
    assert found.holdout.end == FIRST + 39 * DAY


def test_a_policy_may_choose_lengths_and_let_the_train_window_roll(tmp_path: Path) -> None:
    lengths_chosen = {"train_days": 10, "calibrate_days": 6, "holdout_days": 3}
    found = POLICY.model_copy(update=lengths_chosen).windows(spec(tmp_path), FIRST + 40 * DAY)
    assert found is not None
    assert lengths(found) == [10, 6, 6, 3]


@given(
    day=st.integers(0, 80),
    train=st.none() | st.integers(1, 30),
    calibrate=st.none() | st.integers(2, 20),
    holdout=st.none() | st.integers(1, 20),
    least=st.integers(1, 30),
    delay=st.integers(0, 5),
)
def test_windows_follow_each_other_and_end_before_the_day(
    tmp_path_factory: pytest.TempPathFactory,
    day: int,
    train: int | None,
    calibrate: int | None,
    holdout: int | None,
    least: int,
    delay: int,
) -> None:
    model = spec(tmp_path_factory.getbasetemp())
    policy = ReplayPolicy(
        train_days=train,
        calibrate_days=calibrate,
        holdout_days=holdout,
        least_train_days=least,
        label_delay_days=delay,
    )
    today = FIRST + day * DAY
    found = policy.windows(model, today)
    # All that is not to learn from, or for longer than the policy lets it be.
    left = day - delay - (holdout or 4) - (calibrate or 4)
    if min(left, train or left) < least:
        assert found is None
    else:
        assert found is not None
        assert found.train.start >= FIRST
        assert found.train.end == found.calibrate.start
        assert found.conformalize.end == found.holdout.start
        assert found.holdout.end == today - dt.timedelta(days=delay)
