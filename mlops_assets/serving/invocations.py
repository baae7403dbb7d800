"""MLflow's scoring interface: `/ping`, `/version` and `/invocations`, as `mlflow models serve` has.

Rows carry all inputs. `/invocations` asks the first model of the code location; each model has an
address of its own beside it.
"""

import time
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.serving.bodies import JSON, NOTES, answer, body_of, only, parsed, rows_of
from mlops_assets.serving.predictor import Answered, notes
from mlops_assets.serving.refusals import Refusal, shown
from mlops_assets.serving.worker import Worker

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


async def ping(request: Request) -> Response:
    """Whether models can be asked."""
    worker: Worker = request.app.state.worker
    stands = bool(worker.cache.serving) and not worker.draining
    return Response("\n", 200 if stands else 503, media_type=JSON)


async def version(request: Request) -> Response:
    """The version of MLflow, by which its clients know the interface."""
    return Response(installed_version("mlflow"), media_type="text/plain")


async def invocations(request: Request) -> Response:
    """Answer rows as MLflow does: probabilities of both classes, or a number, for each."""
    started = time.perf_counter()
    worker: Worker = request.app.state.worker
    model = request.path_params.get("model") or worker.specs[0].name
    rows = worker.rows_of(model)
    document = parsed(await body_of(request, JSON))
    only(document, (*FORMS, "params"))
    forms = [name for name in FORMS if name in document]
    if len(forms) != 1 or document.get("params"):
        raise Refusal(
            f"{' and '.join(forms) or 'no rows'}"
            + (" with params" if "params" in document else ""),
            expected=f"one of {', '.join(FORMS)}, and no params",
        )
    place = forms[0]
    given = _records(document[place], place, rows.inputs, worker.options.most_rows)

    def work() -> list[Answered]:
        return worker.predictor.predict(model, rows.of_features(given, place), started)

    answered = await worker.do(work, len(given))
    request.scope[NOTES].update(notes(model, answered))
    return answer({"predictions": [_said(one) for one in answered]})


def _said(one: Answered) -> Any:
    if one.by.binary:
        probability = one.outputs["probability"]
        return [1 - probability, probability]
    return one.outputs["forecast"]


def _records(value: Any, form: str, inputs: tuple[str, ...], most: int) -> list[Any]:
    """The rows in any of MLflow's forms, each with its columns by name."""
    if form == "dataframe_split":
        return _split(value, form, most)
    if form == "inputs" and type(value) is dict:
        return _by_column(value, form, most)
    rows = rows_of(value, form, most)
    if form == "dataframe_records" or type(rows[0]) is not list:
        return rows
    return [_named(row, inputs, f"{form}[{at}]") for at, row in enumerate(rows)]


def _split(value: Any, form: str, most: int) -> list[Any]:
    if type(value) is not dict:
        raise Refusal(shown(value), expected="an object with columns and data", field=form)
    only(value, ("columns", "data", "index"))
    columns = value.get("columns")
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise Refusal(
            shown(columns), expected="a list of the names of columns", field=f"{form}.columns"
        )
    if len(set(columns)) < len(columns):
        raise Refusal("a column twice", expected="every column once", field=f"{form}.columns")
    rows = rows_of(value.get("data"), f"{form}.data", most)
    return [_named(row, tuple(columns), f"{form}.data[{at}]") for at, row in enumerate(rows)]


def _by_column(value: Mapping[str, Any], form: str, most: int) -> list[Any]:
    columns = {}
    for name, values in value.items():
        columns[name] = rows_of(values, f"{form}.{name[:60]}", most)
    counts = {len(values) for values in columns.values()}
    if len(counts) != 1:
        raise Refusal(
            "columns of different lengths" if counts else "no columns",
            expected="the same number of rows in every column",
            field=form,
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _named(row: Any, names: tuple[str, ...], field: str) -> dict[str, Any]:
    if type(row) is not list or len(row) != len(names):
        found = f"{len(row)} values" if type(row) is list else shown(row)
        raise Refusal(found, expected=f"{len(names)} values, one per column", field=field)
    return dict(zip(names, row, strict=True))
