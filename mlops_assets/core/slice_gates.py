"""The rule that no slice is badly off, on the report of `slices`.

Only the decision belongs here, made like those of `gates`: what is significant comes from the
report, what is too much from the limits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.slices import SliceReport, SliceRow
from mlops_assets.core.verdict import (
    MOST_ROWS,
    Outcome,
    Verdict,
    check_computable,
    decide,
    rows_for,
    uncomputable,
    with_interval,
)

_GATE = "slices_hold"
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class _Effect:
    """How far one slice is off in one respect: the size, without its sign, and what is too much."""

    row: SliceRow
    metric: str
    size: Estimate
    limit: float

    @property
    def flagged(self) -> bool:
        return self.metric in self.row.flagged

    @property
    def excess(self) -> float:
        return self.size.value - self.limit


def slices_hold(
    report: SliceReport | None, *, limit: float = 0.05, tolerance: float = 0.02
) -> Verdict:
    """No judged slice is off by more than the limits, beyond chance.

    The effect of a slice is its absolute mean deviation, held against `limit`, and the distance of
    its coverage from the stated one, held against `tolerance`. Passed when no flagged effect is
    above its limit; failed when one is, and its interval lies wholly above, all slices accounted
    for; else inconclusive. With slices that are all too small to judge it is inconclusive.

    The verdict's numbers are those of the worst slice, `rows_needed` counts rows of all slices.

    Raises:
        GateError: a report without slices, or numbers that cannot be judged.
    """
    if report is None:
        return Verdict(_GATE, "passed", None, None, None, 0, limit, "no slices are declared")
    effects = [effect for row in report.rows for effect in _effects(row, report, limit, tolerance)]
    if not effects:
        raise uncomputable(_GATE, "a report in which nothing is tested")
    for effect in effects:
        check_computable(_GATE, effect.size, effect.limit)
    judged = [effect for effect in effects if not effect.row.small]
    broken = [e for e in judged if e.flagged and e.size.value > e.limit + _ROUNDING]
    sure = [e for e in broken if e.size.low > e.limit]
    outcome: Outcome = "failed" if sure else "inconclusive" if broken else "passed"
    # Without a judged slice the largest is named, and `decide` finds it too small.
    pool = sure or broken or [e for e in judged if e.flagged] or judged
    worst = max(pool, key=lambda e: e.excess) if pool else max(effects, key=lambda e: e.row.n)
    return decide(
        _GATE,
        outcome,
        worst.size,
        worst.limit,
        _text(report, worst),
        needed=max((_rows_needed(report, e) or 0 for e in broken or [worst]), default=0) or None,
        min_rows=report.min_rows,
        details=(
            ("slices", len(report.rows)),
            ("slices_judged", len(report.judged)),
            ("slices_flagged", sum(bool(row.flagged) for row in report.rows)),
            ("slices_beyond_limit", len({(e.row.slice, e.row.level) for e in broken})),
            ("worst_slice", worst.row.slice),
            ("worst_level", worst.row.level),
            ("worst_metric", worst.metric),
            ("false_discovery_rate", float(report.false_discovery_rate)),
        ),
    )


def _effects(
    row: SliceRow, report: SliceReport, limit: float, tolerance: float
) -> Iterator[_Effect]:
    if row.deviation is not None:
        size = _size(row.deviation.estimate, 0.0, report.level)
        yield _Effect(row, "deviation", size, limit)
    if row.coverage is not None and report.confidence is not None:
        size = _size(row.coverage.estimate, report.confidence, report.level)
        yield _Effect(row, "coverage", size, tolerance)


def _size(found: Estimate, promised: float, level: float) -> Estimate:
    """Distance from what was promised; the level is the joint one of all judged slices."""
    low, high = found.low - promised, found.high - promised
    return Estimate(
        abs(found.value - promised),
        max(low, -high, 0.0),
        max(-low, high),
        found.n,
        level,
    )


def _rows_needed(report: SliceReport, effect: _Effect) -> int | None:
    """Further rows of all slices that would decide this one, at its present share of the rows."""
    n, gap, width = effect.row.n, effect.excess, effect.size.value - effect.size.low
    if effect.row.small:
        own: int | None = report.min_rows - n
    elif effect.metric == "coverage" and report.n_conformalize is not None:
        # Width squared is proportional to 1 / n + 1 / m: solve for n, m being what it is.
        m = report.n_conformalize
        share = (gap / width) ** 2 * (1 / n + 1 / m) - 1 / m if width > 0 else 0.0
        own = max(1, ceil(1 / share) - n) if share > 1 / MOST_ROWS else None
    else:
        own = rows_for(n, width, gap)
    return None if own is None else ceil(own * report.n / n)


def _text(report: SliceReport, worst: _Effect) -> str:
    what = "mean deviation" if worst.metric == "deviation" else "distance from the stated coverage"
    named = (
        f"{worst.row.slice} = {worst.row.level}: {what} {with_interval(worst.size)} against a "
        f"limit of {worst.limit:g}"
    )
    if not report.judged:
        return f"all {len(report.rows)} slices are too small to judge, the largest is {named}"
    flagged = sum(bool(row.flagged) for row in report.rows)
    largest = "worst" if worst.flagged else "largest by chance"
    return f"{flagged} of {len(report.judged)} judged slices are flagged; {largest} {named}"
