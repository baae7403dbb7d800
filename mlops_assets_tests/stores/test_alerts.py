"""No alert is lost, by whatever channel or process is down; each is taken once."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_assets.errors import DataError, DeclarationError
from mlops_assets.stores.alert_channels import QuietHours
from mlops_assets.stores.alert_outbox import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    OUTBOX,
    AlertOutbox,
)
from mlops_assets.stores.alerts import Alerts, Delivered
from mlops_assets_tests.stores.alert_world import SECRET, Server, alert, running
from mlops_assets_tests.stores.ledger_world import DATABASES, database

NIGHT = datetime(2026, 3, 1, 23, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NIGHT.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture(scope="module", params=DATABASES)
def shared_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of each kind; a new one for each test would take longer than the test."""
    with database(request.param, tmp_path_factory.mktemp("outbox")) as url:
        yield url


@pytest.fixture
def url(shared_url: str) -> str:
    """A database with an empty outbox."""
    outbox = AlertOutbox(shared_url)
    outbox.waiting()  # makes the table
    with sa.create_engine(shared_url, poolclass=sa.NullPool).begin() as connection:
        connection.execute(OUTBOX.delete())
    outbox.close()
    return shared_url


@pytest.fixture
def outbox(url: str, now: Clock) -> Iterator[AlertOutbox]:
    outbox = AlertOutbox(url, clock=now)
    yield outbox
    outbox.close()


@pytest.fixture
def quick(tmp_path: Path, now: Clock) -> Iterator[AlertOutbox]:
    """An outbox where the database does not matter."""
    outbox = AlertOutbox(f"sqlite:///{tmp_path / 'alerts.db'}", clock=now)
    yield outbox
    outbox.close()


def test_an_alert_is_delivered_to_every_channel_once(
    outbox: AlertOutbox, server: Server, other: Server
) -> None:
    alerts = Alerts(outbox, [server.channel(), other.channel("mail")])
    assert alerts.put(alert()) == 2
    assert alerts.deliver() == Delivered(("duty", "mail"))
    assert alerts.deliver() == Delivered()
    assert (server.incidents, other.incidents) == (["i1"], ["i1"])


def test_an_alert_that_is_put_again_is_not_sent_again(outbox: AlertOutbox, server: Server) -> None:
    alerts = Alerts(outbox, [server.channel()])
    alerts.put(alert())
    alerts.deliver()
    assert alerts.put(alert()) == 0
    assert alerts.deliver() == Delivered()


def test_nothing_is_sent_when_an_alert_is_put(quick: AlertOutbox, server: Server) -> None:
    Alerts(quick, [server.channel()]).put(alert())
    assert not server.asked.is_set()


def test_a_channel_that_comes_back_gets_all_it_missed(
    outbox: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(outbox, [server.channel()])
    server.stop()
    for i in range(3):
        alerts.put(alert(f"i{i}"))
        assert alerts.deliver() == Delivered((), ("duty",))
        now.now += 1
    assert len(alerts.waiting()) == 3
    server.start()
    now.now += FIRST_PAUSE
    assert alerts.deliver() == Delivered(("duty",) * 3)
    assert server.incidents == ["i0", "i1", "i2"]
    assert alerts.waiting() == ()


def test_a_channel_that_is_down_holds_up_no_other(
    quick: AlertOutbox, server: Server, other: Server
) -> None:
    alerts = Alerts(quick, [server.channel(), other.channel("mail")])
    server.status = 500
    alerts.put(alert())
    assert alerts.deliver() == Delivered(("mail",), ("duty",))
    (waiting,) = alerts.waiting()
    assert (waiting.channel, waiting.attempts, waiting.problem) == ("duty", 1, "failure")


def test_a_slow_channel_holds_up_no_other_and_is_not_waited_for(
    quick: AlertOutbox, server: Server, other: Server
) -> None:
    alerts = Alerts(quick, [server.channel(), other.channel("mail")])
    server.seconds = 2.0
    alerts.put(alert())
    # Had it been waited for, it would have been delivered.
    assert alerts.deliver(seconds=0.2) == Delivered(("mail",), ("duty",))
    assert alerts.waiting()[0].problem == "timeout"


def test_a_message_that_is_always_refused_holds_up_no_other(
    quick: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(quick, [server.channel()])
    server.status = 400
    alerts.put(alert("poison"))
    alerts.deliver()
    server.status = 200
    alerts.put(alert("good"))
    assert alerts.deliver() == Delivered(("duty",))
    assert server.incidents == ["good"]


def test_pauses_grow_to_an_hour_and_tries_never_end(
    quick: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts, pauses = Alerts(quick, [server.channel()]), []
    server.stop()
    alerts.put(alert())
    for _ in range(10):
        assert alerts.deliver() == Delivered((), ("duty",))
        assert alerts.deliver() == Delivered()
        due = alerts.waiting()[0].due.timestamp()
        pauses.append(due - now.now)
        now.now = due
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert set(pauses[7:]) == {LONGEST_PAUSE}


def test_the_end_of_an_incident_is_told_after_its_begin(
    outbox: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(outbox, [server.channel()])
    server.status = 500
    alerts.put(alert())
    alerts.deliver()
    now.now += 1
    alerts.put(alert(kind="resolved"))
    server.status = 200
    assert alerts.deliver() == Delivered(), "the begin waits, and so does the end"
    now.now += FIRST_PAUSE
    alerts.deliver()
    assert [body["title"][:8] for body in server.taken] == ["CRITICAL", "RESOLVED"]


def test_severities_choose_the_channels(outbox: AlertOutbox, server: Server, other: Server) -> None:
    pager = server.channel("pager", severities=frozenset({"critical"}))
    alerts = Alerts(outbox, [pager, other.channel("mail")])
    assert alerts.put(alert(severity="warning")) == 1
    assert alerts.deliver() == Delivered(("mail",))
    assert alerts.put(alert(kind="worsened")) == 1, "only who did not take the warning"
    assert alerts.put(alert(kind="resolved")) == 2
    alerts.deliver()
    assert [body["type"] for body in server.taken] == ["failure", "success"]
    assert [body["type"] for body in other.taken] == ["warning", "success"]


def test_who_was_not_alerted_hears_of_no_end(quick: AlertOutbox, server: Server) -> None:
    alerts = Alerts(quick, [server.channel()])
    assert alerts.put(alert(kind="resolved")) == 0


def test_a_warning_waits_for_the_morning_and_a_critical_alert_does_not(
    quick: AlertOutbox, server: Server, now: Clock
) -> None:
    quiet = QuietHours(time(22), time(7))
    alerts = Alerts(quick, [server.channel(quiet=quiet)])
    alerts.put(alert("minor", severity="warning"))
    alerts.put(alert("major"))
    alerts.deliver()
    assert server.incidents == ["major"]
    now.now += timedelta(hours=8).total_seconds()
    alerts.deliver()
    assert server.incidents == ["major", "minor"]


def test_a_warning_that_worsens_in_quiet_hours_is_sent_at_once(
    outbox: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(outbox, [server.channel(quiet=QuietHours(time(22), time(7)))])
    alerts.put(alert(severity="warning"))
    assert alerts.deliver() == Delivered()
    now.now += 3_600
    assert alerts.put(alert(kind="worsened")) == 1
    assert alerts.put(alert(kind="worsened")) == 0
    assert alerts.deliver() == Delivered(("duty",))
    assert [body["type"] for body in server.taken] == ["failure"]
    assert alerts.waiting() == ()


def test_a_message_that_is_put_again_waits_no_shorter(
    quick: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(quick, [server.channel()])
    server.status = 500
    alerts.put(alert())
    alerts.deliver()
    (before,) = alerts.waiting()
    assert alerts.put(alert()) == 0
    assert alerts.waiting() == (before,)


def test_messages_of_a_channel_that_is_gone_are_still_shown(
    quick: AlertOutbox, server: Server
) -> None:
    Alerts(quick, [server.channel("old")]).put(alert())
    alerts = Alerts(quick, [server.channel()])
    assert alerts.deliver() == Delivered()
    assert [waiting.channel for waiting in alerts.waiting()] == ["old"]


def test_what_is_over_is_forgotten_and_what_waits_is_not(
    outbox: AlertOutbox, server: Server, now: Clock
) -> None:
    alerts = Alerts(outbox, [server.channel()])
    for name in ("sent", "waits"):
        alerts.put(alert(name))
        alerts.deliver()
        server.status = 500
    now.now += 1
    assert outbox.forget(datetime.fromtimestamp(now.now, UTC)) == 1
    assert [waiting.alert.incident for waiting in alerts.waiting()] == ["waits"]


def test_two_channels_of_one_name_are_refused(quick: AlertOutbox, server: Server) -> None:
    with pytest.raises(DeclarationError, match="a name of its own"):
        Alerts(quick, [server.channel(), server.channel()])


def test_no_channels_take_nothing(quick: AlertOutbox) -> None:
    assert (Alerts(quick, []).put(alert()), Alerts(quick, []).deliver()) == (0, Delivered())


def test_the_secret_of_a_channel_is_nowhere_in_the_outbox(
    tmp_path: Path, quick: AlertOutbox, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = Alerts(quick, [server.channel()])
    server.stop()
    with caplog.at_level(1):
        alerts.put(alert())
        alerts.deliver()
    assert "i1 was not taken by duty: failure" in caplog.text
    quick.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("alerts.db*"))
    assert b"shop/drift/amount" in kept
    assert SECRET not in f"{caplog.text}{alerts.waiting()}"
    assert SECRET.encode() not in kept


@pytest.mark.parametrize("url", ["mysql://u:sesame@h/d", "sqlite://", "sesame"])
def test_an_address_that_is_no_outbox_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(DeclarationError, match="SQLite file") as refused:
        AlertOutbox(url)
    assert "sesame" not in str(refused.value)


def test_an_outbox_that_cannot_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be used"):
        AlertOutbox(f"sqlite:///{tmp_path / 'folder'}").waiting()
    down = AlertOutbox("postgresql://ann:sesame@127.0.0.1:1/db")
    with pytest.raises(DataError, match="cannot be used") as refused:
        down.put(alert(), ["duty"])
    assert "sesame" not in f"{refused.value!r} {down!r}"
