"""How often rollouts are aborted, advanced and held, through `canary.call` at every look."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.core import live_calibration
from mlops_assets.core.routing import canary_table
from mlops_assets.core.sequential import Sums
from mlops_assets.rollouts.canary import CANARY, CONTROL, CanaryCall
from mlops_assets.serving.evidence import Evidence
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.rollouts import Counted
from mlops_assets_tests.rollouts.canary_world import arms, at_step, flags, labels, said, spec_in

pytestmark = pytest.mark.statistical

Random = np.random.Generator
Counts = dict[Counted, Sums]


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return spec_in(tmp_path)


def grown(random: Random, sizes: list[int], errors: tuple[float, float]) -> Iterator[Counts]:
    """Sums of canary and control after every batch."""
    totals = np.zeros((2, 5))
    for size in sizes:
        for arm in (0, 1):
            wrong = random.binomial(size, errors[arm])
            scores = random.beta(2, 5, size)
            late = random.binomial(size, 0.01)
            totals[arm] += (size, wrong, late, scores.sum(), (scores**2).sum())
        found: Counts = {}
        for arm, row in (("canary", totals[0]), ("control", totals[1])):
            n = int(row[0])
            found[Counted("traffic", arm, "errors", "w")] = Sums(n, row[1], row[1])
            found[Counted("traffic", arm, "slow", "w")] = Sums(n, row[2], row[2])
            found[Counted("traffic", arm, "score", "w")] = Sums(n, row[3], row[4])
            found[Counted("traffic", arm, "entities", "w")] = Sums(n)
        yield found


def test_of_canaries_like_their_control_few_are_ever_aborted(spec: ModelSpec) -> None:
    random, aborted = np.random.default_rng(1), 0
    sizes = [50, 200, 1_000, 5_000, 25_000]
    for _ in range(1_000):
        looks = grown(random, sizes, (0.005, 0.005))
        aborted += any(said(spec, at_step(0), sums).move == "abort" for sums in looks)
    print(f"\naborted of 1,000 alike: {aborted}")
    assert aborted <= 50


def minutes_to_abort(spec: ModelSpec, random: Random, step: float = 0.5) -> float | None:
    """Minutes at 5% of 200 requests a second, looked at twice a minute."""
    sizes = [int(600 * step)] * int(20 / step)
    for at, sums in enumerate(grown(random, sizes, (0.015, 0.005)), start=1):
        if said(spec, at_step(0), sums, minutes=at * step).move == "abort":
            return at * step
    return None


def test_a_canary_with_a_point_more_errors_is_aborted_within_ten_minutes(spec: ModelSpec) -> None:
    random = np.random.default_rng(2)
    found = [minutes_to_abort(spec, random) for _ in range(200)]
    times = np.array([20.5 if one is None else one for one in found])
    shown = np.percentile(times, [5, 25, 50, 75, 95]).tolist()
    print(f"\nminutes to abort, 5% to 95%: {shown}; within ten: {(times <= 10).mean():.0%}")
    assert np.median(times) <= 5
    assert (times <= 10).mean() >= 0.98


# True probabilities of a model that is honest, and what another says instead of each.
def honest(random: Random, n: int) -> np.ndarray:
    return random.beta(1.2, 2.4, n)


def too_high(truth: np.ndarray) -> np.ndarray:
    return np.minimum(truth + 0.05, 1.0)


def over_confident(truth: np.ndarray) -> np.ndarray:
    odds = np.log(truth / (1 - truth)) * 1.385
    return 1 / (1 + np.exp(-odds))


def after_labels(random: Random, sizes: list[int], distort: object) -> Iterator[Counts]:
    bins: dict[int, Sums] = {}
    n = 0
    for size in sizes:
        truth = honest(random, size)
        happened = (random.random(size) < truth).astype(int)
        scores = distort(truth) if callable(distort) else truth
        for number, sums in live_calibration.sums_of(scores.tolist(), happened.tolist()).items():
            bins[number] = bins.get(number, Sums()) + sums
        n += size
        found = {Counted("traffic", "canary", f"calibration.{b}", "l"): s for b, s in bins.items()}
        alike = {key: sums for key, sums in labels(n).items() if "calibration" not in key.number}
        yield {**arms(40_000), **alike, **found}


SIZES = [1_000, 1_500, 2_500, 5_000, 10_000, 20_000]


@pytest.mark.parametrize("distort", [too_high, over_confident])
def test_a_canary_that_is_off_by_the_limit_never_gets_all_traffic(
    spec: ModelSpec, distort: object
) -> None:
    random, calls = np.random.default_rng(3), list[CanaryCall]()
    truth = honest(random, 1_000_000)
    assert callable(distort)
    assert np.mean(np.abs(distort(truth) - truth)) == pytest.approx(0.05, abs=0.002)
    for _ in range(100):
        looks = after_labels(random, SIZES, distort)
        calls += [said(spec, at_step(2), sums) for sums in looks]
    moves = [one.move for one in calls]
    print(f"\n{distort.__name__}: {sorted((move, moves.count(move)) for move in set(moves))}")
    assert "advance" not in moves


def test_a_calibrated_canary_gets_all_traffic_after_some_thousand_labels(spec: ModelSpec) -> None:
    random, advanced = np.random.default_rng(4), np.zeros(len(SIZES), dtype=int)
    for _ in range(100):
        moves = [said(spec, at_step(2), sums).move for sums in after_labels(random, SIZES, None)]
        assert "abort" not in moves
        advanced += [move == "advance" for move in moves]
    print(f"\nadvanced of 100 after {np.cumsum(SIZES).tolist()} labels: {advanced.tolist()}")
    assert advanced[3] >= 90


def test_the_bounds_of_the_calibration_error_hold_at_every_look() -> None:
    random, wrong = np.random.default_rng(5), 0
    for _ in range(1_000):
        bins: dict[int, Sums] = {}
        expected, missed, n = np.zeros(12), False, 0
        for size in (200, 400, 800, 1_600, 3_200):
            truth = honest(random, size)
            scores = over_confident(truth)
            happened = (random.random(size) < truth).astype(int)
            of_bin = np.searchsorted(live_calibration.EDGES, scores, side="right")
            expected += np.bincount(of_bin, scores - truth, minlength=12)
            n += size
            found = live_calibration.sums_of(scores.tolist(), happened.tolist())
            for number, sums in found.items():
                bins[number] = bins.get(number, Sums()) + sums
            _, low, high = live_calibration.calibration_bounds(bins, 0.05)
            missed |= not low <= np.abs(expected).sum() / n <= high
        wrong += missed
    print(f"\nbounds of 1,000 that were ever wrong: {wrong}")
    assert wrong <= 50


def entities_of(random: Random) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often 400 entities ask, how often each of them is refused, and what each scores."""
    asks = random.zipf(1.6, 400).clip(max=2_000).astype(float)
    refused = np.where(random.random(400) < 0.02, 0.9, 0.001)
    return asks / asks.sum(), refused, random.beta(2, 5, 400)


def rollouts_of_few(
    spec: ModelSpec, random: Random, runs: int, *, by_entity: bool
) -> Iterator[bool]:
    """Whether canaries like their control are aborted, with two workers and few entities."""
    table = canary_table("r", "", 5_000, canary="2", champion="1")
    for _ in range(runs):
        workers, aborted = (Evidence(), Evidence()), False
        share, refused, scores = entities_of(random)
        arm = random.integers(0, 2, 400)
        for _ in range(5):
            for one in random.choice(400, 600, p=share).tolist():
                worker, name = workers[random.integers(2)], (CANARY, CONTROL)[arm[one]]
                entity = f"e{one}" if by_entity else ""
                if random.random() < refused[one]:
                    worker.refused(table, name, [entity])
                else:
                    worker.answered(table, name, [float(scores[one])], [entity], False)
            sums = {
                Counted(*key, f"w{at}"): one
                for at, worker in enumerate(workers)
                for key, one in worker.totals("r").items()
            }
            if not by_entity:  # entities in these numbers: the split is not what is looked at
                sums |= {
                    Counted("traffic", name, "entities", "w0"): flags(200, 1)
                    for name in (CANARY, CONTROL)
                }
            aborted |= said(spec, at_step(2), sums).move == "abort"
        yield aborted


def test_entities_that_ask_often_raise_no_alarm(spec: ModelSpec) -> None:
    aborted = sum(rollouts_of_few(spec, np.random.default_rng(6), 200, by_entity=True))
    print(f"\naborted of 200 with few entities: {aborted}")
    assert aborted <= 10
    # Counted by request the same traffic would raise many: the test can tell.
    naive = sum(rollouts_of_few(spec, np.random.default_rng(6), 30, by_entity=False))
    print(f"aborted of 30, counted by request: {naive}")
    assert naive >= 3
