"""The logs of serving as tables: predictions and outcomes, by day, out of append-only files.

Each materialization moves what was logged since into the lake, and removes days that are too old.
What a line says and how it gets into the lake stands in `stores/`.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from mlops_assets.defs import keys
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.append_log import LoggedTable
from mlops_assets.stores.inference_compaction import compact, expire
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.outcomes_log import OUTCOMES

LOGS: tuple[tuple[dg.AssetKey, LoggedTable, str], ...] = (
    (keys.INFERENCE_LOG, PREDICTIONS, "Every prediction that was answered, by day."),
    (keys.OUTCOMES_LOG, OUTCOMES, "What became of predictions, by the day it became known."),
)
"""Key, table and description of each log; the table is also the name of its folder in the home."""


def log_assets(specs: Sequence[ModelSpec]) -> list[dg.AssetsDefinition]:
    """Build the assets of both logs, which keep what the models say."""
    keep_days = {spec.name: spec.serving.retention_days for spec in specs}
    return [_log_asset(*log, keep_days) for log in LOGS]


def _log_asset(
    key: dg.AssetKey, table: LoggedTable, description: str, keep_days: Mapping[str, int]
) -> dg.AssetsDefinition:
    @dg.asset(key=key, group_name="logs", kinds={"duckdb", "parquet"}, description=description)
    def log(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        folder = platform.settings.root / table.name
        done = compact(folder, platform.lake, table)
        today = platform.now.date()
        expired = expire(folder, platform.lake, keep_days, today, table)
        days = platform.lake.days(table.name)
        return dg.MaterializeResult(
            metadata={
                "files": done.files,
                "records": done.records,
                "torn_lines": done.torn,
                "damaged_lines": done.damaged,
                "days_touched": len(done.days),
                "days_expired": len(expired),
                "days": len(days),
                "dagster/uri": str(platform.lake.folder(table.name)),
            }
        )

    return log
