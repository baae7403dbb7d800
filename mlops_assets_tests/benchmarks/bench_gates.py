"""How fast the calibration numbers are, beside one binning pass and beside MAPIE's ECE.

    python -m mlops_assets_tests.benchmarks.bench_gates

Ten million rows. Ours is everything a calibration gate needs: equal-mass bins with intervals, ECE
with interval, largest deviation with interval, input checks included. The pass is the least that
any binned number needs: bin numbers by integer arithmetic, then counts, labels and scores summed
per bin by numpy.bincount. MAPIE computes the ECE alone, on equal-width bins. What several compute
is compared before any time is shown; the exact quantiles are compared with a plain sort.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from mlops_assets.core.calibration import (
    expected_calibration_error,
    maximum_bin_deviation,
    reliability_bins,
)
from mlops_assets.core.smooth_ece import smooth_ece

ROWS = 10_000_000
BINS = 15
ROUNDS = 7
GOALS = {"ours / one pass": 5.0, "ours / MAPIE's ECE": 1.0}

Rows = tuple[np.ndarray, np.ndarray]


def make_rows() -> Rows:
    """Scores of a model that is off by a little, base rate 25%; labels as 0 and 1."""
    rng = np.random.default_rng(0)
    truth = rng.beta(1, 3, ROWS)
    return (rng.random(ROWS) < truth).astype(np.int64), (truth + 0.01).clip(0, 1)


def one_pass(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, positives and sum of scores of each equal-width bin."""
    place = (scores * BINS).astype(np.int64)
    np.minimum(place, BINS - 1, out=place)
    return (
        np.bincount(place, minlength=BINS),
        np.bincount(place, weights=labels, minlength=BINS),
        np.bincount(place, weights=scores, minlength=BINS),
    )


def ours(labels: np.ndarray, scores: np.ndarray) -> tuple[object, object]:
    """All numbers of both calibration gates."""
    bins = reliability_bins(labels, scores, n_bins=BINS)
    return expected_calibration_error(bins), maximum_bin_deviation(bins)


def mapies(labels: np.ndarray, scores: np.ndarray) -> float:
    """The ECE of MAPIE on as many bins."""
    from mapie.metrics.calibration import expected_calibration_error as mapie_ece

    return float(mapie_ece(labels, scores, num_bins=BINS))


def check_equal(labels: np.ndarray, scores: np.ndarray) -> None:
    """Stop unless the pass, MAPIE and ours agree wherever they compute the same."""
    n, positives, total = one_pass(labels, scores)
    expected = float(np.abs(positives - total).sum() / n.sum())
    wide = reliability_bins(labels, scores, n_bins=BINS, strategy="width", min_rows=1)
    found = expected_calibration_error(wide).value
    if not np.isclose(found, expected, rtol=1e-9) or wide.column("n").tolist() != n.tolist():
        raise SystemExit(f"ECE {found} differs from that of the pass, {expected}")
    # MAPIE spreads its bins from the lowest to the highest score: give it 0 and 1.
    ends = np.r_[labels, 0, 1], np.r_[scores, 0.0, 1.0]
    wide = reliability_bins(*ends, n_bins=BINS, strategy="width", min_rows=1)
    found, theirs = expected_calibration_error(wide).value, mapies(*ends)
    if not np.isclose(found, theirs, rtol=1e-9):
        raise SystemExit(f"ECE {found} differs from MAPIE's {theirs}")
    mass = reliability_bins(labels, scores, n_bins=BINS)
    edges = np.sort(scores)[np.arange(BINS) * ROWS // BINS]
    if mass.column("lower").tolist() != edges.tolist():
        raise SystemExit("the equal-mass bins do not start at the quantiles")


def seconds(run: Callable[[np.ndarray, np.ndarray], object], rows: Rows, rounds: int) -> float:
    """Median time of a run."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(*rows)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main() -> None:
    """Compare, measure and print the tables; exit 1 if a goal is missed."""
    rows = make_rows()
    check_equal(*rows)
    print(f"{ROWS:,} rows, {BINS} bins. All answers equal.\n")
    weights = np.random.default_rng(1).random(ROWS)
    found = {
        "one pass": seconds(one_pass, rows, ROUNDS),
        "ours": seconds(ours, rows, ROUNDS),
        "MAPIE's ECE": seconds(mapies, rows, 3),
        "ours, weighted": seconds(
            lambda labels, scores: reliability_bins(labels, scores, weights=weights), rows, 3
        ),
        "smooth ECE": seconds(smooth_ece, rows, 3),
    }
    print(f"{'contender':20} {'seconds':>9}")
    for name, taken in found.items():
        print(f"{name:20} {taken:9.3f}")
    print(f"\n{'ratio':20} {'measured':>9} {'goal':>9}")
    missed = 0
    for title, goal in GOALS.items():
        one, other = title.split(" / ")
        value = found[one] / found[other]
        missed += value > goal
        print(f"{title:20} {value:9.2f} {'<=':>4} {goal:g} {'' if value <= goal else 'MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
