"""Whatever a client sends is answered, or refused with the place and what was expected."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets_tests.serving.running import Client
from mlops_assets_tests.serving.shop_home import FEATURES, KNOWN

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

PREDICT, INFER, INVOKE = "/models/returns/predict", "/v2/models/returns/infer", "/invocations"


def row(**change: Any) -> Any:
    return {"features": [{**FEATURES, **change}]}


def entity(**change: Any) -> Any:
    return {"entities": [{**KNOWN, **change}]}


def tensor(**change: Any) -> Any:
    return {
        "inputs": [{"name": "shop", "shape": [1], "datatype": "BYTES", "data": ["a"], **change}]
    }


FLAWS = [
    (PREDICT, {}, ""),
    (PREDICT, {"features": [FEATURES], "entities": [KNOWN]}, ""),
    (PREDICT, {"feature": [FEATURES]}, "feature"),
    (PREDICT, {"features": []}, "features"),
    (PREDICT, {"features": FEATURES}, "features"),
    (PREDICT, {"features": [[1]]}, "features[0]"),
    (PREDICT, row(amount_last="1"), "features[0].amount_last"),
    (PREDICT, row(amount_last=True), "features[0].amount_last"),
    (PREDICT, row(amount_last=[1.0]), "features[0].amount_last"),
    (PREDICT, row(amount_last={"a": {"b": 1}}), "features[0].amount_last"),
    (PREDICT, row(shop=1), "features[0].shop"),
    (PREDICT, row(shop="a" * 1001), "features[0].shop"),
    (PREDICT, row(more=1), "features[0].more"),
    (PREDICT, {"features": [{"shop": "a"}]}, "features[0].amount_last"),
    (PREDICT, entity(size=1.5), "entities[0].size"),
    (PREDICT, entity(size=2**63), "entities[0].size"),
    (PREDICT, entity(size="3"), "entities[0].size"),
    (PREDICT, entity(shop=7), "entities[0].shop"),
    (PREDICT, {"entities": [{"shop": "a"}]}, "entities[0].item"),
    (INFER, {}, "inputs"),
    (INFER, {"inputs": [7]}, "inputs[0]"),
    (INFER, {"inputs": [{}]}, "inputs[0].name"),
    (INFER, tensor(name="more"), "inputs[0].name"),
    (INFER, tensor(datatype="FP64"), "inputs[0].datatype"),
    (INFER, tensor(datatype=None), "inputs[0].datatype"),
    (INFER, tensor(shape=[2]), "inputs[0].data"),
    (INFER, tensor(shape=[1, 2]), "inputs[0].shape"),
    (INFER, tensor(shape=[-1]), "inputs[0].shape"),
    (INFER, tensor(shape="1"), "inputs[0].shape"),
    (INFER, tensor(shape=[True]), "inputs[0].shape"),
    (INFER, tensor(data="a"), "inputs[0].data"),
    (INFER, tensor(data=[[["a"]]]), "inputs[0].shop"),
    (INFER, tensor(more=1), "inputs[0]"),
    (INFER, tensor(parameters=7), "inputs[0].parameters"),
    (INFER, tensor(parameters={"binary_data_size": 4}), "inputs[0].parameters.binary_data_size"),
    (INFER, tensor(), "inputs[0].amount_last"),
    (INFER, {**tensor(), "outputs": [{"name": "more"}]}, "inputs[0].amount_last"),
    (INVOKE, {}, ""),
    (INVOKE, {"instances": [FEATURES], "inputs": [FEATURES]}, ""),
    (INVOKE, {"dataframe_split": {"columns": ["shop"], "data": [[]]}}, "dataframe_split.data[0]"),
    (INVOKE, {"dataframe_split": {"columns": "shop", "data": []}}, "dataframe_split.columns"),
    (INVOKE, {"dataframe_split": {"columns": ["shop"]}}, "dataframe_split.data"),
    (INVOKE, {"dataframe_split": []}, "dataframe_split"),
    (INVOKE, {"instances": [[1]]}, "instances[0]"),
    (INVOKE, {"inputs": {"shop": ["a"], "amount_2d": [1, 2]}}, "inputs"),
    (INVOKE, {"inputs": {}}, "inputs"),
]


@pytest.mark.parametrize(("path", "body", "field"), FLAWS)
def test_a_flaw_is_refused_with_its_place(client: Client, path: str, body: Any, field: str) -> None:
    found = client.post(path, body)
    if path == INFER and field.startswith("inputs[0].amount"):
        assert found.status == 400
        return
    assert (found.status, found.json["field"]) == (400, field)
    assert found.json["found"]
    assert found.json["expected"]


BODIES = [b"", b"{", b"\xff", b"[1]", b'"a"', b"null", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 5000]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", [PREDICT, INFER, INVOKE, "/models/returns/outcomes"])
def test_what_is_no_json_object_is_refused(client: Client, path: str, body: bytes) -> None:
    found = client.ask("POST", path, body)
    assert found.status == 400
    assert found.json["error"]


def test_a_number_beyond_all_numbers_is_refused(client: Client) -> None:
    body = json.dumps(row()).replace("8.0", "1e999").encode()
    assert client.ask("POST", PREDICT, body).status == 400


def test_a_very_large_number_is_answered(client: Client) -> None:
    assert client.post(PREDICT, row(amount_last=1e308)).status == 200


def test_null_is_answered_where_it_may_be(client: Client) -> None:
    assert client.post(PREDICT, row(amount_last=None, shop=None)).status == 200


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "text/csv", "application/x-www-form-urlencoded"]
)
def test_another_content_type_is_refused(client: Client, kind: str) -> None:
    found = client.ask("POST", PREDICT, b"{}", {"Content-Type": kind})
    assert (found.status, found.json["field"]) == (415, "Content-Type")


def test_a_packed_body_is_refused(client: Client) -> None:
    assert client.post(PREDICT, row(), **{"Content-Encoding": "gzip"}).status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/models/nothing/predict", 404),
        ("POST", "/v2/models/nothing/infer", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/returns/versions/99", 404),
        ("GET", "/v2/models/returns/versions/%00/ready", 404),
        ("POST", "/v2/models/returns/versions/99/infer", 404),
        ("GET", "/nothing", 404),
        ("GET", PREDICT, 405),
        ("DELETE", "/v2", 405),
    ],
)
def test_an_address_that_is_not_there_is_refused_in_the_same_form(
    client: Client, method: str, path: str, status: int
) -> None:
    found = client.ask(method, path, {} if method == "POST" else None)
    assert found.status == status
    assert found.json["expected"]


@pytest.mark.parametrize("length", ["-1", "0", "99999", "x", "²"])
def test_a_wrong_length_of_the_json_part_is_refused(client: Client, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    assert client.post(INFER, tensor(), **headers).status == 400


def test_raw_values_that_do_not_fit_are_refused(client: Client) -> None:
    for size, tail in ((8, b"1234"), (4, b"1234"), (8, b"\x09\0\0\0abcd"), (0, b"")):
        shape = {"name": "shop", "shape": [1], "datatype": "BYTES"}
        head = {"inputs": [{**shape, "parameters": {"binary_data_size": size}}]}
        first = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(first))}
        found = client.ask("POST", INFER, first + tail, headers)
        assert (found.status, found.json["field"][:9]) == (400, "inputs[0]")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ["shop", "item", "size", "amount_last", "amount_2d", "size_doubled", "order_id"]
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), ANY, max_size=7) | ANY, max_size=3)
NEARLY = st.fixed_dictionaries({name: st.just(value) | ANY for name, value in FEATURES.items()})
TENSORS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(NAMES) | ANY,
            "shape": st.lists(st.integers(-1, 3), max_size=3) | ANY,
            "datatype": st.sampled_from(["BYTES", "FP64", "INT8", "BOOL"]) | ANY,
            "data": st.lists(ANY, max_size=3) | ANY,
            "parameters": ANY,
        },
    ),
    max_size=4,
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.one_of(
        st.tuples(
            st.just(PREDICT), st.fixed_dictionaries({"features": st.lists(NEARLY, max_size=2)})
        ),
        st.tuples(st.just(PREDICT), st.fixed_dictionaries({"entities": ROWS})),
        st.tuples(st.just(INFER), st.fixed_dictionaries({"inputs": TENSORS, "outputs": ANY})),
        st.tuples(
            st.just(INVOKE), st.dictionaries(st.sampled_from(["instances", "inputs"]), ROWS | ANY)
        ),
        st.tuples(st.just("/models/returns/outcomes"), st.fixed_dictionaries({"outcomes": ROWS})),
        st.tuples(st.sampled_from([PREDICT, INFER, INVOKE]), ANY),
    )
)
def test_nothing_that_is_sent_gives_an_error_of_the_server(client: Client, sent: Any) -> None:
    path, body = sent
    found = client.post(path, body)
    assert 200 <= found.status < 500, (body, found.body)
    json.loads(found.body)
