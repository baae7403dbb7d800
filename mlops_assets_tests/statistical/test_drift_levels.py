"""How often drift is found where there is none, and where there is; and what estimates hold."""

from itertools import product

import numpy as np
import pytest

from mlops_assets.core.comparison import classification_metrics
from mlops_assets.core.divergence import cells_of, chance_of_psi, psi, psi_estimate
from mlops_assets.core.drift import DriftVerdict, judge
from mlops_assets.core.label_free import NAMES, estimate_performance
from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
)
from mlops_assets.core.significance import false_discoveries_held
from mlops_assets_tests.statistical.test_gate_levels import _at_least, _at_most

pytestmark = pytest.mark.statistical

SIZES = (500, 5_000, 50_000)
CATEGORIES = tuple("abcdefghijklmnopqrst")
SHARES = 0.7 ** np.arange(20) / (0.7 ** np.arange(20)).sum()


def _columns(rng: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """35 features: normal, skewed, tied, with nulls, flags, and categories (as codes)."""
    made = {"x0": rng.normal(shift, size=n)}
    for i in range(1, 35):
        kind = i % 6
        if kind < 2:
            values = rng.normal(size=n)
        elif kind == 2:
            values = rng.exponential(size=n)
        elif kind == 3:
            values = np.where(rng.random(n) < 0.9, 0.0, rng.exponential(size=n))
        elif kind == 4:
            values = np.where(rng.random(n) < 0.02, np.nan, rng.poisson(3, size=n))
        else:
            values = rng.choice(20, size=n, p=SHARES)
        made[f"x{i}" if kind < 5 else f"c{i}"] = values
    return made


def _counted(codes: np.ndarray) -> dict[str, int]:
    counts = np.bincount(codes, minlength=20).tolist()
    return {name: n for name, n in zip(CATEGORIES, counts, strict=True) if n}


def _reference(columns: dict[str, np.ndarray]) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for name, values in columns.items():
        if name[0] == "c":
            counts = _counted(values)
            found[name] = CategoryProfile.of(counts, CategoryBins.of(counts))
        else:
            found[name] = NumberProfile.of(values, NumberBins.of(values))
    return found


def _window(columns: dict[str, np.ndarray], reference: dict[str, Profile]) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for name, values in columns.items():
        bins = reference[name].bins
        if isinstance(bins, CategoryBins):
            found[name] = CategoryProfile.of(_counted(values), bins)
        else:
            found[name] = NumberProfile.of(values, bins)
    return found


def _judged(
    rng: np.random.Generator, m: int, n: int, shift: float = 0.0
) -> tuple[DriftVerdict, ...]:
    reference = _reference(_columns(rng, m))
    return judge(reference, _window(_columns(rng, n, shift), reference))


def test_without_drift_few_windows_warn_and_with_the_floor_hardly_any() -> None:
    by_chance, warned, windows = 0, 0, 0
    for m, n in product(SIZES, SIZES):
        rng, runs = np.random.default_rng([1, m, n]), 5 if max(m, n) > 5_000 else 30
        beyond = 0
        for _ in range(runs):
            verdicts = _judged(rng, m, n)
            p_values = [v.p_value for v in verdicts if v.p_value is not None]
            beyond += bool(false_discoveries_held(p_values).any())
            outcomes = {v.outcome for v in verdicts}
            # With 500 rows what chance does not explain is above the lower floor anyway.
            warned += outcomes != {"stable"} and (m, n) != (500, 500)
            assert "drifted" not in outcomes
        assert _at_most(beyond, 0.05, runs), (m, n)
        by_chance, windows = by_chance + beyond, windows + runs
    assert _at_most(by_chance, 0.05, windows)
    assert warned == 0


def test_a_shift_of_half_a_standard_deviation_is_found_and_nothing_else() -> None:
    rng, runs, found, others = np.random.default_rng(2), 100, 0, 0
    for _ in range(runs):
        verdicts = _judged(rng, 2_000, 2_000, shift=0.5)
        found += verdicts[0].has_drifted
        others += any(v.has_drifted for v in verdicts[1:])
    assert found >= 0.99 * runs
    assert others == 0


@pytest.mark.parametrize("k", [10, 20])
@pytest.mark.parametrize(("m", "n"), [(500, 500), (5_000, 500), (500, 5_000), (5_000, 5_000)])
def test_the_law_of_psi_without_drift_is_the_simulated_one(k: int, m: int, n: int) -> None:
    from scipy.stats import chi2

    rng, runs = np.random.default_rng([3, k, m, n]), 2_500
    unit = (1 / n + 1 / m) * (n / (n + k / 2)) ** 2
    found = []
    for _ in range(runs):
        values = rng.random(m)
        bins = NumberBins.of(values, k)
        window = np.bincount(np.searchsorted(bins.uppers[:-1], rng.random(n)), minlength=k)
        found.append(psi(np.full(k, m / k), window) / unit)
    for level in (0.5, 0.9, 0.95):
        assert np.quantile(found, level) == pytest.approx(chi2.ppf(level, k - 1), rel=0.1)


@pytest.mark.parametrize("n", [60, 200, 1_000])
def test_p_values_of_small_windows_are_right_or_too_large(n: int) -> None:
    rng, runs = np.random.default_rng([4, n]), 700
    p_values = []
    for _ in range(runs):
        values = rng.random(2_000)
        bins = NumberBins.of(values)
        pair = NumberProfile.of(values, bins), NumberProfile.of(rng.random(n), bins)
        p_values.append(chance_of_psi(cells_of(*pair)))
    for level in (0.01, 0.05, 0.1):
        assert _at_most(int((np.array(p_values) <= level).sum()), level, runs)


@pytest.mark.parametrize("shift", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(("m", "n"), [(1_000, 1_000), (20_000, 1_000), (20_000, 10_000)])
def test_the_interval_of_psi_holds_the_true_one(shift: float, m: int, n: int) -> None:
    rng, runs, held = np.random.default_rng([5, m, n, round(10 * shift)]), 200, 0
    big = rng.normal(size=400_000)
    for _ in range(runs):
        values = rng.normal(size=m)
        bins = NumberBins.of(values, 10)
        edges = np.array(bins.uppers[:-1])
        r, w, true_r, true_w = (
            np.bincount(np.searchsorted(edges, x), minlength=10)
            for x in (values, rng.normal(shift, size=n), big[:100_000], big[:100_000] + shift)
        )
        estimate = psi_estimate(r, w)
        held += estimate.low <= psi(true_r, true_w) <= estimate.high
    assert _at_least(held, 0.95, runs)


@pytest.mark.parametrize(("a", "b", "n"), [(1, 3, 500), (1, 3, 5_000), (0.5, 9.5, 3_000)])
def test_label_free_estimates_hold_what_labels_show(a: float, b: float, n: int) -> None:
    rng, runs = np.random.default_rng([6, n, int(b)]), 250
    held = dict.fromkeys(NAMES, 0)
    for _ in range(runs):
        p = rng.beta(a, b, n)
        truth = classification_metrics(rng.random(n) < p, p)
        estimated = estimate_performance(p).metrics
        for name in NAMES:
            held[name] += estimated[name].low <= truth[name] <= estimated[name].high
    assert min(held.values()) >= 0.93 * runs - 2 * (runs * 0.05 * 0.95) ** 0.5
    assert _at_least(sum(held.values()), 0.95, runs * len(NAMES))


def test_label_free_estimates_count_the_luck_of_a_calibrator() -> None:
    from sklearn.linear_model import LogisticRegression

    rng, runs, m, n = np.random.default_rng(7), 120, 1_000, 2_000
    held = {"counted": 0, "not counted": 0}
    for _ in range(runs):
        x = rng.normal(size=m + n)
        y = rng.random(m + n) < 1 / (1 + np.exp(1 - 1.5 * x))
        model = LogisticRegression(C=1e6, solver="newton-cholesky").fit(x[:m, None], y[:m])
        p = model.predict_proba(x[m:, None])[:, 1]
        truth = float(((p - y[m:]) ** 2).mean())
        for name, rows in (("counted", m), ("not counted", None)):
            found = estimate_performance(p, n_calibrate=rows).metrics["brier"]
            held[name] += found.low <= truth <= found.high
    assert _at_least(held["counted"], 0.93, runs)
    assert held["not counted"] < 0.85 * runs
