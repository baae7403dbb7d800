"""Features by entity id: read online, and what is answered while the store does not.

The reader is `stores.online_reader`; here its answers become rows of a model, values in the request
win where the spec allows it, and the last good answers are kept for the time of an outage.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.errors import ContractError, DataError
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.watch import Watch
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.stores.online_reader import OnlineAnswer, OnlineReader

REQUEST = "REQUEST"
"""Status of a feature that the request gave."""

DEFAULTED = "DEFAULTED"
"""Status of a feature that was missing or expired and has the default of the spec."""

_PRESENT = 1
"""The number of `online_reader.Status.PRESENT`, which brings Feast along when it is imported."""

LAST_GOOD = 10_000
"""Entities of a model whose last answer is kept: those that were asked for last."""


@dataclass(frozen=True, slots=True)
class Read:
    """The features of one row.

    Args:
        values: by name, in the order of the service.
        statuses: of the values that are not present, by name.
        event_times: by name.
    """

    values: dict[str, Any]
    statuses: dict[str, str]
    event_times: dict[str, datetime | None]


@dataclass
class OnlineFeatures:
    """Features of one model by entity id.

    Args:
        spec: the model.
        open_reader: makes a reader of its service.
        watch: is told whether the store answers.
        now: the time as of which ages are reckoned; None for the clock.
    """

    spec: ModelSpec
    open_reader: "Callable[[], OnlineReader]"
    watch: Watch
    now: datetime | None = None
    _reader: "OnlineReader | None" = None
    _last: OrderedDict[tuple[Any, ...], tuple[list[Any], list[Any], list[Any]]] = field(
        default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        self._keys = self.spec.entity_keys
        stored = [(f.name, v) for v in self.spec.features.views for f in self.spec.features.used(v)]
        self._ttl = {name: view.ttl for name, view in stored}

    def open(self) -> None:
        """Make the reader if there is none; a failure is noted, and the next call tries again."""
        if self._reader is None:
            try:
                self._reader = self.open_reader()
            except Exception as away:
                self.watch.failed(away)

    def read(
        self, rows: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]
    ) -> list[Read]:
        """The features of rows.

        Args:
            rows: keys and request data by name.
            given: features that the request gave, by row.

        Raises:
            Refusal: an entity that no view knows, or a store that does not answer for an entity
                that was not asked for lately.
        """
        try:
            answer = self._answer(rows)
        except ContractError as wrong:
            raise Refusal(wrong.found, expected=wrong.expected, field="entities") from wrong
        except ArithmeticError as wrong:
            raise Refusal(
                f"values that the request features cannot be computed from: {wrong}",
                expected="numbers of an ordinary size",
                field="entities",
            ) from wrong
        return [self._row(answer, at, more) for at, more in enumerate(given)]

    def _answer(self, rows: Sequence[Mapping[str, Any]]) -> "OnlineAnswer":
        """What the store says, or said last while it is away."""
        try:
            if self._reader is None:
                raise DataError("no reader", expected="a feature registry", do="wait")
            answer = self._reader.read(rows)
        except ContractError:
            # The rows are wrong, and not the store.
            raise
        except (DataError, OSError) as away:
            self.watch.failed(away)
            return self._from_memory(rows)
        self.watch.well()
        self._remember(rows, answer)
        return answer

    def _row(self, answer: "OnlineAnswer", at: int, given: Mapping[str, Any]) -> Read:
        values = dict(zip(answer.names, answer.values[at], strict=True))
        marks = answer.statuses[at]
        statuses = {
            name: mark.name
            for name, mark in zip(answer.names, marks, strict=True)
            if mark.value != _PRESENT
        }
        if len(statuses) >= len(self._ttl) > 0 and not given and self._unknown(statuses):
            raise Refusal(
                "an entity that no feature view knows",
                expected=f"known values of {', '.join(self._keys)}",
                do="correct the keys, or send all features yourself under `features`",
                status=404,
                field=f"entities[{at}]",
            )
        times = dict(zip(answer.names, answer.event_times[at], strict=True))
        for name, value in given.items():
            values[name], statuses[name], times[name] = value, REQUEST, None
        for name, value in self.spec.serving.defaults.items():
            if values[name] is None:
                values[name], statuses[name] = value, DEFAULTED
        for name in self.spec.serving.needed:
            if values[name] is None:
                found = statuses.get(name, "null").lower()
                raise lacks_needed(self.spec, name, found, f"entities[{at}]")
        return Read(values, statuses, times)

    def _unknown(self, statuses: Mapping[str, str]) -> bool:
        return all(statuses.get(name) == "NOT_FOUND" for name in self._ttl)

    def _remember(self, rows: Sequence[Mapping[str, Any]], answer: "OnlineAnswer") -> None:
        last = self._last
        parts = zip(rows, answer.values, answer.statuses, answer.event_times, strict=True)
        for row, values, statuses, times in parts:
            key = self._key(row)
            # Taken out first: what was asked for last is forgotten last.
            last.pop(key, None)
            last[key] = (values, statuses, times)
        while len(last) > LAST_GOOD:
            last.popitem(last=False)

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([row[name] for name in self._keys])

    def _from_memory(self, rows: Sequence[Mapping[str, Any]]) -> "OnlineAnswer":
        """The last good answers, with what has expired since; computed features anew."""
        from mlops_assets.stores.online_reader import OnlineAnswer, Status

        found = [self._last.get(self._key(row)) for row in rows]
        if self._reader is None or None in found:
            raise Refusal(
                "the features of this entity cannot be read at the moment",
                expected="an online store that answers",
                do="try again, or send all features yourself under `features`",
                status=503,
                retry_after=2,
                field=f"entities[{found.index(None) if None in found else 0}]",
            )
        now, names = self.now or datetime.now(UTC), self._reader.names
        computed = self._computed(rows)
        values, statuses, times = [], [], []
        for at, (kept, marks, events) in enumerate(one for one in found if one):
            old = [
                event is not None and name in self._ttl and now - event > self._ttl[name]
                for name, event in zip(names, events, strict=True)
            ]
            current = [
                computed[n][at] if n in computed else v for n, v in zip(names, kept, strict=True)
            ]
            values.append([None if gone else v for v, gone in zip(current, old, strict=True)])
            expired = Status.OUTSIDE_MAX_AGE
            statuses.append([expired if gone else s for s, gone in zip(marks, old, strict=True)])
            times.append(events)
        return OnlineAnswer(names, values, statuses, times)

    def _computed(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """The features that need no store."""
        from mlops_assets.stores.online_request import RequestFunction

        found: dict[str, list[Any]] = {}
        for request in self.spec.features.request:
            columns = {column.name: [row[column.name] for row in rows] for column in request.inputs}
            found.update(RequestFunction.of(request).of_values(columns))
        return found


def lacks_needed(spec: ModelSpec, name: str, found: str, field: str) -> Refusal:
    """The refusal of a row without a feature that the model predicts nothing without."""
    return Refusal(
        f"no value of {name!r}: {found}",
        expected=f"a value: {spec.name!r} predicts nothing without it",
        do="try again when the feature is fresh, or send all features yourself",
        status=422,
        field=field,
    )
