"""The shop's model, trained on fifteen days and registered, without Dagster."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_assets.core import tasks
from mlops_assets.engines import duckdb as engine
from mlops_assets.inference.assembly import assembled
from mlops_assets.platform import Platform, libraries
from mlops_assets.reproduce import features_now, recipe_now
from mlops_assets.settings import Settings
from mlops_assets.spec import GatePolicy, ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets_tests.defs.release_shop import filled, trainable


@dataclass(frozen=True)
class Trained:
    """A spec, the stores of its home, and the version that was registered."""

    platform: Platform
    spec: ModelSpec
    version: ModelVersion


def patient(seed: int) -> Any:
    return filled(seed).set_params(boosting__max_iter=6)


def shop_spec(folder: Path, **change: Any) -> ModelSpec:
    return trainable(folder, **{"gates": GatePolicy(), "owners": ("team:shop",), **change})


@contextmanager
def trained(folder: Path, **change: Any) -> Iterator[Trained]:
    """Train and register; MLflow's addresses are put back afterwards."""
    import mlflow
    import sklearn.ensemble  # noqa: F401  # loads OpenMP, which is limited below
    from threadpoolctl import threadpool_limits

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    # Threads that wait for a core that others have make a fit of milliseconds one of seconds.
    with threadpool_limits(1, user_api="openmp"):
        yield _registered(Platform(Settings(home=folder / "home")), shop_spec(folder, **change))
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def _registered(platform: Platform, spec: ModelSpec) -> Trained:
    import mlflow

    data = _training_set(platform, spec)
    parts = ("train", "calibrate", "conformalize")
    fitted = tasks.fit(spec, **{name: data.rows(name) for name in parts})
    run_id = platform.registry.open_run("development/tests/returns", "shop", {})
    mlflow.set_experiment("development/tests/returns")
    with mlflow.start_run(run_id=run_id):
        version = platform.registry.register(
            spec.name,
            run_id,
            fitted,
            data.rows("holdout").inputs.head(5),
            {"snapshot": data.snapshot},
            _tags(data),
        )
    return Trained(platform, spec, version)


def _training_set(platform: Platform, spec: ModelSpec) -> TrainingSet:
    for source in spec.sources:
        engine.write_source(platform.lake, source)
    engine.write_rows(platform.lake, spec.rows, "mark")
    for view in spec.features.views:
        engine.write_features(platform.lake, view, engine.days_of(view))
    platform.features.apply((spec.features,))
    notes = {
        "feature_service": spec.features.name,
        "feature_service_digest": features_now(spec),
        "recipe": recipe_now(platform, spec, spec.windows),
    }
    return assembled(platform, spec, spec.windows, notes)


def _tags(data: TrainingSet) -> dict[str, str]:
    return {
        "mlops.snapshot": data.snapshot,
        "mlops.recipe": data.manifest["recipe"],
        "mlops.windows": json.dumps(data.manifest["windows"]),
        "mlops.feature_service": data.manifest["feature_service"],
        "mlops.feature_service_digest": data.manifest["feature_service_digest"],
        "mlops.git_commit": "c0ffee",
        "mlops.dagster_run": "run-1",
        "mlops.libraries": json.dumps(libraries()),
    }
