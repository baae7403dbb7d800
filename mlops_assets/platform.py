"""The platform of one home: its stores, opened from the settings.

Assembly only: which store lies where. Assets, commands and servers get one of these and never
build a store of their own.
"""

import datetime as dt
import platform as machine
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from mlops_assets.engines import duckdb as engine
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.feature_store import FeatureStore
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.registry import ModelRegistry
from mlops_assets.stores.scores import Scores
from mlops_assets.stores.training_sets import TrainingSets

if TYPE_CHECKING:
    from mlops_assets.stores.alerts import Alerts
    from mlops_assets.stores.incidents import Incidents
    from mlops_assets.stores.ledger import Ledger
    from mlops_assets.stores.releases import Releases
    from mlops_assets.stores.rollouts import Rollouts


@dataclass(frozen=True)
class Platform:
    """The stores below one home folder."""

    settings: Settings

    @property
    def now(self) -> dt.datetime:
        """The present: the clock's, or that of the data where the settings name one."""
        return self.settings.now or dt.datetime.now(dt.UTC)

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
        user, password = self.settings.tracking_username, self.settings.tracking_password
        login = (user, password.get_secret_value()) if user else None
        folder = self.settings.mlflow / "artifacts"
        return ModelRegistry(self.settings.mlflow_uri, folder, login)

    @cached_property
    def ledger(self) -> "Ledger":
        """The release ledger."""
        from mlops_assets.stores.ledger import Ledger

        return Ledger(self.settings.ledger)

    @cached_property
    def rollouts(self) -> "Rollouts":
        """The rollouts and experiments."""
        from mlops_assets.stores.rollouts import Rollouts

        return Rollouts(self.ledger)

    @cached_property
    def alerts(self) -> "Alerts":
        """The alerts on their way, and the channels that they go to."""
        from mlops_assets.stores.alert_channels import Channel, QuietHours
        from mlops_assets.stores.alert_outbox import AlertOutbox
        from mlops_assets.stores.alerts import Alerts

        channels = [
            Channel(
                name=one.name,
                url=one.url.get_secret_value(),
                severities=frozenset(one.severities),
                quiet=QuietHours(one.quiet.start, one.quiet.end, one.quiet.zone)
                if one.quiet
                else None,
            )
            for one in self.settings.alert_channels
        ]
        return Alerts(AlertOutbox(self.settings.outbox), channels)

    @cached_property
    def incidents(self) -> "Incidents":
        """What is known of the watched subjects of the models."""
        from mlops_assets.stores.incidents import Incidents

        return Incidents(self.settings.root / "alerts" / "incidents")

    def releases(self, spec: ModelSpec) -> "Releases":
        """The releases of a model, by the policy of its spec."""
        from mlops_assets.core.approval import ApprovalPolicy
        from mlops_assets.stores.releases import Releases

        policy = ApprovalPolicy(
            separate_approver=spec.release.separate_approver,
            approve_passed=spec.release.approval == "always",
        )
        return Releases(self.ledger, self.registry, policy=policy)

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


THREADS_TAG = "mlops.openmp_threads"
"""Tag: threads that the training had."""

LIBRARIES = ("mlops-assets", "scikit-learn", "numpy", "scipy", "pandas", "mapie", "skops")


def libraries() -> dict[str, str]:
    """Versions of all that a trained model depends on, by name."""
    return {
        "python": machine.python_version(),
        **{name: installed_version(name) for name in LIBRARIES},
    }


def openmp_threads() -> int | None:
    """Threads that OpenMP may use in this process; None while no library has loaded it."""
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    return max((one["num_threads"] for one in pools if one["user_api"] == "openmp"), default=None)


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
