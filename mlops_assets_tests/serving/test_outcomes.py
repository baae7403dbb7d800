"""Outcomes over HTTP: kept when they are acknowledged, however late and however often."""

import json
from typing import Any

import pytest

from mlops_assets.serving.worker import OUTCOMES_LOG, Worker
from mlops_assets_tests.serving.running import Answer, Client

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

ENTITY = {"shop": "a", "item": "tea"}


def send(client: Client, *outcomes: Any, model: str = "returns") -> Answer:
    return client.post(f"/models/{model}/outcomes", {"outcomes": list(outcomes)})


def kept(worker: Worker) -> list[dict[str, Any]]:
    files = (worker.platform.settings.root / OUTCOMES_LOG).glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_label_by_prediction_id_is_kept(client: Client, worker: Worker) -> None:
    found = send(client, {"label": 1, "prediction_id": "p1"})
    assert (found.status, found.json) == (202, {"model": "returns", "accepted": 1})
    [record] = [one for one in kept(worker) if one["id"] == "p1"]
    assert record["number"] == 1.0


def test_a_label_by_entity_and_time_is_kept(client: Client, worker: Worker) -> None:
    label = {"label": True, "entity": ENTITY, "time": "2024-01-04T13:00:00+01:00"}
    assert send(client, {**label, "known_at": "2024-01-04T12:30:00Z"}).status == 202
    record = [one for one in kept(worker) if one["entity"] == ENTITY][-1]
    assert (record["number"], record["time"]) == (1.0, 1704369600_000000)


def test_repeated_deliveries_are_all_kept(client: Client, worker: Worker) -> None:
    for label in (0, 1, 1):
        assert send(client, {"label": label, "prediction_id": "again"}).status == 202
    assert [one["number"] for one in kept(worker) if one["id"] == "again"] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        ({"label": 1}, ""),
        ({"label": 1, "prediction_id": "p", "entity": ENTITY, "time": "2024-01-04"}, ""),
        ({"label": 1, "entity": ENTITY}, ""),
        ({"label": 1, "prediction_id": "p", "time": "2024-01-04T12:00:00Z"}, ""),
        ({"prediction_id": "p"}, ".label"),
        ({"label": None, "prediction_id": "p"}, ".label"),
        ({"label": 2, "prediction_id": "p"}, ".label"),
        ({"label": "yes", "prediction_id": "p"}, ".label"),
        ({"label": 1, "prediction_id": 7}, ".prediction_id"),
        ({"label": 1, "prediction_id": ""}, ".prediction_id"),
        ({"label": 1, "entity": {"shopp": "a"}, "time": "2024-01-04T12:00:00Z"}, ".entity.shopp"),
        ({"label": 1, "entity": {"shop": 7}, "time": "2024-01-04T12:00:00Z"}, ".entity.shop"),
        ({"label": 1, "entity": ENTITY, "time": "2024-01-04T12:00:00"}, ".time"),
        ({"label": 1, "prediction_id": "p", "known_at": "soon"}, ".known_at"),
        ({"label": 1, "prediction_id": "p", "known_at": "0001-01-01T00:00:00Z"}, ".known_at"),
        ({"label": 1, "prediction_id": "p", "known_at": "2030-01-01T00:00:00Z"}, ".known_at"),
        ({"values": {"revenue": 1e200}, "prediction_id": "p"}, ".values.revenue"),
        ({"label": 1, "prediction_id": "p", "labell": 1}, ".labell"),
        ([], ""),
    ],
)
def test_what_is_no_outcome_is_refused_and_none_of_the_request_is_kept(
    client: Client, worker: Worker, outcome: Any, field: str
) -> None:
    before = len(kept(worker))
    found = send(client, {"label": 1, "prediction_id": "good"}, outcome)
    assert (found.status, found.json["field"]) == (400, f"outcomes[1]{field}")
    assert len(kept(worker)) == before


def test_a_regression_takes_a_number(client: Client) -> None:
    assert send(client, {"label": 1, "prediction_id": "p"}, model="amounts").status == 202


def test_a_number_whose_square_would_hide_all_others_is_refused(client: Client) -> None:
    found = send(client, {"label": 1e200, "prediction_id": "p"}, model="amounts")
    assert (found.status, found.json["field"]) == (400, "outcomes[0].label")


def test_an_unknown_model_takes_none(client: Client) -> None:
    assert send(client, {"label": 1, "prediction_id": "p"}, model="nothing").status == 404


@pytest.mark.parametrize("label", [{}, {"label": 0}])
def test_values_are_kept_beside_a_label_or_alone(
    client: Client, worker: Worker, label: dict[str, int]
) -> None:
    outcome = {**label, "prediction_id": f"v{len(label)}", "values": {"revenue": 12, "m_2": -0.5}}
    assert send(client, outcome).status == 202
    [record] = [one for one in kept(worker) if one["id"] == outcome["prediction_id"]]
    assert record["values"] == {"revenue": 12.0, "m_2": -0.5}
    assert record["number"] == label.get("label")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, ".values"),
        ([1], ".values"),
        (1, ".values"),
        ({f"n{i}": 1 for i in range(21)}, ".values"),
        ({"Revenue": 1}, ".values"),
        ({"a b": 1}, ".values"),
        ({"n" * 65: 1}, ".values"),
        ({"revenue": "1"}, ".values.revenue"),
        ({"revenue": True}, ".values.revenue"),
        ({"revenue": None}, ".values.revenue"),
        ({"revenue": [1]}, ".values.revenue"),
    ],
)
def test_what_are_no_values_are_refused_and_none_of_the_request_is_kept(
    client: Client, worker: Worker, values: Any, field: str
) -> None:
    before = len(kept(worker))
    found = send(client, {"label": 1, "prediction_id": "good"},
                 {"prediction_id": "p", "values": values})  # fmt: skip
    assert (found.status, found.json["field"]) == (400, f"outcomes[1]{field}")
    assert len(kept(worker)) == before


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "9" * 400])
def test_a_value_that_is_not_finite_is_refused(client: Client, number: str) -> None:
    body = f'{{"outcomes": [{{"prediction_id": "p", "values": {{"revenue": {number}}}}}]}}'
    assert client.post("/models/returns/outcomes", body.encode()).status == 400


def test_a_label_of_null_is_refused_beside_values_too(client: Client) -> None:
    found = send(client, {"label": None, "prediction_id": "p", "values": {"revenue": 1}})
    assert (found.status, found.json["field"]) == (400, "outcomes[0].label")
