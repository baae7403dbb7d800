"""How often gates decide: sane, the same every time, right within its error, as the page says."""

from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pytest

from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.evidence import GATES, Evidence
from mlops_assets.core.gates import coverage_within_tolerance
from mlops_assets.core.operating import (
    BINS,
    COVERAGE,
    ECE,
    LACKS,
    RUNS,
    SHIFTS,
    Cell,
    World,
    _outcomes,
    cells_at,
    holdout_sizes,
    sizes_plotted,
    sizes_shown,
    wilson,
)
from mlops_assets.core.operating_plot import operating_chart
from mlops_assets.errors import DeclarationError
from mlops_assets.spec import GatePolicy
from mlops_assets_tests.core import operating_page as page
from mlops_assets_tests.core.selection_world import steady

QUICK = World(GatePolicy(), runs=60)


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, float, int], Cell]:
    cells = [cell for n in (2_000, 10_000, 30_000) for cell in cells_at(QUICK, n)]
    return {(cell.gate, cell.off, cell.n): cell for cell in cells}


@pytest.mark.parametrize("gate", [ECE, BINS, COVERAGE])
@pytest.mark.parametrize("n", [2_000, 10_000, 30_000])
def test_a_model_that_is_further_off_passes_less_and_fails_more(found, gate: str, n: int) -> None:
    row = [found[gate, off, n] for off in (LACKS if gate == COVERAGE else SHIFTS)]
    # The truth and the labels are shared by all shifts; two runs of sixty are luck near the limit.
    assert all(worse.passed <= better.passed + 2 for better, worse in pairwise(row))
    assert all(worse.failed >= better.failed - 2 for better, worse in pairwise(row))
    assert row[-1].failed > row[0].failed


@pytest.mark.parametrize("gate", [ECE, BINS, COVERAGE])
def test_more_rows_pass_a_perfect_model_more_often(found, gate: str) -> None:
    passed = [found[gate, 0.0, n].passed for n in (2_000, 10_000, 30_000)]
    assert passed == sorted(passed)
    assert passed[0] < passed[-1]


@pytest.mark.parametrize("gate", [ECE, BINS, COVERAGE])
def test_a_perfect_model_passes_at_30_000_rows_and_never_fails(found, gate: str) -> None:
    assert found[gate, 0.0, 30_000].share("passed").value >= 0.99
    assert not any(found[gate, 0.0, n].failed for n in (2_000, 10_000, 30_000))


def test_a_model_off_by_three_points_never_passes_the_gate_on_ece(found) -> None:
    assert not any(found[ECE, 0.03, n].passed for n in (2_000, 10_000, 30_000))


@pytest.mark.parametrize(("gate", "off"), [(ECE, 0.02), (BINS, 0.05), (COVERAGE, 0.02)])
def test_a_model_on_the_limit_is_left_open_at_every_size(found, gate: str, off: float) -> None:
    assert all(found[gate, off, n].inconclusive >= 50 for n in (2_000, 10_000, 30_000))


def test_the_coverage_gate_passes_as_often_as_its_exact_law_says() -> None:
    """The beta-binomial law of Vovk (2012), summed over all counts that the gate passes."""
    from scipy.stats import betabinom

    n, rule = 3_000, ConformalRule(0.9, 0.5, 3_000)
    counts = np.arange(2_640, 2_761)
    passes = [
        coverage_within_tolerance(coverage_estimate(int(k), n, n), rule).outcome == "passed"
        for k in counts
    ]
    exact = betabinom.pmf(counts, n, rule.rank, n + 1 - rule.rank) @ passes
    (valid,) = (c for c in cells_at(World(GatePolicy()), n) if (c.gate, c.off) == (COVERAGE, 0.0))
    assert valid.share("passed").low <= exact <= valid.share("passed").high


def test_counts_between_counts_that_are_judged_alike_are_judged_like_them() -> None:
    rule, hits = ConformalRule(0.9, 0.5, 3_000), range(2_550, 2_850, 5)
    one_by_one = {
        k: coverage_within_tolerance(coverage_estimate(k, 3_000, 3_000), rule).outcome for k in hits
    }
    assert _outcomes(GatePolicy(), rule, hits) == one_by_one
    assert [outcome for outcome, _ in groupby(one_by_one.values())] == [
        *["failed", "inconclusive", "passed", "inconclusive", "failed"]
    ]


@pytest.mark.parametrize(("base_rate", "side"), [(0.25, 1), (0.75, -1)])
def test_cells_count_what_the_gates_of_a_release_say(base_rate: float, side: int) -> None:
    policy = GatePolicy(ece_limit=0.04, bin_limit=0.08, bins=10, min_holdout_rows=1_000)
    world = World(policy, base_rate, runs=5, seed=3)
    counts = {(gate, off): Counter() for gate in (ECE, BINS) for off in SHIFTS}
    for run in range(world.runs):
        truth = np.random.default_rng([3, run, 0]).beta(4 * base_rate, 4 - 4 * base_rate, 1_000)
        labels = (np.random.default_rng([3, run, 1]).random(1_000) < truth).astype("int64")
        for gate, off in counts:
            scores = np.clip(truth + side * off, 0, 1)
            evidence = Evidence(labels, scores, ConformalRule(0.9, 0.5, 1_000), None, steady())
            counts[gate, off][GATES[gate](evidence, policy).outcome] += 1
    for cell in cells_at(world, 1_000):
        if cell.gate != COVERAGE:
            count = counts[cell.gate, cell.off]
            assert (cell.passed, cell.failed) == (count["passed"], count["failed"])


def test_equal_seeds_give_equal_cells_and_others_do_not() -> None:
    assert cells_at(QUICK, 5_000) == cells_at(replace(QUICK), 5_000)
    assert cells_at(QUICK, 5_000) != cells_at(replace(QUICK, seed=1), 5_000)


def test_the_monte_carlo_error_is_wilsons_and_holds_the_truth() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    # The example of Newcombe (1998), table I: 81 of 263.
    assert (wilson(81, 263).low, wilson(81, 263).high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    hits = np.random.default_rng(0).binomial(RUNS, 0.9, 2_000)
    held = np.mean([wilson(k, RUNS).low <= 0.9 <= wilson(k, RUNS).high for k in hits.tolist()])
    assert held == pytest.approx(0.95, abs=0.015)


def test_every_holdout_is_counted_once() -> None:
    cell = Cell(ECE, 0.0, 2_000, runs=10, passed=3, failed=2)
    assert cell.inconclusive == 5
    assert sum(cell.as_dict()[name]["value"] for name in ("passed", "failed", "inconclusive")) == 1


def test_the_smallest_holdout_that_serves_is_found(found) -> None:
    sizes = {(s.gate, s.off, s.outcome, s.target): s for s in holdout_sizes(QUICK, found.values())}
    ece = sizes[ECE, 0.0, "passed", 0.9]
    (below,) = (c for c in cells_at(QUICK, 7_500) if (c.gate, c.off) == (ECE, 0.0))
    assert ece.n == 10_000
    assert ece.seen == found[ECE, 0.0, 10_000].share("passed")
    assert below.share("passed").value < 0.9 <= ece.seen.value
    assert all(size.seen.value >= size.target for size in sizes.values() if size.seen)
    never = sizes[BINS, 0.03, "failed", 0.9]
    assert (never.n, never.reason) == (None, "never: the rule allows 0.05")


def test_a_policy_that_wants_more_rows_than_the_grid_has_is_told_so() -> None:
    world = World(GatePolicy(min_holdout_rows=200_000), runs=1)
    assert {s.reason for s in holdout_sizes(world) if s.off == 0} == {"more than 100,000"}


@pytest.mark.parametrize("base_rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_base_rate_that_is_none_is_refused(base_rate: float) -> None:
    with pytest.raises(DeclarationError, match="base rate above 0 and below 1"):
        World(GatePolicy(), base_rate)


@pytest.mark.parametrize(("base_rate", "least"), [(0.25, 1_500), (0.001, 20_000), (0.999, 20_000)])
def test_fewer_rows_than_can_be_judged_are_refused(base_rate: float, least: int) -> None:
    world = World(GatePolicy(), base_rate, runs=1)
    with pytest.raises(DeclarationError, match=f"{least:,} to 1,000,000 rows"):
        cells_at(world, world.least_rows - 1)
    assert world.least_rows == pytest.approx(least, abs=1)
    assert len(cells_at(world, world.least_rows)) == 2 * len(SHIFTS) + len(LACKS)


def test_a_base_rate_that_would_take_millions_of_rows_is_refused() -> None:
    with pytest.raises(DeclarationError, match="20,000,000 rows to judge"):
        World(GatePolicy(), 1e-6)


def test_sizes_below_the_policys_minimum_are_not_shown() -> None:
    strict = World(GatePolicy(min_holdout_rows=8_000))
    assert sizes_shown(strict, (30_000, 2_000, 10_000, 10_000)) == (10_000, 30_000)
    assert sizes_shown(strict, (2_000,)) == (8_000,)
    assert sizes_plotted(strict, 27_233)[:2] == (8_000, 10_000)
    assert sizes_plotted(strict, 80_000)[-1] == 80_000
    assert 27_233 in sizes_plotted(strict, 27_233)


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_picture_is_of_the_kind_asked_for_and_equal_for_equal_cells(form, begins) -> None:
    world = replace(QUICK, runs=3)
    cells = [cell for n in (2_000, 3_000) for cell in cells_at(world, n)]
    picture = operating_chart(world, cells, mark=2_500, form=form)
    assert picture.startswith(begins)
    assert picture == operating_chart(world, cells[::-1], mark=2_500, form=form)
    assert picture != operating_chart(world, cells, form=form)


def test_the_page_has_the_rules_and_the_shares_of_the_code() -> None:
    text = page.PAGE.read_text()
    assert page.rules() in text
    fresh = page.shares(cells_at(World(page.POLICY), 2_000), sizes=(2_000,))
    gate_model_share = {tuple(line.split("|")[1:4]) for line in text.splitlines()}
    assert {tuple(line.split("|")[1:4]) for line in fresh.splitlines()} <= gate_model_share


def test_the_picture_of_the_page_is_small_and_the_holdout_is_the_readmes() -> None:
    assert page.PICTURE.read_bytes().startswith(b"\x89PNG")
    assert page.PICTURE.stat().st_size < 150_000
    assert f"{page.HOLDOUT:,}" in (page.DOCS.parent / "README.md").read_text()


@pytest.mark.statistical
def test_every_number_of_the_page_is_that_of_the_code() -> None:
    text = page.PAGE.read_text()
    for name, block in page.blocks().items():
        assert page.with_block(text, name, block) == text, (
            "the page has other numbers than the code: look at the difference, then run "
            "python -m mlops_assets_tests.core.operating_page"
        )
