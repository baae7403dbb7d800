"""A home in which the main job has run once, on all of the real data."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_assets.platform import Platform
from mlops_assets.settings import Settings

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Flights:
    """The home, and what the command that made it said."""

    home: Path
    first: subprocess.CompletedProcess[str]

    @property
    def platform(self) -> Platform:
        return Platform(Settings(home=self.home))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `mlops-assets` with these words on this home."""
        return command(self.home, *words)


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
    return subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", *words],
        env={**environment, "MLOPS_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Flights:
    """Run `mlops-assets run` on an empty home."""
    home = tmp_path_factory.mktemp("flights") / "home"
    return Flights(home, command(home, "run"))
