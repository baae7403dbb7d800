"""What the commands print."""

import datetime as dt
import io
import json
import re
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from mlops_assets.console import ProgressPrinter, console, gates, reasons, status
from mlops_assets.core.verdict import Verdict
from mlops_assets.defs.progress import Progress
from mlops_assets.stores.registry import GATE_TAG, ModelVersion

PASSED = Verdict("ece_below_limit", "passed", 0.0123, 0.01, 0.015, 27_233, 0.02, "it is low")
FAILED = replace(PASSED, gate="coverage_within_tolerance", outcome="failed", reason="too [low]")
NOTHING = Verdict("no_metric_below_champion", "passed", None, None, None, 5, 0.0, "no champion")


def version(*verdicts: Verdict, **change: Any) -> ModelVersion:
    tags = {f"{GATE_TAG}{v.gate}": json.dumps({**asdict(v), "details": []}) for v in verdicts}
    holdout = {"holdout": {"start": "2013-11-01", "end": "2013-12-01"}}
    return ModelVersion(
        **{
            "model": "returns",
            "version": "7",
            "run_id": "abc",
            "tags": {**tags, "mlops.windows": json.dumps(holdout)},
            "aliases": ("archived", "champion"),
            "created": dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC),
            **change,
        }
    )


def printed(*things: Any) -> str:
    file = io.StringIO()
    to = Console(file=file, width=120, highlight=False)
    for thing in things:
        to.print(thing)
    return file.getvalue()


def line(text: str, word: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if word in line)


def test_a_gate_is_a_line_with_its_numbers() -> None:
    words = line(printed(gates(version(PASSED))), "ece_below_limit")
    assert words == ["ece_below_limit", "passed", "0.0123", "0.0100", "0.0150", "0.02", "27,233"]


def test_a_gate_without_numbers_has_dashes() -> None:
    words = line(printed(gates(version(NOTHING))), "no_metric_below_champion")
    assert words == ["no_metric_below_champion", "passed", "-", "-", "0", "5"]


def test_only_gates_that_did_not_pass_have_reasons() -> None:
    assert reasons([PASSED, FAILED]) == ["coverage_within_tolerance: too [low]"]


def test_a_version_is_a_line_with_aliases_time_and_holdout() -> None:
    text = printed(status("returns", [version(PASSED, NOTHING)]))
    assert " ".join(line(text, "champion")) == (
        "7 archived, champion 2024-01-02 03:04 2013-11-01 to 2013-11-30 passed all 2"
    )


def test_a_version_names_the_gates_that_did_not_pass() -> None:
    text = printed(status("returns", [version(PASSED, FAILED)]))
    assert "failed coverage_within_tolerance" in text
    assert "ece_below_limit" not in text


def test_a_version_that_nobody_judged_says_so() -> None:
    text = printed(status("returns", [version(aliases=(), tags={})]))
    assert " ".join(line(text, "2024")) == "7 - 2024-01-02 03:04 unknown not judged"


def test_versions_keep_their_order() -> None:
    text = printed(status("returns", [version(version=number) for number in ("12", "2", "7")]))
    assert re.findall(r"^ *(\d+) ", text, re.MULTILINE) == ["12", "2", "7"]


def test_where_there_is_no_terminal_every_table_has_room() -> None:
    assert console().width == 120


def progress(*steps: Progress) -> list[str]:
    file = io.StringIO()
    printer = ProgressPrinter(Console(file=file, width=120, highlight=False))
    for step in steps:
        printer(step)
    return file.getvalue().splitlines()


def test_an_asset_is_a_line_with_rows_and_duration() -> None:
    (only,) = progress(
        Progress("started", "raw/sales"), Progress("materialized", "raw/sales", rows=336_776)
    )
    assert only.split()[:4] == ["✓", "raw/sales", "336,776", "rows"]
    assert only.split()[-1] == "s"


def test_the_days_of_an_asset_are_one_line() -> None:
    assert len(progress(*[Progress("materialized", "features/weather")] * 365)) == 1


def test_an_asset_and_its_check_are_two_lines() -> None:
    steps = [Progress(kind, "a") for kind in ("materialized", "checked")]
    assert len(progress(*steps)) == 2


def test_a_check_that_holds_needs_no_words() -> None:
    assert progress(Progress("checked", "contract", detail="all is well")) == ["✓   contract"]


def test_a_check_that_fails_gives_its_reason_as_it_is() -> None:
    lines = progress(Progress("checked", "contract", passed=False, detail="5 of [bold] rows"))
    assert lines == ["✗   contract", "      5 of [bold] rows"]


def test_a_step_that_fails_gives_its_error_as_it_is() -> None:
    lines = progress(Progress("failed", "train", passed=False, detail="no [rows] in it"))
    assert lines == ["✗ train", "  no [rows] in it"]


def test_a_step_that_ends_because_of_a_check_is_left_to_the_check() -> None:
    error = "dagster._core.errors.DagsterAssetCheckFailedError: 1 blocking asset check failed"
    assert progress(Progress("failed", "train", passed=False, detail=error)) == []


def test_an_error_that_ends_with_failed_is_printed() -> None:
    lines = progress(Progress("failed", "train", passed=False, detail="the upload failed"))
    assert lines == ["✗ train", "  the upload failed"]
