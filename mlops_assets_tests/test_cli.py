"""The commands as a user runs them, and the README's words about them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.main import get_command

from mlops_assets.cli import app
from mlops_assets.showcase.flights.specs import SPECS
from mlops_assets_tests.end_to_end.conftest import ROOT, command

README = (ROOT / "README.md").read_text()


def test_without_a_verb_the_commands_are_listed(own_home: Path) -> None:
    said = command(own_home)
    assert all(verb in said.stdout + said.stderr for verb in ("run", "status", "dev"))


def test_status_of_an_empty_home_names_the_next_command(own_home: Path) -> None:
    said = command(own_home, "status")
    lines = [f"{spec.name}: no versions yet. Next: mlops-assets run {spec.name}" for spec in SPECS]
    assert said.stdout.splitlines() == lines
    found = json.loads(command(own_home, "status", "--json").stdout)
    assert found == {spec.name: [] for spec in SPECS}


def test_an_error_is_told_in_words_without_a_trace(own_home: Path) -> None:
    said = command(own_home, "run", "flights")
    assert said.returncode == 1
    assert said.stderr.startswith("error: unknown model 'flights'")
    assert "Traceback" not in said.stderr


def test_a_setting_that_does_not_fit_is_told_without_its_value(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_ALERT_CHANNELS", '[{"name": "duty", "uri": "json://secret/"}]')
    said = command(own_home, "status")
    assert said.returncode == 1
    assert said.stderr.startswith(
        "error: settings or options that do not fit: alert_channels.0.url"
    )
    assert "Traceback" not in said.stderr
    assert "secret" not in said.stderr


def test_the_code_location_of_workspace_yaml_is_valid(own_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, *["-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(own_home.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    script = (
        "import sys, mlops_assets.definitions; print([m for m in "
        "('mlflow', 'feast', 'sklearn', 'mapie', 'pandas', 'duckdb', 'ibis', 'matplotlib') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def answers(address: str) -> bool:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return bool(answer.status == 200)


@pytest.mark.end_to_end
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_dev_starts_both_servers_and_stops_both(own_home: Path, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_assets.cli", "dev"],
        cwd=ROOT,
        env={**os.environ, "MLOPS_HOME": str(own_home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        dagster, mlflow = (re.search(r"http://\S+", line) for line in lines[:2])
        assert dagster is not None
        assert mlflow is not None
        assert answers(dagster[0] + "/server_info")
        assert answers(mlflow[0] + "/health")
        process.send_signal(stop)
        assert process.wait(timeout=90) == 0
        time.sleep(0.5)
        with pytest.raises(OSError, match="refused"):
            answers(dagster[0])
        with pytest.raises(OSError, match="refused"):
            answers(mlflow[0])
    finally:
        process.kill()
        process.stdout.close()


def test_every_command_of_the_readme_exists() -> None:
    """Each is run by the tests or by CI; here they are matched with what is there."""
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) - {"and"} <= targets
    verbs = set(re.findall(r"mlops-assets ([a-z]+)", README))
    assert {"run", "approve", "ledger", "serve"} <= verbs <= set(get_command(app).commands)


def test_the_python_of_the_readme_runs() -> None:
    [block] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(block, {})
