"""What a replay finds out: days, retrains, events and weeks, as plain numbers and text.

Only their form and their sums belong here. Equal replays give equal facts: there is no clock time,
path or duration in them.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlops_assets.core.estimate import Estimate

Arm = Literal["platform", "frozen", "newest"]
ARMS: tuple[Arm, ...] = ("platform", "frozen", "newest")
"""The three ways to run a model that are compared."""

TITLES: Mapping[Arm, str] = {
    "platform": "the platform",
    "frozen": "the first model, left alone",
    "newest": "always the newest",
}

Kind = Literal[
    "adopted",
    "released",
    "canary",
    "advanced",
    "rolled back",
    "given up",
    "held",
    "refused",
    "no retrain",
    "opened",
    "worsened",
    "resolved",
]


@dataclass(frozen=True)
class Event:
    """Something that happened at the midnight of a day.

    Args:
        day: the day.
        kind: what happened.
        version: the version that it is about; None for none.
        text: why, with numbers.
    """

    day: dt.date
    kind: Kind
    version: str | None
    text: str


@dataclass(frozen=True)
class Gate:
    """A verdict in short."""

    gate: str
    outcome: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    threshold: float
    reason: str


@dataclass(frozen=True)
class Afterwards:
    """How a candidate did in the days until the next retrain, against the champion of these days.

    Both are asked about the same rows, whoever answered them.

    Args:
        n: rows.
        against: version of the champion on the day of the retrain.
        brier: mean Brier score of the candidate minus the champion's; below 0 it is better.
        ece: calibration error of the candidate.
        champion_ece: calibration error of the champion.
    """

    n: int
    against: str
    brier: Estimate
    ece: float
    champion_ece: float

    @property
    def surely(self) -> Literal["better", "worse", "alike"]:
        """What the interval of the difference says."""
        if self.brier.high < 0:
            return "better"
        return "worse" if self.brier.low > 0 else "alike"


@dataclass(frozen=True)
class Retrain:
    """A retrain and what came of it.

    Args:
        day: its day.
        version: the candidate.
        causes: what called for it.
        reason: the causes in words.
        windows: the windows, as text by name.
        rows: rows by split.
        estimator: the estimator that was taken.
        calibration: the calibration that was taken.
        outcome: `passed`, `failed` or `inconclusive`.
        against: version of the champion that it was compared with; None without one.
        gates: the verdicts.
        then: what was done with it.
        afterwards: how it did; None when it was alone, or no labelled row came.
    """

    day: dt.date
    version: str
    causes: tuple[str, ...]
    reason: str
    windows: Mapping[str, str]
    rows: Mapping[str, int]
    estimator: str
    calibration: str
    outcome: str
    against: str | None
    gates: tuple[Gate, ...]
    then: str
    afterwards: Afterwards | None = None


@dataclass(frozen=True)
class Day:
    """A day of a replay.

    Args:
        day: the day.
        rows: rows that were predicted.
        champion: version of the platform's champion; None when there was none.
        canary: version of the canary; None when there was none.
        share: share of the day's rows that the canary answered.
        ece: calibration error of the champion on the mature labels of the days before.
        ece_low: lower end of its interval.
        drifted: share of the inputs that have drifted.
        decision: why the model was trained again, or was not.
    """

    day: dt.date
    rows: int
    champion: str | None
    canary: str | None
    share: float
    ece: float | None
    ece_low: float | None
    drifted: float | None
    decision: str


@dataclass(frozen=True)
class Span:
    """How one way to run the model did over some days.

    Args:
        n: labelled rows that it answered.
        metrics: estimates by name; empty without rows.
        missing: why a metric cannot be computed, by name.
    """

    n: int
    metrics: Mapping[str, Estimate]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Week:
    """Seven days, or what is left of them at the end; the three ways on the same rows."""

    start: dt.date
    end: dt.date
    rows: int
    base_rate: float | None
    arms: Mapping[Arm, Span]


@dataclass(frozen=True)
class Difference:
    """A metric of the platform minus that of another way, on the same rows; above 0 is better."""

    metric: str
    platform: float
    other: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Replay:
    """All facts of a replay.

    Args:
        model: the model.
        description: what it predicts.
        start: first day.
        end: day after the last.
        policy: the policy of the replay.
        gates: the gate policy of the replay.
        rollout: its rollout policy.
        days: day by day.
        retrains: in their order.
        events: in their order.
        weeks: week by week, on the rows that all three ways answered.
        totals: the same over all weeks.
        against: the platform against each other way on all rows.
        ledger: entries, and that the chain holds.
    """

    model: str
    description: str
    start: dt.date
    end: dt.date
    policy: Mapping[str, Any]
    gates: Mapping[str, Any]
    rollout: Mapping[str, Any]
    days: tuple[Day, ...]
    retrains: tuple[Retrain, ...]
    events: tuple[Event, ...]
    weeks: tuple[Week, ...]
    totals: Mapping[Arm, Span]
    against: Mapping[Arm, tuple[Difference, ...]]
    ledger: Mapping[str, Any]

    @property
    def last(self) -> dt.date:
        """The last day."""
        return self.end - dt.timedelta(days=1)

    def outcomes(self) -> dict[str, int]:
        """Retrains by outcome of their gates."""
        return count(retrain.outcome for retrain in self.retrains)

    def audit(self) -> dict[str, dict[str, int]]:
        """How candidates did afterwards, by what the gates had said of them."""
        return {
            outcome: count(
                retrain.afterwards.surely
                for retrain in self.retrains
                if retrain.outcome == outcome and retrain.afterwards
            )
            for outcome in ("passed", "inconclusive", "failed")
        }

    def in_hindsight(self) -> dict[str, int]:
        """How the candidates that were kept out did afterwards, against the champion."""
        return count(
            retrain.afterwards.surely
            for retrain in self.retrains
            if retrain.then in ("refused", "held") and retrain.afterwards
        )

    def champions(self) -> tuple[tuple[str | None, dt.date, dt.date], ...]:
        """Who was champion, from which day to which, which is exclusive."""
        found: list[tuple[str | None, dt.date, dt.date]] = []
        for day in self.days:
            after = day.day + dt.timedelta(days=1)
            if found and found[-1][0] == day.champion:
                found[-1] = (day.champion, found[-1][1], after)
            else:
                found.append((day.champion, day.day, after))
        return tuple(found)

    def better_weeks(self, other: Arm, metric: str) -> tuple[int, int]:
        """Weeks in which the platform's metric is lower than the other's, and all weeks."""
        pairs = []
        for week in self.weeks:
            own, theirs = week.arms["platform"].metrics, week.arms[other].metrics
            if metric in own and metric in theirs:
                pairs.append((own[metric].value, theirs[metric].value))
        return sum(mine < yours for mine, yours in pairs), len(pairs)

    def document(self) -> dict[str, Any]:
        """All facts as JSON can hold them."""
        found: dict[str, Any] = plain(asdict(self))
        found["summary"] = {
            "gates": self.outcomes(),
            "afterwards": self.audit(),
            "kept_out": self.in_hindsight(),
        }
        return found


def count(values: Any) -> dict[str, int]:
    """How often each value occurs, in order of first occurrence.

    >>> count(["b", "a", "b"])
    {'b': 2, 'a': 1}
    """
    found: dict[str, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def plain(value: Any) -> Any:
    """A value without dates and tuples.

    >>> plain({"day": dt.date(2013, 3, 1), "pair": (1, None)})
    {'day': '2013-03-01', 'pair': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, dt.date) else value
