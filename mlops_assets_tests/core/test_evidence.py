"""The gates over one piece of evidence."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.evidence import GATES, RULES, Champion, Evidence
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.errors import GateError
from mlops_assets.spec import GatePolicy
from mlops_assets_tests.core.selection_world import steady

N = 30_000
POLICY = GatePolicy()


def evidence(*, n: int = N, power: float = 1.0, champion: Champion | None = None) -> Evidence:
    """Calibrated scores when `power` is 1; sets that hold the truth in 90% of rows."""
    random = np.random.default_rng(7)
    truth = random.beta(1, 3, n)
    labels = (random.random(n) < truth).astype("int64")
    misses = np.where(labels == 1, 1 - truth, truth)
    rule = ConformalRule(0.9, float(np.quantile(misses, 0.9)), N)
    return Evidence(labels, truth**power, rule, champion, steady())


def outcomes(of: Evidence, policy: GatePolicy = POLICY) -> dict[str, str]:
    return {name: gate(of, policy).outcome for name, gate in GATES.items()}


def champion(*, shift: float = 0.0, overlap: int = 0) -> Champion:
    scores = evidence().probabilities
    noise = np.random.default_rng(8).normal(size=N) * shift
    return Champion("3", np.clip(scores + noise, 0, 1), overlap_rows=overlap)


def test_calibrated_scores_pass_every_gate() -> None:
    assert outcomes(evidence()) == dict.fromkeys(GATES, "passed")


def test_squared_scores_fail_both_gates_of_calibration() -> None:
    found = outcomes(evidence(power=2))
    assert found["ece_below_limit"] == found["reliability_bins_within_limit"] == "failed"


def test_sets_that_miss_the_truth_fail_the_gate_of_coverage() -> None:
    good = evidence()
    small = ConformalRule(0.9, good.rule.quantile * 0.8, N)
    found = outcomes(replace(good, rule=small))
    assert found["coverage_within_tolerance"] == "failed"


def test_a_better_champion_fails_the_gate_of_regression() -> None:
    worse = replace(
        evidence(), probabilities=champion(shift=0.3).probabilities, champion=champion()
    )
    assert outcomes(worse)["no_metric_below_champion"] == "failed"


def test_a_worse_champion_is_no_obstacle() -> None:
    found = outcomes(evidence(champion=champion(shift=0.3)))
    assert found["no_metric_below_champion"] == "passed"


def test_a_champion_that_has_seen_the_holdout_is_no_judge() -> None:
    verdict = GATES["no_metric_below_champion"](
        evidence(champion=champion(shift=0.3, overlap=5)), POLICY
    )
    assert verdict.outcome == "inconclusive"
    assert "5" in verdict.reason


def test_a_slice_that_is_off_fails_the_gate_of_slices_alone() -> None:
    good = evidence()
    shops = np.where(np.arange(N) < 2_000, "small", "large")
    off = np.where(shops == "small", np.clip(good.probabilities + 0.2, 0, 1), good.probabilities)
    found = outcomes(replace(good, probabilities=off, slices={"shop": shops}))
    assert found["slices_hold"] == "failed"
    assert outcomes(replace(good, slices={"shop": shops}))["slices_hold"] == "passed"


def test_without_slices_there_is_no_report_on_them() -> None:
    assert evidence().slice_report is None
    assert GATES["slices_hold"](evidence(), POLICY).reason == "no slices are declared"


def test_skill_that_falls_over_the_folds_fails_the_gate_of_stability() -> None:
    found = outcomes(replace(evidence(), selection=steady(0.5, 0.3, 0.1)))
    assert found["stable_across_folds"] == "failed"


def test_skill_that_is_far_higher_on_rows_learned_from_fails_the_gate_of_overfitting() -> None:
    found = outcomes(replace(evidence(), selection=steady(0.3, 0.3, 0.3, train=0.8)))
    assert found["not_overfitted"] == "failed"


def test_a_champion_that_cannot_be_asked_leaves_the_comparison_open() -> None:
    unknown = replace(evidence(), champion=Incomparable("3", "its files are gone"))
    verdict = GATES["no_metric_below_champion"](unknown, POLICY)
    assert verdict.outcome == "inconclusive"
    assert "its files are gone" in verdict.reason
    assert unknown.differences() is None


def test_few_rows_pass_no_gate_of_calibration() -> None:
    found = outcomes(evidence(n=1_000))
    assert set(found.values()) - {"inconclusive"} <= {"passed"}
    assert found["ece_below_limit"] == "inconclusive"


@pytest.mark.parametrize(
    ("gate", "policy"),
    [
        ("ece_below_limit", GatePolicy(ece_limit=0.001)),
        ("reliability_bins_within_limit", GatePolicy(bin_limit=0.001)),
        ("coverage_within_tolerance", GatePolicy(coverage_tolerance=0.0001)),
        ("stable_across_folds", GatePolicy(fold_spread_limit=0.001)),
        ("not_overfitted", GatePolicy(overfit_limit=0.001)),
        ("ece_below_limit", GatePolicy(min_holdout_rows=N + 1)),
        ("reliability_bins_within_limit", GatePolicy(min_holdout_rows=N + 1)),
        ("coverage_within_tolerance", GatePolicy(min_holdout_rows=N + 1)),
    ],
)
def test_each_gate_reads_its_threshold_from_the_policy(gate: str, policy: GatePolicy) -> None:
    assert outcomes(evidence(), policy)[gate] != "passed"


def test_the_margin_of_the_policy_excuses_a_small_loss() -> None:
    worse = replace(
        evidence(), probabilities=champion(shift=0.1).probabilities, champion=champion()
    )
    judged = [outcomes(worse, GatePolicy(metric_margin=margin)) for margin in (0.0, 0.5)]
    assert [found["no_metric_below_champion"] for found in judged] == ["failed", "passed"]


def test_a_metric_can_have_a_margin_of_its_own() -> None:
    worse = replace(
        evidence(), probabilities=champion(shift=0.1).probabilities, champion=champion()
    )
    names = [d.metric for d in worse.differences() or ()]
    wide = dict.fromkeys(names, 0.5)
    judged = [
        outcomes(worse, GatePolicy(metric_margin=margin))["no_metric_below_champion"]
        for margin in (wide, {**wide, "auc": 0.0})
    ]
    assert judged == ["passed", "failed"]


def test_a_margin_of_an_unknown_metric_is_an_error_and_no_verdict() -> None:
    policy = GatePolicy(metric_margin={"acu": 0.1})
    with pytest.raises(GateError, match="acu"):
        outcomes(evidence(champion=champion()), policy)


def test_bins_are_as_the_policy_wants_them() -> None:
    bins = evidence().bins(GatePolicy(bins=5, binning="width", min_bin_rows=10))
    edges = bins.column("lower")
    assert len(edges) == 5
    assert bins.column("n").min() >= 10
    assert np.diff(edges) == pytest.approx(0.2, abs=0.01)


def test_the_threshold_decides_the_metrics() -> None:
    of = evidence()
    low, high = (replace(of, threshold=threshold).metrics(POLICY) for threshold in (0.1, 0.9))
    assert low["f1"] > high["f1"]
    assert low["auc"] == high["auc"]


def test_the_champion_decides_at_its_own_threshold() -> None:
    scores = evidence().probabilities
    same = {d.metric: d for d in evidence(champion=Champion("3", scores, 0)).differences()}
    other = {d.metric: d for d in evidence(champion=Champion("3", scores, 0, 0.9)).differences()}
    assert same["f1"].difference == 0 < other["f1"].difference


def test_all_numbers_of_the_report_are_finite_and_consistent() -> None:
    found = evidence().metrics(POLICY)
    assert all(map(np.isfinite, found.values()))
    assert found["ece_low"] <= found["ece_high"]
    assert found["coverage_low"] <= found["coverage"] <= found["coverage_high"]
    assert found["base_rate"] == evidence().labels.mean()


@pytest.mark.parametrize("gate", ["ece_below_limit", "reliability_bins_within_limit"])
def test_scores_that_are_nan_are_an_error_and_no_verdict(gate: str) -> None:
    of = evidence()
    scores = of.probabilities.copy()
    scores[0] = np.nan
    with pytest.raises(GateError):
        GATES[gate](replace(of, probabilities=scores), POLICY)


def test_champion_scores_that_are_nan_are_an_error_and_no_verdict() -> None:
    broken = Champion("3", np.full(N, np.nan), overlap_rows=0)
    with pytest.raises(GateError):
        GATES["no_metric_below_champion"](evidence(champion=broken), POLICY)


def test_every_gate_has_its_rule_with_the_numbers_of_the_policy() -> None:
    rules = {name: rule.format(**POLICY.model_dump()) for name, rule in RULES.items()}
    assert rules.keys() == GATES.keys()
    assert rules["ece_below_limit"].startswith("ECE < 0.02 on holdout")
    assert rules["coverage_within_tolerance"].startswith("conformal coverage within 0.02")
