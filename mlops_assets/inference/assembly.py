"""Training sets out of the lake: rows with labels, split by time, with their features, kept.

No Dagster here; the asset, the drills and the tests call it, so that all learn from the same. What
may be learned from is decided in `core`, how a snapshot is kept in `stores/training_sets.py`.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlops_assets.core import splits
from mlops_assets.core.labels import LabelSummary, refuse_unlearnable
from mlops_assets.inference import batch
from mlops_assets.platform import Platform
from mlops_assets.recipe import learned_windows
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.training_sets import SPLIT, TrainingSet, declared
from mlops_assets.tables import EVENT_TIME
from mlops_assets.windows import SPLITS, Windows


def assembled(
    platform: Platform, spec: ModelSpec, windows: Windows, notes: Mapping[str, Any]
) -> TrainingSet:
    """Assemble the training set of a model and keep it as a snapshot.

    Args:
        platform: the stores.
        spec: the model.
        windows: the days of each split.
        notes: what else its manifest says.

    Raises:
        WindowError: when a window has no rows, or all its labels are the same.
    """
    rows = batch.entity_rows(platform, spec, windows.train.start, windows.holdout.end)
    times, known = (
        rows[name].dt.tz_localize(None).to_numpy() for name in (EVENT_TIME, spec.label.known_at)
    )
    labelled = rows[spec.label.column].notna().to_numpy()
    rows[SPLIT] = splits.assign(times, known, windows.items(), labelled)
    counts = splits.counts(rows[SPLIT].to_numpy())
    rows = rows[np.isin(rows[SPLIT].to_numpy(), SPLITS)].reset_index(drop=True)
    found = rows.groupby(SPLIT)[spec.label.column]
    labels = {str(name): LabelSummary.of(values) for name, values in found}
    refuse_unlearnable(spec.name, learned_windows(windows), labels)
    manifest = {
        **declared(spec),
        "windows": json.loads(windows.model_dump_json()),
        "rows": {name: labels[name].rows for name in SPLITS},
        "purged": counts.get(splits.PURGED, 0),
        "unlabelled": counts.get(splits.UNLABELLED, 0),
        **notes,
    }
    table = batch.with_features(platform, spec, rows)
    return platform.training_sets.write(spec.name, table, manifest)
