"""Slices and their gate: what is reported, tested, flagged, judged, refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core.calibration import expected_calibration_error, reliability_bins
from mlops_assets.core.proper_scores import brier_score, log_loss
from mlops_assets.core.slice_gates import slices_hold
from mlops_assets.core.slices import (
    SliceReport,
    SliceRow,
    StatedCoverage,
    classification_slices,
    regression_slices,
)
from mlops_assets.errors import GateError


def _world(n: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Calibrated scores of rows in 3 towns of 5:3:2 and 2 kinds."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 3, n)
    slices = {
        "town": rng.choice(["Aa", "Bb", "Cc"], n, p=[0.5, 0.3, 0.2]),
        "kind": rng.integers(0, 2, n),
    }
    return slices, rng.random(n) < scores, scores


def _covered(n: int, share: float = 0.9, m: int = 10_000) -> StatedCoverage:
    return StatedCoverage(np.random.default_rng(1).random(n) < share, 0.9, m)


def _row(report: SliceReport, name: str, level: str) -> SliceRow:
    return next(row for row in report.rows if (row.slice, row.level) == (name, level))


def _off(by: float, n: int = 15_000, coverage: StatedCoverage | None = None) -> SliceReport:
    """Town Cc has scores too high by `by`."""
    slices, labels, scores = _world(n)
    moved = np.where(slices["town"] == "Cc", scores + by, scores).clip(0, 1)
    return classification_slices(slices, labels, moved, coverage)


def test_every_slice_has_the_metrics_of_its_rows() -> None:
    slices, labels, scores = _world(9_000)
    coverage = _covered(9_000)
    report = classification_slices(slices, labels, scores, coverage)
    assert [(row.slice, row.level) for row in report.rows] == [
        ("town", "Aa"), ("town", "Bb"), ("town", "Cc"), ("kind", "0"), ("kind", "1"),
    ]  # fmt: skip
    inside = slices["town"] == "Bb"
    row = _row(report, "town", "Bb")
    assert row.n == inside.sum()
    assert row.loss == brier_score(labels[inside], scores[inside])
    table = reliability_bins(labels[inside], scores[inside])
    assert row.ece == expected_calibration_error(table)
    deviation = labels[inside].mean() - scores[inside].mean()
    assert row.deviation.estimate.value == pytest.approx(deviation)
    assert row.coverage.estimate.value == np.mean(coverage.covered[inside])
    logs = classification_slices(slices, labels, scores, loss="log_loss")
    assert _row(logs, "town", "Bb").loss == log_loss(labels[inside], scores[inside])
    assert _row(logs, "town", "Bb").coverage is None


def test_intervals_of_judged_slices_hold_at_once() -> None:
    slices, labels, scores = _world(9_000)
    plain = classification_slices(slices, labels, scores)
    both = classification_slices(slices, labels, scores, _covered(9_000))
    assert plain.rows[0].deviation.estimate.level == pytest.approx(1 - 0.05 / 5)
    assert both.rows[0].coverage.estimate.level == pytest.approx(1 - 0.05 / 10)
    assert both.level == 0.95


def test_a_slice_that_is_off_is_flagged_and_the_others_are_not() -> None:
    report = _off(0.05)
    assert {(row.slice, row.level): row.flagged for row in report.rows if row.flagged} == {
        ("town", "Cc"): ("deviation",)
    }


def test_coverage_that_is_off_is_flagged() -> None:
    slices, labels, scores = _world(15_000)
    coverage = _covered(15_000)
    covered = coverage.covered & ~((slices["town"] == "Cc") & (np.arange(15_000) % 10 == 0))
    report = classification_slices(slices, labels, scores, replace(coverage, covered=covered))
    assert _row(report, "town", "Cc").flagged == ("coverage",)
    verdict = slices_hold(report)
    assert verdict.outcome == "failed"
    assert verdict.threshold == 0.02
    assert dict(verdict.details)["worst_metric"] == "coverage"


def test_small_slices_are_reported_and_never_judged() -> None:
    slices, labels, scores = _world(9_000)
    slices["town"][:499] = "Zz"
    report = classification_slices(slices, labels, np.where(slices["town"] == "Zz", 0.99, scores))
    row = _row(report, "town", "Zz")
    assert (row.n, row.small, row.flagged) == (499, True, ())
    assert row.deviation.estimate.value < -0.6
    assert row not in report.judged
    assert slices_hold(report).outcome == "passed"


def test_a_slice_of_one_class_is_judged() -> None:
    slices, labels, scores = _world(9_000)
    labels = labels & (slices["kind"] == 0)
    row = _row(classification_slices(slices, labels, scores), "kind", "1")
    assert row.flagged == ("deviation",)
    assert row.ece.value == pytest.approx(scores[slices["kind"] == 1].mean())


def test_levels_may_be_strings_codes_missing_or_booleans() -> None:
    _, labels, scores = _world(2_000)
    mixed = np.array(["x", None] * 1_000, dtype=object)
    codes = np.where(np.arange(2_000) % 2, 7.0, np.nan)
    report = classification_slices({"mixed": mixed, "codes": codes}, labels, scores)
    assert [row.level for row in report.rows] == ["None", "x", "7.0", "nan"]
    assert [row.n for row in report.rows] == [1_000] * 4


def test_regression_slices_report_losses_and_test_coverage() -> None:
    slices, _, _ = _world(9_000)
    losses = np.where(slices["kind"] == 1, 3.0, 1.0)
    covered = np.where(slices["kind"] == 1, np.arange(9_000) % 5 > 0, np.arange(9_000) % 10 > 0)
    report = regression_slices(slices, losses, StatedCoverage(covered, 0.9, 10_000), loss="pinball")
    assert report.loss == "pinball"
    assert (_row(report, "kind", "0").loss.value, _row(report, "kind", "1").loss.value) == (1, 3)
    assert (_row(report, "kind", "0").flagged, _row(report, "kind", "1").flagged) == (
        (),
        ("coverage",),
    )
    verdict = slices_hold(report)
    assert (verdict.outcome, dict(verdict.details)["worst_level"]) == ("failed", "1")
    assert verdict.estimate == pytest.approx(0.1, abs=0.02)


def test_slices_that_are_calibrated_pass() -> None:
    verdict = slices_hold(_off(0.0, coverage=_covered(15_000)))
    assert verdict.outcome == "passed"
    assert dict(verdict.details)["slices_judged"] == 5
    assert verdict.rows_needed is None


def test_a_flagged_slice_below_the_limit_passes() -> None:
    report = _off(0.04)
    assert _row(report, "town", "Cc").flagged
    verdict = slices_hold(report)
    assert verdict.outcome == "passed"
    assert 0.02 < verdict.estimate < 0.05


def test_a_slice_beyond_the_limit_that_may_be_chance_passes() -> None:
    report = _off(0.12)
    unsure = replace(report, rows=tuple(replace(row, flagged=()) for row in report.rows))
    verdict = slices_hold(unsure)
    assert (verdict.outcome, verdict.estimate > 0.05) == ("passed", True)
    assert "largest by chance town = Cc" in verdict.reason


def test_a_flagged_slice_is_named_before_a_larger_one_that_may_be_chance() -> None:
    report = _off(0.04)
    large = _row(_off(0.12), "town", "Cc").deviation
    rows = tuple(replace(r, deviation=large) if r.level == "Aa" else r for r in report.rows)
    verdict = slices_hold(replace(report, rows=rows))
    assert verdict.outcome == "passed"
    assert "worst town = Cc" in verdict.reason


def test_a_slice_surely_beyond_the_limit_fails_and_is_named() -> None:
    verdict = slices_hold(_off(0.12))
    assert verdict.outcome == "failed"
    assert verdict.low > 0.05
    assert "town = Cc" in verdict.reason
    assert slices_hold(_off(0.12), limit=0.2).outcome == "passed"


def test_a_slice_perhaps_beyond_the_limit_is_inconclusive_and_says_how_many_rows_decide() -> None:
    verdict = slices_hold(_off(0.07))
    assert verdict.outcome == "inconclusive"
    assert verdict.low < 0.05 < verdict.estimate
    assert f"{verdict.rows_needed:,} more holdout rows" in verdict.reason
    assert slices_hold(_off(0.07, 60_000)).outcome == "failed"


def test_rows_needed_count_rows_of_all_slices() -> None:
    report = _off(0.07)
    row, verdict = _row(report, "town", "Cc"), slices_hold(report)
    width, gap = verdict.estimate - verdict.low, verdict.estimate - 0.05
    own = row.n * (width / gap) ** 2 - row.n
    assert verdict.rows_needed == pytest.approx(own * report.n / row.n, abs=6)


def test_coverage_rows_needed_know_that_conformalization_rows_limit_the_interval() -> None:
    slices, labels, scores = _world(15_000)
    for m, decides in ((200, False), (100_000, True)):
        coverage = _covered(15_000, 0.9, m)
        covered = coverage.covered & ~((slices["town"] == "Cc") & (np.arange(15_000) % 33 == 0))
        report = classification_slices(slices, labels, scores, replace(coverage, covered=covered))
        forced = replace(
            report,
            rows=tuple(
                replace(row, flagged=("coverage",) if row.level == "Cc" else ())
                for row in report.rows
            ),
        )
        verdict = slices_hold(forced)
        assert verdict.outcome == "inconclusive"
        assert (verdict.rows_needed is not None) == decides


def test_slices_all_too_small_are_inconclusive_and_the_missing_rows_are_counted() -> None:
    verdict = slices_hold(_off(0.0, 600))
    assert verdict.outcome == "inconclusive"
    assert "too small" in verdict.reason
    assert 500 < 600 + verdict.rows_needed < 1_300


def test_a_report_in_which_nothing_is_tested_is_an_error() -> None:
    report = _off(0.0)
    untested = tuple(replace(row, deviation=None) for row in report.rows)
    for rows in ((), untested):
        with pytest.raises(GateError, match="nothing is tested"):
            slices_hold(replace(report, rows=rows))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_limits_without_meaning_are_an_error(bad) -> None:
    with pytest.raises(GateError):
        slices_hold(_off(0.0), limit=bad)
    with pytest.raises(GateError):
        slices_hold(_off(0.0, coverage=_covered(15_000)), tolerance=bad)


def test_verdicts_hold_plain_numbers_that_survive_json() -> None:
    verdict = slices_hold(_off(0.07, coverage=_covered(15_000)))
    assert json.loads(json.dumps(dict(verdict.details)))["slices"] == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slices": {}}, "no slices"),
        ({"slices": {"town": ["a"]}}, "'town'"),
        ({"slices": {"id": np.arange(2_000)}}, "2,000 levels"),
        ({"coverage": StatedCoverage(np.ones(3, dtype=bool), 0.9, 100)}, "shape"),
        ({"coverage": StatedCoverage(np.ones(2_000), 0.9, 100)}, "float64"),
        ({"coverage": StatedCoverage(np.ones(2_000, dtype=bool), 1.0, 100)}, "coverage of 1.0"),
        ({"min_rows": 0}, "min_rows=0"),
        ({"level": 1.0}, "level=1.0"),
        ({"false_discovery_rate": 0.0}, "rate of 0.0"),
    ],
)
def test_what_cannot_be_sliced_is_refused(change, said) -> None:
    slices, labels, scores = _world(2_000)
    given = {"slices": slices, "labels": labels, "probabilities": scores, **change}
    with pytest.raises(GateError, match=said):
        classification_slices(**given)


@pytest.mark.parametrize("losses", [[], [1.0, float("nan")], ["a", "b"], [[1.0, 2.0]]])
def test_losses_that_are_no_numbers_are_refused(losses) -> None:
    with pytest.raises(GateError, match="losses"):
        regression_slices({"x": ["a", "b"]}, losses, StatedCoverage([True, True], 0.9, 100))
