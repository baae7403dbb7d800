"""The command `drill`: what it prints, how it exits, and that it leaves the user's home alone."""

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlops_assets.cli import app
from mlops_assets.drills import catalog, scoreboard
from mlops_assets.drills.finding import NOBODY, Drill, Finding
from mlops_assets.drills.home import World
from mlops_assets.errors import UnknownNameError

CAUGHT = Finding("one", True, "a_guard", "2 days", "[bold]nothing", "it said so")
THROUGH = Finding("two", False, NOBODY, "not in 4 days", "all of it", "it was released")


def said(*words: str) -> Result:
    return CliRunner().invoke(app, ["drill", *words])


@pytest.fixture
def two_drills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drills without a world: what they find hangs on their guards alone."""

    def drill(found: Finding, guard: str) -> Drill:
        def run(world: World, guarded: bool) -> Finding:
            return found if guarded else THROUGH

        return Drill(found.drill, "a fault", guard, "without it", run)

    drills = (drill(CAUGHT, "a_guard"), drill(CAUGHT, "another"))
    monkeypatch.setattr(catalog, "DRILLS", drills)


def test_a_fault_is_caught_and_the_home_of_the_user_is_not_touched(own_home: Path) -> None:
    found = said("dead_alert_channel", "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["all_caught"] is True
    [one] = document["findings"]
    assert (one["drill"], one["caught"], one["guard"]) == (
        *("dead_alert_channel", True),
        "alert_outbox",
    )
    assert set(one) == {"drill", "caught", "guard", "after", "served", "detail"}
    assert not own_home.exists()


def test_a_fault_that_goes_through_is_an_exit_code_of_1() -> None:
    found = said("dead_alert_channel", "--without", "alert_outbox", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["all_caught"] is False


@pytest.mark.usefixtures("two_drills")
def test_all_drills_run_and_one_uncaught_fault_fails_them() -> None:
    assert said().exit_code == said("all").exit_code == 0
    found = said("all", "--without", "another")
    assert found.exit_code == 1
    assert "1 of 2 faults went through:\n  two: it was released" in found.stdout
    assert "nobody" in found.stdout


def test_the_scoreboard_shows_findings_as_they_are() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(scoreboard.table([CAUGHT, THROUGH]))
    shown = console.export_text()
    for words in ("a_guard", "2 days", "[bold]nothing", "nobody", "not in 4 days"):
        assert words in shown
    assert scoreboard.verdict([CAUGHT, CAUGHT]) == "all 2 faults were caught"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stale_featur",), "did you mean stale_feature"),
        (("stale_feature", "--without", "probe"), "unknown guard 'probe'"),
    ],
)
def test_unknown_names_are_told(words: tuple[str, ...], told: str) -> None:
    found = said(*words)
    assert isinstance(found.exception, UnknownNameError)
    assert told in str(found.exception)
