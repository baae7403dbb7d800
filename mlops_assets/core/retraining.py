"""When a model is trained again: what calls for it, and what holds it back.

Four things call for a retrain: the schedule, labels that have come, drift, and calibration that is
off. Three hold it back: one that is under way, the cool-down after one that ended, and the back-off
after failures. Decisions only: the caller has the clock, keeps the state, trains and measures.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlops_assets.errors import DeclarationError

Cause = Literal["schedule", "labels", "drift", "calibration"]
Outcome = Literal["succeeded", "failed"]

DAY = dt.timedelta(days=1)
NEVER = dt.timedelta(0)


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """When a model is trained again.

    Args:
        every: time from the start of one success to the next retrain; None for no schedule.
        new_labels: so many labels since the last success call for one; None for no such event.
        on_drift: whether drift of the inputs calls for one.
        on_calibration: whether calibration that is off calls for one.
        cool_down: time after the end of a success in which none is started.
        back_off: time after a failure in which none is started; doubled by every further one.
        most_back_off: the longest of these times.

    Raises:
        DeclarationError: times or numbers that are negative, or a cap below the first back-off.

    >>> [RetrainPolicy().wait_after(failures).days for failures in (1, 2, 3, 4, 5)]
    [1, 2, 4, 7, 7]
    """

    every: dt.timedelta | None = 7 * DAY
    new_labels: int | None = None
    on_drift: bool = True
    on_calibration: bool = True
    cool_down: dt.timedelta = 3 * DAY
    back_off: dt.timedelta = DAY
    most_back_off: dt.timedelta = 7 * DAY

    def __post_init__(self) -> None:
        fits = (
            (self.every is None or self.every > NEVER)
            and (self.new_labels is None or self.new_labels >= 1)
            and self.cool_down >= NEVER
            and NEVER < self.back_off <= self.most_back_off
        )
        if not fits:
            raise DeclarationError(
                f"a retrain policy with every {self.every}, {self.new_labels} new labels, cool-down"
                f" {self.cool_down}, back-off {self.back_off} to {self.most_back_off}",
                expected="times and numbers above 0, and a cap that is no less than the back-off",
                do="correct the retrain policy",
            )

    def wait_after(self, failures: int) -> dt.timedelta:
        """The back-off after so many failures in a row, from one on."""
        wait = self.back_off
        # Not a power: with thousands of failures that is no time any more.
        for _ in range(failures - 1):
            wait = min(2 * wait, self.most_back_off)
            if wait == self.most_back_off:
                break
        return wait


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that is broken: since when that was known, and in words by how much."""

    since: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Signals:
    """What was observed about a model by now.

    Args:
        labels: labels in the windows that a retrain would learn from and be judged on; 0 when
            one of them has none.
        new_labels: labels that became known since the start of the last success.
        drift: drift of the inputs; None when there is none.
        calibration: calibration that is off; None when it is not.
    """

    labels: int
    new_labels: int = 0
    drift: Breach | None = None
    calibration: Breach | None = None


@dataclass(frozen=True, slots=True)
class RetrainState:
    """What is kept of a model's retrains.

    Args:
        running: whether one is under way.
        last_start: when the last one began; None when there was none.
        last_end: when the last one that ended did so.
        last_outcome: how that one ended.
        failures: failures in a row.
        answered: when the last success began. What was known then has been answered by it.
    """

    running: bool = False
    last_start: dt.datetime | None = None
    last_end: dt.datetime | None = None
    last_outcome: Outcome | None = None
    failures: int = 0
    answered: dt.datetime | None = None

    def started(self, now: dt.datetime) -> "RetrainState":
        """The state once a retrain has begun.

        Raises:
            DeclarationError: when one is under way.
        """
        if self.running:
            raise DeclarationError(
                f"a retrain begins at {now}, and the one of {self.last_start} is under way",
                expected="one retrain at a time per model",
                do="ask `decide` before a retrain is started",
            )
        return replace(self, running=True, last_start=now)

    def ended(self, now: dt.datetime, outcome: Outcome) -> "RetrainState":
        """The state once the retrain under way has ended.

        Args:
            now: the present.
            outcome: `succeeded` when a candidate was judged, however the gates judged it.

        Raises:
            DeclarationError: when none is under way.
        """
        if not self.running:
            raise DeclarationError(
                f"a retrain ends at {now}, and none is under way",
                expected="a retrain that was started",
                do="tell the state of every start and of every end once",
            )
        good = outcome == "succeeded"
        return replace(
            self,
            running=False,
            last_end=now,
            last_outcome=outcome,
            failures=0 if good else self.failures + 1,
            answered=self.last_start if good else self.answered,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a retrain is started now.

    Args:
        start: the answer.
        causes: what calls for a retrain, whether it is started or not; all in one.
        reason: the answer in words.
        not_before: the first moment at which the answer can be another one; None when no time is
            waited for.
    """

    start: bool
    causes: tuple[Cause, ...]
    reason: str
    not_before: dt.datetime | None = None

    @property
    def cause(self) -> str:
        """The causes as one text; empty when there is none."""
        return " and ".join(self.causes)


def decide(
    now: dt.datetime, state: RetrainState, policy: RetrainPolicy, signals: Signals
) -> Decision:
    """Decide whether a model is trained again now.

    A breach calls for one retrain, not for one a day: what began before the last success was
    answered by it, and what remains is left to the schedule. After a failure nothing is answered.

    Args:
        now: the present; a clock that was set back starts nothing.
        state: what is kept of the retrains before.
        policy: when a model is trained again.
        signals: what was observed by now.
    """
    found = _causes(now, state, policy, signals)
    causes, told = tuple(found), "; ".join(found.values())
    if state.running:
        return Decision(False, causes, f"the retrain of {state.last_start} is under way")
    if not causes:
        return _nothing_due(state, policy)
    held = _held_until(now, state, policy)
    if held is not None and now < held[0]:
        return Decision(False, causes, f"{told}, but {held[1]}", held[0])
    if signals.labels <= 0:
        reason = f"refused: {told}, but no row of its windows has a label by now"
        return Decision(False, causes, reason)
    return Decision(True, causes, told)


def _causes(
    now: dt.datetime, state: RetrainState, policy: RetrainPolicy, signals: Signals
) -> dict[Cause, str]:
    """What calls for a retrain, with the reason of each."""
    found: dict[Cause, str] = {}
    due = _due(state, policy)
    if policy.every is not None and (due is None or now >= due):
        found["schedule"] = (
            "no model was trained yet" if due is None else f"due by schedule since {_day(due)}"
        )
    if policy.new_labels is not None and signals.new_labels >= policy.new_labels:
        found["labels"] = f"{signals.new_labels:,} new labels, {policy.new_labels:,} call for it"
    breaches: Sequence[tuple[Cause, bool, Breach | None]] = (
        ("drift", policy.on_drift, signals.drift),
        ("calibration", policy.on_calibration, signals.calibration),
    )
    for name, wanted, breach in breaches:
        if wanted and breach and (state.answered is None or breach.since > state.answered):
            found[name] = breach.reason
    return found


def _due(state: RetrainState, policy: RetrainPolicy) -> dt.datetime | None:
    """When the schedule is due; None when it is at once, or never."""
    if policy.every is None or state.answered is None:
        return None
    return state.answered + policy.every


def _nothing_due(state: RetrainState, policy: RetrainPolicy) -> Decision:
    due = _due(state, policy)
    reason = "nothing calls for a retrain"
    return Decision(False, (), f"{reason}; due on {_day(due)}" if due else reason, due)


def _held_until(
    now: dt.datetime, state: RetrainState, policy: RetrainPolicy
) -> tuple[dt.datetime, str] | None:
    """Until when nothing is started, and why; None when nothing was before."""
    known = [time for time in (state.last_start, state.last_end) if time is not None]
    if not known:
        return None
    last = max(known)
    end = state.last_end or last
    if state.failures:
        until = max(last, end + policy.wait_after(state.failures))
        text = f"{state.failures} in a row failed: backing off until {until}"
    else:
        until = max(last, end + policy.cool_down)
        text = f"cooling down until {until}"
    return until, f"the clock is behind the retrain of {last}" if now < last else text


def _day(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%d}"
