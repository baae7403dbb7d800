"""Predictions, logs and lakes that the tests of the logs share."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.lake import Lake

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def prediction(name: str = "a", at: datetime = NOON, **other: Any) -> Prediction:
    fields: dict[str, Any] = {
        "model": "shop",
        "version": "7",
        "arm": "champion",
        "entity": {"customer": "c1"},
        "features": {"amount": 1.5, "country": "at"},
        "event_times": {"amount": at - DAY},
        "statuses": {"amount": "PRESENT", "country": "NOT_FOUND"},
        "outputs": {"probability": 0.25, "set": ["no"]},
        "latency_ms": 3.5,
    }
    return Prediction(id=name, time=at, **{**fields, **other})


def logged(folder: Path, *predictions: Prediction, **options: Any) -> None:
    """Log predictions into a file that is closed."""
    log = InferenceLog(folder, "w", **options)
    for one in predictions:
        log.append(one)
    log.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def rows(lake: Lake, table: str = "inference_log") -> list[dict[str, Any]]:
    """All rows of a table, in the order of the days and of the rows in them."""
    return list(_rows(lake, table))


def _rows(lake: Lake, table: str) -> Iterator[dict[str, Any]]:
    for day in lake.days(table):
        of_day = lake.read("FROM t", t=lake.day_file(table, day))
        yield from of_day.to_pylist(maps_as_pydicts="lossy")


def ids(lake: Lake) -> list[str]:
    return sorted(row["prediction_id"] for row in rows(lake))
