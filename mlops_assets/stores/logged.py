"""SQL of what stands in the rows of the logs: inputs, levels of slices, labels, and who is meant.

The one place that knows how a row of `inference_log` or `outcomes_log` keeps what the spec of its
model declares. Which rows are read, and what is counted of them, is decided by who asks.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from mlops_assets.core.levels import UNKNOWN
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets.stores.lake import quoted, text
from mlops_assets.tables import EVENT_TIME, ColumnType

if TYPE_CHECKING:
    import duckdb

_NUMBERS = ("int", "float", "time")


def input_sql(spec: ModelSpec, name: str) -> str:
    """SQL of an input of a logged prediction: a text, else a number; times are epoch seconds."""
    match column_type(spec, name):
        case "string":
            return f"texts[{text(name)}]"
        case "time":
            return f"epoch(TRY_CAST(texts[{text(name)}] AS TIMESTAMPTZ))"
        case _:
            return f"numbers[list_position(features, {text(name)})]"


def slice_sql(spec: ModelSpec, one: Slice) -> str:
    """SQL of the level of a logged prediction: of an input, or of a key of its entity."""
    type_ = column_type(spec, one.of)
    if one.of in spec.inputs:
        return level_sql(one, input_sql(spec, one.of), type_)
    key = f"entity[{text(one.of)}]"
    return level_sql(one, f"TRY_CAST({key} AS DOUBLE)" if type_ in _NUMBERS else key, type_)


def level_sql(one: Slice, value: str, type_: ColumnType) -> str:
    """SQL of the level of a value, called as `core.levels` calls it.

    Args:
        one: the slice.
        value: SQL of the value.
        type_: type of its column, as declared.
    """
    if not one.edges:
        if type_ == "int":
            value = f"({value})::BIGINT"
        if type_ == "bool":
            # Flags are logged as numbers, and those of entities as texts.
            value = f"TRY_CAST({value} AS BOOLEAN)"
        return f"coalesce(({value})::VARCHAR, {text(UNKNOWN)})"
    marks = [f"{edge:g}" for edge in one.edges]
    names = [f"below {marks[0]}", *(f"{a} to {b}" for a, b in pairwise(marks))]
    cases = " ".join(
        f"WHEN {value} < {edge!r} THEN {text(name)}"
        for edge, name in zip(one.edges, names, strict=True)
    )
    missing = f"WHEN {value} IS NULL OR isnan(({value})::DOUBLE) THEN {text(UNKNOWN)}"
    return f"CASE {missing} {cases} ELSE {text(f'{marks[-1]} and above')} END"


def column_type(spec: ModelSpec, name: str) -> ColumnType:
    """Type of a feature, or of a column of the entity rows."""
    for feature in spec.features.features:
        if feature.name == name:
            return feature.type
    return spec.rows.column(name).type


def usable_label(spec: ModelSpec) -> str:
    """Condition that the label of an outcome is one of the task."""
    return "label IN (0, 1)" if spec.task == "binary" else "label IS NOT NULL AND isfinite(label)"


def key_sets(connection: "duckdb.DuckDBPyConnection", delivered: str) -> list[tuple[str, ...]]:
    """The sets of keys by which outcomes name their entities: one, or a few.

    Args:
        connection: where they are.
        delivered: a table of outcomes, or a query in brackets.
    """
    rows = connection.execute(
        f"SELECT DISTINCT list_sort(map_keys(entity)) AS keys FROM {delivered} "
        "WHERE prediction_id IS NULL AND len(map_keys(entity)) > 0 ORDER BY keys"
    ).fetchall()
    return [tuple(keys) for (keys,) in rows]


def same_entity(keys: Sequence[str], predicted_at: str = f"p.{quoted(EVENT_TIME)}") -> str:
    """Condition that the outcome `o` names the prediction `p` by these keys and its time.

    Args:
        keys: one of `key_sets`.
        predicted_at: the column with the time of the prediction.
    """
    same = " AND ".join(f"p.entity[{text(key)}] = o.entity[{text(key)}]" for key in keys)
    return (
        f"o.prediction_id IS NULL AND list_sort(map_keys(o.entity)) = "
        f"[{', '.join(map(text, keys))}] AND {predicted_at} = o.predicted_at AND {same}"
    )
