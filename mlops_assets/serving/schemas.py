"""The OpenAPI document of the served models, with examples that can be run as they stand.

Made from the specs: what the code checks and what the page says come from the same columns. What
the examples hold is decided in `examples`.
"""

from collections.abc import Iterable
from importlib.metadata import version as installed_version
from typing import Any

from mlops_assets.serving.columns import RowSchema, expectation
from mlops_assets.serving.examples import Examples, made_up
from mlops_assets.serving.outcomes import MOST_VALUES, VALUE_NAME
from mlops_assets.serving.predictor import ModelRows
from mlops_assets.serving.tensors import described
from mlops_assets.serving.worker import Worker
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import Column

_TYPES = {"string": "string", "int": "integer", "float": "number", "bool": "boolean"}
_REFUSALS = {
    "400": "something in the request is not as it should be; the body says what and where",
    "404": "no such model, version or entity",
    "409": "not as things stand, such as a second rollout; the body says what to do",
    "413": "too many bytes or rows",
    "415": "another content type",
    "422": "a feature that the model does not predict without has no value",
    "429": "too many requests at one time; see Retry-After",
    "503": "not possible at the moment; see Retry-After",
}
_REFUSAL = {
    "type": "object",
    "required": ["error", "error_code", "field", "found", "expected", "do"],
    "properties": {
        name: {"type": "string"}
        for name in ("error", "error_code", "message", "field", "found", "expected", "do")
    },
}


def document(worker: Worker, examples: Examples) -> dict[str, Any]:
    """The OpenAPI document; slow, because examples are read from the stores."""
    paths: dict[str, Any] = {}
    for model, rows in worker.rows.items():
        if model not in worker.cache.serving:
            continue
        entity, features = examples.rows(rows)
        paths |= _of_model(model, rows, entity, features)
        paths |= _of_operations(rows.spec, *examples.versions(model))
    paths |= {
        path: {"get": {"summary": text, "responses": {"200": {"description": "the answer"}}}}
        for path, text in {
            "/v2/health/live": "Is the process there?",
            "/v2/health/ready": "Can models be asked, and is something not as it should be?",
            "/v2": "Name, version and extensions of the server",
            "/ping": "MLflow's question whether models can be asked",
            "/version": "The version of MLflow",
            "/metrics": "Metrics for Prometheus",
        }.items()
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "mlops-assets", "version": installed_version("mlops-assets")},
        "paths": paths,
        "components": {"schemas": {"Refusal": _REFUSAL}},
    }
    if worker.tokens.asked:
        scheme = {"type": "http", "scheme": "bearer"}
        found["components"]["securitySchemes"] = {"token": scheme}
        found["security"] = [{"token": []}]
    return found


def _of_model(
    model: str, rows: ModelRows, entity: dict[str, Any] | None, features: dict[str, Any]
) -> dict[str, Any]:
    spec = rows.spec
    by_entity, by_features = _rows(rows.entities), _rows(rows.features)
    examples = {"by features": {"value": {"features": [features]}}}
    if entity is not None:
        examples = {"by entity": {"value": {"entities": [entity]}}, **examples}
    predict = {
        "oneOf": [
            _object({"entities": {"type": "array", "minItems": 1, "items": by_entity}}),
            _object({"features": {"type": "array", "minItems": 1, "items": by_features}}),
        ]
    }
    inputs = [
        {**described(check.column), "shape": [1], "data": [features[check.name]]}
        for check in rows.features.required
    ]
    label = made_up(spec.rows.column(spec.label.column), nullable=False)
    outcome = {
        "label": _schema(spec.rows.column(spec.label.column)),
        "values": {
            "type": "object",
            "description": "what it brought by name, such as a revenue; beside the label or alone",
            "minProperties": 1,
            "maxProperties": MOST_VALUES,
            "propertyNames": {"pattern": f"^{VALUE_NAME.pattern}$"},
            "additionalProperties": {"type": "number"},
        },
        "prediction_id": {"type": "string"},
        "entity": {"type": "object"},
        "time": {"type": "string", "format": "date-time"},
        "known_at": {"type": "string", "format": "date-time"},
    }
    outcomes = {"type": "array", "minItems": 1, "items": {"type": "object", "properties": outcome}}
    split = {"columns": list(rows.inputs), "data": [[features[name] for name in rows.inputs]]}
    return {
        f"/models/{model}/predict": _post(f"Predict: {spec.description}", predict, examples),
        f"/models/{model}/outcomes": _post(
            "Say what became of predictions",
            _object({"outcomes": outcomes}),
            {"by id": {"value": {"outcomes": [{"label": label, "prediction_id": "0" * 32}]}}},
            "202",
        ),
        f"/v2/models/{model}/infer": _post(
            "Open Inference Protocol",
            {"type": "object", "required": ["inputs"]},
            {"one row": {"value": {"inputs": inputs}}},
        ),
        f"/models/{model}/invocations": _post(
            "MLflow's interface",
            {"type": "object"},
            {"one row": {"value": {"dataframe_split": split}}},
        ),
        f"/v2/models/{model}": {
            "get": {"summary": "Inputs and outputs", "responses": {"200": {"description": "them"}}}
        },
    }


def _of_operations(spec: ModelSpec, champion: str, other: str) -> dict[str, Any]:
    """How rollouts are moved, and the champion is rolled back."""
    model = spec.name
    path, text = f"/models/{model}/rollout", {"type": "string", "minLength": 1}
    why = {"reason": text}
    entry = "`entry` of the state that the move is decided on: of one state there is one move"
    seen = {**why, "entry": {"type": "integer", "description": entry}}
    said = {"value": {"reason": "it answers slowly"}}
    begun = {"version": text, "steps": {"type": "array", "items": {"type": "number"}}, **why}
    steps = list(spec.rollout.steps)
    first = {"value": {"version": other, "steps": steps, "reason": "it passed its gates"}}
    names = {"type": "array", "minItems": 1, "items": text}
    one = _object({"name": text, "version": text, "percent": {"type": "number"}})
    arms = {"type": "array", "minItems": 2, "items": one}
    halves = [{"name": f"v{one}", "version": one, "percent": 50} for one in (champion, other)]
    metrics = [one.name for one in spec.metrics] or ["revenue"]
    split = {"value": {"arms": halves, "metrics": metrics, "reason": "which brings more?"}}
    moves = {
        "advance": "Give the version its next share; after the last, release it",
        "pause": "Keep the traffic as it is, and let nothing but a person move it",
        "resume": "Go on where it was paused",
        "abort": "Give everybody the champion again",
    }
    return {
        path: {
            "get": {
                "summary": "The newest rollout, and what would become of it now",
                "responses": {"200": {"description": "its state"}},
            }
        },
        f"{path}/start": _post(
            "Begin to roll out a version, in shadow",
            _object(begun, ("version", "reason")),
            {"one version": first},
            "201",
        ),
        **{
            f"{path}/{move}": _post(summary, _object(seen, ("reason",)), {"a reason": said})
            for move, summary in moves.items()
        },
        f"/models/{model}/experiment": {
            "get": {
                "summary": "The newest experiment, and what it says now",
                "responses": {
                    "200": {"description": "its state and comparisons"},
                    "409": _refused("there is none, or it cannot be judged"),
                },
            }
        },
        f"/models/{model}/experiment/start": _post(
            "Begin to split the traffic over versions",
            _object(
                {"arms": arms, "metrics": names, "exposed": {"type": "number"}, **why},
                ("arms", "metrics", "reason"),
            ),
            {"two versions": split},
            "201",
        ),
        f"/models/{model}/experiment/stop": _post(
            "Stop the experiment: everybody gets the champion",
            _object(why),
            {"a reason": said},
        ),
        f"/models/{model}/rollback": _post(
            "Go back to the champion before, in one step",
            _object({"to": text, **why}, ("reason",)),
            {"a reason": said},
        ),
    }


def _refused(why: str) -> dict[str, Any]:
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {"description": why, "content": refusal}


def _post(text: str, schema: Any, examples: Any, status: str = "200") -> dict[str, Any]:
    body = {"schema": schema, "examples": examples}
    responses: dict[str, Any] = {code: _refused(why) for code, why in _REFUSALS.items()}
    responses[status] = {
        "description": "the answer",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    request = {"required": True, "content": {"application/json": body}}
    return {"post": {"summary": text, "requestBody": request, "responses": responses}}


def _object(properties: dict[str, Any], required: Iterable[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _rows(schema: RowSchema) -> dict[str, Any]:
    required = {check.name: _schema(check.column) for check in schema.required}
    optional = {name: _schema(check.column) for name, check in schema.optional.items()}
    return {**_object({**required, **optional}), "required": list(required)}


def _schema(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"description": f"{column.description} ({expectation(column)})".strip()}
    kind = _TYPES.get(column.type, "string")
    found["type"] = [kind, "null"] if column.nullable else kind
    if column.type == "time":
        found["format"] = "date-time"
    if column.minimum is not None:
        found["minimum"] = column.minimum
    if column.maximum is not None:
        found["maximum"] = column.maximum
    if column.allowed is not None:
        found["enum"] = [*column.allowed, *([None] if column.nullable else [])]
    return found
