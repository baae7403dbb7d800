"""What the tests of rollouts over HTTP build with: a home, policies, and rows of many entities."""

import json
import socket
from pathlib import Path
from typing import Any

from mlops_assets.platform import Platform
from mlops_assets.serving.app import app_of
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests.rollouts.rollout_world import adopted, challenged
from mlops_assets_tests.serving.running import Client, wait_for
from mlops_assets_tests.serving.shop_home import FEATURES, NOW, copied, specs_in

PREDICT = "/models/returns/predict"
ROLLOUT = "/models/returns/rollout"
WHO = {"actor": "ann", "reason": "it is better"}
WHY = {"reason": "it is better"}

BY_HAND = RolloutPolicy(shadow_rows=10**9, least_rows=10**9)
"""Nothing moves by itself."""

QUICK = RolloutPolicy(
    steps=(20, 50, 100),
    shadow_rows=30,
    step_minutes=0,
    least_rows=30,
    labels=0,
    errors=0.4,
    slow=0.9,
    score_shift=0.5,
)
"""Moves by itself after a few rows."""


def staged(shop: Platform, folder: Path) -> Path:
    """A copy of the shop's home where version 2 challenges version 1, and says the same."""
    copied(shop.settings.root, folder)
    platform = Platform(Settings(home=folder, now=NOW))
    challenged(platform, adopted(platform)[0], 0)
    platform.ledger.close()
    return folder


def spec_of(platform: Platform, policy: RolloutPolicy = BY_HAND, **more: Any) -> ModelSpec:
    return specs_in(platform.settings.root)[0].model_copy(update={"rollout": policy, **more})


def worker_of(platform: Platform, policy: RolloutPolicy = BY_HAND, **more: Any) -> Worker:
    return Worker(platform, (spec_of(platform, policy, **more),), ServeOptions(poll_seconds=0.05))


def rows(n: int, first: int = 0) -> dict[str, Any]:
    """A request of rows of so many entities."""
    return {"features": [{**FEATURES, "item": f"i{first + at}"} for at in range(n)]}


def ask(client: Client, n: int = 1, first: int = 0) -> list[dict[str, Any]]:
    found = client.post(PREDICT, rows(n, first))
    assert found.status == 200, found.body
    predictions: list[dict[str, Any]] = found.json["predictions"]
    return predictions


def follows(worker: Worker, platform: Platform) -> bool:
    """Whether a worker serves what the store says of the rollout now."""
    kept = platform.rollouts.open("returns")
    table = worker.cache.get("returns").table
    if kept is None:
        return table.rollout == ""
    return table == kept.traffic.table(kept.champion)


def followed(worker: Worker, platform: Platform) -> None:
    wait_for(lambda: follows(worker, platform))


def logged(home: Path) -> list[dict[str, Any]]:
    files = sorted((home / "inference_log").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def metric(client: Client, line: str) -> float:
    page = client.get("/metrics").body.decode().splitlines()
    return sum(float(one.rpartition(" ")[2]) for one in page if one.startswith(line))


def serve(home: Path, listening: socket.socket) -> None:
    """Be a worker process: what uvicorn's supervisor starts, without its seconds of imports."""
    import uvicorn
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    platform = Platform(Settings(home=home, now=NOW))
    worker = Worker(platform, specs_in(home)[:1], ServeOptions())
    config = uvicorn.Config(app_of(worker), log_config=None, ws="none")
    uvicorn.Server(config).run(sockets=[listening])
