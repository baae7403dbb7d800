import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlops_assets import cli
from mlops_assets.errors import MlopsAssetsError, UnknownNameError, WindowError
from mlops_assets.replay import replay as replays
from mlops_assets.replay.policy import ReplayPolicy

SPAN = ("--from", "2013-03", "--to", "2013-12")


def error(*words: str) -> MlopsAssetsError:
    found = CliRunner().invoke(cli.app, ["replay", *words])
    assert isinstance(found.exception, MlopsAssetsError)
    return found.exception


def test_a_model_that_is_not_declared_is_named_with_the_nearest() -> None:
    found = error("flight_dealy", *SPAN)
    assert isinstance(found, UnknownNameError)
    assert "did you mean flight_delay" in str(found)


def test_dates_that_are_none_are_refused_before_anything_is_read(own_home: Path) -> None:
    assert isinstance(error("flight_delay", "--from", "spring", "--to", "2013-12"), WindowError)
    assert isinstance(error("flight_delay", "--from", "2013-12", "--to", "2013-03"), WindowError)
    assert not own_home.exists()


def test_an_unknown_key_of_the_policy_is_told(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("holdout: 14\n")
    assert "did you mean holdout_days" in str(error("flight_delay", *SPAN, "--policy", str(path)))


def test_ctrl_c_says_that_what_was_trained_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def stopped(_: object, spec: Any, *rest: Any, **__: object) -> None:
        asked.extend([spec.name, *rest])
        raise KeyboardInterrupt

    monkeypatch.setattr(replays, "replay", stopped)
    found = CliRunner().invoke(cli.app, ["replay", "flight_delay", *SPAN])
    assert found.exit_code == 130
    assert "are kept" in found.output
    assert asked == ["flight_delay", dt.date(2013, 3, 1), dt.date(2014, 1, 1), ReplayPolicy()]
