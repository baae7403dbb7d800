"""Packing one row of a feature view into bytes, and back.

A row is `mark | null bits | fixed part | texts`: the mark names the layout (which features, of
which kinds, in which order), the fixed part holds numbers at fixed places and the lengths of the
texts. Numbers are packed for a whole batch at once, so that materializing builds no object per
value. A row written under an older schema stays readable: its mark still names its layout.

Only bytes and values belong here. Keys are packed in `online_keys`; where the bytes go is told in
`online_sqlite` and `online_redis`; how old a value may be, in `online_store`.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.field import Field
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from mlops_assets.errors import ContractError
from mlops_assets.stores.asof_source import microseconds

MARK_BYTES = 8

# A kind is the field of Feast's Value that holds it. Every other type is kept as a whole Value.
WHOLE = "value"
_NUMBERS = {
    "double_val": ("d", "<f8", pa.float64()),
    "float_val": ("f", "<f4", pa.float32()),
    "int64_val": ("q", "<i8", pa.int64()),
    "int32_val": ("i", "<i4", pa.int32()),
    "bool_val": ("?", "?", pa.bool_()),
    "unix_timestamp_val": ("q", "<i8", pa.int64()),
}
_TEXTS = {"string_val": pa.string(), "bytes_val": pa.binary()}
# Kinds whose unpacked value is the Python value already.
PLAIN = frozenset({*_NUMBERS, *_TEXTS} - {"unix_timestamp_val"})
KINDS = {
    ValueType.DOUBLE: "double_val",
    ValueType.FLOAT: "float_val",
    ValueType.INT64: "int64_val",
    ValueType.INT32: "int32_val",
    ValueType.BOOL: "bool_val",
    ValueType.UNIX_TIMESTAMP: "unix_timestamp_val",
    ValueType.STRING: "string_val",
    ValueType.BYTES: "bytes_val",
}


class Column(NamedTuple):
    """One feature of a batch: numbers as an array, all else as bytes; nulls are 0 or empty."""

    values: "np.ndarray | list[bytes]"
    nulls: np.ndarray


class Layout:
    """The features of a row and the order and kinds in which they are packed.

    Args:
        fields: (feature, kind) pairs.
    """

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self.fields = tuple(fields)
        self.text = json.dumps(self.fields)
        self.mark = blake2b(self.text.encode(), digest_size=MARK_BYTES).digest()
        self._null_bytes = (len(self.fields) + 7) // 8
        self._start = MARK_BYTES + self._null_bytes
        codes = [_NUMBERS[kind][0] if kind in _NUMBERS else "I" for _, kind in self.fields]
        self._fixed = struct.Struct("<" + "".join(codes))
        self._texts = [(i, kind) for i, (_, kind) in enumerate(self.fields) if kind not in _NUMBERS]
        self._places = {name: place for place, (name, _) in enumerate(self.fields)}

    @classmethod
    def of_text(cls, text: str) -> "Layout":
        """Read a layout as a backend keeps it."""
        return cls([(name, kind) for name, kind in json.loads(text)])

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each feature."""
        return tuple(kind for _, kind in self.fields)

    def places(self, features: Iterable[str]) -> list[int | None]:
        """Where the features stand in a row; None for one that the row does not have."""
        return [self._places.get(name) for name in features]

    def pack(self, columns: Sequence[Column], count: int) -> list[bytes]:
        """Pack a batch of `count` rows; one column per field, in order."""
        record = np.zeros(count, self._record)
        record["mark"] = np.frombuffer(self.mark, "u1")
        if columns:
            nulls = np.column_stack([column.nulls for column in columns])
            record["nulls"] = np.packbits(nulls, axis=1, bitorder="little")
        texts: list[list[bytes]] = []
        for place, column in enumerate(columns):
            values = column.values
            if isinstance(values, list):
                texts.append(values)
                values = np.fromiter(map(len, values), "<u4", count)
            record[f"f{place}"] = values
        size = record.itemsize
        flat = record.tobytes()
        rows = [flat[at : at + size] for at in range(0, count * size, size)]
        return list(map(b"".join, zip(rows, *texts, strict=True))) if texts else rows

    def unpack(self, row: bytes) -> list[Any]:
        """Return the values in order: numbers, str, bytes, whole Values; None for null."""
        values = list(self._fixed.unpack_from(row, self._start))
        if self._texts:
            at = self._start + self._fixed.size
            for place, kind in self._texts:
                end = at + values[place]
                values[place] = _TEXT_READERS[kind](row[at:end])
                at = end
        bits = int.from_bytes(row[MARK_BYTES : self._start], "little")
        while bits:
            low = bits & -bits
            values[low.bit_length() - 1] = None
            bits ^= low
        return values

    @cached_property
    def _record(self) -> np.dtype:
        numbers = [(f"f{i}", _NUMBERS.get(kind, ("", "<u4"))[1]) for i, kind in self._numbered]
        head = [("mark", "u1", (MARK_BYTES,)), ("nulls", "u1", (self._null_bytes,))]
        return np.dtype([*head, *numbers])

    @property
    def _numbered(self) -> Iterable[tuple[int, str]]:
        return enumerate(self.kinds)


@lru_cache(maxsize=1024)
def layout_of(fields: tuple[tuple[str, str], ...]) -> Layout:
    """The layout of these fields, made once."""
    return Layout(fields)


def declared(features: Iterable[Field]) -> tuple[tuple[str, str], ...]:
    """The fields of a layout, as a view declares its features."""
    return tuple((f.name, KINDS.get(f.dtype.to_value_type(), WHOLE)) for f in features)


def from_arrow(name: str, column: pa.Array, value_type: ValueType) -> Column:
    """Turn an Arrow column into what a layout packs, with Feast's rules: NaN is null.

    Raises:
        ContractError: a value does not fit the declared type.
    """
    kind = KINDS.get(value_type, WHOLE)
    if kind == WHOLE:
        # Lists, maps and the like: Feast's own conversion, one object per value.
        values = python_values_to_proto_values(column.to_numpy(zero_copy_only=False), value_type)
        return from_values(values, WHOLE)
    cast = _cast(name, column, kind, value_type)
    nulls = cast.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if kind in _TEXTS:
        return Column(cast.cast(pa.binary()).fill_null(b"").to_pylist(), nulls)
    numbers = cast.fill_null(False if kind == "bool_val" else 0).to_numpy(zero_copy_only=False)
    return Column(np.where(nulls, numbers.dtype.type(0), numbers), nulls)


def from_values(values: Sequence[Value], kind: str) -> Column:
    """Turn Feast Values, all of one kind or null, into what a layout packs."""
    nulls = np.fromiter((value.WhichOneof("val") is None for value in values), bool, len(values))
    if kind == WHOLE:
        return Column([value.SerializeToString(deterministic=True) for value in values], nulls)
    if kind == "string_val":
        return Column([value.string_val.encode() for value in values], nulls)
    raw = [getattr(value, kind) for value in values]
    return Column(raw if kind == "bytes_val" else np.array(raw, _NUMBERS[kind][1]), nulls)


def fitting_kind(declared_kind: str, values: Iterable[Value]) -> str:
    """The declared kind, if all values that are not null have it; else whole Values."""
    found = {value.WhichOneof("val") for value in values} - {None}
    return declared_kind if found <= {declared_kind} else WHOLE


def to_value(kind: str, value: Any) -> Value:
    """Turn an unpacked value into Feast's Value; null is a Value without content."""
    if value is None:
        return Value()
    return value if kind == WHOLE else Value(**{kind: value})


def to_python(kind: str, value: Any, value_type: ValueType | None) -> Any:
    """Turn an unpacked value into what Feast's `to_dict` gives for it."""
    if value is None or kind in PLAIN:
        return value
    return feast_value_type_to_python_type(to_value(kind, value), value_type)


def microseconds_of(moment: Any, missing: int | None = None) -> int:
    """Microseconds since 1970 of a row's time; `missing` for None and NaT.

    Raises:
        ContractError: there is no time and nothing to take for it.
    """
    if moment is not None and moment == moment:
        return microseconds(moment)
    if missing is None:
        raise ContractError(
            "a row has no event time",
            expected="a time in every row: it decides which row is the newest",
            do="drop these rows or give their time",
        )
    return missing


def _cast(name: str, column: pa.Array, kind: str, value_type: ValueType) -> pa.Array:
    try:
        if kind == "unix_timestamp_val" and pa.types.is_temporal(column.type):
            seconds = pc.floor_temporal(column.cast(pa.timestamp("us", "UTC")), unit="second")
            return pc.divide(seconds.cast(pa.int64()), 1_000_000)
        if kind in ("int64_val", "int32_val") and pa.types.is_floating(column.type):
            # Integers with nulls often come as floats; Feast cuts off the fraction too.
            column = pc.if_else(pc.is_nan(column), None, pc.trunc(column))
        target = _TEXTS[kind] if kind in _TEXTS else _NUMBERS[kind][2]
        # Feast narrows to 32-bit floats without asking.
        return column.cast(target, safe=kind != "float_val")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"the column {name!r} ({column.type}) does not fit: {str(error).splitlines()[0]}",
            expected=f"values of the declared type {value_type.name}",
            do="correct the feature table, or the type in the feature view",
        ) from error


def _whole(row: bytes) -> Value:
    value = Value()
    value.ParseFromString(row)
    return value


_TEXT_READERS: dict[str, Any] = {"string_val": bytes.decode, "bytes_val": bytes, WHOLE: _whole}
