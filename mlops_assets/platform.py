"""The platform of one home: its stores, opened from the settings.

Assembly only: which store lies where. Assets, commands and servers get one of these and never
build a store of their own.
"""

import subprocess
from dataclasses import dataclass
from functools import cached_property

from mlops_assets.engines import duckdb as engine
from mlops_assets.settings import Settings
from mlops_assets.stores.feature_store import FeatureStore
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.registry import ModelRegistry
from mlops_assets.stores.scores import Scores
from mlops_assets.stores.training_sets import TrainingSets


@dataclass(frozen=True)
class Platform:
    """The stores below one home folder."""

    settings: Settings

    @cached_property
    def lake(self) -> Lake:
        """The Parquet lake."""
        return Lake(self.settings.lake)

    @cached_property
    def training_sets(self) -> TrainingSets:
        """Snapshots of training sets."""
        return TrainingSets(self.lake)

    @cached_property
    def scores(self) -> Scores:
        """Scores on holdout rows."""
        return Scores(self.lake)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        return ModelRegistry(self.settings.mlflow_uri, self.settings.mlflow / "artifacts")

    @cached_property
    def features(self) -> FeatureStore:
        """The feature store."""
        return FeatureStore(
            self.settings.project,
            self.settings.feast,
            lambda view: self.lake.folder(engine.features(view)),
            online_url=self.settings.online_url,
            now=self.settings.now,
        )


def git_commit() -> str:
    """Commit of the code in the current folder, `+` after it when files differ; else `unknown`."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
