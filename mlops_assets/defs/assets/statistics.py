"""Statistics of feature views by day, as assets: what drift monitoring reads, and people look at.

How statistics are computed and kept stands in `engines/feature_statistics.py`.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.defs import keys, metadata, partitions
from mlops_assets.defs.assets.features import raw_marks
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import feature_statistics as statistics
from mlops_assets.platform import Platform
from mlops_assets.tables import EVENT_TIME, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

PLOTTED = ("mean", "null_share")


def statistics_asset(view: FeatureView) -> dg.AssetsDefinition:
    """Build the daily-partitioned asset of a view's statistics; a range of days is one run."""

    # Named apart from its key, `statistics__...`: Dagster takes the partitions of a run from the
    # last step by name (`construct_run_with_snapshots`). Were that a partitioned one, a run over a
    # year would plan 366 partitions of each asset and check that has none, 8,000 events in all.
    @dg.multi_asset(
        name=f"feature_statistics__{view.name}",
        specs=[
            dg.AssetSpec(
                keys.statistics(view),
                deps=[keys.features(view)],
                group_name="features",
                kinds={"duckdb", "parquet"},
                description=f"Count, nulls, mean, spread, quantiles and range of {view.name} by "
                "day.",
            )
        ],
        partitions_def=partitions.days(view.calendar),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def table(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        days = partitions.chosen(context)
        mark = statistics.statistics_fingerprint(
            view, engine.features_fingerprint(view, raw_marks(platform, view))
        )
        found = statistics.write_statistics(platform.lake, view, days, mark)
        newest = found.slice(found.num_rows - len(view.features))
        # Of the newest day only: a run over a year would write 7,000 numbers into the event log.
        context.add_asset_metadata(
            {"newest_day": metadata.table(_rows(newest)), **_plots(newest)},
            partition_key=days[-1].isoformat(),
        )
        return dg.MaterializeResult(
            metadata={
                "rows_computed": found.num_rows,
                "days_computed": len(days),
                "dagster/uri": str(platform.lake.folder(statistics.table(view))),
                "fingerprint": mark,
            },
        )

    return table


def _plots(day: "pa.Table") -> dict[str, dg.MetadataValue]:
    """Mean and share of nulls of each feature on a day; what cannot be computed is left out."""
    features = day["feature"].to_pylist()
    values = {
        f"{feature}/{name}": value
        for name in PLOTTED
        for feature, value in zip(features, day[name].to_pylist(), strict=True)
    }
    return {**metadata.numbers(values), **metadata.numbers({"rows": day["count"][0].as_py()})}


def _rows(day: "pa.Table") -> list[dict[str, Any]]:
    return [
        {
            "feature": row.pop("feature"),
            **{name: metadata.rounded(value) for name, value in row.items()},
        }
        for row in day.drop_columns([EVENT_TIME]).to_pylist()
    ]
