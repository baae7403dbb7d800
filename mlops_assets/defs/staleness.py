"""Which tables are stale: they would be other ones if they were materialized now.

Shared by the main job, which materializes them before a training, and the sensor that keeps them
current. Whether a model is stale is decided in `main_job.py`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mlops_assets.defs import keys, records
from mlops_assets.defs.assets.features import digests
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import feature_contract as contract
from mlops_assets.engines import feature_statistics as statistics
from mlops_assets.engines.marks import SourceMark
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec, all_rows, all_sources, all_views
from mlops_assets.tables import FeatureView


@dataclass(frozen=True)
class Staleness:
    """Stale tables.

    Args:
        tables: those that training sets are made of.
        beside: those that no training set is made of: statistics, online store.
        days: first and last stale day of the feature views, None when none is.
    """

    tables: tuple[dg.AssetKey, ...]
    beside: tuple[dg.AssetKey, ...]
    days: tuple[dt.date, dt.date] | None


def of_tables(
    instance: dg.DagsterInstance,
    platform: Platform,
    specs: Sequence[ModelSpec],
    marks: Mapping[str, SourceMark],
) -> Staleness:
    """Find the stale tables of some models.

    Args:
        instance: where materializations are recorded.
        platform: the stores.
        specs: the models.
        marks: marks that the raw tables would have if they were copied now, by source.
    """
    models, lake = tuple(specs), platform.lake
    tables: list[dg.AssetKey] = []
    for source in all_sources(models):
        known = lake.fingerprint(lake.file(engine.raw(source))) == marks[source.name].whole
        if not known or records.newest(instance, keys.raw(source)) is None:
            tables.append(keys.raw(source))
    beside: list[dg.AssetKey] = []
    days: list[dt.date] = []
    for view in all_views(models):
        # A day that did not pass its contract is computed again, so that it is judged again.
        stale = sorted({*engine.stale_days(lake, view, marks), *contract.open_days(lake, view)})
        if stale:
            tables.append(keys.features(view))
            days += stale
        if stale or statistics.stale_days(lake, view):
            beside.append(keys.statistics(view))
    for rows in all_rows(models):
        wanted = engine.rows_fingerprint(rows, {name: mark.whole for name, mark in marks.items()})
        if lake.fingerprint(lake.file(engine.rows(rows))) != wanted:
            tables.append(keys.rows(rows))
    registry = records.newest(instance, keys.FEATURE_REGISTRY)
    applied = registry.values.get("digests", {}) if registry else {}
    wanted_digests = digests(tuple({s.features.name: s.features for s in models}.values()))
    if any(applied.get(name) != digest for name, digest in wanted_digests.items()):
        tables.append(keys.FEATURE_REGISTRY)
    if tables or _online_is_older(instance, all_views(models)):
        beside.append(keys.ONLINE)
    range_ = (min(days), max(days)) if days else None
    return Staleness(tuple(tables), tuple(beside), range_)


def _online_is_older(instance: dg.DagsterInstance, views: Sequence[FeatureView]) -> bool:
    """Whether what is loaded into the online store was materialized after it was last loaded."""
    loaded = records.newest(instance, keys.ONLINE)
    under = [keys.FEATURE_REGISTRY, *(keys.features(view) for view in views)]
    found = [records.newest(instance, key) for key in under]
    return loaded is None or any(one and one.storage_id > loaded.storage_id for one in found)
