"""How fast drift is computed against a stored reference, beside Evidently or plain pandas.

    python -m mlops_assets_tests.benchmarks.bench_monitoring [python with evidently]

One million rows of 50 numbers in a Parquet file. Ours reads the file in one pass of DuckDB and
judges all columns: PSI less chance, interval, p-value, Wasserstein, Kolmogorov-Smirnov. The others
compute PSI alone, the file read into a frame first, which counts. Plain pandas uses the bins of our
reference, and its shares are compared with ours before any time is shown; Evidently (its PSI
preset) cuts its own bins out of both samples, so its numbers cannot be equal. Evidently runs in an
environment of its own (0.7 with pandas below 3), the one named on the command line or in
EVIDENTLY_PYTHON; without one it is left out, and that is said. At ten times the rows only ours and
pandas run. The peak memory is that of a fresh process that runs ours once, Python and all imports
included.

Then one day of monitoring of a model with a thousand predictions a day, all monitors, from files.
"""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.core.divergence import psi
from mlops_assets.core.drift import judge
from mlops_assets.core.profile import NumberProfile, Profile
from mlops_assets.engines.profiles import daily_profiles, reference_profiles
from mlops_assets.stores.lake import Lake, parquet_files

ROWS, COLUMNS = 1_000_000, 50
REFERENCE_ROWS = 200_000
ROUNDS = 3
NAMES = [f"x{i}" for i in range(COLUMNS)]
GOALS = {"ours / plain pandas": 1.0, "ours / Evidently": 0.025}
GOAL_PEAK = 1.0
EVIDENTLY = """
import json, sys, time
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
reference, current = sys.argv[1:]
start = time.perf_counter()
frames = [pd.read_parquet(path).drop(columns="event_timestamp") for path in (current, reference)]
report = Report([DataDriftPreset(method="psi")]).run(*frames).dict()
print(json.dumps({"seconds": time.perf_counter() - start, "metrics": len(report["metrics"])}))
"""


def write_rows(path: Path, n: int, seed: int) -> None:
    """Numbers of different laws; a third have drifted a little in another sample."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {
        "event_timestamp": np.full(n, np.datetime64("2026-01-01", "us"))
    }
    for i, name in enumerate(NAMES):
        values = rng.normal(size=n) if i % 3 else rng.exponential(size=n)
        columns[name] = values * (1 + 0.05 * (i % 3 == 1) * (seed > 0))
    pq.write_table(pa.table(columns), path)


def ours(lake: Lake, path: Path, reference: dict[str, Profile]) -> dict[str, Profile]:
    """Profiles of all columns, and verdicts on them."""
    bins = {name: profile.bins for name, profile in reference.items()}
    (found,) = daily_profiles(lake, f"FROM read_parquet({parquet_files([path])})", bins)
    judge(reference, found.columns)
    return dict(found.columns)


def plain(path: Path, reference: dict[str, Profile]) -> dict[str, np.ndarray]:
    """Counts of pandas.cut on the same bins, and PSI."""
    frame = pd.read_parquet(path)
    found = {}
    for name, profile in reference.items():
        assert isinstance(profile, NumberProfile)
        edges = [-np.inf, *profile.bins.bounds, np.inf]
        counts = pd.cut(frame[name], edges).value_counts(sort=False).to_numpy()
        psi(np.array(profile.counts), counts)
        found[name] = counts
    return found


def peak(lake: Lake, path: Path, reference: dict[str, Profile]) -> float:
    """Most memory that `ours` takes, in GB (1e9 bytes), in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_own_peak, lake, path, reference).result()


def _own_peak(lake: Lake, path: Path, reference: dict[str, Profile]) -> float:
    ours(lake, path, reference)
    # Not `ru_maxrss`, which starts at what the process that started this one had.
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) * 1024 / 1e9


def seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median time of a run."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def evidently_seconds(python: str, reference: Path, current: Path) -> float | None:
    """Time of Evidently's PSI preset, reading included; None when it cannot be run."""
    if not python:
        return None
    done = subprocess.run(
        [python, "-W", "ignore", "-c", EVIDENTLY, str(reference), str(current)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"Evidently could not be run: {done.stderr.strip().splitlines()[-1]}")
        return None
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def a_day(folder: Path) -> float:
    """Time of all monitors of a day: a thousand served predictions, and their labels."""
    import pytest

    from mlops_assets_tests.monitoring.world import made

    with pytest.MonkeyPatch.context() as patch:
        world = made(folder, patch)
        for number in range(7):
            world.label(world.predict(number, 1_000))
        return seconds(lambda: world.day(6))


def table(found: dict[str, float | None], rows: int, most: float) -> None:
    heads = f"{'contender':20} {'seconds':>9} {'M rows/s':>9} {'peak GB':>9}"
    print(f"\n{rows:,} rows x {COLUMNS} columns\n{heads}")
    for name, taken in found.items():
        told = "   not run" if taken is None else f"{taken:9.2f} {rows / taken / 1e6:9.2f}"
        print(f"{name:20} {told}" + (f" {most:9.2f}" if name == "ours" else ""))


def main() -> None:
    """Compare, measure and print the tables; exit 1 if a goal is missed."""
    given = sys.argv[1] if len(sys.argv) > 1 and "/" in sys.argv[1] else ""
    python = given or os.environ.get("EVIDENTLY_PYTHON", "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = Lake(folder / "lake")
        old, new, large = (folder / f"{one}.parquet" for one in ("old", "new", "large"))
        write_rows(old, REFERENCE_ROWS, 0)
        write_rows(new, ROWS, 1)
        reference = reference_profiles(lake, f"FROM read_parquet({parquet_files([old])})", NAMES)
        profiles, counted = ours(lake, new, reference), plain(new, reference)
        for column in NAMES:
            if list(profiles[column].counts) != counted[column].tolist():
                raise SystemExit(f"the counts of {column} differ from those of pandas.cut")
        print("All counts by bin are equal to those of pandas.cut, so PSI is.")
        found: dict[str, float | None] = {
            "ours": seconds(lambda: ours(lake, new, reference)),
            "plain pandas": seconds(lambda: plain(new, reference)),
            "Evidently": evidently_seconds(python, old, new),
        }
        most = peak(lake, new, reference)
        table(found, ROWS, most)
        write_rows(large, 10 * ROWS, 1)
        table(
            {
                "ours": seconds(lambda: ours(lake, large, reference), 1),
                "plain pandas": seconds(lambda: plain(large, reference), 1),
            },
            10 * ROWS,
            peak(lake, large, reference),
        )
        print(f"\na day of a model, 1,000 predictions a day: {a_day(folder):.2f} s")
    print(f"\n{'what':24} {'measured':>9} {'goal':>9}")
    print(f"{'peak GB of ours':24} {most:9.3f} {'<=':>4} {GOAL_PEAK:g}")
    missed = int(most > GOAL_PEAK)
    for title, goal in GOALS.items():
        one, other = (found[part] for part in title.split(" / "))
        if one is None or other is None:
            print(f"{title:24}   not run")
            continue
        missed += one / other > goal
        print(f"{title:24} {one / other:9.3f} {'<=':>4} {goal:g}")
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
