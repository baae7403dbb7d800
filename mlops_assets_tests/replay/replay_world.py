"""A shop whose orders are returned by a rule that changes, for replays in seconds."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_assets.replay.candidates import Candidates
from mlops_assets.replay.policy import ReplayPolicy
from mlops_assets.replay.releasing import Book
from mlops_assets.replay.walk import Listener, Walk
from mlops_assets.replay.year import Year
from mlops_assets.spec import FoldPolicy, GatePolicy, ModelSpec
from mlops_assets.windows import Window, Windows
from mlops_assets_tests.defs.release_shop import LENIENT
from mlops_assets_tests.shop_world import returns

DAY = dt.timedelta(days=1)
FIRST = dt.date(2023, 10, 1)
PER_DAY = 60
STRICT = LENIENT.model_copy(update={"ece_limit": 1e-6})
"""Gates that nothing passes."""

WINDOWS = Windows(
    train=Window(start=FIRST, end=FIRST + 14 * DAY),
    calibrate=Window(start=FIRST + 14 * DAY, end=FIRST + 18 * DAY, days="even"),
    conformalize=Window(start=FIRST + 14 * DAY, end=FIRST + 18 * DAY, days="odd"),
    holdout=Window(start=FIRST + 18 * DAY, end=FIRST + 22 * DAY),
)
"""Two weeks to learn from, four days to calibrate on, four to be judged on."""

POLICY = ReplayPolicy(
    calibrate_days=None,
    holdout_days=None,
    least_train_days=7,
    label_delay_days=1,
    watch_days=3,
    cool_down_days=2,
    canary={
        "steps": (50, 100),
        "shadow_rows": 20,
        "least_rows": 20,
        "labels": 20,
        "errors": 0.3,
        "slow": 0.3,
        **dict.fromkeys(("brier", "calibration", "coverage", "score_shift"), 0.9),
    },
)

Rate = Callable[[dt.date, int], float]


def steady(day: dt.date, size: int) -> float:
    """Large orders are returned more often, always."""
    return size / 10


def turned(day: dt.date, size: int) -> float:
    """From November on it is the small ones."""
    return size / 10 if day < dt.date(2023, 11, 1) else 1 - size / 10


def logistic(seed: int) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    impute = SimpleImputer(strategy="constant", fill_value=0, keep_empty_features=True)
    return Pipeline(
        [("impute", impute), ("regression", LogisticRegression(solver="newton-cholesky"))]
    )


def constant(seed: int) -> Any:
    """A rival that always loses."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def spec(folder: Path, **change: Any) -> ModelSpec:
    return returns(
        folder,
        **{
            "gates": LENIENT.model_copy(update={"min_holdout_rows": 100}),
            "windows": WINDOWS,
            "folds": FoldPolicy(folds=2),
            "estimators": {"constant": constant, "logistic": logistic},
            "calibrations": ("none",),
            **change,
        },
    )


def orders(
    days: int, rate: Rate = steady, *, missing: range = range(0), unlabelled: range = range(0)
) -> dict[str, list[Any]]:
    """Columns of the orders of some days from `FIRST` on.

    Args:
        days: number of days.
        rate: probability that an order is returned, by day and size.
        missing: numbers of days without orders.
        unlabelled: numbers of days of whose orders nobody ever hears again.
    """
    random = np.random.default_rng(7)
    found: dict[str, list[Any]] = {
        name: [] for name in ("order_id", "shop", "size", "ordered_at", "returned", "known_at")
    }
    for number in range(days):
        day = FIRST + number * DAY
        for order in range(PER_DAY):
            size, luck = int(random.integers(1, 10)), random.random()
            if number in missing:
                continue
            time = dt.datetime.combine(day, dt.time(12, order), dt.UTC)
            silent = number in unlabelled
            found["order_id"].append(f"o{number:03}-{order:02}")
            found["shop"].append(f"shop {order}")
            found["size"].append(size)
            found["ordered_at"].append(time)
            found["returned"].append(None if silent else int(luck < rate(day, size)))
            found["known_at"].append(None if silent else time + dt.timedelta(hours=18))
    return found


def year(model: ModelSpec, found: dict[str, list[Any]]) -> Year:
    """The orders with their features, as the feature store would give them."""
    n = len(found["order_id"])
    size = pa.array(found["size"], pa.int64())
    time = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "order_id": found["order_id"],
            "shop": found["shop"],
            "item": [f"tea for {one}" for one in found["order_id"]],
            "size": size,
            "event_timestamp": pa.array(found["ordered_at"], time),
            "returned": pa.array(found["returned"], pa.int64()),
            "known_at": pa.array(found["known_at"], time),
            "amount_last": pa.nulls(n, pa.float64()),
            "amount_2d": pa.nulls(n, pa.float64()),
            "size_doubled": pa.array([2.0 * one for one in found["size"]]),
        }
    )
    return Year(model, table)


def walk(
    folder: Path,
    found: Year,
    policy: ReplayPolicy = POLICY,
    *,
    days: tuple[int, int] = (22, 60),
    listener: Listener = lambda progress: None,
) -> Walk:
    """Walk through some days, by number from `FIRST`; the candidates stay in the folder."""
    candidates = Candidates(folder / "candidates", found.spec, {"sales": "s", "orders": "o"}, "d")
    book = Book(folder / "ledger.db", found.spec)
    judged = Year(policy.applied(found.spec), found.table)
    made = Walk(judged, policy, candidates, book, listener)
    try:
        made.go(FIRST + days[0] * DAY, FIRST + days[1] * DAY)
    finally:
        book.close()
    return made


def gates(**change: Any) -> GatePolicy:
    return LENIENT.model_copy(update={"min_holdout_rows": 100, **change})
