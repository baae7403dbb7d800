"""Settings come from the environment, and every path derives from the home."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlops_assets.platform import Platform
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


@pytest.mark.parametrize(
    "written", ["2013-11-05T23:30", "2013-11-05T23:30Z", "2013-11-06T01:30+02:00"]
)
def test_the_present_is_kept_in_utc(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_NOW", written)
    assert str(Settings().now) == "2013-11-05 23:30:00+00:00"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().project = "another"


def test_the_ledger_is_an_sqlite_file_below_the_home(own_home: Path) -> None:
    assert Settings().ledger == f"sqlite:///{own_home}/ledger/ledger.db"


def test_who_works_here_is_the_user_of_the_system_unless_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    assert Settings().who == "ann"
    monkeypatch.setenv("MLOPS_ACTOR", "bob")
    assert Settings().who == "bob"


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert Settings().who == "unknown"


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_LEDGER_URL", "postgresql+psycopg://ann:hidden@db/ledger")
    monkeypatch.setenv("MLOPS_ONLINE_URL", "redis://:hidden@db")
    monkeypatch.setenv("MLOPS_TRACKING_PASSWORD", "hidden")
    settings = Settings()
    assert "hidden" not in repr(settings) + str(settings)
    assert "hidden" not in repr(Platform(settings).ledger)


def test_mlflow_is_told_user_and_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("MLOPS_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLOPS_TRACKING_PASSWORD", "hidden")
    _ = Platform(Settings()).registry.client
    told = [os.environ[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD")]
    assert told == ["ann", "hidden"]
