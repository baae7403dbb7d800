"""Reading features online without Feast's work per call.

Feast resolves views, keys and projections anew on every call and builds a protobuf object per
value. `OnlineReader` resolves a feature service once and then only packs keys, reads rows and
unpacks them. Its answer is the one `get_online_features` gives through the same store; a test
holds the two together. A change in the registry is seen by a new reader, not by this one.

Only reading belongs here; what a TTL means is told in `online_store`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from operator import itemgetter
from typing import Any

import feast
from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.value_type import ValueType

from mlops_assets.errors import ContractError
from mlops_assets.stores import online_codec
from mlops_assets.stores.asof_source import EPOCH, microseconds
from mlops_assets.stores.online_backend import Backend, Stored
from mlops_assets.stores.online_keys import Keys
from mlops_assets.stores.online_materialize import newest_store
from mlops_assets.stores.online_request import RequestView
from mlops_assets.stores.online_store import (
    MICROSECOND,
    missing_keys,
    oldest_event,
    present,
    stored_name,
    ttl_of,
)


class Status(IntEnum):
    """What an answer means; the numbers are Feast's."""

    PRESENT = FieldStatus.PRESENT
    NOT_FOUND = FieldStatus.NOT_FOUND
    OUTSIDE_MAX_AGE = FieldStatus.OUTSIDE_MAX_AGE

    @property
    def words(self) -> str:
        """The status as people read it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """Features of some rows; all lists are rows by features.

    Attributes:
        names: the features, in the order of the service.
        values: None where a value is null, unknown or expired.
        statuses: why. A null value is `PRESENT`, as in Feast.
        event_times: of the row a value comes from, also when it is expired; None where there is
            none, and for features computed at request time.
    """

    names: tuple[str, ...]
    values: list[list[Any]]
    statuses: list[list[Status]]
    event_times: list[list[datetime | None]]


class OnlineReader:
    """Reads one feature service (or list of features), for one or many rows.

    Args:
        store: a feature store whose online store is a `NewestOnlineStore`.
        features: name of a feature service, the service, or references `view:feature`.
        full_feature_names: name features `view__feature`.
    """

    def __init__(
        self,
        store: feast.FeatureStore,
        features: "str | feast.FeatureService | list[str]",
        *,
        full_feature_names: bool = False,
    ) -> None:
        self._config = store.config
        self._backend = newest_store(store).backend(store.config)
        if isinstance(features, str):
            features = store.get_feature_service(features)
        (refs, on_demand, _, types, entity_keys, groups, _, request_data, _) = (
            utils._get_online_request_context(
                store.registry, store.project, features, full_feature_names
            )
        )
        order = [tuple(ref.split(":")) for ref in refs]
        self._views = [
            _View.of(self._config, view, names, order, types, full_feature_names)
            for view, names in groups
        ]
        self._requests = [
            RequestView.of(view, on_demand, refs, full_feature_names) for view in on_demand
        ]
        self.inputs = tuple(sorted(request_data))
        # Views of Feast's own see more than their inputs: stored features and entities.
        self._foreign = any(request.function is None for request in self._requests)
        # What a view computed at request time may see: any entity of the project, as in Feast.
        self._entity_keys = frozenset(entity_keys)
        self.join_keys = tuple(dict.fromkeys(k for view in self._views for k in view.asked_keys))
        stored = [name for view in self._views for name in view.names]
        computed = [name for request in self._requests for name in request.names]
        wanted = [
            (f"{view}__{feature}" if full_feature_names else feature) for view, feature in order
        ]
        self._read_names = stored
        self._all_names = [*stored, *computed]
        places = {name: place for place, name in enumerate(self._all_names)}
        self.names = tuple(wanted)
        self._pick = [places[name] for name in wanted]
        self._in_order = self._pick == list(range(len(self._all_names)))

    def read(
        self, rows: Sequence[Mapping[str, Any]], *, now: datetime | None = None
    ) -> OnlineAnswer:
        """Read the features of entity rows; columns of the rows that nobody asks for are ignored.

        Args:
            rows: join keys and request data by name.
            now: the moment as of which ages are reckoned; None for the present.

        Raises:
            ContractError: a row lacks a join key or request data, or has one of another type.
        """
        moment = present(self._config) if now is None else microseconds(now)
        try:
            keys = [[view.key(row) for row in rows] for view in self._views]
        except KeyError as missing:
            raise self._missing(rows) from missing
        found = self._backend.read(
            [
                (view.table, [key for key in packed if key is not None])
                for view, packed in zip(self._views, keys, strict=True)
            ]
        )
        values: list[list[Any]] = [[] for _ in rows]
        statuses: list[list[Status]] = [[] for _ in rows]
        times: list[list[datetime | None]] = [[] for _ in rows]
        for view, packed, stored in zip(self._views, keys, found, strict=True):
            oldest = oldest_event(view.ttl, moment)
            for place, key in enumerate(packed):
                row = stored.get(key) if key is not None else None
                some, marks, event_times = view.answer(self._backend, row, oldest)
                values[place] += some
                statuses[place] += marks
                times[place] += event_times
        if self._requests and rows:
            self._compute(rows, values, statuses, times)
        if not self._in_order:
            pick = self._pick
            values = [[row[place] for place in pick] for row in values]
            statuses = [[row[place] for place in pick] for row in statuses]
            times = [[row[place] for place in pick] for row in times]
        return OnlineAnswer(self.names, values, statuses, times)

    def _compute(
        self,
        rows: Sequence[Mapping[str, Any]],
        values: list[list[Any]],
        statuses: list[list[Status]],
        times: list[list[datetime | None]],
    ) -> None:
        keys = [name for name in rows[0] if name in self._entity_keys] if self._foreign else []
        try:
            known = {name: [row[name] for row in rows] for name in (*keys, *self.inputs)}
        except KeyError as missing:
            raise self._missing(rows) from missing
        if self._foreign and self._read_names:
            columns = map(list, zip(*values, strict=True))
            known |= dict(zip(self._read_names, columns, strict=True))
        computed = [column for request in self._requests for column in request.compute(known)]
        for place, row in enumerate(values):
            row += [column[place] for column in computed]
            statuses[place] += [Status.PRESENT] * len(computed)
            times[place] += [None] * len(computed)

    def _missing(self, rows: Sequence[Mapping[str, Any]]) -> ContractError:
        for row in rows:
            for view in self._views:
                if missing := [name for name in view.asked_keys if name not in row]:
                    return missing_keys(missing, view.name, row)
        columns = dict.fromkeys([*self.inputs, *(name for row in rows for name in row)])
        lacking = [name for name in columns if not all(name in row for row in rows)]
        return ContractError(
            f"some of the entity rows lack {', '.join(lacking)}",
            expected=f"the same columns in every row, among them {', '.join(self.inputs)}",
            do="add what the features computed at request time need",
        )


class _View:
    """One view of the service, resolved."""

    def __init__(
        self,
        name: str,
        table: str,
        ttl: Any,
        keys: Keys,
        asked_keys: tuple[str, ...],
        features: tuple[str, ...],
        names: tuple[str, ...],
        types: Mapping[str, ValueType],
    ) -> None:
        self.name, self.table, self.ttl, self.names = name, table, ttl, names
        self.asked_keys = tuple(key for key in asked_keys if key != DUMMY_ENTITY_ID)
        self.key = _key_reader(keys, asked_keys)
        self._features = features
        self._types = types
        self._unpackers: dict[bytes, Callable[[bytes], tuple[list[Any], list[Status]]]] = {}
        self._unknown = ([None] * len(names), [Status.NOT_FOUND] * len(names))
        self._expired = ([None] * len(names), [Status.OUTSIDE_MAX_AGE] * len(names))

    @classmethod
    def of(
        cls,
        config: Any,
        view: Any,
        features: Sequence[str],
        order: Sequence[tuple[str, ...]],
        key_types: Mapping[str, ValueType],
        full_names: bool,
    ) -> "_View":
        name = view.projection.name_to_use()
        # Feast collects the features of a view in a set: back to the order of the service.
        asked = [feature for where, feature in order if where == name and feature in features]
        ordered = tuple(dict.fromkeys([*asked, *sorted(features)]))
        renamed = view.projection.join_key_map
        types = {
            field.name: key_types.get(renamed.get(field.name, field.name), ValueType.UNKNOWN)
            for field in view.entity_columns
        }
        keys = Keys(types)
        return cls(
            name=name,
            table=stored_name(config, view),
            ttl=ttl_of(view),
            keys=keys,
            asked_keys=tuple(renamed.get(key, key) for key in keys.names),
            features=ordered,
            names=tuple(f"{name}__{one}" if full_names else one for one in ordered),
            types={field.name: field.dtype.to_value_type() for field in view.features},
        )

    def answer(
        self, backend: Backend, row: Stored | None, oldest: int | None
    ) -> tuple[list[Any], list[Status], list[datetime | None]]:
        """Values, statuses and event times of one row."""
        if row is None:
            return *self._unknown, [None] * len(self.names)
        event, packed = row
        times: list[datetime | None] = [EPOCH + MICROSECOND * event] * len(self.names)
        if oldest is not None and event < oldest:
            return *self._expired, times
        mark = packed[: online_codec.MARK_BYTES]
        unpack = self._unpackers.get(mark)
        if unpack is None:
            unpack = self._unpackers[mark] = self._unpacker(backend.layout(self.table, mark))
        return *unpack(packed), times

    def _unpacker(
        self, layout: online_codec.Layout
    ) -> Callable[[bytes], tuple[list[Any], list[Status]]]:
        places = layout.places(self._features)
        statuses = [Status.NOT_FOUND if at is None else Status.PRESENT for at in places]
        kinds = [None if at is None else layout.kinds[at] for at in places]
        types = [self._types.get(name) for name in self._features]
        convert = [
            (at, kind, value_type)
            for at, (kind, value_type) in enumerate(zip(kinds, types, strict=True))
            if kind is not None and kind not in online_codec.PLAIN
        ]
        if places == list(range(len(layout.fields))) and not convert:
            return lambda packed: (layout.unpack(packed), statuses)

        def unpack(packed: bytes) -> tuple[list[Any], list[Status]]:
            raw = layout.unpack(packed)
            values = [None if at is None else raw[at] for at in places]
            for at, kind, value_type in convert:
                values[at] = online_codec.to_python(kind, values[at], value_type)
            return values, statuses

        return unpack


def _key_reader(keys: Keys, asked: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bytes | None]:
    """What packs a view's key from an entity row; KeyError when the row lacks one."""
    if DUMMY_ENTITY_ID in asked:
        always = keys.of([DUMMY_ENTITY_VAL])
        return lambda row: always
    if len(asked) == 1:
        [only] = asked
        return lambda row: keys.of((row[only],))
    get = itemgetter(*asked)
    return lambda row: keys.of(get(row))
