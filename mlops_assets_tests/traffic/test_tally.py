"""Latency and the words of the summary."""

from array import array
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlops_assets.traffic import printed, replay
from mlops_assets.traffic.tally import OUTCOMES, PREDICT, Latency, Tally


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_latency_is_numpys_nearest_rank(seconds: list[float]) -> None:
    found = Latency.of(array("d", seconds))
    for quantile, percent in ((found.p50, 50), (found.p99, 99)):
        assert quantile == np.percentile(seconds, percent, method="inverted_cdf")


def test_without_answers_there_is_no_latency() -> None:
    assert Latency.of(array("d")) == Latency(0, None, None)


def shown(tally: Tally, by: str = "features") -> str:
    console = Console(file=StringIO(), width=160)
    printed.summary(console, "m", tally, by)  # type: ignore[arg-type]
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.fixture
def tally() -> Tally:
    found = Tally(rows=100, seconds=2.0)
    for n in range(10):
        found.ask(labelled=n != 0)
    for n in range(8):
        found.answer("2" if n < 3 else "1", "canary" if n < 3 else "champion", 0.001 * n, {})
    found.refuse(PREDICT, "400", "bad [red]row")
    found.refuse(PREDICT, "400", "another")
    found.refuse(OUTCOMES, "503", "no log", 3)
    found.post(2)
    found.orphan()
    return found


def test_the_summary_tells_versions_and_arms_errors_and_outcomes(tally: Tally) -> None:
    text = shown(tally)
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "champion", "5", "5.00", "7.00"] in lines
    assert ["2", "canary", "3", "1.00", "2.00"] in lines
    assert ["all", "8", "3.00", "7.00"] in lines
    assert ["predict", "400", "2", "bad", "[red]row"] in lines
    assert ["outcomes", "503", "3", "no", "log"] in lines
    assert "rows: 10 of 100 sent, 8 answered in 2.0 s (4 per second), 90 not sent" in text
    assert "2 posted, 3 outstanding, 1 whose label never comes, 1 without a prediction" in text
    assert "another" not in text


def test_an_early_end_and_what_was_sent_again_are_told(tally: Tally) -> None:
    tally.ended = replay.BY_HAND
    tally.wait("429")
    tally.behind = 3.25
    text = shown(tally)
    assert "Ended early: stopped by hand." in text
    assert "sent again: 1 after 429" in text
    assert "late: by up to 3.2 s" in text


def test_features_that_were_not_present_are_told_with_the_cause_by_entity(tally: Tally) -> None:
    tally.answer("1", "champion", 0.1, {"a": "OUTSIDE_MAX_AGE", "b": "NOT_FOUND", "c": "REQUEST"})
    text = shown(tally, "entities")
    assert "1 not_found, 1 outside_max_age (0.2 per row)" in text
    assert "MLOPS_NOW" in text
    assert "MLOPS_NOW" not in shown(tally)


def test_a_replay_without_answers_has_a_summary_too() -> None:
    assert "rows: 0 of 5 sent, 0 answered in 0.0 s (0 per second), 5 not sent" in shown(
        Tally(rows=5)
    )


def test_the_progress_line_says_what_is_done(tally: Tally) -> None:
    assert printed.line(tally).plain == "10 of 100 rows   2 outcomes   5 refused"
