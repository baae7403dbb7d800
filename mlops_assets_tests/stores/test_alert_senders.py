"""No alert is lost by senders that are killed, and none is sent twice by two at once."""

import os
import signal
import subprocess
import sys
import time as clock
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.stores.alert_outbox import LEASE, AlertOutbox
from mlops_assets.stores.alerts import Alerts, Delivered
from mlops_assets_tests.stores.alert_world import Server, alert, running
from mlops_assets_tests.stores.ledger_world import DATABASES, database


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database(request.param, tmp_path) as url:
        yield url


SENDER = """
import sys, time
from mlops_assets.stores.alert_channels import Channel
from mlops_assets.stores.alert_outbox import AlertOutbox
from mlops_assets.stores.alerts import Alerts
alerts = Alerts(AlertOutbox(sys.argv[1]), [Channel("duty", sys.argv[2])])
print("ready", flush=True)
while True:
    alerts.deliver()
    time.sleep(0.01)
"""


def sender(url: str, server: Server) -> "subprocess.Popen[str]":
    """A process that sends all the time, once it has begun."""
    channel = server.channel()
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, url, channel.url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def until(condition: object, seconds: float = 10.0) -> None:
    end = clock.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert clock.monotonic() < end
        clock.sleep(0.01)


def test_an_alert_outlives_a_sender_that_is_killed_while_it_sends(url: str, server: Server) -> None:
    outbox = AlertOutbox(url)
    alerts = Alerts(outbox, [server.channel()])
    alerts.put(alert())
    server.seconds, server.status = 0.5, 500  # whatever the killed one sent was not taken
    process = sender(url, server)
    assert server.asked.wait(10)
    killed(process)
    server.seconds, server.status = 0.0, 200
    assert alerts.deliver() == Delivered(), "it may still be under way"
    outbox.clock = lambda: clock.time() + LEASE + 1
    assert alerts.deliver() == Delivered(("duty",))
    outbox.close()


def test_no_alert_is_lost_by_senders_that_are_killed_at_any_moment(
    tmp_path: Path, server: Server
) -> None:
    url, kills = f"sqlite:///{tmp_path / 'alerts.db'}", 3
    outbox = AlertOutbox(url)
    alerts = Alerts(outbox, [server.channel()])
    names = [f"i{i:02}" for i in range(30)]
    for name in names:
        alerts.put(alert(name))
    for kill in range(kills):
        before = len(server.taken)
        process = sender(url, server)
        until(lambda before=before: len(server.taken) > before + 5)
        clock.sleep(0.003 * kill)
        killed(process)
    outbox.clock = lambda: clock.time() + LEASE + 1
    alerts.deliver()
    outbox.close()
    count = Counter(server.incidents)
    assert sorted(count) == names
    assert sum(count.values()) - len(names) <= kills


def test_two_senders_at_once_send_nothing_twice(url: str, server: Server) -> None:
    outbox = AlertOutbox(url)
    for i in range(20):
        Alerts(outbox, [server.channel()]).put(alert(f"i{i:02}"))
    processes = [sender(url, server) for _ in range(2)]
    until(lambda: not outbox.waiting())
    for process in processes:
        killed(process)
    outbox.close()
    assert sorted(server.incidents) == [f"i{i:02}" for i in range(20)]
