"""Fixtures of the tests of the stores: a history with its Feast store, and both online backends.

What they are made of is in `asof_world` and `online_world`, imported where it is used: Feast takes
seconds to import, and most stores are tested without it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from feast import FeatureStore


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """The offline world's history as one file."""
    import pyarrow.parquet as pq

    from mlops_assets_tests.stores.asof_world import HISTORY

    path = tmp_path / "history.parquet"
    pq.write_table(HISTORY, path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> "FeatureStore":
    """A Feast store without declarations, over our offline store."""
    from mlops_assets_tests.stores.asof_world import make_store

    return make_store(tmp_path)


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of each backend of the online store in turn."""
    from mlops_assets_tests.stores.online_world import settings_for

    yield from settings_for(request.param, tmp_path)


@pytest.fixture
def plain(tmp_path: Path, online: dict[str, Any]) -> Any:
    """The online store alone, without Feast's: (store, config, view)."""
    from datetime import timedelta

    from mlops_assets.stores.online_store import NewestOnlineStore
    from mlops_assets_tests.stores.online_world import make_config, view

    store = NewestOnlineStore()
    return store, make_config(tmp_path, online), view(tmp_path / "none.parquet", ttl=timedelta(0))
