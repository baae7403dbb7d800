"""A model of the shop with predictions and outcomes in the logs, and references made by hand."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_assets.core.own_floors import daily_effects
from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    as_dict,
)
from mlops_assets.errors import RegistryError
from mlops_assets.monitoring import late, windows
from mlops_assets.monitoring import reference as kept
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.outcomes_log import OUTCOMES, Outcome, OutcomesLog
from mlops_assets_tests.shop_world import returns

DAY = dt.timedelta(days=1)
START = dt.datetime(2024, 3, 4, tzinfo=dt.UTC)  # a Monday
NOW = START + 20 * DAY
FIRST = START.date()
Row = dict[str, Any]


def reference(seed: int = 0, n: int = 4_000, **change: Any) -> kept.Reference:
    """The reference of a version that is right: as the rows of `World.predict` are."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    effects = {}
    for name, values in _columns(rng, n).items():
        if name == "item":
            counts = {one: int((values == one).sum()) for one in ("pot", "tea")}
            columns[name] = CategoryProfile.of(counts, CategoryBins.of(counts))
            continue
        bins = NumberBins.of(values)
        columns[name] = NumberProfile.of(values, bins)
        days = [NumberProfile.of(part, bins) for part in np.array_split(values, 10)]
        effects[name] = list(daily_effects(columns[name], days, 100))
    document = {
        "format": kept.FORMAT,
        "columns": {name: as_dict(found) for name, found in columns.items()},
        "levels": [],
        "effects": effects,
        "performance": {"log_loss": 0.5, "mae": 1.0, "brier": 0.17},
        "confidence": 0.9,
        "n_conformalize": 2_000,
        "n_calibrate": 2_000,
        **change,
    }
    return kept.reference_of(document, f"digest-{seed}")


def _columns(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    probability = rng.beta(2, 3, n)
    return {
        "item": rng.choice(["pot", "tea"], n),
        "amount_last": rng.normal(10, 2, n),
        "amount_2d": rng.exponential(5, n),
        "size_doubled": rng.integers(1, 10, n) * 2.0,
        "probability": probability,
        "set_size": (probability > 0.2).astype(float) + (probability < 0.8),
    }


@dataclass
class World:
    """A home whose logs are filled by hand."""

    platform: Platform
    spec: ModelSpec
    references: dict[str, kept.Reference] = field(default_factory=lambda: {"1": reference()})

    def predict(
        self,
        day: int = 0,
        n: int = 300,
        *,
        version: str = "1",
        arm: str = "champion",
        status: str = "ok",
        shift: float = 0.0,
        change: Mapping[str, Any] | None = None,
        seed: int = 1,
    ) -> list[Row]:
        """Log predictions of a day, and return them with labels that they are right about."""
        rng = np.random.default_rng([seed, day, n])
        found = _columns(rng, n)
        found["amount_last"] = found["amount_last"] + shift
        rows = []
        log = InferenceLog(self.platform.settings.root / "inference_log", "w")
        things = []
        for i in range(n):
            p = float(found["probability"][i])
            features: Row = {name: found[name][i] for name in self.spec.inputs}
            features |= change or {}
            at = START + day * DAY + i * dt.timedelta(seconds=7)
            row = {"id": f"{version}-{arm}-{day}-{seed}-{i}", "at": at, "p": p,
                   "y": int(rng.random() < p)}  # fmt: skip
            rows.append(row)
            outputs = {"probability": p, "negative_in_set": p < 0.8, "positive_in_set": p > 0.2}
            things.append(
                Prediction(
                    id=row["id"],
                    time=at,
                    model=self.spec.name,
                    version=version,
                    arm=arm,
                    entity={"shop": "a", "item": str(features["item"]), "order_id": f"o{i}"},
                    features=features,
                    event_times={},
                    statuses={},
                    outputs=outputs if status == "ok" else {},
                    latency_ms=1.0,
                    status=status,
                )
            )
        log.append_all(things)
        log.close()
        compact(self.platform.settings.root / "inference_log", self.platform.lake)
        return rows

    def label(
        self, rows: Sequence[Row], *, after: dt.timedelta = dt.timedelta(hours=3), **fixed: Any
    ) -> None:
        """Deliver labels by id."""
        self.deliver(
            [
                Outcome(self.spec.name, fixed.get("label", row["y"]), row["at"] + after, row["id"])
                for row in rows
            ]
        )

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        folder = self.platform.settings.root / "outcomes_log"
        log = OutcomesLog(folder, "w")
        log.append_all(outcomes)
        log.close()
        compact(folder, self.platform.lake, OUTCOMES)

    def day(self, number: int = 0, as_of: dt.datetime = NOW) -> dict[str, list[Row]]:
        """The results of a day, which is computed."""
        found = windows.compute_day(self.platform, self.spec, date(number), as_of)
        return {kind: table.to_pylist() for kind, table in found.items()}

    def week(self, as_of: dt.datetime = NOW) -> dict[str, list[Row]]:
        found = windows.compute_week(self.platform, self.spec, FIRST, as_of)
        return {kind: table.to_pylist() for kind, table in found.items()}


def date(number: int) -> dt.date:
    return (START + number * DAY).date()


def whole(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows about all predictions that have these values."""
    return [
        row
        for row in rows
        if row["arm"] == row["slice"] == "all" and all(row[k] == v for k, v in wanted.items())
    ]


def count(rows: Mapping[str, Sequence[Row]], metric: str) -> int:
    (found,) = (
        r for r in rows["performance"] if r["metric"] == metric and r["window"] == "day"
        and r["arm"] == "all"
    )  # fmt: skip
    return int(found["value"])


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, **change: Any) -> World:
    """A world whose versions have references in memory."""
    declared = {"slices": (Slice(name="item"),), "categories": ("item",), **change}
    spec = returns(folder, **declared)
    world = World(Platform(Settings(home=folder / "home", now=NOW)), spec)

    def read(_: Platform, __: ModelSpec, version: str) -> kept.Reference:
        if version not in world.references:
            raise RegistryError(
                f"the registry has no version {version}", expected="it", do="train it"
            )
        return world.references[version]

    def digest(_: Platform, __: ModelSpec, version: str) -> str:
        return world.references[version].digest if version in world.references else ""

    monkeypatch.setattr(windows, "read_reference", read)
    monkeypatch.setattr(late, "digest_of", digest)
    monkeypatch.setattr(windows, "importance_of", lambda *_: {"amount_last": 1.0})
    return world


def as_text(rows: Any) -> str:
    return json.dumps(rows, default=str, sort_keys=True)
