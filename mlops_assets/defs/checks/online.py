"""The check of the online store: online answers are the point-in-time answers of that moment."""

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.core.parity import Difference, Side, difference
from mlops_assets.defs import keys, metadata
from mlops_assets.defs.assets.online import moment
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.feature_store import references
from mlops_assets.stores.lake import quoted, text, view
from mlops_assets.tables import CREATED_TIME, EVENT_TIME, FeatureView

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 200
"""Keys per view that are compared."""


def online_check(specs: tuple[ModelSpec, ...]) -> dg.AssetChecksDefinition:
    """Build the check."""
    views = {v.name: v for spec in specs for v in spec.features.views}

    @dg.asset_check(
        asset=keys.ONLINE,
        name="online_matches_offline",
        blocking=True,
        description=f"For {SAMPLE} keys of each view, value by value; each difference has a cause.",
    )
    def online_matches_offline(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        compared = 0
        found: list[Difference] = []
        left_out: list[str] = []
        for one in views.values():
            count, differing = compare_view(platform, one, moment(platform, one))
            compared += count
            found += differing
            if not count:
                left_out.append(one.name)
        causes = Counter(one.cause for one in found)
        # A view without a key is no data: online gives nothing, and that is the same offline.
        wrong = found or not compared
        return dg.AssetCheckResult(
            passed=not wrong and not left_out,
            severity=dg.AssetCheckSeverity.ERROR if wrong else dg.AssetCheckSeverity.WARN,
            description=_words(compared, found, left_out),
            metadata={
                "values_compared": compared,
                "views_left_out": ", ".join(left_out) or "none",
                "differences": len(found),
                **{f"{cause}_differences": count for cause, count in causes.items()},
                "examples": metadata.table(
                    [
                        {
                            "feature": one.feature,
                            "row": one.row,
                            "online": str(one.online),
                            "offline": str(one.offline),
                            "cause": one.cause,
                        }
                        for one in found[:20]
                    ]
                    or [{"feature": "none", "row": "", "online": "", "offline": "", "cause": ""}]
                ),
            },
        )

    return online_matches_offline


def compare_view(
    platform: Platform, one: FeatureView, now: dt.datetime
) -> tuple[int, list[Difference]]:
    """Compare a sample of a view's keys at a moment; the number of values, and what differs."""
    names = [entity.name for entity in one.entities]
    truth = _known(platform, one, names, now)
    rows: list[dict[Any, Any]] = truth[names].to_dict("records")
    if not rows:
        return 0, []
    online = platform.features.reader(references(one)).read(rows, now=now)
    found = []
    for place, (row, known) in enumerate(zip(rows, truth.to_dict("records"), strict=True)):
        label = ", ".join(f"{name}={row[name]}" for name in names)
        for column, feature in enumerate(online.names):
            here = Side(
                online.values[place][column],
                online.event_times[place][column],
                online.statuses[place][column].name == "OUTSIDE_MAX_AGE",
            )
            there = Side(known[feature], known[EVENT_TIME].to_pydatetime())
            if differs := difference(feature, label, here, there):
                found.append(differs)
    return len(rows) * len(online.names), found


def _known(
    platform: Platform, one: FeatureView, names: list[str], now: dt.datetime
) -> "pd.DataFrame":
    """What was known of a sample of keys at a moment, straight from the view's files.

    Each day has a sample of its own, so that in time every key is looked at.
    """
    keyed = ", ".join(quoted(name) for name in names)
    moment_ = f"{text(now.isoformat())}::TIMESTAMPTZ"
    with platform.lake.connect() as connection:
        view(connection, "rows", platform.lake.folder(engine.features(one)))
        return connection.execute(
            f"SELECT * FROM rows WHERE {EVENT_TIME} <= {moment_} AND {CREATED_TIME} <= {moment_} "
            f"AND {EVENT_TIME} >= {moment_} - to_seconds({one.ttl.total_seconds()}) "
            f"QUALIFY row_number() OVER (PARTITION BY {keyed} "
            f"ORDER BY {EVENT_TIME} DESC, {CREATED_TIME} DESC) = 1 "
            f"ORDER BY hash({keyed}, '{now.date()}') LIMIT {SAMPLE}"
        ).df()


def _words(compared: int, found: list[Difference], left_out: list[str]) -> str:
    if not compared:
        return "nothing to compare: no view has a key that is not expired"
    if not found:
        told = f"{compared:,} values are the same online and offline"
        unknown = f"; without a key that is not expired: {', '.join(left_out)}"
        return told + (unknown if left_out else "")
    first = found[0]
    return (
        f"{len(found):,} of {compared:,} values differ; for example {first.feature} of "
        f"{first.row}: {first.online} online, {first.offline} offline ({first.cause})"
    )
