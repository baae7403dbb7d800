"""Channels that alerts go to: Slack, Teams, PagerDuty, mail, webhooks, by their Apprise addresses.

What a channel takes and when, and the sending of one message. An address carries a secret: it is
never in a `repr`, an error, a log or the outbox, and what Apprise and its HTTP client log while
they know it is kept back. Which messages wait for a channel is the matter of `alerts`.
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_assets.core.alert import Alert
from mlops_assets.core.incident import Severity
from mlops_assets.errors import DeclarationError

if TYPE_CHECKING:
    from apprise import NotifyBase

SEND_SECONDS = 30.0
"""Time after which a message that is not taken counts as not sent."""

_LOGGERS = ("apprise", "requests", "urllib3", "urllib3.connectionpool", "urllib3.util.retry")
_loading, _loaded = threading.Lock(), list[bool]()
_knows_secrets: ContextVar[bool] = ContextVar("knows_secrets", default=False)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day in which a channel is left alone.

    Args:
        start: local time at which they begin.
        end: local time at which they end; the next day's when it is not after `start`.
        zone: name of the time zone.
        breaks: severities that are sent all the same.

    Raises:
        DeclarationError: when there is no such zone, or they would never end.
    """

    start: time
    end: time
    zone: str = "UTC"
    breaks: frozenset[Severity] = frozenset({"critical"})

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as unknown:
            raise DeclarationError(
                f"quiet hours in the zone {self.zone!r}",
                expected="the name of a time zone, such as Europe/Vienna",
                do="correct the zone",
            ) from unknown
        if self.start == self.end or self.start.tzinfo or self.end.tzinfo:
            raise DeclarationError(
                f"quiet hours from {self.start} to {self.end}",
                expected="two different times without a zone of their own",
                do="leave quiet hours out for none, or take a channel out to silence it",
            )

    def over_at(self, now: datetime, severity: Severity) -> datetime:
        """When a message may be sent: now, or at the end of the quiet hours.

        >>> quiet = QuietHours(time(22), time(7))
        >>> quiet.over_at(datetime(2026, 1, 1, 23, tzinfo=UTC), "warning").isoformat()
        '2026-01-02T07:00:00+00:00'
        >>> quiet.over_at(datetime(2026, 1, 1, 23, tzinfo=UTC), "critical").isoformat()
        '2026-01-01T23:00:00+00:00'
        """
        local = now.astimezone(ZoneInfo(self.zone))
        clock = local.time()
        overnight = self.end <= self.start
        late, early = clock >= self.start, clock < self.end
        quiet = (late or early) if overnight else (late and early)
        if severity in self.breaks or not quiet:
            return now
        day = local.date() + timedelta(days=1 if overnight and late else 0)
        return datetime.combine(day, self.end, ZoneInfo(self.zone)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Channel:
    """Where alerts go.

    Args:
        name: unique among the channels; it stands in the outbox and in logs.
        url: address as Apprise takes it, with its secret.
        severities: what it takes.
        quiet: when it is left alone.

    Raises:
        DeclarationError: an address that Apprise does not know, which is not shown; no name; or a
            channel that takes nothing.
    """

    name: str
    url: str = field(repr=False)
    severities: frozenset[Severity] = frozenset({"warning", "critical"})
    quiet: QuietHours | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.severities <= {"warning", "critical"} or not self.severities:
            raise DeclarationError(
                f"the channel {self.name!r} that takes {', '.join(sorted(self.severities))}",
                expected="a name, and one or both of warning and critical",
                do="correct the channel",
            )
        scheme, found, rest = self.url.partition("://")
        if not (scheme and found and rest):
            raise self._unknown()

    def check(self) -> None:
        """Raise a DeclarationError when Apprise does not know the address; nothing is sent."""
        with _kept_back():
            known = _service(self.url) is not None
        if not known:
            raise self._unknown()

    def open_at(self, now: datetime, severity: Severity) -> datetime:
        """When a message of a severity may be sent."""
        return now if self.quiet is None else self.quiet.over_at(now, severity)

    def send(self, alert: Alert, seconds: float = SEND_SECONDS) -> str | None:
        """Send an alert; what went wrong in a word or two, None when it was taken."""
        from apprise import Apprise, NotifyType

        kinds = {"warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}
        kind = NotifyType.SUCCESS if alert.kind == "resolved" else kinds[alert.severity]
        with _kept_back():
            try:
                service = _service(self.url)
                if service is None:
                    return "unknown address"
                sender = Apprise()
                sender.add(service)
                found = sender.notify(
                    body=alert.body, title=alert.title, notify_type=kind, timeout=seconds
                )
            except Exception as error:  # whatever a plugin raises must not stop other channels
                return type(error).__name__  # its text may hold the address
        return None if found else found.status.name.lower()

    def _unknown(self) -> DeclarationError:
        return DeclarationError(
            f"the address of the channel {self.name!r} is none that Apprise knows",
            expected="such as slack://..., mailto://..., json://host/path",
            do="correct the address; it is not shown here because it holds a secret",
        )


def _service(url: str) -> "NotifyBase | None":
    """The service of an address; None when Apprise does not know it."""
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(app_id="mlops_assets", storage_mode="memory", service_timeout=SEND_SECONDS)
    with _loading:
        if _loaded:
            return Apprise.instantiate(url, asset=asset)
        # The first address makes Apprise load all its plugins.
        with warnings.catch_warnings():
            # The one for mail checks pictures as Python 3.12 and older can.
            warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
            found = Apprise.instantiate(url, asset=asset)
        _loaded.append(True)
        return found


@contextlib.contextmanager
def _kept_back() -> Iterator[None]:
    """Keep back what is logged on behalf of this block, also by the threads that it starts."""
    _guard()
    token = _knows_secrets.set(True)
    try:
        yield
    finally:
        _knows_secrets.reset(token)


@cache
def _guard() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(lambda _: not _knows_secrets.get())
