"""Experiments that are looked at after every batch: how often they are wrong, and how soon right.

Arms are identical unless a test says otherwise; revenue has a heavy tail, and entities come back.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from mlops_assets.core.experiment_analysis import (
    Aim,
    Brought,
    Observed,
    analyse,
    needed,
)
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import Sums, mean_difference
from mlops_assets_tests.statistical.test_gate_levels import _at_least, _at_most

pytestmark = pytest.mark.statistical

RUNS, LOOKS = 1_000, 40
NOW = (datetime(2024, 3, 1, tzinfo=UTC),)
DECIDED = {"better", "worse"}
REVENUE = Aim("revenue", "higher")
Look = dict[str, Brought]


def arms_of(*shares: int) -> list[Arm]:
    return [Arm(f"arm{i}", "1", share) for i, share in enumerate(shares)]


def drawn(rng: np.random.Generator, shape: tuple[int, ...], shares: tuple[int, ...]) -> np.ndarray:
    edges = np.cumsum(shares) / sum(shares)
    return np.minimum(np.searchsorted(edges, rng.random(shape), "right"), len(shares) - 1)


def once(values: np.ndarray, arm: np.ndarray, k: int) -> Iterator[Look]:
    """Looks at entities that come once; values and arms of shape (looks, batch)."""
    sums = [Sums() for _ in range(k)]
    for value, of in zip(values, arm, strict=True):
        sums = [one + Sums.of(value[of == i]) for i, one in enumerate(sums)]
        yield {f"arm{i}": Brought(one, one.n) for i, one in enumerate(sums)}


def again(
    rng: np.random.Generator, entities: int, *, mean: bool = False, spread: float = 1.0
) -> Iterator[Look]:
    """Looks at entities that come back again and again, and some of which spend more."""
    arm, spends = rng.random(entities) < 0.5, rng.gamma(1 / spread, spread, entities)
    total, rows = np.zeros(entities), np.zeros(entities, dtype=int)
    for _ in range(LOOKS):
        came = rng.poisson(1, entities)
        total += np.where(came > 0, rng.gamma(0.3 * np.maximum(came, 1)) / 0.3, 0) * spends
        rows += came
        brings = total / np.maximum(rows, 1) if mean else total
        yield {
            f"arm{i}": Brought(Sums.of(brings[chosen]), int(rows[chosen].sum()))
            for i, chosen in enumerate(((rows > 0) & ~arm, (rows > 0) & arm))
        }


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.lognormal(0, 2, shape)


def few_buy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.lognormal(0, 1.5, shape) * (rng.random(shape) < 0.05)


def revenue(
    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], *shares: int
) -> Callable[[np.random.Generator], Iterator[Look]]:
    def looks(rng: np.random.Generator) -> Iterator[Look]:
        shape = LOOKS, 150
        return once(draw(rng, shape), drawn(rng, shape, shares), len(shares))

    return looks


WORLDS: dict[str, tuple[tuple[int, ...], Callable[[np.random.Generator], Iterator[Look]]]] = {
    "heavy tail": ((5_000, 5_000), revenue(lognormal, 5_000, 5_000)),
    "heavy tail in a small arm": ((9_000, 1_000), revenue(lognormal, 9_000, 1_000)),
    "few buy, in a small arm": ((9_500, 500), revenue(few_buy, 9_500, 500)),
    "entities come back": ((5_000, 5_000), lambda rng: again(rng, 400)),
    "equal entities come back": ((5_000, 5_000), lambda rng: again(rng, 400, spread=1e-3)),
    "mean of entities that come back": ((5_000, 5_000), lambda rng: again(rng, 400, mean=True)),
}


def declared(arms: list[Arm], looks: Iterator[Look]) -> set[str]:
    """All verdicts of an experiment that is looked at after every batch."""
    words = set()
    for look in looks:
        found = analyse(arms, [REVENUE], Observed(looks=NOW, metrics={"revenue": [look]}))
        words |= {one.word for one in found.comparisons}
        if words & DECIDED:
            break
    return words


@pytest.mark.parametrize("world", WORLDS)
def test_identical_arms_are_declared_different_in_5_percent_at_most(world: str) -> None:
    shares, looks = WORLDS[world]
    rng, arms = np.random.default_rng([1, *world.encode()]), arms_of(*shares)
    wrong = sum(bool(declared(arms, looks(rng)) & DECIDED) for _ in range(RUNS))
    print(f"{world}: {wrong} of {RUNS}")
    assert wrong <= 0.05 * RUNS


def test_without_the_spread_of_both_arms_a_small_arm_is_called_worse_too_often() -> None:
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(300):
        for look in WORLDS["few buy, in a small arm"][1](rng):
            low, high = mean_difference(look["arm1"].sums, look["arm0"].sums)
            if low > 0 or high < 0:
                wrong += 1
                break
    assert wrong > 0.1 * 300


def test_all_arms_metrics_and_slices_together_are_wrong_in_5_percent_at_most() -> None:
    rng, wrong, runs = np.random.default_rng(3), 0, 300
    arms, aims = arms_of(4_000, 3_000, 3_000), [REVENUE, Aim("minutes", "lower")]
    for _ in range(runs):
        of = drawn(rng, (10, 900), (4, 3, 3))
        values = [rng.exponential(1, of.shape), rng.normal(size=of.shape)]
        level = rng.integers(0, 5, of.shape)
        looks = [list(once(value, of, 3)) for value in values]
        levels = [
            [list(once(value, np.where(level == i, of, 9), 3)) for i in range(5)]
            for value in values
        ]
        for at in range(10):
            observed = Observed(
                looks=NOW,
                metrics={aim.name: [looks[m][at]] for m, aim in enumerate(aims)},
                slices={
                    (aim.name, "shop", f"{i}"): levels[m][i][at]
                    for m, aim in enumerate(aims)
                    for i in range(5)
                },
            )
            found = analyse(arms, aims, observed, slices=1)
            if DECIDED & {one.word for one in (*found.comparisons, *found.slices)}:
                wrong += 1
                break
    assert wrong <= 0.05 * runs


@pytest.mark.parametrize("shares", [(5_000, 5_000), (8_000, 2_000)])
def test_an_effect_is_found_within_the_traffic_that_is_told(shares: tuple[int, int]) -> None:
    rng, runs, found = np.random.default_rng([4, *shares]), 100, 0
    entities = needed(0.1, 1.0, shares)
    assert entities is not None
    for _ in range(runs):
        shape = 10, entities // 10
        of = drawn(rng, shape, shares)
        words = declared(arms_of(*shares), once(rng.exponential(1, shape) + 0.1 * of, of, 2))
        found += "better" in words
    assert _at_least(found, 0.80, runs)


def test_a_difference_that_matters_is_seldom_said_not_to_be_there() -> None:
    rng, runs, wrong, aim = np.random.default_rng(5), 200, 0, Aim("revenue", "higher", least=0.05)
    for _ in range(runs):
        of = drawn(rng, (20, 2_000), (1, 1))
        for look in once(rng.exponential(1, of.shape) + 0.05 * of, of, 2):
            found = analyse(
                arms_of(5_000, 5_000), [aim], Observed(looks=NOW, metrics={"revenue": [look]})
            )
            if found.comparisons[0].word == "no difference":
                wrong += 1
                break
    assert _at_most(wrong, 0.05, runs)
