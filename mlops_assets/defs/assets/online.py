"""The online store: the newest features of every key, loaded from the lake."""

import datetime as dt

import dagster as dg

from mlops_assets.defs import keys, metadata
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec, all_views
from mlops_assets.tables import FeatureView


def online_asset(specs: tuple[ModelSpec, ...]) -> dg.AssetsDefinition:
    """Build the asset of the online store."""
    views = all_views(specs)

    @dg.asset(
        key=keys.ONLINE,
        group_name="features",
        kinds={"feast"},
        description="The newest features of every key, for serving; a newer row is never lost.",
        deps=[keys.FEATURE_REGISTRY, *(keys.features(view) for view in views)],
    )
    def online(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        loaded = [platform.features.to_online(view, moment(platform, view)) for view in views]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(one.keys for one in loaded),
                "views": metadata.table(
                    [
                        {
                            "view": one.view,
                            "source_rows": one.source_rows,
                            "keys": one.keys,
                            "seconds": metadata.rounded(one.seconds),
                        }
                        for one in loaded
                    ]
                ),
            }
        )

    return online


def moment(platform: Platform, view: FeatureView) -> dt.datetime:
    """The time up to which a view is loaded: the present, or the end of the view's calendar."""
    now = platform.now
    if view.calendar.end is None:
        return now
    return min(now, dt.datetime.combine(view.calendar.end, dt.time(), dt.UTC))
