"""What the command `traffic` refuses before anything is sent, and that it needs no Dagster."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

from mlops_assets.cli import app
from mlops_assets.errors import DataError, DeclarationError, UnknownNameError
from mlops_assets_tests.end_to_end.conftest import ROOT
from mlops_assets_tests.serving.running import free_port

DAYS = ("--from", "2013-11-01", "--to", "2013-11-02")


def said(*words: str) -> Result:
    return CliRunner().invoke(app, ["traffic", *words])


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (("flights", *DAYS), UnknownNameError, "unknown model 'flights'"),
        (("--from", "1.11.2013", "--to", "2013-11-02"), DeclarationError, "is not a day"),
        ((*DAYS, "--speed", "fast"), DeclarationError, "the speed 'fast'"),
        ((*DAYS, "--url", "localhost"), DeclarationError, "the address 'localhost'"),
        ((*DAYS, "--url", f"http://127.0.0.1:{free_port()}"), DataError, "does not answer"),
    ],
)
def test_what_cannot_begin_is_told(words: tuple[str, ...], error: type, told: str) -> None:
    found = said(*words)
    assert isinstance(found.exception, error)
    assert told in str(found.exception)


def test_days_are_asked_for() -> None:
    assert "--from" in said().output
    assert said().exit_code == 2


def test_the_traffic_package_needs_no_dagster() -> None:
    script = (
        "import sys, mlops_assets.traffic.replay, mlops_assets.traffic.source, "
        "mlops_assets.traffic.printed; print('dagster' in sys.modules, 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
