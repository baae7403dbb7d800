"""What was knowable at a training row's time, by brute force from the feature files.

The rule of point-in-time correctness, written from its definition alone: every feature row of the
key is held against the row's time. The join that builds training sets is `stores/asof_join.py`;
this file shares nothing with it, so that one can judge the other. Values are compared in
`core/leakage.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.engines import duckdb as engine
from mlops_assets.stores.lake import Lake, quoted, text, view
from mlops_assets.tables import CREATED_TIME, EVENT_TIME, Column, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

PLACE = "place"
"""Number of a sampled row, from 0 on."""


def sample(
    lake: Lake, path: Path, columns: Sequence[str], row_id: str, rows: int, seed: int
) -> "pa.Table":
    """Draw rows of a training set: the same ones for a seed, whatever their order in the file.

    Returns:
        The row's id, `event_timestamp`, the columns and `place`, in order of `place`.
    """
    names = ", ".join(quoted(name) for name in dict.fromkeys((row_id, EVENT_TIME, *columns)))
    drawn = f"hash({quoted(row_id)}, {seed}), {quoted(row_id)}"
    return lake.read(
        f"SELECT *, row_number() OVER (ORDER BY {drawn}) - 1 AS {PLACE} "
        f"FROM (SELECT {names} FROM training_set ORDER BY {drawn} LIMIT {rows}) ORDER BY {PLACE}",
        training_set=path,
    )


def answers(
    lake: Lake,
    feature_view: FeatureView,
    rows: "pa.Table",
    which: Literal["known", "future"],
    features: Sequence[Column],
) -> dict[str, list[Any]]:
    """The feature values that answer each sampled row, by the definition.

    Args:
        lake: where the feature files are.
        feature_view: the view that is asked.
        rows: the entity columns, `event_timestamp` and `place`. Shape (n, k).
        which: `known` is the latest event time (then created time) among the rows of the keys with
            event time <= t, created time <= t and event time >= t - TTL. `future` is the earliest
            row within a TTL that was not known at t: what a leak would show.
        features: the features wanted.

    Returns:
        n values by feature, in order of `place`; null where no row answers.
    """
    keys = [quoted(entity.name) for entity in feature_view.entities]
    names = [quoted(feature.name) for feature in features]
    event, created = f"f.{EVENT_TIME}", f"coalesce(f.{CREATED_TIME}, f.{EVENT_TIME})"
    ttl = f"to_microseconds({round(feature_view.ttl.total_seconds() * 1e6)})"
    if which == "known":
        rule = f"{event} <= a.t AND {created} <= a.t AND {event} >= a.t - {ttl}"
        choose, first, last = "arg_max", f"t - {ttl}", "t"
    else:
        rule = f"greatest({event}, {created}) > a.t AND {event} <= a.t + {ttl}"
        choose, first, last = "arg_min", f"t - {ttl}", f"t + {ttl}"
    values = ", ".join(f"{name}: f.{name}" for name in names)
    # The days only narrow down the pairs that are compared; the rule decides.
    same = " AND ".join([*(f"a.{key} = f.{key}" for key in keys), "a.day = f.day"])
    with lake.connect() as connection:
        connection.register("sampled", rows)
        view(connection, "feature files", lake.folder(engine.features(feature_view)))
        return (
            connection.sql(
                f"WITH asked AS (SELECT {', '.join([PLACE, *keys])}, "
                f"{EVENT_TIME}::TIMESTAMPTZ AS t, "
                f"unnest(generate_series(({first})::DATE::TIMESTAMP, ({last})::DATE::TIMESTAMP, "
                f"INTERVAL 1 DAY))::DATE AS day FROM sampled), "
                f"feature_rows AS (SELECT {', '.join([*keys, EVENT_TIME, CREATED_TIME, *names])}, "
                f"{EVENT_TIME}::DATE AS day FROM {quoted('feature files')}), "
                f"answer AS (SELECT a.{PLACE}, {choose}({{{values}}}, ({event}, {created})) AS row "
                f"FROM asked AS a JOIN feature_rows AS f ON {same} WHERE {rule} "
                f"GROUP BY a.{PLACE}) "
                f"SELECT {', '.join(f'answer.row.{name} AS {name}' for name in names)} "
                f"FROM sampled LEFT JOIN answer USING ({PLACE}) ORDER BY {PLACE}"
            )
            .to_arrow_table()
            .to_pydict()
        )


def ranked_inputs(
    lake: Lake,
    path: Path,
    inputs: Sequence[str],
    label: str,
    part: tuple[str, str],
    *,
    numbers: bool = False,
) -> tuple[dict[str, Any], Any]:
    """The inputs of a model as numbers that can be ranked, and the labels.

    Args:
        lake: opens connections.
        path: file of the training set.
        inputs: columns; those of text are ranked by the label's rate in each level.
        label: column of the label.
        part: column and value that choose the rows.
        numbers: whether the label is a number and not a class.

    Returns:
        A float array of shape (n,) by input, NaN where null, and the labels, 0 or 1, shape (n,). Of
        a label that is a number it is whether it lies above its median.
    """
    import numpy as np
    import pyarrow as pa

    from mlops_assets.core.leakage import rates_of_levels

    names = ", ".join(quoted(name) for name in (*inputs, label))
    chosen = f"SELECT {names} FROM training_set WHERE {quoted(part[0])} = {text(part[1])}"
    table = lake.read(chosen, training_set=path)
    given = table[label].to_numpy()
    labels = (given > np.median(given) if numbers else given).astype("int64")
    ranked = {}
    for name in inputs:
        column = table[name].combine_chunks()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            codes = column.dictionary_encode(null_encoding="encode").indices.to_numpy()
            ranked[name] = rates_of_levels(codes.astype("int64"), labels)
        else:
            if pa.types.is_boolean(column.type):
                column = column.cast(pa.uint8())
            ranked[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return ranked, labels
