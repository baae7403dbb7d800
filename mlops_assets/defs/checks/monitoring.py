"""Checks of monitors, by window, and of the logs: they tell and never block.

A warning is a failed check of severity WARN, what is critical one of severity ERROR. "No data" is a
failed check of severity WARN too, and says so: Dagster knows passed and failed only, and what
cannot be told has not passed. A check of several windows at once tells of the worst.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from mlops_assets.core.incident import Reading, Subject
from mlops_assets.defs import keys, metadata, records
from mlops_assets.defs.assets.logs import LOGS
from mlops_assets.defs.assets.monitoring import day_partitions, week_partitions
from mlops_assets.monitoring import results
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

NAME = "within_limits"
RANK = {"fine": 0, "no data": 1, "warning": 2, "critical": 3}
MOST_ROWS = 20
"""Readings that are shown in a table."""


def monitoring_checks(spec: ModelSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of the daily and weekly monitors of a model."""
    return [_check(spec, kind, weekly=weekly) for weekly in (False, True) for kind in results.KINDS]


def log_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the logs."""
    return [_log_check(key) for key, *_ in LOGS]


def _check(spec: ModelSpec, kind: str, *, weekly: bool) -> dg.AssetChecksDefinition:
    windows = week_partitions(spec) if weekly else day_partitions(spec)

    @dg.asset_check(
        asset=keys.monitor(spec, kind, weekly=weekly),
        name=NAME,
        partitions_def=windows,
        description=f"{kind.replace('_', ' ')} is within the limits of the monitoring policy; "
        "without data it fails as a warning, and says so.",
    )
    def within_limits(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        from mlops_assets.monitoring.pictures import picture
        from mlops_assets.monitoring.readings import readings

        days = [dt.date.fromisoformat(key) for key in context.partition_keys]
        found = [
            reading
            for day in days
            for reading in readings(platform.lake, spec, day, weekly=weekly, monitors=(kind,))
        ]
        png = picture(platform, spec, kind, days[-1], weekly=weekly)
        return result(found, {"history": metadata.picture(png, kind)})

    return within_limits


def result(
    found: Sequence[tuple[Subject, Reading]], more: dict[str, dg.MetadataValue]
) -> dg.AssetCheckResult:
    """The outcome of a check out of readings: the worst of them."""
    ordered = sorted(found, key=lambda one: -RANK[one[1].health])
    counts = {health: sum(one.health == health for _, one in found) for health in RANK}
    health = ordered[0][1].health if ordered else "no data"
    # Some columns may say nothing while others are fine; nothing at all is no data.
    if health == "no data" and counts["fine"] > counts["no data"]:
        told = f"{counts['no data']} of {len(found)} without data"
    else:
        told = health
    if health == "fine":
        told += f": {len(found)} readings are within limits"
    else:
        told += f": {ordered[0][0].name}: {ordered[0][1].reason}" if ordered else ": not computed"
    shown = [one for one in ordered if one[1].health != "fine"][:MOST_ROWS]
    table = [
        {"subject": subject.name, "window": f"{reading.window:%Y-%m-%d}",
         "health": reading.health, "reason": reading.reason}
        for subject, reading in shown
    ]  # fmt: skip
    return dg.AssetCheckResult(
        passed=health == "fine",
        severity=dg.AssetCheckSeverity.ERROR
        if health == "critical"
        else dg.AssetCheckSeverity.WARN,
        description=told,
        metadata={
            **metadata.numbers({name.replace(" ", "_"): count for name, count in counts.items()}),
            **more,
            **({"readings": metadata.table(table)} if table else {}),
        },
    )


def _log_check(key: dg.AssetKey) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name="no_damaged_lines",
        description="Every whole line of the log files is as it was written; a last line that a "
        "dying process left unfinished was never acknowledged, and counts for nothing.",
    )
    def no_damaged_lines(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found = records.needed(context.instance, key)
        damaged, torn = int(found["damaged_lines"]), int(found["torn_lines"])
        return dg.AssetCheckResult(
            passed=damaged == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{damaged:,} damaged and {torn:,} unfinished lines were set aside, "
            f"{found['records']:,} records were taken in",
            metadata={"damaged_lines": damaged, "torn_lines": torn},
        )

    return no_damaged_lines
