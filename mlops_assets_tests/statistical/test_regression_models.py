"""Regressions that are fitted from rows keep what they state, where rows are easy and difficult.

Every run draws a world anew whose noise is four times as large on one side. A mean over the runs is
held against its demand with the luck of a finite simulation allowed for.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core.regression_evidence import GATES, RegressionEvidence
from mlops_assets.core.regression_training import FittedRegression, Intervals
from mlops_assets.core.training import Rows
from mlops_assets.spec import GatePolicy
from mlops_assets_tests.core.regression_world import fitted, linear, rows

pytestmark = pytest.mark.statistical

POLICY = GatePolicy()
RUNS, ROWS = 20, 2_000


def fit(intervals: Intervals, run: int, n: int = ROWS) -> FittedRegression:
    windows = {
        name: rows(n, 100 * run + k)
        for k, name in enumerate(("train", "calibrate", "conformalize"))
    }
    return fitted(intervals=intervals, estimators={"linear": linear}, **windows)


def coverage_by_side(intervals: Intervals) -> dict[str, float]:
    """Mean over the runs of the coverage of new rows on either side."""
    found = []
    for run in range(RUNS):
        new = rows(10_000, 100 * run + 50)
        ends = fit(intervals, run).intervals(new.inputs)
        held = (ends[:, 0] <= new.labels) & (new.labels <= ends[:, 1])
        side = new.inputs["side"].to_numpy()
        found.append([held[side == name].mean() for name in ("calm", "wild")])
    calm, wild = np.mean(found, axis=0)
    return {"calm": float(calm), "wild": float(wild)}


def test_normalized_intervals_cover_the_calm_side_and_the_wild_one() -> None:
    found = coverage_by_side("normalized")
    # One run's coverage has a standard deviation of about 0.01; so has what the spread learned.
    assert found["calm"] == pytest.approx(0.9, abs=0.01)
    assert found["wild"] == pytest.approx(0.9, abs=0.01)


def test_intervals_of_one_width_cover_the_calm_side_always_and_the_wild_one_too_rarely() -> None:
    """The common width q solves P(|N| < q) + P(4 |N| < q) = 1.8: q = 5.13, and 0.8 in the wild."""
    found = coverage_by_side("absolute")
    assert found["calm"] > 0.999
    assert found["wild"] == pytest.approx(0.8, abs=0.01)


def judged(model: FittedRegression, new: Rows, *, bias: float = 0.0) -> RegressionEvidence:
    return RegressionEvidence(
        new.labels,
        model.points(new.inputs) + bias,
        model.spreads(new.inputs),
        model.rule,
        model.law,
        None,
        model.selection,
        {"side": new.inputs["side"].to_numpy().astype(str)},
    )


def test_a_right_model_passes_the_gates_of_its_law_and_a_biased_one_fails() -> None:
    right, biased = Counter(), Counter()
    for run in range(8):
        model = fit("normalized", run, 10_000)
        of = judged(model, rows(20_000, 100 * run + 50))
        off = replace(of, points=of.points + 1.0)
        for gate in ("qce_below_limit", "quantiles_within_limit"):
            right[gate, GATES[gate](of, POLICY).outcome] += 1
            biased[gate, GATES[gate](off, POLICY).outcome] += 1
    assert right == {(gate, "passed"): 8 for gate, _ in right}
    assert biased == {(gate, "failed"): 8 for gate, _ in biased}


def test_the_slice_gate_finds_what_one_width_does_to_the_wild_side() -> None:
    new = rows(20_000, 9)
    outcomes = {
        kind: GATES["slices_hold"](judged(fit(kind, 1, 10_000), new), POLICY).outcome
        for kind in ("absolute", "normalized")
    }
    assert outcomes == {"absolute": "failed", "normalized": "passed"}


def test_a_law_of_spreads_that_know_their_rows_would_be_too_narrow() -> None:
    """Why the spread is cross-fitted: on 300 rows the inner 90% of the law would hold fewer."""
    from mlops_assets.core.predictive import fit_predictive_distribution

    honest, naive = [], []
    for run in range(RUNS):
        calibrate, new = rows(300, 100 * run + 1), rows(4_000, 100 * run + 50)
        model = fitted(estimators={"linear": linear}, calibrate=calibrate)
        known = calibrate.inputs
        own = fit_predictive_distribution(
            calibrate.labels, model.points(known), model.spreads(known)
        )
        for law, found in ((model.law, honest), (own, naive)):
            ends = law.quantile([0.05, 0.95], model.points(new.inputs), model.spreads(new.inputs))
            found.append(((ends[:, 0] <= new.labels) & (new.labels <= ends[:, 1])).mean())
    assert np.mean(honest) == pytest.approx(0.9, abs=0.015)
    assert np.mean(naive) < np.mean(honest) - 0.01
