"""A home of the shop's model whose tables were materialized once, for the tests of staleness."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from mlops_assets.defs import keys, partitions, staleness
from mlops_assets.defs.build import build_definitions
from mlops_assets.platform import Platform
from mlops_assets.recipe import source_marks
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests.shop_world import day, returns

DAYS = [day(number) for number in range(1, 6)]
NOW = dt.datetime(2024, 1, 6, tzinfo=dt.UTC)


@dataclass(frozen=True)
class ShopHome:
    """A model, its stores and its Dagster instance; the sources lie in a folder."""

    folder: Path
    spec: ModelSpec
    platform: Platform
    instance: dg.DagsterInstance

    @classmethod
    def empty(cls, folder: Path, instance: dg.DagsterInstance) -> "ShopHome":
        """A home in which nothing was materialized."""
        platform = Platform(Settings(home=folder / "home", now=NOW))
        return cls(folder, returns(folder), platform, instance)

    @property
    def definitions(self) -> dg.Definitions:
        return build_definitions([self.spec], {"platform": self.platform})

    def launch(
        self, selection: Sequence[dg.AssetKey], tags: dict[str, str]
    ) -> dg.ExecuteInProcessResult:
        """Run assets as a sensor's request or the main job does."""
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=selection, tags=tags, raise_on_error=False
        )

    def materialize(self) -> "ShopHome":
        """Materialize all tables, on all days."""
        result = self.launch(keys.table_keys((self.spec,)), partitions.tags(DAYS[0], DAYS[-1]))
        assert result.success
        return self

    def stale(self) -> staleness.Staleness:
        marks = source_marks(self.platform, self.spec.sources)
        return staleness.of_tables(self.instance, self.platform, (self.spec,), marks)

    def sell(self, *lines: str) -> None:
        """Append rows to the source of sales."""
        with (self.folder / "sales.csv").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
