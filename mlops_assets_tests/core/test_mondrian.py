"""Rules by group: each group's own rule is the one fitted on its rows alone."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from mlops_assets.core.conformal import ConformalRule, covered, fit_conformal_rule
from mlops_assets.core.conformal_intervals import (
    IntervalRule,
    fit_absolute,
    fit_normalized,
    fit_quantile,
    holds,
)
from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.mondrian import (
    MondrianRule,
    coverage_by_group,
    fit_group_intervals,
    fit_group_sets,
    group_intervals,
    group_rule,
    group_sets,
)
from mlops_assets.errors import GateError

GROUPS = np.repeat(["a", "b", "c"], [600, 800, 100])


def _targets(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets around a forecast of 0; those of group b are five times as far off."""
    spread = np.where(GROUPS == "b", 5.0, 1.0)
    return spread * np.random.default_rng(seed).normal(size=1_500), spread


def _scores(seed: int, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), 1_500)
    return p, (np.cumsum(p, axis=1)[:, :-1] < rng.random((1_500, 1))).sum(axis=1)


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_a_groups_set_rule_is_that_of_its_own_rows(score: str) -> None:
    p, labels = _scores(1)
    rule = fit_group_sets(p, labels, GROUPS, 0.8, score=score)
    assert [name for name, _ in rule.own] == ["a", "b"]
    for name, own in rule.own:
        rows = name == GROUPS
        assert own == fit_conformal_rule(p[rows], labels[rows], 0.8, score=score)
    assert rule.common == fit_conformal_rule(p, labels, 0.8, score=score)


def test_a_groups_interval_rule_is_that_of_its_own_rows() -> None:
    y, spread = _targets(2)
    ends = np.column_stack([-spread, spread])
    for kind, given, fitted in (
        ("absolute", np.zeros(1_500), lambda r: fit_absolute(y[r], np.zeros(r.sum()))),
        ("quantile", ends, lambda r: fit_quantile(y[r], ends[r])),
    ):
        rule = fit_group_intervals(y, given, GROUPS, kind=kind)
        assert rule.of("b") == fitted(GROUPS == "b")
        assert rule.common == fitted(GROUPS != "")
    rule = fit_group_intervals(y, np.zeros(1_500), GROUPS, kind="normalized", spread=spread)
    b = GROUPS == "b"
    assert rule.of("b") == fit_normalized(y[b], np.zeros(800), spread[b])


def test_small_and_unknown_groups_get_the_common_rule_and_are_named() -> None:
    rule = fit_group_intervals(_targets(3)[0], np.zeros(1_500), GROUPS)
    assert rule.pooled == (("c", 100),)
    assert rule.of("c") == rule.of("never seen") == rule.common
    assert fit_group_intervals(_targets(3)[0], np.zeros(1_500), GROUPS, min_rows=100).pooled == ()


def test_a_group_too_small_for_the_confidence_is_pooled_whatever_the_policy_says() -> None:
    groups = np.repeat(["few", "many"], [8, 1_492])
    rule = fit_group_intervals(_targets(3)[0], np.zeros(1_500), groups, min_rows=1)
    assert rule.pooled == (("few", 8),)


def test_sets_and_intervals_come_from_the_rule_of_the_row() -> None:
    y, spread = _targets(4)
    f = np.arange(1_500.0)
    intervals = fit_group_intervals(y + f, f, GROUPS, kind="normalized", spread=spread)
    p, labels = _scores(4)
    sets = fit_group_sets(p, labels, GROUPS)
    shuffled = np.random.default_rng(0).permutation(1_500)
    ends = group_intervals(intervals, f[shuffled], GROUPS[shuffled], spread=spread[shuffled])
    chosen = group_sets(sets, p[shuffled], GROUPS[shuffled])
    for place, row in enumerate(shuffled[:300]):
        own = intervals.of(GROUPS[row])
        np.testing.assert_array_equal(ends[place], own.intervals(f[[row]], spread=spread[[row]])[0])
        expected = sets.of(GROUPS[row]).prediction_sets(p[[row]])[0]
        np.testing.assert_array_equal(chosen[place], expected)


def test_binary_rules_take_probabilities_of_class_1() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(1_500)
    rule = fit_group_sets(p, rng.random(1_500) < p, GROUPS)
    b = GROUPS == "b"
    sets = group_sets(rule, p, GROUPS)
    np.testing.assert_array_equal(sets[b], rule.of("b").prediction_sets(p[b]))


def test_a_group_with_labels_of_one_class_has_a_rule() -> None:
    p, labels = _scores(6)
    labels[GROUPS == "a"] = 0
    scores = np.sort(1 - p[GROUPS == "a", 0])
    rule = fit_group_sets(p, labels, GROUPS).of("a")
    assert rule.quantile == pytest.approx(scores[rule.rank - 1])


def test_own_rules_cover_each_group_where_the_common_rule_does_not() -> None:
    rule = fit_group_intervals(_targets(7)[0], np.zeros(1_500), GROUPS)
    y, _ = _targets(8)
    own = holds(y, group_intervals(rule, np.zeros(1_500), GROUPS))
    common = holds(y, rule.common.intervals(np.zeros(1_500)))
    shares = [[h[name == GROUPS].mean() for name in "ab"] for h in (own, common)]
    assert shares[0] == pytest.approx([0.9, 0.9], abs=0.055)  # three standard errors
    assert shares[1][0] > 0.97
    assert shares[1][1] < 0.85


def test_coverage_by_group_is_the_law_with_the_rows_of_the_groups_rule() -> None:
    rule = MondrianRule(
        IntervalRule(0.9, 1.0, 3_000), (("a", IntervalRule(0.9, 1.0, 700)),), (("b", 50),)
    )
    held = np.r_[np.full(90, True), np.full(10, False), np.full(40, True)]
    found = coverage_by_group(held, np.repeat(["a", "b"], [100, 40]), rule, level=0.9)
    assert [(row.group, row.own_rule) for row in found] == [("a", True), ("b", False)]
    assert found[0].coverage == coverage_estimate(90, 100, 700, level=0.9)
    assert found[1].coverage == coverage_estimate(40, 40, 3_000, level=0.9)


def test_coverage_of_sets_by_group_counts_the_true_class() -> None:
    p, labels = _scores(9)
    rule = fit_group_sets(p, labels, GROUPS)
    held = covered(labels, group_sets(rule, p, GROUPS))
    for row in coverage_by_group(held, GROUPS, rule):
        assert row.coverage.value == held[row.group == GROUPS].mean()


@pytest.mark.parametrize("fitted", ["sets", "intervals"])
def test_a_rule_survives_json(fitted: str) -> None:
    if fitted == "sets":
        rule = fit_group_sets(*_scores(10), GROUPS, score="raps")
    else:
        rule = fit_group_intervals(_targets(10)[0], np.zeros(1_500), GROUPS)
    assert group_rule(json.loads(json.dumps(asdict(rule)))) == rule


def test_whole_numbers_name_groups_as_their_text_does() -> None:
    y, _ = _targets(11)
    numbers = np.repeat([7, 8], [700, 800])
    rule = fit_group_intervals(y, np.zeros(1_500), numbers)
    assert [name for name, _ in rule.own] == ["7", "8"]
    assert rule == fit_group_intervals(y, np.zeros(1_500), numbers.astype(str).astype(object))


@pytest.mark.parametrize(
    "wrong",
    [
        ["a", "b"],
        [["a", "a", "b"]],
        np.array(["a", None, "b"], dtype=object),
        np.array(["a", float("nan"), "b"], dtype=object),
        [1.0, 2.0, 2.0],
    ],
)
def test_groups_that_are_missing_or_do_not_fit_are_refused(wrong) -> None:
    rule = MondrianRule(IntervalRule(0.9, 1.0, 100))
    for call in (
        lambda: fit_group_intervals(np.ones(3), np.ones(3), wrong, 0.5),
        lambda: fit_group_sets(np.full(3, 0.5), [0, 1, 1], wrong, 0.5),
        lambda: group_intervals(rule, np.ones(3), wrong),
        lambda: coverage_by_group(np.full(3, True), wrong, rule),
    ):
        with pytest.raises(GateError, match="groups of shape"):
            call()


def test_lengths_that_differ_are_refused() -> None:
    groups = ["a", "a", "b"]
    rule = MondrianRule(IntervalRule(0.5, 1.0, 100, "normalized"))
    with pytest.raises(GateError, match="3 rows with predictions and spread"):
        fit_group_intervals(np.ones(3), np.ones(2), groups, 0.5)
    with pytest.raises(GateError, match="3 rows with predictions and spread"):
        group_intervals(rule, np.ones(3), groups, spread=np.ones(2))
    with pytest.raises(GateError, match="2 rows with predictions and spread"):
        fit_group_sets(np.full(3, 0.5), [0, 1], ["a", "b"], 0.5)


def test_coverage_of_no_rows_or_of_no_booleans_is_refused() -> None:
    rule = MondrianRule(IntervalRule(0.9, 1.0, 100))
    for wrong in ([], [1, 0], [[True]]):
        with pytest.raises(GateError, match="coverage of shape"):
            coverage_by_group(wrong, ["a"] * len(wrong), rule)


def test_rules_that_do_not_belong_together_are_refused() -> None:
    common = IntervalRule(0.9, 1.0, 100)
    for own, pooled in (
        ((("a", IntervalRule(0.8, 1.0, 100)),), ()),
        ((("a", ConformalRule(0.9, 1.0, 100)),), ()),
        ((("a", common),), (("a", 5),)),
    ):
        with pytest.raises(GateError, match="rules of the groups"):
            MondrianRule(common, own, pooled)
