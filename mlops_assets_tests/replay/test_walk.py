from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.errors import WindowError
from mlops_assets.replay.facts import Replay
from mlops_assets.replay.policy import ReplayPolicy
from mlops_assets.replay.summing import Summing
from mlops_assets.replay.walk import NOBODY, Progress, Walk
from mlops_assets.replay.year import Year
from mlops_assets_tests.replay.replay_world import (
    DAY,
    FIRST,
    PER_DAY,
    POLICY,
    gates,
    orders,
    spec,
    turned,
    walk,
    year,
)


def kinds(found: Walk) -> list[str]:
    return [event.kind for event in found.events if event.kind not in ("opened", "resolved")]


def with_policy(**change: object) -> ReplayPolicy:
    return POLICY.model_copy(update=change)


def slow(**change: float) -> ReplayPolicy:
    """A canary that never has enough rows."""
    return with_policy(canary={**(POLICY.canary or {}), "least_rows": 10**6, **change})


def judged_by(shop: Year, **change: object) -> Year:
    """The same rows under other gates: what was trained is found again."""
    return Year(shop.spec.model_copy(update={"gates": gates(**change)}), shop.table)


def test_a_version_that_passes_goes_through_a_canary_to_champion(steady: Walk) -> None:
    assert kinds(steady)[:5] == ["adopted", "canary", "advanced", "advanced", "released"]
    assert steady.retrains[1].outcome == "passed"
    assert steady.days[-1].champion == steady.book.champion != "1"


def test_the_first_version_is_adopted_whatever_the_gates_say(shop: Year, kept: Path) -> None:
    found = walk(kept, judged_by(shop, ece_limit=1e-6), days=(20, 30))
    assert (kinds(found)[0], found.days[-1].champion) == ("adopted", "1")
    assert found.book.entries()[0]["action"] == "adopt"


def test_without_adoption_nothing_predicts_before_a_version_has_passed(
    shop: Year, kept: Path
) -> None:
    policy = with_policy(first="gates", canary=None)
    found = walk(kept, judged_by(shop, ece_limit=1e-6), policy, days=(20, 40))
    assert {day.champion for day in found.days} == {None}
    assert (found.platform == NOBODY).all()
    passed = walk(kept, shop, policy, days=(20, 40))
    assert "released" in kinds(passed)
    assert "adopted" not in kinds(passed)


def test_failed_gates_leave_the_champion(shop: Year, kept: Path) -> None:
    # A spread of the folds that nothing stays below: surely broken, so it fails.
    found = walk(kept, judged_by(shop, overfit_limit=1e-9, ece_limit=1e-9), days=(20, 45))
    assert {one.outcome for one in found.retrains[1:]} <= {"failed", "inconclusive"}
    assert set(kinds(found)[1:]) <= {"refused", "held"}
    assert {day.champion for day in found.days if day.champion} == {"1"}
    assert found.newest.max() == len(found.retrains) > 2


def test_what_is_inconclusive_is_held_unless_the_policy_lets_somebody_approve_it(
    shop: Year, kept: Path
) -> None:
    unsure = judged_by(shop, ece_limit=0.03)
    policy = with_policy(inconclusive="release", canary=None)
    held, released = (walk(kept, unsure, one, days=(20, 45)) for one in (POLICY, policy))
    waiting = [one for one in held.retrains[1:] if one.outcome == "inconclusive"]
    assert waiting
    assert {one.then for one in waiting} == {"held"}
    assert all(one.then == "released" for one in released.retrains[1:]
               if one.outcome == "inconclusive")  # fmt: skip
    actions = [entry["action"] for entry in released.book.entries()]
    place = actions.index("approval")
    assert actions[place - 1 : place + 3] == ["request", "approval", "challenge", "release"]
    assert released.book.verified()["chain"] == "verified"


def test_a_canary_that_is_undecided_is_given_up(shop: Year, kept: Path) -> None:
    found = walk(kept, shop, slow(most_hours=5 * 24), days=(20, 40))
    ended = next(event for event in found.events if event.kind == "given up")
    moved = next(event for event in found.events if event.kind == "advanced")
    assert (ended.day - moved.day).days == 6
    assert "nobody came to decide: no decision after 144 h" in ended.text
    assert {day.champion for day in found.days if day.champion} == {"1"}
    assert "archive" in [entry["action"] for entry in found.book.entries()]


def test_while_a_canary_runs_no_other_version_is_rolled_out(shop: Year, kept: Path) -> None:
    found = walk(kept, shop, slow(most_hours=28 * 24), days=(20, 45))
    assert kinds(found) == ["adopted", "canary", "advanced", "held", "held"]
    assert "but version 2 is a canary" in found.events[-1].text
    assert {day.canary for day in found.days} == {None, "2"}


def test_rows_of_a_canary_are_answered_by_it_and_all_others_by_the_champion(
    shop: Year, steady: Walk
) -> None:
    began = next(day for day in steady.days if day.share)
    assert next(day for day in steady.days if day.canary).share == 0  # in shadow
    rows = shop.between(began.day, began.day + DAY)
    answered = set(steady.platform[rows].tolist())
    assert answered == {int(str(began.champion)), int(str(began.canary))}
    share = (steady.platform[rows] == int(str(began.canary))).mean()
    assert began.share == pytest.approx(share)


def test_nothing_is_decided_by_labels_that_come_later(shop: Year, tmp_path: Path) -> None:
    until = FIRST + 35 * DAY
    late = shop.between(until - DAY, FIRST + 60 * DAY)
    labels = shop.table["returned"].to_pylist()
    labels[late] = [1 - one for one in labels[late]]
    place = shop.table.column_names.index("returned")
    table = shop.table.set_column(place, "returned", [labels])
    one, other = (
        walk(tmp_path / name, found, days=(20, 35))
        for name, found in (("one", shop), ("other", Year(shop.spec, table)))
    )
    assert one.days == other.days
    assert one.events == other.events
    assert one.retrains == other.retrains


def test_a_month_without_labels_refuses_the_retrain_and_says_no_data(tmp_path: Path) -> None:
    found = year(spec(tmp_path), orders(75, unlabelled=range(27, 75)))
    walked = walk(tmp_path, found, with_policy(train_days=7), days=(20, 75))
    refused = [event for event in walked.events if event.kind == "no retrain"]
    assert refused
    assert "has no rows" in refused[0].text or "no row" in refused[0].text
    assert any("no row of its windows has a label" in day.decision for day in walked.days)
    assert walked.days[-1].ece is None
    facts = Summing(walked, FIRST + 20 * DAY, FIRST + 75 * DAY).replay(POLICY)
    assert facts.weeks[-1].arms["platform"].n == 0
    assert facts.weeks[-1].arms["platform"].missing["ece"] == "no rows with mature labels"


def test_failures_are_tried_again_with_growing_distance(tmp_path: Path) -> None:
    found = year(spec(tmp_path), orders(60, unlabelled=range(27, 60)))
    policy = with_policy(back_off_days=1, most_back_off_days=4)
    walked = walk(tmp_path, found, policy, days=(20, 60))
    failed = [event.day for event in walked.events if event.kind == "no retrain"]
    distances = [(two - one).days for one, two in pairwise(failed)]
    assert distances[:4] == [1, 2, 4, 4]


def test_days_without_rows_are_days_without_data(tmp_path: Path) -> None:
    found = year(spec(tmp_path), orders(45, missing=range(30, 38)))
    walked = walk(tmp_path, found, days=(20, 45))
    silent = [day for day in walked.days if FIRST + 35 * DAY <= day.day < FIRST + 38 * DAY]
    assert [(day.rows, day.ece, day.drifted) for day in silent] == [(0, None, None)] * 3


def test_a_rule_that_turns_opens_an_incident_that_calls_for_a_retrain(tmp_path: Path) -> None:
    found = year(spec(tmp_path), orders(60, turned))
    policy = with_policy(retrain_every_days=14, retrain_on_drift=False, ece_limit=0.05)
    walked = walk(tmp_path, found, policy, days=(24, 60))
    opened = next(event for event in walked.events if event.kind == "opened")
    assert opened.text.startswith("calibration: ECE")
    answer = next(one for one in walked.retrains if one.day >= opened.day)
    assert "calibration" in answer.causes
    assert (answer.day - opened.day).days <= POLICY.cool_down_days


def test_between_competitions_the_last_winner_is_trained_alone(steady: Walk) -> None:
    assert {one.estimator for one in steady.retrains} == {"logistic"}
    competitors = [
        {fold.estimator for fold in one.fitted.selection.folds} for one in steady.versions.values()
    ]
    assert [len(names) for names in competitors] == [2, 1, 1, 1, 2]
    assert competitors[1] == {"logistic"}


def test_equal_walks_give_equal_facts_and_train_once(shop: Year, kept: Path, facts: Replay) -> None:
    told: list[Progress] = []
    again = walk(kept, shop, days=(20, 55), listener=told.append)
    assert Summing(again, facts.start, facts.end).replay(POLICY).document() == facts.document()
    trained = [one.fresh for one in told if one.fresh is not None]
    assert trained
    assert not any(trained)


def test_a_walk_that_is_stopped_goes_on_from_its_last_retrain(
    shop: Year, tmp_path: Path, facts: Replay
) -> None:
    def stop(progress: Progress) -> None:
        if progress.event and progress.event.version == "3" and progress.fresh is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path, shop, days=(20, 55), listener=stop)
    told: list[Progress] = []
    again = walk(tmp_path, shop, days=(20, 55), listener=told.append)
    fresh = [one.fresh for one in told if one.fresh is not None]
    assert fresh[:3] == [False] * 3
    assert all(fresh[3:])
    assert len(fresh) > 3
    assert Summing(again, facts.start, facts.end).replay(POLICY).document() == facts.document()


def test_a_kept_candidate_that_was_damaged_is_trained_again(shop: Year, tmp_path: Path) -> None:
    walk(tmp_path, shop, days=(20, 22))
    (folder,) = (tmp_path / "candidates").iterdir()
    model = folder / "model.skops"
    model.write_bytes(model.read_bytes()[:-1])
    told: list[Progress] = []
    walk(tmp_path, shop, days=(20, 22), listener=told.append)
    assert [one.fresh for one in told if one.fresh is not None] == [True]


def test_a_holdout_that_is_too_small_for_the_gates_is_told_before_anything_is_trained(
    shop: Year, tmp_path: Path
) -> None:
    large = judged_by(shop, min_holdout_rows=PER_DAY * 4 + 1)
    with pytest.raises(WindowError, match="the largest holdout has 240 rows") as error:
        walk(tmp_path, large)
    assert "at least 241 rows" in str(error.value)
    assert not (tmp_path / "candidates").exists()


def test_days_on_which_no_window_fits_are_told(shop: Year, tmp_path: Path) -> None:
    with pytest.raises(WindowError, match="fewer than 7 days to learn from"):
        walk(tmp_path, shop, days=(0, 10))


def test_the_three_ways_are_asked_about_the_same_rows(facts: Replay, steady: Walk) -> None:
    assert len({total.n for total in facts.totals.values()}) == 1
    assert {week.arms["platform"].n for week in facts.weeks} == {7 * PER_DAY}
    labels = steady.year.labels[steady.year.between(facts.start, facts.end)]
    for arm, versions in (("newest", steady.newest), ("platform", steady.platform)):
        span = steady.year.between(facts.start, facts.end)
        scores = np.empty(len(labels))
        for version, candidate in steady.versions.items():
            mine = versions[span] == int(version)
            inputs = steady.year.inputs(span)
            scores[mine] = candidate.fitted.probabilities(inputs)[mine]
        brier = facts.totals[arm].metrics["brier"].value
        assert brier == pytest.approx(float(((scores - labels) ** 2).mean()))
