"""Alerts on their way: written down once, sent to every channel that takes them.

What is put here blocks nobody and is lost by no channel that is down: each is tried again after
growing pauses, without others waiting for it, and never given up. A message is marked once it was
taken. So it is delivered once per channel, but for a sender that dies between the two: then it is
sent again.

What is kept is in `alert_outbox`, what a channel is in `alert_channels`.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from mlops_assets.core.alert import Alert
from mlops_assets.core.incident import Severity
from mlops_assets.errors import DeclarationError
from mlops_assets.stores.alert_channels import SEND_SECONDS, Channel
from mlops_assets.stores.alert_outbox import AlertOutbox, Waiting

_SEVERITIES: tuple[Severity, ...] = ("warning", "critical")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a pass did: names of the channels, once per message that was taken or refused."""

    sent: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Alerts:
    """The outbox with its channels.

    Args:
        outbox: where messages wait; shared with other processes.
        channels: where alerts go, each with a name of its own.

    Raises:
        DeclarationError: when two channels have one name.
    """

    def __init__(self, outbox: AlertOutbox, channels: Sequence[Channel]) -> None:
        self._outbox = outbox
        self._channels = tuple(channels)
        names = [channel.name for channel in channels]
        if len(set(names)) != len(names):
            raise DeclarationError(
                f"the channels {', '.join(names)}",
                expected="every channel to have a name of its own",
                do="rename one of them",
            )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Where alerts go."""
        return self._channels

    def put(self, alert: Alert) -> int:
        """Write an alert down for every channel that takes it; nothing is sent yet.

        A channel is alerted of an incident once: of one that worsened only if it did not take the
        warning; one that still waits is replaced. It hears of the end of what it was alerted of,
        and of nothing else.

        Returns:
            How many messages were written; 0 when it was put before.

        Raises:
            DataError: when the outbox cannot be written.
        """
        takers = [c.name for c in self._channels if alert.severity in c.severities]
        return self._outbox.put(alert, takers)

    def deliver(self, seconds: float = SEND_SECONDS) -> Delivered:
        """Try to send all that is due, all channels at once; to be run every minute or so.

        Args:
            seconds: how long a message may take.

        Raises:
            DataError: when the outbox cannot be read or written.
        """
        if not self._channels:
            return Delivered()
        with ThreadPoolExecutor(len(self._channels)) as pool:
            found = list(pool.map(lambda channel: self._deliver(channel, seconds), self._channels))
        return Delivered(
            tuple(name for part in found for name in part.sent),
            tuple(name for part in found for name in part.failed),
        )

    def waiting(self) -> tuple[Waiting, ...]:
        """All messages that were not taken yet, also of channels that are gone, oldest first.

        Raises:
            DataError: when the outbox cannot be read.
        """
        return self._outbox.waiting()

    def forget(self, before: datetime) -> int:
        """Forget incidents of which nothing waits and nothing was heard since; count the messages.

        Raises:
            DataError: when the outbox cannot be written.
        """
        return self._outbox.forget(before)

    def _deliver(self, channel: Channel, seconds: float) -> Delivered:
        moment = datetime.fromtimestamp(self._outbox.clock(), UTC)
        open_for = [s for s in _SEVERITIES if channel.open_at(moment, s) <= moment]
        sent: list[str] = []
        while (message := self._outbox.claim(channel.name, open_for)) is not None:
            problem = channel.send(message.alert, seconds)
            self._outbox.mark(message, problem)
            if problem is not None:
                told = message.alert.incident, channel.name, problem
                _log.warning("the alert %s was not taken by %s: %s", *told)
                # One failure tells that the channel is down: the rest waits for the next pass.
                return Delivered(tuple(sent), (channel.name,))
            sent.append(channel.name)
        return Delivered(tuple(sent))
