"""One scratch world for all tests of drills: what it costs is the training of its champion."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from mlops_assets.drills import catalog
from mlops_assets.drills.finding import Finding
from mlops_assets.drills.home import World, scratch


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with scratch() as found:
        yield found


@pytest.fixture(scope="session")
def finding(world: World) -> Callable[[str, bool], Finding]:
    """What a drill found with its guard or without, each run once."""

    @cache
    def find(name: str, guarded: bool) -> Finding:
        (drill,) = catalog.chosen(name)
        return catalog.carry_out(world, drill, guarded=guarded)

    return find
