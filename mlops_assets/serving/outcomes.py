"""`POST /models/{model}/outcomes`: what became of predictions, as it becomes known.

A label, or values with names such as a revenue, or both. All deliveries are kept, late and repeated
ones too; which one counts is decided where outcomes are joined with predictions. Acknowledged means
written.
"""

import re
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.errors import DataError
from mlops_assets.serving.bodies import JSON, NOTES, answer, body_of, only, parsed, rows_of
from mlops_assets.serving.columns import Check, expectation, moment
from mlops_assets.serving.refusals import Refusal, shown, unknown
from mlops_assets.serving.worker import Worker
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.outcomes_log import LARGEST, Outcome
from mlops_assets.tables import Column

FIELDS = ("label", "values", "prediction_id", "entity", "time", "known_at")
MOST_VALUES = 20
"""Values of one outcome."""

VALUE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_ID = 200
_AHEAD = timedelta(days=1)
"""How far the clock of who sends may be ahead."""


async def outcomes(request: Request) -> Response:
    """Keep labels and values."""
    worker: Worker = request.app.state.worker
    model = request.path_params["model"]
    spec = worker.cache.by_name.get(model)
    if spec is None:
        worker.cache.get(model)
    assert spec is not None  # noqa: S101
    document = parsed(await body_of(request, JSON))
    only(document, ("outcomes",))
    given = rows_of(document.get("outcomes"), "outcomes", worker.options.most_rows)
    now = worker.platform.now
    found = [_outcome(spec, one, f"outcomes[{at}]", now) for at, one in enumerate(given)]
    try:
        size = worker.outcomes.append_all(found)
    except (DataError, OSError) as full:
        raise Refusal(
            "the outcomes cannot be written at the moment",
            expected="a log that takes records",
            do="send them again later: none was acknowledged",
            status=503,
            retry_after=10,
        ) from full
    worker.metrics.logged("outcomes", size)
    request.scope[NOTES].update(model=model, rows=len(found))
    return answer({"model": model, "accepted": len(found)}, 202)


def _outcome(spec: ModelSpec, given: Any, where: str, now: datetime) -> Outcome:
    if type(given) is not dict:
        raise Refusal(shown(given), expected="an object", field=where)
    for name in given:
        if name not in FIELDS:
            raise unknown("field", name, FIELDS, field=f"{where}.{str(name)[:60]}")
    by_id, by_entity = given.get("prediction_id"), given.get("entity")
    if (by_id is None) is (by_entity is None) or (by_entity is None) is not (
        given.get("time") is None
    ):
        raise Refusal(
            "no prediction, or two" if by_id is None or by_entity is not None else "a time alone",
            expected="`prediction_id`, or `entity` and `time`",
            do="name the prediction in one way",
            field=where,
        )
    if by_id is not None and (type(by_id) is not str or not 0 < len(by_id) <= _MOST_ID):
        raise Refusal(
            shown(by_id), expected="the id of a prediction", field=f"{where}.prediction_id"
        )
    values = _values(given.get("values"), f"{where}.values")
    # Values may come alone; a label that is named must be one.
    alone = values is not None and "label" not in given
    return Outcome(
        model=spec.name,
        label=None if alone else _label(spec, given.get("label"), f"{where}.label"),
        known_at=_known_at(spec, given.get("known_at"), f"{where}.known_at", now),
        prediction_id=by_id,
        entity=None if by_entity is None else _entity(spec, by_entity, f"{where}.entity"),
        time=_time(given.get("time"), f"{where}.time"),
        values=values,
    )


def _label(spec: ModelSpec, given: Any, field: str) -> Any:
    column = spec.rows.column(spec.label.column).model_copy(update={"nullable": False})
    if type(given) is bool and spec.task == "binary":
        return int(given)
    try:
        value = Check(column).value(given, "", 0)
    except Refusal:
        value = None
    large = isinstance(value, (int, float)) and not abs(value) <= LARGEST
    if value is None or large or (spec.task == "binary" and value not in (0, 1)):
        expected = "0 or 1" if spec.task == "binary" else expectation(column)
        if large:
            expected += f" of at most {LARGEST:g}"
        raise Refusal(
            shown(given), expected=expected, do="leave out what is not known yet", field=field
        )
    return value


def _values(given: Any, field: str) -> dict[str, float] | None:
    if given is None:
        return None
    if type(given) is not dict or not 0 < len(given) <= MOST_VALUES:
        raise Refusal(
            f"{len(given):,} values" if type(given) is dict else shown(given),
            expected=f"an object of 1 to {MOST_VALUES} numbers by name",
            do="leave out what is not known yet",
            field=field,
        )
    for name, value in given.items():
        if not VALUE_NAME.fullmatch(name):
            raise Refusal(
                f"the name {shown(name)}",
                expected="lower-case letters, digits and underscores, beginning with a letter, "
                "at most 64",
                field=field,
            )
        if type(value) not in (int, float) or not abs(value) <= LARGEST:
            raise Refusal(
                shown(value),
                expected=f"a number of at most {LARGEST:g}",
                do="leave out what is not known yet",
                field=f"{field}.{name}",
            )
    return {name: float(value) for name, value in given.items()}


def _entity(spec: ModelSpec, given: Any, field: str) -> dict[str, Any]:
    if type(given) is not dict or not given:
        raise Refusal(
            "an empty object" if given == {} else shown(given),
            expected="keys of the entity by name",
            field=field,
        )
    known = {column.name: column for column in _key_columns(spec)}
    found = {}
    for name, value in given.items():
        if name not in known:
            raise unknown("key", name, known, field=f"{field}.{str(name)[:60]}")
        try:
            found[name] = Check(known[name]).value(value, "", 0)
        except Refusal as wrong:
            raise Refusal(wrong.found, expected=wrong.expected, field=f"{field}.{name}") from None
    return found


def _key_columns(spec: ModelSpec) -> list[Column]:
    names = dict.fromkeys([*spec.entity_keys, spec.rows.row_id])
    return [spec.rows.column(name) for name in names]


def _known_at(spec: ModelSpec, given: Any, field: str, now: datetime) -> datetime:
    """When an outcome became known: not long after now, and no earlier than outcomes are kept."""
    time = _time(given, field)
    if time is None:
        return now
    kept = timedelta(days=spec.serving.retention_days)
    if not now - kept <= time <= now + _AHEAD:
        raise Refusal(
            shown(given),
            expected=f"a time of the last {kept.days:,} days, for which outcomes are kept",
            do="leave it out if it becomes known with this request",
            field=field,
        )
    return time


def _time(given: Any, field: str) -> datetime | None:
    if given is None:
        return None
    try:
        return moment(given)
    except (ValueError, OverflowError):
        raise Refusal(
            shown(given),
            expected="a time as ISO 8601 with a zone",
            do="write it like 2013-11-05T12:00:00Z",
            field=field,
        ) from None
