"""One steady walk for all tests that only look."""

from pathlib import Path

import pytest

from mlops_assets.replay.facts import Replay
from mlops_assets.replay.summing import Summing
from mlops_assets.replay.walk import Walk
from mlops_assets.replay.year import Year
from mlops_assets_tests.replay.replay_world import DAY, FIRST, POLICY, orders, spec, walk, year


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Year:
    return year(spec(tmp_path_factory.mktemp("shop")), orders(60))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the steady walk, with its candidates."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def steady(shop: Year, kept: Path) -> Walk:
    return walk(kept, shop, days=(20, 55))


@pytest.fixture(scope="session")
def facts(steady: Walk) -> Replay:
    """What the steady walk came to."""
    return Summing(steady, FIRST + 20 * DAY, FIRST + 55 * DAY).replay(POLICY)
