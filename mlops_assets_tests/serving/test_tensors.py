"""Tensors that announce too much are refused before their values are read."""

import struct
from typing import Any

import pytest

from mlops_assets.serving import tensors
from mlops_assets.serving.refusals import Refusal
from mlops_assets.tables import Column

COLUMNS = {"shop": Column(name="shop", type="string")}


def read(raw: bytes, rows: int) -> Any:
    size = {"binary_data_size": len(raw)}
    tensor = {"name": "shop", "shape": [rows], "datatype": "BYTES", "parameters": size}
    return tensors.read(tensor, 0, COLUMNS, memoryview(raw), 10)


def test_of_too_many_rows_no_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = struct.pack("<I", 0) * 11
    monkeypatch.setattr(tensors, "_raw", lambda *_: pytest.fail("the values were read"))
    with pytest.raises(Refusal, match="11 rows") as found:
        read(texts, 11)
    assert (found.value.status, found.value.field) == (413, "inputs")


def test_of_more_texts_than_announced_one_too_many_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int] = []

    class Length(struct.Struct):
        def unpack_from(self, *args: Any, **more: Any) -> tuple[Any, ...]:
            unpacked.append(1)
            return super().unpack_from(*args, **more)

    monkeypatch.setattr(tensors, "_LENGTH", Length("<I"))
    with pytest.raises(Refusal, match="not 2 texts"):
        read(struct.pack("<I", 0) * 1_000, 2)
    assert len(unpacked) == 3
