"""Where the declared models are found: the settings name them, for every command and server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets import declared
from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.settings import Settings
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY, SPECS

OWN = """
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY

LATE = FLIGHT_DELAY.model_copy(update={"name": "late"})
TWICE = [LATE, LATE]
"""


def test_without_a_setting_they_are_those_of_the_showcase() -> None:
    assert declared.specs(Settings()) == SPECS


def test_one_model_is_as_good_as_a_tuple_of_them() -> None:
    path = "mlops_assets.showcase.flights.specs:FLIGHT_DELAY"
    assert declared.specs(Settings(specs=path)) == (FLIGHT_DELAY,)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nothing:SPECS", "cannot be imported"),
        ("mlops_assets.errors:SPECS", "cannot be imported"),
        ("mlops_assets.errors:MlopsAssetsError", "is a type"),
        ("mlops_assets.cli:FAILED", "is a int"),
    ],
)
def test_what_is_no_model_is_refused(path: str, told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        declared.specs(Settings(specs=path))


def test_a_name_that_nobody_declared_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="flight_delays"):
        declared.named(SPECS, "flight_delays")


def test_commands_take_the_models_of_a_module_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(OWN)

    def said(path: str, *words: str) -> str:
        done = subprocess.run(
            # As installed: `python -m` would look into the current folder by itself.
            [Path(sys.executable).with_name("mlops-assets"), *words],
            cwd=tmp_path,
            env={**os.environ, "MLOPS_HOME": str(tmp_path / "home"), "MLOPS_SPECS": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert said("my_models:LATE", "status") == (
        "late: no versions yet. Next: mlops-assets run late\n"
    )
    assert "unknown model 'flight_delay'" in said(
        "my_models:LATE", "rollback", "flight_delay", "--reason", "x"
    )
    assert "the model late more than once" in said("my_models:TWICE", "status")
