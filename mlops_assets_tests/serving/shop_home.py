"""A home with two released models of the made-up shop, for the tests of the server.

`SPECS` is what a worker process imports; it finds the home in `MLOPS_HOME`, as all else does.
"""

import datetime as dt
import os
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.core import tasks
from mlops_assets.core.tasks import Fitted
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.serving_policy import ServingPolicy
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets_tests.core.selection_world import rows_in_time
from mlops_assets_tests.shop_world import returns

NOW = dt.datetime(2024, 1, 4, 12, tzinfo=dt.UTC)
KNOWN = {"shop": "a", "item": "tea", "size": 3}
FEATURES = {"shop": "a", "amount_last": 8.0, "amount_2d": 10.0, "size_doubled": 6.0}


def _encoded(boosting: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("shop", encode, ["shop"])], remainder="passthrough")
    return Pipeline([("columns", columns), ("boosting", boosting)])


def classifier(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return _encoded(HistGradientBoostingClassifier(max_iter=10, random_state=seed))


def regressor(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _encoded(HistGradientBoostingRegressor(max_iter=10, random_state=seed))


def specs_in(folder: Path) -> tuple[ModelSpec, ...]:
    """A classifier with Venn-Abers intervals, and a regression, over the same rows."""
    first = returns(
        folder,
        categories=("shop",),
        estimators={"boosting": classifier},
        calibrations=("venn_abers",),
        serving=ServingPolicy(overrides=("amount_2d",)),
    )
    second = first.model_copy(
        update={
            "name": "amounts",
            "task": "regression",
            "estimators": {"boosting": regressor},
            "unit": "pieces",
            "tags": {},
        }
    )
    return first, second


def __getattr__(name: str) -> Any:
    if name == "SPECS":
        return specs_in(Path(os.environ["MLOPS_HOME"]))
    raise AttributeError(name)


def fitted(spec: ModelSpec, seed: int = 0) -> Fitted:
    """The model of a spec on noise: what it says is not the point here."""
    random = np.random.default_rng(seed)
    inputs = pd.DataFrame({"shop": random.choice(["a", "b"], 300)})
    for name in spec.inputs[1:]:
        inputs[name] = random.normal(10, 10, 300).round(2)
    noise = random.normal(size=300)
    labels = noise if spec.task == "regression" else (noise + inputs["amount_2d"] / 10 > 1)
    rows = rows_in_time(
        inputs, np.asarray(labels).astype("float64" if spec.task == "regression" else "int64")
    )
    return tasks.fit(spec, train=rows, calibrate=rows, conformalize=rows)


def release(platform: Platform, spec: ModelSpec, seed: int = 0) -> ModelVersion:
    """Register a new version and make it the champion."""
    found = register(platform, spec, seed)
    platform.registry.client.set_registered_model_alias(spec.name, "champion", found.version)
    return found


def register(platform: Platform, spec: ModelSpec, seed: int = 0) -> ModelVersion:
    """Register a new version that nobody serves."""
    import mlflow

    run_id = platform.registry.open_run(f"development/tests/{spec.name}", "noise", {})
    mlflow.set_experiment(f"development/tests/{spec.name}")
    example = pd.DataFrame([{**FEATURES}])[list(spec.inputs)]
    with mlflow.start_run(run_id=run_id):
        return platform.registry.register(spec.name, run_id, fitted(spec, seed), example, {}, {})


def copied(home: Path, folder: Path) -> Path:
    """A copy of a home without what others have asked of it: a log that is written meanwhile."""
    logs = ignore_patterns("inference_log", "outcomes_log")
    return Path(copytree(home, folder, ignore=logs))


def built(home: Path) -> Platform:
    """The home with tables, features online, and both models released."""
    home.mkdir(parents=True, exist_ok=True)
    platform, specs = Platform(Settings(home=home, now=NOW)), specs_in(home)
    for source in specs[0].sources:
        engine.write_source(platform.lake, source)
    engine.write_rows(platform.lake, specs[0].rows, "mark")
    for view in specs[0].features.views:
        engine.write_features(platform.lake, view, engine.days_of(view))
    platform.features.apply((specs[0].features,))
    for view in specs[0].features.views:
        # What was loaded earlier and is too old by now stays, and is told to be too old.
        for end in (NOW - dt.timedelta(hours=12), NOW):
            platform.features.to_online(view, end)
    for spec in specs:
        release(platform, spec)
    return platform
