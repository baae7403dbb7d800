"""Which versions of a model take traffic, and how much each: asked again and again by every worker.

The champion alias decides, and beside it the rollout or experiment that is open. Loading what a
plan names is the matter of `model_cache`; how rollouts move is decided in `rollouts.moves`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mlops_assets.core.routing import CHAMPION, RoutingTable, champion_only
from mlops_assets.errors import LedgerError, MlopsAssetsError, RegistryError
from mlops_assets.platform import Platform
from mlops_assets.rollouts.canary import SHADOW
from mlops_assets.serving.watch import Watch
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION as CHAMPION_ALIAS
from mlops_assets.stores.registry import ModelVersion

if TYPE_CHECKING:
    from mlops_assets.stores.rollouts import Kept

ACTOR = "model server"
"""Who moves a rollout because of what the server saw."""

MOVE_SECONDS = 3.0
"""Time for whoever releases the last step to close the rollout; then it is done here."""

_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """The routing table of a model, and the registered version behind each of its arms.

    Args:
        table: who gets which arm.
        versions: by name of the arm, and the shadow's under `canary.SHADOW`.
        otherwise: the plan to follow while a version of this one does not load.
    """

    table: RoutingTable
    versions: Mapping[str, ModelVersion]
    otherwise: "Plan | None" = None


class Traffic(Protocol):
    """Says who gets which version of a model."""

    def table(self, model: str) -> Plan | None:
        """The plan of a model; None when no version of it shall be served.

        Called every half second and never while a request waits. An exception means that nobody
        knows at the moment: the worker goes on with the plan before.
        """
        ...

    def refused(self, model: str, version: str, reason: str) -> None:
        """Take note that a version of the plan cannot be served, as it is; never raises."""
        ...


class RolloutTraffic:
    """The champion, and beside it the version that is rolled out, or the arms of an experiment.

    Args:
        platform: the stores.
        specs: the models.
        clock: seconds, for the time that a move may take.
    """

    def __init__(
        self,
        platform: Platform,
        specs: tuple[ModelSpec, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._platform = platform
        self._specs = {spec.name: spec for spec in specs}
        self._clock = clock
        self._released: dict[str, float] = {}
        self.ledger = Watch("the ledger")
        self.open: dict[str, Kept] = {}

    def look(self) -> None:
        """Read which rollouts are open; the last ones that were read hold while nobody answers."""
        try:
            self.open = self._platform.rollouts.all_open()
        except (LedgerError, OSError) as away:
            self.ledger.failed(away)
        else:
            self.ledger.well()

    def table(self, model: str) -> Plan | None:
        """The plan of a model."""
        registry = self._platform.registry
        champion = registry.alias(model, CHAMPION_ALIAS)
        if champion is None:
            return None
        alone = Plan(champion_only(champion.version), {CHAMPION: champion})
        kept = self.open.get(model)
        if kept is None:
            return alone
        if kept.champion != champion.version:
            # What was compared with another champion says nothing about this one.
            if self._is_left(kept, champion.version):
                self._settle(model, champion.version)
            return alone
        table = kept.traffic.table(champion.version)
        number_of = {arm.name: arm.version for arm in table.arms}
        if table.shadow is not None:
            number_of[SHADOW] = table.shadow
        try:
            versions = {
                name: champion if number == champion.version else registry.version(model, number)
                for name, number in number_of.items()
            }
        except RegistryError as missing:
            self.refused(model, ", ".join(kept.traffic.versions), missing.found)
            return alone
        return Plan(table, versions, alone)

    def refused(self, model: str, version: str, reason: str) -> None:
        """End the rollout or experiment of a version that cannot be served."""
        kept = self.open.get(model)
        if kept is None or not set(version.split(", ")) & set(kept.traffic.versions):
            return
        from mlops_assets.rollouts import moves

        why = f"version {version} cannot be served: {reason}"
        spec = self._specs[model]
        try:
            if kept.is_rollout:
                moves.give_up(self._platform, spec, actor=ACTOR, reason=why)
            else:
                moves.conclude(self._platform, spec, actor=ACTOR, reason=why)
        except (MlopsAssetsError, OSError) as late:
            # Another worker was quicker, or nobody answers: the next look tells.
            _log.info("the rollout of %s was not ended here: %s", model, late)

    def _is_left(self, kept: "Kept", champion: str) -> bool:
        """Whether nobody is about to close it: who releases its version closes it right after."""
        name = kept.traffic.id
        if champion not in kept.traffic.versions:
            return True
        first = self._released.setdefault(name, self._clock())
        return self._clock() - first >= MOVE_SECONDS

    def _settle(self, model: str, champion: str) -> None:
        from mlops_assets.rollouts import moves

        try:
            moves.settle(self._platform, self._specs[model], champion, actor=ACTOR)
        except (MlopsAssetsError, OSError) as late:
            _log.info("the rollout of %s was not closed here: %s", model, late)
