"""The gates over one piece of evidence on a regression."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core.conformal_intervals import fit_absolute
from mlops_assets.core.predictive import fit_predictive_distribution
from mlops_assets.core.regression_evidence import GATES, RULES, RegressionEvidence
from mlops_assets.core.selection import Score, Selection
from mlops_assets.errors import GateError
from mlops_assets.spec import GatePolicy
from mlops_assets_tests.core.regression_world import (
    SELECTION,
    N,
    champion,
    evidence,
    sides,
)

POLICY = GatePolicy()
GOOD = evidence()


def outcomes(of: RegressionEvidence, policy: GatePolicy = POLICY) -> dict[str, str]:
    return {name: gate(of, policy).outcome for name, gate in GATES.items()}


def of_one_width(of: RegressionEvidence) -> RegressionEvidence:
    """The same forecasts with a law and a rule that know nothing of difficulty."""
    known = evidence(seed=9)
    return replace(
        of,
        spreads=None,
        law=fit_predictive_distribution(known.labels, known.points),
        rule=fit_absolute(known.labels, known.points, 0.9),
    )


def folds(skills: tuple[float, ...], train: float = 0.8) -> Selection:
    def score(skill: float) -> Score:
        return Score(0.5, skill, 0.005, 5_000)

    return replace(
        SELECTION,
        folds=tuple(
            replace(fold, train=score(train), validation=score(skill))
            for fold, skill in zip(SELECTION.folds, skills, strict=True)
        ),
    )


def test_a_right_model_passes_every_gate() -> None:
    assert outcomes(replace(GOOD, slices=sides(GOOD))) == dict.fromkeys(GATES, "passed")


def test_a_biased_model_fails_both_gates_of_calibration() -> None:
    found = outcomes(evidence(bias=1.0))
    assert found["qce_below_limit"] == found["quantiles_within_limit"] == "failed"


def test_few_calibrate_rows_leave_the_quantiles_in_doubt() -> None:
    verdict = GATES["qce_below_limit"](evidence(m=300), POLICY)
    assert verdict.outcome == "inconclusive"
    assert "300 calibrate rows are too few" in verdict.reason


def test_intervals_that_miss_the_target_fail_the_gate_of_coverage() -> None:
    small = replace(GOOD.rule, quantile=0.8 * GOOD.rule.quantile)
    assert outcomes(replace(GOOD, rule=small))["coverage_within_tolerance"] == "failed"


def test_a_better_champion_fails_the_gate_of_regression() -> None:
    worse = replace(GOOD, points=champion(GOOD, noise=1.0).points, champion=champion(GOOD))
    assert outcomes(worse)["no_metric_below_champion"] == "failed"


def test_a_worse_champion_is_no_obstacle() -> None:
    better = replace(GOOD, champion=champion(GOOD, noise=1.0))
    assert outcomes(better)["no_metric_below_champion"] == "passed"


def test_the_champion_is_compared_by_its_own_law_too() -> None:
    """Points are the same; of the laws the champion's knows which rows are difficult."""
    verdict = GATES["no_metric_below_champion"](
        replace(of_one_width(GOOD), champion=champion(GOOD)), POLICY
    )
    assert verdict.outcome == "failed"
    assert "pinball" in verdict.reason
    assert "mae" not in verdict.reason


def test_a_champion_that_has_seen_the_holdout_is_no_judge() -> None:
    verdict = GATES["no_metric_below_champion"](
        replace(GOOD, champion=champion(GOOD, noise=1.0, overlap=5)), POLICY
    )
    assert verdict.outcome == "inconclusive"
    assert "5" in verdict.reason


def test_skill_that_changes_with_the_season_is_not_stable() -> None:
    found = outcomes(replace(GOOD, selection=folds((0.5, 0.8, 0.8))))
    assert found["stable_across_folds"] == "failed"
    assert found["not_overfitted"] == "passed"


def test_skill_on_the_rows_learned_from_alone_is_overfitting() -> None:
    found = outcomes(replace(GOOD, selection=folds((0.5, 0.5, 0.5))))
    assert found["stable_across_folds"] == "passed"
    assert found["not_overfitted"] == "failed"


def test_a_slice_without_the_stated_coverage_fails() -> None:
    """Intervals of one width cover all of the calm side and too little of the wild one."""
    verdict = GATES["slices_hold"](replace(of_one_width(GOOD), slices=sides(GOOD)), POLICY)
    assert verdict.outcome == "failed"
    assert dict(verdict.details)["worst_metric"] == "coverage"


def test_without_slices_nothing_is_judged() -> None:
    verdict = GATES["slices_hold"](GOOD, POLICY)
    assert (verdict.outcome, verdict.n) == ("passed", 0)
    assert "no slices" in verdict.reason


def test_few_rows_pass_no_gate_that_looks_at_them() -> None:
    few = evidence(n=300)
    few = replace(few, champion=champion(few, noise=1.0), slices=sides(few))
    found = outcomes(few)
    assert {name for name, outcome in found.items() if outcome == "passed"} == {
        "stable_across_folds",
        "not_overfitted",
    }
    assert "failed" not in found.values()


@pytest.mark.parametrize(
    ("gate", "policy"),
    [
        ("qce_below_limit", GatePolicy(ece_limit=0.001)),
        ("quantiles_within_limit", GatePolicy(bin_limit=0.0001)),
        ("coverage_within_tolerance", GatePolicy(coverage_tolerance=0.0001)),
        ("stable_across_folds", GatePolicy(fold_spread_limit=0.01)),
        ("not_overfitted", GatePolicy(overfit_limit=0.01)),
        *(
            (gate, GatePolicy(min_holdout_rows=N + 1))
            for gate in (
                "qce_below_limit",
                "quantiles_within_limit",
                "coverage_within_tolerance",
                "no_metric_below_champion",
            )
        ),
    ],
)
def test_each_gate_reads_its_threshold_from_the_policy(gate: str, policy: GatePolicy) -> None:
    """The forecasts are a little off, the champion is worse: at the default limits all pass."""
    of = evidence(bias=0.02, selection=folds((0.78, 0.75, 0.77)))
    of = replace(of, champion=champion(of, noise=1.0))
    before, after = (outcomes(of, one)[gate] for one in (POLICY, policy))
    assert before == "passed" != after


def test_slices_are_held_to_the_tolerance_of_the_policy() -> None:
    """With one width for all, the calm side is always covered: 10 points too much."""
    of = replace(of_one_width(GOOD), slices=sides(GOOD))
    judged = [outcomes(of, GatePolicy(slice_tolerance=limit)) for limit in (0.05, 0.2)]
    assert [found["slices_hold"] for found in judged] == ["failed", "passed"]


def test_the_margin_of_the_policy_excuses_a_small_loss() -> None:
    worse = replace(GOOD, points=champion(GOOD, noise=0.5).points, champion=champion(GOOD))
    judged = [outcomes(worse, GatePolicy(metric_margin=margin)) for margin in (0.0, 0.5)]
    assert [found["no_metric_below_champion"] for found in judged] == ["failed", "passed"]


def test_all_numbers_of_the_report_are_finite_and_consistent() -> None:
    found = GOOD.metrics(POLICY)
    assert all(type(value) is float and np.isfinite(value) for value in found.values())
    assert found["qce_low"] <= found["qce"] <= found["qce_high"]
    assert found["coverage_low"] <= found["coverage"] <= found["coverage_high"]
    assert found["coverage"] == GOOD.covered().mean()
    assert found["interval_width"] == np.diff(GOOD.intervals()).mean()
    assert found["target_mean"] == GOOD.labels.mean()


def test_r2_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import r2_score

    assert GOOD.metrics(POLICY)["r2"] == pytest.approx(r2_score(GOOD.labels, GOOD.points))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["labels", "points", "spreads"])
def test_numbers_that_are_not_finite_are_an_error_and_no_verdict(name: str, wrong: float) -> None:
    broken = getattr(GOOD, name).copy()
    broken[0] = wrong
    with pytest.raises(GateError, match="not all finite"):
        replace(GOOD, **{name: broken})


@pytest.mark.parametrize("name", ["labels", "points", "spreads"])
def test_forecasts_of_other_rows_are_an_error(name: str) -> None:
    with pytest.raises(GateError, match=r"of shape \(19999,\)|of shape \(20000,\)"):
        replace(GOOD, **{name: getattr(GOOD, name)[1:]})


@pytest.mark.parametrize("name", ["points", "spreads"])
@pytest.mark.parametrize("wrong", ["other rows", "nan"])
def test_a_champion_that_cannot_be_compared_is_an_error(name: str, wrong: str) -> None:
    whole = getattr(GOOD, name)
    broken = whole[1:] if wrong == "other rows" else np.full_like(whole, np.nan)
    with pytest.raises(GateError, match="of the champion"):
        replace(GOOD, champion=replace(champion(GOOD), **{name: broken}))


def test_a_spread_that_is_not_positive_is_an_error() -> None:
    with pytest.raises(GateError, match="spread of the forecasts as low as -4"):
        replace(GOOD, spreads=-GOOD.spreads)


def test_a_spread_that_the_rule_does_not_want_is_an_error() -> None:
    with pytest.raises(GateError, match="kind normalized without"):
        replace(GOOD, spreads=None)
    with pytest.raises(GateError, match="kind absolute with"):
        replace(of_one_width(GOOD), spreads=GOOD.spreads)


@pytest.mark.parametrize("n", [1, N])
def test_targets_that_are_all_the_same_are_an_error(n: int) -> None:
    three = np.full(n, 3.0)
    with pytest.raises(GateError, match="with the one target 3"):
        replace(GOOD, labels=three, points=three, spreads=np.ones(n))


def test_slices_of_other_rows_are_an_error() -> None:
    with pytest.raises(GateError, match="'side' with levels of shape"):
        outcomes(replace(GOOD, slices={"side": np.array(["a", "b"])}))


def test_skills_that_are_nan_are_an_error() -> None:
    unknown = replace(GOOD, selection=folds((float("nan"),) * 3))
    for gate in ("stable_across_folds", "not_overfitted"):
        with pytest.raises(GateError, match="nan"):
            GATES[gate](unknown, POLICY)


def test_every_gate_has_its_rule_with_the_numbers_of_the_policy() -> None:
    rules = {name: rule.format(**POLICY.model_dump()) for name, rule in RULES.items()}
    assert rules.keys() == GATES.keys()
    assert rules["qce_below_limit"].startswith("QCE < 0.02 on holdout")
    assert rules["coverage_within_tolerance"].startswith("interval coverage within 0.02")


def test_a_verdict_carries_the_name_of_its_gate() -> None:
    assert all(gate(GOOD, POLICY).gate == name for name, gate in GATES.items())
