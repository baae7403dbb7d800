"""What the server does at its start, and with clients that do not get to the end of their head."""

import logging
import socket
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mlops_assets.core.release_state import ModelState
from mlops_assets.platform import Platform
from mlops_assets.serving.connections import PatientProtocol
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.server import counting, finish_releases
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.rollouts.rollout_world import cause
from mlops_assets_tests.serving.rollout_home import rows, spec_of
from mlops_assets_tests.serving.running import Client, in_thread
from mlops_assets_tests.stores.release_world import Crash, crashing

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


def crash(platform: Platform) -> None:
    """Leave a release of version 2 in the middle."""
    spec = spec_of(platform)
    releases = Releases(platform.ledger, platform.registry, observer=crashing("write entry"))
    version = platform.registry.version("returns", "2")
    with pytest.raises(Crash):
        releases.release("returns", "2", expected_champion="1", **cause(platform, spec, version))


def test_a_release_that_a_crash_has_left_is_finished_at_the_start(
    rolling: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    crash(rolling)
    assert rolling.ledger.state("returns").intent is not None
    with caplog.at_level(logging.WARNING):
        finish_releases(rolling.settings, (spec_of(rolling),))
    state = rolling.ledger.state("returns")
    assert (state.intent, state.aliases.champion) == (None, "2")
    assert rolling.registry.aliases("returns")["champion"] == "2"
    last = rolling.ledger.entries("returns")[-1]
    assert (last.action, last.actor) == ("reconcile", "model server")
    assert f"entry {last.seq}" in caplog.text


def test_where_nothing_is_left_nothing_is_written(rolling: Platform) -> None:
    head = rolling.ledger.head()
    finish_releases(rolling.settings, (spec_of(rolling),))
    assert rolling.ledger.head() == head


def test_without_a_ledger_it_is_told_and_all_is_served(
    rolling: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    rolling.ledger.close()
    (rolling.settings.root / "ledger").rename(rolling.settings.root / "away")
    (rolling.settings.root / "ledger").touch()
    finish_releases(Settings(home=rolling.settings.root), (spec_of(rolling),))
    assert "unfinished releases were not looked for" in caplog.text
    (rolling.settings.root / "ledger").unlink()
    (rolling.settings.root / "away").rename(rolling.settings.root / "ledger")
    assert rolling.ledger.state("returns") != ModelState("returns")


def test_counts_of_servers_that_were_killed_are_removed_and_no_others(tmp_path: Path) -> None:
    dead = tmp_path / "metrics-dead"
    dead.mkdir()
    (dead / "counter_1.db").touch()
    with counting(tmp_path) as first:
        assert not dead.exists()
        with counting(tmp_path) as second:
            assert (first.is_dir(), second.is_dir(), first != second) == (True, True, True)
    assert list(tmp_path.iterdir()) == []


def patient(worker: Worker, seconds: int) -> AbstractContextManager[Client]:
    """A worker behind the protocol of the server."""
    return in_thread(worker, http=PatientProtocol, timeout_keep_alive=seconds)


HEAD = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"


def closed(line: socket.socket) -> bool:
    """Whether the server closes the connection, after whatever it still sends."""
    line.settimeout(20)
    try:
        while line.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_clients_that_are_slow_with_their_head_are_let_go_and_others_answered(
    shop: Platform,
) -> None:
    with patient(Worker(shop, (spec_of(shop),), ServeOptions()), 1) as client:
        lines = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(4)]
        silent, begun, second, whole = lines
        begun.sendall(HEAD)
        second.sendall(HEAD + b"\r\n")
        assert second.recv(12) == b"HTTP/1.1 200"
        second.sendall(HEAD)
        body = b'{"features":'
        post = b"POST /models/returns/predict HTTP/1.1\r\nHost: localhost\r\n"
        post += b"Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
        whole.sendall(post + body)
        assert all(closed(line) for line in (silent, begun, second))
        # Its head was there: the body is a matter of the time of a request.
        whole.sendall(b"}")
        assert whole.recv(12) == b"HTTP/1.1 400"
        assert client.get("/v2/health/live").status == 200
        assert client.post("/models/returns/predict", rows(2)).status == 200
        for line in lines:
            line.close()


def test_a_head_that_comes_in_small_parts_is_answered(shop: Platform) -> None:
    with (
        patient(Worker(shop, (spec_of(shop),), ServeOptions()), 30) as client,
        socket.create_connection(("127.0.0.1", client.port)) as line,
    ):
        for byte in HEAD + b"\r\n":
            line.sendall(bytes([byte]))
        assert line.recv(12) == b"HTTP/1.1 200"
