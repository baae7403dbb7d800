"""The Dagster instance of a home: made when it is not there, then opened.

The instance keeps runs, metadata and plots, so that the UI shows afterwards what a command did.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import dagster as dg

from mlops_assets.defs.event_log import BATCH_SIZE, BATCH_SIZE_VARIABLE
from mlops_assets.settings import Settings


def prepare(settings: Settings) -> None:
    """Make the instance's folder, and let this process and its children use it."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    template = (files("mlops_assets.deploy") / "dagster.yaml").read_text()
    fresh = home / "dagster.yaml.new"
    fresh.write_text(template.replace("HOME", str(home)))
    fresh.replace(home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["MLOPS_HOME"] = str(settings.root)
    os.environ.setdefault(BATCH_SIZE_VARIABLE, str(BATCH_SIZE))


@contextmanager
def opened(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the instance of a home for the length of the block."""
    prepare(settings)
    with dg.DagsterInstance.get() as instance:
        yield instance
