"""The versions that a worker has loaded, and the table that says who gets which.

A version is loaded once, checked against its registered hash, and warmed before it takes traffic.
What cannot be loaded never does: the state before stays. Requests read one immutable state and
never wait for a change. Who decides on traffic is behind `traffic.Traffic`.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mlops_assets.core.routing import Arm, RoutingTable, route
from mlops_assets.core.tasks import Fitted
from mlops_assets.errors import MlopsAssetsError
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.serving.traffic import Plan, Traffic
from mlops_assets.serving.watch import Watch
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion

RETRY_SECONDS = 30.0
"""Pause before a version that could not be loaded is tried again."""

SPARE = 2
"""Versions of a model that stay loaded without traffic: a rollback shall not wait for a load."""

UNREACHABLE = frozenset({"ConnectionError", "TimeoutError", "Timeout"})
"""Errors, also those of libraries, that say nothing of a version: its store does not answer."""

UNREACHABLE_CODES = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"})
"""The same, of MLflow's errors by their code."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves a model at one moment.

    Args:
        table: who gets which arm.
        models: loaded versions by number.
    """

    table: RoutingTable
    models: Mapping[str, ServedModel]

    def of(self, entity: str) -> tuple[Arm, ServedModel]:
        """The arm of an entity and the version behind it."""
        arm = self.table.rest if not self.table.routes else route(entity, self.table)
        return arm, self.models[arm.version]


@dataclass(frozen=True)
class ModelCache:
    """The models of a worker.

    Args:
        specs: the models of the code location.
        traffic: says who gets which version.
        load: loads a version; see `ModelRegistry.load`.
        on_load: told of each try: model, version, whether it takes traffic.
        clock: seconds, for pauses.
    """

    specs: Sequence[ModelSpec]
    traffic: Traffic
    load: Callable[[ModelVersion], Fitted]
    on_load: Callable[[str, str, bool], None] = lambda model, version, ready: None
    clock: Callable[[], float] = time.monotonic
    registry: Watch = field(default_factory=lambda: Watch("the registry"))
    _now: dict[str, Serving] = field(default_factory=dict)
    _spare: dict[str, dict[str, ServedModel]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def by_name(self) -> dict[str, ModelSpec]:
        """The specs by name."""
        return {spec.name: spec for spec in self.specs}

    @property
    def serving(self) -> Mapping[str, Serving]:
        """What serves each model that is served, at this moment."""
        return dict(self._now)

    @property
    def lagging(self) -> list[str]:
        """Models whose newest plan cannot be followed, because a version does not load."""
        # A copy, because a look changes it beside the requests.
        return sorted({model for model, _ in list(self._failed)})

    def get(self, model: str) -> Serving:
        """What serves a model.

        Raises:
            Refusal: when nobody knows the model, or it is not served at the moment.
        """
        found = self._now.get(model)
        if found is not None:
            return found
        if model not in self.by_name:
            raise Refusal(
                f"there is no model {model[:60]!r}",
                expected=f"one of: {', '.join(self.by_name)}",
                do="correct the name in the address",
                status=404,
            )
        if self.registry.failing_since is None and model not in self.lagging:
            raise Refusal(
                f"the model {model!r} has no champion",
                expected="a released version",
                do="release one; it is served within a second",
                status=404,
            )
        raise Refusal(
            f"the model {model!r} cannot be loaded at the moment",
            expected="a registry that answers with a version that loads",
            do="try again; see /v2/health/ready",
            status=503,
            retry_after=5,
        )

    def refresh(self) -> None:
        """Follow the plans of all models; slow, and never raises.

        Called from one thread at a time; others wait.
        """
        with self._lock:
            for spec in self.specs:
                try:
                    plan = self.traffic.table(spec.name)
                except Exception as away:
                    self.registry.failed(away)
                    return
                self._follow(spec, plan)
            self.registry.well()

    def _follow(self, spec: ModelSpec, plan: Plan | None) -> None:
        if plan is None:
            if self._now.pop(spec.name, None):
                _log.warning("%s has no champion any more and is not served", spec.name)
            return
        before = self._now.get(spec.name)
        if before is not None and before.table == plan.table:
            self._forget_failures(spec.name)
            return
        found = self._all_loaded(spec, plan)
        if found is not None:
            self._forget_failures(spec.name)
        elif plan.otherwise is not None:
            plan = plan.otherwise
            if before is not None and before.table == plan.table:
                return
            found = self._all_loaded(spec, plan)
        if found is None:
            return
        # One assignment: a request sees the state before or the state after.
        self._now[spec.name] = Serving(plan.table, found)
        gone = {n: one for n, one in (before.models if before else {}).items() if n not in found}
        spare = {**self._spare.get(spec.name, {}), **gone}
        kept = [number for number in spare if number not in found][-SPARE:]
        self._spare[spec.name] = {number: spare[number] for number in kept}

    def _all_loaded(self, spec: ModelSpec, plan: Plan) -> dict[str, ServedModel] | None:
        """The versions of a plan; None when one of them cannot be loaded now."""
        serving = self._now.get(spec.name)
        at_hand = {**self._spare.get(spec.name, {}), **(serving.models if serving else {})}
        found: dict[str, ServedModel] = {}
        for version in plan.versions.values():
            number = version.version
            ready = at_hand.get(number) or found.get(number) or self._loaded(spec, version)
            if ready is None:
                return None
            found[number] = ready
        return found

    def _loaded(self, spec: ModelSpec, version: ModelVersion) -> ServedModel | None:
        key = (spec.name, version.version)
        if self.clock() < self._failed.get(key, float("-inf")):
            return None
        try:
            found = ServedModel.warmed(spec, version.version, self.load(version))
        except Exception as broken:
            # Whatever is wrong with it: the version before it goes on.
            self._failed[key] = self.clock() + RETRY_SECONDS
            _log.exception("version %s of %s takes no traffic", version.version, spec.name)
            self.on_load(spec.name, version.version, False)
            if not _unreachable(broken):
                self.traffic.refused(spec.name, version.version, _in_short(broken))
            return None
        _log.info("version %s of %s is loaded", version.version, spec.name)
        self.on_load(spec.name, version.version, True)
        return found

    def _forget_failures(self, model: str) -> None:
        for key in [key for key in self._failed if key[0] == model]:
            del self._failed[key]


def _unreachable(error: BaseException | None) -> bool:
    """Whether an error, or what lies below it, is that of a store which does not answer.

    >>> _unreachable(ConnectionError()), _unreachable(FileNotFoundError()), _unreachable(KeyError())
    (True, False, False)
    """
    while error is not None:
        if UNREACHABLE & {kind.__name__ for kind in type(error).__mro__}:
            return True
        if getattr(error, "error_code", None) in UNREACHABLE_CODES:
            return True
        error = error.__cause__
    return False


def _in_short(error: Exception) -> str:
    """An error for the ledger: ours says what was found, of others only the kind is safe to tell.

    >>> _in_short(KeyError("a secret"))
    'KeyError'
    """
    return error.found if isinstance(error, MlopsAssetsError) else type(error).__name__
