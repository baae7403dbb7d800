"""Contracts of tables as blocking asset checks.

Which contract a table has; how a contract is judged stands in `frame_types.py`, imported when a
check runs: it brings pandas, which the code location must not pay for.
"""

import dagster as dg

from mlops_assets.defs import keys, records
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.training_sets import SPLIT
from mlops_assets.tables import EVENT_TIME, Column, Source


def source_check(source: Source) -> dg.AssetChecksDefinition:
    """The contract of a raw table."""

    @dg.asset_check(
        asset=keys.raw(source),
        name="contract",
        blocking=True,
        description="Columns, types, ranges and unique keys, as the source declares them.",
    )
    def contract(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        from mlops_assets.defs.checks.frame_types import judge

        table = engine.raw(source)
        return judge(platform.lake, platform.lake.file(table), table, source.columns, source.key)

    return contract


def training_set_check(spec: ModelSpec) -> dg.AssetChecksDefinition:
    """The contract of a training set."""
    columns = [
        *(spec.rows.column(name) for name in (spec.rows.row_id, EVENT_TIME, *spec.categories)),
        spec.rows.column(spec.label.column),
        Column(name=SPLIT, type="string", nullable=False),
        *spec.features.features,
    ]

    @dg.asset_check(
        asset=keys.training_set(spec),
        name="contract",
        blocking=True,
        description="Columns, types, ranges, unique rows, and a label rate that can be learned.",
    )
    def contract(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        from mlops_assets.defs.checks.frame_types import LabelRate, judge

        snapshot = records.needed(context.instance, keys.training_set(spec))["snapshot"]
        path = platform.training_sets.file(spec.name, snapshot)
        table = f"{spec.name}/training_set"
        found = judge(
            platform.lake,
            path,
            table,
            columns,
            (spec.rows.row_id,),
            more=(LabelRate(spec),) if spec.task == "binary" else (),
        )
        # The release looks for the verdict on exactly this snapshot.
        about = {"snapshot": snapshot, "verdict": "passed" if found.passed else "failed"}
        return dg.AssetCheckResult(
            passed=found.passed,
            severity=found.severity,
            description=found.description,
            metadata={**found.metadata, **about},
        )

    return contract
