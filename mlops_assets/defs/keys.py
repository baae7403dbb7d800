"""Names of assets and groups. A key that is not made here does not exist.

Only names: what stands behind a key is built in `assets/`.
"""

import dagster as dg

from mlops_assets.spec import ModelSpec, all_rows, all_sources, all_views
from mlops_assets.tables import EntityRows, FeatureView, Source

FEATURE_REGISTRY = dg.AssetKey(["features", "registry"])
ONLINE = dg.AssetKey(["features", "online"])
INFERENCE_LOG = dg.AssetKey(["logs", "inference_log"])
OUTCOMES_LOG = dg.AssetKey(["logs", "outcomes_log"])


def raw(source: Source) -> dg.AssetKey:
    """A raw table."""
    return dg.AssetKey(["raw", source.name])


def features(view: FeatureView) -> dg.AssetKey:
    """A feature table."""
    return dg.AssetKey(["features", view.name])


def statistics(view: FeatureView) -> dg.AssetKey:
    """The statistics of a feature table."""
    return dg.AssetKey(["statistics", view.name])


def rows(table: EntityRows) -> dg.AssetKey:
    """A table of entity rows."""
    return dg.AssetKey(["rows", table.name])


def training_set(spec: ModelSpec) -> dg.AssetKey:
    """The training set of a model."""
    return dg.AssetKey([spec.name, "training_set"])


def candidate(spec: ModelSpec) -> dg.AssetKey:
    """The newest registered version of a model."""
    return dg.AssetKey([spec.name, "candidate"])


def report(spec: ModelSpec) -> dg.AssetKey:
    """The calibration report on the candidate."""
    return dg.AssetKey([spec.name, "calibration_report"])


def champion(spec: ModelSpec) -> dg.AssetKey:
    """The version that serves production."""
    return dg.AssetKey([spec.name, "champion"])


def predictions(spec: ModelSpec) -> dg.AssetKey:
    """Batch predictions of the champion."""
    return dg.AssetKey([spec.name, "batch_predictions"])


def monitor(spec: ModelSpec, kind: str, *, weekly: bool = False) -> dg.AssetKey:
    """The results of a monitor of a model, by day or by week."""
    return dg.AssetKey([spec.name, f"{kind}_weekly" if weekly else kind])


def model_keys(spec: ModelSpec) -> tuple[dg.AssetKey, ...]:
    """The assets of one model, in order."""
    return (training_set(spec), candidate(spec), report(spec), champion(spec), predictions(spec))


def table_keys(specs: tuple[ModelSpec, ...]) -> tuple[dg.AssetKey, ...]:
    """The assets of all tables of some models: everything before training."""
    return (
        *(raw(source) for source in all_sources(specs)),
        *(key(view) for view in all_views(specs) for key in (features, statistics)),
        *(rows(table) for table in all_rows(specs)),
        FEATURE_REGISTRY,
        ONLINE,
    )
