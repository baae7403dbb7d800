"""What a worker counts of the arms of rollouts and experiments, entity by entity.

Totals in memory, cheap enough for every request; the controller writes them down again and again.
An entity is one observation however often it asks, because all that it asks goes to one arm: of its
scores the first counts, and of its errors and slow answers their share. A row without an entity is
an observation of its own. What the totals mean is decided in `rollouts.canary` and
`core.guardrails`.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mlops_assets.core.routing import CHAMPION, CONTROL, RoutingTable, compared
from mlops_assets.core.sequential import Sums
from mlops_assets.rollouts.canary import (
    ENTITIES,
    ERRORS,
    SCORE,
    SHADOW,
    SHADOW_STAGE,
    SLOW,
    TRAFFIC_STAGE,
)

MOST_ENTITIES = 200_000
"""Entities of an arm that are told apart; beyond, others count no more."""

Key = tuple[str, str, str]
"""Rollout, stage and arm."""


class _Arm:
    """What was seen of one arm in one stage."""

    __slots__ = ("bad", "first", "named", "rows", "scores")

    def __init__(self) -> None:
        # Requests by entity, and of these the bad ones: few entities have any.
        self.named: dict[int, int] = {}
        self.bad: dict[str, dict[int, int]] = {ERRORS: {}, SLOW: {}}
        # Rows without an entity: all of them, and the bad ones.
        self.rows: dict[str, int] = {"": 0, ERRORS: 0, SLOW: 0}
        self.scores = [0, 0.0, 0.0]
        # Entities that were seen while canary and control were drawn alike.
        self.first = 0

    def observe(self, entity: str, score: float | None, slow: bool, drawn: bool = False) -> None:
        """Note a row; without a score it was refused."""
        if entity:
            mark = hash(entity)
            asked = self.named.get(mark, 0)
            if not asked and len(self.named) >= MOST_ENTITIES:
                return
            self.named[mark] = asked + 1
            if score is None:
                self.bad[ERRORS][mark] = self.bad[ERRORS].get(mark, 0) + 1
            elif slow:
                self.bad[SLOW][mark] = self.bad[SLOW].get(mark, 0) + 1
            if asked:
                return
            self.first += drawn
        else:
            self.rows[""] += 1
            self.rows[ERRORS] += score is None
            self.rows[SLOW] += slow and score is not None
        if score is not None:
            self.scores[0] += 1
            self.scores[1] += score
            self.scores[2] += score * score

    def share(self, number: str) -> Sums:
        """The shares of bad requests, summed over entities and rows without one."""
        shares = [bad / self.named[mark] for mark, bad in self.bad[number].items()]
        alone = self.rows[number]
        squares = sum([share * share for share in shares])
        return Sums(len(self.named) + self.rows[""], alone + sum(shares), alone + squares)

    def score(self) -> Sums:
        """The scores, of each entity the first."""
        n, total, squares = self.scores
        return Sums(int(n), total, squares)


@dataclass
class Evidence:
    """The totals of one worker since it started."""

    _arms: dict[Key, _Arm] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(
        self,
        table: RoutingTable,
        arm: str,
        scores: Sequence[float],
        entities: Sequence[str],
        slow: bool,
    ) -> None:
        """Count rows that an arm answered.

        Args:
            table: by which they were routed.
            arm: the arm.
            scores: the probability or value of each row.
            entities: the entity of each row, empty where it has none.
            slow: whether the answer took too long.
        """
        if not compared(table, arm):
            return
        # Above half of the traffic a canary has no control of its size beside it.
        drawn = any(route.arm.name == CONTROL for route in table.routes)
        with self._lock:
            seen = self._arm(table.rollout, TRAFFIC_STAGE, arm)
            for score, entity in zip(scores, entities, strict=True):
                seen.observe(entity, score, slow, drawn)

    def refused(self, table: RoutingTable, arm: str, entities: Sequence[str]) -> None:
        """Count rows that the version of an arm refused, by their entities."""
        if not compared(table, arm):
            return
        with self._lock:
            seen = self._arm(table.rollout, TRAFFIC_STAGE, arm)
            for entity in entities:
                seen.observe(entity, None, False)

    def shadowed(
        self,
        rollout: str,
        said: Sequence[float | None],
        before: Sequence[float],
        entities: Sequence[str],
    ) -> None:
        """Count rows that the shadow scored.

        Args:
            rollout: id of the rollout.
            said: the shadow's score of each row; None where it failed.
            before: what was answered.
            entities: the entity of each row, empty where it has none.
        """
        with self._lock:
            shadow = self._arm(rollout, SHADOW_STAGE, SHADOW)
            champion = self._arm(rollout, SHADOW_STAGE, CHAMPION)
            for score, answer, entity in zip(said, before, entities, strict=True):
                shadow.observe(entity, score, False)
                champion.observe(entity, answer, False)

    def totals(self, rollout: str) -> dict[tuple[str, str, str], Sums]:
        """The totals of a rollout by stage, arm and number."""
        found: dict[tuple[str, str, str], Sums] = {}
        with self._lock:
            for (name, stage, arm), seen in self._arms.items():
                if name != rollout:
                    continue
                found[stage, arm, ERRORS] = seen.share(ERRORS)
                if seen.scores[0]:
                    found[stage, arm, SCORE] = seen.score()
                if stage == TRAFFIC_STAGE:
                    found[stage, arm, SLOW] = seen.share(SLOW)
                    if arm != CHAMPION:
                        found[stage, arm, ENTITIES] = Sums(seen.first)
        return found

    def keep(self, rollouts: Collection[str]) -> None:
        """Forget all other rollouts."""
        with self._lock:
            self._arms = {key: seen for key, seen in self._arms.items() if key[0] in rollouts}

    def _arm(self, rollout: str, stage: str, arm: str) -> _Arm:
        key = (rollout, stage, arm)
        found = self._arms.get(key)
        if found is None:
            found = self._arms[key] = _Arm()
        return found
