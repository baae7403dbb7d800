"""Raw tables: each source copied into the lake as it is, under declared names and types."""

import dagster as dg

from mlops_assets.defs import keys, metadata
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.tables import Source


def raw_asset(source: Source) -> dg.AssetsDefinition:
    """Build the asset of a source."""

    @dg.asset(
        key=keys.raw(source),
        group_name="raw",
        kinds={"duckdb", "parquet"},
        description=source.description,
        metadata={"dagster/column_schema": metadata.schema(source.columns)},
    )
    def table(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        count, mark = engine.write_source(platform.lake, source)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(mark.whole),
            metadata={
                "dagster/row_count": count,
                "dagster/uri": str(platform.lake.file(engine.raw(source))),
                "fingerprint": mark.whole,
            },
        )

    return table
