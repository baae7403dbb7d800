"""What a gate decided, and the wording and guards that all gates share.

Only the verdict belongs here; the rules that lead to one are in `gates`.
"""

from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

from mlops_assets.core.estimate import Estimate
from mlops_assets.errors import GateError

Outcome = Literal["passed", "failed", "inconclusive"]
Scalar = float | int | str | bool
# Beyond this many rows "more data" is no advice any more.
MOST_ROWS = 10**9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate decided, on which numbers.

    `estimate`, `low` and `high` are None only where there is nothing to estimate (no champion
    yet). `rows_needed` counts further holdout rows and is set only when these would decide.
    `details` are (name, value) pairs; `dict(verdict.details)` is ready for metadata.

    Raises:
        GateError: NaN, infinity, or a number that is not a plain python one.
    """

    gate: str
    outcome: Outcome
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    threshold: float
    reason: str
    rows_needed: int | None = None
    details: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        if self.outcome not in ("passed", "failed", "inconclusive"):
            raise uncomputable(self.gate, f"outcome {self.outcome!r}")
        numbers = (self.estimate, self.low, self.high, self.n, self.threshold, self.rows_needed)
        for number in (*numbers, *(value for _, value in self.details)):
            # np.float64 is a float to isinstance, but not to Dagster's metadata or to JSON.
            if number is None or type(number) in (bool, int, str):
                continue
            if type(number) is not float or not isfinite(number):
                raise uncomputable(self.gate, f"the number {number!r}")


def decide(
    gate: str,
    outcome: Outcome,
    estimate: Estimate,
    threshold: float,
    text: str,
    *,
    needed: int | None,
    min_rows: int,
    doubt: str | None = None,
    stuck: str | None = None,
    details: tuple[tuple[str, Scalar], ...] = (),
) -> Verdict:
    """Hold back what rests on too little, and say what would decide."""
    missing = min_rows - estimate.n
    if missing > 0:
        outcome, needed = "inconclusive", max(missing, needed or 0)
        stuck, text = None, f"{text}; the policy wants at least {min_rows:,} rows"
    elif doubt is not None:
        outcome, needed, stuck = "inconclusive", None, doubt
    if outcome != "inconclusive":
        needed, advice = None, ""
    elif needed is None:
        advice = f"; {stuck or 'too close to the limit for more rows to decide'}"
    else:
        advice = f"; about {needed:,} more holdout rows would decide"
    return Verdict(
        gate=gate,
        outcome=outcome,
        estimate=float(estimate.value),
        low=float(estimate.low),
        high=float(estimate.high),
        n=int(estimate.n),
        threshold=float(threshold),
        reason=f"{text}{advice}",
        rows_needed=needed,
        details=(("level", float(estimate.level)), *details),
    )


def rows_for(n: int, width: float, gap: float) -> int | None:
    """Further rows after which an interval side, shrinking like 1 / sqrt(n), is within the gap."""
    if gap <= 0 or n * (width / gap) ** 2 > MOST_ROWS:
        return None
    return max(1, ceil(n * (width / gap) ** 2) - n)


def with_interval(estimate: Estimate) -> str:
    """The estimate as the reasons quote it."""
    return (
        f"{estimate.value:.4f} ({estimate.level:.0%} interval {estimate.low:.4f} to "
        f"{estimate.high:.4f}, n = {estimate.n:,})"
    )


def check_computable(gate: str, estimate: Estimate, threshold: float) -> None:
    """Refuse estimates and thresholds that cannot be judged.

    Raises:
        GateError: NaN, infinity, an interval upside down, no rows, or a negative threshold.
    """
    numbers = (estimate.value, estimate.low, estimate.high, threshold)
    if not all(map(isfinite, numbers)) or estimate.low > estimate.high or estimate.n < 1:
        raise uncomputable(gate, f"{estimate} against {threshold!r}")
    if threshold < 0:
        raise uncomputable(gate, f"a threshold of {threshold!r}")


def uncomputable(gate: str, found: str) -> GateError:
    """The error of a gate that cannot be computed."""
    return GateError(
        f"gate {gate} got {found}",
        expected="finite numbers from a non-empty holdout",
        do="repair the report this gate reads; a gate that cannot be computed never passes",
    )
