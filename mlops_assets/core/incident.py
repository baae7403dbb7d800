"""From verdicts by window to incidents: what is wrong since when, told once at begin and end.

A watch keeps what is known of one subject of a monitor (a feature, a metric, a slice) and the
incident that was told of, if any. Everything follows from the readings, so a window that is
computed again late changes the incident as if it had been so from the start; only what was told
already is never untold. How alerts look is in `alert`, and how they are sent in `stores/alerts`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from mlops_assets.core.drift import persists
from mlops_assets.core.estimate import Estimate
from mlops_assets.errors import DataError, DeclarationError

Health = Literal["fine", "warning", "critical", "no data"]
Severity = Literal["warning", "critical"]
Kind = Literal["opened", "worsened", "resolved"]
Lack = Literal["data", "time", "rows"]
PREDICTIONS = "predictions"
"""Name of the subject that is a window as a whole."""

GONE = (
    "nothing was said of it while others were judged: it is no longer watched, or has too few "
    "rows; this does not say that it is well"
)
_RANK = {"fine": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class IncidentPolicy:
    """When an incident opens and when it is over.

    Args:
        open_k: bad windows that open it,
        open_m: of so many last windows with data.
        close_after: fine windows in a row, with data, that end it; so do as many in a row in which
            nothing was said of the subject while others were judged.
        silent_after: windows in a row without data that open it too; None for never.

    Raises:
        DeclarationError: numbers that are below 1, or more bad windows than windows.
    """

    open_k: int = 2
    open_m: int = 3
    close_after: int = 2
    silent_after: int | None = 3

    def __post_init__(self) -> None:
        silent = 1 if self.silent_after is None else self.silent_after
        if not 1 <= self.open_k <= self.open_m or min(self.close_after, silent) < 1:
            raise DeclarationError(
                f"incidents that open after {self.open_k} bad windows of {self.open_m} or "
                f"{self.silent_after} silent ones, and close after {self.close_after}",
                expected="1 <= open_k <= open_m, and 1 or more for the others",
                do="correct the incident policy of the spec",
            )


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched: a model, one of its monitors, and what that looks at."""

    model: str
    monitor: str
    name: str

    def __str__(self) -> str:
        return f"{self.model}/{self.monitor}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reading:
    """The verdict on one window.

    Args:
        window: when the window starts; windows of one watch do not overlap.
        health: how bad it is.
        reason: the verdict in words.
        estimate: how bad in numbers, if there are any.
        lack: what is lacking where there are no data: `data` that should be there, `time` until
            they are due, or `rows` of the subject while others were judged.
    """

    window: datetime
    health: Health
    reason: str = ""
    estimate: Estimate | None = None
    lack: Lack = "data"


TIMES = ("since", "opened", "last")
"""Fields of an incident that are times."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is wrong.

    Args:
        key: unique among all incidents, and the same when a window is read again.
        subject: what is wrong.
        since: start of its first bad window.
        opened: when it was told of. Nobody could have acted on it before.
        severity: of its worst window.
        last: start of the last window that was not fine.
        worst: the reading of its worst window, the latest of those.
    """

    key: str
    subject: Subject
    since: datetime
    opened: datetime
    severity: Severity
    last: datetime
    worst: Reading


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told about an incident, and the reading that led to it."""

    kind: Kind
    incident: Incident
    reading: Reading


@dataclass(frozen=True, slots=True)
class Watch:
    """All that is known of a subject.

    Args:
        subject: what is watched.
        readings: by window, ascending.
        incident: the open incident that was told of.
        told: how many incidents were told of so far.
    """

    subject: Subject
    readings: tuple[Reading, ...] = ()
    incident: Incident | None = None
    told: int = 0

    def observe(
        self, reading: Reading, policy: IncidentPolicy, now: datetime | None = None
    ) -> tuple["Watch", tuple[Message, ...]]:
        """Take in a reading; one of a window that was read before replaces it.

        Args:
            reading: the reading.
            policy: when an incident opens and closes.
            now: the present; the start of the window if it is left out.

        Returns:
            The watch as it is now, and what is to be told: at most one message. An incident is told
            of once when it opens, once more when a warning becomes critical, and once when it is
            over. To take in the same reading again tells nothing.

        Raises:
            DataError: a window without a time zone.

        >>> from datetime import UTC, timedelta
        >>> watch, policy = Watch(Subject("shop", "drift", "amount")), IncidentPolicy()
        >>> for day, health in enumerate(["critical", "critical", "fine", "fine"]):
        ...     window = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
        ...     watch, messages = watch.observe(Reading(window, health), policy)
        ...     print(day, [message.kind for message in messages])
        0 []
        1 ['opened']
        2 []
        3 ['resolved']
        """
        if reading.window.tzinfo is None:
            raise DataError(
                f"a window of {self.subject} that starts at {reading.window}",
                expected="times with a zone, such as UTC",
                do="give the start of the window as datetime(..., tzinfo=UTC)",
            )
        others = (old for old in self.readings if old.window != reading.window)
        readings = tuple(sorted((*others, reading), key=lambda found: found.window))
        bad = open_readings(readings, policy)
        after = replace(self, readings=readings)
        before = self.incident
        if not bad:
            ended = (Message("resolved", before, reading),) if before else ()
            return replace(after, incident=None), ended
        if before is None:
            key = f"{self.subject}/{bad[-1].window:%Y%m%dT%H%M}/{self.told}"
            opened = self._incident(bad, key, now or reading.window)
            return (
                replace(after, incident=opened, told=self.told + 1),
                (Message("opened", opened, opened.worst),),
            )
        current = self._incident(bad, before.key, before.opened)
        if before.severity == "critical":
            # Critical was told: a window that is read again as less bad does not untell it.
            current = replace(current, severity="critical")
        worse = current.severity != before.severity
        told = (Message("worsened", current, current.worst),) if worse else ()
        return replace(after, incident=current), told

    @property
    def text(self) -> str:
        """The watch as JSON."""
        return json.dumps(asdict(self), sort_keys=True, default=datetime.isoformat)

    @classmethod
    def of_text(cls, text: str) -> "Watch":
        """Read what `text` wrote.

        Raises:
            DataError: when it is no watch.
        """
        try:
            kept: dict[str, Any] = json.loads(text)
            readings = tuple(map(_reading, kept["readings"]))
            subject, found = Subject(**kept["subject"]), kept["incident"]
            if found is not None:
                times = {name: datetime.fromisoformat(found[name]) for name in TIMES}
                found = Incident(
                    **{**found, **times, "subject": subject, "worst": _reading(found["worst"])}
                )
            return cls(subject, readings, found, kept["told"])
        except (KeyError, TypeError, ValueError) as wrong:
            raise DataError(
                f"a text that is no watch: {type(wrong).__name__}",
                expected="what Watch.text wrote",
                do="begin the watch anew from the readings of its windows",
            ) from wrong

    def _incident(self, bad: Sequence[Reading], key: str, opened: datetime) -> Incident:
        worst = max(bad, key=lambda found: (_severity(found), found.window))
        return Incident(
            key=key,
            subject=self.subject,
            since=bad[0].window,
            opened=opened,
            severity="critical" if worst.health == "critical" else "warning",
            last=bad[-1].window,
            worst=worst,
        )


def open_readings(readings: Sequence[Reading], policy: IncidentPolicy) -> tuple[Reading, ...]:
    """The bad readings of the incident that is open after all readings; none when none is.

    Windows without data neither open nor close, as long as they are few: they are passed over, and
    those that are not due yet always are.

    Args:
        readings: by window, ascending.
        policy: when an incident opens and closes.
    """
    bad: list[Reading] = []
    seen: list[Reading] = []  # since the last incident
    silent: list[Reading] = []
    calm = gone = 0
    for reading in readings:
        if reading.lack != "data":
            gone += reading.lack == "rows"
            if gone >= policy.close_after:
                bad, seen, silent, calm = [], [], [], 0
            continue
        gone = 0
        silent = [*silent, reading] if reading.health == "no data" else []
        if silent:
            if policy.silent_after is not None and len(silent) >= policy.silent_after:
                calm = 0
                bad = [*(r for r in bad if r not in silent), *silent]
            continue
        seen.append(reading)
        if bad:
            calm = calm + 1 if reading.health == "fine" else 0
            if reading.health != "fine":
                bad.append(reading)
            elif calm >= policy.close_after:
                bad, seen, calm = [], [], 0
        elif reading.health != "fine" and persists(
            [r.health != "fine" for r in seen], policy.open_k, policy.open_m
        ):
            bad, calm = [r for r in seen[-policy.open_m :] if r.health != "fine"], 0
    return tuple(bad)


def is_heard(readings: Iterable[tuple[Subject, Reading]]) -> bool:
    """Whether all the readings of a monitor in a window judge anything.

    Then who was watched and is not among them is gone, and does not only wait for data.
    """
    return any(
        reading.health != "no data" for subject, reading in readings if subject.name != PREDICTIONS
    )


def _reading(kept: dict[str, Any]) -> Reading:
    estimate = Estimate(**kept["estimate"]) if kept["estimate"] else None
    window = datetime.fromisoformat(kept["window"])
    return Reading(**{**kept, "window": window, "estimate": estimate})


def _severity(reading: Reading) -> int:
    """Silence that is told of is a warning."""
    return _RANK.get(reading.health, 1)
