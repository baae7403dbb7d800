"""The drill on a channel of alerts that is down when somebody has to be told.

The outbox keeps the time of a clock of the drill, so that nobody waits for the pause between two
tries.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.core.alert import Alert
from mlops_assets.drills import shop
from mlops_assets.drills.finding import NOBODY, Drill, Finding
from mlops_assets.drills.receiver import Receiver, down

if TYPE_CHECKING:
    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform

GUARD = "alert_outbox"
MINUTE = 60.0
DOWN_MINUTES, UP_MINUTES = 5, 10


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float

    def __call__(self) -> float:
        """The time in seconds since 1970."""
        return self.now


@dataclass(frozen=True)
class Told:
    """What became of the alert: tries while the channel was down, and when it was taken."""

    tries: int
    problem: str
    seconds: float | None


def dead_alert_channel(world: "World", guarded: bool) -> Finding:
    """Put an alert while nobody listens, and listen again five minutes later."""
    alert = Alert(
        incident="late_orders/feature_drift/preparation/1",
        kind="opened",
        severity="critical",
        what="late_orders/feature_drift/preparation",
        since=shop.midnight(shop.LIVE),
        reason="a drill",
    )
    with world.empty("dead_alert_channel") as platform, down() as receiver:
        send = _through_outbox if guarded else _straight
        told = send(platform, receiver, alert)
        taken = [one for one in receiver.taken if alert.incident in one["message"]]
    caught = told.tries > 0 and told.seconds is not None and len(taken) == 1
    tried = f"tried {told.tries} times while it was down: {told.problem}"
    return Finding(
        "dead_alert_channel",
        caught,
        GUARD if caught else NOBODY,
        f"{told.seconds:.0f} s, {told.seconds - DOWN_MINUTES * MINUTE:.0f} s after it was back"
        if told.seconds is not None
        else f"not in {DOWN_MINUTES + UP_MINUTES} minutes",
        f"nothing for {DOWN_MINUTES} minutes; then the alert, "
        + ("once" if len(taken) == 1 else f"{len(taken)} times" if taken else "never"),
        f"{tried}; the alert waited, and was taken once"
        if caught
        else f"{tried}; nothing sends it again",
    )


def _through_outbox(platform: "Platform", receiver: Receiver, alert: Alert) -> Told:
    """Put the alert into the outbox, and deliver every half minute as the sensor does."""
    from mlops_assets.stores.alert_outbox import AlertOutbox
    from mlops_assets.stores.alerts import Alerts

    clock = Clock(alert.since.timestamp())
    alerts = Alerts(AlertOutbox(platform.settings.outbox, clock=clock), [receiver.channel()])
    alerts.put(alert)
    tries, problem, taken_at = 0, "", None
    for half in range(2 * (DOWN_MINUTES + UP_MINUTES)):
        if half == 2 * DOWN_MINUTES:
            for waiting in alerts.waiting():
                tries, problem = waiting.attempts, waiting.problem or ""
            receiver.up()
        if alerts.deliver().sent and taken_at is None:
            taken_at = clock.now - alert.since.timestamp()
        clock.now += MINUTE / 2
    return Told(tries, problem, None if alerts.waiting() else taken_at)


def _straight(_: "Platform", receiver: Receiver, alert: Alert) -> Told:
    """Send the alert when it happens, as one does who has no outbox."""
    problem = receiver.channel().send(alert)
    receiver.up()
    return Told(1, problem or "", None)


DRILLS = (
    Drill(
        "dead_alert_channel",
        "The channel of alerts is down when somebody has to be told.",
        GUARD,
        "the alert is sent straight to the channel",
        dead_alert_channel,
    ),
)
