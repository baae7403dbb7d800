"""The Open Inference Protocol and MLflow's interface, spoken by hand and by their own clients."""

import json
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets_tests.serving.running import Client
from mlops_assets_tests.serving.shop_home import FEATURES

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

INFER = "/v2/models/returns/infer"
KINDS = {"shop": "BYTES", "amount_last": "FP64", "amount_2d": "FP64", "size_doubled": "FP64"}


def tensors(rows: int = 1, **change: Any) -> list[dict[str, Any]]:
    values: dict[str, Any] = {**FEATURES, **change}
    return [
        {"name": name, "shape": [rows], "datatype": kind, "data": [values[name]] * rows}
        for name, kind in KINDS.items()
    ]


def outputs(answer: Any) -> dict[str, Any]:
    return {one["name"]: one["data"] for one in answer["outputs"]}


@pytest.fixture(scope="module")
def expected(client: Client) -> float:
    found = client.post("/models/returns/predict", {"features": [FEATURES]})
    return float(found.json["predictions"][0]["probability"])


def test_the_server_is_live_and_ready_and_says_who_it_is(client: Client) -> None:
    assert client.get("/v2/health/live").status == 200
    assert client.get("/v2/health/ready").json["models"] == {"returns": ["1"], "amounts": ["1"]}
    assert client.get("/v2").json["name"] == "mlops-assets"


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_a_model_says_what_it_takes_and_gives(client: Client, path: str) -> None:
    found = client.get(f"/v2/models/returns{path}").json
    assert {one["name"]: one["datatype"] for one in found["inputs"]} == KINDS
    assert found["outputs"][0] == {"name": "probability", "datatype": "FP64", "shape": [-1]}
    assert found["versions"] == ["1"]
    assert client.get(f"/v2/models/returns{path}/ready").status == 200


@pytest.mark.parametrize("path", [INFER, "/v2/models/returns/versions/1/infer"])
def test_tensors_are_answered_with_tensors(client: Client, path: str, expected: float) -> None:
    found = client.post(path, {"id": "mine", "inputs": tensors(2)}).json
    assert (found["id"], found["model_name"], found["model_version"]) == ("mine", "returns", "1")
    assert outputs(found)["probability"] == [expected] * 2


def test_a_named_version_is_no_part_of_any_comparison(client: Client) -> None:
    found = client.post("/v2/models/returns/versions/1/infer", {"inputs": tensors()}).json
    assert outputs(found)["arm"] == ["requested"]


def test_only_the_outputs_that_are_asked_for_come(client: Client) -> None:
    body = {"inputs": tensors(), "outputs": [{"name": "probability"}]}
    assert list(outputs(client.post(INFER, body).json)) == ["probability"]


def test_tensors_may_have_a_second_dimension_of_one(client: Client, expected: float) -> None:
    shaped = [{**t, "shape": [1, 1], "data": [t["data"]]} for t in tensors()]
    assert outputs(client.post(INFER, {"inputs": shaped}).json)["probability"] == [expected]


def raw_request(number: float | None = None) -> tuple[bytes, dict[str, str]]:
    """All inputs as raw values."""
    head, tail = [], b""
    for name, kind in KINDS.items():
        text = str(FEATURES[name]).encode()
        raw = (
            struct.pack("<I", len(text)) + text
            if kind == "BYTES"
            else struct.pack("<d", FEATURES[name] if number is None else number)
        )
        size = {"binary_data_size": len(raw)}
        head.append({"name": name, "shape": [1], "datatype": kind, "parameters": size})
        tail += raw
    first = json.dumps({"inputs": head, "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(first)),
        "Content-Type": "application/octet-stream",
    }
    return first + tail, headers


def test_raw_values_are_answered_with_raw_values(client: Client, expected: float) -> None:
    body, headers = raw_request()
    found = client.post(INFER, body, **headers)
    length = int(found.headers["inference-header-content-length"])
    first = json.loads(found.body[:length])["outputs"][0]
    assert (first["name"], first["parameters"]["binary_data_size"]) == ("probability", 8)
    assert struct.unpack_from("<d", found.body, length) == (expected,)


def test_nan_in_raw_values_means_not_known(client: Client) -> None:
    body, headers = raw_request(float("nan"))
    unknown = dict.fromkeys(("amount_last", "amount_2d", "size_doubled"))
    found = client.post(INFER, body, **headers)
    length = int(found.headers["inference-header-content-length"])
    expected = outputs(client.post(INFER, {"inputs": tensors(**unknown)}).json)["probability"]
    assert list(struct.unpack_from("<d", found.body, length)) == expected


def test_infinity_in_raw_values_is_refused(client: Client) -> None:
    body, headers = raw_request(float("inf"))
    found = client.post(INFER, body, **headers)
    assert (found.status, found.json["field"]) == (400, "inputs[0].amount_last")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("binary", [True, False])
def test_the_client_of_triton_works_unchanged(
    client: Client, expected: float, binary: bool
) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="the test extra has it")
    asking = triton.InferenceServerClient(f"127.0.0.1:{client.port}")
    try:
        assert asking.is_server_live()
        assert asking.is_server_ready()
        assert asking.is_model_ready("returns")
        assert asking.get_model_metadata("returns")["name"] == "returns"
        inputs = []
        for name, kind in KINDS.items():
            dtype = object if kind == "BYTES" else np.float64
            tensor = triton.InferInput(name, [1], kind)
            tensor.set_data_from_numpy(np.array([FEATURES[name]], dtype), binary_data=binary)
            inputs.append(tensor)
        wanted = [triton.InferRequestedOutput("probability", binary_data=binary)]
        found = asking.infer("returns", inputs, outputs=wanted)
        assert found.as_numpy("probability").tolist() == [expected]
        assert asking.infer("returns", inputs).as_numpy("arm").tolist() in (
            [b"champion"],
            ["champion"],
        )
    finally:
        asking.close()


ROW = [FEATURES[name] for name in KINDS]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": [*KINDS], "index": [0], "data": [ROW]}},
        {"dataframe_records": [FEATURES]},
        {"instances": [FEATURES]},
        {"instances": [ROW]},
        {"inputs": {name: [value] for name, value in FEATURES.items()}},
    ],
    ids=["split", "records", "instances", "lists", "inputs"],
)
@pytest.mark.parametrize("path", ["/invocations", "/models/returns/invocations"])
def test_all_forms_of_mlflow_are_answered(
    client: Client, path: str, body: Any, expected: float
) -> None:
    assert client.post(path, body).json == {"predictions": [[1 - expected, expected]]}


def test_a_regression_answers_mlflow_a_number(client: Client) -> None:
    found = client.post("/models/amounts/invocations", {"instances": [FEATURES]}).json
    assert isinstance(found["predictions"][0], float)


def test_mlflow_finds_what_it_asks_for_first(client: Client) -> None:
    assert client.get("/ping").status == 200
    assert client.get("/version").body.decode().startswith("3.")


def test_the_client_of_mlflow_works_unchanged(client: Client, expected: float) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    asking = ScoringServerClient("127.0.0.1", client.port)
    asking.ping()
    assert asking.get_version()
    found = asking.invoke(pd.DataFrame([FEATURES])).get_predictions()
    assert found.to_numpy().tolist() == [[1 - expected, expected]]
