"""What an experiment says: each arm against the first, with bounds that hold at every look.

The unit is what was drawn for an arm, an entity: what it brought is summed (or averaged) first, so
that an entity that comes often is one observation. All comparisons together, slices included, are
ever wrong with probability 5% at most, however often one looks. That rests on three measures:

- what entities brought grows while they come back, so the bound's clock is the number of values,
  not that of entities: with a fixed number of entities it goes on as well;
- a small arm that has not met a large value yet must not believe in its small spread: no arm is
  taken to vary less than both together;
- shares of the entities, and of those whose values are known, are tested against the plan first:
  a split that is broken decides nothing.

How values are collected is the matter of `mlops_assets.experiments.data`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf, isfinite, log
from typing import Literal

from mlops_assets.core.guardrails import LEVEL, SPLIT_LEVEL, Guardrail, traffic_needed
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import FEWEST, Sums, mean_difference, split_evidence
from mlops_assets.errors import DeclarationError

Word = Literal["better", "worse", "no difference", "open", "no data", "broken split"]

SLICES_PART = 0.2
"""Part of the level that slices get, where there are any."""

MOST_LEVELS = 20
"""Levels of a slice that are judged, in the order in which they were first seen."""

TUNED_FOR = 10_000
"""Values per arm at which bounds are narrowest."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A metric as it is judged; see `spec.Metric`."""

    name: str
    better: Literal["higher", "lower"]
    unit: str = ""
    per_entity: Literal["total", "mean"] = "total"
    least: float | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """What the entities of an arm brought of a metric.

    Args:
        sums: over the entities of which a value is known.
        values: how many values were added up in all.
    """

    sums: Sums = field(default_factory=Sums)
    values: int = 0


ByArm = Mapping[str, Brought]


@dataclass(frozen=True, slots=True)
class Observed:
    """All that was seen of an experiment.

    Args:
        entities: entities by arm that were served, whether or not a value is known of them.
        predictions: predictions by arm.
        crossed: entities that were served in several arms; they are left out everywhere.
        looks: moments, oldest first; the last one is now.
        metrics: by metric, what was known at each look.
        slices: by metric, slice and level, what is known now; levels in order of appearance.
        unjudged: levels beyond those that are judged, by slice.
    """

    entities: Mapping[str, int] = field(default_factory=dict)
    predictions: Mapping[str, int] = field(default_factory=dict)
    crossed: int = 0
    looks: tuple[datetime, ...] = ()
    metrics: Mapping[str, Sequence[ByArm]] = field(default_factory=dict)
    slices: Mapping[tuple[str, str, str], ByArm] = field(default_factory=dict)
    unjudged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the first in one metric: for all entities, or in one level of a slice.

    Args:
        metric: its name.
        unit: its unit.
        arm: the arm.
        against: the first arm.
        slice: name of the slice; empty for all.
        level: its level.
        word: the verdict.
        difference: mean per entity, arm minus the first.
        low: lower bound of the difference, at every look.
        high: upper bound.
        theirs: what the arm brought.
        first: what the first arm brought.
        why: what lacks, or which difference is excluded.
    """

    metric: str
    unit: str
    arm: str
    against: str
    slice: str
    level: str
    word: Word
    difference: float
    low: float
    high: float
    theirs: Brought
    first: Brought
    why: str = ""

    @property
    def said(self) -> str:
        """The verdict in words."""
        return (
            f"no difference larger than {self.why}" if self.word == "no difference" else self.word
        )


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an experiment says now.

    Args:
        split: log evidence that entities do not fall into the arms as planned.
        broken: whether it is so strong that nothing is decided.
        comparisons: one by metric and arm, the first arm left out.
        slices: the same by level of each slice.
        history: at each look, of each metric and arm, the difference and its bounds.
    """

    split: float
    broken: bool
    comparisons: tuple[Comparison, ...]
    slices: tuple[Comparison, ...] = ()
    history: Mapping[tuple[str, str], tuple[tuple[datetime, float, float, float], ...]] = field(
        default_factory=dict
    )


def analyse(
    arms: Sequence[Arm], aims: Sequence[Aim], observed: Observed, *, slices: int = 0
) -> Analysis:
    """Judge an experiment.

    Args:
        arms: the arms with their shares; the others are compared with the first.
        aims: the metrics.
        observed: what was seen.
        slices: slices that are looked at, whether or not they have levels yet: each has its part of
            the level from the start.
    """
    shares = [arm.share for arm in arms]
    split = split_evidence([observed.entities.get(arm.name, 0) for arm in arms], shares)
    broken = split > -log(SPLIT_LEVEL)
    slices = max(slices, len({name for _, name, _ in observed.slices}))
    whole, part = alphas(len(arms), len(aims), slices)
    comparisons, sliced, history = [], [], {}
    for aim in aims:
        looks = observed.metrics.get(aim.name, ())
        now = looks[-1] if looks else {}
        known = [now.get(arm.name, Brought()).sums.n for arm in arms]
        stops = _stops(broken, split, split_evidence(known, shares))
        for arm in arms[1:]:
            pair = aim, arm.name, arms[0].name
            comparisons.append(compare(*pair, now, alpha=whole, stops=stops))
            history[aim.name, arm.name] = tuple(
                (
                    at,
                    *bounds(
                        look.get(arm.name, Brought()), look.get(arms[0].name, Brought()), whole
                    ),
                )
                for at, look in zip(observed.looks, looks, strict=True)
            )
            sliced += [
                compare(*pair, found, alpha=part, stops=stops, level=(name, level))
                for (metric, name, level), found in observed.slices.items()
                if metric == aim.name
            ]
    return Analysis(split, broken, tuple(comparisons), tuple(sliced), history)


def alphas(arms: int, metrics: int, slices: int) -> tuple[float, float]:
    """The level of each comparison of all entities, and of each one within a slice (Bonferroni).

    >>> alphas(2, 1, 0)[0], round(alphas(3, 2, 1)[0], 4)
    (0.05, 0.01)
    """
    pairs = max(1, (arms - 1) * metrics)
    if not slices:
        return LEVEL / pairs, 0.0
    return (
        LEVEL * (1 - SLICES_PART) / pairs,
        LEVEL * SLICES_PART / (pairs * slices * MOST_LEVELS),
    )


def bounds(theirs: Brought, first: Brought, alpha: float) -> tuple[float, float, float]:
    """The difference of two arms and bounds of it that hold at all times.

    Args:
        theirs: what an arm brought.
        first: what the first arm brought.
        alpha: probability that the bounds are ever wrong.

    >>> few = Brought(Sums(50, 50.0, 90.0), 50)
    >>> bounds(few, few, 0.05)
    (0.0, -inf, inf)
    """
    one, other = theirs.sums, first.sums
    difference = one.mean - other.mean
    entities, values = one.n + other.n, theirs.values + first.values
    if min(one.n, other.n) < FEWEST or values < entities:
        return difference, -inf, inf
    spread = (one + other).variance
    tuned = max(1, round(TUNED_FOR * entities / values))
    low, high = mean_difference(
        _at_least(one, spread), _at_least(other, spread), tuned_for=tuned, alpha=alpha
    )
    return difference, low, high


def compare(
    aim: Aim,
    arm: str,
    against: str,
    found: ByArm,
    *,
    alpha: float,
    stops: tuple[Word, str] | None = None,
    level: tuple[str, str] = ("", ""),
) -> Comparison:
    """Judge an arm against the first in one metric.

    Args:
        aim: the metric.
        arm: the arm.
        against: the first arm.
        found: what the arms brought.
        alpha: as in `bounds`.
        stops: a verdict that stands whatever the values are, and why.
        level: slice and level, where it is about one.
    """
    theirs, first = found.get(arm, Brought()), found.get(against, Brought())
    difference, low, high = bounds(theirs, first, alpha)
    word, why = _judged(aim, low, high)
    if stops:
        word, why = stops
    empty = [name for name, one in ((against, first), (arm, theirs)) if not one.sums.n]
    if empty:
        word, why = "no data", f"no value of {aim.name} is known in {' and '.join(empty)}"
    elif word == "open" and min(theirs.sums.n, first.sums.n) < FEWEST:
        why = f"fewer than {FEWEST} entities in an arm"
    return Comparison(
        aim.name, aim.unit, arm, against, *level, word, difference, low, high, theirs, first, why
    )


def needed(
    effect: float,
    spread: float,
    shares: Sequence[int],
    *,
    values: float = 1.0,
    metrics: int = 1,
    slices: int = 0,
    power: float = 0.8,
) -> int | None:
    """Entities of all arms together by which an effect is found, with some probability.

    Args:
        effect: difference of the means per entity.
        spread: standard deviation over entities.
        shares: shares of the arms; the smallest of the others is compared with the first.
        values: values per entity.
        metrics: how many are judged together.
        slices: how many slices are judged as well.
        power: the probability.

    Returns:
        The number; None when a thousand million per arm would not do.

    Raises:
        DeclarationError: no effect, no spread, or fewer than two arms with a share.

    >>> needed(0.1, 1.0, (5_000, 5_000)) < needed(0.1, 1.0, (9_000, 1_000))
    True
    """
    fits = effect and isfinite(effect) and 0 < spread < inf and values >= 1
    if not fits or len(shares) < 2 or min(shares) <= 0:
        raise DeclarationError(
            f"an effect of {effect:g} where entities differ by {spread:g}, arms {list(shares)}",
            expected="an effect other than 0, values that differ, and two arms or more",
            do="give the smallest difference that matters",
        )
    alpha, _ = alphas(len(shares), metrics, slices)
    rail = Guardrail(
        "effect",
        0.0,
        kind="mean",
        expected=spread,
        least_traffic=1,
        tuned_for=max(1, round(TUNED_FOR / values)),
    )
    n = traffic_needed(rail, harm=abs(effect), power=power, alpha=alpha)
    if n is None:
        return None
    parts = [share / sum(shares) for share in shares]
    least = min(parts[1:])
    # Two arms of n each are as sharp as these two of the whole.
    together = n / 2 * (1 / parts[0] + 1 / least)
    return round(max(together, FEWEST / min(parts[0], least)))


def _judged(aim: Aim, low: float, high: float) -> tuple[Word, str]:
    if low > 0 or high < 0:
        return ("better" if (low > 0) is (aim.better == "higher") else "worse"), ""
    reach = max(-low, high)
    if aim.least is not None and reach <= aim.least:
        return "no difference", f"{reach:.4g} {aim.unit}".strip()
    return "open", ""


def _stops(broken: bool, split: float, known: float) -> tuple[Word, str] | None:
    limit = -log(SPLIT_LEVEL)
    if broken:
        told = f"entities do not fall into the arms as planned (evidence {split:.1f})"
        return "broken split", f"{told}: find out why before anything is compared"
    if known > limit:
        told = f"values are known of other shares of the arms than planned (evidence {known:.1f})"
        return "broken split", f"{told}: send them for every entity, 0 where there was nothing"
    return None


def _at_least(sums: Sums, variance: float) -> Sums:
    """The sums with no smaller variance than this."""
    if sums.variance >= variance:
        return sums
    return Sums(sums.n, sums.total, sums.total * sums.mean + variance * (sums.n - 1))
