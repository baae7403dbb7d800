"""Channels send what they are given, leave people alone at night, and keep their secrets."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any

import pytest

from mlops_assets.errors import DeclarationError
from mlops_assets.stores.alert_channels import Channel, QuietHours
from mlops_assets_tests.stores.alert_world import SECRET, Server, alert, running


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_a_message_has_title_body_and_kind(server: Server) -> None:
    assert server.channel().send(alert()) is None
    (body,) = server.taken
    assert body["title"] == "CRITICAL: shop/drift/amount"
    assert body["message"] == alert().body
    assert body["type"] == "failure"


@pytest.mark.parametrize(
    ("kind", "severity", "expected"),
    [("opened", "warning", "warning"), ("resolved", "critical", "success")],
)
def test_kind_and_severity_are_those_of_the_channel(
    server: Server, kind: str, severity: str, expected: str
) -> None:
    server.channel().send(alert(kind=kind, severity=severity))
    assert server.taken[0]["type"] == expected


def test_a_server_that_refuses_is_told(server: Server) -> None:
    server.status = 500
    assert server.channel().send(alert()) == "failure"


def test_a_server_that_is_down_is_told(server: Server) -> None:
    channel = server.channel()
    server.stop()
    assert channel.send(alert()) == "failure"


def test_a_server_that_does_not_answer_is_not_waited_for(server: Server) -> None:
    server.seconds = 2.0
    assert server.channel().send(alert(), seconds=0.2) == "timeout"


@pytest.mark.parametrize("status", [200, 500, None])
def test_the_secret_of_a_channel_is_in_no_log(
    server: Server, caplog: pytest.LogCaptureFixture, status: int | None
) -> None:
    channel = server.channel()
    server.status = status or 200
    if status is None:
        server.stop()
    with caplog.at_level(1):
        for name in ("apprise", "urllib3", "urllib3.connectionpool"):
            caplog.set_level(1, name)
        channel.check()
        channel.send(alert())
    assert SECRET not in caplog.text
    assert "user" not in caplog.text


def test_others_that_use_the_same_libraries_are_still_logged(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    import requests

    server.channel().send(alert())
    with caplog.at_level(logging.DEBUG):
        requests.post(f"http://127.0.0.1:{server.port}/", json={"message": ""}, timeout=5)
    assert "urllib3.connectionpool" in {record.name for record in caplog.records}


def test_the_secret_of_a_channel_is_in_no_representation() -> None:
    channel = Channel("duty", f"slack://{SECRET}/b/c")
    assert SECRET not in repr(channel)
    assert "duty" in repr(channel)


@pytest.mark.parametrize("url", [SECRET, f"nonsense://{SECRET}", f"slack://{SECRET}", "json://"])
def test_an_unknown_address_is_refused_without_being_shown(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(1), pytest.raises(DeclarationError, match="'duty'") as refused:
        Channel("duty", url).check()
    assert SECRET not in f"{refused.value} {caplog.text}"


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"severities": frozenset()}, {"severities": {"mild"}}]
)
def test_a_channel_that_takes_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="the channel"):
        Channel(**{"name": "duty", "url": "json://host/", **wrong})


@pytest.mark.parametrize(
    ("start", "end", "now", "open_at"),
    [
        (22, 7, "2026-01-01T21:59", "2026-01-01T21:59"),
        (22, 7, "2026-01-01T22:00", "2026-01-02T07:00"),
        (22, 7, "2026-01-02T06:59", "2026-01-02T07:00"),
        (22, 7, "2026-01-02T07:00", "2026-01-02T07:00"),
        (12, 14, "2026-01-02T13:00", "2026-01-02T14:00"),
        (12, 14, "2026-01-02T15:00", "2026-01-02T15:00"),
    ],
)
def test_messages_wait_until_quiet_hours_are_over(
    start: int, end: int, now: str, open_at: str
) -> None:
    quiet = QuietHours(time(start), time(end))
    moment = datetime.fromisoformat(f"{now}+00:00")
    assert quiet.over_at(moment, "warning") == datetime.fromisoformat(f"{open_at}+00:00")
    assert quiet.over_at(moment, "critical") == moment


def test_quiet_hours_are_those_of_their_zone_also_when_clocks_change() -> None:
    quiet = QuietHours(time(22), time(7), "Europe/Vienna", breaks=frozenset())
    # The night to 29 March 2026 is an hour shorter.
    found = quiet.over_at(datetime(2026, 3, 28, 23, tzinfo=UTC), "critical")
    assert found == datetime(2026, 3, 29, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong", [{"zone": "Nowhere/City"}, {"end": time(22)}, {"start": time(22, tzinfo=UTC)}]
)
def test_quiet_hours_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="quiet hours"):
        QuietHours(**{"start": time(22), "end": time(7), **wrong})
