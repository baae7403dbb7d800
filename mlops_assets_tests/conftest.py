"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A slow moment of a shared machine is no failure of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home of its own, whatever the environment of the developer says."""
    for name in [*os.environ]:
        if name.startswith("MLOPS_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("MLOPS_HOME", str(home))
    return home
