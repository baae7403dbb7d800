"""The model of the tests of the loop: a shop whose orders grow larger from one day on.

`SPECS` is what a process of the model server imports; it finds the home in `MLOPS_HOME`, as all
else does, and the files of the shop beside it. Dagster's code location over it is `loop_location`.
"""

import datetime as dt
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mlops_assets.monitoring_policy import MonitoringPolicy
from mlops_assets.retraining_policy import RetrainingPolicy
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.spec import FoldPolicy, GatePolicy, Label, ModelSpec, ReleasePolicy
from mlops_assets.tables import Calendar
from mlops_assets.windows import Window, Windows
from mlops_assets_tests.defs.release_shop import LENIENT, filled
from mlops_assets_tests.shop_world import day, order_rows, orders, recent_sales, sales, service

ORDERS_PER_DAY, ITEMS = 300, 20
DRIFT = 9
"""From this day of January on orders are larger by `LARGER`."""

LARGER = 10
NOW = "now"
"""File of the home that has Dagster's present."""

POLICIES = "policies.json"
"""File of the home that has what was changed in gates and rollouts since the start."""

QUICK = RolloutPolicy(
    steps=(50, 100),
    shadow_rows=50,
    step_minutes=0,
    least_rows=50,
    labels=0,
    errors=0.4,
    latency_limit_ms=10_000,
    slow=0.9,
    score_shift=0.9,
)
MONITORING = MonitoringPolicy(warn=2, alert=4, open_k=1, open_m=1, close_after=1, silent_after=None)
RETRAINING = RetrainingPolicy(
    schedule=None, cool_down_days=0, train_days=4, label_delay_days=1, back_off_days=1e-5
)


def windows() -> Windows:
    """Four days to learn from, and one for each of the rest, all before the orders grow."""
    first = Window(start=day(2), end=day(6))
    return Windows(
        train=first,
        **{
            name: Window(start=day(at), end=day(at + 1))
            for at, name in enumerate(("calibrate", "conformalize", "holdout"), 6)
        },
    )


def shop_in(folder: Path, gates: GatePolicy = LENIENT, **change: Any) -> ModelSpec:
    """The model over the files in the folder."""
    calendar = Calendar(start=day(1), end=day(20))
    view = recent_sales(sales(folder / "sales.csv")).model_copy(update={"calendar": calendar})
    return ModelSpec(
        name="returns",
        description="is the order returned?",
        **{
            "rows": order_rows(orders(folder / "orders.csv")),
            "label": Label(column="returned", known_at="known_at"),
            "features": service(view),
            "estimators": {"boosting": filled},
            "calibrations": ("sigmoid",),
            "folds": FoldPolicy(folds=2, share=0.3),
            "windows": windows(),
            "gates": gates,
            "release": ReleasePolicy(mode="canary"),
            "rollout": QUICK,
            "monitoring": MONITORING,
            "retraining": RETRAINING,
            **change,
        },
    )


def sizes(number: int, n: int) -> "np.ndarray[Any, Any]":
    """Sizes of so many orders of a day of January."""
    random = np.random.default_rng([number, n])
    return random.integers(1, 10, n) + (LARGER if number >= DRIFT else 0)


def changed(home: Path) -> dict[str, Any]:
    """The policies that were changed while the processes went on."""
    path = home / POLICIES
    told = json.loads(path.read_text()) if path.exists() else {}
    policies = {"gates": LENIENT, "rollout": QUICK}
    return {name: policies[name].model_copy(update=told[name]) for name in told}


def change(home: Path, **told: dict[str, float]) -> None:
    """Change policies for all processes that start from now on: runs, model servers."""
    _replace(home / POLICIES, [json.dumps(told)])


def write_files(folder: Path, until: int, *, mislabelled: bool = False) -> None:
    """Write sales of the whole month, and orders of the days before one; the larger a day's orders
    are among their like, the more often they come back.

    Mislabelled, nine of ten are told to have come back since the orders grew, whatever they were.
    """
    lines = ["shop,item,sold_at,amount"]
    for number in range(1, 20):
        random = np.random.default_rng(number)
        lines += [
            f"a,i{item},{day(number)}T08:00:00Z,{random.integers(1, 20)}" for item in range(ITEMS)
        ]
    _replace(folder / "sales.csv", lines)
    lines = ["order_id,shop,item,size,ordered_at,returned,known_at"]
    for number in range(2, until):
        random = np.random.default_rng(zlib.crc32(b"%d" % number))
        for at, size in enumerate(sizes(number, ORDERS_PER_DAY)):
            wrong = mislabelled and number >= DRIFT
            returned = int(random.random() < (0.9 if wrong else size % LARGER / 10))
            minute = f"{12 + at // 60}:{at % 60:02}"
            lines.append(
                f"o{number}-{at},a,i{at % ITEMS},{size},{day(number)}T{minute}:00Z,{returned},"
                f"{day(number)}T20:00:00Z"
            )
    _replace(folder / "orders.csv", lines)


def set_now(home: Path, now: dt.datetime) -> None:
    """Let Dagster's present be this one."""
    _replace(home / NOW, [now.isoformat()])


def _replace(path: Path, lines: list[str]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(path)


def __getattr__(name: str) -> Any:
    if name == "SPECS":
        home = Path(os.environ["MLOPS_HOME"])
        return (shop_in(home.parent, **changed(home)),)
    raise AttributeError(name)
