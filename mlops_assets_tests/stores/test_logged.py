"""Slices have the same levels wherever the rows come from."""

import duckdb
import numpy as np
import pytest

from mlops_assets.core.levels import levels
from mlops_assets.spec import Slice
from mlops_assets.stores.logged import level_sql


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("BOOLEAN", ["true", "false", None]),  # of a batch
        ("DOUBLE", ["1.0", "0.0", None]),  # an input that was served
        ("VARCHAR", ["True", "False", None]),  # a key of an entity that was served
    ],
)
def test_the_levels_of_a_flag_are_those_of_the_gates(kind: str, values: list[str | None]) -> None:
    level = level_sql(Slice(name="flag"), "x", "bool")
    rows = ", ".join(f"({'NULL' if one is None else repr(one)}::{kind})" for one in values)
    found = duckdb.sql(f"SELECT {level} FROM (VALUES {rows}) AS t(x)").fetchall()
    flags = np.array([True, False, None], dtype=object)
    assert [one for (one,) in found] == levels(flags).tolist()
    assert levels(np.array([True, False])).tolist() == ["true", "false"]
