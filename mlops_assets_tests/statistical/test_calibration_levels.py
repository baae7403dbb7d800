"""How often the intervals of smooth ECE, weighted and multiclass calibration hold the truth.

Each model's true probabilities are known, so its true error on the same rows is too. A share is
held against its demand with the luck of a finite simulation allowed for, as in `test_gate_levels`.
"""

from collections.abc import Callable

import numpy as np
import pytest

from mlops_assets.core import smooth_ece as smooth
from mlops_assets.core.calibration import (
    expected_calibration_error,
    maximum_bin_deviation,
    reliability_bins,
)
from mlops_assets.core.multiclass import classwise_bins, pooled, top_label_bins
from mlops_assets.core.proper_scores import brier_score, spiegelhalter_test
from mlops_assets.core.smooth_ece import smooth_ece
from mlops_assets_tests.statistical.test_gate_levels import SHIFTS, WORLDS, _at_least, _at_most

pytestmark = pytest.mark.statistical

RUNS = 120
# What weights may have to do with the true probability.
WEIGHTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "unrelated": lambda p, rng: rng.lognormal(size=p.size),
    "rising": lambda p, rng: 0.05 + p**2,
    "falling": lambda p, rng: 1 / (0.05 + p),
    "a tenth counts tenfold": lambda p, rng: np.where(rng.random(p.size) < 0.1, 10.0, 1.0),
}


@pytest.fixture
def coarse_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid that is fine enough for errors above a thousandth, and quicker."""
    monkeypatch.setattr(smooth, "CELLS", 1_024)


def _true_smooth_ece(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The smooth ECE of labels without noise: residuals truth - score."""
    cells = smooth.CELLS
    place = np.minimum((scores * cells).astype(int), cells - 1)
    residual = np.bincount(place, weights * (truth - scores), cells) / weights.sum()
    rate = 1 - np.cos(np.pi * np.arange(cells) / cells)
    from scipy.fft import dct, idct

    low, high = 0.0, 1.0
    for _ in range(25):
        middle = (low + high) / 2
        decay = np.exp(-((middle * cells) ** 2) * rate)
        error = np.abs(idct(dct(residual) * decay)).sum()
        low, high = (middle, high) if error > middle else (low, middle)
    return low


@pytest.mark.usefixtures("coarse_grid")
@pytest.mark.parametrize("base", WORLDS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("n", [2_000, 10_000])
def test_intervals_hold_the_true_smooth_ece(base: float, shift: str, n: int) -> None:
    rng = np.random.default_rng([11, n, round(1000 * base)])
    held = 0
    for _ in range(RUNS):
        truth = rng.beta(*WORLDS[base], n)
        scores = SHIFTS[shift](truth)
        found = smooth_ece(rng.random(n) < truth, scores)
        expected = _true_smooth_ece(scores, truth, np.ones(n))
        held += found.low <= expected + 1e-7 and expected <= found.high
        assert found.high - found.low < (0.07 if n == 2_000 else 0.04)
    assert _at_least(held, 0.945, RUNS)


@pytest.mark.usefixtures("coarse_grid")
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("shift", ["calibrated", "too high"])
def test_intervals_of_weighted_rows_hold_the_truth(name: str, shift: str) -> None:
    n, rng = 4_000, np.random.default_rng(12)
    ece = worst = smoothed = brier = 0
    for _ in range(RUNS):
        truth = rng.beta(*WORLDS[0.25], n)
        scores, weights = SHIFTS[shift](truth), WEIGHTS[name](truth, rng)
        labels = rng.random(n) < truth
        bins = reliability_bins(labels, scores, weights=weights)
        place = np.searchsorted(bins.column("upper"), scores)
        off = np.bincount(place, weights * (truth - scores)) / np.bincount(place, weights)
        found = expected_calibration_error(bins)
        ece += found.low <= np.abs(off) @ bins.column("share") <= found.high
        found = maximum_bin_deviation(bins)
        worst += found.low <= np.abs(off).max() <= found.high
        found = smooth_ece(labels, scores, weights=weights)
        expected = _true_smooth_ece(scores, truth, weights)
        smoothed += found.low <= expected + 1e-7 and expected <= found.high
        found = brier_score(labels, scores, weights=weights)
        losses = truth * (1 - scores) ** 2 + (1 - truth) * scores**2
        brier += found.low <= weights @ losses / weights.sum() <= found.high
    for held in (ece, worst, smoothed, brier):
        assert _at_least(held, 0.945, RUNS)


@pytest.mark.parametrize("classes", [3, 8])
@pytest.mark.parametrize("power", [1.0, 0.7, 1.5])
def test_multiclass_intervals_hold_the_truth(classes: int, power: float) -> None:
    n, rng = 4_000, np.random.default_rng([13, classes])
    runs = 50
    classwise = worst = top = 0
    for _ in range(runs):
        truth = np.exp(1.5 * rng.normal(size=(n, classes)))
        truth /= truth.sum(axis=1, keepdims=True)
        p = truth**power / (truth**power).sum(axis=1, keepdims=True)
        drawn = (rng.random(n)[:, None] > truth.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
        tables, off = classwise_bins(drawn, p), []
        for one, table in enumerate(tables):
            place = np.searchsorted(table.column("upper"), p[:, one])
            off.append(np.bincount(place, truth[:, one] - p[:, one]) / np.bincount(place))
        both, each = pooled(tables), np.abs(np.concatenate(off))
        found = expected_calibration_error(both)
        classwise += found.low <= each @ both.column("share") <= found.high
        found = maximum_bin_deviation(both)
        worst += found.low <= each.max() <= found.high
        table = top_label_bins(drawn, p)
        best = p.argmax(axis=1)
        place = np.searchsorted(table.column("upper"), p.max(axis=1))
        right = truth[np.arange(n), best] - p.max(axis=1)
        found = expected_calibration_error(table)
        top += found.low <= np.abs(np.bincount(place, right)).sum() / n <= found.high
    for held in (classwise, worst, top):
        assert _at_least(held, 0.945, runs)


@pytest.mark.parametrize("base", WORLDS)
def test_spiegelhalters_test_rejects_calibrated_models_as_often_as_it_says(base: float) -> None:
    rng, runs = np.random.default_rng(14), 1_500
    found = []
    for _ in range(runs):
        truth = rng.beta(*WORLDS[base], 1_000)
        found.append(spiegelhalter_test(rng.random(1_000) < truth, truth).p_value)
    assert _at_most(sum(p < 0.05 for p in found), 0.05, runs)
    assert _at_least(sum(p < 0.05 for p in found), 0.05, runs)
