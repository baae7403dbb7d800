"""Connections, tokens and waits of the client."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mlops_assets.errors import DeclarationError
from mlops_assets.traffic import client
from mlops_assets.traffic.client import Answer, Server, wait_of
from mlops_assets.traffic.options import TrafficOptions
from mlops_assets_tests.traffic.stub import serving

PREDICT = "/models/m/predict"
ROW = {"features": [{"n": 1}]}


def test_the_token_is_read_from_the_environment_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_TOKEN", "mlops_secret")
    with serving() as stub:
        options = TrafficOptions(url=stub.url)
        server = Server(options)
        server.ask("POST", PREDICT, ROW)
        server.close()
    assert stub.asked[0].headers["Authorization"] == "Bearer mlops_secret"
    assert "mlops_secret" not in repr(options)


def test_without_a_token_none_is_sent() -> None:
    with serving() as stub:
        server = Server(TrafficOptions(url=stub.url))
        server.ask("POST", PREDICT, ROW)
        server.close()
    assert "Authorization" not in stub.asked[0].headers


def test_a_path_in_the_address_comes_before_those_of_the_server() -> None:
    with serving() as stub:
        server = Server(TrafficOptions(url=f"{stub.url}/behind/"))
        server.ask("POST", PREDICT, ROW)
        server.close()
    assert stub.asked[0].path == f"/behind{PREDICT}"


def test_a_connection_is_kept_and_opened_anew_when_it_was_idle_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = []
    connect = client.HTTPConnection.connect
    monkeypatch.setattr(
        client.HTTPConnection, "connect", lambda self: (opened.append(1), connect(self))
    )
    with serving() as stub:
        server = Server(TrafficOptions(url=stub.url))
        for _ in range(3):
            server.ask("POST", PREDICT, ROW)
        assert len(opened) == 1
        monkeypatch.setattr(client, "IDLE_SECONDS", 0.0)
        time.sleep(0.001)
        server.ask("POST", PREDICT, ROW)
        assert len(opened) == 2
        server.close()


def test_a_date_to_ask_again_is_understood() -> None:
    date = datetime.now(UTC) + timedelta(seconds=30)
    assert 25 < wait_of(format_datetime(date, usegmt=True)) <= 30
    assert wait_of(format_datetime(date - timedelta(days=1), usegmt=True)) == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"error": "bad row"}', "bad row"), (b"Bad Gateway", "Bad Gateway"), (b"", "no words")],
)
def test_the_message_of_a_refusal_is_its_error_or_its_text(body: bytes, said: str) -> None:
    assert Answer(502, body, 1.0, 0.0).message == said


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:x", "http://u:p@host", ""]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError, match="the address"):
        TrafficOptions(url=url)
