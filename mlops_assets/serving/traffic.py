"""Which versions of a model take traffic, and how much each: asked again and again by every worker.

For now the champion alias decides. A rollout answers through the same protocol with the tables of
`core.routing`; loading what a plan names is the matter of `model_cache`.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from mlops_assets.core.routing import CHAMPION, RoutingTable, champion_only
from mlops_assets.stores.registry import CHAMPION as CHAMPION_ALIAS
from mlops_assets.stores.registry import ModelRegistry, ModelVersion

SHADOW = "shadow"
"""Name under which a plan has the version of its table's shadow."""


class Plan(NamedTuple):
    """The routing table of a model, and the registered version behind each of its arms."""

    table: RoutingTable
    versions: Mapping[str, ModelVersion]


class Traffic(Protocol):
    """Says who gets which version of a model."""

    def table(self, model: str) -> Plan | None:
        """The plan of a model; None when no version of it shall be served.

        Called every half second and never while a request waits. An exception means that nobody
        knows at the moment: the worker goes on with the plan before.
        """
        ...


class ChampionTraffic:
    """Everybody gets the version that the champion alias points to."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def table(self, model: str) -> Plan | None:
        """The plan of a model: all traffic to its champion."""
        found = self._registry.alias(model, CHAMPION_ALIAS)
        if found is None:
            return None
        return Plan(champion_only(found.version), {CHAMPION: found})
