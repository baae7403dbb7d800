"""Gates on how a candidate came about: is its skill steady over time, does it overfit?

The rules only; folds are fitted and scored in `selection.py`, gates on the holdout are in
`gates.py`.
"""

from collections.abc import Sequence
from itertools import permutations
from math import isfinite

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.selection import Fold, Score
from mlops_assets.core.verdict import Outcome, Verdict, check_computable, decide, uncomputable

LEVEL = 0.95


def stable_across_folds(
    folds: Sequence[Fold], *, limit: float = 0.15, min_rows: int = 500
) -> Verdict:
    """The skill of the folds lies within `limit` of each other.

    Passed when the spread (largest less smallest skill) is at most the limit, failed when two
    folds surely lie further apart: normal bounds, Bonferroni over the ordered pairs.

    Raises:
        GateError: fewer than two folds, or a skill that is not finite.
    """
    gate = "stable_across_folds"
    if len(folds) < 2:
        raise uncomputable(gate, f"{len(folds)} folds")
    scores = [fold.validation for fold in folds]
    _check(gate, scores)
    spread = max(s.skill for s in scores) - min(s.skill for s in scores)
    z = _quantile(1 - (1 - LEVEL) / len(scores) / (len(scores) - 1))
    bounds = [
        (a.skill - b.skill, z * (a.error**2 + b.error**2) ** 0.5)
        for a, b in permutations(scores, 2)
    ]
    low = max(0.0, max(gap - half for gap, half in bounds))
    high = max(gap + half for gap, half in bounds)
    estimate = Estimate(spread, min(low, spread), high, min(s.n for s in scores), LEVEL)
    check_computable(gate, estimate, limit)
    outcome: Outcome = "inconclusive"
    if spread <= limit:
        outcome = "passed"
    elif low > limit:
        outcome = "failed"
    told = ", ".join(f"{fold.validation.skill:.3f} from {fold.starts}" for fold in folds)
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        f"skill by fold: {told}; spread {spread:.4f} against a limit of {limit:g}",
        needed=None,
        min_rows=min_rows,
        stuck="longer validation parts would decide",
        details=tuple((f"skill_{fold.starts}", float(fold.validation.skill)) for fold in folds),
    )


def not_overfitted(fold: Fold, *, limit: float = 0.15, min_rows: int = 500) -> Verdict:
    """The skill on the rows learned from exceeds that on the rows after by at most `limit`.

    Passed when the gap is at most the limit, failed when its whole interval is above.

    Raises:
        GateError: a skill that is not finite.
    """
    gate = "not_overfitted"
    _check(gate, [fold.train, fold.validation])
    gap = fold.train.skill - fold.validation.skill
    half = _quantile((1 + LEVEL) / 2) * (fold.train.error**2 + fold.validation.error**2) ** 0.5
    n = min(fold.train.n, fold.validation.n)
    estimate = Estimate(gap, gap - half, gap + half, n, LEVEL)
    check_computable(gate, estimate, limit)
    outcome: Outcome = "inconclusive"
    if gap <= limit:
        outcome = "passed"
    elif estimate.low > limit:
        outcome = "failed"
    return decide(
        gate,
        outcome,
        estimate,
        limit,
        f"skill {fold.train.skill:.3f} on the rows learned from, {fold.validation.skill:.3f} on "
        f"the rows from {fold.starts} on: a gap of {gap:.4f} against a limit of {limit:g}",
        needed=None,
        min_rows=min_rows,
        stuck="longer validation parts would decide",
        details=(
            ("skill_train", float(fold.train.skill)),
            ("skill_validation", float(fold.validation.skill)),
        ),
    )


def _check(gate: str, scores: Sequence[Score]) -> None:
    if not all(isfinite(s.skill) and isfinite(s.error) for s in scores):
        raise uncomputable(gate, f"skills {[s.skill for s in scores]}")


def _quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(level))
