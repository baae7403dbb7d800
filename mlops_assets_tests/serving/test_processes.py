"""The server as its command runs it: workers that die, releases, several workers, and the end."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.platform import Platform
from mlops_assets_tests.serving.running import Client, in_processes, wait_for
from mlops_assets_tests.serving.shop_home import FEATURES, release, specs_in

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

PREDICT = "/models/returns/predict"
ROW = {"features": [FEATURES]}


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    commands = {int(one): Path(f"/proc/{one}/cmdline").read_text() for one in found}
    return [one for one, command in commands.items() if "spawn_main" in command]


def version(client: Client) -> Any:
    return client.post(PREDICT, ROW).json["predictions"][0]["version"]


def total(client: Client, line: str) -> float:
    page = client.get("/metrics").body.decode().splitlines()
    return sum(float(one.rpartition(" ")[2]) for one in page if one.startswith(line))


def test_the_server_lives_through_releases_and_deaths_and_ends_in_order(
    own_shop: Platform,
) -> None:
    home = own_shop.settings.root
    with in_processes(home, workers=2) as (client, process):
        wait_for(lambda: len(children(process.pid)) == 2)
        wait_for(lambda: total(client, "mlops_model_loads_total") == 4)
        before = total(client, "mlops_predictions_total")
        for _ in range(30):
            assert client.post(PREDICT, ROW).status == 200
        # Whichever worker answered, every one is asked and nothing is counted twice.
        assert total(client, "mlops_predictions_total") == before + 30

        # A release is followed without a failed request.
        release(own_shop, specs_in(home)[0], seed=1)
        wait_for(lambda: {version(client) for _ in range(8)} == {"2"})

        # A worker that is killed is replaced, and what it answered is in its log.
        answered = len(_logged(home))
        killed = children(process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(children(process.pid)) == 2 and killed not in children(process.pid))
        assert len(_logged(home)) == answered
        wait_for(lambda: client.get("/v2/health/ready").status == 200)

        # Requests in work are finished before the end.
        found: list[int] = []
        rows = {"features": [FEATURES] * 1_000}
        ask = lambda: found.append(client.post(PREDICT, rows).status)  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert found == [200] * 4
        assert process.wait(30) == 0
    assert not list(home.glob("metrics-*"))


def _logged(home: Path) -> list[str]:
    files = (home / "inference_log").glob("*.jsonl")
    return [line for file in files for line in file.read_text().splitlines()]


def test_a_port_that_is_taken_is_told(
    shop: Platform, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops_assets.errors import DeclarationError
    from mlops_assets.serving.options import ServeOptions
    from mlops_assets.serving.server import serve

    specs = "mlops_assets_tests.serving.shop_home:SPECS"
    monkeypatch.setenv("MLOPS_HOME", str(shop.settings.root))
    with pytest.raises(DeclarationError, match="cannot be listened on"):
        serve(shop.settings.model_copy(update={"specs": specs}), ServeOptions(port=client.port))
