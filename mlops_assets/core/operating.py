"""How often the gates of a policy pass, fail and abstain on models whose truth is known.

Only the simulation belongs here: worlds with a known truth, judged by the gates as they are. The
rules are in `gates`, the picture is in `operating_plot`. The comparison with the champion is left
out: how often it decides hangs on how alike the two models are, which no policy says.

Calibration: true probabilities are drawn from a Beta law, labels from these, and the scores are
the truth shifted by a constant to the side that has more room, clipped to [0, 1]. The law is
Beta(4 r, 4 (1 - r)) for a base rate r. Its mean is r, and a perfect model explains a fifth of the
variance of the labels, whatever r: the intraclass correlation of a Beta law is 1 / (a + b + 1). So
much is usual of a business model on tables (AUC 0.78 at a base rate of 25%). A sharper model has
less noise per row and is judged sooner; a base rate nearer to 50% means more noise.

Coverage: a valid split conformal rule of m rows covers Beta(k, m + 1 - k), k being its rank (Vovk
2012); a worse one covers some points less. There are as many conformalization as holdout rows.

Every row hangs on the seed and its place alone. So all shifts judge the same labels, a larger
holdout begins with the rows of a smaller one, and a cell is the same whatever else is asked for.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from math import ceil
from typing import Any, get_args

import numpy as np

from mlops_assets.core.calibration import reliability_bins
from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.coverage_law import coverage_estimate
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.gates import (
    coverage_within_tolerance,
    ece_below_limit,
    reliability_bins_within_limit,
)
from mlops_assets.core.shared_gates import Policy
from mlops_assets.core.verdict import Outcome
from mlops_assets.errors import DeclarationError

ECE, BINS, COVERAGE = (
    "ece_below_limit",
    "reliability_bins_within_limit",
    "coverage_within_tolerance",
)
SHIFTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
"""How far scores are off; 0.08 is surely beyond what the default policy allows to a bin."""
LACKS = (0.0, 0.02, 0.03, 0.05)
"""How much less than a valid rule a model covers."""
GRID = (1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 75_000,
        100_000)  # fmt: skip
"""Sizes of holdout among which the smallest that serves is sought."""
SIZES = (2_000, 5_000, 10_000, 30_000)
"""Sizes of holdout that are shown when none is asked for."""
RUNS = 400
"""Holdouts per cell: so many that a share of 99% can be told from 100% by its Wilson interval."""
MOST_ROWS = 1_000_000
# Of fewer expected rows of the rarer class a holdout might have none, and no gate be computable.
_LEAST_OF_A_CLASS = 20
_DEMANDS: tuple[tuple[str, float, Outcome, float], ...] = (
    (ECE, 0.0, "passed", 0.90),
    (ECE, 0.0, "passed", 0.99),
    (ECE, 0.03, "failed", 0.90),
    (BINS, 0.0, "passed", 0.90),
    (BINS, 0.0, "passed", 0.99),
    (BINS, 0.03, "failed", 0.90),
    (BINS, 0.08, "failed", 0.90),
    (COVERAGE, 0.0, "passed", 0.90),
    (COVERAGE, 0.0, "passed", 0.99),
    (COVERAGE, 0.03, "failed", 0.90),
    (COVERAGE, 0.05, "failed", 0.90),
)


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated: the policy that judges, and the models that it judges.

    Args:
        policy: thresholds of the gates.
        base_rate: share of rows with label 1.
        confidence: stated coverage of the conformal sets.
        runs: simulated holdouts per cell.
        seed: equal seeds give equal cells.
    """

    policy: Policy
    base_rate: float = 0.25
    confidence: float = 0.9
    runs: int = RUNS
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.base_rate < 1 or self.runs < 1:
            raise DeclarationError(
                f"a base rate of {self.base_rate:g} and {self.runs} simulated holdouts",
                expected="a base rate above 0 and below 1, and at least one holdout",
                do="give the share of rows whose label is 1, such as 0.25",
            )
        if self.least_rows > MOST_ROWS:
            raise DeclarationError(
                f"a policy and a base rate that take {self.least_rows:,} rows to judge anything",
                expected=f"at most {MOST_ROWS:,}",
                do="take a base rate further from 0 and 1, or lower the policy's minimum",
            )

    @property
    def beta(self) -> tuple[float, float]:
        """The law of the true probabilities."""
        return 4 * self.base_rate, 4 * (1 - self.base_rate)

    @property
    def least_rows(self) -> int:
        """Rows below which no gate passes, a class may be missing, or sets cannot be made."""
        policy = self.policy
        full = policy.bins * policy.min_bin_rows if policy.binning == "mass" else 0
        classes = _LEAST_OF_A_CLASS / min(self.base_rate, 1 - self.base_rate)
        sets = self.confidence / (1 - self.confidence) + 1
        return max(policy.min_holdout_rows, full, ceil(classes), ceil(sets))

    def limit(self, gate: str) -> float:
        """The policy's limit of a gate."""
        policy = self.policy
        limits = {ECE: policy.ece_limit, BINS: policy.bin_limit}
        return {**limits, COVERAGE: policy.coverage_tolerance}[gate]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a gate said of `runs` holdouts of `n` rows, of a model that is off by `off`."""

    gate: str
    off: float
    n: int
    runs: int
    passed: int
    failed: int

    @property
    def inconclusive(self) -> int:
        """Holdouts on which the gate abstained."""
        return self.runs - self.passed - self.failed

    def share(self, outcome: Outcome) -> Estimate:
        """Share of holdouts with this outcome, and its Monte Carlo error."""
        return wilson(getattr(self, outcome), self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, the shares with their Monte Carlo error."""
        shares = {outcome: asdict(self.share(outcome)) for outcome in get_args(Outcome)}
        return {"gate": self.gate, "off": self.off, "n": self.n, "runs": self.runs, **shares}


@dataclass(frozen=True, slots=True)
class HoldoutSize:
    """The smallest size of holdout at which a gate says `outcome` at least `target` of the time.

    `seen` is how often it did there. Where no size of the grid serves both are None, and `reason`
    says why.
    """

    gate: str
    off: float
    outcome: Outcome
    target: float
    n: int | None
    seen: Estimate | None
    reason: str = ""


def wilson(hits: int, n: int, level: float = 0.95) -> Estimate:
    """A share with its score interval (Wilson 1927), which serves near 0 and 1 too.

    >>> found = wilson(400, 400)
    >>> found.value, round(found.low, 4), found.high
    (1.0, 0.9905, 1.0)
    """
    from scipy.special import ndtri

    z, share = float(ndtri((1 + level) / 2)), hits / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    low = 0.0 if hits == 0 else center - half
    return Estimate(share, low, 1.0 if hits == n else center + half, n, level)


def model_name(gate: str, off: float) -> str:
    """A simulated model in words.

    >>> model_name(ECE, 0.0), model_name(BINS, 0.03), model_name(COVERAGE, 0.03)
    ('perfect', 'off by 0.03', '3 points less')
    """
    if gate == COVERAGE:
        return f"{100 * off:g} points less" if off else "valid"
    return f"off by {off:g}" if off else "perfect"


def cells_at(world: World, n: int) -> tuple[Cell, ...]:
    """What each gate says at `n` rows of each model, in order of gate and error.

    Raises:
        DeclarationError: too few rows for this world, or too many to simulate.
    """
    if not world.least_rows <= n <= MOST_ROWS:
        raise DeclarationError(
            f"a holdout of {n:,} rows",
            expected=f"{world.least_rows:,} to {MOST_ROWS:,} rows, by the policy's minimum of "
            f"{world.policy.min_holdout_rows:,} rows and a base rate of {world.base_rate:g}",
            do="ask for a number in this range: on fewer rows no model passes, and on more the "
            "answer no longer changes",
        )
    return (*_calibration(world, n, SHIFTS), *_coverage(world, n, LACKS))


def sizes_shown(world: World, sizes: Iterable[int] = SIZES) -> tuple[int, ...]:
    """Those of the sizes that can be simulated, each once and in order; else the least that can."""
    kept = {n for n in sizes if world.least_rows <= n <= MOST_ROWS}
    return tuple(sorted(kept)) or (world.least_rows,)


def sizes_plotted(world: World, *also: int) -> tuple[int, ...]:
    """The sizes from the least on that make a picture, and these."""
    top = max(50_000, min(4 * world.least_rows, MOST_ROWS), *also)
    inside = (n for n in GRID if world.least_rows < n < top)
    return tuple(sorted({world.least_rows, *inside, *also, top}))


def holdout_sizes(world: World, known: Iterable[Cell] = ()) -> tuple[HoldoutSize, ...]:
    """How much holdout it takes until the gates decide, by the shares that were seen.

    Args:
        world: what is simulated.
        known: cells of this world, which need not be simulated again.
    """
    cells = {(cell.gate, cell.off, cell.n): cell for cell in known}
    found: dict[int, HoldoutSize] = {}
    for place, (gate, off, outcome, target) in enumerate(_DEMANDS):
        if outcome == "failed" and off <= world.limit(gate):
            why = f"never: the rule allows {world.limit(gate):g}"
            found[place] = HoldoutSize(gate, off, outcome, target, None, None, why)
    for n in (n for n in GRID if n >= world.least_rows):
        open_ = [i for i in range(len(_DEMANDS)) if i not in found]
        wanted = {_DEMANDS[i][:2] for i in open_ if (*_DEMANDS[i][:2], n) not in cells}
        shifts = sorted({off for gate, off in wanted if gate != COVERAGE})
        lacks = sorted({off for gate, off in wanted if gate == COVERAGE})
        new = (*_calibration(world, n, shifts), *_coverage(world, n, lacks))
        cells.update({(cell.gate, cell.off, cell.n): cell for cell in new})
        for i in open_:
            gate, off, outcome, target = _DEMANDS[i]
            seen = cells[gate, off, n].share(outcome)
            if seen.value >= target:
                found[i] = HoldoutSize(gate, off, outcome, target, n, seen)
    beyond = f"more than {GRID[-1]:,}"
    return tuple(
        found.get(i) or HoldoutSize(*demand, None, None, beyond)
        for i, demand in enumerate(_DEMANDS)
    )


def _calibration(world: World, n: int, shifts: Sequence[float]) -> tuple[Cell, ...]:
    """Both gates of calibration on models that are off by each of the shifts."""
    policy, least = world.policy, world.policy.min_holdout_rows
    gates = {
        ECE: partial(ece_below_limit, limit=policy.ece_limit, min_rows=least),
        BINS: partial(reliability_bins_within_limit, limit=policy.bin_limit, min_rows=least),
    }
    counts = {(gate, off): Counter[Outcome]() for gate in gates for off in shifts}
    side = 1 if world.base_rate <= 0.5 else -1
    for run in range(world.runs if shifts else 0):
        truth = np.random.default_rng([world.seed, run, 0]).beta(*world.beta, n)
        labels = np.random.default_rng([world.seed, run, 1]).random(n) < truth
        for off in shifts:
            bins = reliability_bins(
                labels,
                np.clip(truth + side * off, 0.0, 1.0),
                n_bins=policy.bins,
                strategy=policy.binning,
                min_rows=policy.min_bin_rows,
            )
            for gate, judge in gates.items():
                counts[gate, off][judge(bins).outcome] += 1
    return tuple(
        Cell(gate, off, n, world.runs, count["passed"], count["failed"])
        for (gate, off), count in counts.items()
    )


def _coverage(world: World, n: int, lacks: Sequence[float]) -> tuple[Cell, ...]:
    """The gate of coverage on rules that cover less than a valid one by each of the lacks."""
    # The gate reads the rule's confidence and rows; the quantile is not its business.
    rule = ConformalRule(world.confidence, 0.5, n)
    hits: dict[float, list[int]] = {}
    for off in lacks:
        random = np.random.default_rng([world.seed, n, round(off * 1e6)])
        shares = random.beta(rule.rank, n + 1 - rule.rank, world.runs) - off
        hits[off] = random.binomial(n, shares.clip(0.0)).tolist()
    outcomes = _outcomes(
        world.policy, rule, {count for counts in hits.values() for count in counts}
    )
    cells = []
    for off, counts in hits.items():
        said = Counter(outcomes[count] for count in counts)
        cells.append(Cell(COVERAGE, off, n, world.runs, said["passed"], said["failed"]))
    return tuple(cells)


def _outcomes(policy: Policy, rule: ConformalRule, hits: Iterable[int]) -> dict[int, Outcome]:
    """What the gate says of each count of covered rows.

    An interval costs milliseconds, and its ends rise with the count. So a count between two that
    lie on the same side of the stated coverage and are judged alike is judged like them.
    """
    n, counts = rule.n_conformalize, sorted(hits)

    @cache
    def judge(place: int) -> tuple[Outcome, bool]:
        estimate = coverage_estimate(counts[place], n, n)
        verdict = coverage_within_tolerance(
            estimate,
            rule,
            tolerance=policy.coverage_tolerance,
            min_rows=policy.min_holdout_rows,
        )
        return verdict.outcome, estimate.value > rule.confidence

    found: dict[int, Outcome] = {}
    open_ = [(0, len(counts) - 1)] if counts else []
    while open_:
        first, last = open_.pop()
        if judge(first) == judge(last):
            found.update(dict.fromkeys(counts[first : last + 1], judge(first)[0]))
        else:
            middle = (first + last) // 2
            open_ += [(first, middle), (middle + 1, last)]
    return found
