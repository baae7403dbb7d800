"""What sets, intervals and Venn-Abers pairs guarantee, on worlds whose truth is known.

Rules are fitted for real on every run: nothing of a law is assumed. A share is held against its
demand with the luck of a finite simulation allowed for (three standard errors).
"""

from collections.abc import Callable

import numpy as np
import pytest

from mlops_assets.core.conformal import coverage, fit_conformal_rule
from mlops_assets.core.conformal_intervals import (
    IntervalRule,
    fit_absolute,
    fit_normalized,
    fit_quantile,
    holds,
    interval_coverage,
)
from mlops_assets.core.mondrian import coverage_by_group, fit_group_intervals, group_intervals
from mlops_assets.core.venn_abers import fit_venn_abers

pytestmark = pytest.mark.statistical

TOLERANCE = 0.02


def _at_most(count: int, share: float, runs: int) -> bool:
    return count <= runs * share + 3 * (runs * share * (1 - share)) ** 0.5


def _at_least(count: int, share: float, runs: int) -> bool:
    return _at_most(runs - count, 1 - share, runs)


def _classes(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    p = rng.dirichlet(np.full(k, 0.6), n)
    return p, (np.cumsum(p, axis=1)[:, :-1] < rng.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize(("k", "m", "n"), [(3, 1_000, 1_000), (10, 3_000, 3_000)])
def test_valid_sets_of_every_score_cover_what_their_rule_expects_and_do_not_fail(
    score: str, k: int, m: int, n: int
) -> None:
    runs = 40
    rng = np.random.default_rng([11, k, m])
    true, expected = [], []
    failed = passed = naive = 0
    many, truth = _classes(20_000, k, rng)
    for run in range(runs):
        rule = fit_conformal_rule(*_classes(m, k, rng), 0.9, score=score, seed=run)
        true.append(rule.prediction_sets(many)[np.arange(20_000), truth].mean())
        expected.append(rule.expected_coverage)
        p, labels = _classes(n, k, rng)
        estimate = coverage(labels, rule.prediction_sets(p), rule)
        floor, roof = 0.9 - TOLERANCE, 0.9 + rule.over_coverage + TOLERANCE
        failed += estimate.high < floor or estimate.low > roof
        passed += floor <= estimate.low and estimate.high <= roof
        naive += estimate.low > 0.9 + TOLERANCE
    gap = np.array(true) - expected
    assert abs(gap.mean()) < 3 * gap.std() / runs**0.5 + 0.002  # the luck of the 20,000 rows
    assert _at_most(failed, 0.01, runs)
    assert _at_least(passed, {"lac": 0.0, "aps": 0.7, "raps": 0.7}[score], runs)
    if score != "lac" and k == 3:  # without the allowance nearly all of these valid rules fail
        assert naive > 0.9 * runs


KINDS: dict[str, Callable[..., IntervalRule]] = {
    "absolute": lambda y, f, s: fit_absolute(y, f),
    "normalized": lambda y, f, s: fit_normalized(y, f, s),
    # Quantiles too narrow, so that conformalization has to widen them.
    "quantile": lambda y, f, s: fit_quantile(y, np.column_stack([f - s, f + s])),
}


def _targets(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    forecast, spread = rng.normal(size=n), 0.5 + rng.random(n)
    return forecast + spread * rng.standard_t(4, size=n), forecast, spread


def _intervals(rule: IntervalRule, f: np.ndarray, s: np.ndarray) -> np.ndarray:
    if rule.kind == "quantile":
        return rule.intervals(np.column_stack([f - s, f + s]))
    return rule.intervals(f, spread=s if rule.kind == "normalized" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_law_of_coverage_is_that_of_fitted_intervals(kind: str) -> None:
    runs = 200
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(runs):
        rule = KINDS[kind](*_targets(400, rng))
        y, f, s = _targets(1_000, rng)
        estimate = interval_coverage(y, _intervals(rule, f, s), rule)
        held += estimate.low <= rule.expected_coverage <= estimate.high
    assert _at_least(held, 0.95, runs)
    assert held < runs  # and not by being too wide


def test_rules_by_group_cover_each_group_and_the_law_has_the_groups_own_rows() -> None:
    runs = 120
    rng = np.random.default_rng(13)
    groups = np.repeat(["calm", "rare", "wild"], [700, 300, 600])
    scale = np.repeat([1.0, 2.0, 5.0], [700, 300, 600])
    held = dict.fromkeys(("calm", "wild"), 0)
    for _ in range(runs):
        fitted, new = (scale * rng.normal(size=(2, 1_600))).tolist()
        rule = fit_group_intervals(fitted, np.zeros(1_600), groups)
        rows = coverage_by_group(
            holds(new, group_intervals(rule, np.zeros(1_600), groups)), groups, rule
        )
        assert [row.group for row in rows if not row.own_rule] == ["rare"]
        for row in rows:
            if row.own_rule:
                expected = rule.of(row.group).expected_coverage
                held[row.group] += row.coverage.low <= expected <= row.coverage.high
    assert all(_at_least(count, 0.95, runs) for count in held.values())


@pytest.mark.parametrize("n", [100, 2_000])
def test_venn_abers_pairs_enclose_what_is_observed_where_the_scores_do_not(n: int) -> None:
    """Scores are odds cubed: far too sure. The mean of p0 and p1 must enclose the share of 1."""
    rng = np.random.default_rng([14, n])
    rows = []
    for _ in range(60):
        truth = rng.beta(2, 3, n + 4_000)
        labels = rng.random(truth.size) < truth
        scores = truth**3 / (truth**3 + (1 - truth) ** 3)
        steps = fit_venn_abers(scores[:n], labels[:n])
        # Where scores are high, so that the cube has moved them far.
        high = np.flatnonzero(scores[n:] > 0.6) + n
        pair = steps.intervals(scores[high]).mean(axis=0)
        merged = steps.probabilities(scores[high]).mean()
        rows.append([*pair, merged, scores[high].mean(), truth[high].mean()])
    (low, high, merged, raw, true), error = np.mean(rows, axis=0), np.std(rows, axis=0) / 60**0.5
    assert low - 3 * error[0] <= true <= high + 3 * error[1]
    assert raw > true + 0.1
    assert merged == pytest.approx(true, abs=0.03)
