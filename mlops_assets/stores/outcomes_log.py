"""The outcomes log: what became of predictions, as it becomes known.

Labels, and values with names such as a revenue, come late, some more than once, and by the id of a
prediction or by entity and time. All of them are kept, by the day on which they became known; of
several for one prediction, the one that became known last counts, of values by name. Days that
were written before there were values lack their column. Joining them with predictions is done
where models are monitored and experiments are judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_assets.errors import DataError
from mlops_assets.stores.append_log import LoggedTable, number_and_text
from mlops_assets.stores.inference_log import WorkerLog, microseconds
from mlops_assets.tables import EVENT_TIME

LARGEST = 1e15
"""Largest label or value: sums of squares of larger ones lose what the others brought."""

OUTCOMES = LoggedTable(
    name="outcomes_log",
    fields={
        "id": "VARCHAR",
        "known_at": "BIGINT",
        "model": "VARCHAR",
        "entity": "MAP(VARCHAR, VARCHAR)",
        "time": "BIGINT",
        "number": "DOUBLE",
        "text": "VARCHAR",
        "values": "MAP(VARCHAR, DOUBLE)",
    },
    columns={
        "prediction_id": "id",
        EVENT_TIME: "make_timestamp(known_at)::TIMESTAMPTZ",
        "model": "model",
        "entity": "entity",
        "predicted_at": "make_timestamp(time)::TIMESTAMPTZ",
        "label": "number",
        "label_text": "text",
        "values": '"values"',
    },
    order=("model", EVENT_TIME),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A label that became known, or values, or both.

    Args:
        model: name of the model.
        label: a number or flag, or a text; None when only values became known. Numbers, also those
            of `values`, are at most `LARGEST` from zero.
        known_at: when it became known, with a zone.
        prediction_id: which prediction it belongs to, or
        entity: keys of the entity by name, and
        time: of the prediction, with a zone.
        values: finite numbers by name: what it brought, in units of the business.

    Raises:
        DataError: when it names neither a prediction nor an entity with a time, has neither a label
            nor values, or a number that is too large or not finite.
    """

    model: str
    label: Any
    known_at: datetime
    prediction_id: str | None = None
    entity: Mapping[str, Any] | None = None
    time: datetime | None = None
    values: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        named = self.prediction_id is not None or (self.entity and self.time is not None)
        values = self.values or {}
        number, words = number_and_text(self.label)
        known = bool(values) or (number, words) != (None, None)
        fits = all(abs(one) <= LARGEST for one in (number or 0.0, *values.values()))
        if not named or not known or not fits:
            raise DataError(
                f"an outcome of {self.model} with the label {self.label!r} and the values "
                f"{dict(values)}, for prediction {self.prediction_id!r}, time {self.time}",
                expected=f"a label or values of at most {LARGEST:g}, and the id of a prediction or "
                "an entity and a time",
                do="leave out outcomes that are not known yet; name the prediction of the others",
            )


class OutcomesLog(WorkerLog[Outcome]):
    """The outcomes that reached one worker; in another folder than its predictions."""

    def record(self, one: Outcome) -> Mapping[str, Any]:
        """The record of an outcome."""
        number, label_text = number_and_text(one.label)
        record = {
            "id": one.prediction_id,
            "known_at": microseconds(one.known_at),
            "model": one.model,
            "entity": self.mask(one.model).texts(one.entity or {}),
            "time": microseconds(one.time),
            "number": number,
            "text": label_text,
        }
        return {**record, "values": dict(one.values)} if one.values else record
