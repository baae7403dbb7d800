"""Scratch folders go with their process: also when it is killed, and not before."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops_assets.stores import lake as lake_module
from mlops_assets.stores.lake import Lake, write_json

HOLD = """
import sys, pathlib
from mlops_assets.stores import lake

root = pathlib.Path(sys.argv[1])
with lake.Lake(root).scratch() as folder:
    (folder / "half").write_text("a table")
    print(folder, flush=True)
    sys.stdin.read()
"""
WRITE_JSON = """
import sys, pathlib
from mlops_assets.stores import lake

class Held(type(pathlib.Path())):
    def replace(self, target):
        print(self.parent, flush=True)
        sys.stdin.read()

lake.Path = Held
lake.write_json(Held(sys.argv[1]) / "a.json", {})
"""


@contextmanager
def owner(code: str, root: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Another process in the middle of its work in a scratch folder, which looks an hour old."""
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.parent == root
        age(folder)
        yield folder, process
        if process.poll() is None:
            process.communicate()


def age(folder: Path) -> None:
    hour_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (hour_ago, hour_ago))


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root that this process has not swept yet."""
    yield tmp_path
    lake_module._sweep.cache_clear()


@pytest.mark.parametrize("code", [HOLD, WRITE_JSON], ids=["scratch", "write_json"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(code: str, root: Path) -> None:
    with owner(code, root) as (left, process):
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert left.is_dir()
    with Lake(root).scratch() as folder:
        assert names(root) == {folder.name}
    assert names(root) == set()


@pytest.mark.parametrize("code", [HOLD, WRITE_JSON], ids=["scratch", "write_json"])
def test_the_scratch_of_a_living_process_is_left_alone(code: str, root: Path) -> None:
    with owner(code, root) as (held, _):
        before = names(held)
        with Lake(root).scratch():
            assert names(held) == before != set()


def test_a_young_scratch_is_left_alone_as_its_owner_may_not_have_locked_it_yet(root: Path) -> None:
    young = root / ".scratch-young"
    young.mkdir()
    write_json(root / "a.json", {})
    assert names(root) == {"a.json", ".scratch-young"}


def test_nothing_but_scratch_is_swept(root: Path) -> None:
    for name in ("table", ".scratch-left"):
        (root / name).mkdir()
        age(root / name)
    write_json(root / "a.json", {})
    assert names(root) == {"a.json", "table"}


def test_the_lake_is_swept_once(root: Path) -> None:
    write_json(root / "a.json", {})
    (root / ".scratch-left").mkdir()
    age(root / ".scratch-left")
    write_json(root / "a.json", {})
    assert names(root) == {"a.json", ".scratch-left"}
