"""Logs of a made-up shop with two arms, for tests of what experiments bring."""

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlops_assets.core.experiment import Experiment
from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import Arm
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import Metric, ModelSpec
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.outcomes_log import OUTCOMES, Outcome, OutcomesLog
from mlops_assets.stores.rollouts import Kept
from mlops_assets_tests.shop_world import returns

START = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
NOW = START + dt.timedelta(days=10)
REVENUE = Metric(name="revenue", better="higher", unit="euros", least=0.5)
MINUTES = Metric(name="minutes", better="lower", per_entity="mean")
ARMS = (Arm("old", "1", 5_000), Arm("new", "2", 5_000))


def spec_in(folder: Path, **change: Any) -> ModelSpec:
    return returns(folder, **{"metrics": (REVENUE, MINUTES), **change})


def platform_in(folder: Path, **change: Any) -> Platform:
    return Platform(Settings(home=folder / "home", **{"now": NOW, **change}))


def at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def served(name: str, shop: str, arm: str, hours: float = 1, **change: Any) -> Prediction:
    return Prediction(
        **{
            "id": name,
            "time": at(hours),
            "model": "returns",
            "version": {"old": "1", "new": "2"}.get(arm, "1"),
            "arm": arm,
            "entity": {"shop": shop, "item": "tea"} if shop else {},
            "features": {"amount_last": 1.0},
            "event_times": {},
            "statuses": {},
            "outputs": {"probability": 0.25, "negative_in_set": True, "positive_in_set": False},
            "latency_ms": 1.0,
            **change,
        }
    )


def told(name: str | None, hours: float = 2, label: Any = None, **values: float) -> Outcome:
    return Outcome("returns", label, at(hours), prediction_id=name, values=values or None)


def log(
    platform: Platform,
    predictions: Iterable[Prediction],
    outcomes: Iterable[Outcome] = (),
    *,
    compacted: bool = False,
    masks: Mapping[str, Any] | None = None,
) -> None:
    """Log into files that stay open for others to read, or into the lake."""
    root = platform.settings.root
    given = {"masks": masks} if masks else {}
    first = InferenceLog(root / "inference_log", "w", **given)
    second = OutcomesLog(root / "outcomes_log", "w", **given)
    if records := list(predictions):
        first.append_all(records)
    if records_ := list(outcomes):
        second.append_all(records_)
    first.close()
    second.close()
    if compacted:
        compact(root / "inference_log", platform.lake)
        compact(root / "outcomes_log", platform.lake, OUTCOMES)


def begun(platform: Platform, traffic: Rollout | Experiment) -> Kept:
    """Keep a rollout or an experiment that began with the time of this world."""
    kind = "rollout" if isinstance(traffic, Rollout) else "experiment"
    said = {kind: traffic.id, "since": START.isoformat()}
    record = Record(action=kind, model="returns", actor="ann", reason="why", evidence=said)
    return platform.rollouts.begin(traffic, "1", record)
