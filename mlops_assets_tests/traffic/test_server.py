"""Replays against the server as its command runs it: labels meet their rows, workers die."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError, DeclarationError, WindowError
from mlops_assets.platform import Platform
from mlops_assets.serving.auth import FILE as TOKENS
from mlops_assets.serving.auth import create, revoke
from mlops_assets.serving.worker import INFERENCE_LOG, OUTCOMES_LOG
from mlops_assets.settings import Settings
from mlops_assets.spec import Metric, ModelSpec
from mlops_assets.traffic import source
from mlops_assets.traffic.client import Server
from mlops_assets.traffic.options import By, TrafficOptions
from mlops_assets.traffic.replay import Replay, check
from mlops_assets.traffic.schedule import Row
from mlops_assets.traffic.tally import Tally
from mlops_assets_tests.defs.release_shop import ORDERS_PER_DAY, write_orders
from mlops_assets_tests.end_to_end.conftest import ROOT
from mlops_assets_tests.serving.running import Client, in_processes, wait_for
from mlops_assets_tests.serving.shop_home import built, specs_in
from mlops_assets_tests.serving.test_processes import children
from mlops_assets_tests.shop_world import day, returns

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

SPECS = "mlops_assets_tests.serving.shop_home:SPECS"
FIRST, END = day(3), day(5)
ROWS = 2 * ORDERS_PER_DAY
Running = tuple[Client, "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with released models, and 400 orders a day."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    home = tmp_path_factory.mktemp("traffic") / "home"
    platform, spec = built(home), specs_in(home)[0]
    write_orders(home / "orders.csv")
    for one in spec.rows.sources:
        engine.write_source(platform.lake, one)
    engine.write_rows(platform.lake, spec.rows, "more")
    yield home
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Running]:
    with in_processes(home) as found:
        yield found


@pytest.fixture(autouse=True)
def new_logs(request: pytest.FixtureRequest) -> None:
    """A test sees what it has caused itself."""
    if "home" in request.fixturenames:
        for name in (INFERENCE_LOG, OUTCOMES_LOG):
            for file in (request.getfixturevalue("home") / name).glob("*.jsonl"):
                os.truncate(file, 0)


def options_of(client: Client, **change: Any) -> TrafficOptions:
    return TrafficOptions(url=f"http://127.0.0.1:{client.port}", **change)


def rows_of(home: Path, by: By) -> list[Row]:
    spec = specs_in(home)[0]
    table = source.table_of(Platform(Settings(home=home)), spec, FIRST, END, by)
    return [*source.rows_of(table, spec, by)]


def logged(home: Path, folder: str) -> list[dict[str, Any]]:
    files = (home / folder).glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def labels_by_order(home: Path) -> dict[str, float]:
    """Labels as the logs have them, joined as monitoring joins them: by prediction id."""
    orders = {one["id"]: one["entity"]["order_id"] for one in logged(home, INFERENCE_LOG)}
    return {orders[one["id"]]: one["number"] for one in logged(home, OUTCOMES_LOG)}


def labels_in_the_lake(home: Path) -> dict[str, float]:
    return {row.body["order_id"]: row.label for row in rows_of(home, "entities")}


@pytest.mark.parametrize(
    ("by", "third", "fourth"), [("features", 2.0, 8.0), ("entities", 8.0, 8.0)]
)
def test_rows_are_answered_and_every_label_meets_its_row(
    home: Path, server: Running, by: By, third: float, fourth: float
) -> None:
    options = options_of(server[0], by=by)
    rows, asking = rows_of(home, by), Server(options)
    check(asking, "returns", options.url)
    tally = Replay(asking, "returns", options, Tally(len(rows))).run(rows)
    assert (tally.answered, tally.posted, tally.refused) == (ROWS, ROWS, {})
    assert tally.latencies()["1", "champion"].n == ROWS
    assert labels_by_order(home) == labels_in_the_lake(home)
    # By features a row gets those of its own time, by entity those of the server's.
    seen: dict[str, set[float]] = {"o2024-01-03": set(), "o2024-01-04": set()}
    for one in logged(home, INFERENCE_LOG):
        values = dict(zip(one["features"], one["numbers"], strict=True))
        seen[one["entity"]["order_id"][:11]].add(values["amount_last"])
    assert seen == {"o2024-01-03": {third}, "o2024-01-04": {fourth}}
    # The words by which the alert rules know the log and the arm.
    page = server[0].get("/metrics").body.decode()
    assert 'mlops_log_bytes_total{log="inference"}' in page
    assert 'mlops_model_info{arm="champion",model="returns",version="1"} 1.0' in page


def test_the_command_sends_the_token_and_ends_on_ctrl_c_with_the_summary(
    home: Path, server: Running
) -> None:
    options = options_of(server[0])
    token = create(home, "replay", "predict")
    try:
        wait_for(lambda: server[0].get("/v2/models/returns/ready").status == 401)
        with pytest.raises(DataError, match="answers 401"):
            check(Server(options), "returns", options.url)
        # An hour in a second: the two days take 48.
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlops_assets.cli", "traffic"),
                *("--from", f"{FIRST}", "--to", f"{END}", "--url", options.url),
                *("--speed", "3600"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "MLOPS_HOME": str(home),
                "MLOPS_SPECS": SPECS,
                "MLOPS_TOKEN": token,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: len(logged(home, INFERENCE_LOG)) > 20)
            process.send_signal(signal.SIGINT)
            said, error = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    finally:
        revoke(home, "replay")
        # Nobody may ask as long as there is a file without tokens.
        (home / TOKENS).unlink()
        wait_for(lambda: server[0].get("/v2/models/returns/ready").status == 200)
    assert (process.returncode, error) == (0, "")
    sent = len(logged(home, INFERENCE_LOG))
    assert "Ended early: stopped by hand." in said
    assert f"rows: {sent} of 800 sent, {sent} answered" in said
    assert f"{ROWS - sent} not sent" in said
    # At noon of the first day no label is known: they come at six.
    assert f"0 posted, {sent} outstanding" in said


def test_a_worker_that_is_killed_costs_no_row(home: Path, server: Running) -> None:
    client, process = server
    [worker] = children(process.pid)
    found = rows_of(home, "features")
    options = options_of(client, patience_seconds=60, tries=20)

    def rows() -> Iterator[Row]:
        for row in found:
            if row.number == ROWS // 2:
                os.kill(worker, signal.SIGKILL)
            yield row

    tally = Replay(Server(options), "returns", options, Tally(ROWS)).run(rows())
    assert (tally.answered, tally.posted, tally.refused, tally.ended) == (ROWS, ROWS, {}, "")
    assert tally.waits["no answer"] > 0
    assert worker not in children(process.pid)
    assert labels_by_order(home) == labels_in_the_lake(home)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return returns(tmp_path)


def test_a_request_carries_what_the_server_takes_and_not_the_label(spec: ModelSpec) -> None:
    at = dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    known = at + dt.timedelta(hours=1)
    columns: dict[str, list[Any]] = {
        "order_id": ["o1", "o2", "o3"],
        "shop": ["a"] * 3,
        "item": ["tea", None, "pot"],
        "size": [1, 2, 3],
        "event_timestamp": [at] * 3,
        "returned": [1.0, None, float("nan")],
        "known_at": [known, known, known],
    }
    found = [*source.rows_of(pa.table(columns), spec, "entities")]
    assert [row.body for row in found] == [
        {"shop": "a", "item": "tea", "size": 1, "order_id": "o1"},
        {"shop": "a", "item": None, "size": 2, "order_id": "o2"},
        {"shop": "a", "item": "pot", "size": 3, "order_id": "o3"},
    ]
    told = [(row.label, row.known_at) for row in found]
    assert told == [(1.0, known), (None, None), (None, None)]


def test_what_a_metric_counts_comes_with_the_label(spec: ModelSpec) -> None:
    at = dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    spec = spec.model_copy(
        update={"metrics": (Metric(name="things", better="higher", column="size"),)}
    )
    row = {"order_id": "o", "shop": "a", "item": "b", "event_timestamp": at, "known_at": at}
    rows = [{**row, "size": 3, "returned": 1}, {**row, "size": None, "returned": 1},
            {**row, "size": 3, "returned": None}]  # fmt: skip
    found = source.rows_of(pa.Table.from_pylist(rows), spec, "entities")
    assert [one.values for one in found] == [{"things": 3.0}, {}, {}]


def test_a_label_that_is_never_known_does_not_come(spec: ModelSpec) -> None:
    at = dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    row = {"order_id": "o", "shop": "a", "item": "b", "size": 1, "event_timestamp": at}
    table = pa.Table.from_pylist([{**row, "returned": 1, "known_at": None}])
    [found] = source.rows_of(table, spec, "entities")
    assert (found.label, found.known_at) == (None, None)


def test_rows_are_numbered_across_the_parts_of_a_table(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK", 2)
    at = dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    row = {"shop": "a", "item": "b", "size": 1, "event_timestamp": at, "returned": 1}
    table = pa.Table.from_pylist([{**row, "order_id": f"o{n}", "known_at": at} for n in range(5)])
    found = [*source.rows_of(table, spec, "entities")]
    assert [(row.number, row.body["order_id"]) for row in found] == [(n, f"o{n}") for n in range(5)]


def test_days_without_rows_and_lakes_without_tables_are_told(
    home: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    full, empty = Platform(Settings(home=home)), Platform(Settings(home=tmp_path / "none"))
    with pytest.raises(WindowError, match="no rows of 'returns' from 2030"):
        source.table_of(full, spec, dt.date(2030, 1, 1), dt.date(2030, 1, 2), "features")
    with pytest.raises(DataError, match="the lake has no rows of 'returns'"):
        source.table_of(empty, spec, FIRST, END, "features")
    with pytest.raises(DeclarationError, match="from 2024-01-05 to 2024-01-03"):
        source.table_of(full, spec, END, FIRST, "features")
