"""The controller of rollouts in a worker: writes down what was counted, and moves what is decided.

Every worker has one, and none is the leader: each decides on what all have counted, and a move that
another made first is no move any more. What is decided is the matter of `rollouts.canary`.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlops_assets.core.rollout import Rollout
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import LedgerError
from mlops_assets.platform import Platform
from mlops_assets.rollouts import canary, moves
from mlops_assets.rollouts.canary import CanaryCall
from mlops_assets.serving.evidence import Evidence
from mlops_assets.serving.traffic import ACTOR, RolloutTraffic
from mlops_assets.spec import ModelSpec

DECIDE_SECONDS = 2.0
"""Pause between two decisions on a rollout."""

RETRY_SECONDS = 60.0
"""Pause after a move that was not possible, such as a release that has to be approved."""

_log = logging.getLogger(__name__)


def _new_source() -> str:
    """A name under which nobody has counted: the number of a process comes back."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass
class Controller:
    """Decides on the open rollouts of a worker's models.

    Args:
        platform: the stores.
        specs: the models by name.
        traffic: knows which rollouts are open.
        evidence: what this worker has counted.
        clock: seconds, for pauses.
    """

    platform: Platform
    specs: Mapping[str, ModelSpec]
    traffic: RolloutTraffic
    evidence: Evidence
    clock: Callable[[], float] = time.monotonic
    last: dict[str, CanaryCall] = field(default_factory=dict)
    _source: str = field(default_factory=_new_source)
    _written: dict[str, Mapping[tuple[str, str, str], Sums]] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _watched: set[str] = field(default_factory=set)
    _closed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Whoever gave a version up before this worker was there may have been killed right after.
        self._closed = dict.fromkeys(self.specs, 0.0)

    def look(self) -> None:
        """Write down what was counted, and decide where it is time to; never raises."""
        kept = {one.traffic.id: one for one in self.traffic.open.values() if one.is_rollout}
        watched = {one.model for one in kept.values() if one.model in self.specs}
        self._closed |= dict.fromkeys(self._watched - watched, 0.0)
        self._watched = watched
        for model, due in list(self._closed.items()):
            if self.clock() >= due:
                self._archive(model)
        self.evidence.keep(kept)
        self.last = {model: call for model, call in self.last.items() if model in self.traffic.open}
        self._written = {name: told for name, told in self._written.items() if name in kept}
        self._next = {name: moment for name, moment in self._next.items() if name in kept}
        for name, one in kept.items():
            if one.model not in self.specs:
                continue
            try:
                self._write(name)
                if self.clock() >= self._next.get(name, 0.0):
                    self._next[name] = self.clock() + DECIDE_SECONDS
                    self._decide(one.model, name)
            except LedgerError as late:
                # Away, or another worker was quicker: the next look tells.
                _log.info("nothing was decided on %s: %s", one.model, late)
            except Exception as refused:  # of MLflow too: the loop goes on
                self._next[name] = self.clock() + RETRY_SECONDS
                _log.warning("the rollout of %s could not be moved: %s", one.model, refused)

    def close(self) -> None:
        """Write down what was counted since the last look; never raises."""
        for one in self.traffic.open.values():
            try:
                self._write(one.traffic.id)
            except Exception as late:
                _log.warning("what was counted of %s last is lost: %s", one.model, late)

    def _archive(self, model: str) -> None:
        """Take a version that was given up out of the running; again later if it cannot be done."""
        self._closed[model] = self.clock() + RETRY_SECONDS
        try:
            moves.archive_given_up(self.platform, self.specs[model], actor=ACTOR)
            del self._closed[model]
        except Exception as refused:
            _log.warning("what was given up of %s is not archived yet: %s", model, refused)

    def _write(self, name: str) -> None:
        if asked := self.evidence.waiting(name):
            ours = self.platform.rollouts.claim(name, asked, self._source)
            self.evidence.settle(name, asked, ours)
        totals = self.evidence.totals(name)
        if not totals or totals == self._written.get(name):
            return
        from mlops_assets.stores.rollouts import Counted

        counted = {Counted(*key, self._source): sums for key, sums in totals.items()}
        self.platform.rollouts.count(name, counted)
        self._written[name] = totals

    def _decide(self, model: str, name: str) -> None:
        store, spec = self.platform.rollouts, self.specs[model]
        kept = store.open(model)
        if kept is None or kept.traffic.id != name or not isinstance(kept.traffic, Rollout):
            return
        found = canary.call(
            spec, kept.traffic, store.sums(name), entered=kept.entered, now=datetime.now(UTC)
        )
        self.last[model] = found
        if found.move == "hold":
            return
        why, numbers = found.reason, found.evidence
        if found.move == "abort":
            moves.give_up(
                self.platform, spec, actor=ACTOR, reason=why, evidence=numbers, decided_on=kept
            )
        else:
            moves.move(
                self.platform,
                spec,
                found.move,
                actor=ACTOR,
                reason=why,
                evidence=numbers,
                decided_on=kept,
            )
