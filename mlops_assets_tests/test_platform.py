"""The stores of one home, and the commit of the code."""

import subprocess
from pathlib import Path

import pytest

from mlops_assets.platform import Platform, git_commit
from mlops_assets.settings import Settings


def git(*arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    command = ["git", *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "first")
    return tmp_path


def test_the_commit_of_a_clean_tree_is_its_hash(repository: Path) -> None:
    assert git_commit() == git("rev-parse", "HEAD")


def test_the_commit_of_a_changed_tree_is_marked(repository: Path) -> None:
    (repository / "code.py").write_text("2")
    assert git_commit() == git("rev-parse", "HEAD") + "+"


def test_files_that_git_does_not_know_do_not_mark_the_commit(repository: Path) -> None:
    (repository / "notes.txt").write_text("mine")
    assert git_commit() == git("rev-parse", "HEAD")


def test_the_commit_outside_of_a_repository_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_commit() == "unknown"


def test_the_commit_without_git_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


def test_all_stores_lie_below_the_home(own_home: Path) -> None:
    platform = Platform(Settings())
    assert platform.training_sets.lake.root == platform.scores.lake.root == own_home / "lake"
    assert platform.registry.artifacts == own_home / "mlflow" / "artifacts"
    assert platform.features.folder == own_home / "feast"


def test_opening_the_platform_writes_nothing(own_home: Path) -> None:
    platform = Platform(Settings())
    _ = platform.lake, platform.training_sets, platform.scores, platform.registry, platform.features
    assert not own_home.exists()
