"""Settings come from the environment, and every path derives from the home."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mlops_assets.settings import Settings


def test_home_is_dot_mlops_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLOPS_HOME")
    monkeypatch.chdir(tmp_path)
    assert Settings().root == tmp_path / ".mlops"


def test_home_comes_from_the_environment(own_home: Path) -> None:
    assert Settings().root == own_home


def test_root_stays_where_it_was_when_the_current_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=Path("here"))
    before = settings.root
    monkeypatch.chdir("/")
    assert settings.root == before == tmp_path / "here"


def test_a_tilde_is_the_home_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home=Path("~/mlops")).root == tmp_path / "mlops"


@pytest.mark.parametrize("folder", ["lake", "dagster_home", "feast", "mlflow"])
def test_every_folder_lies_below_the_home(folder: str, own_home: Path) -> None:
    assert getattr(Settings(), folder).parent == own_home


def test_mlflow_is_an_sqlite_file_below_the_home(own_home: Path) -> None:
    assert Settings().mlflow_uri == f"sqlite:///{own_home}/mlflow/mlflow.db"


def test_a_tracking_uri_replaces_the_sqlite_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_TRACKING_URI", "postgresql://db/mlflow")
    assert Settings().mlflow_uri == "postgresql://db/mlflow"


def test_an_experiment_is_named_by_environment_project_and_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLOPS_ENVIRONMENT", "staging")
    assert Settings(project="shops").experiment("returns") == "staging/shops/returns"


def test_an_unknown_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ENVIRONMENT", "prod")
    with pytest.raises(ValidationError, match="'development', 'staging' or 'production'"):
        Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().project = "another"
