"""Tensors of the Open Inference Protocol: columns of one value per row, in JSON or in bytes.

Only their form belongs here: names, shapes, data types, and the binary tensor data extension (raw
little-endian values after the JSON part). What the values may be is checked in `columns`.
"""

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from mlops_assets.serving.bodies import too_many
from mlops_assets.serving.refusals import Refusal, shown
from mlops_assets.tables import Column

DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_WHOLE = tuple(name for name in DTYPES if "INT" in name)
_BOUNDS: dict[str, tuple[int, int]] = {
    f"{sign}INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_TAKEN = {
    "string": ("BYTES",),
    "time": ("BYTES",),
    "bool": ("BOOL",),
    "int": _WHOLE,
    "float": (*_WHOLE, "FP16", "FP32", "FP64"),
}
_OWN = {"string": "BYTES", "time": "BYTES", "bool": "BOOL", "int": "INT64", "float": "FP64"}
_FIELDS = ("name", "shape", "datatype", "parameters", "data")
_LENGTH = struct.Struct("<I")


def described(column: Column) -> dict[str, Any]:
    """A column in the metadata of a model."""
    return {"name": column.name, "datatype": _OWN[column.type], "shape": [-1]}


def read(
    tensor: Any, at: int, columns: Mapping[str, Column], tail: memoryview, most: int
) -> tuple[str, list[Any], memoryview]:
    """Name and values of an input, and what it leaves of the raw values.

    Args:
        tensor: as it stands in the request.
        at: its number.
        columns: the columns that the model takes, by name.
        tail: the raw values that were not read yet.
        most: rows of a request at most; of more no value is read.

    Raises:
        Refusal: another form, shape or data type than the model takes, or too many rows.
    """
    where = f"inputs[{at}]"
    if type(tensor) is not dict:
        raise Refusal(shown(tensor), expected="an object", field=where)
    if strange := [name for name in tensor if name not in _FIELDS]:
        raise Refusal(
            f"the field {shown(strange[0])}", expected=f"some of {', '.join(_FIELDS)}", field=where
        )
    name = tensor.get("name")
    if type(name) is not str or name not in columns:
        raise Refusal(
            f"the input {shown(name)}",
            expected=f"one of: {', '.join(columns)}",
            do="see the metadata of the model",
            field=f"{where}.name",
        )
    datatype = tensor.get("datatype")
    taken = _TAKEN[columns[name].type]
    if datatype not in taken:
        raise Refusal(
            f"the data type {shown(datatype)} of {name}",
            expected=" or ".join(taken),
            field=f"{where}.datatype",
        )
    count = _rows(tensor.get("shape"), f"{where}.shape")
    if count > most:
        raise too_many(count, "inputs", most)
    size = _binary_size(tensor, where)
    if size is None:
        return name, _flat(tensor.get("data"), tensor["shape"], datatype, where), tail
    if size > len(tail):
        raise Refusal(
            f"{size:,} raw bytes of {name}, of which {len(tail):,} are there",
            expected="as many bytes after the JSON part as the inputs say",
            field=f"{where}.parameters.binary_data_size",
        )
    return name, _raw(tail[:size], datatype, count, where), tail[size:]


def _binary_size(tensor: Mapping[str, Any], where: str) -> int | None:
    parameters = tensor.get("parameters", {})
    if type(parameters) is not dict:
        raise Refusal(shown(parameters), expected="an object", field=f"{where}.parameters")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0 or "data" in tensor:
        raise Refusal(
            f"{shown(size)} raw bytes" + (" and `data`" if "data" in tensor else ""),
            expected="a number of bytes, and no `data` beside them",
            field=f"{where}.parameters.binary_data_size",
        )
    return size


def _rows(shape: Any, field: str) -> int:
    fits = (
        type(shape) is list
        and len(shape) in (1, 2)
        and all(type(one) is int and one > 0 for one in shape)
        and shape[1:] in ([], [1])
    )
    if not fits:
        raise Refusal(
            f"the shape {shape!r:.60}" if type(shape) is list else shown(shape),
            expected="[n] or [n, 1]: one value per row",
            field=field,
        )
    return int(prod(shape))


def _flat(data: Any, shape: Sequence[int], datatype: str, where: str) -> list[Any]:
    """Values of a column, which JSON may have flat or one by one in lists."""
    if type(data) is not list:
        raise Refusal(shown(data), expected="a list of values", field=f"{where}.data")
    if len(data) != shape[0]:
        raise Refusal(
            f"{len(data):,} values",
            expected=f"{shape[0]:,}, as the shape says",
            field=f"{where}.data",
        )
    if len(shape) == 2 and all(type(one) is list and len(one) == 1 for one in data):
        data = [one[0] for one in data]
    if datatype in _WHOLE:
        low, high = _BOUNDS[datatype]
        for place, value in enumerate(data):
            if value is not None and not (type(value) is int and low <= value <= high):
                raise Refusal(
                    shown(value), expected=f"{datatype}, or null", field=f"{where}.data[{place}]"
                )
    return data


def _raw(raw: memoryview, datatype: str, count: int, where: str) -> list[Any]:
    field = f"{where}.parameters.binary_data_size"
    if datatype == "BYTES":
        return _texts(raw, count, field)
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise Refusal(
            f"{len(raw):,} bytes",
            expected=f"{count * dtype.itemsize:,} for {count:,} {datatype}",
            field=field,
        )
    # Bytes have no null: NaN is the way to say it.
    return [None if value != value else value for value in np.frombuffer(raw, dtype).tolist()]


def _texts(raw: memoryview, count: int, field: str) -> list[str]:
    found: list[str] = []
    place = 0
    try:
        # One more than announced is enough to refuse them.
        while place < len(raw) and len(found) <= count:
            (size,) = _LENGTH.unpack_from(raw, place)
            place += _LENGTH.size
            if place + size > len(raw):
                raise ValueError
            found.append(bytes(raw[place : place + size]).decode())
            place += size
    except (struct.error, ValueError):
        found = []
    if len(found) != count:
        raise Refusal(
            f"{len(raw):,} bytes that are not {count:,} texts",
            expected="texts in UTF-8, each after its length in 4 bytes",
            field=field,
        )
    return found


def written(name: str, values: Sequence[Any], *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """An output and its raw values, none in JSON; of a number that is None they have NaN."""
    datatype = _datatype(values[0])
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(values)]}
    if not binary:
        return {**tensor, "data": list(values)}, b""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        raw = b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    else:
        raw = np.array(values, DTYPES[datatype]).tobytes()
    return {**tensor, "parameters": {"binary_data_size": len(raw)}}, raw


def _datatype(value: Any) -> str:
    if isinstance(value, bool):
        return "BOOL"
    return "BYTES" if isinstance(value, str) else "FP64"
