"""A compaction that is killed at any of its steps is finished by the next one."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.stores.lake import Lake
from mlops_assets_tests.stores.log_world import DAY, NOON, files, ids, logged, prediction


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


# Kills compactions of copies of the same log at the first change of a file, at the second, and so
# on, before it is made or after the step that made it is told; each is then run again.
KILLER = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
import duckdb, pyarrow.parquet
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.lake import Lake

template, home = Path(sys.argv[1]), Path(sys.argv[2])
CHANGES = {"os.rename", "os.remove", "os.mkdir", "shutil.rmtree"}

def dies_at(point):
    points = itertools.count()
    def reached(what):
        if next(points) == point:
            print(what, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, _: reached(event) if event in CHANGES else None)
    return reached

def in_a_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]

for point in itertools.count():
    log, lake = home / f"log-{point}", Lake(home / f"lake-{point}")
    shutil.copytree(template, log)
    killed = in_a_child(lambda: compact(log, lake, observer=dies_at(point)))
    assert killed in (0, signal.SIGKILL), killed
    assert in_a_child(lambda: compact(log, lake)) == 0
    if not killed:
        break
"""


def test_a_compaction_killed_at_any_step_is_finished_by_the_next(
    folder: Path, tmp_path: Path
) -> None:
    logged(folder, prediction("a"), prediction("b", NOON + DAY))
    logged(folder, prediction("c"), prediction("d", NOON + 2 * DAY))
    logged(folder, prediction("e"), prediction("torn"))
    torn = next(path for path in files(folder) if b'"id":"torn"' in path.read_bytes())
    torn.write_bytes(torn.read_bytes()[:-1])
    (tmp_path / "runs").mkdir()
    command = [sys.executable, "-c", KILLER, str(folder), str(tmp_path / "runs")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    points = run.stdout.split()
    assert {"locked", "sifted", "staged", "merged", "removed"} < set(points)
    assert points.count("os.rename") == 4, "the side file and three days"
    assert points.count("removed") == 3
    for point in range(len(points) + 1):
        lake, log = Lake(tmp_path / f"runs/lake-{point}"), tmp_path / f"runs/log-{point}"
        assert ids(lake) == list("abcde"), points[point - 1]
        assert files(log) == []
        assert [path.name for path in (log / "damaged").iterdir()] == [torn.name]
