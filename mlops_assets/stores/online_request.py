"""Features computed at request time: one function on arrays, offline and online.

`RequestFunction` is the `compute` of `RequestFeatures` as Feast's registry keeps it: the name of
the function, and the declared columns. Feast calls it with a frame, for training sets and in
`get_online_features`; the online reader gives it plain values, and no frame is made for a row.
`RequestView` is an on-demand view as the reader runs it, this or any other that Feast has.

Only what is computed at request time belongs here; stored features are read in `online_reader`.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType
from pyarrow import types

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.tables import Arrays, ColumnType, RequestFeatures

_Array = npt.NDArray[Any]
_Columns = Mapping[str, list[Any]]


class _Kind(NamedTuple):
    """How a declared type is held.

    Attributes:
        arrow: the type in Arrow.
        fits: whether a column of some type can be taken for it: a text is no number.
        plain: types of Python values that numpy reads as they are.
        dtype: of an array without nulls.
        nullable: of an array that may have nulls: NaN, NaT or None.
    """

    arrow: pa.DataType
    fits: Callable[[pa.DataType], bool]
    plain: frozenset[type]
    dtype: np.dtype
    nullable: np.dtype


def _number(found: pa.DataType) -> bool:
    return types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)


def _text(found: pa.DataType) -> bool:
    return types.is_dictionary(found) or found in (pa.string(), pa.large_string())


def _moment(found: pa.DataType) -> bool:
    return types.is_timestamp(found) or types.is_date(found)


_OBJECT, _INT, _FLOAT, _BOOL, _TIME = map(np.dtype, ("O", "i8", "f8", "?", "M8[us]"))
_KINDS: dict[ColumnType, _Kind] = {
    "string": _Kind(pa.string(), _text, frozenset({str}), _OBJECT, _OBJECT),
    "int": _Kind(pa.int64(), _number, frozenset({int}), _INT, _FLOAT),
    "float": _Kind(pa.float64(), _number, frozenset({float, int}), _FLOAT, _FLOAT),
    "bool": _Kind(pa.bool_(), types.is_boolean, frozenset({bool}), _BOOL, _OBJECT),
    "time": _Kind(pa.timestamp("us", "UTC"), _moment, frozenset(), _TIME, _TIME),
}
# Whole numbers stay whole in a frame that has nulls.
_IN_FRAMES = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


@dataclass(frozen=True)
class RequestFunction:
    """The function of some request features, with what is declared of them.

    Attributes:
        features_of: name of the request features.
        function: where `compute` is, as `module:function`.
        inputs: name, type and whether nulls are allowed.
        features: name and type.
    """

    features_of: str
    function: str
    inputs: tuple[tuple[str, ColumnType, bool], ...]
    features: tuple[tuple[str, ColumnType], ...]

    # Feast asks a function for its name.
    __name__ = "transform"

    @classmethod
    def of(cls, request: RequestFeatures) -> "RequestFunction":
        """The function of declared request features."""
        return cls(
            features_of=request.name,
            function=f"{request.compute.__module__}:{request.compute.__qualname__}",
            inputs=tuple((column.name, column.type, column.nullable) for column in request.inputs),
            features=tuple((column.name, column.type) for column in request.features),
        )

    @property
    def source(self) -> str:
        """The text that Feast keeps, and runs again when it reads its registry."""
        return f"from {type(self).__module__} import RequestFunction\n{self.__name__} = {self!r}\n"

    @cached_property
    def compute(self) -> Callable[[Arrays], Arrays]:
        """The one definition; imported when it is first needed, not when a registry is read.

        Raises:
            DeclarationError: there is no such function any more.
        """
        try:
            return pkgutil.resolve_name(self.function)
        except (ImportError, AttributeError) as error:
            raise DeclarationError(
                f"the request features {self.features_of!r} are computed by {self.function}, "
                f"which cannot be imported: {error}",
                expected="the function where it was when the features were declared",
                do="put it back, or declare the features again",
            ) from error

    def __call__(self, frame: pd.DataFrame) -> Any:
        """Return a frame with the features; other columns of the given one are not seen.

        Raises:
            ContractError: an input is not as declared.
            DeclarationError: the function does not give the declared features.
        """
        columns = {
            name: self._feature(name, kind, array).to_pandas(types_mapper=_IN_FRAMES.get)
            for name, kind, array in self._computed({name: frame[name] for name, *_ in self.inputs})
        }
        return pd.DataFrame(columns)

    def of_values(self, columns: _Columns) -> dict[str, list[Any]]:
        """Return the features as Python values, None for null; raises as a call does."""
        values = {}
        for name, kind, array in self._computed(columns):
            quick = _quick_values(kind, array)
            values[name] = self._feature(name, kind, array).to_pylist() if quick is None else quick
        return values

    def _computed(self, columns: Mapping[str, Any]) -> Iterator[tuple[str, ColumnType, _Array]]:
        given = {
            name: self._input(name, kind, nullable, columns[name])
            for name, kind, nullable in self.inputs
        }
        count = len(next(iter(given.values())))
        computed = self.compute(given)
        if not isinstance(computed, Mapping):
            raise self._refused(f"gives a {type(computed).__name__}")
        if computed.keys() != {name for name, _ in self.features}:
            raise self._refused(f"gives the features {', '.join(map(str, computed)) or 'none'}")
        for name, kind in self.features:
            array = np.asarray(computed[name])
            if array.shape != (count,):
                raise self._refused(f"gives {name!r} the shape {array.shape} for {count} rows")
            yield name, kind, array

    def _input(self, name: str, kind: ColumnType, nullable: bool, values: Any) -> _Array:
        quick = _quick_array(kind, nullable, values)
        if quick is not None:
            return quick
        try:
            found = _arrow(kind, values)
            if found.null_count and not nullable:
                raise ValueError(f"{found.null_count} of {len(found)} values are null")
        except ValueError as error:
            raise ContractError(
                f"the input {name!r} of the request features {self.features_of!r} does not fit: "
                f"{error}",
                expected=f"values of type {kind}, " + ("or null" if nullable else "none null"),
                do="correct the rows, or the declared column",
            ) from error
        return found.to_numpy(zero_copy_only=False).astype(_dtype(kind, nullable), copy=False)

    def _feature(self, name: str, kind: ColumnType, array: _Array) -> pa.Array:
        try:
            return _arrow(kind, array)
        except ValueError as error:
            raise self._refused(f"gives {name!r} values that do not fit: {error}") from error

    def _refused(self, what: str) -> DeclarationError:
        declared = ", ".join(f"{name} ({kind})" for name, kind in self.features)
        return DeclarationError(
            f"{self.function}, which computes the request features {self.features_of!r}, {what}",
            expected=f"one array by name for each of {declared}, as long as the inputs",
            do="correct the function, or the declared features",
        )


def _dtype(kind: ColumnType, nullable: bool) -> np.dtype:
    """As declared, whether a null is there or not: one row and many are computed alike."""
    return _KINDS[kind].nullable if nullable else _KINDS[kind].dtype


def _quick_array(kind: ColumnType, nullable: bool, values: Any) -> _Array | None:
    """Plain values as Arrow would read them, without the way through it; None for others."""
    if type(values) is not list or not _KINDS[kind].plain.issuperset(map(type, values)):
        return None
    if kind == "float" and not nullable and any(value != value for value in values):
        return None
    try:
        return np.array(values, _dtype(kind, nullable))
    except OverflowError:
        return None


def _quick_values(kind: ColumnType, array: _Array) -> list[Any] | None:
    """Numbers as Arrow would write them, without the way through it; None for others."""
    if kind == "float" and array.dtype.kind in "iuf":
        found = array.astype(_FLOAT, copy=False).tolist()
        return [None if value != value else value for value in found]
    if kind == "int" and array.dtype.kind == "i":
        return array.tolist()
    return None


def _arrow(kind: ColumnType, values: Any) -> pa.Array:
    """A column of the declared type, NaN as null; ValueError if the values are of another type."""
    try:
        found = pa.array(values, from_pandas=True)
        if not types.is_null(found.type) and not _KINDS[kind].fits(found.type):
            raise ValueError(f"they are of type {found.type}")
        # A time may lose nanoseconds, a float the last digits of a whole number; no more.
        return found.cast(_KINDS[kind].arrow, safe=kind == "int")
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


@dataclass(frozen=True)
class RequestView:
    """One on-demand view of a service, resolved.

    Attributes:
        view: Feast's view.
        function: what it calls, if that is a function of ours; None runs the view as Feast does.
        features: the features wanted.
        names: the same as the answer names them.
        hidden: columns that the view did not declare, and so must not see.
        types: type of each feature.
        full_names: whether the answer names features `view__feature`.
    """

    view: OnDemandFeatureView
    function: RequestFunction | None
    features: tuple[str, ...]
    names: tuple[str, ...]
    hidden: frozenset[str]
    types: tuple[ValueType, ...]
    full_names: bool

    @classmethod
    def of(
        cls,
        view: OnDemandFeatureView,
        others: Sequence[OnDemandFeatureView],
        refs: Sequence[str],
        full_names: bool,
    ) -> "RequestView":
        """Resolve a view of a request.

        Raises:
            DeclarationError: it is of a mode that only Feast's own path runs.
        """
        if view.mode not in ("pandas", "python") or view.aggregations:
            raise DeclarationError(
                f"the on-demand view {view.name!r} has mode {view.mode!r}"
                + (" and aggregations" if view.aggregations else ""),
                expected="mode pandas or python, without aggregations",
                do="read this service with `FeatureStore.get_online_features`",
            )
        name = view.projection.name_to_use()
        split = [tuple(ref.split(":")) for ref in refs]
        features = tuple(feature for where, feature in split if where == name)
        types = {field.name: field.dtype.to_value_type() for field in view.features}
        called = getattr(view.feature_transformation, "udf", None)
        return cls(
            view=view,
            function=called if isinstance(called, RequestFunction) else None,
            features=features,
            names=tuple(f"{name}__{one}" if full_names else one for one in features),
            hidden=_hidden(view, others, split),
            types=tuple(types.get(one, ValueType.UNKNOWN) for one in features),
            full_names=full_names,
        )

    def compute(self, columns: _Columns) -> list[list[Any]]:
        """Return one column per name."""
        if self.function is not None:
            given = self.function.of_values(columns)
            # Feast answers times in whole seconds; numbers and texts are what they are.
            for name, kind in zip(self.features, self.types, strict=True):
                if kind == ValueType.UNIX_TIMESTAMP:
                    given[name] = _through_feast(given[name], kind)
            return [given[name] for name in self.features]
        known = {name: values for name, values in columns.items() if name not in self.hidden}
        given = self.view.transform_dict(known) if self.view.mode == "python" else self._run(known)
        computed = []
        for name, value_type in zip(self.names, self.types, strict=True):
            # A view in Python may name its features in short whatever the answer's names are.
            column = given[name] if name in given else given[name.rpartition("__")[2]]
            values = column if isinstance(column, list) else [column]
            computed.append(_through_feast(values, value_type))
        return computed

    def _run(self, known: dict[str, list[Any]]) -> dict[str, list[Any]]:
        table = self.view.transform_arrow(pa.Table.from_pydict(known), self.full_names)
        return {name: list(table.column(name).to_numpy()) for name in self.names}


def _through_feast(values: list[Any], value_type: ValueType) -> list[Any]:
    """Feast's conversion there and back: NaN is null, numpy's numbers plain, seconds whole."""
    protos = python_values_to_proto_values(values, value_type)
    return [feast_value_type_to_python_type(proto, value_type) for proto in protos]


def _hidden(
    view: OnDemandFeatureView,
    others: Sequence[OnDemandFeatureView],
    refs: Sequence[tuple[str, ...]],
) -> frozenset[str]:
    declared = {one.name for one in view.source_feature_view_projections.values()}
    on_demand = {other.projection.name_to_use() for other in others}
    hidden = [
        (where, feature)
        for where, feature in refs
        if where not in on_demand and where not in declared
    ]
    hidden += [
        (projection.name, field.name)
        for other in others
        for projection in other.source_feature_view_projections.values()
        if projection.name not in declared
        for field in projection.features
    ]
    return frozenset(
        [feature for _, feature in hidden] + [f"{where}__{feature}" for where, feature in hidden]
    )
