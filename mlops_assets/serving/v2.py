"""The Open Inference Protocol, version 2, over REST: a client written for the standard works.

Health, metadata and inference by full features. The form of tensors is in `tensors`; an entity's
keys may be sent as further inputs, so that it keeps its arm.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.serving.bodies import (
    JSON,
    NOTES,
    answer,
    body_of,
    only,
    parsed,
    rows_of,
)
from mlops_assets.serving.predictor import Answered, ModelRows, notes
from mlops_assets.serving.refusals import Refusal, shown
from mlops_assets.serving.served_model import VENN_ABERS, ServedModel
from mlops_assets.serving.tensors import described, read, written
from mlops_assets.serving.worker import Worker
from mlops_assets.tables import Column

BINARY = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
TOLD = ("prediction_id", "version", "arm")
"""Outputs that say of each row where its prediction comes from."""


async def live(request: Request) -> Response:
    """Whether the process answers."""
    return answer({"live": True})


async def ready(request: Request) -> Response:
    """Whether models can be asked, and what is not as it should be."""
    worker: Worker = request.app.state.worker
    cache = worker.cache
    models = {name: sorted(one.models) for name, one in cache.serving.items()}
    watched = (cache.registry, worker.traffic.ledger, worker.online)
    away = [watch.name for watch in watched if watch.failing_since]
    stands = bool(models) and not worker.draining
    found = {
        "ready": stands,
        "models": models,
        "not_served": [spec.name for spec in worker.specs if spec.name not in models],
        "cannot_load": cache.lagging,
        "away": away,
        "last_good_state": bool(stands and (away or cache.lagging)),
    }
    return answer(found, 200 if stands else 503)


async def server(request: Request) -> Response:
    """Name, version and extensions of the server."""
    return answer(
        {
            "name": "mlops-assets",
            "version": installed_version("mlops-assets"),
            "extensions": ["binary_tensor_data"],
        }
    )


async def metadata(request: Request) -> Response:
    """Inputs and outputs of a model."""
    worker, model, served = _asked_for(request)
    columns = [described(column) for column in _columns(worker.rows_of(model)).values()]
    needed = len(worker.rows[model].inputs)
    return answer(
        {
            "name": model,
            "versions": sorted(worker.cache.get(model).models, key=int),
            "platform": "mlops-assets_sklearn",
            "inputs": columns[:needed],
            "outputs": _outputs(served),
        }
    )


async def model_ready(request: Request) -> Response:
    """Whether a model, or a version of it, can be asked."""
    _, model, served = _asked_for(request)
    return answer({"name": model, "ready": True, "version": served.version})


async def infer(request: Request) -> Response:
    """Answer the tensors of a model."""
    started = time.perf_counter()
    worker, model, served = _asked_for(request)
    # Clients that send raw values often name no type.
    body = await body_of(request, JSON, BINARY, "")
    document, tail = _split(request, body)
    only(document, ("id", "parameters", "inputs", "outputs"))
    rows = worker.rows[model]
    given = _rows(rows, document, tail, worker.options.most_rows)
    names = [one["name"] for one in _outputs(served)]
    chosen = _chosen(document, names)
    number = request.path_params.get("version")

    def work() -> list[Answered]:
        asked = rows.of_features(given, "inputs")
        return worker.predictor.predict(model, asked, started, number)

    answered = await worker.do(work, len(given))
    request.scope[NOTES].update(notes(model, answered))
    return _answered(model, document, answered, chosen)


def _asked_for(request: Request) -> tuple[Worker, str, ServedModel]:
    worker: Worker = request.app.state.worker
    model, version = request.path_params["model"], request.path_params.get("version")
    serving = worker.cache.get(model)
    number = version or serving.table.rest.version
    if number not in serving.models:
        raise Refusal(
            f"version {shown(number)} of {model!r} is not served",
            expected=f"one of: {', '.join(serving.models)}",
            do="leave the version out, or name one that takes traffic",
            status=404,
        )
    return worker, model, serving.models[number]


def _columns(rows: ModelRows) -> dict[str, Column]:
    checks = (*rows.features.required, *rows.features.optional.values())
    return {check.name: check.column for check in checks}


def _outputs(served: ServedModel) -> list[dict[str, Any]]:
    """What a version answers; without a version in the address, what the champion does."""
    if served.binary:
        kinds = {"probability": "FP64", "negative_in_set": "BOOL", "positive_in_set": "BOOL"}
        if hasattr(served.fitted.classifier, "intervals"):  # type: ignore[union-attr]
            kinds |= dict.fromkeys(VENN_ABERS, "FP64")
    else:
        kinds = dict.fromkeys(("forecast", "low", "high"), "FP64")
    kinds |= dict.fromkeys(TOLD, "BYTES")
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in kinds.items()]


def _split(request: Request, body: bytes) -> tuple[dict[str, Any], memoryview]:
    """The JSON part and the raw values after it."""
    length = request.headers.get(JSON_LENGTH)
    if length is None:
        return parsed(body), memoryview(b"")
    if not length.isascii() or not length.isdigit() or not 0 < int(length[:12]) <= len(body):
        raise Refusal(
            f"a JSON part of {shown(length)} bytes in a body of {len(body):,}",
            expected="the length of the JSON part",
            field="Inference-Header-Content-Length",
        )
    return parsed(body[: int(length)]), memoryview(body)[int(length) :]


def _rows(
    rows: ModelRows, document: Mapping[str, Any], tail: memoryview, most: int
) -> list[dict[str, Any]]:
    columns, found = _columns(rows), {}
    for at, tensor in enumerate(rows_of(document.get("inputs"), "inputs", len(columns))):
        name, values, tail = read(tensor, at, columns, tail, most)
        if name in found:
            raise Refusal(f"{name} twice", expected="every input once", field=f"inputs[{at}].name")
        found[name] = values
    if tail:
        raise Refusal(
            f"{len(tail):,} raw bytes too many",
            expected="as many as the inputs say",
            field="inputs",
        )
    counts = {len(values) for values in found.values()}
    if len(counts) > 1:
        raise Refusal(
            f"inputs of {' and '.join(map(str, sorted(counts)))} rows",
            expected="the same number of rows in every input",
            field="inputs",
        )
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _chosen(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, bool]:
    """Outputs that the client wants, and whether as raw values."""
    parameters = _object(document.get("parameters", {}), "parameters")
    raw = parameters.get("binary_data_output") is True
    wanted = document.get("outputs")
    if wanted is None or wanted == []:
        return dict.fromkeys(names, raw)
    found = {}
    for at, one in enumerate(rows_of(wanted, "outputs", len(names))):
        output = _object(one, f"outputs[{at}]")
        name = output.get("name")
        if type(name) is not str or name not in names:
            raise Refusal(
                f"the output {shown(name)}",
                expected=f"one of: {', '.join(names)}",
                field=f"outputs[{at}].name",
            )
        own = _object(output.get("parameters", {}), f"outputs[{at}].parameters")
        found[name] = own.get("binary_data", raw) is True
    return found


def _object(value: Any, field: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise Refusal(shown(value), expected="an object", field=field)
    return value


def _answered(
    model: str,
    document: Mapping[str, Any],
    answered: Sequence[Answered],
    chosen: Mapping[str, bool],
) -> Response:
    # The outputs are those of the champion: null of a version beside it that has not all of them.
    columns = {name: [one.outputs.get(name) for one in answered] for name in chosen}
    columns["prediction_id"] = [one.id for one in answered]
    columns["version"] = [one.by.version for one in answered]
    columns["arm"] = [one.arm for one in answered]
    outputs, tail = [], b""
    for name, raw in chosen.items():
        tensor, some = written(name, columns[name], binary=raw)
        outputs.append(tensor)
        tail += some
    head = {"model_name": model, "model_version": answered[0].by.version, "outputs": outputs}
    if type(document.get("id")) is str:
        head["id"] = document["id"]
    if not tail:
        return answer(head)
    first = orjson.dumps(head)
    return Response(first + tail, 200, {JSON_LENGTH: str(len(first))}, BINARY)
