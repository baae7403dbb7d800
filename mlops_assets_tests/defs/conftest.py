"""Fixtures of the tests that use Dagster."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.platform import Platform
from mlops_assets.settings import Settings


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that is gone after the test."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def platform(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The stores of the test's home, in which whole runs can be made."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by a run, so put back after it
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    return Platform(Settings())


@pytest.fixture(autouse=True)
def _no_instance_is_remembered() -> Iterator[None]:
    """Contexts that a test builds over an instance with files let Dagster remember it for good.

    The next definitions that are loaded in the process would ask it, and it is gone.
    """
    from dagster._core.storage.defs_state.base import _current_storage

    before = _current_storage.get()
    yield
    _current_storage.set(before)
