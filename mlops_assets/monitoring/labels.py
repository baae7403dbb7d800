"""The join of predictions with what became of them, window by window.

A label belongs to a prediction by its id, or by entity and time; the labels of batch predictions
stand in the entity rows. Of several for one prediction the one that became known last counts, as of
a given moment; of several that became known together, the largest. A label that belongs to no
prediction is counted, and so are those that are no label of the task. A label that comes long after
its prediction belongs to none.

Only the join belongs here. Which rows are mature and what they say is decided in `labelled`.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.core import fingerprint
from mlops_assets.engines import duckdb as engine
from mlops_assets.monitoring.predictions import BATCH, OUTPUTS, batch_table, selection
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import parquet_files, quoted, text
from mlops_assets.stores.logged import key_sets, same_entity, usable_label
from mlops_assets.stores.outcomes_log import OUTCOMES
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import pyarrow as pa

_NO_LABELS = (
    "SELECT NULL::VARCHAR AS prediction_id, NULL::DOUBLE AS label, NULL::TIMESTAMPTZ AS known_at "
    "WHERE false"
)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Labels that became known on a day.

    Args:
        labels: all that were delivered for the model.
        unknown: those that belong to no prediction.
        unusable: those that are no label of the task, such as a text.
    """

    labels: int = 0
    unknown: int = 0
    unusable: int = 0


@dataclass(frozen=True, slots=True)
class DayMark:
    """What a day holds.

    Args:
        predictions: all of the day.
        served: those of them that were served.
        labels: those of them that have a label.
        versions: all that predicted.
        mark: changes when a prediction, what it says, or its label is added or changed; not when
            only the inputs of a prediction do.
    """

    predictions: int
    served: int
    labels: int
    versions: tuple[str, ...]
    mark: str


def labelled_query(
    platform: Platform,
    spec: ModelSpec,
    days: Iterable[dt.date],
    as_of: dt.datetime,
    *,
    slices: bool = False,
) -> str | None:
    """SQL of all predictions on some days with their labels as of a moment; None without any file.

    Columns are those of `predictions.selection`, and `label` (a number) and `known_at`, both null
    where there is no label.

    Args:
        platform: the stores.
        spec: the model.
        days: the days of the predictions, UTC, in order.
        as_of: labels that became known later are not there yet.
        slices: with the level of each declared slice.
    """
    wanted = list(days)
    found = selection(platform, spec, wanted, slices=slices)
    if found is None:
        return None
    parts = [
        *_by_log(platform, spec, wanted, as_of),
        *_by_rows(platform, spec, wanted, as_of),
    ] or [_NO_LABELS]
    return (
        # The rows of predictions are named once, so that each file is read once.
        f"WITH p AS MATERIALIZED ({found}), "
        f"known AS ({' UNION ALL '.join(parts)}), "
        f"newest AS (SELECT prediction_id, p.{quoted(EVENT_TIME)} AS made_at, "
        "max(struct_pack(known_at := known_at, label := label)) AS last "
        f"FROM known JOIN p USING (prediction_id) WHERE {_in_time(spec, 'known.known_at')} "
        "GROUP BY prediction_id, made_at) "
        "SELECT p.*, newest.last.label AS label, newest.last.known_at AS known_at "
        f"FROM p LEFT JOIN newest ON newest.prediction_id = p.prediction_id "
        f"AND newest.made_at = p.{quoted(EVENT_TIME)}"
    )


def deliveries(platform: Platform, spec: ModelSpec, day: dt.date, as_of: dt.datetime) -> Deliveries:
    """Count the labels that became known on a day, and those that belong to no prediction.

    Predictions of the `label_days` before it are looked at, and of that day.
    """
    lake, path = platform.lake, platform.lake.day_file(OUTCOMES.name, day)
    if not path.exists():
        return Deliveries()
    delivered = (
        f"SELECT * FROM read_parquet({parquet_files([path])}) WHERE model = {text(spec.name)} "
        f"AND {quoted(EVENT_TIME)} <= {_moment(as_of)} "
        # An outcome may bring values alone.
        "AND (label IS NOT NULL OR label_text IS NOT NULL)"
    )
    before = [day - dt.timedelta(i) for i in range(spec.monitoring.label_days, -2, -1)]
    predicted = selection(platform, spec, before)
    with lake.connect() as connection:
        usable = usable_label(spec)
        counts = connection.execute(
            f"SELECT count(*), count(*) FILTER (NOT coalesce({usable}, false)) FROM ({delivered})"
        ).fetchone()
        labels, unusable = (int(count) for count in counts or (0, 0))
        if not labels:
            return Deliveries()
        if predicted is None:
            return Deliveries(labels, labels, unusable)
        in_time = _in_time(spec, f"o.{quoted(EVENT_TIME)}")
        known = [
            f"SELECT o.i FROM o JOIN p USING (prediction_id) WHERE {in_time}",
            *(
                f"SELECT o.i FROM o JOIN p ON {same_entity(keys)} WHERE {in_time}"
                for keys in key_sets(connection, f"({delivered})")
            ),
        ]
        row = connection.execute(
            f"WITH p AS (SELECT prediction_id, {quoted(EVENT_TIME)}, entity FROM ({predicted})), "
            f"o AS MATERIALIZED (SELECT row_number() OVER () AS i, * FROM ({delivered})) "
            f"SELECT count(*) FROM o WHERE i NOT IN ({' UNION '.join(known)})"
        ).fetchone()
    return Deliveries(labels, int(row[0]) if row else 0, unusable)


def day_marks(
    platform: Platform, spec: ModelSpec, days: Iterable[dt.date], as_of: dt.datetime
) -> dict[dt.date, DayMark]:
    """A mark of the predictions and labels of each day that has predictions, in one pass."""
    query = labelled_query(platform, spec, sorted(days), as_of)
    if query is None:
        return {}
    said = ", ".join(quoted(f"output:{name}") for name in OUTPUTS[spec.task])
    held = f"prediction_id, version, arm, status, label, known_at, {said}"
    with platform.lake.connect() as connection:
        rows = connection.execute(
            f"SELECT {quoted(EVENT_TIME)}::DATE AS day, count(*), "
            f"count(*) FILTER (arm <> {text(BATCH)}), count(label), "
            f"list(DISTINCT version ORDER BY version), sum(hash({held})::HUGEINT)::VARCHAR "
            f"FROM ({query}) GROUP BY day ORDER BY day"
        ).fetchall()
    return {
        day: DayMark(
            n, served, labels, tuple(versions), fingerprint.of_values(n, labels, content)[:16]
        )
        for day, n, served, labels, versions, content in rows
    }


def read_labelled(
    platform: Platform, spec: ModelSpec, days: Iterable[dt.date], as_of: dt.datetime
) -> "pa.Table | None":
    """The rows of `labelled_query` with slices, in order of time and id, without entities."""
    query = labelled_query(platform, spec, days, as_of, slices=True)
    if query is None:
        return None
    with platform.lake.connect() as connection:
        return connection.sql(
            f"SELECT * EXCLUDE (entity) FROM ({query}) ORDER BY {quoted(EVENT_TIME)}, prediction_id"
        ).to_arrow_table()


def _by_log(
    platform: Platform, spec: ModelSpec, days: list[dt.date], as_of: dt.datetime
) -> list[str]:
    """Labels out of the outcomes log: by id, and by each set of keys that names an entity."""
    lake, last = platform.lake, days[-1] + dt.timedelta(spec.monitoring.label_days)
    files = [
        found.paths[0]
        for day, found in lake.days(OUTCOMES.name).items()
        if days[0] - dt.timedelta(1) <= day <= min(last, as_of.date())
    ]
    if not files:
        return []
    delivered = (
        f"SELECT * FROM read_parquet({parquet_files(files)}) WHERE model = {text(spec.name)} "
        f"AND {quoted(EVENT_TIME)} <= {_moment(as_of)} AND {usable_label(spec)}"
    )
    columns = f"label, {quoted(EVENT_TIME)} AS known_at"
    found = [f"SELECT prediction_id, {columns} FROM ({delivered}) WHERE prediction_id IS NOT NULL"]
    with lake.connect() as connection:
        sets = key_sets(connection, f"({delivered})")
    return found + [
        f"SELECT p.prediction_id, o.label, o.{quoted(EVENT_TIME)} AS known_at "
        f"FROM ({delivered}) AS o JOIN p ON {same_entity(keys)}"
        for keys in sets
    ]


def _by_rows(
    platform: Platform, spec: ModelSpec, days: list[dt.date], as_of: dt.datetime
) -> list[str]:
    """Labels of batch predictions, out of the entity rows."""
    path = platform.lake.file(engine.rows(spec.rows))
    batches = (platform.lake.day_file(batch_table(spec), day) for day in days)
    if not path.exists() or not any(batch.exists() for batch in batches):
        return []
    label, known = quoted(spec.label.column), quoted(spec.label.known_at)
    return [
        f"SELECT {quoted(spec.rows.row_id)}::VARCHAR AS prediction_id, {label}::DOUBLE AS label, "
        f"{known}::TIMESTAMPTZ AS known_at FROM read_parquet({parquet_files([path])}) "
        f"WHERE {quoted(EVENT_TIME)}::DATE BETWEEN {text(days[0])}::DATE "
        f"AND {text(days[-1])}::DATE AND {label} IS NOT NULL AND {known} <= {_moment(as_of)} "
        # The rows of served predictions have ids of their own.
        f"AND {quoted(spec.rows.row_id)}::VARCHAR IN "
        f"(SELECT prediction_id FROM p WHERE arm = {text(BATCH)})"
    ]


def _in_time(spec: ModelSpec, known_at: str) -> str:
    """Condition that a label became known in time for its prediction, whatever days are read.

    The clock of who delivers it may be behind: it may be of the day before.
    """
    predicted = f"p.{quoted(EVENT_TIME)}"
    return (
        f"{known_at}::DATE >= {predicted}::DATE - 1 "
        f"AND {known_at} <= {predicted} + INTERVAL {spec.monitoring.label_days} DAY"
    )


def _moment(moment: dt.datetime) -> str:
    return f"{text(moment.isoformat())}::TIMESTAMPTZ"


def days_with_predictions(platform: Platform, spec: ModelSpec) -> list[dt.date]:
    """The days, in order, that have a file in which predictions of the model may stand."""
    lake = platform.lake
    return sorted({*lake.days(PREDICTIONS.name), *lake.days(batch_table(spec))})
