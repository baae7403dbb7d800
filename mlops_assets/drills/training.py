"""From the shop's tables to versions that were judged and released, by the platform's own parts.

The steps that the assets take, without Dagster. What is wrong with a version on purpose is the
matter of the drills.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlops_assets import judgement
from mlops_assets.core import tasks
from mlops_assets.core.training import Rows
from mlops_assets.core.verdict import Verdict
from mlops_assets.drills.shop import NAME
from mlops_assets.monitoring.reference import keep_reference, make_reference
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet

FIRST = "1"
"""The version that is champion when a drill begins."""

PARTS = ("train", "calibrate", "conformalize")


def champion_data(platform: Platform) -> TrainingSet:
    """The training set of the shop's first version, which is champion from the start."""
    version = platform.registry.version(NAME, FIRST)
    return platform.training_sets.read(NAME, version.tags["mlops.snapshot"])


def fit(spec: ModelSpec, data: TrainingSet, **instead: Rows) -> tasks.Fitted:
    """Fit a model; `instead` gives a part other rows than those of the training set."""
    return tasks.fit(spec, **{**{name: data.rows(name) for name in PARTS}, **instead})


def thinned(rows: Rows, share: float, seed: int) -> Rows:
    """The rows without a share of those with label 1, as a feed that loses them would leave."""
    import numpy as np

    lost = np.random.default_rng(seed).random(len(rows.labels)) < share
    kept = ~(lost & (rows.labels == 1))
    return replace(
        rows,
        inputs=rows.inputs[kept].reset_index(drop=True),
        labels=rows.labels[kept],
        times=rows.times[kept],
        known_at=rows.known_at[kept],
    )


def registered(
    platform: Platform, spec: ModelSpec, data: TrainingSet, fitted: tasks.Fitted
) -> ModelVersion:
    """Register a model as a new version, with its reference."""
    import mlflow

    experiment = platform.settings.experiment(spec.name)
    run_id = platform.registry.open_run(experiment, spec.name, {})
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_id=run_id):
        version = platform.registry.register(
            spec.name,
            run_id,
            fitted,
            data.rows("holdout").inputs.head(5),
            {"snapshot": data.snapshot, "inputs": list(spec.inputs)},
            {
                "mlops.snapshot": data.snapshot,
                "mlops.windows": json.dumps(data.manifest["windows"]),
            },
        )
    keep_reference(platform, spec, version, make_reference(platform, spec, data, fitted))
    return platform.registry.version(spec.name, version.version)


def judged(
    platform: Platform, spec: ModelSpec, version: ModelVersion, data: TrainingSet
) -> Mapping[str, Verdict]:
    """Let every gate judge a version on holdout, and record the verdicts with it."""
    fitted = platform.registry.load(version)
    evidence = tasks.judged(fitted, data.rows("holdout"), None, {}, spec.threshold)
    ids = data.part("holdout")[spec.rows.row_id].combine_chunks()
    digest = platform.scores.write(spec.name, version.version, ids, evidence)
    platform.registry.log(version.run_id, evidence.metrics(spec.gates), {})
    verdicts = {name: gate(evidence, spec.gates) for name, gate in tasks.GATES[spec.task].items()}
    for verdict in verdicts.values():
        platform.registry.record(spec.name, version.version, verdict, digest)
    return verdicts


def released(platform: Platform, spec: ModelSpec, version: str, *, actor: str) -> None:
    """Make a version the champion by the ledger.

    Raises:
        ReleaseRefusedError: when its evidence does not allow it.
    """
    champion = platform.ledger.state(spec.name).aliases.champion
    cause = _cause(platform, spec, version, actor)
    platform.releases(spec).release(spec.name, version, expected_champion=champion, **cause)


def challenged(platform: Platform, spec: ModelSpec, version: str, *, actor: str) -> None:
    """Make a version the challenger by the ledger.

    Raises:
        ReleaseRefusedError: when its evidence does not allow it.
    """
    cause = _cause(platform, spec, version, actor)
    platform.releases(spec).challenge(spec.name, version, **cause)


def _cause(platform: Platform, spec: ModelSpec, version: str, actor: str) -> Any:
    found = platform.registry.version(spec.name, version)
    return judgement.cause(platform.registry, spec, found, actor=actor, reason="a drill")
