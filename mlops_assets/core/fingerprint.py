"""Fingerprints: equal content has an equal one, whatever the file format or the order of keys.

Hashing only; what goes into the fingerprint of a table or model is decided where it is made.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def of_values(*values: Any) -> str:
    """SHA-256 of JSON-like values, as 64 hexadecimal digits.

    >>> of_values({"a": 1, "b": 2}) == of_values({"b": 2, "a": 1})
    True
    >>> of_values("1", "23") == of_values("12", "3")
    False
    """
    document = json.dumps(values, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(document.encode()).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_table(table: "pa.Table") -> str:
    """SHA-256 of an Arrow table: column names, types and values in order of rows.

    What does not belong to the content does not count: chunks, compression, the unit of times,
    the width of string offsets, and the bytes that lie under a null.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    digest = hashlib.sha256(str(table.num_rows).encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = column.combine_chunks()
        kind = values.type
        if pa.types.is_large_string(kind):
            kind = pa.string()
        elif pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", tz=kind.tz)
        digest.update(f"{name}:{kind}".encode())
        digest.update(pc.is_valid(values).cast(pa.uint8()).to_numpy(zero_copy_only=False))
        if pa.types.is_string(kind):
            lengths = pc.fill_null(pc.binary_length(values), 0)
            digest.update(lengths.to_numpy(zero_copy_only=False).astype("int64"))
            digest.update("".join(pc.fill_null(values, "").to_pylist()).encode())
            continue
        if pa.types.is_timestamp(kind):
            values = values.cast(kind).cast(pa.int64())
        elif pa.types.is_boolean(kind):
            values = values.cast(pa.uint8())
        # NaN and null are different facts; both are written as zero here, told apart above.
        filled = pc.fill_null(values, 0)
        digest.update(filled.to_numpy(zero_copy_only=False))
    return digest.hexdigest()
