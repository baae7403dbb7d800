"""The walk through the days of a replay: watch, train, judge, roll out, release, predict.

Every midnight the canary is looked at, then the champion, then it is decided on a retrain; after
that the day's rows are dealt out. What a label says counts only once it is known. How the three
ways to run a model did is summed up in `summing`.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlops_assets.core.retraining import Decision, RetrainState, Signals, decide
from mlops_assets.core.rollout import Rollout
from mlops_assets.errors import TrainingError, WindowError
from mlops_assets.replay.canary import ON_CANARY, Canary
from mlops_assets.replay.candidates import Candidate, Candidates
from mlops_assets.replay.facts import Day, Event, Gate, Kind, Retrain
from mlops_assets.replay.judging import Judged, judge
from mlops_assets.replay.policy import DAY, ReplayPolicy
from mlops_assets.replay.releasing import Book
from mlops_assets.replay.watching import Watched, Watcher
from mlops_assets.replay.year import Year
from mlops_assets.windows import SPLITS, Windows

Positions = npt.NDArray[np.intp]
NOBODY = 0
"""Version of a row that nobody has answered."""

UNSEEN = Watched(None, "no data: there is no champion", None, None)


@dataclass(frozen=True)
class Progress:
    """How far a walk has come: the day, days done and to do, and what happened if anything did."""

    day: dt.date
    done: int
    days: int
    event: Event | None = None
    fresh: bool | None = None


Listener = Callable[[Progress], None]


@dataclass
class Walk:
    """A replay under way.

    Args:
        year: the rows.
        policy: how the replay goes.
        candidates: trains, or takes what was trained before.
        book: ledger and registry.
        listener: is told of every day and event.
    """

    year: Year
    policy: ReplayPolicy
    candidates: Candidates
    book: Book
    listener: Listener
    versions: dict[str, Candidate] = field(default_factory=dict)
    days: list[Day] = field(default_factory=list)
    retrains: list[Retrain] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        spec, n = self.year.spec, len(self.year.times)
        self.platform = np.full(n, NOBODY, dtype=np.int32)
        self.newest = np.full(n, NOBODY, dtype=np.int32)
        self._arms = np.zeros(n, dtype=np.int8)
        self._state = RetrainState()
        self._canary: Canary | None = None
        self._judged: dict[str, Judged] = {}
        self._refused = ""
        limit = spec.gates.ece_limit if self.policy.ece_limit is None else self.policy.ece_limit
        self._watcher = Watcher(self.year, limit, self.policy.drift_share, self.policy.watch_days)

    @property
    def champion(self) -> Candidate | None:
        """The platform's champion."""
        return self._watcher.champion

    def go(self, start: dt.date, end: dt.date) -> None:
        """Walk from a day to another one, which is exclusive.

        Raises:
            WindowError: the holdout of no day is as large as the gates demand.
        """
        self._refuse_small_holdouts(start, end)
        for done in range((end - start).days):
            day = start + done * DAY
            self.book.now = dt.datetime.combine(day, dt.time(), dt.UTC)
            self._look_at_canary(day)
            watched = self._watch(day)
            decision = self._decide(day)
            if decision.start:
                self._retrain(day, decision)
            self._predict(day, watched, decision)
            self.listener(Progress(day, done + 1, (end - start).days))

    def _refuse_small_holdouts(self, start: dt.date, end: dt.date) -> None:
        """A holdout that is too small for the gates on every day can never pass."""
        least = self.year.spec.gates.min_holdout_rows
        most, seen = 0, None
        for number in range((end - start).days):
            windows = self.policy.windows(self.year.spec, start + number * DAY)
            if windows is None:
                continue
            rows = self.year.between(windows.holdout.start, windows.holdout.end)
            if rows.stop - rows.start > most or seen is None:
                most, seen = rows.stop - rows.start, windows
        if seen is None:
            raise WindowError(
                f"before {end - DAY} there are fewer than {self.policy.least_train_days} days to "
                f"learn from, beside those to calibrate on and to hold out",
                expected="a day on which all windows fit behind "
                f"{self.year.spec.windows.train.start}",
                do="let the replay end later, or take shorter windows in the policy",
            )
        if most < least:
            raise WindowError(
                f"the largest holdout has {most:,} rows ({seen.holdout})",
                expected=f"at least {least:,} rows, on fewer no gate of the policy passes",
                do="take a longer holdout_days in the policy of the replay",
            )

    def _answered(self, version: str, code: int | None = None) -> Positions:
        """Positions of the rows that a version has answered, of one arm only if it is named."""
        found = self.platform == int(version)
        return np.flatnonzero(found if code is None else found & (self._arms == code))

    def _say(
        self, day: dt.date, kind: Kind, version: str | None, text: str, *, fresh: bool | None = None
    ) -> None:
        event = Event(day, kind, version, text)
        self.events.append(event)
        self.listener(Progress(day, len(self.days), 0, event, fresh))

    def _watch(self, day: dt.date) -> Watched:
        champion = self.champion
        if champion is None:
            return UNSEEN
        watched, messages = self._watcher.look(day, self._answered(champion.version))
        for message in messages:
            monitor = message.incident.subject.monitor
            text = f"{monitor}: {message.reading.reason}"
            self._say(day, message.kind, champion.version, text)
        return watched

    def _decide(self, day: dt.date) -> Decision:
        now = dt.datetime.combine(day, dt.time(), dt.UTC)
        windows = self.policy.windows(self.year.spec, day)
        if windows is None:
            least = self.policy.least_train_days
            return Decision(False, (), f"fewer than {least} days to learn from by now")
        at = np.datetime64(day, "us")
        since = self._state.answered
        known = self.year.known < at
        if since is not None:
            known &= self.year.known >= np.datetime64(since.replace(tzinfo=None), "us")
        signals = Signals(
            labels=self.year.labelled(windows, at),
            new_labels=int(np.count_nonzero(known)),
            drift=self._watcher.breach("drift"),
            calibration=self._watcher.breach("calibration"),
        )
        decision = decide(now, self._state, self.policy.retraining, signals)
        if decision.reason.startswith("refused") and self._refused != decision.cause:
            self._say(day, "no retrain", None, decision.reason)
        self._refused = decision.cause if decision.reason.startswith("refused") else ""
        return decision

    def _retrain(self, day: dt.date, decision: Decision) -> None:
        """Train, judge, and do with the candidate what its verdicts allow."""
        windows = self.policy.windows(self.year.spec, day)
        if windows is None:  # pragma: no cover
            raise RuntimeError("a retrain was decided on without windows")
        at = np.datetime64(day, "us")
        self._state = self._state.started(self.book.now)
        competes = len(self.retrains) % self.policy.compete_every == 0
        version = str(len(self.versions) + 1)
        try:
            data = self.year.training_set(windows, at)
            candidate, fresh = self.candidates.trained(
                data,
                windows,
                winner="" if competes else self.retrains[-1].estimator,
                day=day,
                version=version,
            )
        except (WindowError, TrainingError) as wrong:
            self._state = self._state.ended(self.book.now, "failed")
            self._say(day, "no retrain", None, f"{decision.reason}, but {wrong.found}")
            return
        self._state = self._state.ended(self.book.now, "succeeded")
        self.versions[version] = candidate
        self.book.registry.add(version)
        judged = judge(self.year.spec, candidate, data, self.champion)
        self._judged[version] = judged
        then = self._act(day, candidate, judged, fresh=fresh)
        self.retrains.append(_retrain(day, candidate, decision, windows, judged, then))

    def _act(self, day: dt.date, candidate: Candidate, judged: Judged, *, fresh: bool) -> str:
        """What is done with a candidate that was judged; returns it in a word."""
        allowed = judged.outcome == "passed" or (
            judged.outcome == "inconclusive" and self.policy.inconclusive == "release"
        )
        version = candidate.version
        if not self.versions.keys() - {version} and self.policy.first == "adopt":
            reason = f"in service before the platform came; the gates say {judged.outcome}"
            self.book.adopt(candidate, f"{reason}: {judged.why}")
            self._lead(candidate)
            self._say(day, "adopted", version, f"{reason}: {judged.why}", fresh=fresh)
            return "adopted"
        if not allowed:
            kind: Kind = "refused" if judged.outcome == "failed" else "held"
            self._say(day, kind, version, judged.why, fresh=fresh)
            return kind
        if self._canary is not None:
            text = f"{judged.outcome}, but version {self._canary.candidate.version} is a canary"
            self._say(day, "held", version, text, fresh=fresh)
            return "held"
        if judged.outcome == "inconclusive":
            self.book.approve(candidate, judged)
        self.book.challenge(candidate, judged)
        if self.champion is None or self.policy.canary is None:
            self._release(day, candidate, judged.why, fresh=fresh)
            return "released"
        steps = self.year.spec.rollout.steps
        rollout = Rollout(f"{self.year.spec.name}-{version}", version, "replay", steps=steps)
        self._canary = Canary(candidate, self.champion, rollout, day, day)
        self._say(day, "canary", version, f"{judged.why}; in shadow first", fresh=fresh)
        return "canary"

    def _release(
        self, day: dt.date, candidate: Candidate, reason: str, *, fresh: bool | None = None
    ) -> None:
        self.book.release(candidate, self._judged[candidate.version], reason)
        self._lead(candidate)
        self._say(day, "released", candidate.version, reason, fresh=fresh)

    def _lead(self, candidate: Candidate) -> None:
        self._watcher.follow(candidate)

    def _look_at_canary(self, day: dt.date) -> None:
        """Advance, roll back, give up or hold the canary."""
        canary = self._canary
        if canary is None:
            return
        since = self.year.between(canary.began, day)
        found = canary.look(self.year, since, self._arms[since], day)
        version, rollout = canary.candidate.version, canary.rollout
        if found.move == "abort":
            self._end_canary(day, "rolled back", found.reason)
        elif found.needs_person:
            self._end_canary(day, "given up", f"nobody came to decide: {found.reason}")
        elif found.move == "advance" and rollout.at_last_step:
            self._canary = None
            self._release(day, canary.candidate, found.reason)
            rollout.finish(str(self.book.champion))
        elif found.move == "advance":
            moved = rollout.start() if rollout.state == "shadow" else rollout.advance()
            self._canary = canary.moved(moved, day)
            text = f"{moved.share / 100:g}% of the traffic; {found.reason}"
            self._say(day, "advanced", version, text)

    def _end_canary(self, day: dt.date, kind: Kind, reason: str) -> None:
        canary = self._canary
        if canary is None:  # pragma: no cover
            return
        canary.rollout.abort()
        self._canary = None
        self.book.withdraw(canary.candidate, reason)
        self._say(day, kind, canary.candidate.version, reason)

    def _predict(self, day: dt.date, watched: Watched, decision: Decision) -> None:
        """Deal the day's rows out, and note the day."""
        rows = self.year.between(day, day + DAY)
        champion, canary = self.champion, self._canary
        share = 0.0
        if self.versions:
            self.newest[rows] = len(self.versions)
        if champion is not None:
            self.platform[rows] = int(champion.version)
        if canary is not None and rows.stop > rows.start:
            arms = canary.arms_of(self.year.entities(rows))
            self._arms[rows] = arms
            self.platform[rows][arms == ON_CANARY] = int(canary.candidate.version)
            share = float((arms == ON_CANARY).mean())
        self.days.append(
            Day(
                day=day,
                rows=rows.stop - rows.start,
                champion=champion.version if champion else None,
                canary=canary.candidate.version if canary else None,
                share=share,
                ece=watched.ece.value if watched.ece else None,
                ece_low=watched.ece.low if watched.ece else None,
                drifted=watched.drifted,
                decision=decision.reason,
            )
        )


def _retrain(
    day: dt.date,
    candidate: Candidate,
    decision: Decision,
    windows: Windows,
    judged: Judged,
    then: str,
) -> Retrain:
    """The record of a retrain."""
    choice = candidate.fitted.choice
    kept = ("gate", "outcome", "estimate", "low", "high", "n", "threshold", "reason")
    return Retrain(
        day=day,
        version=candidate.version,
        causes=decision.causes,
        reason=decision.reason,
        windows={name: str(window) for name, window in windows.items() if name in SPLITS},
        rows=dict(candidate.rows),
        estimator=choice.selection.winner,
        calibration=choice.calibration,
        outcome=judged.outcome,
        against=judged.against,
        gates=tuple(
            Gate(**{part: getattr(verdict, part) for part in kept})
            for _, verdict in sorted(judged.verdicts.items())
        ),
        then=then,
    )
