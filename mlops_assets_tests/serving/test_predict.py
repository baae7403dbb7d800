"""Predictions over HTTP: by entity, by features, what they tell, and what is logged of them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.core import tasks
from mlops_assets.platform import Platform
from mlops_assets.serving.columns import input_columns
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.served_model import frame_of
from mlops_assets.serving.worker import INFERENCE_LOG, Worker
from mlops_assets_tests.serving.running import Client
from mlops_assets_tests.serving.shop_home import FEATURES, KNOWN, specs_in

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

PREDICT = "/models/returns/predict"


def one(client: Client, model: str = "returns", **body: Any) -> dict[str, Any]:
    found = client.post(f"/models/{model}/predict", body)
    assert found.status == 200, found.body
    [said] = found.json["predictions"]
    return dict(said)


def records(worker: Worker) -> list[dict[str, Any]]:
    files = (worker.platform.settings.root / INFERENCE_LOG).glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def record(worker: Worker, prediction_id: str) -> dict[str, Any]:
    [found] = [one for one in records(worker) if one["id"] == prediction_id]
    return found


def test_a_prediction_by_features_is_what_the_loaded_model_says(
    client: Client, worker: Worker
) -> None:
    said = one(client, features=[FEATURES])
    served = worker.cache.get("returns").models["1"]
    row = [FEATURES[name] for name in served.spec.inputs]
    inputs = frame_of(input_columns(served.spec), [row])
    expected = tasks.predictions(served.fitted, inputs)
    assert said["probability"] == expected["probability"][0]
    sets = [expected["negative_in_set"][0], expected["positive_in_set"][0]]
    assert said["set"] == [label for label in (0, 1) if sets[label]]
    assert said["venn_abers"] == served.fitted.classifier.intervals(inputs)[0].tolist()
    assert (said["version"], said["arm"], said["coverage"]) == ("1", "champion", 0.9)


def test_a_regression_answers_a_value_with_its_interval(client: Client) -> None:
    said = one(client, "amounts", features=[FEATURES])
    low, high = said["interval"]
    assert low < said["value"] < high
    assert (said["unit"], said["coverage"]) == ("pieces", 0.9)


def test_an_entity_gets_its_features_online_and_at_request_time(
    client: Client, worker: Worker
) -> None:
    said = one(client, entities=[KNOWN])
    kept = record(worker, said["prediction_id"])
    found = dict(zip(kept["features"], kept["numbers"], strict=True))
    assert found == {"shop": None, "amount_last": 8.0, "amount_2d": 10.0, "size_doubled": 6.0}
    assert said["features"] == {}


def test_a_feature_that_is_too_old_is_null_and_named_in_the_answer(client: Client) -> None:
    said = one(client, entities=[{**KNOWN, "item": "pot"}])
    assert said["features"] == {"amount_last": "OUTSIDE_MAX_AGE", "amount_2d": "OUTSIDE_MAX_AGE"}


def test_a_value_in_the_request_wins_where_the_spec_allows_it(
    client: Client, worker: Worker
) -> None:
    said = one(client, entities=[{**KNOWN, "amount_2d": 77.0}])
    kept = record(worker, said["prediction_id"])
    assert 77.0 in kept["numbers"]
    assert said["features"] == {"amount_2d": "REQUEST"}


def test_a_value_in_the_request_is_refused_where_the_spec_does_not_allow_it(
    client: Client,
) -> None:
    found = client.post(PREDICT, {"entities": [{**KNOWN, "amount_last": 77.0}]})
    assert (found.status, found.json["field"]) == (400, "entities[0].amount_last")


def test_an_entity_that_no_view_knows_is_not_found(client: Client) -> None:
    found = client.post(PREDICT, {"entities": [{**KNOWN, "shop": "nowhere"}]})
    assert (found.status, found.json["field"]) == (404, "entities[0]")


def test_all_rows_of_a_request_are_answered_in_order_and_logged(
    client: Client, worker: Worker
) -> None:
    rows = [{**FEATURES, "amount_2d": float(number)} for number in range(40)]
    found = client.post(PREDICT, {"features": rows}).json["predictions"]
    alone = [one(client, features=[row])["probability"] for row in rows[:5]]
    assert [said["probability"] for said in found[:5]] == alone
    amounts = [record(worker, said["prediction_id"])["numbers"][2] for said in found]
    assert amounts == [row["amount_2d"] for row in rows]


def test_all_rows_of_a_request_are_logged_with_one_write(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], os.write

    def counted(file: int, data: bytes) -> int:
        written.append(data.count(b"\n"))
        return write(file, data)

    monkeypatch.setattr("mlops_assets.stores.append_log.os.write", counted)
    client.post(PREDICT, {"features": [FEATURES] * 7})
    assert 7 in written
    assert 1 not in written


def test_a_record_says_who_answered_what_and_how_long_it_took(
    client: Client, worker: Worker
) -> None:
    said = one(client, entities=[{**KNOWN, "order_id": "o99"}])
    kept = record(worker, said["prediction_id"])
    assert (kept["model"], kept["version"], kept["arm"]) == ("returns", "1", "champion")
    assert kept["entity"] == {"shop": "a", "item": "tea", "order_id": "o99"}
    assert kept["outputs"]["probability"] == said["probability"]
    assert kept["status"] == "ok"
    assert 0 < kept["latency_ms"] < 20_000


def test_a_record_is_there_before_the_answer(client: Client, worker: Worker) -> None:
    before = len(records(worker))
    client.post(PREDICT, {"features": [FEATURES]})
    assert len(records(worker)) == before + 1


def test_an_answer_that_cannot_be_logged_is_not_given(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlops_assets.stores.inference_log import InferenceLog

    (tmp_path / "file").touch()
    full = InferenceLog(tmp_path / "file", "w")
    monkeypatch.setattr(InferenceLog, "append_all", lambda self, rows: full._log.append(b"{}"))
    found = client.post(PREDICT, {"features": [FEATURES]})
    assert (found.status, "retry-after" in found.headers) == (503, True)
    assert str(tmp_path) not in found.body.decode()


def test_a_feature_without_a_value_has_the_default_of_the_spec_and_says_so(
    shop: Platform,
) -> None:
    spec = specs_in(shop.settings.root)[0]
    policy = spec.serving.model_copy(update={"defaults": {"amount_2d": 5.0}})
    defaulted = spec.model_copy(update={"serving": policy})
    rows = Worker(shop, (defaulted,), ServeOptions()).rows["returns"]
    rows.online.open()
    (known,) = rows.of_entities([KNOWN], "entities")
    assert "amount_2d" not in known.statuses
    (found,) = rows.of_entities([{**KNOWN, "item": "pot"}], "entities")
    assert dict(zip(spec.inputs, found.values, strict=True))["amount_2d"] == 5.0
    assert found.statuses["amount_2d"] == "DEFAULTED"
