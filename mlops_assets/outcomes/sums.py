"""What the arms of a rollout or an experiment are compared by on labels and values: plain sums.

The numbers are those of `rollouts.canary`: the squared error, misses of the conformal set, the
calibration by bin, and each declared metric. Of an entity the first prediction in an arm counts,
once it is known what became of it: an entity that comes often is no more evidence than one that
comes once, and what was counted is never counted otherwise later, as bounds that hold at every look
need it. How the logs are joined is decided in `join`.
"""

import datetime as dt
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from mlops_assets.core import live_calibration
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import CANARY, CHAMPION, CONTROL, CONTROL_START
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import DeclarationError
from mlops_assets.outcomes.join import joined, span
from mlops_assets.platform import Platform
from mlops_assets.rollouts.canary import BRIER, CALIBRATION, METRIC, OUTSIDE, TRAFFIC_STAGE
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import quoted, text
from mlops_assets.stores.rollouts import Counted, Kept

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LABELS = "labels"
"""Who counted: the source of these sums."""


def sums_of(
    platform: Platform,
    spec: ModelSpec,
    rollout: "str | Kept | Collection[str]",
    since: dt.datetime | None = None,
    *,
    until: dt.datetime | None = None,
    as_of: dt.datetime | None = None,
) -> dict[Counted, Sums]:
    """Sum what became of the predictions of some arms.

    Args:
        platform: the stores.
        spec: the model, with its metrics.
        rollout: a rollout or experiment, or its id, or names of arms as they are logged. Of a
            rollout canary and control are summed; the champion's rows only when no control is left
            beside the canary, and only those since then: those before were of another time.
        since: predictions from this moment on; from its beginning when left out.
        until: predictions up to this moment.
        as_of: outcomes that became known later are not there yet.

    Returns:
        Sums by stage, arm, number and source; arms without a known outcome are missing.

    Raises:
        RolloutError: when there is no rollout or experiment with the id.
        DataError: when the log does not keep the keys of the entities.
        DeclarationError: names of arms without a moment.
    """
    starts = _starts(platform, rollout, since)
    first = min(starts.values())
    with joined(platform, spec, tuple(starts), first, until, as_of=as_of) as connection:
        for arm, start in starts.items():
            connection.execute("DELETE FROM served WHERE arm = ? AND made_at < ?", [arm, start])
        connection.execute(
            # The first of each entity and arm, whether or not anything is known of it.
            "CREATE OR REPLACE TEMP TABLE firsts AS SELECT * FROM served WHERE ok QUALIFY "
            "row_number() OVER (PARTITION BY arm, unit ORDER BY made_at, prediction_id) = 1"
        )
        try:
            found = [*_of_labels(connection, spec), *_of_metrics(connection, spec)]
        finally:
            connection.execute("DROP TABLE IF EXISTS temp.firsts")
    return {Counted(TRAFFIC_STAGE, arm, number, LABELS): sums for arm, number, sums in found}


def _starts(
    platform: Platform, rollout: "str | Kept | Collection[str]", since: dt.datetime | None
) -> dict[str, dt.datetime]:
    """From when on the rows of each arm count."""
    if not isinstance(rollout, (str, Kept)):
        if since is None or not rollout:
            raise DeclarationError(
                f"the arms {', '.join(rollout) or 'of nothing'} since {since}",
                expected="names of arms, and the moment from which on they are summed",
                do="give both, or a rollout",
            )
        return dict.fromkeys(rollout, since)
    kept = platform.rollouts.get(rollout) if isinstance(rollout, str) else rollout
    since = since or span(platform, kept)[0]
    if not isinstance(kept.traffic, Rollout):
        return dict.fromkeys((arm.name for arm in kept.traffic.arms), since)
    found = dict.fromkeys((CANARY, CONTROL), since)
    if kept.traffic.share > CONTROL_START:
        last = kept.entered if platform.settings.now is None else since
        found[CHAMPION] = max(since, last)
    return found


def usable(spec: ModelSpec) -> str:
    """Condition that a label is one of the task."""
    return "label IN (0, 1)" if spec.task == "binary" else "label IS NOT NULL AND isfinite(label)"


def _of_labels(
    connection: "duckdb.DuckDBPyConnection", spec: ModelSpec
) -> Iterator[tuple[str, str, Sums]]:
    """Errors of the predictions whose label is known: of several labels the last that was told."""
    import pyarrow.compute as pc

    binary = spec.task == "binary"
    score, outside = (
        ("probability", "CASE WHEN label = 1 THEN positive_in_set ELSE negative_in_set END = 0")
        if binary
        else ("forecast", "label NOT BETWEEN low AND high")
    )
    rows = connection.sql(
        "WITH last AS (SELECT prediction_id, "
        "max(struct_pack(known_at := known_at, label := label)).label AS label "
        f"FROM told WHERE {usable(spec)} GROUP BY prediction_id) "
        f"SELECT arm, {score} AS score, label, ({outside})::DOUBLE AS outside "
        f"FROM firsts JOIN last USING (prediction_id) ORDER BY arm, prediction_id"
    ).to_arrow_table()
    for arm in rows["arm"].unique().to_pylist():
        chosen = rows.filter(pc.equal(rows["arm"], arm))
        of_arm = {name: _numbers(chosen[name]) for name in ("score", "label", "outside")}
        misses = of_arm["outside"]
        if (kept := misses == misses).any():
            yield arm, OUTSIDE, Sums.of(misses[kept])
        if binary and (kept := of_arm["score"] == of_arm["score"]).any():
            scores, labels = of_arm["score"][kept], of_arm["label"][kept]
            yield arm, BRIER, Sums.of((scores - labels) ** 2)
            bins = live_calibration.sums_of(scores.tolist(), labels.astype(int).tolist())
            for number, sums in bins.items():
                yield arm, f"{CALIBRATION}.{number}", sums


def _of_metrics(
    connection: "duckdb.DuckDBPyConnection", spec: ModelSpec
) -> Iterator[tuple[str, str, Sums]]:
    """Declared values of the predictions: by name the last that was told counts."""
    if not spec.metrics:
        return
    names = ", ".join(text(metric.name) for metric in spec.metrics)
    rows = connection.execute(
        'WITH each AS (SELECT prediction_id, known_at, unnest(map_entries("values")) AS one '
        'FROM told WHERE "values" IS NOT NULL), '
        "last AS (SELECT prediction_id, one.key AS name, max(struct_pack("
        "known_at := known_at, number := one.value)).number AS number FROM each "
        f"WHERE one.key IN ({names}) AND isfinite(one.value) GROUP BY ALL) "
        "SELECT arm, name, count(*), fsum(number), fsum(number * number) "
        f"FROM firsts JOIN last USING ({quoted('prediction_id')}) GROUP BY arm, name ORDER BY ALL"
    ).fetchall()
    for arm, name, n, total, squares in rows:
        yield arm, f"{METRIC}.{name}", Sums(n, total, max(squares, total * total / n))


def _numbers(column: "pa.ChunkedArray") -> "NDArray[np.float64]":
    """Numbers with NaN where there is none."""
    return column.to_pandas().to_numpy(dtype="float64")
