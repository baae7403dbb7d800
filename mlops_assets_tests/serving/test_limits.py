"""Limits, headers, admission over HTTP, outages, and the pages that say what there is."""

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlops_assets.errors import DataError, RolloutError
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.serving import auth
from mlops_assets.serving.model_cache import ModelCache
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.predictor import Predictor
from mlops_assets.serving.worker import MOST_THREADS, Worker
from mlops_assets.stores.rollouts import Rollouts
from mlops_assets_tests.serving.running import PATIENCE, Client, in_thread, wait_for
from mlops_assets_tests.serving.shop_home import FEATURES, KNOWN, specs_in

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

PREDICT = "/models/returns/predict"
ROW = {"features": [FEATURES]}


def worker_of(platform: Platform, **options: Any) -> Worker:
    return Worker(platform, specs_in(platform.settings.root), ServeOptions(**options))


def test_every_answer_has_the_headers_of_a_careful_server(client: Client) -> None:
    for path in ("/v2", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_more_rows_than_the_limit_are_refused(client: Client) -> None:
    found = client.post(PREDICT, {"features": [FEATURES] * 201})
    assert (found.status, found.json["field"]) == (413, "features")


def started(client: Client, *headers: str) -> socket.socket:
    """A request whose head is sent."""
    line = socket.create_connection(("127.0.0.1", client.port))
    first = (f"POST {PREDICT} HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    line.sendall("\r\n".join([*first, *headers, "", ""]).encode())
    return line


@pytest.mark.parametrize("length", ["Transfer-Encoding: chunked", "Content-Length: 3000"])
def test_a_longer_body_than_the_limit_is_refused(shop: Platform, length: str) -> None:
    with (
        in_thread(worker_of(shop, most_body_bytes=2048)) as client,
        started(client, length) as line,
    ):
        if "chunked" in length:  # else the length alone is enough
            line.sendall(b"bb8\r\n" + b"x" * 3000)
        assert line.recv(12) == b"HTTP/1.1 413"


def test_a_body_that_does_not_arrive_is_given_up(shop: Platform) -> None:
    with (
        in_thread(worker_of(shop, request_seconds=0.2)) as client,
        started(client, "Content-Length: 30") as line,
    ):
        assert line.recv(12) == b"HTTP/1.1 408"


def test_past_its_limit_the_server_says_when_to_come_again(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, go = worker_of(shop, most_concurrent=2), threading.Event()

    async def slow(work: Any, rows: int, *, online: bool = False) -> Any:
        await asyncio.to_thread(go.wait)
        return work()

    monkeypatch.setattr(worker, "do", slow)
    with in_thread(worker) as client:
        found: list[int] = []
        ask = lambda: found.append(client.post(PREDICT, ROW).status)  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: in_work(client) == 2)
            refused = client.ask("POST", PREDICT, ROW, timeout=5)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert client.get("/v2/health/ready").status == 200
        finally:
            go.set()
            for thread in threads:
                thread.join()
        assert found == [200, 200]
        assert in_work(client) == 0
        assert client.post(PREDICT, ROW).status == 200


def in_work(client: Client) -> float:
    page = client.get("/metrics").body.decode()
    [line] = [one for one in page.splitlines() if one.startswith("mlops_requests_in_work ")]
    return float(line.rpartition(" ")[2])


MANY = {"features": [FEATURES] * 20}


@contextmanager
def asking(client: Client, path: str, body: Any, n: int = 1) -> Iterator[list[int]]:
    """Requests that are sent in the meantime, and what becomes of them once the block has ended."""
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.post(path, body).status))
        for _ in range(n)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for thread in threads:
            thread.join()


def test_a_request_that_was_given_up_has_its_place_until_its_thread_ends(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, go = worker_of(shop, most_concurrent=2, request_seconds=0.5), threading.Event()
    predict = Predictor.predict

    def slow(*args: Any) -> Any:
        go.wait(PATIENCE)
        return predict(*args)

    monkeypatch.setattr(Predictor, "predict", slow)
    with in_thread(worker) as client:
        try:
            with asking(client, PREDICT, MANY, 2) as found:
                pass
            assert found == [503, 503]
            assert in_work(client) == 2
            assert client.post(PREDICT, ROW).status == 429
        finally:
            go.set()
        wait_for(lambda: in_work(client) == 0)
        assert client.post(PREDICT, ROW).status == 200


def test_work_that_no_thread_has_begun_is_not_begun_when_nobody_waits(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_assets.serving.worker.MOST_THREADS", 1)
    worker, go, begun = worker_of(shop), threading.Event(), list[str]()

    async def ask() -> None:
        first = asyncio.ensure_future(worker.do(lambda: go.wait(PATIENCE), 100))
        second = asyncio.ensure_future(worker.do(lambda: begun.append("second"), 100))
        await asyncio.sleep(0)  # both have asked for the only thread
        second.cancel()
        assert await asyncio.gather(second, return_exceptions=True) != [None]
        go.set()
        assert await first
        assert await worker.do(lambda: "third", 100) == "third"

    asyncio.run(ask())
    assert (begun, worker.in_work) == ([], 0)


def test_predictions_that_hang_keep_no_operator_waiting(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, go = worker_of(shop, request_seconds=0.5, poll_seconds=0.05), threading.Event()
    looked: list[int] = []
    monkeypatch.setattr(Predictor, "predict", lambda *_: go.wait(PATIENCE))
    with in_thread(worker) as client:
        try:
            with asking(client, PREDICT, MANY, MOST_THREADS) as found:
                wait_for(lambda: in_work(client) == MOST_THREADS)
                assert client.get("/models/returns/rollout").status == 200
                monkeypatch.setattr(worker, "look", lambda: looked.append(1))
                wait_for(lambda: looked)
            assert found == [503] * MOST_THREADS
            assert client.get("/models/returns/rollout").status == 200
        finally:
            go.set()


def test_a_move_that_was_begun_is_answered_however_long_it_takes(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, go, begun = worker_of(shop, request_seconds=0.5), threading.Event(), threading.Event()

    def slow(*args: Any, **more: Any) -> Any:
        begun.set()
        go.wait(PATIENCE)
        raise RolloutError("moved", expected="a test", do="wait")

    monkeypatch.setattr(moves, "move", slow)
    monkeypatch.setattr(Predictor, "predict", lambda *_: go.wait(PATIENCE))
    with in_thread(worker) as client:
        try:
            with asking(client, "/models/returns/rollout/abort", {"reason": "slow"}) as found:
                assert begun.wait(PATIENCE)
                # Whatever has come later is over by now.
                assert client.post(PREDICT, MANY).status == 503
                assert found == []
                go.set()
        finally:
            go.set()
        assert found == [409]


def test_a_look_that_takes_long_is_no_matter_of_its_body(
    shop: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    with in_thread(worker_of(shop, request_seconds=0.5, poll_seconds=3600)) as client:
        monkeypatch.setattr(Rollouts, "last", lambda *_: go.wait(PATIENCE))
        try:
            found = client.get("/models/returns/rollout")
        finally:
            go.set()
    assert (found.status, found.json["found"]) == (503, "a request that took long")


def test_requests_are_counted_by_the_addresses_that_are_declared(client: Client) -> None:
    for path in ("/docs/files/x1", "/docs/files/x2", "/x1", "/models/mo/rollout"):
        assert client.get(path).status == 404
    assert client.post("/models/mo/predict", ROW).status == 404
    assert client.get(PREDICT).status == 405
    page = client.get("/metrics").body.decode()
    routes = set(re.findall(r'mlops_requests_total\{route="([^"]*)"', page))
    declared = {f"/models/{{model}}/{what}" for what in ("predict", "rollout")}
    assert {"/docs/files/{name}", "other"} | declared <= routes
    assert not [route for route in routes if "x1" in route or "mo/" in route]


def test_with_tokens_every_request_needs_one(own_shop: Platform) -> None:
    root = own_shop.settings.root
    low, high = auth.create(root, "shop", "predict"), auth.create(root, "ops", "operate")
    with in_thread(worker_of(own_shop)) as client:
        nobody, shop, ops = {}, *({"Authorization": f"Bearer {one}"} for one in (low, high))
        assert client.post(PREDICT, ROW, **nobody).status == 401
        assert client.post(PREDICT, ROW, **shop).status == 200
        assert client.get("/metrics", **shop).status == 403
        assert client.get("/metrics", **ops).status == 200
        assert client.get("/v2/health/ready", **nobody).status == 200


def test_a_web_page_from_elsewhere_is_not_answered(client: Client) -> None:
    assert client.post(PREDICT, ROW, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert client.post(PREDICT, ROW, Host="evil.example.com").status == 403


def test_every_address_of_this_machine_is_a_name_of_the_server(client: Client) -> None:
    for host in ("127.0.0.2:8080", "127.0.0.1", "localhost:80", "[::1]:80"):
        assert client.post(PREDICT, ROW, Host=host).status == 200
    for host in ("127.0.0.2.example.com", "10.0.0.1", ""):
        assert client.post(PREDICT, ROW, Host=host).status == 403


def test_an_error_of_the_server_tells_nothing_of_it(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, model: str) -> Any:
        raise RuntimeError("/home/secret")

    monkeypatch.setattr(ModelCache, "get", broken)
    found = client.post(PREDICT, ROW)
    assert (found.status, found.json["found"]) == (500, "an error of the server")
    assert b"secret" not in found.body


def test_while_the_online_store_is_away_the_last_answers_hold(own_shop: Platform) -> None:
    worker = worker_of(own_shop, poll_seconds=3600)
    with in_thread(worker) as client:
        before = client.post(PREDICT, {"entities": [KNOWN]}).json["predictions"][0]
        reader = worker.rows["returns"].online._reader

        def away(rows: Any) -> Any:
            raise DataError("no store", expected="one", do="wait")

        reader.read = away  # type: ignore[union-attr,method-assign]
        after = client.post(PREDICT, {"entities": [KNOWN]}).json["predictions"][0]
        assert after["probability"] == before["probability"]
        changed = client.post(PREDICT, {"entities": [{**KNOWN, "size": 9}]})
        assert changed.status == 200  # what is computed at request time needs no store
        other = client.post(PREDICT, {"entities": [{**KNOWN, "shop": "b"}]})
        assert (other.status, "retry-after" in other.headers) == (503, True)
        assert client.post(PREDICT, ROW).status == 200
        told = client.get("/v2/health/ready").json
        assert (told["ready"], told["away"], told["last_good_state"]) == (
            True,
            ["the online store"],
            True,
        )


def test_while_the_registry_is_away_the_last_champion_serves(
    own_shop: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    worker = worker_of(own_shop, poll_seconds=0.1)
    with in_thread(worker) as client:

        def away(model: str) -> Any:
            raise ConnectionError("gone")

        worker.cache.traffic.table = away  # type: ignore[method-assign]
        wait_for(lambda: client.get("/v2/health/ready").json["away"] == ["the registry"])
        assert client.post(PREDICT, ROW).status == 200
        page = client.get("/metrics").body.decode()
        assert 'mlops_away{store="registry"} 1.0' in page


def test_metrics_tell_of_requests_rows_features_logs_and_versions(client: Client) -> None:
    client.post(PREDICT, {"entities": [{**KNOWN, "item": "pot"}]})
    client.post(PREDICT, {"features": "no"})
    page = client.get("/metrics").body.decode()
    arm = 'arm="champion",model="returns",version="1"'
    for line in (
        f"mlops_predictions_total{{{arm}}}",
        f"mlops_request_seconds_count{{{arm}}}",
        'mlops_requests_total{route="/models/{model}/predict",status="400"}',
        'mlops_features_not_present_total{model="returns",status="outside_max_age"}',
        'mlops_log_bytes_total{log="inference"}',
        'mlops_model_loads_total{model="returns",outcome="loaded",version="1"} 1.0',
        f"mlops_model_info{{{arm}}} 1.0",
    ):
        assert line in page


def test_the_log_of_a_request_names_its_predictions(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    from mlops_assets.serving.request_log import JsonLines

    with caplog.at_level(logging.INFO, "mlops_assets.requests"):
        said = client.post(PREDICT, ROW).json["predictions"][0]
        wait_for(lambda: caplog.records)
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert line["prediction_ids"] == [said["prediction_id"]]
    assert (line["model"], line["version"], line["status"]) == ("returns", "1", 200)


def test_every_example_of_the_pages_runs(client: Client) -> None:
    found = client.get("/openapi.json").json
    ran = []
    for path, methods in found["paths"].items():
        for example in _examples(methods):
            answer = client.post(path, example)
            # Whether a move is possible depends on what is open; it is never a bad request.
            moves = path.split("/")[3:4] in (["rollout"], ["experiment"], ["rollback"])
            fits = (200, 202, 404, 409) if moves else (200, 202)
            assert answer.status in fits, (path, example, answer.body)
            ran.append(path)
    assert "/models/returns/predict" in ran
    assert client.get("/docs").status == 200


def _examples(methods: Any) -> list[Any]:
    if "post" not in methods:
        return []
    body = methods["post"]["requestBody"]["content"]["application/json"]
    return [one["value"] for one in body["examples"].values()]
