"""Every gate: passes, fails, abstains, and refuses what cannot be computed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core.calibration import ReliabilityBins, reliability_bins
from mlops_assets.core.comparison import MetricDifference
from mlops_assets.core.conformal import ConformalRule, coverage
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.gates import (
    Verdict,
    champion_has_seen_holdout,
    coverage_within_tolerance,
    ece_below_limit,
    no_metric_below_champion,
    reliability_bins_within_limit,
)
from mlops_assets.errors import GateError


def _table(shift: float, n: int, bins: int = 15) -> ReliabilityBins:
    """Bins that deviate by exactly `shift`, up to one row."""
    per_bin = n // bins
    center = np.repeat((np.arange(bins) + 0.5) / bins, per_bin)
    place = np.tile((np.arange(per_bin) + 0.5) / per_bin, bins)
    scores = center + np.tile(np.linspace(-0.01, 0.01, per_bin), bins)
    return reliability_bins(place < np.clip(center + shift, 0, 1), scores)


def _difference(metric: str, value: float, half: float, n: int = 10_000) -> MetricDifference:
    error = half / 2.64
    return MetricDifference(
        metric, 0.7 + value, 0.7, value, value - half, value + half, error, 1, n
    )


_RULE = ConformalRule(0.9, 0.5, 10_000)


def test_ece_far_below_the_limit_passes() -> None:
    verdict = ece_below_limit(_table(0.0, 30_000))
    assert verdict.outcome == "passed"
    assert verdict.estimate < 0.02
    assert verdict.high < 0.02
    assert verdict.rows_needed is None


def test_ece_surely_above_the_limit_fails() -> None:
    verdict = ece_below_limit(_table(0.04, 30_000))
    assert verdict.outcome == "failed"
    assert verdict.low > 0.02
    assert "limit of 0.02" in verdict.reason


@pytest.mark.parametrize("shift", [0.017, 0.023])
def test_ece_near_the_limit_is_inconclusive_and_says_how_many_rows_decide(shift) -> None:
    verdict = ece_below_limit(_table(shift, 9_000))
    assert verdict.outcome == "inconclusive"
    assert verdict.rows_needed > 0
    assert f"{verdict.rows_needed:,} more holdout rows" in verdict.reason


def test_a_point_estimate_on_the_limit_does_not_pass() -> None:
    table = _table(0.0, 30_000)
    value = ece_below_limit(table).estimate
    assert ece_below_limit(table, limit=value).outcome != "passed"


def test_too_few_rows_never_pass_and_the_missing_ones_are_counted() -> None:
    for gate in (ece_below_limit, reliability_bins_within_limit):
        verdict = gate(_table(0.0, 30_000), min_rows=40_000)
        assert verdict.outcome == "inconclusive"
        assert verdict.rows_needed >= 10_000
        assert "40,000" in verdict.reason


def test_fewer_bins_than_the_policy_says_are_inconclusive() -> None:
    rng = np.random.default_rng(0)
    scores = 0.02 * rng.random(1_000)
    table = reliability_bins(rng.random(1_000) < scores, scores)
    assert len(table.bins) == 10
    verdict = ece_below_limit(table, min_rows=100)
    assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", 500)


def test_fewer_distinct_scores_than_bins_are_inconclusive() -> None:
    labels = np.arange(30_000) % 4 == 0
    table = reliability_bins(labels, np.full(30_000, 0.25))
    for gate in (ece_below_limit, reliability_bins_within_limit):
        verdict = gate(table)
        assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", None)
        assert "distinct" in verdict.reason


def test_bins_within_the_limit_pass() -> None:
    verdict = reliability_bins_within_limit(_table(0.04, 30_000))
    assert verdict.outcome == "passed"
    assert verdict.estimate <= 0.05


def test_a_bin_surely_beyond_the_limit_fails_and_is_named() -> None:
    verdict = reliability_bins_within_limit(_table(0.12, 30_000))
    assert verdict.outcome == "failed"
    assert "+0.12" in verdict.reason
    assert dict(verdict.details)["worst_bin_rows"] == 2_000


def test_a_bin_perhaps_beyond_the_limit_is_inconclusive() -> None:
    verdict = reliability_bins_within_limit(_table(0.06, 6_000))
    assert verdict.outcome == "inconclusive"
    assert verdict.rows_needed > 6_000


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.90, 0.01, "passed"),
        (0.91, 0.01, "passed"),
        (0.915, 0.01, "inconclusive"),
        (0.87, 0.015, "inconclusive"),
        (0.85, 0.015, "failed"),
        (0.95, 0.015, "failed"),
    ],
)
def test_coverage_is_judged_on_both_sides(value, half, outcome) -> None:
    verdict = coverage_within_tolerance(Estimate(value, value - half, value + half, 5_000), _RULE)
    assert verdict.outcome == outcome
    assert verdict.threshold == 0.02


def test_a_small_conformalization_set_is_named_when_more_holdout_cannot_help() -> None:
    rule = ConformalRule(0.9, 0.5, 200)
    labels = np.arange(50_000) % 2 == 0
    sets = np.ones((50_000, 2), dtype=bool)
    sets[:5_000] = False
    verdict = coverage_within_tolerance(coverage(labels, sets, rule), rule)
    assert (verdict.outcome, verdict.rows_needed) == ("inconclusive", None)
    assert "200 conformalization rows" in verdict.reason


def test_rows_that_decide_coverage_do_decide_it() -> None:
    def judged(n: int) -> Verdict:
        sets = np.ones((n, 2), dtype=bool)
        sets[: n // 10] = False
        return coverage_within_tolerance(coverage(np.arange(n) % 2, sets, _RULE), _RULE)

    first = judged(800)
    assert first.outcome == "inconclusive"
    assert judged(800 + first.rows_needed + 50).outcome == "passed"


def test_no_champion_yet_passes() -> None:
    verdict = no_metric_below_champion(None)
    assert (verdict.outcome, verdict.reason) == ("passed", "no champion yet")


def test_no_metric_below_the_champion_passes_even_when_not_surely_better() -> None:
    differences = (_difference("auc", 0.0, 0.01), _difference("brier", 0.001, 0.01))
    assert no_metric_below_champion(differences).outcome == "passed"


def test_one_metric_surely_below_fails_and_is_named() -> None:
    differences = (_difference("auc", 0.02, 0.01), _difference("brier", -0.02, 0.01))
    verdict = no_metric_below_champion(differences)
    assert verdict.outcome == "failed"
    assert "brier -0.0200" in verdict.reason


def test_one_metric_perhaps_below_is_inconclusive() -> None:
    differences = (_difference("auc", 0.02, 0.01), _difference("brier", -0.005, 0.01))
    verdict = no_metric_below_champion(differences)
    assert verdict.outcome == "inconclusive"
    assert verdict.rows_needed == pytest.approx(30_000, abs=1)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(0.0, "passed"), (-0.005, "inconclusive"), (-0.015, "inconclusive"), (-0.03, "failed")],
)
def test_a_margin_asks_for_non_inferiority(value, outcome) -> None:
    differences = (_difference("auc", value, 0.009),)
    assert no_metric_below_champion(differences, margin=0.01).outcome == outcome
    assert no_metric_below_champion(differences, margin={"auc": 0.01}).outcome == outcome


def test_a_champion_that_has_seen_the_holdout_is_inconclusive() -> None:
    verdict = champion_has_seen_holdout(12, 1_000)
    assert verdict.outcome == "inconclusive"
    assert "12 of the 1,000" in verdict.reason
    with pytest.raises(GateError):
        champion_has_seen_holdout(0, 1_000)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_cannot_be_computed_is_an_error(bad) -> None:
    table = _table(0.0, 3_000)
    with pytest.raises(GateError):
        ece_below_limit(table, limit=bad)
    with pytest.raises(GateError):
        reliability_bins_within_limit(table, limit=bad)
    with pytest.raises(GateError):
        replace(table, bins=(replace(table.bins[0], deviation=bad), *table.bins[1:]))
    with pytest.raises(GateError):
        coverage_within_tolerance(Estimate(bad, 0.8, 0.9, 10), _RULE)
    with pytest.raises(GateError):
        no_metric_below_champion((_difference("auc", bad, 0.01),))
    with pytest.raises(GateError):
        no_metric_below_champion((_difference("auc", 0.0, 0.01),), margin=bad)


def test_damaged_bins_are_an_error() -> None:
    table = _table(0.0, 3_000)
    with pytest.raises(GateError, match="0 bins"):
        replace(table, bins=())
    with pytest.raises(GateError, match="rows of 4000"):
        replace(table, n=4_000)


def test_nothing_compared_is_an_error_not_a_pass() -> None:
    with pytest.raises(GateError, match="no metric"):
        no_metric_below_champion(())


def test_a_margin_for_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(GateError, match="auk"):
        no_metric_below_champion((_difference("auc", 0.0, 0.01),), margin={"auk": 0.1})


def test_a_verdict_refuses_numpy_scalars_and_unknown_outcomes() -> None:
    with pytest.raises(GateError, match="the number"):
        Verdict("g", "passed", np.float64(0.1), 0.0, 0.2, 10, 0.3, "")
    with pytest.raises(GateError, match="the number nan"):
        Verdict("g", "passed", 0.1, 0.0, 0.2, 10, 0.3, "", details=(("x", float("nan")),))
    with pytest.raises(GateError, match="outcome"):
        Verdict("g", "maybe", 0.1, 0.0, 0.2, 10, 0.3, "")  # type: ignore[arg-type]


def test_verdicts_hold_plain_numbers_that_survive_json() -> None:
    labels = np.arange(5_000) % 2 == 0
    sets = np.ones((5_000, 2), dtype=bool)
    verdicts = [
        ece_below_limit(_table(0.03, 6_000)),
        reliability_bins_within_limit(_table(0.06, 6_000)),
        coverage_within_tolerance(coverage(labels, sets, _RULE), _RULE),
        no_metric_below_champion((_difference("auc", -0.005, 0.01),)),
    ]
    for verdict in verdicts:
        written = json.loads(json.dumps({**dict(verdict.details), "n": verdict.n}))
        assert written["n"] == verdict.n


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 1),
    st.floats(0, 0.2),
    st.floats(0, 0.2),
    st.integers(1, 100_000),
    st.floats(0.001, 0.1),
)
def test_passed_always_means_that_the_rule_holds_as_written(value, down, up, n, tolerance) -> None:
    estimate = Estimate(value, max(0.0, value - down), min(1.0, value + up), n)
    verdict = coverage_within_tolerance(estimate, _RULE, tolerance=tolerance)
    gap = abs(value - _RULE.confidence)
    if verdict.outcome == "passed":
        assert gap <= tolerance + 1e-9
        assert n >= 500
    if verdict.outcome == "failed":
        assert gap > tolerance
    assert (verdict.rows_needed is None) or verdict.outcome == "inconclusive"
