"""A canary of a replay: who of the day's traffic gets it, and what is counted of them.

Decided by `rollouts.canary.call`, as in the model server: here stands only how its sums are taken
from rows instead of logs. Of an entity the first row in an arm counts. A replay has no latencies,
and no request that is refused.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlops_assets.core import live_calibration
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import CANARY, CHAMPION, CONTROL, CONTROL_START, route
from mlops_assets.core.sequential import Sums
from mlops_assets.replay.candidates import Candidate
from mlops_assets.replay.year import Floats, Year
from mlops_assets.rollouts.canary import (
    BRIER,
    CALIBRATION,
    ENTITIES,
    ERRORS,
    OUTSIDE,
    SCORE,
    SHADOW,
    SHADOW_STAGE,
    SLOW,
    TRAFFIC_STAGE,
    CanaryCall,
    call,
)
from mlops_assets.stores.rollouts import Counted

Positions = npt.NDArray[np.intp]

OTHERS, ON_CANARY, ON_CONTROL = 0, 1, 2
"""Codes of the arms of rows."""

SOURCE = "replay"


@dataclass(frozen=True, eq=False)
class Canary:
    """A version on its way to all traffic.

    Args:
        candidate: the version.
        champion: the version that it would replace.
        rollout: how far it has come.
        began: its first day.
        entered: the day of its last move.
        alone: the first day on which no control of its size was left beside it; None before.
    """

    candidate: Candidate
    champion: Candidate
    rollout: Rollout
    began: dt.date
    entered: dt.date
    alone: dt.date | None = None

    def moved(self, rollout: Rollout, day: dt.date) -> "Canary":
        """The same canary after a move."""
        alone = self.alone or (day if rollout.share > CONTROL_START else None)
        return replace(self, rollout=rollout, entered=day, alone=alone)

    def arms_of(self, entities: Sequence[str]) -> npt.NDArray[np.int8]:
        """Code of the arm of each entity, shape (n,)."""
        table = self.rollout.table(self.champion.version)
        codes = {CANARY: ON_CANARY, CONTROL: ON_CONTROL}
        arms = {one: codes.get(route(one, table).name, OTHERS) for one in set(entities)}
        return np.array([arms[one] for one in entities], dtype=np.int8)

    def look(
        self, year: Year, rows: slice, arms: npt.NDArray[np.int8], today: dt.date
    ) -> CanaryCall:
        """Decide on all that is known by the midnight of a day.

        Args:
            year: the rows, and the model with its policy.
            rows: those since the canary began.
            arms: codes of their arms, shape (n,).
            today: what became known later counts later.
        """
        sums = (
            self._shadow(year, rows)
            if self.rollout.state == "shadow"
            else self._traffic(year, rows, arms, np.datetime64(today, "us"))
        )
        entered, now = (dt.datetime.combine(d, dt.time(), dt.UTC) for d in (self.entered, today))
        return call(year.spec, self.rollout, sums, entered=entered, now=now)

    def _shadow(self, year: Year, rows: slice) -> dict[Counted, Sums]:
        """What it said in the background, beside what was answered."""
        first = _firsts(year, np.arange(rows.start, rows.stop))
        found: dict[Counted, Sums] = {}
        for arm, version in ((SHADOW, self.candidate), (CHAMPION, self.champion)):
            scores = _scores(year, version, first)
            found[Counted(SHADOW_STAGE, arm, ERRORS, SOURCE)] = Sums(len(first))
            found[Counted(SHADOW_STAGE, arm, SCORE, SOURCE)] = Sums.of(scores)
        return found

    def _traffic(
        self, year: Year, rows: slice, arms: npt.NDArray[np.int8], now: np.datetime64
    ) -> dict[Counted, Sums]:
        """What canary and control answered, and what is known by now of how it came out."""
        found: dict[Counted, Sums] = {}
        end = rows.stop if self.alone is None else year.between(self.began, self.alone).stop
        for arm, code, version in (
            (CANARY, ON_CANARY, self.candidate),
            (CONTROL, ON_CONTROL, self.champion),
        ):
            first = _firsts(year, rows.start + np.flatnonzero(arms == code))
            scores = _scores(year, version, first)
            numbers = {
                # Those that were drawn alike: only they can show that the split is broken.
                ENTITIES: Sums(int(np.searchsorted(first, end))),
                ERRORS: Sums(len(first)),
                SLOW: Sums(len(first)),
                SCORE: Sums.of(scores),
            }
            known = year.known[first] < now
            numbers |= _labelled(version, scores[known], year.labels[first[known]])
            for name, sums in numbers.items():
                found[Counted(TRAFFIC_STAGE, arm, name, SOURCE)] = sums
        return found


def _labelled(version: Candidate, scores: Floats, labels: Floats) -> Mapping[str, Sums]:
    """Sums of what labels say, by number."""
    if not len(labels):
        return {}
    inside = version.fitted.rule.prediction_sets(scores)[np.arange(len(labels)), labels.astype(int)]
    bins = live_calibration.sums_of(scores.tolist(), labels.astype(int).tolist())
    return {
        BRIER: Sums.of((scores - labels) ** 2),
        OUTSIDE: Sums.of(~inside),
        **{f"{CALIBRATION}.{number}": sums for number, sums in bins.items()},
    }


def _scores(year: Year, version: Candidate, rows: Positions) -> Floats:
    if not len(rows):
        return np.empty(0)
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    return version.probabilities(year, span)[rows - span.start]


def _firsts(year: Year, rows: Positions) -> Positions:
    """Of each entity the first of some rows, in order."""
    keys = year.table.select(list(year.keys)).take(rows).to_pandas()
    return rows[~keys.duplicated().to_numpy()]
