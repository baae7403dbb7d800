"""How often slices are flagged and failed, on models whose truth is known in every slice."""

from collections import Counter

import numpy as np
import pytest

from mlops_assets.core.significance import coverage_test, mean_deviation_test
from mlops_assets.core.slice_gates import slices_hold
from mlops_assets.core.slices import StatedCoverage, classification_slices
from mlops_assets_tests.statistical.test_gate_levels import WORLDS, _at_least, _at_most

pytestmark = pytest.mark.statistical

RUNS = 40
ROWS, CONFORMALIZE = 30_000, 3_000


def _reports(off: float, base: float, runs: int = RUNS):
    """Reports on 30 slices of about 3,000 rows; the first has scores too high by `off`."""
    rng = np.random.default_rng([15, round(1000 * base)])
    rank = 2_701
    for _ in range(runs):
        truth = rng.beta(*WORLDS[base], ROWS)
        slices = {name: rng.integers(0, 10, ROWS) for name in ("one", "two", "three")}
        scores = np.where(slices["one"] == 0, truth + off, truth).clip(0, 1)
        share = rng.beta(rank, CONFORMALIZE + 1 - rank)
        covered = StatedCoverage(rng.random(ROWS) < share, 0.9, CONFORMALIZE)
        yield classification_slices(slices, rng.random(ROWS) < truth, scores, covered)


@pytest.mark.parametrize("base", WORLDS)
def test_a_model_calibrated_in_every_slice_does_not_fail_and_is_seldom_flagged(
    base: float,
) -> None:
    outcomes, flagged, held = Counter(), 0, 0
    for report in _reports(0.0, base):
        outcomes[slices_hold(report).outcome] += 1
        flagged += any(row.flagged for row in report.rows)
        held += all(
            row.deviation.estimate.low <= 0 <= row.deviation.estimate.high
            and row.coverage.estimate.low <= 0.9 <= row.coverage.estimate.high
            for row in report.rows
        )
    assert _at_most(outcomes["failed"], 0.01, RUNS)
    assert _at_least(outcomes["passed"], 0.95, RUNS)
    assert _at_most(flagged, 0.05, RUNS)
    assert _at_least(held, 0.95, RUNS)


@pytest.mark.parametrize("base", WORLDS)
def test_a_slice_of_3000_rows_off_by_ten_points_fails_and_is_named(base: float) -> None:
    failed = named = 0
    for report in _reports(0.10, base, runs=20):
        verdict = slices_hold(report)
        failed += verdict.outcome == "failed"
        named += dict(verdict.details)["worst_slice"] == "one"
    assert _at_least(failed, 0.90, 20)
    assert _at_least(named, 0.95, 20)


@pytest.mark.parametrize("base", [0.01, *WORLDS, 0.95])
@pytest.mark.parametrize("shift", [0.0, 0.05, -0.03])
def test_intervals_and_p_values_of_the_mean_deviation_hold_their_level(
    base: float, shift: float
) -> None:
    shape = {0.01: (0.5, 49.5), 0.95: (9.5, 0.5), **WORLDS}[base]
    n, runs = 500, 1_000
    rng = np.random.default_rng([16, round(1000 * base)])
    held, p_values = 0, []
    for _ in range(runs):
        truth = rng.beta(*shape, n)
        scores = (truth + shift).clip(0, 1)
        found = mean_deviation_test(rng.random(n) < truth, scores)
        held += found.estimate.low <= (truth - scores).mean() <= found.estimate.high
        p_values.append(found.p_value)
    assert _at_least(held, 0.95, runs)
    if shift == 0.0:
        for size in (0.05, 0.005):
            assert _at_most(sum(p <= size for p in p_values), size, runs)


@pytest.mark.parametrize("m", [500, 30_000])
def test_p_values_of_valid_coverage_hold_their_level(m: int) -> None:
    rng, runs, rank = np.random.default_rng(17), 400, np.ceil((m + 1) * 0.9)
    p_values = [
        coverage_test(
            int(rng.binomial(2_000, rng.beta(rank, m + 1 - rank))),
            2_000,
            confidence=0.9,
            n_conformalize=m,
        ).p_value
        for _ in range(runs)
    ]
    for size in (0.05, 0.005):
        assert _at_most(sum(p <= size for p in p_values), size, runs)
    assert _at_least(sum(p <= 0.05 for p in p_values), 0.03, runs)
