"""What the arms of a rollout or an experiment answered, joined with what became of it.

Reads the logs once, from the lake and from files that are still open, into temporary tables of one
connection: `served` has the predictions of the arms, `told` the outcomes that belong to them. A
label or value belongs to a prediction by its id, or by entity and time. What is summed of it stands
in `sums` (canaries) and `experiments.data` (experiments); no number is computed here.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_assets.errors import DataError
from mlops_assets.monitoring.predictions import OUTPUTS
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import quoted, text
from mlops_assets.stores.live_log import living
from mlops_assets.stores.logged import key_sets, same_entity, slice_sql
from mlops_assets.stores.outcomes_log import OUTCOMES
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from mlops_assets.platform import Platform
    from mlops_assets.spec import ModelSpec

DAY = dt.timedelta(days=1)
_NUMBERS = ("int", "float", "time")
_DELIVERED = ("prediction_id", EVENT_TIME, "entity", "predicted_at", "label", "values")


@contextmanager
def joined(
    platform: "Platform",
    spec: "ModelSpec",
    arms: Sequence[str],
    since: dt.datetime,
    until: dt.datetime | None = None,
    *,
    as_of: dt.datetime | None = None,
    slices: bool = False,
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Show what some arms answered, and the outcomes of it.

    Args:
        platform: the stores.
        spec: the model.
        arms: names of the arms, as they are logged.
        since: predictions from this moment on.
        until: predictions up to this moment; None for all.
        as_of: outcomes that became known later are not there yet; None for all.
        slices: with the level of each declared slice, as `slice:<name>`.

    Yields:
        A connection with the temporary tables `served` (prediction_id, made_at, arm, version, ok,
        unit, and the outputs of the task) and `told` (prediction_id, known_at, label, values). The
        unit is what was drawn for an arm: an entity, or a prediction that named none.

    Raises:
        DataError: when the log does not keep the keys of the entities.
    """
    refuse_unknown_entities(spec)
    delivered = _delivered(platform, spec, since, as_of)
    root = platform.settings.root
    last = None if until is None else until.astimezone(dt.UTC).date()
    first = since.astimezone(dt.UTC).date()
    with living(root / PREDICTIONS.name, platform.lake, first=first, last=last) as connection:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE served AS "
            + _served(spec, arms, since, until, slices=slices)
        )
        connection.register("delivered", delivered)
        try:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE told AS {_told(connection)}")
            yield connection
        finally:
            connection.unregister("delivered")
            for table in ("served", "told"):
                connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def refuse_unknown_entities(spec: "ModelSpec") -> None:
    """Refuse to count entities that the log cannot tell apart.

    Raises:
        DataError: when a key of the entities is dropped from the log.
    """
    dropped = sorted(set(spec.entity_keys) & set(spec.serving.dropped))
    if dropped:
        raise DataError(
            f"no data: the log of {spec.name!r} drops {', '.join(dropped)}",
            expected="the keys of the entities, plain or hashed: arms are drawn by entity",
            do="name them under `hashed` in the serving policy instead of `dropped`",
        )


def moment(time: dt.datetime) -> str:
    """SQL of a moment."""
    return f"{text(time.isoformat())}::TIMESTAMPTZ"


def _served(
    spec: "ModelSpec",
    arms: Sequence[str],
    since: dt.datetime,
    until: dt.datetime | None,
    *,
    slices: bool,
) -> str:
    # As `entity_text` of the server joins them: equal there is equal here, masked or not.
    parts = [
        f"CASE WHEN map_contains(entity, {text(key)}) "
        f"THEN {text(f'{key}=')} || coalesce(entity[{text(key)}], 'None') END"
        for key in spec.entity_keys
    ]
    unit = f"nullif(concat_ws(chr(31), {', '.join(parts)}), '')" if parts else "NULL::VARCHAR"
    columns = [
        "prediction_id",
        f"{quoted(EVENT_TIME)} AS made_at",
        "arm",
        "version",
        "status = 'ok' AS ok",
        "entity",
        f"coalesce({unit}, prediction_id) AS unit",
        *(f"outputs[{text(name)}] AS {quoted(name)}" for name in OUTPUTS[spec.task]),
    ]
    if slices:
        columns += [
            f"{slice_sql(spec, one)} AS {quoted(f'slice:{one.name}')}" for one in spec.slices
        ]
    bounds = [
        f"model = {text(spec.name)}",
        f"arm IN ({', '.join(map(text, arms))})",
        f"{quoted(EVENT_TIME)} >= {moment(since)}",
        *([f"{quoted(EVENT_TIME)} <= {moment(until)}"] if until else []),
    ]
    return f"SELECT {', '.join(columns)} FROM {PREDICTIONS.name} WHERE {' AND '.join(bounds)}"


def _delivered(
    platform: "Platform", spec: "ModelSpec", since: dt.datetime, as_of: dt.datetime | None
) -> "pa.Table":
    """The outcomes of the model; clocks of those who deliver them may be a day behind."""
    first = since.astimezone(dt.UTC).date() - DAY
    known = f" AND {quoted(EVENT_TIME)} <= {moment(as_of)}" if as_of else ""
    query = (
        f"SELECT {', '.join(map(quoted, _DELIVERED))} FROM {OUTCOMES.name} "
        f"WHERE model = {text(spec.name)}{known}"
    )
    folder = platform.settings.root / OUTCOMES.name
    with living(folder, platform.lake, OUTCOMES, first=first) as connection:
        return connection.sql(query).to_arrow_table()


def _told(connection: "duckdb.DuckDBPyConnection") -> str:
    """Outcomes by id, and by each set of keys that an entity was named by."""
    columns = f'p.prediction_id, o.{quoted(EVENT_TIME)} AS known_at, o.label, o."values"'
    by_id = "p.prediction_id = o.prediction_id"
    ways = [by_id, *(same_entity(k, "p.made_at") for k in key_sets(connection, "delivered"))]
    return " UNION ALL ".join(
        f"SELECT {columns} FROM delivered o JOIN served p ON {way} WHERE p.ok" for way in ways
    )
