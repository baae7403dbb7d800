"""A release with the real registry: MLflow's aliases and tags follow the ledger, after a kill too.

MLflow's connections do not cross a fork, so every process opens the registry anew.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_assets.core.release_plan import Aliases
from mlops_assets.errors import RegistryError
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.registry import ModelRegistry
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.stores.ledger_world import MODEL, opened
from mlops_assets_tests.stores.release_world import WHO, killed, killer, release

# MLflow's own types, when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


class MlflowRegistry(ModelRegistry):
    """MLflow with the verbs that a release needs."""

    def aliases(self, model: str) -> Mapping[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(model).aliases
        except MlflowException as missing:
            if missing.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {alias: str(version) for alias, version in found.items()}

    def has(self, model: str, version: str) -> bool:
        try:
            return self.version(model, version) is not None
        except RegistryError:
            return False

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        if version is None:
            self.client.delete_registered_model_alias(model, alias)
        else:
            self.client.set_registered_model_alias(model, alias, version)


def _prepare(registry: ModelRegistry, ledger: Ledger) -> None:
    registry.client.create_registered_model(MODEL)
    for version in ("1", "2", "3"):
        created = registry.client.create_model_version(MODEL, f"/nowhere/{version}")
        assert str(created.version) == version
    releases = Releases(ledger, MlflowRegistry(registry.uri, registry.artifacts))
    assert releases.drift(MODEL) == releases.drift("unheard of") == ()
    release(releases, "1")
    release(releases, "2", "1")


def _check(registry: MlflowRegistry, ledger: Ledger) -> None:
    releases = Releases(ledger, registry)
    assert registry.aliases(MODEL) == {"champion": "3", "archived": "2"}
    assert len(releases.reconcile(actor="cron")) == 1
    assert ledger.state(MODEL).aliases == Aliases.of(registry.aliases(MODEL))
    assert registry.version(MODEL, "3").tags["mlops.stage"] == "champion"
    assert registry.version(MODEL, "2").tags["mlops.stage"] == "archived"
    releases.rollback(MODEL, **WHO)
    assert registry.aliases(MODEL) == {"champion": "2"}
    registry.client.delete_model_version(MODEL, "2")
    assert not registry.has(MODEL, "2")
    (gone,) = releases.drift(MODEL)
    assert (gone.alias, gone.ledger, gone.registry) == ("champion", "2", None)
    releases.adopt(MODEL, **WHO)
    assert releases.rollback(MODEL, to="1", **WHO).after == {"champion": "1"}
    assert releases.drift(MODEL) == ()
    assert ledger.verify() is None


def test_aliases_of_mlflow_follow_the_ledger_after_a_kill_too(tmp_path: Path) -> None:
    import mlflow  # noqa: F401 - once here instead of in each child

    def registry() -> MlflowRegistry:
        return MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")

    def killed_release() -> None:
        releases = Releases(ledger, registry(), observer=killer("write entry"))
        release(releases, "3", "2")

    with opened("sqlite", tmp_path) as ledger:
        assert not killed(lambda: _prepare(registry(), ledger))
        assert killed(killed_release)
        assert not killed(lambda: _check(registry(), ledger))
        actions = [entry.action for entry in ledger.entries(MODEL)[2:]]
        assert actions == ["release", "reconcile", "rollback", "adopt", "rollback"]
