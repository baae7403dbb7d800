"""Rollouts for tests of `canary.call`: sums as the workers write them, and times."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_assets.core.rollout import Rollout
from mlops_assets.core.sequential import Sums
from mlops_assets.rollouts.canary import CanaryCall, call
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.rollouts import Counted
from mlops_assets_tests.shop_world import returns

START = datetime(2024, 3, 1, 12, tzinfo=UTC)
Counts = Mapping[Counted, Sums]


def spec_in(folder: Path, **policy: Any) -> ModelSpec:
    folder.mkdir(exist_ok=True)
    return returns(folder, rollout=RolloutPolicy(**policy))


def at_step(step: int | None, steps: tuple[float, ...] = (5, 25, 50, 100)) -> Rollout:
    """A rollout in shadow, or at a step of its canary."""
    return Rollout("r", "2", "r", steps, "shadow" if step is None else "canary", step)


def flags(n: int, share: float) -> Sums:
    return Sums(n, n * share, n * share)


def spread(n: int, mean: float, sd: float = 0.2) -> Sums:
    return Sums(n, n * mean, n * (mean**2 + sd**2))


def arms(
    n: int,
    *,
    stage: str = "traffic",
    other: str = "control",
    source: str = "w1",
    entities: tuple[int, int] | None = None,
    **harm: float,
) -> dict[Counted, Sums]:
    """Sums of n rows of canary and control each, equal but for the harm by number."""
    found: dict[Counted, Sums] = {}
    own = "shadow" if stage == "shadow" else "canary"
    for arm, extra in ((own, harm), (other, dict[str, float]())):
        found[Counted(stage, arm, "errors", source)] = flags(n, 0.005 + extra.get("errors", 0))
        found[Counted(stage, arm, "score", source)] = spread(n, 0.5 + extra.get("score", 0))
        if stage == "traffic":
            found[Counted(stage, arm, "slow", source)] = flags(n, 0.01 + extra.get("slow", 0))
    if stage == "traffic":
        seen = entities or (n, n)
        for arm, number in (("canary", seen[0]), ("control", seen[1])):
            found[Counted(stage, arm, "entities", source)] = Sums(number)
    return found


def labels(n: int, *, calibration: float = 0.0, **harm: float) -> dict[Counted, Sums]:
    """Sums of n rows with labels of each arm; the canary's scores are too high by `calibration`."""
    found: dict[Counted, Sums] = {}
    for arm, extra in (("canary", harm), ("control", dict[str, float]())):
        outside, brier = 0.1 + extra.get("outside", 0), 0.15 + extra.get("brier", 0)
        found[Counted("traffic", arm, "outside", "labels")] = flags(n, outside)
        found[Counted("traffic", arm, "brier", "labels")] = spread(n, brier, 0.15)
    for number in range(12):
        gaps = Sums(n // 12, n // 12 * calibration, n // 12 * 0.16)
        found[Counted("traffic", "canary", f"calibration.{number}", "labels")] = gaps
    return found


def said(spec: ModelSpec, rollout: Rollout, *sums: Counts, minutes: float = 60) -> CanaryCall:
    together: dict[Counted, Sums] = {}
    for one in sums:
        together.update(one)
    now = START + timedelta(minutes=minutes)
    return call(spec, rollout, together, entered=START, now=now)
