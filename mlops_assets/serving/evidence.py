"""What a worker counts of the arms of rollouts, entity by entity.

Totals in memory, cheap enough for every request; the controller writes them down again and again.
An entity is one observation however often it asks, because all that it asks goes to one arm: of its
scores the first counts, and of its errors and slow answers their share. Since it may ask several
workers, one of them counts it: it is in the totals of the worker whose controller could claim it,
and of no other. A row without an entity is an observation of its own. What the totals mean is
decided in `rollouts.canary` and `core.guardrails`.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

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


def mark_of(entity: str, rollout: str) -> int:
    """The hash by which an entity is claimed, the same in every process: eight bytes, signed."""
    text = f"{rollout} {entity}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


class _Arm:
    """What was seen of one arm in one stage."""

    __slots__ = ("bad", "first", "named", "others", "rows", "scores", "waiting")

    def __init__(self) -> None:
        # Requests by entity, and of these the bad ones: few entities have any.
        self.named: dict[int, int] = {}
        self.bad: dict[str, dict[int, int]] = {ERRORS: {}, SLOW: {}}
        # Entities that are not claimed yet, with the first score and whether it was drawn; those
        # that another worker counts.
        self.waiting: dict[int, tuple[float | None, bool]] = {}
        self.others: set[int] = set()
        # Rows without an entity: all of them, and the bad ones.
        self.rows: dict[str, int] = {"": 0, ERRORS: 0, SLOW: 0}
        self.scores = [0, 0.0, 0.0]
        # Entities that were seen while canary and control were drawn alike.
        self.first = 0

    def observe(
        self, mark: int | None, score: float | None, slow: bool, drawn: bool = False
    ) -> None:
        """Note a row of an entity, None for none; without a score it was refused."""
        if mark is None:
            self.rows[""] += 1
            self.rows[ERRORS] += score is None
            self.rows[SLOW] += slow and score is not None
            self._add(score)
            return
        asked = self.named.get(mark, 0)
        if not asked:
            if mark in self.others or len(self.named) + len(self.others) >= MOST_ENTITIES:
                return
            self.waiting[mark] = (score, drawn)
        self.named[mark] = asked + 1
        if score is None:
            self.bad[ERRORS][mark] = self.bad[ERRORS].get(mark, 0) + 1
        elif slow:
            self.bad[SLOW][mark] = self.bad[SLOW].get(mark, 0) + 1

    def settle(self, asked: Sequence[int], ours: Collection[int]) -> None:
        """Take in those that were asked for and are ours, and forget the others."""
        for mark in asked:
            score, drawn = self.waiting.pop(mark)
            if mark in ours:
                self.first += drawn
                self._add(score)
            else:
                self.others.add(mark)
                for counted in (self.named, *self.bad.values()):
                    counted.pop(mark, None)

    def _add(self, score: float | None) -> None:
        if score is not None:
            self.scores[0] += 1
            self.scores[1] += score
            self.scores[2] += score * score

    def share(self, number: str) -> Sums:
        """The shares of bad requests, summed over claimed entities and rows without one."""
        shares = [
            bad / self.named[mark]
            for mark, bad in self.bad[number].items()
            if mark not in self.waiting
        ]
        n, alone = len(self.named) - len(self.waiting), self.rows[number]
        squares = sum([share * share for share in shares])
        return Sums(n + self.rows[""], alone + sum(shares), alone + squares)

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
        """Count rows of one request that an arm answered.

        Args:
            table: by which they were routed.
            arm: the arm.
            scores: the probability or value of each row.
            entities: the entity of each row, empty where it has none.
            slow: whether the arm took too long for them; it counts once, for the first row.
        """
        if not compared(table, arm):
            return
        drawn = _drawn_alike(table)
        with self._lock:
            seen = self._arm(table.rollout, TRAFFIC_STAGE, arm)
            for at, mark in enumerate(_marks(table.rollout, entities)):
                # The rows of a request share its time: to be late is one observation, not many.
                seen.observe(mark, scores[at], slow and at == 0, drawn)

    def refused(self, table: RoutingTable, arm: str, entities: Sequence[str]) -> None:
        """Count rows that the version of an arm refused, by their entities."""
        if not compared(table, arm):
            return
        # Who is refused was drawn as others are: a version that refuses all breaks no split.
        drawn = _drawn_alike(table)
        with self._lock:
            seen = self._arm(table.rollout, TRAFFIC_STAGE, arm)
            for mark in _marks(table.rollout, entities):
                seen.observe(mark, None, False, drawn)

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
            marks = _marks(rollout, entities)
            for score, answer, mark in zip(said, before, marks, strict=True):
                shadow.observe(mark, score, False)
                champion.observe(mark, answer, False)

    def waiting(self, rollout: str) -> dict[tuple[str, str], list[int]]:
        """The marks of entities that are to be claimed, by stage and arm."""
        with self._lock:
            return {
                (stage, arm): list(seen.waiting)
                for (name, stage, arm), seen in self._arms.items()
                if name == rollout and seen.waiting
            }

    def settle(
        self,
        rollout: str,
        asked: Mapping[tuple[str, str], Sequence[int]],
        ours: Mapping[tuple[str, str], Collection[int]],
    ) -> None:
        """Count the entities that are ours, and none of the others.

        Args:
            rollout: id of the rollout.
            asked: what `waiting` gave.
            ours: of these the marks that this worker could claim.
        """
        with self._lock:
            for (stage, arm), marks in asked.items():
                seen = self._arms.get((rollout, stage, arm))
                if seen is not None:
                    seen.settle(marks, ours[stage, arm])

    def totals(self, rollout: str) -> dict[tuple[str, str, str], Sums]:
        """The totals of a rollout by stage, arm and number, of what is settled."""
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


def _drawn_alike(table: RoutingTable) -> bool:
    """Whether canary and control are of one size: above half of the traffic there is no control."""
    return any(route.arm.name == CONTROL for route in table.routes)


def _marks(rollout: str, entities: Sequence[str]) -> list[int | None]:
    return [mark_of(entity, rollout) if entity else None for entity in entities]
