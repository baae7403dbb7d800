"""The commands of releases, on the ledger of a home without any model."""

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from mlops_assets.cli import app
from mlops_assets.commands.releases import anchors
from mlops_assets.core.ledger_chain import Record
from mlops_assets.errors import DataError, LedgerError, UnknownNameError
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings

MODEL = "flight_delay"


def said(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


@pytest.fixture
def entries(own_home: Path) -> int:
    """Three entries about two models."""
    ledger = Platform(Settings()).ledger
    for model, reason in ((MODEL, "first"), ("other", "second"), (MODEL, "[b]third[/b]")):
        ledger.append(
            Record(action="request", model=model, version="1", actor="ann", reason=reason)
        )
    return 3


def test_the_ledger_is_shown_oldest_first(entries: int) -> None:
    shown = said("ledger", "show").output
    assert shown.index("first") < shown.index("second") < shown.index("[b]third[/b]")
    assert "ann" in shown


def test_the_ledger_of_one_model_is_readable_by_scripts(entries: int) -> None:
    found = json.loads(said("ledger", "show", "--model", MODEL, "--json").output)
    assert [entry["reason"] for entry in found] == ["first", "[b]third[/b]"]
    assert len(json.loads(said("ledger", "show", "--last", "1", "--json").output)) == 1


def test_a_model_without_entries_is_told_from_one_that_there_is_not(own_home: Path) -> None:
    assert "the ledger has entries of: no model" in said("ledger", "show", "--model", MODEL).output
    Platform(Settings()).ledger.append(
        Record(action="request", model="old", version="1", actor="ann", reason="it was good")
    )
    shown = said("ledger", "show", "--model", MODEL).output
    assert shown == f"no entries of {MODEL!r}; the ledger has entries of: old\n"
    assert "it was good" in said("ledger", "show", "--model", "old").output, "declared no more"
    error = said("ledger", "show", "--model", "nope", "--json").exception
    assert isinstance(error, UnknownNameError)
    assert f"{MODEL}, old" in str(error)


def test_a_ledger_that_nobody_changed_is_verified(entries: int) -> None:
    assert said("ledger", "verify").output == "3 entries, nobody has changed them\n"


def test_a_changed_entry_is_named(entries: int, own_home: Path) -> None:
    with sqlite3.connect(own_home / "ledger" / "ledger.db") as database:
        # Whoever may write to the file may also take away what makes it append-only.
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE ledger_entries SET reason = 'better' WHERE seq = 2")
    database.close()
    error = said("ledger", "verify").exception
    assert isinstance(error, LedgerError)
    assert "entry 2 of the ledger is changed" in str(error)


def test_the_tags_of_the_versions_anchor_the_chain(entries: int) -> None:
    ledger = Platform(Settings()).ledger
    tags = {"mlops.ledger_seq": "2", "mlops.ledger_hash": ledger.entry(2).hash}
    tagged, bare = (SimpleNamespace(tags=found) for found in (tags, {}))
    assert ledger.verify(anchors([tagged, bare])) is None
    forged = SimpleNamespace(tags={**tags, "mlops.ledger_hash": "0" * 64})
    broken = ledger.verify(anchors([forged]))
    assert broken is not None
    assert (broken.seq, broken.fault) == (2, "forged")


def test_an_export_holds_every_entry_and_replaces_no_file(entries: int, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    assert "3 entries" in said("ledger", "export", str(file)).output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert lines[1]["previous_hash"] == lines[0]["hash"]
    for other in (file, tmp_path / "nowhere" / "ledger.jsonl"):
        assert isinstance(said("ledger", "export", str(other)).exception, DataError)
    assert len(file.read_text().splitlines()) == 3


def test_a_model_that_is_not_there_is_answered_with_the_nearest(own_home: Path) -> None:
    error = said("rollback", "flight_dely", "--reason", "x").exception
    assert isinstance(error, UnknownNameError)
    assert "did you mean flight_delay" in str(error)


def test_a_reason_must_be_given(own_home: Path) -> None:
    assert said("rollback", MODEL).exit_code == 2


def test_a_rollback_without_an_archived_version_says_so(own_home: Path) -> None:
    error = said("rollback", MODEL, "--reason", "complaints").exception
    assert "nothing to go back to" in str(error)
