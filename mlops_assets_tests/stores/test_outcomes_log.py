"""Outcomes are logged as predictions are: late, repeated, by id or by entity and time."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.errors import DataError
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import Mask
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.outcomes_log import OUTCOMES, Outcome, OutcomesLog
from mlops_assets_tests.stores.log_world import DAY, NOON, rows


def found_of(tmp_path: Path, *outcomes: Outcome, **options: Any) -> list[dict[str, Any]]:
    log = OutcomesLog(tmp_path / "log", "w", **options)
    for outcome in outcomes:
        log.append(outcome)
    log.close()
    lake = Lake(tmp_path / "lake")
    compact(tmp_path / "log", lake, OUTCOMES)
    return rows(lake, OUTCOMES.name)


def test_an_outcome_of_a_prediction_is_kept_by_its_id(tmp_path: Path) -> None:
    assert found_of(tmp_path, Outcome("shop", True, NOON, prediction_id="a")) == [
        {
            "prediction_id": "a",
            "event_timestamp": NOON,
            "model": "shop",
            "entity": {},
            "predicted_at": None,
            "label": 1.0,
            "label_text": None,
            "values": None,
        }
    ]


def test_values_are_kept_by_name_beside_a_label_or_alone(tmp_path: Path) -> None:
    found = found_of(
        tmp_path,
        Outcome("shop", None, NOON, prediction_id="a", values={"revenue": 2.5, "minutes": -1.0}),
        Outcome("shop", 1, NOON + DAY, prediction_id="a", values={"revenue": 3.0}),
    )
    assert [row["values"] for row in found] == [{"revenue": 2.5, "minutes": -1.0}, {"revenue": 3.0}]
    assert [row["label"] for row in found] == [None, 1.0]


def test_a_day_that_was_written_before_there_were_values_takes_them(tmp_path: Path) -> None:
    found_of(tmp_path, Outcome("shop", 1, NOON, prediction_id="a"))
    lake = Lake(tmp_path / "lake")
    path = lake.day_file(OUTCOMES.name, NOON.date())
    with lake.connect() as connection:
        query = f"SELECT * EXCLUDE (\"values\") FROM read_parquet('{path}')"
        lake.write(connection, query, path, lake.notes(path))
    found = found_of(tmp_path, Outcome("shop", None, NOON, prediction_id="b", values={"x": 1.0}))
    assert {row["prediction_id"]: row["values"] for row in found} == {"a": None, "b": {"x": 1.0}}


def test_an_outcome_of_an_entity_is_kept_with_the_time_of_its_prediction(tmp_path: Path) -> None:
    (row,) = found_of(tmp_path, Outcome("shop", "gold", NOON, entity={"id": 7}, time=NOON - DAY))
    assert (row["entity"], row["predicted_at"]) == ({"id": "7"}, NOON - DAY)
    assert (row["label"], row["label_text"]) == (None, "gold")


def test_repeated_and_late_outcomes_are_all_kept_by_the_day_they_became_known(
    tmp_path: Path,
) -> None:
    times = [NOON + DAY, NOON, NOON + 40 * DAY]
    found = found_of(
        tmp_path, *(Outcome("shop", i, at, prediction_id="a") for i, at in enumerate(times))
    )
    assert [row["label"] for row in found] == [1.0, 0.0, 2.0]


def test_personal_keys_are_masked_as_in_the_inference_log(tmp_path: Path) -> None:
    mask = Mask(frozenset({"id"}), key=bytes(16))
    one = Outcome("shop", 1, NOON, entity={"id": "somebody"}, time=NOON)
    assert found_of(tmp_path, one, masks={"shop": mask})[0]["entity"] == {
        "id": mask.hash("somebody")
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"entity": {"id": 1}},
        {"time": NOON},
        {"entity": {}, "time": NOON},
        {"prediction_id": "a", "label": None},
        {"prediction_id": "a", "label": float("nan")},
        {"prediction_id": "a", "label": None, "values": {}},
        {"prediction_id": "a", "values": {"revenue": float("inf")}},
        {"prediction_id": "a", "values": {"revenue": float("nan")}},
        {"values": {"revenue": 1.0}},
    ],
)
def test_an_outcome_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="an outcome of shop"):
        Outcome(**{"model": "shop", "label": 1, "known_at": NOON, **wrong})


def test_an_outcome_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no zone"):
        found_of(tmp_path, Outcome("shop", 1, datetime(2024, 1, 1), prediction_id="a"))
