"""Feature tables by day, entity rows, and the Feast registry that declares them."""

from typing import Any

import dagster as dg

from mlops_assets.core import fingerprint
from mlops_assets.defs import keys, metadata, partitions
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.feature_store import service_digest
from mlops_assets.tables import Calendar, EntityRows, FeatureService, FeatureView


def raw_marks(platform: Platform, table: FeatureView | EntityRows) -> dict[str, str]:
    """Fingerprints of the raw tables under a table, by source."""
    return {s.name: engine.needed_mark(platform.lake, s).whole for s in table.sources}


def feature_asset(view: FeatureView, calendar: Calendar) -> dg.AssetsDefinition:
    """Build the daily-partitioned asset of a feature view; a range of days is one run.

    Args:
        view: the view.
        calendar: the days of all views of the code location: Dagster runs views together only
            when they have the same partitions. Of the days that the view does not have, nothing
            is computed.
    """

    @dg.asset(
        key=keys.features(view),
        group_name="features",
        kinds={"duckdb", "parquet"},
        description=view.description,
        deps=[keys.raw(source) for source in view.sources],
        partitions_def=partitions.days(calendar),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={"dagster/column_schema": metadata.schema(view.columns), "ttl": str(view.ttl)},
    )
    def table(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        own = set(engine.days_of(view))
        days = [day for day in partitions.chosen(context) if day in own]
        counts = engine.write_features(platform.lake, view, days) if days else {}
        for day, count in counts.items():
            context.add_asset_metadata(
                {"dagster/partition_row_count": count}, partition_key=day.isoformat()
            )
        return dg.MaterializeResult(
            metadata={
                "rows_computed": sum(counts.values()),
                "days_computed": len(days),
                "empty_days": sum(count == 0 for count in counts.values()),
                "dagster/uri": str(platform.lake.folder(engine.features(view))),
                "fingerprint": engine.features_fingerprint(view, raw_marks(platform, view)),
            },
        )

    return table


def rows_asset(table: EntityRows) -> dg.AssetsDefinition:
    """Build the asset of a table of entity rows."""

    @dg.asset(
        key=keys.rows(table),
        group_name="rows",
        kinds={"duckdb", "parquet"},
        description=table.description,
        deps=[keys.raw(source) for source in table.sources],
        metadata={"dagster/column_schema": metadata.schema(table.columns)},
    )
    def rows(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        mark = engine.rows_fingerprint(table, raw_marks(platform, table))
        count = engine.write_rows(platform.lake, table, mark)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(mark),
            metadata={
                "dagster/row_count": count,
                "dagster/uri": str(platform.lake.file(engine.rows(table))),
                "fingerprint": mark,
            },
        )

    return rows


def digests(services: tuple[FeatureService, ...]) -> dict[str, str]:
    """Digest of each service, by name."""
    return {
        service.name: service_digest(
            service, {view.name: engine.definition(view) for view in service.views}
        )
        for service in services
    }


def registry_asset(specs: tuple[ModelSpec, ...]) -> dg.AssetsDefinition:
    """Build the asset of the Feast registry: entities, feature views and feature services."""
    services = tuple({spec.features.name: spec.features for spec in specs}.values())

    @dg.asset(
        key=keys.FEATURE_REGISTRY,
        group_name="features",
        kinds={"feast"},
        description="Entities, feature views and feature services, as declared, in Feast.",
        deps=[keys.features(v) for v in {v.name: v for s in services for v in s.views}.values()],
    )
    def registry(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        counts = platform.features.apply(services)
        marks = digests(services)
        rows: list[dict[str, Any]] = [
            {"service": service.name, "feature": feature.name, "description": feature.description}
            for service in services
            for feature in service.features
        ]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(fingerprint.of_values(marks)),
            metadata={**counts, "digests": marks, "features": metadata.table(rows)},
        )

    return registry
