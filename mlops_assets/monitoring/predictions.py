"""The predictions of a model as one SQL selection, whether they were served or made in batch.

Which files are read and what the columns are called; labels are joined in `labels`, nothing is
counted or judged here. Columns: `prediction_id`, `event_timestamp`, `version`, `arm`, `status`,
`entity` (a map of texts), and of those that are wanted `input:<name>`, `output:<name>` and
`slice:<name>`; the signs before the names keep columns of a model from colliding with ours.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import parquet_files, quoted, text
from mlops_assets.stores.logged import column_type, input_sql, level_sql, slice_sql
from mlops_assets.tables import EVENT_TIME

BATCH = "batch"
"""Arm of the predictions that were not served."""

OUTPUTS = {
    "binary": ("probability", "negative_in_set", "positive_in_set"),
    "regression": ("forecast", "low", "high"),
}
"""What a model says, by task, as `core.tasks.predictions` calls it."""

DERIVED = {
    "binary": ("set_size", "{negative_in_set} + {positive_in_set}"),
    "regression": ("width", "{high} - {low}"),
}
"""What is watched of sets and intervals."""


def batch_table(spec: ModelSpec) -> str:
    """The table of batch predictions."""
    return f"predictions/{spec.name}"


def selection(
    platform: Platform,
    spec: ModelSpec,
    days: Iterable[dt.date],
    *,
    inputs: bool = False,
    slices: bool = False,
) -> str | None:
    """All predictions on some days, of whatever status; None when no file has any.

    A record whose time is of another day than its file is no prediction of that file's day.

    Args:
        platform: the stores.
        spec: the model.
        days: the days, UTC.
        inputs: with the inputs that the model got. Batch predictions without them are left out.
        slices: with the level of each declared slice.
    """
    lake, wanted = platform.lake, list(days)
    of_log = [lake.day_file(PREDICTIONS.name, day) for day in wanted]
    of_batch = [lake.day_file(batch_table(spec), day) for day in wanted]
    parts = []
    if logged := [path for path in of_log if path.exists()]:
        parts.append(_logged(spec, logged, inputs=inputs, slices=slices))
    if made := [path for path in of_batch if path.exists()]:
        names = set.intersection(*(_columns(path) for path in made))
        if not inputs or names >= set(spec.inputs):
            parts.append(_batch(platform, spec, made, names, inputs=inputs, slices=slices))
    if not parts:
        return None
    if wanted == [first + dt.timedelta(i) for first in wanted[:1] for i in range(len(wanted))]:
        bounds = f">= {_moment(wanted[0])} AND {EVENT_TIME} < {_moment(wanted[-1], 1)}"
        inside = f"{quoted(EVENT_TIME)} {bounds}"
    else:
        inside = f"{quoted(EVENT_TIME)}::DATE IN ({', '.join(f'{text(d)}::DATE' for d in wanted)})"
    return f"SELECT * FROM ({' UNION ALL BY NAME '.join(parts)}) WHERE {inside}"


def count_strays(platform: Platform, spec: ModelSpec, day: dt.date) -> int:
    """Records of the model in the file of a day whose time is of another day."""
    path = platform.lake.day_file(PREDICTIONS.name, day)
    if not path.exists():
        return 0
    query = (
        f"SELECT count(*) FROM of_day WHERE model = {text(spec.name)} "
        f"AND {quoted(EVENT_TIME)}::DATE IS DISTINCT FROM {text(day)}::DATE"
    )
    return int(platform.lake.read(query, of_day=path)[0][0].as_py())


def _logged(spec: ModelSpec, files: Sequence[Path], *, inputs: bool, slices: bool) -> str:
    """Served predictions."""
    columns = ["prediction_id", quoted(EVENT_TIME), "version", "arm", "status", "entity"]
    numbers = {name: f"outputs[{text(name)}]" for name in OUTPUTS[spec.task]}
    columns += _outputs(spec, numbers)
    if inputs:
        columns += [f"{input_sql(spec, name)} AS {quoted(f'input:{name}')}" for name in spec.inputs]
    if slices:
        columns += [
            f"{slice_sql(spec, one)} AS {quoted(f'slice:{one.name}')}" for one in spec.slices
        ]
    return (
        f"SELECT {', '.join(columns)} FROM read_parquet({parquet_files(files)}) "
        f"WHERE model = {text(spec.name)}"
    )


def _batch(
    platform: Platform,
    spec: ModelSpec,
    files: Sequence[Path],
    names: set[str],
    *,
    inputs: bool,
    slices: bool,
) -> str:
    """Batch predictions; what a slice needs beside them comes from the entity rows."""
    row_id = quoted(spec.rows.row_id)
    keys = [name for name in spec.entity_keys if name in names]
    entity = ", ".join(
        f"{text(name)}: p.{quoted(name)}::VARCHAR"
        for name in dict.fromkeys([*keys, spec.rows.row_id])
    )
    columns = [
        f"p.{row_id}::VARCHAR AS prediction_id",
        f"p.{quoted(EVENT_TIME)}",
        "p.model_version AS version",
        f"{text(BATCH)} AS arm",
        "'ok' AS status",
        f"MAP {{{entity}}} AS entity",
    ]
    columns += _outputs(spec, {name: f"p.{quoted(name)}::DOUBLE" for name in OUTPUTS[spec.task]})
    if inputs:
        columns += [
            f"{_from_batch(spec, name)} AS {quoted(f'input:{name}')}" for name in spec.inputs
        ]
    source = f"read_parquet({parquet_files(files)}, union_by_name = true) AS p"
    lacking = {one.of for one in spec.slices} - names if slices else set()
    if lacking:
        rows = text(platform.lake.file(engine.rows(spec.rows)))
        source += f" LEFT JOIN read_parquet({rows}) AS r ON r.{row_id} = p.{row_id}"
    if slices:
        for one in spec.slices:
            value = f"{'r' if one.of in lacking else 'p'}.{quoted(one.of)}"
            level = level_sql(one, value, column_type(spec, one.of))
            columns.append(f"{level} AS {quoted(f'slice:{one.name}')}")
    return f"SELECT {', '.join(columns)} FROM {source}"


def _from_batch(spec: ModelSpec, name: str) -> str:
    match column_type(spec, name):
        case "string":
            return f"p.{quoted(name)}::VARCHAR"
        case "time":
            return f"epoch(p.{quoted(name)})"
        case _:
            return f"p.{quoted(name)}::DOUBLE"


def _outputs(spec: ModelSpec, values: dict[str, str]) -> list[str]:
    name, formula = DERIVED[spec.task]
    found = {**values, name: formula.format(**values)}
    return [f"{value} AS {quoted(f'output:{name}')}" for name, value in found.items()]


def _columns(path: Path) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_schema(path).names)


def _moment(day: dt.date, later: int = 0) -> str:
    return f"{text(f'{day + dt.timedelta(later)} 00:00:00+00')}::TIMESTAMPTZ"
