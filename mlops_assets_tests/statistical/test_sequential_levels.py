"""Canaries under constant watch: how often they are judged wrongly, and how soon rightly."""

from collections.abc import Callable
from math import log

import numpy as np
import pytest

from mlops_assets.core.guardrails import SPLIT_LEVEL, Action, Guardrail, traffic_needed, verdict
from mlops_assets.core.sequential import (
    Prior,
    Sums,
    more_evidence,
    share_difference,
    split_evidence,
)
from mlops_assets_tests.statistical.test_gate_levels import _at_least, _at_most

pytestmark = pytest.mark.statistical

LOOKS = 100
Draw = Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]


def _flags(rng: np.random.Generator, shape: tuple[int, int], harm: float) -> np.ndarray:
    return rng.random(shape) < 0.05 + harm


def _brier(rng: np.random.Generator, shape: tuple[int, int], harm: float) -> np.ndarray:
    # Squared errors of a calibrated model, some of which fail wholly in a harmful one.
    p = rng.beta(1, 3, shape)
    loss = ((rng.random(shape) < p) - p) ** 2
    return np.where(rng.random(shape) < harm / (1 - 0.15), 1.0, loss)


def _skewed(rng: np.random.Generator, shape: tuple[int, int], harm: float) -> np.ndarray:
    return rng.exponential(1.0, shape) + harm


def _nightly(rng: np.random.Generator, shape: tuple[int, int], harm: float) -> np.ndarray:
    # The rate has a rhythm of four periods that both arms share.
    rhythm = 0.04 * np.sin(np.linspace(0, 8 * np.pi, shape[0]))[:, None]
    return rng.random(shape) < 0.05 + harm + rhythm


WORLDS: dict[str, tuple[Draw, Guardrail]] = {
    "flags": (_flags, Guardrail("flags", 0.0, expected=0.05)),
    "brier": (_brier, Guardrail("brier", 0.0, expected=0.15)),
    "nightly": (_nightly, Guardrail("nightly", 0.0, expected=0.05)),
    "skewed": (_skewed, Guardrail("skewed", 0.0, "mean", expected=1.0)),
    "shifted": (_skewed, Guardrail("shifted", 0.0, "mean", expected=1.0, either_way=True)),
}


def _looks(values: np.ndarray) -> list[Sums]:
    """Sums up to each look, of values of shape (looks, batch)."""
    totals, squares = values.sum(1).cumsum(), (values.astype(float) ** 2).sum(1).cumsum()
    sizes = np.arange(1, len(values) + 1) * values.shape[1]
    return [
        Sums(int(n), float(t), float(q)) for n, t, q in zip(sizes, totals, squares, strict=True)
    ]


def _first_action(guardrail: Guardrail, canary: np.ndarray, control: np.ndarray) -> Action:
    """The first verdict that is no hold; every look is taken until then."""
    for sums in zip(_looks(canary), _looks(control), strict=True):
        found = verdict([guardrail], {guardrail.name: sums}, entities=(0, 0))
        if found.action != "hold":
            return found.action
    return "hold"


def _worse_by_peeking(canary: np.ndarray, control: np.ndarray, looks: int) -> float:
    """How often a t-test at 5% finds the canary worse at some of its looks; shape (runs, k, n)."""
    from scipy.stats import ttest_ind

    ever = np.zeros(len(canary), dtype=bool)
    for end in np.linspace(0, canary.shape[1], looks + 1).astype(int)[1:]:
        arms = (arm[:, :end].reshape(len(arm), -1).astype(float) for arm in (canary, control))
        ever |= ttest_ind(*arms, axis=1, alternative="greater").pvalue < 0.05
    return float(ever.mean())


@pytest.mark.parametrize("world", WORLDS)
def test_equal_arms_are_seldom_rolled_back_at_100_looks_but_often_by_a_test_at_20(
    world: str,
) -> None:
    draw, guardrail = WORLDS[world]
    rng, runs = np.random.default_rng([1, *world.encode()]), 150
    canary, control = (
        np.stack([draw(rng, (LOOKS, 50), 0.0) for _ in range(3 * runs)]) for _ in range(2)
    )
    pairs = zip(canary[:runs], control[:runs], strict=True)
    rolled_back = sum(_first_action(guardrail, *pair) == "roll back" for pair in pairs)
    assert rolled_back <= 0.05 * runs
    assert _worse_by_peeking(canary, control, 20) > 0.15


@pytest.mark.parametrize("world", ["flags", "brier", "skewed"])
def test_a_harm_at_the_margin_is_seldom_taken_for_more_or_less(world: str) -> None:
    draw, base = WORLDS[world]
    guardrail = Guardrail(world, 0.05, base.kind, expected=base.expected, least_traffic=1)
    rng, runs, wrong = np.random.default_rng([2, *world.encode()]), 100, 0
    for _ in range(runs):
        canary, control = draw(rng, (LOOKS, 50), 0.05), draw(rng, (LOOKS, 50), 0.0)
        wrong += _first_action(guardrail, canary, control) != "hold"
    assert _at_most(wrong, 0.05, runs)


@pytest.mark.parametrize("world", ["flags", "brier", "skewed"])
@pytest.mark.parametrize(("times", "action"), [(2.0, "roll back"), (0.0, "advance")])
def test_harm_of_twice_the_margin_and_none_are_found_within_the_traffic_that_is_told(
    world: str, times: float, action: Action
) -> None:
    draw, base = WORLDS[world]
    margin = 0.1 if world == "skewed" else 0.02
    guardrail = Guardrail(world, margin, base.kind, expected=base.expected)
    needed = traffic_needed(guardrail, harm=times * margin)
    assert needed is not None
    rng, runs, found = np.random.default_rng([3, *world.encode()]), 80, 0
    for _ in range(runs):
        canary = draw(rng, (10, needed // 10), times * margin)
        found += _first_action(guardrail, canary, draw(rng, (10, needed // 10), 0.0)) == action
    assert _at_least(found, 0.80, runs)


@pytest.mark.parametrize("p", [0.01, 0.3])
def test_the_bounds_of_a_share_hold_at_all_looks_at_once(p: float) -> None:
    rng, runs, held = np.random.default_rng([4, round(100 * p)]), 200, 0
    for _ in range(runs):
        looks = _looks(rng.random((50, 40)) < p)
        # Of a control that is not there the mean may be anything.
        bounds = [share_difference(sums, Sums(), Prior(0.05)) for sums in looks]
        held += all(low + 1 <= p <= high for low, high in bounds)
    assert held >= 0.95 * runs


def test_a_right_split_is_almost_never_called_broken_and_a_wrong_one_is_found() -> None:
    rng, runs, limit = np.random.default_rng(5), 400, -log(SPLIT_LEVEL)

    def broken(share: float) -> int:
        counts = (rng.random((runs, LOOKS, 500)) < share).sum(2).cumsum(1)
        ends = 500 * np.arange(1, LOOKS + 1)
        return sum(
            any(split_evidence([c, n - c], [1, 1]) > limit for c, n in zip(row, ends, strict=True))
            for row in counts.tolist()
        )

    assert broken(0.5) <= 0.005 * runs
    assert broken(0.515) >= 0.95 * runs


@pytest.mark.parametrize("values", ["flags", "shares"])
def test_evidence_on_more_errors_seldom_grows_on_equal_arms_at_any_look(values: str) -> None:
    rng, runs, alpha = np.random.default_rng(31), 4_000, 0.05
    ever = 0
    for _ in range(runs):
        drawn = rng.random(400) < 0.5
        sizes = np.ones(400) if values == "flags" else rng.beta(0.5, 0.5, 400)
        canary, control = (np.cumsum(sizes * arm)[19::20] for arm in (drawn, ~drawn))
        looks = zip(canary, control, strict=True)
        ever += any(
            more_evidence(Sums(10**4, one, one), Sums(10**4, other, other)) > -log(alpha)
            for one, other in looks
        )
    print(f"\n{values}: {ever / runs:.2%} of {runs:,} at 20 looks")
    assert ever > 0
    assert _at_most(ever, alpha, runs)
