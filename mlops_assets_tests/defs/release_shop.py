"""A model of the shop that can be trained in seconds and passes lenient gates."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np

from mlops_assets.spec import FoldPolicy, GatePolicy, ModelSpec
from mlops_assets.windows import Window
from mlops_assets_tests.shop_world import boosting, day, returns, windows

LENIENT = GatePolicy(
    ece_limit=0.9,
    bin_limit=0.9,
    coverage_tolerance=0.9,
    metric_margin=0.9,
    bins=2,
    min_bin_rows=2,
    min_holdout_rows=100,
    fold_spread_limit=9,
    overfit_limit=9,
)
ORDERS_PER_DAY = 400
UNDECIDED = LENIENT.model_copy(update={"min_holdout_rows": ORDERS_PER_DAY + 1})
"""Nothing fails, and there are too few rows to pass."""


def write_orders(path: Path) -> None:
    """Fifteen days of orders, of which large ones are returned more often."""
    random = np.random.default_rng(0)
    lines = ["order_id,shop,item,size,ordered_at,returned,known_at"]
    for date in np.arange("2023-12-22", "2024-01-06", dtype="datetime64[D]"):
        for number in range(ORDERS_PER_DAY):
            size = int(random.integers(1, 10))
            minute = f"{number % 60:02}:{number // 60:02}"
            returned = int(random.random() < size / 10)
            lines.append(
                f"o{date}-{number},a,tea,{size},{date}T12:{minute}Z,{returned},{date}T18:00:00Z"
            )
    path.write_text("\n".join(lines) + "\n")


def filled(seed: int) -> Any:
    """Boosting that takes columns without any value: nothing was sold before January."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    impute = SimpleImputer(strategy="constant", fill_value=0, keep_empty_features=True)
    return Pipeline([("impute", impute), ("boosting", boosting(seed))])


def trainable(folder: Path, **change: Any) -> ModelSpec:
    """The spec over fifteen days of orders in the folder."""
    train = Window(start=dt.date(2023, 12, 22), end=day(2))
    folds = FoldPolicy(folds=2)
    days = windows().model_copy(update={"train": train})
    declared = {
        "gates": LENIENT,
        "windows": days,
        "folds": folds,
        "estimators": {"boosting": filled},
        "calibrations": ("sigmoid",),
    }
    found = returns(folder, **{**declared, **change})
    write_orders(folder / "orders.csv")
    return found
