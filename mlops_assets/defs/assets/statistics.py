"""Statistics of feature views by day, as assets: what drift monitoring reads, and people look at.

How statistics are computed and kept stands in `engines/feature_statistics.py`.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.defs import keys, metadata
from mlops_assets.engines import feature_statistics as statistics
from mlops_assets.platform import Platform
from mlops_assets.tables import EVENT_TIME, FeatureView

if TYPE_CHECKING:
    import pyarrow as pa

PLOTTED = ("mean", "null_share")


def statistics_asset(view: FeatureView) -> dg.AssetsDefinition:
    """Build the asset of a view's statistics: all days, of which the changed ones are computed."""

    @dg.asset(
        key=keys.statistics(view),
        deps=[keys.features(view)],
        group_name="features",
        kinds={"duckdb", "parquet"},
        description=f"Count, nulls, mean, spread, quantiles and range of {view.name} by day.",
    )
    def table(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        found, computed = statistics.write_statistics(platform.lake, view)
        newest = found.slice(found.num_rows - len(view.features))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": found.num_rows,
                "dagster/uri": str(platform.lake.file(statistics.table(view))),
                "days_computed": len(computed),
                # Of the newest day only: all days are in the table.
                "newest_day": metadata.table(_rows(newest)),
                **_plots(newest),
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
