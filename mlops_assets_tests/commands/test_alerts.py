"""The commands of alerts: channels are tried at once, and what waits is shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlops_assets.cli import app
from mlops_assets.errors import DeclarationError
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets_tests.stores.alert_world import SECRET, Server, alert, running


def said(*words: str) -> Result:
    return CliRunner().invoke(app, ["alerts", *words])


@pytest.fixture
def server(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as found:
        url = f"json://user:{SECRET}@127.0.0.1:{found.port}/{SECRET}"
        channels = [{"name": "duty", "url": url, "severities": ["critical"]}]
        monkeypatch.setenv("MLOPS_ALERT_CHANNELS", json.dumps(channels))
        yield found


def test_a_test_message_reaches_every_channel(server: Server) -> None:
    found = said("test")
    assert (found.exit_code, found.output) == (0, "duty: taken\n")
    (body,) = server.taken
    assert "this is a test" in body["title"]


def test_a_channel_that_does_not_take_it_is_told_without_its_secret(server: Server) -> None:
    server.status = 500
    found = said("test")
    assert found.exit_code == 1
    assert found.output.startswith("duty: not taken")
    assert SECRET not in found.output


def test_without_channels_nothing_can_be_tried(own_home: Path) -> None:
    with pytest.raises(DeclarationError, match="no channels"):
        CliRunner().invoke(app, ["alerts", "test"], catch_exceptions=False)


def test_what_waits_is_shown(server: Server) -> None:
    assert said("waiting").output == "nothing waits\n"
    Platform(Settings()).alerts.put(alert("i1"))
    assert "CRITICAL: shop/drift/amount" in said("waiting").output
    (row,) = json.loads(said("waiting", "--json").output)
    assert (row["incident"], row["channel"], row["attempts"]) == ("i1", "duty", 0)


def test_without_incidents_none_is_open(own_home: Path) -> None:
    assert said("open").output == "no incident is open\n"
