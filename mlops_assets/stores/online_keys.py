"""Packing the join keys of a row into the bytes under which a backend keeps it.

The bytes are those of Feast's `serialize_entity_key`, version 3: every name and value carries its
length, so keys that look alike when glued together ("1", "23" and "12", "3") stay apart. Feast
builds a protobuf per key and serializes it in Python; here the constant part is made once per
view. Only keys belong here; values are packed in `online_codec`.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import Value
from feast.protos.feast.types.Value_pb2 import ValueType as Number
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

from mlops_assets.errors import ContractError, DeclarationError
from mlops_assets.stores import online_codec

_INT32 = struct.Struct("<IIi")
_INT64 = struct.Struct("<IIq")
_HEAD = struct.Struct("<II")


class Keys:
    """The join keys of one view.

    Args:
        types: name to type, as the view declares its keys.
    """

    def __init__(self, types: Mapping[str, ValueType]) -> None:
        # Sorted, as Feast does: the order in which a request names the keys does not matter.
        self.names = tuple(sorted(types))
        self._types = [types[name] for name in self.names]
        self._head = _names_head(self.names)
        self._encoders = [_encoder(name, types[name]) for name in self.names]

    def of(self, values: Sequence[Any]) -> bytes | None:
        """Pack the values of one row, in the order of `names`; None when one of them is null."""
        parts = [self._head]
        for encode, value in zip(self._encoders, values, strict=True):
            if value is None or value is pd.NA or value != value:
                return None
            parts.append(encode(value))
        return b"".join(parts)

    def of_arrow(self, columns: Sequence[pa.Array]) -> list[bytes]:
        """Pack the rows of a batch; one column per name, without nulls."""
        packed = []
        for name, kind, column in zip(self.names, self._types, columns, strict=True):
            values, _ = online_codec.from_arrow(name, column, kind)
            encode = _STORED[_key_kind(name, kind)]
            listed = values if isinstance(values, list) else values.tolist()
            packed.append([encode(value) for value in listed])
        head = self._head
        if len(packed) == 1:
            return [head + value for value in packed[0]]
        return [head + b"".join(values) for values in zip(*packed, strict=True)]


def of_protos(values: Mapping[str, Value]) -> bytes | None:
    """Pack the keys of one row from Feast's Values; None when one of them is null."""
    names = sorted(values)
    parts = [_names_head(tuple(names))]
    for name in names:
        part = _of_proto(name, values[name])
        if part is None:
            return None
        parts.append(part)
    return b"".join(parts)


def _of_proto(name: str, value: Value) -> bytes | None:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    if kind not in _STORED:
        raise _unsupported(name, kind)
    found = getattr(value, kind)
    return _STORED[kind](found.encode() if kind == "string_val" else found)


_heads: dict[tuple[str, ...], bytes] = {}


def _names_head(names: tuple[str, ...]) -> bytes:
    head = _heads.get(names)
    if head is None:
        encoded = [name.encode() for name in names]
        parts = [_HEAD.pack(Number.STRING, len(name)) + name for name in encoded]
        head = _heads[names] = struct.pack("<I", len(names)) + b"".join(parts)
    return head


def _text(number: int) -> Callable[[bytes], bytes]:
    def encode(value: bytes) -> bytes:
        return _HEAD.pack(number, len(value)) + value

    return encode


# Encoders of values as they are stored, by the field of Feast's Value.
_STORED: dict[str, Callable[[Any], bytes]] = {
    "string_val": _text(Number.STRING),
    "bytes_val": _text(Number.BYTES),
    "int32_val": lambda value: _INT32.pack(Number.INT32, 4, value),
    "int64_val": lambda value: _INT64.pack(Number.INT64, 8, value),
    "unix_timestamp_val": lambda value: _INT64.pack(Number.UNIX_TIMESTAMP, 8, value),
}


def _encoder(name: str, value_type: ValueType) -> Callable[[Any], bytes]:
    """Encode one key of a request, with Feast's conversion to the declared type."""

    def other(value: Any) -> bytes:
        # Times, Feast's Values and the like: Feast's own conversion.
        try:
            proto = python_values_to_proto_values([value], value_type)[0]
        except (TypeError, ValueError) as error:
            raise _misfit(name, value, value_type) from error
        part = _of_proto(name, proto)
        if part is None:
            raise _misfit(name, value, value_type)
        return part

    def string(value: Any) -> bytes:
        if type(value) is not str:
            return other(value)
        text = value.encode()
        return _HEAD.pack(Number.STRING, len(text)) + text

    def integer(value: Any) -> bytes:
        return stored(value) if type(value) is int and _fits(value, value_type) else other(value)

    if value_type == ValueType.UNKNOWN:
        return other
    kind = _key_kind(name, value_type)
    stored = _STORED[kind]
    return {"string_val": string, "int64_val": integer, "int32_val": integer}.get(kind, other)


def _fits(value: int, value_type: ValueType) -> bool:
    bits = 31 if value_type == ValueType.INT32 else 63
    return -(1 << bits) <= value < 1 << bits


def _key_kind(name: str, value_type: ValueType) -> str:
    kind = online_codec.KINDS.get(value_type, online_codec.WHOLE)
    if kind not in _STORED:
        raise _unsupported(name, value_type.name)
    return kind


def _unsupported(name: str, kind: str) -> DeclarationError:
    return DeclarationError(
        f"the join key {name!r} is of type {kind}",
        expected="STRING, BYTES, INT32, INT64 or UNIX_TIMESTAMP: Feast stores no other keys online",
        do="declare the entity with one of these types",
    )


def _misfit(name: str, value: Any, value_type: ValueType) -> ContractError:
    return ContractError(
        f"the join key {name!r} is {value!r}",
        expected=f"a value of type {value_type.name}",
        do="give the key as the feature view declares it",
    )
