"""The made-up shop of the drills: couriers bring orders, and some come late.

A generator that knows the truth, and the `ModelSpec` over the files that it writes. Nothing is read
from anywhere else, and the same seed gives the same shop.
"""

import csv
import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_assets.monitoring_policy import MonitoringPolicy
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.spec import FoldPolicy, GatePolicy, Label, ModelSpec
from mlops_assets.tables import (
    Arrays,
    Calendar,
    Column,
    Entity,
    EntityRows,
    FeatureService,
    FeatureView,
    RequestFeatures,
    Source,
    Tables,
)
from mlops_assets.windows import Window, Windows

SEED = 11
COURIERS, ORDERS_PER_DAY = 100, 600
START, DAYS = dt.date(2026, 3, 2), 29
EVERY_HOURS = 2
TTL = dt.timedelta(hours=6)
LABEL_HOURS = 2
NAME = "late_orders"

LOG_COLUMNS = ("courier", "seen_at", "open_orders", "minutes_mean")
ORDER_COLUMNS = ("order_id", "courier", "ordered_at", "km", "minutes", "late", "refund", "known_at")


def day(number: int) -> dt.date:
    """A day of the shop, from 0 on."""
    return START + dt.timedelta(days=number)


def midnight(number: int) -> dt.datetime:
    """When a day of the shop begins, UTC."""
    return dt.datetime.combine(day(number), dt.time(), dt.UTC)


WINDOWS = Windows(
    train=Window(start=day(0), end=day(10)),
    calibrate=Window(start=day(10), end=day(14)),
    conformalize=Window(start=day(14), end=day(17)),
    holdout=Window(start=day(17), end=day(21)),
    predict=Window(start=day(21), end=day(DAYS)),
)
LIVE = 21
"""The first day on which the model serves."""


def truth(km: Any, minutes: Any, open_orders: Any) -> Any:
    """The probability that an order comes late, as arrays of shape (n,)."""
    return 1 / (1 + np.exp(1.0 - 0.2 * (km - 4) - 0.07 * (minutes - 25) - 0.3 * (open_orders - 4)))


def write(folder: Path, seed: int = SEED) -> None:
    """Write what the shop has seen: `couriers.csv` and `orders.csv`."""
    rng = np.random.default_rng(seed)
    looks = DAYS * 24 // EVERY_HOURS
    open_orders = rng.poisson(4, (COURIERS, looks)).clip(0, 15)
    means = rng.normal(40, 8, (COURIERS, looks)).clip(15, 90).round(1)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(
        folder / "couriers.csv",
        LOG_COLUMNS,
        (
            (f"c{c}", _text(midnight(0) + look * EVERY_HOURS * dt.timedelta(hours=1)),
             int(open_orders[c, look]), float(means[c, look]))
            for c in range(COURIERS) for look in range(looks)
        ),
    )  # fmt: skip
    write_rows(folder / "orders.csv", ORDER_COLUMNS, _orders(rng, open_orders))


def _orders(rng: np.random.Generator, open_orders: Any) -> Iterable[Sequence[object]]:
    for number in range(DAYS):
        for i in range(ORDERS_PER_DAY):
            courier = int(rng.integers(COURIERS))
            # From three in the morning on, so that each courier has been seen on the same day.
            minute = 180 + i * 2
            at = midnight(number) + dt.timedelta(minutes=minute)
            km = round(float(rng.gamma(4, 1)), 2)
            minutes = round(float(rng.gamma(6, 4)) + 3, 1)
            # A look is known ten minutes after it.
            look = (number * 24 * 60 + minute - 10) // (EVERY_HOURS * 60)
            late = int(rng.random() < truth(km, minutes, open_orders[courier, look]))
            refund = round(float(rng.gamma(4, 2)), 2) if rng.random() < (0.01, 0.97)[late] else 0.0
            known = at + dt.timedelta(hours=LABEL_HOURS)
            yield (
                f"o{number}-{i}",
                f"c{courier}",
                _text(at),
                km,
                minutes,
                late,
                refund,
                _text(known),
            )


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file; None is the empty field."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _text(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def couriers(path: Path) -> Source:
    """What is seen of each courier every two hours."""
    return Source(
        name="couriers",
        description="looks at couriers",
        fetch=lambda _: path,
        raw_columns=LOG_COLUMNS,
        select="SELECT courier, seen_at::TIMESTAMPTZ AS seen_at, "
        "open_orders::DOUBLE AS open_orders, minutes_mean::DOUBLE AS minutes_mean FROM file",
        columns=(
            Column(name="courier", type="string"),
            Column(name="seen_at", type="time"),
            Column(name="open_orders", type="float"),
            Column(name="minutes_mean", type="float"),
        ),
        key=("courier", "seen_at"),
        time="seen_at",
    )


def orders(path: Path) -> Source:
    """The orders, with what became of them."""
    return Source(
        name="orders",
        description="orders placed",
        fetch=lambda _: path,
        raw_columns=ORDER_COLUMNS,
        select="SELECT order_id, courier, ordered_at::TIMESTAMPTZ AS ordered_at, km::DOUBLE AS km, "
        "minutes::DOUBLE AS minutes, late::BIGINT AS late, refund::DOUBLE AS refund, "
        "known_at::TIMESTAMPTZ AS known_at FROM file",
        columns=(
            Column(name="order_id", type="string"),
            Column(name="courier", type="string"),
            Column(name="ordered_at", type="time"),
            Column(name="km", type="float"),
            Column(name="minutes", type="float"),
            Column(name="late", type="int"),
            Column(name="refund", type="float"),
            Column(name="known_at", type="time"),
        ),
        key=("order_id",),
    )


def seen(tables: Tables) -> Any:
    """The looks at couriers, each known ten minutes later."""
    import ibis

    found = tables["couriers"]
    return found.select(
        "courier",
        "open_orders",
        "minutes_mean",
        event_timestamp=found.seen_at,
        created_timestamp=found.seen_at + ibis.interval(minutes=10),
    )


def placed(tables: Tables) -> Any:
    """The orders when they are placed."""
    found = tables["orders"]
    return found.select(
        *("order_id", "courier", "km", "minutes", "late", "refund", "known_at"),
        event_timestamp=found.ordered_at,
    )


def of_order(given: Arrays) -> Arrays:
    """What is known with an order; preparation in minutes."""
    return {"distance": given["km"] * 1.0, "preparation": given["minutes"] * 1.0}


def of_refund(given: Arrays) -> Arrays:
    """What is known only after an order came late."""
    return {"refunded": given["refund"] * 1.0}


ORDER = RequestFeatures(
    name="order",
    description="known with the order",
    inputs=(Column(name="km", type="float"), Column(name="minutes", type="float")),
    features=(
        Column(name="distance", type="float", minimum=0, maximum=100),
        # An hour that is given as 1 instead of 60 is a number of minutes, too.
        Column(name="preparation", type="float", minimum=0, maximum=600),
    ),
    compute=of_order,
)

REFUND = RequestFeatures(
    name="refund",
    description="known after the label",
    inputs=(Column(name="refund", type="float"),),
    features=(Column(name="refunded", type="float"),),
    compute=of_refund,
)


def view(folder: Path, **change: Any) -> FeatureView:
    """What is known of a courier."""
    declared: dict[str, Any] = {
        "features": (
            Column(name="open_orders", type="float", minimum=0, maximum=20),
            Column(name="minutes_mean", type="float", minimum=5, maximum=240),
        ),
        "ttl": TTL,
    }
    return FeatureView(
        name="courier_load",
        description="how busy a courier is",
        entities=(Entity(name="courier"),),
        calendar=Calendar(start=day(0), end=day(DAYS)),
        sources=(couriers(folder / "couriers.csv"),),
        lookback=dt.timedelta(days=1),
        build=seen,
        **{**declared, **change},
    )


def service(one: FeatureView, *more: RequestFeatures) -> FeatureService:
    """The features of the model."""
    request = (ORDER, *more)
    return FeatureService(
        name="late_order_features", description="all", views=(one,), request=request
    )


def rows(folder: Path) -> EntityRows:
    """The rows to predict."""
    return EntityRows(
        name="placed_orders",
        description="orders when they are placed",
        row_id="order_id",
        sources=(orders(folder / "orders.csv"),),
        columns=(
            Column(name="order_id", type="string"),
            Column(name="courier", type="string"),
            Column(name="km", type="float"),
            Column(name="minutes", type="float"),
            Column(name="event_timestamp", type="time"),
            Column(name="late", type="int"),
            Column(name="refund", type="float"),
            Column(name="known_at", type="time"),
        ),
        build=placed,
    )


def boosting(seed: int) -> Any:
    """The estimator: small, and it takes nulls."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, learning_rate=0.15, early_stopping=False, random_state=seed
    )


GATES = GatePolicy(
    ece_limit=0.06,
    # Wide, so that the calibration error decides: four days of orders are few.
    bin_limit=0.5,
    coverage_tolerance=0.1,
    metric_margin=1.0,
    bins=10,
    fold_spread_limit=0.5,
    overfit_limit=0.5,
)

ROLLOUT = RolloutPolicy(
    steps=(30, 100),
    shadow_rows=1,
    step_minutes=0,
    least_rows=200,
    labels=0,
    errors=0.4,
    # A shared machine is slow now and then, which is not the fault that is drilled.
    slow=0.9,
    score_shift=0.02,
)


def spec(folder: Path, **change: Any) -> ModelSpec:
    """The model over the files in a folder."""
    declared: dict[str, Any] = {
        "features": service(view(folder)),
        "gates": GATES,
        "monitoring": MonitoringPolicy(),
        "rollout": ROLLOUT,
    }
    return ModelSpec(
        name=NAME,
        description="does the order come late?",
        rows=rows(folder),
        label=Label(column="late", known_at="known_at"),
        estimators={"boosting": boosting},
        calibrations=("sigmoid",),
        folds=FoldPolicy(folds=2),
        windows=WINDOWS,
        owners=("team:drills",),
        seed=SEED,
        **{**declared, **change},
    )
