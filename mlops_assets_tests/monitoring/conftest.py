"""Fixtures of the tests of monitoring."""

from pathlib import Path

import pytest

from mlops_assets_tests.monitoring.world import World, made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return made(tmp_path, monkeypatch)
