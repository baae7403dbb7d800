"""One home for all tests of the server, and one worker that most of them ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.platform import Platform
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings
from mlops_assets_tests.serving.rollout_home import staged
from mlops_assets_tests.serving.running import Client, in_thread
from mlops_assets_tests.serving.shop_home import NOW, built, copied, specs_in


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The home that all share: nobody changes it."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield built(tmp_path_factory.mktemp("serving") / "home")
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture(scope="session")
def worker(shop: Platform) -> Worker:
    return Worker(shop, specs_in(shop.settings.root), ServeOptions(most_rows=200))


@pytest.fixture(scope="session")
def client(worker: Worker) -> Iterator[Client]:
    with in_thread(worker) as found:
        yield found


@pytest.fixture
def own_shop(shop: Platform, tmp_path: Path) -> Platform:
    """A copy of the home, for tests that change it."""
    root = copied(shop.settings.root, tmp_path / "shop")
    return Platform(Settings(home=root, now=NOW))


@pytest.fixture(scope="session")
def staged_home(shop: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a champion and a challenger by the ledger: nobody changes it."""
    return staged(shop, tmp_path_factory.mktemp("staged") / "home")


@pytest.fixture
def rolling(staged_home: Path, tmp_path: Path) -> Iterator[Platform]:
    """A copy of that home, for tests that roll out."""
    platform = Platform(Settings(home=copied(staged_home, tmp_path / "rolling"), now=NOW))
    yield platform
    platform.ledger.close()
