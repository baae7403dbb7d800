"""Loading the code location against an empty Dagster project, in CPU seconds.

Goal: at most 1.5 times. `dagster definitions validate` in a fresh process each time, in turn.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUNDS = 5
EMPTY = "import dagster as dg\n\ndefs = dg.Definitions()\n"
WORKSPACE = """\
load_from:
  - python_module:
      module_name: empty_project
      location_name: empty_project
"""


def cpu_seconds(folder: Path, path: str = "") -> float:
    """User and system seconds of validating the workspace in `folder`, children included."""
    with tempfile.TemporaryDirectory() as home:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["dagster", "definitions", "validate", "-w", "workspace.yaml"]
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "DAGSTER_HOME": home, "MLOPS_HOME": home, "PYTHONPATH": path},
            check=False,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty_project.py").write_text(EMPTY)
        (folder / "workspace.yaml").write_text(WORKSPACE)
        empty, ours = [], []
        for turn in range(ROUNDS + 1):
            pair = cpu_seconds(folder, name), cpu_seconds(ROOT)
            if turn:  # the first pair warms the file cache
                empty.append(pair[0])
                ours.append(pair[1])
    a, b = statistics.median(empty), statistics.median(ours)
    print(f"empty project   {a:6.2f} s CPU\nmlops_assets    {b:6.2f} s CPU")
    print(f"ratio           {b / a:6.2f} (goal 1.5)")


if __name__ == "__main__":
    main()
