"""The scratch home of the drills: the shop with a champion, built once and copied for each drill.

Built by the platform's own parts in a temporary folder. Settings of the environment are not read,
so that no drill can reach the user's home, registry, ledger or channels.
"""

import datetime as dt
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from mlops_assets.drills import shop
from mlops_assets.drills.training import fit, judged, registered, released
from mlops_assets.engines import duckdb as engine
from mlops_assets.inference.assembly import assembled
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec

ACTOR = "drill"


class WithoutEnvironment(BaseSettings):
    """Settings of which all that is not given has its default, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor gets, and nothing else."""
        return (init_settings,)


class ScratchSettings(WithoutEnvironment, Settings):
    """Settings of a scratch home."""


@dataclass(frozen=True)
class World:
    """The homes of a run of drills.

    Args:
        folder: the temporary folder; everything is below it.
    """

    folder: Path

    @property
    def files(self) -> Path:
        """Folder of the files that the shop writes."""
        return self.folder / "files"

    def spec(self, **change: Any) -> ModelSpec:
        """The model of the shop."""
        return shop.spec(self.files, **change)

    @cached_property
    def base(self) -> Path:
        """The home with tables, features online and a champion; built on first use."""
        home = self.folder / "base"
        shop.write(self.files)
        platform, spec = self._platform(home), self.spec()
        for source in spec.sources:
            engine.write_source(platform.lake, source)
        engine.write_rows(platform.lake, spec.rows, "drill")
        for view in spec.features.views:
            engine.write_features(platform.lake, view, engine.days_of(view))
        platform.features.apply((spec.features,))
        for view in spec.features.views:
            platform.features.to_online(view, shop.midnight(shop.LIVE))
        data = assembled(platform, spec, spec.windows, {})
        fitted = fit(spec, data)
        version = registered(platform, spec, data, fitted)
        judged(platform, spec, version, data)
        released(platform, spec, version.version, actor=ACTOR)
        platform.ledger.close()
        return home

    @contextmanager
    def own(self, name: str, now: dt.datetime | None = None) -> Iterator[Platform]:
        """A copy of the home for one drill, which may change all of it but the files of versions.

        Args:
            name: of the drill.
            now: the present of the platform; None for the clock.
        """
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.folder) as folder:
            home = Path(folder) / "home"
            # Versions name the files of the home that they were registered in.
            copytree(self.base, home, ignore=ignore_patterns("artifacts"))
            platform = self._platform(home, now)
            try:
                yield platform
            finally:
                platform.ledger.close()

    @contextmanager
    def empty(self, name: str) -> Iterator[Platform]:
        """A home without anything, for drills that need no model."""
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.folder) as folder:
            yield Platform(ScratchSettings(home=Path(folder), actor=ACTOR))

    def at(self, platform: Platform, now: dt.datetime) -> Platform:
        """The same home at another present."""
        return self._platform(platform.settings.root, now)

    @staticmethod
    def _platform(home: Path, now: dt.datetime | None = None) -> Platform:
        platform = Platform(ScratchSettings(home=home, actor=ACTOR, now=now))
        _ = platform.registry.client  # from now on MLflow's own functions mean this registry
        return platform


@contextmanager
def scratch() -> Iterator[World]:
    """A world in a temporary folder, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlops-drill-") as folder:
        yield World(Path(folder))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the process as it was: MLflow's addresses, threads, logs and warnings.

    What is logged and warned of is kept back: what breaks here is broken on purpose.
    """
    import mlflow
    import sklearn.ensemble  # noqa: F401  # loads OpenMP, which is limited below
    from threadpoolctl import threadpool_limits

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # Threads that wait for a core that others have make a fit of milliseconds one of seconds.
        with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
