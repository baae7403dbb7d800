"""What workers, batches, the log, a rollout and a shadow cost the model server.

    python -m mlops_assets_tests.benchmarks.bench_rollouts

Self-contained: it builds the made-up shop's home in a temporary folder. Servers are asked in turns
and in pairs, so that a busy moment hits both. The program that asks needs a core of its own: with
two cores, two workers cannot be twice as fast as one.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from threadpoolctl import threadpool_limits

from mlops_assets.core.routing import canary_table
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.served_model import frame_of
from mlops_assets.serving.worker import Worker
from mlops_assets.settings import Settings
from mlops_assets_tests.benchmarks import bench_serving
from mlops_assets_tests.benchmarks.bench_serving import Asking, bare, free_port, started
from mlops_assets_tests.serving.rollout_home import BY_HAND, PREDICT, rows, spec_of, staged
from mlops_assets_tests.serving.shop_home import FEATURES, NOW, built

ROUNDS = 5
SPECS = "mlops_assets_tests.serving.shop_home:SPECS"
ONE_PROCESS = """
import uvicorn
from mlops_assets.stores.inference_log import InferenceLog
if not {log}:
    InferenceLog.append_all = lambda self, things: 0
uvicorn.run("mlops_assets.serving.app:create", factory=True, port={port}, log_level="critical",
            access_log=False, ws="none")
"""
COMMAND = "from mlops_assets.serving.command import serve; serve('', {port}, {workers})"
GOALS: dict[str, tuple[float, str]] = {
    "requests per second, two workers / one": (1.7, ">="),
    "1,000 rows, server / bare model and JSON": (1.5, "<="),
    "throughput lost to the log": (0.05, "<="),
    "CPU of controller and evidence at 200 requests/s": (0.01, "<="),
}


def asking(stack: ExitStack, title: str, home: Path, script: str, body: Any) -> Asking:
    """A server over a home, and one kind of request to it."""
    port = free_port()
    environment = {
        "MLOPS_HOME": str(home),
        "MLOPS_NOW": NOW.isoformat(),
        "MLOPS_SPECS": SPECS,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
    ready = f"http://127.0.0.1:{port}/v2/health/ready"
    command = ["-c", script.replace("{port}", str(port))]
    stack.enter_context(started(command, ready, environment))
    return Asking(title, port, PREDICT, json.dumps(body).encode())


def in_turns(one: Asking, other: Asking, connections: int) -> float:
    """Median over the rounds of the other's requests per second over the one's."""
    ratios = []
    for turn in range(ROUNDS):
        for server in (one, other) if turn % 2 else (other, one):
            server.load(connections)
        ratios.append(other.rates[connections][-1] / one.rates[connections][-1])
    for server in (one, other):
        rate, p50 = median(server.rates[connections]), server.p(connections, 50)
        p99 = server.p(connections, 99)
        print(f"{server.title:34}{connections:12}{rate:8,.0f}{p50:8.2f}{p99:8.2f}")
    return median(ratios)


def bare_batch(platform: Platform, body: bytes) -> float:
    """Milliseconds of a thousand rows through the model alone, with JSON in and out."""
    import orjson

    from mlops_assets.core import tasks
    from mlops_assets.serving.columns import input_columns

    spec = spec_of(platform)
    fitted = platform.registry.load(platform.registry.version(spec.name, "1"))
    columns = input_columns(spec)

    def work() -> bytes:
        given = [[row[name] for name in spec.inputs] for row in orjson.loads(body)["features"]]
        said = tasks.predictions(fitted, frame_of(columns, given))
        return orjson.dumps({name: values.tolist() for name, values in said.items()})

    return bare(work)


def cpu_of(work: Callable[[], object], times: int) -> float:
    """CPU seconds of a call, of the whole process."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times


def rollout_costs(platform: Platform) -> float:
    """Share of a core that evidence and controller take at 200 requests a second."""
    spec = spec_of(platform)
    worker = Worker(platform, (spec,), ServeOptions())
    kept = moves.start(platform, spec, "2", actor="ann", reason="to measure")
    kept = moves.move(platform, spec, "advance", actor="ann", reason="to measure")
    table = canary_table(kept.traffic.id, kept.traffic.id, 5_000, canary="2", champion="1")
    worker.traffic.look()
    turn, looks, pause = 0, 0, worker.options.poll_seconds

    def request() -> None:
        nonlocal turn
        turn += 1
        arm = ("canary", "control")[turn % 2]
        worker.evidence.answered(table, arm, [0.3], [f"shop=a\x1fitem=i{turn}"], turn % 100 == 0)

    def look() -> None:
        nonlocal looks
        looks += 1
        for _ in range(100):  # what comes in within half a second
            request()
        worker.controller.look()

    per_request = cpu_of(request, 20_000)
    # A decision every two seconds, what was counted as often as the worker looks.
    worker.controller.clock = lambda: looks * pause
    worker.controller.look()
    per_look = cpu_of(look, 40) - 100 * per_request
    share = per_request * 200 + per_look / pause
    print(
        f"\nevidence {per_request * 1e6:.2f} us per request, controller {per_look * 1e3:.2f} ms "
        f"per look of {pause:g} s: {share:.2%} of a core"
    )
    moves.move(platform, spec, "abort", actor="ann", reason="measured")
    return share


def main() -> None:
    """Measure and print the tables; exit 1 if a goal is missed."""
    os.environ["MLOPS_HOME"] = ""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = staged(built(Path(folder) / "shop"), Path(folder) / "home")
        platform = Platform(Settings(home=home, now=NOW))
        threadpool_limits(1)
        bench_serving.SECONDS = 1.5
        row, batch = {"features": [FEATURES]}, rows(1_000)
        print(f"load of the machine: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")
        print(f"\n{'':34}{'connections':>12}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}")
        one, two = (
            asking(stack, f"{n} worker(s)", home, COMMAND.replace("{workers}", str(n)), row)
            for n in (1, 2)
        )
        measured = [in_turns(one, two, 8)]
        many = Asking("1,000 rows, 1 worker", one.port, PREDICT, json.dumps(batch).encode())
        many.load(1)
        alone = bare_batch(platform, many.body)
        print(f"{many.title}: p50 {many.p(1, 50):.1f} ms; bare model and JSON {alone:.1f} ms")
        measured.append(many.p(1, 50) / alone)
        logged, free = (
            asking(stack, title, home, ONE_PROCESS.replace("{log}", str(on)), row)
            for title, on in (("with the log", True), ("without", False))
        )
        measured.append(1 - 1 / in_turns(logged, free, 4))
        measured.append(rollout_costs(platform))
        shadowed(platform, one)
        platform.ledger.close()
    missed = 0
    print(f"\n{'goal':52}{'measured':>9}{'goal':>9}")
    for (title, (goal, sign)), value in zip(GOALS.items(), measured, strict=True):
        met = value >= goal if sign == ">=" else value <= goal
        missed += not met
        print(f"{title:52}{value:9.3f} {sign:>3}{goal:5.2f}{'' if met else ' MISSED'}")
    sys.exit(1 if missed else 0)


def shadowed(platform: Platform, server: Asking) -> None:
    """Print how long answers take without and with a shadow, at a rate that it can follow."""
    spec = spec_of(platform, BY_HAND)

    def paced() -> list[float]:
        found = []
        for _ in range(300):
            begin = time.perf_counter()
            server.answer()
            found.append((time.perf_counter() - begin) * 1000)
            time.sleep(0.004)
        return found

    before = paced()
    moves.start(platform, spec, "2", actor="ann", reason="to measure")
    time.sleep(2)
    after = paced()
    moves.move(platform, spec, "abort", actor="ann", reason="measured")
    print(
        f"p50 of an answer: {median(before):.2f} ms without, {median(after):.2f} ms with a shadow"
    )


if __name__ == "__main__":
    main()
