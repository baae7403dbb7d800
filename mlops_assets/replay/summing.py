"""How the three ways to run a model did: week by week, in all, and candidate by candidate.

Judged with hindsight, on every label that came, whenever it came. All three are asked about the
same rows: those for which the platform had a champion.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlops_assets.core.comparison import compare
from mlops_assets.core.intervals import mean_estimate
from mlops_assets.core.performance import classification_performance
from mlops_assets.errors import WindowError
from mlops_assets.replay.facts import (
    ARMS,
    Afterwards,
    Arm,
    Difference,
    Replay,
    Retrain,
    Span,
    Week,
    plain,
)
from mlops_assets.replay.policy import DAY, ReplayPolicy
from mlops_assets.replay.walk import NOBODY, Walk
from mlops_assets.replay.year import Floats

LEVEL = 0.95
WEEK = 7 * DAY
COMPARED = ("brier", "log_loss", "auc")


@dataclass(frozen=True)
class Summing:
    """The sums over a walk that has ended.

    Args:
        walk: the walk.
        start: its first day.
        end: day after its last.
    """

    walk: Walk
    start: dt.date
    end: dt.date

    @cached_property
    def versions(self) -> Mapping[Arm, npt.NDArray[np.int32]]:
        """Version that each way asks about each row, shape (n,); 0 for none."""
        newest = self.walk.newest
        frozen = np.where(newest == NOBODY, NOBODY, 1).astype(np.int32)
        return {"platform": self.walk.platform, "frozen": frozen, "newest": newest}

    @cached_property
    def answers(self) -> Mapping[Arm, tuple[Floats, npt.NDArray[np.bool_]]]:
        """Probability of each row and whether its set holds the label, each of shape (n,)."""
        return {arm: self._answers(self.versions[arm]) for arm in ARMS}

    @cached_property
    def compared(self) -> npt.NDArray[np.bool_]:
        """Rows with a label that all three ways have answered, shape (n,)."""
        found = ~np.isnan(self.walk.year.labels)
        for arm in ARMS:
            found &= self.versions[arm] != NOBODY
        return found

    def replay(self, policy: ReplayPolicy) -> Replay:
        """All facts of the replay."""
        spec, walk = self.walk.year.spec, self.walk
        whole = walk.year.between(self.start, self.end)
        return Replay(
            model=spec.name,
            description=spec.description,
            start=self.start,
            end=self.end,
            policy=plain(policy.model_dump()),
            gates=plain(spec.gates.model_dump()),
            rollout=plain(spec.rollout.model_dump()),
            days=tuple(walk.days),
            retrains=tuple(
                replace(one, afterwards=self._afterwards(number, one))
                for number, one in enumerate(walk.retrains)
            ),
            events=tuple(walk.events),
            weeks=tuple(self._weeks()),
            totals={arm: self._span(arm, whole) for arm in ARMS},
            against={arm: self._against(arm) for arm in ARMS if arm != "platform"},
            ledger={**walk.book.verified(), "history": walk.book.entries()},
        )

    def _answers(self, versions: npt.NDArray[np.int32]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        year = self.walk.year
        probabilities = np.full(len(versions), np.nan)
        covered = np.zeros(len(versions), dtype=bool)
        for version in np.unique(versions[versions != NOBODY]):
            rows = np.flatnonzero(versions == version)
            candidate = self.walk.versions[str(version)]
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            found = candidate.probabilities(year, span)[rows - span.start]
            probabilities[rows] = found
            there = ~np.isnan(year.labels[rows])
            sets = candidate.fitted.rule.prediction_sets(found[there])
            labels = year.labels[rows[there]].astype(np.intp)
            covered[rows[there]] = sets[np.arange(len(labels)), labels]
        return probabilities, covered

    def _rows(self, span: slice) -> npt.NDArray[np.intp]:
        return span.start + np.flatnonzero(self.compared[span])

    def _weeks(self) -> list[Week]:
        found, day = [], self.start
        while day < self.end:
            end = min(day + WEEK, self.end)
            span = self.walk.year.between(day, end)
            labels = self.walk.year.labels[span]
            labels = labels[~np.isnan(labels)]
            found.append(
                Week(
                    start=day,
                    end=end,
                    rows=span.stop - span.start,
                    base_rate=float(labels.mean()) if len(labels) else None,
                    arms={arm: self._span(arm, span) for arm in ARMS},
                )
            )
            day = end
        return found

    def _span(self, arm: Arm, span: slice) -> Span:
        policy, rows = self.walk.year.spec.gates, self._rows(span)
        probabilities, covered = self.answers[arm]
        found = classification_performance(
            self.walk.year.labels[rows].astype(np.int64),
            probabilities[rows],
            n_bins=policy.bins,
            min_rows=policy.min_bin_rows,
            level=LEVEL,
        )
        metrics = dict(found.metrics)
        if len(rows):
            metrics["coverage"] = mean_estimate(covered[rows].astype(np.float64), LEVEL)
        return Span(found.n, metrics, dict(found.missing))

    def _against(self, other: Arm) -> tuple[Difference, ...]:
        rows = np.flatnonzero(self.compared)
        labels = self.walk.year.labels[rows].astype(np.int64)
        if not len(rows) or labels.min() == labels.max():
            return ()
        differences = compare(
            labels, self.answers["platform"][0][rows], self.answers[other][0][rows], level=LEVEL
        )
        return tuple(
            Difference(d.metric, d.candidate, d.champion, d.difference, d.low, d.high)
            for d in differences
            if d.metric in COMPARED
        )

    def _afterwards(self, number: int, retrain: Retrain) -> Afterwards | None:
        """How a candidate did until the next retrain, against the champion that it met."""
        if retrain.against is None:
            return None
        year, later = self.walk.year, self.walk.retrains[number + 1 : number + 2]
        end = later[0].day if later else self.end
        span = year.between(retrain.day, end)
        there = ~np.isnan(year.labels[span])
        labels = year.labels[span][there].astype(np.int64)
        if len(labels) < year.spec.gates.min_bin_rows:
            return None
        own, theirs = (
            self.walk.versions[version].probabilities(year, span)[there]
            for version in (retrain.version, retrain.against)
        )
        brier = mean_estimate((own - labels) ** 2 - (theirs - labels) ** 2, LEVEL)
        eces = [self._ece(labels, found) for found in (own, theirs)]
        return Afterwards(len(labels), retrain.against, brier, eces[0], eces[1])

    def _ece(self, labels: npt.NDArray[np.int64], probabilities: Floats) -> float:
        policy = self.walk.year.spec.gates
        found = classification_performance(
            labels, probabilities, n_bins=policy.bins, min_rows=policy.min_bin_rows
        )
        return found.metrics["ece"].value


def check_span(start: dt.date, end: dt.date) -> None:
    """Refuse a span without days.

    Args:
        start: first day.
        end: day after the last.

    Raises:
        WindowError: when the last day lies before the first.
    """
    if start >= end:
        raise WindowError(
            f"a replay from {start} to {end - DAY}",
            expected="a last day that is not before the first",
            do="swap the dates",
        )
