"""Equal content has an equal fingerprint, other content another one."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_assets.core.fingerprint import of_file, of_table, of_values

TIME = pa.timestamp("us", tz="UTC")
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1))
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.int64()),
        ("share", pa.float64()),
        ("flag", pa.bool_()),
        ("time", TIME),
    ]
)

# Few different values, so that tables that differ in one place are met often.
row = st.tuples(
    st.none() | st.sampled_from(["", "a", "aa", "b", "é"]),
    st.none() | st.integers(-1, 2),
    st.none() | st.sampled_from([0.0, 1.0, float("nan")]),
    st.none() | st.booleans(),
    st.none() | MOMENTS.map(lambda time: time.replace(tzinfo=dt.UTC)),
)
rows = st.lists(row, max_size=5)


def table(values: list[tuple]) -> pa.Table:
    columns = list(zip(*values, strict=True)) if values else [()] * len(SCHEMA)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def of(*values: object, type: pa.DataType | None = None) -> str:  # noqa: A002
    return of_table(pa.table({"column": pa.array(list(values), type)}))


@given(rows, rows)
def test_tables_have_one_fingerprint_exactly_when_they_are_equal(one: list, other: list) -> None:
    assert (of_table(table(one)) == of_table(table(other))) == (repr(one) == repr(other))


@given(rows, st.integers(1, 3))
def test_chunks_do_not_count(values: list, size: int) -> None:
    whole = table(values)
    pieces = [whole.slice(i, size) for i in range(0, len(values), size)]
    assume(pieces)
    assert of_table(pa.concat_tables(pieces)) == of_table(whole)


@given(rows)
def test_the_order_of_rows_counts(values: list) -> None:
    assume(repr(values) != repr(values[::-1]))
    assert of_table(table(values)) != of_table(table(values[::-1]))


@given(rows, st.integers(0, 4), st.integers(0, 4))
def test_a_slice_is_known_by_its_own_rows(values: list, start: int, length: int) -> None:
    part = table(values).slice(start, length)
    assert of_table(part) == of_table(table(values[start : start + length]))


def test_null_zero_and_nan_differ() -> None:
    found = {of(value, type=pa.float64()) for value in (None, 0.0, float("nan"))}
    assert len(found) == 3


def test_null_and_the_empty_string_differ() -> None:
    assert of(None, type=pa.string()) != of("", type=pa.string())


@pytest.mark.parametrize("other", [("a", "bc"), ("abc", ""), ("", "abc"), ("abc", None)])
def test_strings_that_are_equal_when_glued_differ(other: tuple) -> None:
    assert of("ab", "c") != of(*other)


def test_columns_that_are_equal_when_glued_differ() -> None:
    one = pa.table({"a": ["x", "y"], "b": ["z", ""]})
    other = pa.table({"a": ["x", "yz"], "b": ["", ""]})
    assert of_table(one) != of_table(other)


@pytest.mark.parametrize("other", [{"b": [1], "a": [1]}, {"a": [1]}, {"a": [1], "c": [1]}, {}])
def test_names_and_order_of_columns_count(other: dict) -> None:
    assert of_table(pa.table({"a": [1], "b": [1]})) != of_table(pa.table(other))


def test_types_count() -> None:
    assert len({of(1, type=kind) for kind in (pa.int64(), pa.int32(), pa.float64())}) == 3


def test_what_lies_under_a_null_does_not_count() -> None:
    valid = pa.py_buffer(b"\x01")
    arrays = [
        pa.Array.from_buffers(pa.int64(), 2, [valid, pa.array([1, under]).buffers()[1]])
        for under in (7, 8)
    ]
    assert len({of_table(pa.table({"a": array})) for array in arrays}) == 1


def test_the_unit_of_a_time_does_not_count() -> None:
    moment = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
    units = [pa.timestamp(unit, tz="UTC") for unit in ("s", "ms", "us", "ns")]
    assert len({of(moment, None, type=unit) for unit in units}) == 1


def test_the_width_of_string_offsets_does_not_count() -> None:
    assert of("a", None, type=pa.string()) == of("a", None, type=pa.large_string())


def test_the_zone_of_a_time_counts() -> None:
    moment = dt.datetime(2024, 1, 1, 12)
    assert of(moment, type=pa.timestamp("us")) != of(moment, type=TIME)


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    one, same, other = tmp_path / "one", tmp_path / "same", tmp_path / "other"
    one.write_bytes(b"a"), same.write_bytes(b"a"), other.write_bytes(b"b")
    assert of_file(one) == of_file(same) != of_file(other)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


@given(documents, documents)
def test_values_have_one_fingerprint_exactly_when_they_are_equal(one, other) -> None:
    texts = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert (of_values(one) == of_values(other)) == (texts[0] == texts[1])


def test_the_order_of_keys_does_not_count() -> None:
    assert of_values({"a": 1, "b": {"c": 2, "d": 3}}) == of_values({"b": {"d": 3, "c": 2}, "a": 1})


def test_values_that_are_equal_when_glued_differ() -> None:
    assert of_values("ab", "c") != of_values("a", "bc") != of_values(["a", "bc"])
