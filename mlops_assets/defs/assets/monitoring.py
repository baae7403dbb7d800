"""Monitors of a model as assets: all kinds of a day in one run step, and of a week in another.

The steps only say which windows; what is computed stands in `monitoring/windows.py`. No monitor is
part of the main job: they are materialized by the sensor `fresh_windows`, or by hand.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.defs import keys, metadata, partitions
from mlops_assets.monitoring import results
from mlops_assets.monitoring.drifts import ALL
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    import pyarrow as pa

DESCRIPTIONS: Mapping[str, str] = {
    "feature_drift": "How far each input is from the rows that the version learned on",
    "prediction_drift": "How far the answers are from those on holdout",
    "calibration_drift": "Calibration error on mature labels, with intervals and bins",
    "coverage": "How often sets or intervals hold the truth, on mature labels",
    "performance": "Metrics on mature labels; until then estimates, which are scored later",
}


def day_partitions(spec: ModelSpec) -> dg.DailyPartitionsDefinition:
    """The days on which the model may have predicted: all since the first that it learned from."""
    start = spec.windows.train.start.isoformat()
    return dg.DailyPartitionsDefinition(start_date=start, timezone="UTC")


def week_partitions(spec: ModelSpec) -> dg.WeeklyPartitionsDefinition:
    """The weeks of these days."""
    return partitions.weeks(spec.windows.train.start)


def monitoring_assets(spec: ModelSpec) -> list[dg.AssetsDefinition]:
    """Build the daily and the weekly monitors of a model."""
    return [_assets(spec, weekly=False), _assets(spec, weekly=True)]


def _assets(spec: ModelSpec, *, weekly: bool) -> dg.AssetsDefinition:
    if weekly:
        under = [keys.monitor(spec, kind) for kind in results.DRIFTS]
    else:
        under = [keys.predictions(spec), keys.INFERENCE_LOG]
    labels = [keys.OUTCOMES_LOG, keys.rows(spec.rows)]

    @dg.multi_asset(
        name=f"{spec.name}__monitoring{'_weekly' if weekly else ''}",
        specs=[
            dg.AssetSpec(
                keys.monitor(spec, kind, weekly=weekly),
                deps=under if kind in results.DRIFTS and weekly else [*under, *labels],
                group_name=spec.name,
                kinds={"duckdb", "parquet"},
                description=f"{DESCRIPTIONS[kind]}, by {'week' if weekly else 'day'}.",
                owners=list(spec.owners),
            )
            for kind in results.KINDS
        ],
        partitions_def=week_partitions(spec) if weekly else day_partitions(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def monitors(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult]:
        from mlops_assets.monitoring.windows import compute_day, compute_week

        as_of = platform.now
        compute = compute_week if weekly else compute_day
        rows: dict[str, dict[str, int]] = {kind: {} for kind in results.KINDS}
        for partition in context.partition_keys:
            found = compute(platform, spec, dt.date.fromisoformat(partition), as_of)
            for kind, table in found.items():
                rows[kind][partition] = table.num_rows
                context.add_asset_metadata(
                    {"dagster/partition_row_count": table.num_rows, **summary(kind, table)},
                    asset_key=keys.monitor(spec, kind, weekly=weekly),
                    partition_key=partition,
                )
        for kind in results.KINDS:
            name = results.table(spec, kind, weekly=weekly)
            yield dg.MaterializeResult(
                asset_key=keys.monitor(spec, kind, weekly=weekly),
                metadata={
                    "windows_computed": len(rows[kind]),
                    "rows": sum(rows[kind].values()),
                    "dagster/uri": str(platform.lake.folder(name)),
                },
            )

    return monitors


def summary(kind: str, table: "pa.Table") -> dict[str, dg.MetadataValue]:
    """The numbers of a window that are plotted over time, those of all rows.

    Drift and counts are of all versions together; of what labels say, the version with most rows
    counts.
    """
    found: dict[str, Any] = {}
    rows = [row for row in table.to_pylist() if row["arm"] == row["slice"] == ALL]
    if kind in results.DRIFTS:
        values = [row["psi"] for row in rows if row["psi"] is not None]
        found["drifted"] = sum(row["outcome"] == "drifted" for row in rows)
        found["warnings"] = sum(row["outcome"] == "warning" for row in rows)
        found["no_data"] = sum(row["outcome"] == "no data" for row in rows)
        if values:
            found["psi_max"] = max(values)
        return metadata.numbers(found)
    for row in sorted(rows, key=lambda row: row["n"]):
        if row["value"] is None or row["metric"] == "bin":
            continue
        if row["kind"] == "count" and row["window"] in ("day", "week"):
            found[row["metric"]] = found.get(row["metric"], 0.0) + row["value"]
        elif row["window"] != "day" and row["kind"] in ("measured", "score"):
            sign = "" if row["kind"] == "measured" else "estimate_error_"
            found[f"{sign}{row['metric']}"] = row["value"]
    return metadata.numbers(found)
