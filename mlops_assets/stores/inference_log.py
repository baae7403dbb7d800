"""The inference log: one record per prediction, appended before the answer is sent.

What a record holds, what of it is masked, and how it becomes a line and later a row. Files are the
matter of `append_log`; the way into the lake that of `inference_compaction`.

A row keeps the features as parallel lists, in the order in which the model got them: `features`
(names), `numbers` and `event_times`. So the number of one feature is
`numbers[list_position(features, 'name')]`, and `unnest(features), unnest(numbers)` gives one row
per feature. `texts` has the values that are no numbers, `statuses` those that are not `PRESENT`.
"""

import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import orjson

from mlops_assets.errors import DataError, DeclarationError
from mlops_assets.stores.append_log import (
    MOST_BYTES,
    AppendLog,
    LoggedTable,
    number_and_text,
    plain,
)
from mlops_assets.tables import EVENT_TIME

Thing = TypeVar("Thing")

PRESENT = "PRESENT"
"""Status of a feature that was found; the only one that is not written down."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Documents have no cycles, and the search for them costs a third of the time.
_encode = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False, ensure_ascii=False
).encode
# Of what is kept as a text whatever it is.
_encode_any = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode

PREDICTIONS = LoggedTable(
    name="inference_log",
    fields={
        "id": "VARCHAR",
        "time": "BIGINT",
        "model": "VARCHAR",
        "version": "VARCHAR",
        "arm": "VARCHAR",
        "entity": "MAP(VARCHAR, VARCHAR)",
        "features": "VARCHAR[]",
        "numbers": "DOUBLE[]",
        "texts": "MAP(VARCHAR, VARCHAR)",
        "event_times": "BIGINT[]",
        "statuses": "MAP(VARCHAR, VARCHAR)",
        "outputs": "MAP(VARCHAR, DOUBLE)",
        "output_texts": "MAP(VARCHAR, VARCHAR)",
        "latency_ms": "DOUBLE",
        "status": "VARCHAR",
    },
    columns={
        "prediction_id": "id",
        EVENT_TIME: "make_timestamp(time)::TIMESTAMPTZ",
        "model": "model",
        "version": "version",
        "arm": "arm",
        "entity": "entity",
        "features": "features",
        "numbers": "numbers",
        "texts": "texts",
        "event_times": "[make_timestamp(t)::TIMESTAMPTZ FOR t IN event_times]",
        "statuses": "statuses",
        "outputs": "outputs",
        "output_texts": "output_texts",
        "latency_ms": "latency_ms",
        "status": "status",
    },
    order=("model", EVENT_TIME, "prediction_id"),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction as it was answered.

    Args:
        id: unique among all predictions, but for a shadow's, which has that of the answer.
        time: of the prediction, with a zone.
        model: name of the model.
        version: the model version that answered.
        arm: the arm of the rollout that it answered in.
        entity: keys of the entity by name.
        features: values by name, in the order in which the model got them.
        event_times: of the values, where they have one.
        statuses: of the values, where they are not `PRESENT`.
        outputs: what was answered by name: numbers, texts, or lists of these.
        latency_ms: time from request to answer, in milliseconds.
        status: `ok`, or what went wrong.
    """

    id: str
    time: datetime
    model: str
    version: str
    arm: str
    entity: Mapping[str, Any]
    features: Mapping[str, Any]
    event_times: Mapping[str, datetime | None]
    statuses: Mapping[str, str]
    outputs: Mapping[str, Any]
    latency_ms: float
    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Mask:
    """Keys and features that are personal: never written as they are.

    Args:
        hashed: replaced by a keyed hash of their text (BLAKE2b, 128 bits), so that equal values
            can still be joined, by those who have the key or another table masked with it.
        dropped: left out, with their times and statuses.
        key: secret of the hashes, 16 to 64 bytes.

    Raises:
        DeclarationError: a key of another length, or a name that is both hashed and dropped.
    """

    hashed: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.hashed & self.dropped or (self.hashed and not 16 <= len(self.key) <= 64):
            raise DeclarationError(
                f"a mask that hashes {', '.join(sorted(self.hashed)) or 'nothing'} with a key of "
                f"{len(self.key)} bytes and drops {', '.join(sorted(self.dropped)) or 'nothing'}",
                expected="names that are either hashed or dropped, and a key of 16 to 64 bytes",
                do="give every name once, and a random key that is kept as a secret",
            )

    def hash(self, value: Any) -> str:
        """The keyed hash of a value's text.

        >>> Mask(frozenset({"name"}), key=bytes(16)).hash("somebody")
        '6adb89ce4fca5c76aab484c4f99ea610'
        """
        content = str(plain(value)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, key=self.key, digest_size=16).hexdigest()

    def texts(self, keys: Mapping[str, Any]) -> dict[str, str | None]:
        """Keys as texts, masked; a missing key stays missing."""
        return {
            name: None
            if value is None
            else self.hash(value)
            if name in self.hashed
            else value
            if type(value) is str
            else str(plain(value))
            for name, value in keys.items()
            if name not in self.dropped
        }


NO_MASK = Mask()
"""The mask of logs without personal data."""


class WorkerLog(ABC, Generic[Thing]):
    """The log of one worker: things in, masked records out, one write for all of a request.

    Args:
        folder: where all workers of a machine write.
        worker: name of this one.
        masks: what is personal, by model; the same in all logs, or entities do not meet.
        most_bytes: as in `AppendLog`.
        clock: as in `AppendLog`.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        *,
        masks: Mapping[str, Mask] = MappingProxyType({}),
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._masks = masks
        self._log = AppendLog(folder, worker, most_bytes=most_bytes, clock=clock)
        self.close_if_due = self._log.close_if_due
        self.close = self._log.close

    def mask(self, model: str) -> Mask:
        """What of a model is personal."""
        return self._masks.get(model, NO_MASK)

    @abstractmethod
    def record(self, one: Thing) -> Mapping[str, Any]:
        """What is written of a thing."""

    def append(self, one: Thing) -> None:
        """Append a thing; when this returns, its answer may be sent.

        Raises:
            DataError: when it cannot be written, or has a time without a zone.
        """
        self.append_all((one,))

    def append_all(self, things: Sequence[Thing]) -> int:
        """Append the things of one request with one write; see `append`.

        Returns:
            The bytes that were written.
        """
        return self._log.append_all([line_of(self.record(one)) for one in things])


class InferenceLog(WorkerLog[Prediction]):
    """The predictions of one worker."""

    def record(self, one: Prediction) -> Mapping[str, Any]:
        """The record of a prediction."""
        return document(one, self.mask(one.model))


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as JSON.

    Raises:
        DataError: values that JSON does not have.
    """
    try:
        return orjson.dumps(record)
    except TypeError:
        pass  # half a surrogate pair, which a client can send and which has no UTF-8, or worse
    try:
        return _encode(record).encode("utf-8", "replace")
    except (TypeError, ValueError) as wrong:
        raise DataError(
            f"the record {record.get('id')!r} cannot be logged: {wrong}",
            expected="texts, finite numbers, and lists of these",
            do="convert the values before they are logged",
        ) from wrong


def document(prediction: Prediction, mask: Mask) -> dict[str, Any]:
    """The fields of a prediction's line, masked."""
    names: list[str] = []
    numbers: list[float | None] = []
    texts: dict[str, str] = {}
    times: list[int | None] = []
    event_times = prediction.event_times
    last: datetime | None = None
    last_at: int | None = None
    dropped, hashed = mask.dropped, mask.hashed
    for name, value in prediction.features.items():
        if name in dropped:
            continue
        # Most values are finite floats: they go as they are, which is half the time of a record.
        number = value
        if type(value) is not float or value - value != 0.0 or name in hashed:
            number, text = number_and_text(value)
            if name in hashed and value is not None:
                number, text = None, mask.hash(value)
            if text is not None:
                texts[name] = text
        # Features of one view share their time: it is converted once.
        if (event_time := event_times.get(name)) is not last:
            last, last_at = event_time, microseconds(event_time)
        names.append(name)
        numbers.append(number)
        times.append(last_at)
    outputs, output_texts = _outputs(prediction.outputs)
    if not math.isfinite(prediction.latency_ms):
        raise DataError(
            f"the prediction {prediction.id!r} with the latency {prediction.latency_ms}",
            expected="a finite number of milliseconds",
            do="measure the time between two readings of one clock",
        )
    return {
        "id": prediction.id,
        "time": microseconds(prediction.time),
        "model": prediction.model,
        "version": prediction.version,
        "arm": prediction.arm,
        "entity": mask.texts(prediction.entity),
        "features": names,
        "numbers": numbers,
        "texts": texts,
        "event_times": times,
        "statuses": {
            name: status
            for name, status in prediction.statuses.items()
            if status != PRESENT and name not in mask.dropped
        },
        "outputs": outputs,
        "output_texts": output_texts,
        "latency_ms": prediction.latency_ms,
        "status": prediction.status,
    }


def _outputs(outputs: Mapping[str, Any]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Numbers, and all else as text; lists as JSON."""
    numbers: dict[str, float | None] = {}
    texts: dict[str, str] = {}
    for name, value in outputs.items():
        if type(value) is float and value - value == 0.0:
            numbers[name] = value
            continue
        number, text = number_and_text(
            _encode_any(value) if isinstance(value, (list, tuple, dict)) else value
        )
        if text is not None:
            texts[name] = text
        else:
            numbers[name] = number
    return numbers, texts


def microseconds(moment: datetime | None) -> int | None:
    """Microseconds since 1970.

    Raises:
        DataError: when the moment has no zone.
    """
    if moment is None:
        return None
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except TypeError as wrong:
        raise DataError(
            f"the time {moment} has no zone",
            expected="times with a zone, such as UTC",
            do="give times as datetime.now(UTC) does",
        ) from wrong
