"""What a canary must not make worse, and whether the evidence so far decides it.

A guardrail compares canary and control by a bound that holds at every look (`sequential`): harm
surely above its margin means roll back, surely below means advance once there was enough traffic,
and anything else means hold. Counting, timing and acting are done elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, log, sqrt
from statistics import NormalDist
from typing import Literal

from mlops_assets.core.sequential import (
    Prior,
    Sums,
    mean_difference,
    share_difference,
    split_evidence,
)
from mlops_assets.errors import DeclarationError, UnknownNameError

Action = Literal["roll back", "advance", "hold"]
Finding = Literal["harm", "no harm", "open"]

LEVEL = 0.05
"""Probability that any guardrail of a rollout is ever found harmed, or unharmed, wrongly."""

SPLIT_LEVEL = 0.001
"""Probability that a right split is ever called broken."""

MOST_TRAFFIC = 10**9


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A number that is worse when it is higher, and how much worse the canary may make it.

    Args:
        name: what is observed, such as `errors`.
        margin: the largest harm that is accepted, in units of the number.
        kind: `share` for flags and all values in [0, 1], with an exact bound: errors, answers over
            the latency limit, Brier scores, rows outside of their conformal set. `mean` for
            values without bounds, such as scores, with an asymptotic one.
        expected: about what the champion has: of a `share` its mean, of a `mean` its standard
            deviation. A wrong number costs traffic, never safety.
        either_way: whether lower is a harm as well, as it is for a shift of scores.
        least_traffic: observations that each arm must have before the canary may advance.
        tuned_for: observations per arm at which the bound is narrowest.

    Raises:
        DeclarationError: a negative margin, or an expectation that does not fit the kind.
    """

    name: str
    margin: float
    kind: Literal["share", "mean"] = "share"
    expected: float = 0.05
    either_way: bool = False
    least_traffic: int = 1_000
    tuned_for: int = 10_000

    def __post_init__(self) -> None:
        fits = 0 < self.expected < (1 if self.kind == "share" else inf)
        if not (fits and 0 <= self.margin < inf and self.least_traffic >= 1 <= self.tuned_for):
            raise DeclarationError(
                f"the guardrail {self.name!r} with margin {self.margin}, "
                f"expected {self.kind} {self.expected}, least traffic {self.least_traffic}, "
                f"tuned for {self.tuned_for}",
                expected="a margin from 0, traffic from 1, and an expected share between 0 and 1 "
                "or standard deviation above 0",
                do="correct the guardrail",
            )

    def bounds(self, canary: Sums, control: Sums, alpha: float) -> tuple[float, float]:
        """Bounds of the canary's mean minus the control's that hold at all times."""
        if self.kind == "share":
            return share_difference(canary, control, Prior(self.expected, self.tuned_for), alpha)
        return mean_difference(canary, control, tuned_for=self.tuned_for, alpha=alpha)

    def finding(self, low: float, high: float) -> Finding:
        """What bounds of the difference say about harm."""
        if low > self.margin or (self.either_way and high < -self.margin):
            return "harm"
        if high < self.margin and (not self.either_way or low > -self.margin):
            return "no harm"
        return "open"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one guardrail showed: canary minus control, with bounds that hold at all times.

    `alone` is one that is measured at the truth, and has no control.
    """

    guardrail: str
    finding: Finding
    difference: float
    low: float
    high: float
    margin: float
    canary: Sums
    control: Sums
    alone: bool = False

    @property
    def reason(self) -> str:
        """The reading in words."""
        if not self.canary.n and not self.control.n:
            return f"{self.guardrail}: no data yet, margin {self.margin:g}: {self.finding}"
        if self.alone:
            return (
                f"{self.guardrail}: canary {self.difference:.4g} (n = {self.canary.n:,}), surely "
                f"{self.low:.4g} to {self.high:.4g}, margin {self.margin:g}: {self.finding}"
            )
        return (
            f"{self.guardrail}: canary {self.canary.mean:.4g} (n = {self.canary.n:,}), "
            f"control {self.control.mean:.4g} (n = {self.control.n:,}); difference "
            f"{self.difference:.4g}, surely {self.low:.4g} to {self.high:.4g}, "
            f"margin {self.margin:g}: {self.finding}"
        )


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What to do with a canary, why, and on which numbers.

    `split` is the log evidence against the planned split; above `log(1 / SPLIT_LEVEL)` it decides
    that nothing is decided.
    """

    action: Action
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...]
    split: float


def verdict(
    guardrails: Sequence[Guardrail],
    evidence: Mapping[str, tuple[Sums, Sums]],
    *,
    entities: tuple[int, int],
    shares: tuple[float, float] = (1, 1),
    alpha: float = LEVEL,
) -> CanaryVerdict:
    """Decide on a canary from all that was observed since the rollout started.

    The bounds of all guardrails hold at once with probability 1 - alpha, at every look. A guardrail
    without evidence holds; so does a canary that has nobody to be compared with.

    Args:
        guardrails: at least one, with names of their own.
        evidence: sums of canary and control by guardrail.
        entities: different entities that canary and control served, not their requests.
        shares: planned shares of canary and control, in any unit; the same for all entities.
        alpha: probability that any of the bounds is ever wrong.

    Raises:
        DeclarationError: no guardrails, equal names, or evidence on an unknown guardrail.
        DataError: observations that a guardrail's kind cannot have.
    """
    names = [guardrail.name for guardrail in guardrails]
    if not names or len(set(names)) != len(names):
        raise DeclarationError(
            f"the guardrails {', '.join(names) or 'of nothing'}",
            expected="at least one, each with a name of its own",
            do="declare what the canary must not make worse",
        )
    for name in evidence:
        if name not in names:
            raise UnknownNameError.of("guardrail", name, names)
    readings = tuple(
        _read(guardrail, *evidence.get(guardrail.name, (Sums(), Sums())), alpha / len(names))
        for guardrail in guardrails
    )
    split = split_evidence(entities, shares)
    if split >= -log(SPLIT_LEVEL):
        one, other = (share / sum(shares) for share in shares)
        reason = (
            f"broken split: {entities[0]:,} entities in the canary and {entities[1]:,} in the "
            f"control, planned {one:.1%} and {other:.1%}; nothing can be compared"
        )
        return CanaryVerdict("hold", (reason,), readings, split)
    return CanaryVerdict(*_decide(guardrails, readings), readings, split)


def _decide(
    guardrails: Sequence[Guardrail], readings: Sequence[Reading]
) -> tuple[Action, tuple[str, ...]]:
    harms = [reading.reason for reading in readings if reading.finding == "harm"]
    if harms:
        return "roll back", tuple(harms)
    waiting = []
    for guardrail, reading in zip(guardrails, readings, strict=True):
        seen = min(reading.canary.n, reading.control.n)
        if reading.finding == "open":
            waiting.append(reading.reason)
        elif seen < guardrail.least_traffic:
            least = f"{seen:,} of at least {guardrail.least_traffic:,} observations"
            waiting.append(f"{reading.reason}, but on {least}")
    if waiting:
        return "hold", tuple(waiting)
    return "advance", tuple(reading.reason for reading in readings)


def _read(guardrail: Guardrail, canary: Sums, control: Sums, alpha: float) -> Reading:
    low, high = guardrail.bounds(canary, control, alpha)
    return Reading(
        guardrail=guardrail.name,
        finding=guardrail.finding(low, high),
        difference=canary.mean - control.mean,
        low=low,
        high=high,
        margin=guardrail.margin,
        canary=canary,
        control=control,
    )


def traffic_needed(
    guardrail: Guardrail,
    *,
    harm: float | None = None,
    guardrails: int = 1,
    power: float = 0.8,
    alpha: float = LEVEL,
) -> int | None:
    """Observations per arm by which a harm is found, with some probability, if it is there.

    A harm above the margin is found by then as harm, one below it as no harm.

    Args:
        guardrail: the guardrail, whose `expected` is taken as true of the control.
        harm: the canary's mean minus the control's; twice the margin when not given.
        guardrails: how many are judged together.
        power: the probability.
        alpha: as in `verdict`.

    Returns:
        The number; None when a thousand million would not do.

    Raises:
        DeclarationError: a harm that leaves no share between 0 and 1, or a power outside (0, 1).

    >>> errors = Guardrail("errors", margin=0.01, expected=0.02)
    >>> traffic_needed(errors) < 20_000 < traffic_needed(errors, harm=0.015)
    True
    """
    true = 2 * guardrail.margin if harm is None else harm
    possible = guardrail.kind == "mean" or 0 <= guardrail.expected + true <= 1
    if not (isfinite(true) and possible and 0 < power < 1):
        raise DeclarationError(
            f"a harm of {true} to {guardrail.name}, {guardrail.expected} expected, power {power}",
            expected="a harm that is possible, and a power between 0 and 1",
            do="give another harm or expectation",
        )
    harmful = true > guardrail.margin or (guardrail.either_way and true < -guardrail.margin)
    wanted: Finding = "harm" if harmful else "no harm"
    # Bad luck draws a harm towards none, and no harm towards the nearer margin.
    upwards = true < 0 if harmful else true >= 0 or not guardrail.either_way
    sides = 2 if guardrail.either_way and not harmful else 1
    luck = NormalDist().inv_cdf(1 - (1 - power) / sides) * (1 if upwards else -1)

    def decided(n: int) -> bool:
        sums = _unlucky(guardrail, true, n, luck)
        return guardrail.finding(*guardrail.bounds(*sums, alpha / guardrails)) == wanted

    found = _first(decided)
    if found is None or harmful:
        return found
    return max(found, guardrail.least_traffic)


def _unlucky(guardrail: Guardrail, harm: float, n: int, luck: float) -> tuple[Sums, Sums]:
    """Sums of n observations per arm whose difference is `luck` standard errors above the harm."""
    e = guardrail.expected
    if guardrail.kind == "mean":
        found = harm + luck * sqrt(2 / n) * e
        return Sums(n, n * found, n * (found**2 + e**2)), Sums(n, 0.0, n * e**2)
    raised = e + harm
    errors = raised * (1 - raised), e * (1 - e)
    # Each arm bears the luck in proportion to its variance.
    off = [luck * error / sqrt(n * sum(errors)) for error in errors]
    hits = [n * min(1.0, max(0.0, p)) for p in (raised + off[0], e - off[1])]
    return Sums(n, hits[0], hits[0]), Sums(n, hits[1], hits[1])


def _first(decided: Callable[[int], bool]) -> int | None:
    """The number, to one in a hundred, from which on it is decided."""
    low, high = 1, 2
    while not decided(high):
        low, high = high, high * 2
        if high > MOST_TRAFFIC:
            return None
    while high - low > max(1, high // 100):
        middle = ceil((low + high) / 2)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high
