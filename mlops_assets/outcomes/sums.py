"""What the arms of a rollout are compared by on labels and values: plain sums.

The numbers are those of `rollouts.canary`: the squared error, misses of the conformal set, the
calibration by bin, and each declared metric. Of an entity the first prediction in an arm counts,
once it is known what became of it: an entity that comes often is no more evidence than one that
comes once, and what was counted is never counted otherwise later, as bounds that hold at every look
need it. How the logs are joined is decided in `join`.
"""

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops_assets.core import live_calibration
from mlops_assets.core.rollout import PERCENT, Rollout
from mlops_assets.core.routing import CANARY, CHAMPION, CONTROL, CONTROL_START
from mlops_assets.core.sequential import Sums
from mlops_assets.outcomes.join import joined
from mlops_assets.platform import Platform
from mlops_assets.rollouts.canary import BRIER, CALIBRATION, METRIC, OUTSIDE, TRAFFIC_STAGE
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import quoted, text
from mlops_assets.stores.logged import usable_label
from mlops_assets.stores.rollouts import Counted, Kept

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LABELS = "labels"
"""Who counted: the source of these sums."""


def sums_of(platform: Platform, spec: ModelSpec, kept: Kept) -> dict[Counted, Sums]:
    """Sum what became of the predictions of a rollout's arms.

    Args:
        platform: the stores.
        spec: the model, with its metrics.
        kept: the rollout. Canary and control are summed from its beginning on; the champion's rows
            only when no control is left beside the canary, and only those since then: those before
            were of another time.

    Returns:
        Sums by stage, arm, number and source; arms without a known outcome are missing.

    Raises:
        DataError: when the log does not keep the keys of the entities.
    """
    starts = _starts(platform, kept)
    with joined(platform, spec, tuple(starts), min(starts.values())) as connection:
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


def _starts(platform: Platform, kept: Kept) -> dict[str, dt.datetime]:
    """From when on the rows of each arm count."""
    since, _ = platform.rollouts.span(kept, platform.settings.now)
    found = dict.fromkeys((CANARY, CONTROL), since)
    if isinstance(kept.traffic, Rollout) and kept.traffic.share > CONTROL_START:
        found[CHAMPION] = since if platform.settings.now else max(since, _widened(platform, kept))
    return found


def _widened(platform: Platform, kept: Kept) -> dt.datetime:
    """When the canary was first given more than half of the traffic: no later move changes it."""
    for entry in platform.ledger.entries(kept.model, actions=("advance",)):
        share = float(entry.evidence.get("share", 0.0))
        if entry.evidence.get("rollout") == kept.traffic.id and share * PERCENT > CONTROL_START:
            return entry.time
    return kept.entered


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
        f"FROM told WHERE {usable_label(spec)} GROUP BY prediction_id) "
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
